"""Writes small journals by the format page, to be tampered with by the tests."""
import base64
import hashlib
import json
import sqlite3
import struct
import uuid

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import merkle
from crc32c import crc32c
from generation import tile_name

START = 1_767_225_600_000


def event_bytes(number, name="login", kind="application", data=None, source=None):
    id_ = uuid.UUID(int=START + number << 80 | 7 << 76 | 1 << 63 | number)
    members = {
        "event_id": str(id_), "event_time": "2026-01-01T00:00:00.000Z", "event_name": name, "username": "alice",
        "resource": None, "event_source": source or ("agent" if kind == "agent" else "billing"), "source_ip_address": "10.0.0.1",
        "request_id": None, "read_only": False, "kind": kind, "host": "host-a", "outcome": "success",
        "severity": "info", "event_data": data}
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()


def prefix(payload, received):
    event = json.loads(payload)
    kind = ("", "application", "kernel", "immudb", "agent").index(event["kind"])
    return (b"\1" + uuid.UUID(event["event_id"]).bytes + struct.pack(">QB", received, kind)
            + hashlib.sha256(event["event_source"].encode()).digest()[:8])


def commitment(salt, payload):
    return hashlib.sha256(salt + payload).digest()


def record(prefix_, body, erased=False):
    return struct.pack(">IB", 1 + len(prefix_) + len(body), erased) + prefix_ + body


def frame(first, synced, records=()):
    rest = struct.pack(">QQI", first, synced, len(records)) + b"".join(records)
    return struct.pack(">II", len(rest), crc32c(rest)) + rest


def header(origin, first):
    head = b"AUDITMON" + struct.pack(">H6xQ", 1, first) + hashlib.sha256(origin.encode()).digest() + bytes(4)
    return head + struct.pack(">I", crc32c(head))


def position(seq, hash_, origin):
    data = struct.pack(">Q", seq) + hash_
    return data + struct.pack(">I", crc32c(data)) + origin.encode()


def public(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def vkey(name, seed):
    data = base64.b64encode(b"\1" + public(seed)).decode()
    return f"{name}+{key_id(name, seed).hex()}+{data}"


def key_id(name, seed):
    return hashlib.sha256(name.encode() + b"\n\1" + public(seed)).digest()[:4]


def signed(origin, size, root, seed):
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    return f"{text}\n— {origin} {base64.b64encode(key_id(origin, seed) + signature).decode()}\n"


class Journal:
    """Segments of `width` records; the last one ends in a mark, under a checkpoint over everything."""

    def __init__(self, path, origin, seed, vkey, count=700, width=300, events=()):
        self.path, self.origin, self.seed, self.width = path, origin, seed, width
        self.payloads = [dict(events).get(n) or event_bytes(n) for n in range(count)]
        self.salts = [hashlib.sha256(b"salt%d" % n).digest()[:16] for n in range(count)]
        self.prefixes = [prefix(payload, (START + n) * 10**6) for n, payload in enumerate(self.payloads)]
        self.leaves = [p + commitment(s, e) for p, s, e in zip(self.prefixes, self.salts, self.payloads)]
        self.hashes = [merkle.leaf_hash(leaf) for leaf in self.leaves]
        self.dir = path / "journal/1"
        for name in ("keys", "positions", "journal/1/seg", "journal/1/tile/0"):
            (path / name).mkdir(parents=True)
        (path / "journal/origin").write_text(origin)
        (path / "keys/log.vkey").write_text(vkey)
        for first in range(0, count, width):
            self.write_segment(first)
            if first + width < count:
                self.write_leaves(first, self.leaves[first:first + width])
        for number in range((count - 1) // width * width // 256):
            self.tile(number).write_bytes(b"".join(self.hashes[number * 256:number * 256 + 256]))
        (self.dir / "checkpoints").write_text("".join(self.note(n) for n in range(0, count, 100)))
        (self.dir / "checkpoint").write_text(self.note(count))
        (path / "positions/webhook").write_bytes(position(500, self.hashes[499], origin))
        self.write_store()

    def file(self, first, kind="seg"):
        return self.dir / f"seg/{first:020}.{kind}"

    def tile(self, number):
        return self.dir / "tile" / tile_name(0, number)

    def root(self, size):
        tree = merkle.Frontier()
        for hash_ in self.hashes[:size]:
            tree.append(hash_)
        return tree.root()

    def note(self, size, root=None):
        return signed(self.origin, size, root or self.root(size), self.seed)

    def write_segment(self, first, erased=(), payloads=None, drop=()):
        end = min(first + self.width, len(self.payloads))
        payloads = payloads or {}
        parts = [header(self.origin, first)]
        for at in range(first, end, 10):
            records = [record(self.prefixes[n], self.leaves[n][34:], True) if n in erased else
                       record(self.prefixes[n], self.salts[n] + payloads.get(n, self.payloads[n]))
                       for n in range(at, min(at + 10, end))]
            if at not in drop:
                parts.append(frame(at, at, records))
        parts.append(frame(end, end))
        self.file(first).write_bytes(b"".join(parts))

    def write_leaves(self, first, leaves):
        self.file(first, "leaf").write_bytes(b"".join(leaves))

    def collapse(self, first):
        """Replaces a segment by the hashes of its maximal aligned subtrees."""
        at, end, parts = first, first + self.width, [struct.pack(">QQ", first, first + self.width - 1)]
        for height in merkle.subtrees(first, end):
            tree = merkle.Frontier()
            for hash_ in self.hashes[at:at + (1 << height)]:
                tree.append(hash_)
            parts.append(tree.root())
            at += 1 << height
        self.file(first, "sub").write_bytes(b"".join(parts))
        self.file(first).unlink()
        self.file(first, "leaf").unlink()

    def write_store(self):
        with sqlite3.connect(self.path / "events.db") as connection:
            connection.execute("CREATE TABLE events (origin TEXT, seq INTEGER, event_id TEXT, username TEXT, "
                               "read_only INTEGER, event_data TEXT, received_time INTEGER, canonical BLOB, salt BLOB)")
            for seq, payload in enumerate(self.payloads):
                event = json.loads(payload)
                data = None if event["event_data"] is None else json.dumps(event["event_data"], separators=(",", ":"))
                connection.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)", (
                    self.origin, seq, event["event_id"], event["username"], event["read_only"], data,
                    (START + seq) * 10**6, payload, self.salts[seq]))
        connection.close()

    def sql(self, statement):
        with sqlite3.connect(self.path / "events.db") as connection:
            connection.execute(statement)
        connection.close()
