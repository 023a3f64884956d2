"""One generation of a journal: segments, leaves, tiles, tree and checkpoints, read in the order of seq."""
import bisect
import os
import re
import struct
from pathlib import Path

import accepted
import canonical
import memory
import merkle
import note
import segment
import store
from report import Bad, Other

PIECE = re.compile(r"(\d{20})\.(seg|leaf|sub)", re.ASCII)
TILE = re.compile(r"(\d+)/((?:x\d{3}/)*\d{3})(?:\.p/(\d+))?", re.ASCII)

# Events of the agent that declare an absence, and the members that say of which records: docs/journal.md, "Retention"
# and "Erasing one event".
DECLARING = {"journal.retention": ("first_seq", "last_seq"), "journal.erasure": ("seq", "seq")}
SUB_LAST_IS_INCLUSIVE = True


def tile_name(level, number):
    name, number = f"{number % 1000:03}", number // 1000
    while number:
        name, number = f"x{number % 1000:03}/{name}", number // 1000
    return f"{level}/{name}"


def has_begun(path):
    """Whether this generation's directory has an event, or anything that says that it had one."""
    names = [match for match in map(PIECE.fullmatch, (each.name for each in (path / "seg").glob("*"))) if match]
    if any(os.path.lexists(path / name) for name in ("checkpoint", "checkpoints", "accepted")) or any((path / "tile").glob("*")):
        return True
    if not names or any(match[2] != "seg" or int(match[1]) for match in names):
        return bool(names)
    buf, offset, seq = (path / "seg" / names[0][0]).read_bytes(), segment.HEADER.size, 0
    while frame := segment.read_frame(buf, offset, seq, seq + 1):
        if any(segment.kind(record.prefix) != canonical.STATE for record in frame.records):
            return True
        offset, seq = frame.end, seq + frame.count
    return any(buf[offset:offset + segment.HEAD])


