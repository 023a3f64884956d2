#!/usr/bin/env python3
"""Verifies a journal, its store and its positions, or proofs of single events, from the format page alone.

Exit status: 0 good, 1 tampered (one line a fault), 2 could not check.
"""
import argparse
import sqlite3
import sys
from pathlib import Path

import accepted
import merkle
import note
import proof
import segment
import strange
from generation import Generation, has_begun
from report import Bad, CannotCheck, Report
from store import open_store


def origin_of(base, number):
    return base if number == 1 else f"{base}/gen/{number}"


def read_key(data_dir, text, newest, unbegun, report):
    """The key to trust; without --key the directory's own. It is named before its generation has an event."""
    path = data_dir / "keys/log.vkey"
    try:
        own = note.Key.parse(path.read_text(errors="replace"))
    except (OSError, CannotCheck) as error:
        if not text:
            raise CannotCheck(f"no --key, and keys/log.vkey: {error}") from None
        report.tampered("keys/log.vkey", str(error))
        own = None
    if own and own.name not in (newest, *unbegun):
        report.tampered("keys/log.vkey", f"is named {own.name}, the newest origin is {newest}")
    if not text:
        report.note("the key is the directory's own: who could replace it could sign another history; give --key")
        return own
    key = note.Key.parse(text)
    former = data_dir / "keys/log.old.vkey"
    if own and own.public != key.public and not (former.exists() and text.strip() in former.read_text().split()):
        report.tampered("keys/log.vkey", "is another key than the one given")
    if not key.for_origin(newest):
        report.tampered("journal/origin", f"{newest} is not the origin of the key given")
    return key


def former_keys(data_dir, key, generations, report):
    """Keys of before a rotation: docs/verify.md, "After a rotation"."""
    path, found = data_dir / "keys/log.old.vkey", []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            each = note.Key.parse(line)
            if each.name not in generations:
                raise CannotCheck(f"is named {each.name}")
            found.append(each)
        except CannotCheck as error:
            report.tampered("keys/log.old.vkey", str(error))
    return [each for each in found if each.public != key.public]


def number_in(origin, first):
    """The number of a generation of the same journal, or None."""
    match, own = note.ORIGIN.fullmatch(origin), note.ORIGIN.fullmatch(first)
    return int(match["generation"] or 1) if match and match["base"] == own["base"] else None


def expect_nowhere(generations, nowhere, report):
    """Positions in generations that are not here: somebody must have accepted, in a newer one, that they are gone."""
    for place, origin in nowhere:
        number = number_in(origin, next(iter(generations)))
        if any(accepted.accepts(each) for each in generations.values() if each.number > number):
            report.note(f"{place}: names {origin}, which is not here; that was accepted")
        else:
            report.tampered(place, f"names {origin}, which is not here: it was put back or removed")


def expect_positions(data_dir, generations, positions, nowhere, report):
    for name, data in positions:
        place = f"positions/{name}"
        try:
            seq, hash_, origin = segment.read_position(data)
            if origin not in generations and number_in(origin, next(iter(generations))):
                nowhere.append((place, origin))
                continue
            if origin not in generations:
                raise Bad(f"names origin {origin}, which this journal does not have")
        except Bad as error:
            report.tampered(place, str(error))
            continue
        if seq:
            generations[origin].expected.setdefault(seq - 1, []).append(
                (place, hash_, "the position's hash is not that of the record before it"))


def expect_against(path, key, generations, report):
    """The journal must extend every checkpoint, and hold every event, of this file."""
    try:
        checkpoints, proofs = proof.against(Path(path).read_bytes(), key)
    except Bad as error:
        report.tampered(path, f"does not belong to this journal: {error}")
        return
    for checkpoint in checkpoints:
        if checkpoint.origin not in generations:
            report.tampered(path, f"the journal lacks the origin {checkpoint.origin}")
            continue
        wanted = generations[checkpoint.origin].wanted
        wanted.setdefault(checkpoint.size, []).append((path, checkpoint.root))
    for each in proofs:
        if each.checkpoint.origin in generations:
            generations[each.checkpoint.origin].expected.setdefault(each.index, []).append(
                (path, merkle.leaf_hash(each.leaf), "the proven event is another one in the journal"))


