#!/usr/bin/env python3
"""Golden vectors, and journals and proofs tampered with: each must be told. Exit status 0 or 1."""
import contextlib
import io
import json
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

import auditmon_verify
import builder
import canonical
import merkle
import note
import segment
import strange
from crc32c import crc32c
from report import Bad, Report

VECTORS = Path(__file__).resolve().parent.parent / "fixtures/journal-vectors.json"
TREE = {  # the published Certificate Transparency roots
    "leaves": ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"],
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
FORGE = ("UPDATE events SET username='mallo', canonical=CAST(replace(CAST(canonical AS TEXT), 'alice', 'mallo') AS BLOB)"
         " WHERE seq=7")
done = failed = 0


def expect(what, good):
    global done, failed
    done += 1
    if not good:
        failed += 1
        print(f"FAILED: {what}")


def run(*arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = auditmon_verify.main([str(argument) for argument in arguments])
    return status, output.getvalue()


def refused(call, *arguments):
    try:
        call(*arguments)
    except Bad:
        return True
    return False


def flips(data):
    for at in range(len(data)):
        for mask in (0x01, 0x20, 0xFF):
            yield at, data[:at] + bytes([data[at] ^ mask]) + data[at + 1:]


def golden(vectors):
    """Every byte string of the vectors: made anew, equal; read, without complaint."""
    origin, seed = vectors["origin"], bytes.fromhex(vectors["log_key_seed"])
    expect("CRC32C", crc32c(b"123456789") == 0xE3069283)
    tree, hashes, records = merkle.Frontier(), [], []
    for each in vectors["records"]:
        seq, where = each["seq"], f"record {each['seq']}"
        payload, salt, prefix, commitment, leaf, hash_, record, erased = (bytes.fromhex(each[name]) for name in (
            "payload_hex", "salt", "prefix", "commitment", "leaf", "leaf_hash", "record", "erased_record"))
        expect(f"{where}: payload", each["payload"].encode() == payload)
        parsed = segment.parse_records(record, 0, len(record), 1)[0]
        expect(f"{where}: parts", parsed == segment.Record(False, prefix, salt, payload, commitment))
        expect(f"{where}: rules", not refused(segment.check_record, parsed))
        if segment.kind(prefix) != canonical.STATE:
            received = int.from_bytes(prefix[17:25], "big")
            expect(f"{where}: prefix", builder.prefix(payload, received) == prefix)
        expect(f"{where}: commitment", segment.commit(salt, payload) == commitment)
        expect(f"{where}: leaf", parsed.leaf == leaf and len(leaf) == segment.LEAF)
        expect(f"{where}: leaf hash", merkle.leaf_hash(leaf) == hash_)
        expect(f"{where}: record", builder.record(prefix, salt + payload) == record)
        expect(f"{where}: erased", builder.record(prefix, commitment, True) == erased)
        expect(f"{where}: erased, read", segment.parse_records(erased, 0, len(erased), 1)[0].leaf == leaf)
        expect(f"root {seq}", tree.root().hex() == vectors["roots"][seq])
        tree.append(hash_)
        hashes.append(hash_)
        records.append(record)
    expect("root 4", tree.root().hex() == vectors["roots"][4])
    frames = [bytes.fromhex(frame) for frame in vectors["frames"]]
    mark = bytes.fromhex(vectors["mark"])
    for first, data in zip((0, 2), frames):
        expect(f"frame {first}", builder.frame(first, first, records[first:first + 2]) == data)
        read = segment.read_frame(data, 0)
        expect(f"frame {first}, read", (read.first, read.count, read.end) == (first, 2, len(data)))
    expect("mark", builder.frame(4, 4) == mark and segment.read_frame(mark, 0).count == 0)
    whole = builder.header(origin, 0) + b"".join(frames) + mark
    expect("segment", whole == bytes.fromhex(vectors["segment"]))
    position = bytes.fromhex(vectors["position_before_seq_2"])
    expect("position", builder.position(2, hashes[1], origin) == position)
    expect("position, read", segment.read_position(position) == (2, hashes[1], origin))
    key = note.Key.parse(vectors["vkey"])
    expect("key", key.name == origin and builder.vkey(origin, seed) == vectors["vkey"])
    expect("checkpoint", builder.signed(origin, 4, tree.root(), seed) == vectors["checkpoint"])
    found, rest = note.notes(vectors["checkpoint"].encode())
    expect("checkpoint, read", not rest and note.checkpoint(found[0], key) == (origin, 4, tree.root()))
    other = merkle.Frontier()
    for size, leaf in enumerate(TREE["leaves"], 1):
        other.append(merkle.leaf_hash(bytes.fromhex(leaf)))
        if size in TREE:
            expect(f"published root {size}", other.root().hex() == TREE[size])


def canonical_rules(payload):
    """Each change of the first event breaks one rule."""
    text = payload.decode()
    changes = [
        (',"event_name"', ', "event_name"'), ('"event_name":', '"event_nam":'), ('"login"', '""'), ("login", "\\u006c"),
        ("login", "a\\/b"), ("login", "\\u000a"), ("login", "\\u001F"), ("login", "l" * 257), ('"alice"', "null"),
        ('"resource":null', '"resource":1'), ('"-"', '"010.0.0.1"'), ('"-"', '"::0"'), ('"-"', '"FE80::1"'),
        ("false", "0"), ('"unknown"', '"maybe"'), ('"info"', '"debug"'), (".000Z", "Z"), (".000Z", ".000000Z"),
        (".000Z", ".000+00:00"), ("2026-01-01T", "2026-02-30T"), ("-7000-", "-4000-"), ("019b", "019B"),
        ("1.10", "01"), ("1.10", "NaN"), ('"n"', '"\\u00e9"'), ('"n"', '"\\u0000"'), ("1.10", '"\\ud800"'),
        ("1.10", "[" * 32 + "]" * 32), ("1.10", "[" * 100_000), ('{"n": 1.10, "\\u00e9":"é"}', "[]"), ("}}", "}} "),
        ('"event_data"', '"x":1,"event_data"'), ('"outcome":"unknown","severity":"info"',
                                                '"severity":"info","outcome":"unknown"')]
    for old, new in changes:
        expect(f"canonical: {old} -> {new[:30]}",
               old in text and refused(canonical.parse, text.replace(old, new, 1).encode()))
    for old, new in (("login", '\\"\\\\\\b\\u000b/\x7f'), ("1.10", "[" * 31 + "]" * 31), ('"-"', '"::ffff:1.2.3.4"'),
                     ("1.10", "9" * 5000), (".000Z", ".000001Z"), ("1.10", '"\\ud83d\\ude00"')):
        expect(f"canonical allows {new[:30]}", not refused(canonical.parse, text.replace(old, new, 1).encode()))
    expect("canonical: not UTF-8", refused(canonical.parse, payload.replace(b"login", b"\xff")))


def example_tampered(vectors, root):
    """Every byte of the example journal and of the example proof."""
    data_dir, whole = root / "example", bytes.fromhex(vectors["segment"])
    for name in ("keys", "positions", "journal/1/seg"):
        (data_dir / name).mkdir(parents=True)
    files = {
        "journal/origin": vectors["origin"].encode(), "keys/log.vkey": vectors["vkey"].encode(),
        "journal/1/checkpoint": vectors["checkpoint"].encode(), "journal/1/seg/00000000000000000000.seg": whole,
        "positions/webhook": bytes.fromhex(vectors["position_before_seq_2"])}
    for name, data in files.items():
        (data_dir / name).write_bytes(data)
    (root / "proof").write_text(vectors["proof_of_seq_1"])
    (root / "proofs").write_text("---\n".join([vectors["proof_of_seq_1"]] * 2))
    key = ("--key", vectors["vkey"])
    expect("example journal", run(data_dir)[0] == 0)
    expect("example journal against proof", run(data_dir, *key, "--against", root / "proof")[0] == 0)
    expect("example proof", run("--proof", root / "proof", *key)[0] == 0)
    expect("two proofs", run("--proof", root / "proofs", *key)[0] == 0)
    for name, data in files.items():
        for at, changed in flips(data):
            (data_dir / name).write_bytes(changed)
            status, output = run(data_dir, *key)
            expect(f"{name}, byte {at} flipped: {output}", status == 1 or status == 2 and not name.endswith(".seg"))
        (data_dir / name).write_bytes(data)
    for at, changed in flips(vectors["proof_of_seq_1"].encode()):
        (root / "proof").write_bytes(changed)
        expect(f"proof, byte {at} flipped", run("--proof", root / "proof", *key)[0] == 1)
    path = data_dir / "journal/1/seg/00000000000000000000.seg"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        lost_mark = 0 <= length - (len(whole) - segment.HEAD) <= 3      # what is left of the mark is zeros
        expect(f"segment cut to {length}", run(data_dir)[0] == (0 if lost_mark else 1))
    path.write_bytes(whole + bytes(4096))
    expect("preallocated", run(data_dir)[0] == 0)
    path.write_bytes(whole + whole[64:200] + bytes(4096))
    expect("torn tail", run(data_dir)[0] == 0)
    path.write_bytes(whole + b"x")
    expect("a byte behind an orderly stop", run(data_dir)[0] == 1)


def large_tampered(vectors, root):
    """A journal of three segments, with retention, erasure and collapse."""
    origin, seed = vectors["origin"], bytes.fromhex(vectors["log_key_seed"])
    says = {
        650: builder.event_bytes(650, "journal.retention", "agent", {"first_seq": 0, "last_seq": 299}),
        651: builder.event_bytes(651, "journal.erasure", "agent", {"seq": 444}),
        652: builder.event_bytes(652, "journal.integrity", "agent", {"first_seq": 310, "last_seq": 319}),
        653: builder.event_bytes(653, "sink.replayed", "agent", {"first_seq": 320, "last_seq": 329, "seq": 330}),
        654: builder.event_bytes(654, "journal.erasure", "agent", {"seq": 331}, source="backup"),
        655: builder.event_bytes(655, "journal.erasure", "agent", {"seq": 660})}
    pristine = builder.Journal(root / "large", origin, seed, vectors["vkey"], events=says)
    forged = {450: pristine.payloads[450].replace(b"alice", b"mallo")}

    def forge_leaf(j, seq):
        j.write_leaves(300, [j.leaves[n] if n != seq else j.leaves[n + 1] for n in range(300, 600)])

    def forge_all(j):       # record, leaf file and tile
        j.write_segment(300, payloads=forged)
        leaf = j.prefixes[450] + builder.commitment(j.salts[450], forged[450])
        j.leaves[450], j.hashes[450] = leaf, merkle.leaf_hash(leaf)
        j.write_leaves(300, j.leaves[300:600])
        j.tile(1).write_bytes(b"".join(j.hashes[256:512]))

    def swap_bytes(path, at):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    cases = [   # what, status, what a line must say, the change
        ("untouched", 0, "good", lambda j: None),
        ("retention", 0, "good", lambda j: j.file(0).unlink()),
        ("collapse", 0, "good", lambda j: j.collapse(0)),
        ("erasure", 0, "good", lambda j: j.write_segment(300, erased=[444])),
        ("no tiles", 0, "good", lambda j: shutil.rmtree(j.dir / "tile")),
        ("unsealed", 0, "not sealed", lambda j: j.file(300, "leaf").unlink()),
        ("retention, undeclared", 1, "seq 300-443: payload is absent", lambda j: j.file(300).unlink()),
        ("collapse, undeclared", 1, "seq 300-443: payload is absent", lambda j: j.collapse(300)),
        ("erasure, undeclared", 1, "seq 445, event ", lambda j: j.write_segment(300, erased=[444, 445])),
        ("declared by another event", 1, "seq 330, event ", lambda j: j.write_segment(300, erased=range(320, 331))),
        ("declared by a plugin", 1, "seq 331, event ", lambda j: j.write_segment(300, erased=[331])),
        ("declared before it was written", 1, "seq 660, event ", lambda j: j.write_segment(600, erased=[660])),
        ("declared by damage", 1, "seq 319, event ", lambda j: j.write_segment(300, erased=range(310, 320))),
        ("segment and leaves gone", 1, "seq 300-599: neither",
         lambda j: (j.file(300).unlink(), j.file(300, "leaf").unlink())),
        ("segment behind a collapsed one gone", 1, "seq 300-599: neither", lambda j: (
            j.collapse(0), j.file(300).unlink(), j.file(300, "leaf").unlink())),
        ("first segment gone", 1, "seq 0-299", lambda j: (j.file(0).unlink(), j.file(0, "leaf").unlink(),
                                                           shutil.rmtree(j.dir / "tile"))),
        ("record forged", 1, "seq 450, event ", lambda j: j.write_segment(300, payloads=forged)),
        ("record, leaf, tile forged", 1, "seq 400-499: the records do not give", forge_all),
        ("forged in the newest", 1, "seq 600-699: the records do not give",
         lambda j: j.write_segment(600, payloads={660: j.payloads[660].replace(b"alice", b"mallo")})),
        ("frame dropped", 1, "seq 340-349", lambda j: j.write_segment(300, drop=[340])),
        ("leaf forged", 1, "seq 333, event ", lambda j: forge_leaf(j, 333)),
        ("leaf forged, segment gone", 1, "tile/0/000: seq 0: ", lambda j: (
            j.file(0).unlink(), j.write_leaves(0, [j.leaves[1]] + j.leaves[1:300]))),
        ("leaf file cut", 1, "seq 500-599: leaves are missing", lambda j: j.write_leaves(300, j.leaves[300:500])),
        ("tile", 1, "tile/0/001: seq 256", lambda j: swap_bytes(j.tile(1), 5)),
        ("tile of a sub", 1, "tile/0/000", lambda j: (j.collapse(0), swap_bytes(j.tile(0), 40))),
        ("sub", 1, "other hashes than the collapsed segment's", lambda j: (j.collapse(0), swap_bytes(j.file(0, "sub"), 90))),
        ("sub without tiles", 1, "seq 0-299: the records", lambda j: (
            shutil.rmtree(j.dir / "tile"), j.collapse(0), swap_bytes(j.file(0, "sub"), 90))),
        ("older checkpoint of another tree", 1, "another history", lambda j: (j.dir / "checkpoints").write_text(
            j.note(100, bytes(32)))),
        ("older checkpoint, signature", 1, "the signature is wrong", lambda j: (j.dir / "checkpoints").write_text(
            j.note(100).replace("\n100\n", "\n101\n"))),
        ("checkpoint rolled back", 1, "covers 500 records, an older one 600", lambda j: (j.dir / "checkpoint").write_text(
            j.note(500))),
        ("older checkpoint put back, later ones removed", 1, "seq 500-699: does not cover", lambda j: (
            (j.dir / "checkpoint").write_text(j.note(500)), (j.dir / "checkpoints").unlink())),
        ("cut off", 1, "covers 700 records, the journal has 600", lambda j: j.file(600).write_bytes(
            j.file(600).read_bytes()[:64])),
        ("no checkpoints", 2, "no checkpoint", lambda j: ((j.dir / "checkpoint").unlink(),
                                                           (j.dir / "checkpoints").unlink())),
        ("position", 1, "positions/webhook: seq 498", lambda j: (j.path / "positions/webhook").write_bytes(
            builder.position(499, j.hashes[499], origin))),
        ("position beyond", 1, "positions/webhook: seq 700", lambda j: (j.path / "positions/webhook").write_bytes(
            builder.position(701, j.hashes[499], origin))),
        ("position in a newer generation", 1, "/gen/2, which is not here", lambda j: (
            j.path / "positions/webhook").write_bytes(builder.position(5, j.hashes[4], origin + "/gen/2"))),
        ("row", 1, "column username", lambda j: j.sql("UPDATE events SET username='eve' WHERE seq=7")),
        ("row's data", 1, "column event_data", lambda j: j.sql("UPDATE events SET event_data='{}' WHERE seq=650")),
        ("row's bytes", 1, "seq 7, event ", lambda j: j.sql("UPDATE events SET canonical=x'00' WHERE seq=7")),
        ("row of no record", 1, "seq 900: the journal ends", lambda j: j.sql("UPDATE events SET seq=900 WHERE seq=7")),
        ("row of a collapsed segment", 1, "column username", lambda j: (
            j.collapse(0), j.sql("UPDATE events SET username='eve' WHERE seq=7"))),
        ("row of a collapsed segment, forged", 1, "seq 7: not the event of which a tile", lambda j: (
            j.collapse(0), j.sql(FORGE))),
        ("row of a collapsed segment, forged, without tiles", 0, "300 rows of events.db have no leaf", lambda j: (
            j.collapse(0), shutil.rmtree(j.dir / "tile"), j.sql(FORGE))),
        ("rows gone", 0, "good", lambda j: j.sql("DELETE FROM events WHERE seq<400")),
    ]
    for number, (what, status, says, change) in enumerate(cases):
        path = root / f"case{number}"
        journal = builder.Journal(path, origin, seed, vectors["vkey"], events=dict(
            enumerate(pristine.payloads)))
        change(journal)
        found, output = run(path, "--key", vectors["vkey"])
        expect(f"{what}: {found}: {output}", found == status and says in output)
        shutil.rmtree(path)
    with contextlib.closing(sqlite3.connect(pristine.path / "events.db")) as writer:     # beside a running agent
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("UPDATE events SET username='eve' WHERE seq=7")
        writer.commit()
        shutil.copytree(pristine.path, root / "copy")
        writer.execute("UPDATE events SET username='alice' WHERE seq=7")
        writer.commit()
    (root / "copy/events.db-shm").unlink()
    before = {path: path.is_file() and path.read_bytes() for path in (root / "copy").rglob("*")}
    found, output = run(root / "copy", "--key", vectors["vkey"])
    expect(f"row in the write-ahead log: {output}", found == 1 and "column username" in output)
    expect("nothing is written", before == {path: path.is_file() and path.read_bytes()
                                            for path in (root / "copy").rglob("*")})
    older = builder.Journal(root / "older", origin, seed, vectors["vkey"])
    newer = builder.Journal(root / "newer", origin + "/gen/2", seed, builder.vkey(origin + "/gen/2", seed))
    newer.dir.rename(older.path / "journal/2")
    (older.path / "keys/log.vkey").write_text(builder.vkey(origin + "/gen/2", seed))
    for status in (0, 1):
        found, output = run(older.path, "--key", vectors["vkey"])
        expect(f"two generations: {found}: {output}", found == status)
        swap_bytes(older.path / "journal/2/seg/00000000000000000600.seg", 5000)
    # Its number may have a gap before it, and what it took the place of may not be gone.
    for number, text, status in ((5, origin, 0), (3, origin + "/gen/2", 1)):
        gap = builder.Journal(root / f"gap{number}", origin, seed, vectors["vkey"])
        name = f"{origin}/gen/{number}"
        says = {3: builder.event_bytes(3, "journal.new_generation", "agent", {"former_origin": text})}
        newest = builder.Journal(root / f"newest{number}", name, seed, builder.vkey(name, seed), events=says)
        newest.dir.rename(gap.path / f"journal/{number}")
        (gap.path / "keys/log.vkey").write_text(builder.vkey(name, seed))
        found, output = run(gap.path, "--key", vectors["vkey"])
        expect(f"a gap before generation {number}: {found}: {output}", found == status)
    (root / "later").write_text(pristine.note(800, bytes(32)))
    (root / "fork").write_text(pristine.note(650, bytes(32)))
    (root / "earlier").write_text(pristine.note(650))
    for name, status in (("later", 1), ("fork", 1), ("earlier", 0), ("large/journal/origin", 2)):
        expect(f"against {name}", run(pristine.path, "--against", root / name)[0] == status)


def unfinished(vectors, root):
    """What a kill leaves: a store without its tables, and a key with the name of a generation that was never begun."""
    origin, seed = vectors["origin"], bytes.fromhex(vectors["log_key_seed"])
    cases = [   # what the schema gets, status, what a line must say
        ("", 0, "events.db was only begun"),
        ("PRAGMA journal_mode=WAL", 0, "events.db was only begun"),
        ("CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY)", 0, "events.db was only begun"),
        ("CREATE TABLE other (id)", 2, "events.db has no table events"),
    ]
    for number, (sql, status, says) in enumerate(cases):
        path = builder.Journal(root / f"begun{number}", origin, seed, vectors["vkey"]).path
        (path / "events.db").write_bytes(b"")
        with contextlib.closing(sqlite3.connect(path / "events.db")) as writer:
            writer.executescript(sql)
            found, output = run(path)
            expect(f"`{sql}` beside who makes it: {found}: {output}", found == status and says in output)
        found, output = run(path)
        expect(f"`{sql}`: {found}: {output}", found == status and says in output)
    path = builder.Journal(root / "empty", origin, seed, vectors["vkey"]).path
    (path / "events.db").write_bytes(b"")
    for name in ("events.db-wal", "events.db-shm"):
        (path / name).write_bytes(b"x" * 4096)
    found, output = run(path)
    expect(f"an empty store with a log: {found}: {output}", found == 0 and (path / "events.db-wal").exists())
    path = builder.Journal(root / "unbegun", origin, seed, vectors["vkey"]).path
    (path / "journal/2/seg").mkdir(parents=True)
    for name, status in ((origin, 0), (origin + "/gen/2", 0), (origin + "/gen/3", 1)):
        (path / "keys/log.vkey").write_text(builder.vkey(name, seed))
        for key in ((), ("--key", vectors["vkey"])):
            found, output = run(path, *key)
            expect(f"never begun, key of {name}: {found}: {output}", found == status)


def strange_files(vectors, root):
    """What goes while names are read, what is written beside a file, and links to nothing."""
    path = builder.Journal(root / "strange", vectors["origin"], bytes.fromhex(vectors["log_key_seed"]),
                           vectors["vkey"]).path

    class Running(type(path)):
        """A directory of which a position and a file of SQLite's go when their names were read."""
        def glob(self, pattern):
            for name in ("positions/one", "events.db-journal"):
                (path / name).touch()
            found = list(super().glob(pattern))
            for name in ("positions/one", "events.db-journal"):
                (path / name).unlink()
            return found

    report = Report()
    expect(f"what went meanwhile: {report.lines}", not strange.tell(Running(path), report))
    for name, status in (("keys/log.vkey.new", 0), ("events.db", 2), ("journal/1/accepted", 1), ("positions/two", 1)):
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to("nothing")
        found, output = run(path)
        expect(f"{name} leads to nothing: {found}: {output}", found == status)
        (path / name).unlink()


def main():
    vectors = json.loads(VECTORS.read_text())
    golden(vectors)
    canonical_rules(bytes.fromhex(vectors["records"][0]["payload_hex"]))
    with tempfile.TemporaryDirectory() as root:
        example_tampered(vectors, Path(root))
        large_tampered(vectors, Path(root))
        unfinished(vectors, Path(root))
        strange_files(vectors, Path(root))
    print(f"{done} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
