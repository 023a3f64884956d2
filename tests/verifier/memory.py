"""What sources remember, and whether a segment repeats it at its head."""
import struct

import canonical
from segment import PREFIX, kind

HEAD = struct.Struct(">HQ")


def parse(record):
    """(source and key, expiry, value) of a state record."""
    length, expiry = HEAD.unpack_from(record.payload)
    rest = record.payload[HEAD.size:]
    return (PREFIX.unpack(record.prefix[:34])[4], rest[:length]), expiry, rest[length:]


def is_state(record):
    return kind(record.prefix) == canonical.STATE and not record.erased and len(record.payload) >= HEAD.size


class Memory:
    """The newest state of each source and key. Known from behind the head of a segment on, until records are missing."""

    def __init__(self):
        self.values, self.known, self.pending = {}, False, None

    def begin(self):
        """A segment begins; nothing of its head was seen."""
        self.pending = None
        self.in_head = True

    def forget(self):
        self.values, self.known, self.in_head = {}, False, False

    def frame(self, frame, first):
        """Takes a frame of the segment that begins with `first`; yields (seq, prefix, what is wrong)."""
        if not frame.records:
            return
        states = [(seq, record) for seq, record in enumerate(frame.records, frame.first) if is_state(record)]
        if self.in_head:
            if self.pending is None:
                now = PREFIX.unpack(frame.records[0].prefix[:34])[2]
                self.values = {key: value for key, value in self.values.items() if value[0] == 0 or value[0] > now}
                self.pending = set(self.values)
            repeats = frame.synced == first and len(states) == len(frame.records)
            if repeats and self.known and self.pending:
                yield from self.repeated(states)
                return
            if not repeats or self.known:
                self.in_head = False
                if self.known and self.pending:
                    yield frame.first, None, f"{len(self.pending)} states are not repeated at the segment's head"
                    self.values = {key: value for key, value in self.values.items() if key not in self.pending}
                self.known = True
        for _, record in states:
            key, expiry, value = parse(record)
            if value:
                self.values[key] = expiry, value
            else:
                self.values.pop(key, None)

    def repeated(self, states):
        for seq, record in states:
            key, *value = parse(record)
            self.pending.discard(key)
            if self.values.get(key) != tuple(value):
                yield seq, record.prefix, "the state repeated at the segment's head is not the newest one"
