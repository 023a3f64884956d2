"""Segments, frames and records."""
import hashlib
import re
import struct
from typing import NamedTuple

import canonical
from crc32c import crc32c
from merkle import leaf_hash
from report import Bad

HEADER = struct.Struct(">8sH6sQ32s4sI")
FRAME = struct.Struct(">IIQQI")
RECORD = struct.Struct(">IB")
PREFIX = struct.Struct(">B16sQB8s")
HEAD = FRAME.size           # 28: a mark is nothing else
LEAF = 66
MIB = 1 << 20
MAX_FRAME, MAX_EVENTS, MAX_STATES, MAX_STATE = 24 * MIB, 10_000, 1_000, 64 << 10
RESYNC = 1 << 24


class Record(NamedTuple):
    erased: bool
    prefix: bytes
    salt: bytes
    payload: bytes
    commitment: bytes

    @property
    def leaf(self):
        return self.prefix + self.commitment


class Frame(NamedTuple):
    offset: int
    end: int
    first: int
    synced: int
    count: int
    records: list


def commit(salt, payload):
    return hashlib.sha256(salt + payload).digest()


def event_id(leaf):
    return canonical.id_text(leaf[1:17])


def kind(leaf):
    return leaf[25]


def check_prefix(prefix):
    version, id_, received, kind_, _ = PREFIX.unpack(prefix[:34])
    if version != 1:
        raise Bad(f"leaf version {version}")
    if id_[6] >> 4 != 7 or id_[8] >> 6 != 2:
        raise Bad("the event id is no UUIDv7")
    if int.from_bytes(id_[:6], "big") != received // 1_000_000:
        raise Bad("the id's time is not the received time")
    if kind_ not in canonical.KINDS and kind_ != canonical.STATE:
        raise Bad(f"unknown kind {kind_}")


def check_event(leaf, event):
    """The prefix and the canonical bytes agree."""
    _, id_, _, kind_, source = PREFIX.unpack(leaf[:34])
    if event["event_id"] != canonical.id_text(id_):
        raise Bad("prefix and canonical bytes differ in event_id")
    if event["kind"] != canonical.KINDS.get(kind_):
        raise Bad("prefix and canonical bytes differ in kind")
    if hashlib.sha256(event["event_source"].encode()).digest()[:8] != source:
        raise Bad("prefix and canonical bytes differ in event_source")


def check_record(record):
    """Checks one record; returns the event's members, or None where there is no event."""
    check_prefix(record.prefix)
    if record.erased:
        return None
    if kind(record.prefix) == canonical.STATE:
        if len(record.payload) < 10 or len(record.payload) - 10 > MAX_STATE:
            raise Bad("state record of impossible length")
        if struct.unpack(">H", record.payload[:2])[0] > len(record.payload) - 10:
            raise Bad("state record whose key is longer than the record")
        return None
    event = canonical.parse(record.payload)
    check_event(record.prefix, event)
    return event


def check_header(buf, origin, first):
    if len(buf) < HEADER.size:
        raise Bad("header is not whole")
    magic, version, zero6, number, hash_, zero4, crc = HEADER.unpack_from(buf)
    if crc != crc32c(buf[:60]):
        raise Bad("header: wrong CRC")
    if magic != b"AUDITMON" or version != 1 or any(zero6 + zero4):
        raise Bad("header: wrong magic, version or filling")
    if number != first:
        raise Bad(f"header names first seq {number}")
    if hash_ != hashlib.sha256(origin.encode()).digest():
        raise Bad("header names another origin")


def parse_records(buf, pos, end, count):
    records = []
    for _ in range(count):
        if pos + RECORD.size > end:
            return None
        length, flags = RECORD.unpack_from(buf, pos)
        stop = pos + 4 + length
        prefix, body = buf[pos + 5:pos + 39], buf[pos + 39:stop]
        if stop > end or flags > 1 or len(body) < 16 or flags and len(body) != 32:
            return None
        if flags:
            records.append(Record(True, prefix, b"", b"", body))
        else:
            records.append(Record(False, prefix, body[:16], body[16:], commit(body[:16], body[16:])))
        pos = stop
    return records if pos == end else None


def read_frame(buf, offset, low=0, high=1 << 64):
    """The frame at this offset with a first seq of low..high (exclusive), or None."""
    if offset + HEAD > len(buf):
        return None
    length, crc, first, synced, count = FRAME.unpack_from(buf, offset)
    end = offset + 8 + length
    if not 20 <= length <= MAX_FRAME or end > len(buf) or not low <= first < high or synced > first:
        return None
    if crc != crc32c(buf[offset + 8:end]):
        return None
    records = parse_records(buf, offset + HEAD, end, count)
    return None if records is None else Frame(offset, end, first, synced, count, records)


def scan(buf, offset, expected):
    """Every good frame at or behind an offset, whatever lies between."""
    start, used = offset, min(len(buf), len(buf.rstrip(b"\0")) + HEAD)
    high_bytes = {(seq >> 24).to_bytes(5, "big") for seq in (expected, expected + RESYNC)}
    likely = rb"(?s)(?=(?!\0{4})[\0\1].{7}(?:%s))" % b"|".join(map(re.escape, high_bytes))
    for place in re.finditer(likely, buf[offset:used]):
        if start + place.start() >= offset:
            frame = read_frame(buf, start + place.start(), expected, expected + RESYNC)
            if frame:
                yield frame
                offset = frame.end


def check_frame(frame, begins_segment):
    states = [kind(record.prefix) for record in frame.records].count(canonical.STATE)
    if states > MAX_STATES and not begins_segment or frame.count - states > MAX_EVENTS:
        raise Bad("frame with more records than allowed")
    if frame.count == 0 and frame.synced != frame.first:
        raise Bad("a mark that does not cover everything")


def read_position(data):
    """(seq, leaf hash of the record before it, origin) of a position file."""
    if len(data) < 45:
        raise Bad("position is too short")
    seq, hash_, crc = struct.unpack(">Q32sI", data[:44])
    if crc != crc32c(data[:40]):
        raise Bad("position: wrong CRC")
    return seq, hash_, data[44:].decode(errors="replace")


def proof_leaf(leaf, salt, payload):
    """Checks event, salt and leaf of a proof and returns the leaf hash."""
    if len(leaf) != LEAF or len(salt) != 16:
        raise Bad("leaf or salt of the wrong length")
    check_prefix(leaf)
    check_event(leaf, canonical.parse(payload))
    if commit(salt, payload) != leaf[34:]:
        raise Bad("the commitment is not that of event and salt")
    return leaf_hash(leaf)
