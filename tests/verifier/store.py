"""Rows of events.db against the leaves of the journal."""
import datetime
import hashlib
import os
import shutil
import sqlite3
import tempfile
import urllib.parse

import canonical
from report import Bad, CannotCheck, Other
from merkle import leaf_hash
from segment import PREFIX, check_event, check_prefix, commit, kind

# What SQLite and the migrations keep for themselves, and what the store makes (the queries of docs/store.md name them).
KEEPING = {("table", name) for name in (b"_sqlx_migrations", b"sqlite_sequence", b"sqlite_stat1", b"sqlite_stat4")}
OWN = KEEPING | {("table", name) for name in (b"events", b"position", b"usage")}
OWN |= {("index", name) for name in (b"events_kind", b"events_time", b"events_username")}
NEEDED = {"origin", "seq", "event_id", "canonical", "salt"}
SEQ_BITS = 48
# Rows that the store never deletes, docs/store.md: they say nothing of how far retention has come.
KEPT = ("kind = 'agent' AND event_source = 'agent' AND (event_name IN ('journal.erasure', 'journal.new_generation',"
        " 'journal.rollback_accepted') OR event_name = 'sink.gap'"
        " AND instr(canonical, CAST('\"sink\":\"store\"' AS BLOB)) > 0)")


def open_store(path, report):
    """The store's file; None if there is none, or nothing in it yet."""
    if not os.path.lexists(path):
        return None
    store = Store(path)
    if store.begun:
        return store
    report.note("events.db was only begun: whether the rows are what the journal has cannot be seen")
    return None


class Store:
    """A snapshot of the table `events`, taken when opened, so that no row is newer than the journal read later."""

    def __init__(self, path):
        self.copy, self.begun = None, False
        # SQLite would remove what is beside an empty file.
        if not os.path.getsize(path):
            return
        try:
            self.connection = self._open(path)
        except sqlite3.DatabaseError as error:
            raise CannotCheck(f"events.db: {error}") from None

    def _open(self, path):
        quiet = not os.path.exists(path + "-wal")
        try:
            return self._begin(path, "immutable=1" if quiet else "mode=ro&readonly_shm=1")
        except sqlite3.OperationalError:
            self.copy = tempfile.TemporaryDirectory()       # a copied directory that lacks the -shm file
            for suffix in ("", "-wal"):
                if os.path.exists(path + suffix):
                    shutil.copy(path + suffix, os.path.join(self.copy.name, "events.db" + suffix))
            return self._begin(os.path.join(self.copy.name, "events.db"), "mode=rw")

    def _begin(self, path, mode):
        connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?{mode}", uri=True, isolation_level=None)
        connection.text_factory = bytes
        connection.execute("BEGIN")
        # The store makes all its tables at once; before, there is that of the migrations.
        entries = connection.execute("SELECT type, name, sql FROM sqlite_schema")
        self.begun = any((kind.decode(), name) not in KEEPING and not (kind == b"index" and sql is None)
                         for kind, name, sql in entries)
        # It has four pages then: one with more has lost its tables.
        self.begun = self.begun or connection.execute("PRAGMA page_count").fetchone()[0] > 8
        if not self.begun:
            return connection
        # Generated columns (hidden: 2, 3) hold nothing of their own; two of them say which row it is.
        self.columns = [name.decode() for _, name, *_, hidden in connection.execute("PRAGMA table_xinfo(events)")
                        if not hidden or name.decode() in NEEDED]
        if not NEEDED <= set(self.columns):
            raise CannotCheck("events.db has no table events with the columns needed")
        connection.execute("SELECT 1 FROM events LIMIT 1").fetchall()
        return connection

    def strangers(self):
        """What the schema has beside what the store makes: an index, trigger, view or table that hides or changes rows."""
        entries = self.connection.execute("SELECT type, name, sql FROM sqlite_schema")
        return [f"{kind.decode()} {name.decode(errors='replace')}" for kind, name, sql in entries
                if (kind.decode(), name) not in OWN and not (kind == b"index" and sql is None)]

    def origins(self):
        return {origin.decode() for origin, in self.connection.execute("SELECT DISTINCT origin FROM events")}

    def positions(self):
        """Origins of which it has a position."""
        try:
            return [origin.decode() for origin, in self.connection.execute("SELECT origin FROM position")]
        except sqlite3.OperationalError:
            return []

    def rows(self, origin):
        names = ", ".join(f'"{name}"' for name in self.columns)
        rows = self.connection.execute(
            f"SELECT {names} FROM events WHERE origin = CAST(? AS TEXT) ORDER BY seq", (origin,))
        return (dict(zip(self.columns, row)) for row in rows)

    def stored(self, origin):
        """How far the store is in this journal; None if it says nothing of it."""
        try:
            found = self.connection.execute(
                "SELECT number, seq FROM position WHERE origin = CAST(? AS TEXT)", (origin,)).fetchone()
        except sqlite3.OperationalError:
            return None
        if not found:
            return None
        oldest = {}
        for name in canonical.KINDS.values():
            oldest[name] = self.connection.execute(
                f"SELECT received_time_ns, place FROM events WHERE kind = CAST(? AS TEXT) AND NOT ({KEPT})"
                " ORDER BY received_time_ns, place LIMIT 1", (name,)).fetchone()
        return Stored(*found, oldest)