class Generation:
    def __init__(self, journal, number, origin, key, report, rows, newest=True, stored=None, former=(), given=True):
        self.number, self.origin, self.key, self.report, self.newest = number, origin, key, report, newest
        self.dir, self.place = journal / str(number), f"journal/{number}"
        self.trees = [merkle.Frontier(self.check_node)]     # a second one from where a leaf file or tile says otherwise
        self.size = self.records = 0
        self.whole = True           # no leaf hash is missing so far
        self.expected = {}          # seq: [(place, leaf hash, what to say)]
        self.absent, self.declared, self.failed = [], [], []
        self.held = 0               # the largest checkpoint that holds
        self.proven = 0             # the largest that holds of the records themselves, as do all before it
        self.differing, self.fits = [], -1          # (line, seq) of rows that differ; the last one that doesn't
        self.ended = False          # an orderly stop: the newest segment is cut behind a mark
        self.told, self.lines = [], []      # what it says of former generations, and the faults found in it
        self.plain = merkle.Frontier()      # over leaves and .sub as they are; None if one is not there
        self.rows, self.unchecked_rows = iter(rows), 0
        self.row = next(self.rows, None)
        self.stored = stored                # how far the store is
        self.former, self.given = former, given     # keys of before a rotation; whether the key is from elsewhere
        self.by_former = None               # place of its newest checkpoint, if only a former key has signed that
        self.own = False                    # the key has signed one of the older checkpoints
        self.gone, self.unstored = False, []        # records without payload; those that the store never had
        self.rowless, self.never_stored = [], []    # [first, last, id]: events without a row; (seq, first, last): why
        self.lacking = []           # (origin, ranges, seq): the same of former generations
        self.memory = memory.Memory()
        self.tile_cache, self.tiles = {}, {}
        for path in sorted((self.dir / "tile").rglob("*")):
            name = path.relative_to(self.dir / "tile").as_posix()
            if path.is_file() and TILE.fullmatch(name):
                self.tiles[name] = False        # True once a hash of it was compared
        self.read_checkpoints()
        self.check_roots()

    # Checkpoints

    def read_checkpoints(self):
        self.wanted, newest = {}, None      # size: [(place, root)]
        for name in ("checkpoint", "checkpoints"):
            path, place = self.dir / name, f"{self.place}/{name}"
            if not path.exists():
                continue
            data = path.read_bytes()
            try:
                found, rest = note.notes(data)
            except Bad as error:
                self.report.tampered(place, str(error), lasting=True)
                continue
            if rest and (name == "checkpoint" or data.endswith(b"\n")) or name == "checkpoint" and len(found) != 1:
                self.report.tampered(place, f"not notes alone: {len(rest)} characters that are none",
                                     lasting=True)
            elif rest:
                self.report.note(f"{place} ends within a note")
            for number, each in enumerate(found, 1):
                self.add_checkpoint(place if name == "checkpoint" else f"{place}:{number}", each)
            newest = max(self.wanted, default=None) if name == "checkpoint" else newest
        self.covered = max(self.wanted, default=0)
        if newest is not None and newest < self.covered:
            self.report.tampered(f"{self.place}/checkpoint", f"covers {newest} records, an older one {self.covered}",
                                 newest, self.covered - 1)

    def add_checkpoint(self, place, each):
        try:
            checkpoint, own = note.older_checkpoint(each, self.key, self.former)
            if place.endswith("checkpoint"):
                if self.given and not own and not self.newest:
                    self.by_former = place      # counts if a newer generation has signed which records these are
                elif self.given and not own:
                    raise Bad("is signed by a former key only, not by the one given")
            elif self.own and not own:
                raise Bad("is signed by a former key only, behind one that the key has signed")
            else:
                self.own = self.own or own
            if checkpoint.origin != self.origin:
                raise Bad(f"is of origin {checkpoint.origin}")
            self.wanted.setdefault(checkpoint.size, []).append((place, checkpoint.root))
        except Bad as error:
            self.report.tampered(place, str(error), lasting=True)

    def check_roots(self):
        """Compares the checkpoints of the present size with the tree; the tree that holds is kept."""
        for place, root in self.wanted.pop(self.trees[0].size, ()):
            holding = [tree for tree in self.trees if tree.root() == root]
            if holding:
                self.held = max(self.held, holding[0].size)
                if holding[0] is not self.trees[0]:
                    self.proven = -1
                elif self.proven >= 0:
                    self.proven = self.held
                self.trees = holding[:1]
                self.trees[0].on_node = self.check_node
            else:
                self.failed.append((self.trees[0].size, place))

    def noting(self, check, *arguments):
        """Runs a check and keeps the faults that it finds."""
        before = len(self.report.lines)
        check(*arguments)
        self.lines += self.report.lines[before:]

    # The pieces of the journal

    def walk(self):
        pieces = {}
        for path in (self.dir / "seg").glob("*"):
            match = PIECE.fullmatch(path.name)
            if match:
                pieces.setdefault(int(match[1]), {})[match[2]] = path
            else:
                self.report.note(f"{self.place}/seg/{path.name} is no part of the journal")
        self.drop_unfinished(pieces)
        firsts = sorted(pieces)
        if firsts:
            self.missing(0, firsts[0], f"{self.place}/seg")
        for first, end in zip(firsts, firsts[1:] + [None]):
            kinds = pieces[first]
            if set(kinds) == {"sub"}:
                self.collapsed(kinds["sub"], first, end)
                self.missing(self.size, end or self.size, f"{self.place}/seg")
            else:
                self.piece(kinds, first, end)

    def drop_unfinished(self, pieces):
        """A newest segment without whole header that holds no frame was never finished."""
        first = max(pieces, default=0)
        if set(pieces.get(first, ())) == {"seg"}:
            buf = pieces[first]["seg"].read_bytes()
            try:
                segment.check_header(buf, self.origin, first)
            except Bad:
                if next(segment.scan(buf, 0, first), None) is None:
                    self.report.note(f"{pieces.pop(first)['seg'].name} is an unfinished creation")

    def collapsed(self, path, first, end):
        data, place = path.read_bytes(), f"{self.place}/seg/{path.name}"
        hashes = [data[i:i + 32] for i in range(16, len(data), 32)]
        named, last = struct.unpack(">QQ", data[:16].ljust(16, b"\0"))
        stop = last + 1 if SUB_LAST_IS_INCLUSIVE else last
        heights = list(merkle.subtrees(first, stop)) if stop - first < 1 << 40 else []
        if named != first or end is not None and stop > end or len(heights) != len(hashes) or len(data) % 32 != 16:
            self.report.tampered(place, "does not hold the subtrees of its range", first, (end or first + 1) - 1)
            return self.missing(first, end or first, place)
        self.absent.append((first, stop - 1, place, None))
        for height, hash_ in zip(heights, hashes) if self.plain else ():
            self.plain.append(hash_, height)
        self.memory.forget()
        if self.whole:
            for height, hash_ in zip(heights, hashes):
                self.check_below(height, self.trees[0].size >> height, hash_)
                for tree in self.trees:
                    tree.append(hash_, height)
                self.check_roots()
        self.pass_rows(stop)
        self.size = stop

    def piece(self, kinds, first, end):
        """A segment, or what retention left of it."""
        leaves, place = [], f"{self.place}/seg/{first:020}"
        if "leaf" in kinds:
            data = kinds["leaf"].read_bytes()
            leaves = [data[i:i + segment.LEAF] for i in range(0, len(data) - segment.LEAF + 1, segment.LEAF)]
            if len(data) % segment.LEAF or end is not None and len(leaves) > end - first:
                self.report.tampered(f"{place}.leaf", f"{len(data)} bytes are not the leaves of its records", first,
                                     lasting=True)
        elif end is not None:
            self.report.note(f"{place}.seg is not sealed: it has no leaf file")
        leaf_of = dict(enumerate(leaves, first)).get
        if "seg" in kinds:
            self.memory.begin()
            for frame in self.frames(kinds["seg"].read_bytes(), first, end, f"{place}.seg", "leaf" in kinds):
                self.missing(self.size, frame.first, f"{place}.seg", leaf_of)
                for seq, prefix, what in self.memory.frame(frame, first):
                    self.report.tampered(f"{place}.seg", what, seq, event=prefix and segment.event_id(prefix))
                for seq, record in enumerate(frame.records, frame.first):
                    self.record(seq, record, leaf_of(seq), f"{place}.seg")
            if leaves and first + len(leaves) < self.size:
                self.report.tampered(f"{place}.leaf", "leaves are missing", first + len(leaves), self.size - 1,
                                     lasting=True)
        self.missing(self.size, first + len(leaves) if end is None else end, f"{place}.seg", leaf_of)

    def frames(self, buf, first, end, place, sealed):
        """The good frames of a segment below `end`; reports everything else that is in it."""
        try:
            segment.check_header(buf, self.origin, first)
        except Bad as error:
            self.report.tampered(place, str(error), first, lasting=True)
        used, offset, synced, marked = len(buf.rstrip(b"\0")), segment.HEADER.size, 0, False
        while end is None or self.size < end:
            frame = segment.read_frame(buf, offset, self.size, self.size + 1)
            if not frame:
                if offset >= used:
                    self.ended = end is None and marked and offset == len(buf)
                    return
                frame = self.resync(buf, offset, end, place, used)
                if not frame:
                    return
            try:
                segment.check_frame(frame, offset == segment.HEADER.size)
                if frame.synced < synced:
                    raise Bad("frame whose synced is below an earlier one")
                if end is not None and frame.first + frame.count > end:
                    raise Bad("frame that crosses the next segment's first seq")
            except Bad as error:
                self.report.tampered(f"{place}+{frame.offset}", str(error), frame.first, lasting=True)
            yield frame
            offset, synced, marked = frame.end, max(synced, frame.synced), not frame.count
        while offset < used:        # behind the end: given up, never read
            frame = segment.read_frame(buf, offset, end)
            if not frame:
                text = f"{used - offset} bytes behind the end"
                if sealed:
                    self.report.tampered(f"{place}+{offset}", text, end, lasting=True)
                else:
                    self.report.note(f"{place}+{offset}: {text}, given up")
                return
            if frame.count:
                self.report.note(f"{place}+{offset}: a frame that was given up")
            offset = frame.end

    def resync(self, buf, offset, end, place, used):
        """Tells a torn tail from damage; returns the next good frame."""
        size, place = self.size, f"{place}+{offset}"
        good = [frame for frame in segment.scan(buf, offset, size) if end is None or frame.first < end]
        if end is None and self.covered <= size and not any(frame.synced > size for frame in good):
            # An orderly stop cuts the segment and leaves a checkpoint over everything.
            if len(buf) - used < segment.HEAD and self.covered == size:
                self.report.tampered(place, f"{len(buf) - offset} bytes that are no frame after an orderly stop", size)
            else:
                self.report.note(f"{place}: torn tail of {used - offset} bytes at seq {size}, unfinished")
            return None
        until = good[0].offset if good else used
        upto = good[0].first if good else max(self.covered, size + 1) if end is None else end
        # What was put back may end within a frame; it has none behind that.
        self.report.tampered(place, f"damage: {until - offset} bytes that are no frame", size, max(size, upto - 1),
                             lasting=bool(good) or end is not None)
        return good[0] if good else None

    # Leaves

    def record(self, seq, record, listed, place):
        leaf, event, id_ = record.leaf, None, segment.event_id(record.prefix)
        try:
            event = segment.check_record(record)
        except Bad as error:
            self.report.tampered(place, str(error), seq, event=id_)
        if listed and listed != leaf:
            self.report.tampered(place, "record and leaf file differ", seq, event=id_, lasting=True)
        if record.erased:
            self.absent.append((seq, seq, place, id_))
        elif event and event["kind"] == "agent":
            self.declare(seq, event)
            self.lacks(seq, event)
            if accepted.told(event):
                self.told.append((seq, event))
        self.records += 1
        self.grow(seq, merkle.leaf_hash(leaf), leaf, listed and merkle.leaf_hash(listed), record.erased)

    def missing(self, first, end, place, leaf_of=lambda seq: None):
        """Records that are not there: their leaves come from the leaf file or, as hashes, from tiles."""
        if first >= end:
            return
        self.memory.forget()
        self.absent.append((first, end - 1, place, None))
        lost, self.gone = None, True
        for seq in range(first, end):
            leaf = leaf_of(seq)
            if leaf:
                try:
                    segment.check_prefix(leaf)
                except Bad as error:
                    self.report.tampered(place, str(error), seq, event=segment.event_id(leaf))
                self.grow(seq, merkle.leaf_hash(leaf), leaf)
                continue
            lost = seq if lost is None else lost
            hash_ = self.tile_hash(0, seq)
            if not hash_:
                self.whole, self.size, self.plain = False, end, None
                break
            self.grow(seq, hash_)
        self.gone = False
        if lost is not None and not self.report.known(self.place + "/", lost, end):
            self.report.tampered(place, "neither record nor leaf", lost, end - 1)

    def grow(self, seq, hash_, leaf=None, other=None, erased=False):
        self.size = seq + 1
        for place, want, what in self.expected.pop(seq, ()):
            if want != hash_:
                self.report.tampered(place, what, seq, event=leaf and segment.event_id(leaf))
        self.check_rows(seq, leaf, erased, hash_)
        if leaf and self.plain:
            self.plain.append(hash_)
        else:
            self.plain = None
        if not self.whole:
            return
        other = other or self.tile_hash(0, seq)
        if other and other != hash_ and len(self.trees) == 1:
            self.trees.append(self.trees[0].copy())
        self.trees[0].append(hash_)
        for tree in self.trees[1:]:
            tree.append(other or hash_)
        self.check_roots()

    def pass_rows(self, end):
        """Rows of records of which not even a leaf is left, against the tiles that were found to be right."""
        while self.row and self.row["seq"] < end:
            seq = self.row["seq"]
            self.row_alone(self.tile_hash(0, seq) if self.tiles.get(tile_name(0, seq >> 8)) else None)
            self.row = next(self.rows, None)

    def row_alone(self, hash_):
        self.unchecked_rows += hash_ is None
        self.behind_position()
        try:
            store.check_alone(self.row, hash_)
            self.fits = self.row["seq"] if hash_ else self.fits
        except Bad as error:
            self.bad_row(self.row["seq"], error)

    def bad_row(self, seq, error, event=None):
        other = isinstance(error, Other)
        line = self.report.tampered(f"events.db, {self.origin}", str(error), seq, event=event, lasting=not other)
        if other:
            self.differing.append((line, seq))

    def settle_rows(self):
        """A rollback leaves rows of another history from some record on; one before a row that fits was changed."""
        self.report.lasting |= {line for line, seq in self.differing if seq < min(self.fits, self.proven)}

    def check_rows(self, seq, leaf, erased, hash_):
        self.pass_rows(seq)
        had = False
        while self.row and self.row["seq"] == seq:
            had = True
            if not leaf:
                self.row_alone(hash_)
            else:
                self.behind_position()
                try:
                    event = store.check_row(self.row, leaf)
                    if event and event["kind"] == "agent":      # it may be in the journal no more
                        self.lacks(seq, event)
                        if accepted.told(event) and not (self.told and self.told[-1][0] == seq):
                            self.told.append((seq, event))
                    self.fits = seq
                except Bad as error:
                    self.bad_row(seq, error, segment.event_id(leaf))
            self.row = next(self.rows, None)
        if leaf and self.stored and not had and self.gone and seq >= self.stored.seq \
                and segment.kind(leaf) != canonical.STATE:
            self.unstored.append(seq)
        if leaf and self.stored and not had and not erased and self.stored.lacks(seq, leaf):
            if self.rowless and self.rowless[-1][1] == seq - 1:
                self.rowless[-1][1] = seq
            else:
                self.rowless.append([seq, seq, segment.event_id(leaf)])

    def lacks(self, seq, event):
        """Notes what an agent event says that the store never gets, of this generation or of a former one."""
        ranges, former = store.never_stored(event), (event["event_data"] or {}).get("former_origin")
        if event["event_name"] == "sink.gap" and former is not None:
            self.lacking.append((former, ranges, seq))
        else:
            self.never_stored += [(seq, *each) for each in ranges]

    def behind_position(self):
        """The position moves in the transaction of the rows."""
        seq = self.row["seq"]
        if self.stored and seq >= self.stored.seq:
            self.report.tampered(f"events.db, {self.origin}", f"a row behind the position {self.stored.seq}", seq,
                                 lasting=True)

    def check_rowless(self):
        declared = merge([each[1:] for each in self.never_stored])
        signed = merge([each[1:] for each in self.never_stored if each[0] < self.held])
        for first, last, id_ in self.rowless:
            if list(uncovered(first, last, signed)) != list(uncovered(first, last, declared)):
                self.report.note(f"events.db, {self.origin}: what says why rows of {first}-{last} are missing is under "
                                 "no checkpoint")
            for a, b in uncovered(first, last, declared):
                self.report.tampered(f"events.db, {self.origin}", "an event of the journal has no row: it was removed",
                                     a, b, id_ if a == b == first else None, lasting=True)
        if self.unstored:
            self.report.note(f"events.db, {self.origin}: the store is at {self.stored.seq}; the payloads of "
                             f"{len(self.unstored)} events from seq {self.unstored[0]} on, which it never had, are gone")
        if self.stored and self.stored.deleted:
            self.report.note(f"events.db, {self.origin}: {self.stored.deleted} events are older than every row of "
                             "their kind; whether retention deleted them cannot be seen")

    def declare(self, seq, event):
        """Notes what an agent event declares gone."""
        names = DECLARING.get(event["event_name"])
        if not names or event["event_source"] != "agent":
            return
        first, last = ((event["event_data"] or {}).get(name) for name in names)
        # Before it went, so not of what follows.
        if type(first) is int and type(last) is int and last < seq:
            self.declared.append((self.origin, first, last, seq))

    # Tiles

    def tile_data(self, name):
        if name not in self.tile_cache:
            level = name.split("/")[0]
            self.tile_cache = {n: d for n, d in self.tile_cache.items() if n.split("/")[0] != level}
            self.tile_cache[name] = (self.dir / "tile" / name).read_bytes() if name in self.tiles else b""
        return self.tile_cache[name]

    def tile_hash(self, level, index):
        data = self.tile_data(tile_name(level, index >> 8))
        return data[(index & 255) * 32:(index & 255) * 32 + 32] if len(data) == 8192 else None

    def check_node(self, height, index, hash_):
        name = tile_name(height // 8, index >> 8)
        found = self.tile_hash(height // 8, index)
        if found is None:
            return
        self.tiles[name] = True
        first, end = index << height, index + 1 << height
        if found != hash_ and not self.report.known(self.place + "/", first, end):
            self.report.tampered(f"{self.place}/tile/{name}", "another hash than the leaves give", first, end - 1,
                                 lasting=True)

    def check_below(self, height, index, hash_):
        """What tiles are left within a subtree of which only the hash is left."""
        level, shift = height // 8, height % 8
        nodes = range(index << shift, (index + 1) << shift)
        entries = [self.tile_hash(level, node) for node in nodes] if shift else [hash_]
        if None in entries:
            entries = [self.tile_root(level - 1, node) for node in nodes] if level else []
        if not entries or None in entries:
            return
        if merkle.fold(entries) != hash_:
            self.bad_tile(level, nodes[0], index << height, (index + 1 << height) - 1)
            return
        for node, entry in zip(nodes, entries):
            if shift:
                self.tiles[f"{tile_name(level, node >> 8)}"] = True
            root = self.tile_root(level - 1, node) if level else None
            if root is None:
                continue
            if root != entry:
                self.bad_tile(level - 1, node << 8, node << 8 * level, (node + 1 << 8 * level) - 1)
                continue
            self.tiles[tile_name(level - 1, node)] = True
            for below in range(node << 8, node + 1 << 8) if level > 1 else ():
                self.check_below(8 * (level - 1), below, self.tile_hash(level - 1, below))

    def tile_root(self, level, number):
        data = self.tile_data(tile_name(level, number))
        return merkle.fold([data[i:i + 32] for i in range(0, 8192, 32)]) if len(data) == 8192 else None

    def bad_tile(self, level, node, first, last):
        if not self.report.known(self.place + "/", first, last + 1):
            place = f"{self.place}/tile/{tile_name(level, node >> 8)}"
            self.report.tampered(place, "other hashes than the collapsed segment's", first, last, lasting=True)

    def check_tile_files(self):
        for name in self.tiles:
            level, number, width = TILE.fullmatch(name).groups()
            data = (self.dir / "tile" / name).read_bytes()
            index = int(number.replace("/", "").replace("x", ""))
            end = (index * 256 + int(width or 256)) << 8 * int(level)
            if len(data) != 32 * int(width or 256) or end > self.size:
                self.report.tampered(f"{self.place}/tile/{name}", "not of the size that the tree gives", lasting=True)
        if not all(self.tiles.values()):
            self.report.note(f"{self.place}: {list(self.tiles.values()).count(False)} tiles were not compared")

    # The end

    def finish(self, declared):
        """Everything that can be told only when all is read; `declared` is of all generations."""
        self.check_tile_files()
        unbuilt = sum(len(places) for size, places in self.wanted.items() if size <= self.size)
        if unbuilt:
            self.report.note(f"{self.place}: {unbuilt} roots lie in what is collapsed or lost and cannot be rebuilt")
        for size, places in sorted(self.wanted.items()):
            for place, _ in places:
                if size > self.size and not self.report.known(self.place + "/seg", self.size, size):
                    self.report.tampered(place, f"covers {size} records, the journal has {self.size}",
                                         self.size, size - 1)
        good = self.held
        for size, place in self.failed:
            if size < good:
                self.report.tampered(place, f"another history was signed at {size} records", max(size - 1, 0))
            elif not self.report.known(self.place + "/", good, size):
                self.report.tampered(place, "the records do not give the signed root; something changed here",
                                     good, max(size - 1, good))
                break
        for seq, entries in self.expected.items():
            known = self.tile_hash(0, seq) if self.tiles.get(tile_name(0, seq >> 8)) else None
            for place, want, what in entries:
                if seq >= self.size:
                    self.report.tampered(place, f"names a record that the journal (of {self.size}) lacks", seq)
                elif known and known != want:
                    self.report.tampered(place, what, seq)
                elif not known:
                    self.report.note(f"{place}: seq {seq} is collapsed, not compared")
        while self.row:
            self.report.tampered(f"events.db, {self.origin}", f"the journal ends at {self.size}", self.row["seq"])
            try:
                store.check_alone(self.row, None)
            except Bad as error:
                self.bad_row(self.row["seq"], error)
            self.row = next(self.rows, None)
        self.check_rowless()
        self.settle_rows()
        if self.unchecked_rows:
            self.report.note(f"{self.unchecked_rows} rows of events.db have no leaf to compare with")
        if self.ended and self.newest and 0 < self.covered < self.size:
            self.report.tampered(f"{self.place}/checkpoint", "does not cover what an orderly stop has signed",
                                 self.covered, self.size - 1)
        elif self.size > self.held:
            self.report.note(f"{self.place}: records {self.held}-{self.size - 1} are under no checkpoint: not signed yet, "
                             "or later checkpoints were removed")
        self.check_absences(declared)

    def check_absences(self, declared):
        own = [(first, last) for origin, first, last, _, ok in declared if origin == self.origin and ok]
        late = [(first, last) for origin, first, last, _, ok in declared if origin == self.origin]
        good, all_ = merge(own), merge(late)
        for first, last, place, id_ in self.absent:
            for a, b in uncovered(first, last, good):
                if not self.report.known(self.place + "/", a, b + 1):
                    what = "payload is absent and no agent event says so"
                    if not list(uncovered(a, b, all_)):
                        what = "payload is absent and what says so is under no checkpoint"
                    self.report.tampered(place, what, a, b, id_, lasting=True)


def merge(ranges):
    merged = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def uncovered(first, last, ranges):
    """The parts of first..last in none of the merged ranges."""
    at = max(bisect.bisect(ranges, (first,)) - 1, 0)
    for a, b in ranges[at:]:
        if a > last:
            break
        if first < a:
            yield first, a - 1
        first = max(first, b + 1)
    if first <= last:
        yield first, last