def verify(data_dir, key_text=None, against=None):
    report, data_dir = Report(), Path(data_dir)
    if strange.tell(data_dir, report):
        return report, "nothing was read"
    journal = data_dir / "journal"
    try:
        text = (journal / "origin").read_text().removesuffix("\n")
        numbers = sorted(int(path.name) for path in journal.iterdir() if path.name.isdecimal())
    except (OSError, UnicodeDecodeError) as error:
        raise CannotCheck(f"journal: {error}") from None
    match = note.ORIGIN.fullmatch(text)
    if not match or not numbers:
        raise CannotCheck("journal/origin is no origin, or there is no generation")
    unbegun = []
    while len(numbers) > 1 and not has_begun(journal / str(numbers[-1])):
        number = numbers.pop()
        unbegun.append(origin_of(match["base"], number))
        report.note(f"journal/{number} was never begun: it has no event")
    newest = origin_of(match["base"], numbers[-1])
    # Numbers may have gaps: none is given twice that a sink has seen.
    if match["generation"] and text != newest or numbers[0] != 1:
        report.tampered("journal", f"generations {numbers} do not fit origin {text}")
    key = read_key(data_dir, key_text, newest, unbegun, report)

    # Positions, rows and checkpoints are read before the records: beside a running agent none can be newer.
    positions = [(path.name, path.read_bytes()) for path in sorted((data_dir / "positions").glob("*"))
                 if not path.name.endswith((".new", ".tmp"))]
    store = open_store(str(data_dir / "events.db"), report)
    for each in store.strangers() if store else ():
        report.tampered("events.db", f"the {each} is not the store's", lasting=True)
    generations = {}
    origins = [origin_of(match["base"], number) for number in numbers] + unbegun
    former = former_keys(data_dir, key, origins, report)
    for number in numbers:
        origin = origin_of(match["base"], number)
        rows = store.rows(origin) if store else ()
        stored = store.stored(origin) if store else None
        if store and not stored:
            report.note(f"events.db has no position in {origin}: whether rows of it were removed cannot be seen")
        generations[origin] = Generation(journal, number, origin, key, report, rows, number == numbers[-1], stored,
                                         former, bool(key_text))
    nowhere = [("events.db (position)", each) for each in (store.positions() if store else ())
               if each not in generations and number_in(each, next(iter(generations)))]
    expect_positions(data_dir, generations, positions, nowhere, report)
    if against:
        expect_against(against, key, generations, report)
    else:
        report.note("without --against it cannot be seen whether the whole journal was rolled back to an earlier state")

    for generation in generations.values():
        generation.check_roots()
        generation.noting(generation.walk)
    declared = [(*each, each[3] < generation.held)
                for generation in generations.values() for each in generation.declared]
    for generation in generations.values():
        for origin, ranges, seq in generation.lacking:
            former = generations.get(origin)
            if former and former.number < generation.number:
                at = -1 if seq < generation.held else float("inf")     # signed or not, elsewhere
                former.never_stored += [(at, *each) for each in ranges]
    for generation in generations.values():
        generation.noting(generation.finish, declared)
    accepted.forgive(list(generations.values()), report)
    expect_nowhere(generations, nowhere, report)
    for generation in generations.values():
        for former in accepted.formers(generation):
            if former not in generations:
                report.tampered("journal", f"{former} is missing: {generation.origin} took its place")
    if store:
        foreign = store.origins() - set(generations)
        if foreign:
            report.note(f"events.db: rows of {len(foreign)} other origins were not checked")
    begun = [generation for generation in generations.values() if generation.size]
    if not report.lines and not (begun and begun[-1].held):
        raise CannotCheck("no checkpoint covers any record of the newest generation")
    last = generations[newest]
    summary = f"{sum(g.records for g in generations.values())} records read, {last.held} covered in {newest}"
    return report, summary


def verify_proofs(path, key_text):
    report, key = Report(), note.Key.parse(key_text)
    proofs = []
    for number, data in enumerate(proof.split(Path(path).read_bytes()), 1):
        try:
            proofs.append(proof.check(data, key))
        except Bad as error:
            report.tampered(f"{path}:{number}", str(error))
    return report, "".join(f"seq {each.index}, event {each.event} of {each.checkpoint.origin}\n" for each in proofs)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", nargs="?", metavar="DATA_DIR")
    parser.add_argument("--key", metavar="VKEY", help="the log's verifier key, from elsewhere than DATA_DIR")
    parser.add_argument("--against", metavar="FILE", help="an earlier checkpoint or proof that the journal must extend")
    parser.add_argument("--proof", metavar="FILE", help="proofs of single events; needs --key, no DATA_DIR")
    options = parser.parse_args(arguments)
    if bool(options.data_dir) == bool(options.proof) or options.proof and (options.against or not options.key):
        parser.error("give DATA_DIR, or --proof FILE with --key VKEY")
    try:
        if options.proof:
            report, summary = verify_proofs(options.proof, options.key)
        else:
            report, summary = verify(options.data_dir, options.key, options.against)
    except (CannotCheck, OSError, sqlite3.OperationalError) as error:
        print(f"could not check: {error}", file=sys.stderr)
        return 2
    for line in report.lines:
        print(line)
    for text in report.notes:
        print(f"note: {text}")
    print(f"{'TAMPERED' if report.lines else 'good'}: {summary.rstrip()}")
    return report.status()


if __name__ == "__main__":
    sys.exit(main())