class Stored:
    """Which rows there must be: docs/store.md, section of that name."""

    def __init__(self, number, seq, oldest):
        self.number, self.seq, self.oldest = number, seq, oldest
        self.deleted = 0            # events without a row that are older than every row of their kind

    def lacks(self, seq, leaf):
        """Whether the event of this leaf, which has no row, must have one."""
        if kind(leaf) == canonical.STATE or seq >= self.seq:
            return False
        oldest = self.oldest.get(canonical.KINDS.get(kind(leaf)))
        received = PREFIX.unpack(leaf[:34])[2]
        if oldest is None or (received, self.number << SEQ_BITS | seq) < oldest:
            self.deleted += 1
            return False
        return True


def never_stored(event):
    """Ranges of seqs that the store never gets or has deleted, as an event of the agent says."""
    data = event["event_data"] or {}
    if (event["kind"], event["event_source"]) != ("agent", "agent"):
        return []
    if event["event_name"] == "journal.erasure":
        pairs = [[data.get("seq"), data.get("seq")]]
    elif event["event_name"] == "sink.gap" and data.get("sink") == "store":
        pairs = data.get("ranges")
    else:
        return []
    return [tuple(pair) for pair in pairs if isinstance(pair, list) and len(pair) == 2
            and all(type(seq) is int for seq in pair)] if isinstance(pairs, list) else []


def check_row(row, leaf):
    """Returns the event; raises Bad unless the row is the event of this leaf. None where only the place is left."""
    _, id_, received, _, _ = PREFIX.unpack(leaf[:34])
    if row["canonical"] is None:        # only the place of an erased event is left
        if row["event_id"] not in (id_, canonical.id_text(id_).encode()):
            raise Bad("event_id differs from the journal")
        return None
    payload, salt = bytes(row["canonical"]), bytes(row["salt"] or b"")
    if len(salt) != 16 or commit(salt, payload) != leaf[34:]:
        raise Other("canonical bytes and salt are not those of the journal")
    event = canonical.parse(payload)
    check_event(leaf, event)
    for name, cell in row.items():
        if name == "received_time":
            same = cell in (received, _rfc3339(received).encode())
        elif name == "event_id":
            same = cell in (id_, event[name].encode())
        elif name == "received_time_ns":
            same = cell == received
        elif name in ("event_time", "event_time_ns"):
            text = event["event_time"]
            same = cell == text.encode() or cell in _instants(text)
        elif name == "event_data":
            same = cell == event["event_data_text"].encode() or cell is None and event[name] is None
        elif name in event:
            value = event[name]
            same = cell == (value.encode() if isinstance(value, str) else value)
        else:
            same = True
        if not same:
            raise Bad(f"column {name} differs from the canonical bytes")
    return event


def check_alone(row, hash_=None):
    """The same where no leaf is left: what the row says of itself, and whether its leaf would have this hash."""
    received = row.get("received_time_ns", row.get("received_time"))
    if row["canonical"] is None or not isinstance(received, int):
        return
    if not 0 <= received < 1 << 63:
        raise Bad("column received_time is no time")
    payload, salt = bytes(row["canonical"]), bytes(row["salt"] or b"")
    event = canonical.parse(payload)
    number = next(number for number, name in canonical.KINDS.items() if name == event["kind"])
    source = hashlib.sha256(event["event_source"].encode()).digest()[:8]
    id_ = bytes.fromhex(event["event_id"].replace("-", ""))
    leaf = PREFIX.pack(1, id_, received, number, source) + commit(salt, payload)
    check_prefix(leaf)
    check_row(row, leaf)
    if hash_ and leaf_hash(leaf) != hash_:
        raise Other("not the event of which a tile has the hash")


def _rfc3339(nanoseconds):
    second = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.timezone.utc)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09}Z"


def _instants(text):
    """An event time as nanoseconds and, where nothing is lost, as micro- and milliseconds."""
    second = datetime.datetime.fromisoformat(text[:19] + "+00:00")
    nanoseconds = int(second.timestamp()) * 10**9 + int(text[20:-1].ljust(9, "0"))
    return [nanoseconds // unit for unit in (1, 1000, 10**6) if nanoseconds % unit == 0]
