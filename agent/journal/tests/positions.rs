//! What sinks remember tells of a journal that was put back, cut or rewritten while it was stopped.

#![allow(clippy::unwrap_used)]

mod common;

use auditmon_journal::format::LEAF;
use auditmon_journal::{AgentNote, Dump, DumpItem, Position, PositionVerdict, RealFs};
use auditmon_merkle::{Frontier, Range, leaf_hash};
use common::{
    Journal, copy, end, event, files, flip, forget_checkpoints, frames, image, options, patch, seg, seg_dir, wait_for,
};

fn position(journal: &Journal, seq: u64) -> Position {
    Position {
        origin: journal.handle.origin().to_owned(),
        seq,
        leaf_hash: journal.handle.leaf_hash_before(seq).unwrap(),
    }
}

fn ahead(position: &Position, entries: u64) -> AgentNote {
    AgentNote::PositionAhead {
        sink: "one".to_owned(),
        origin: position.origin.clone(),
        seq: position.seq,
        entries,
    }
}

fn differs(position: &Position) -> AgentNote {
    AgentNote::PositionDiffers {
        sink: "one".to_owned(),
        origin: position.origin.clone(),
        seq: position.seq,
    }
}

/// What recovery finds where a sink that keeps its position itself says this.
fn found(dir: &std::path::Path, told: &[Position]) -> (Vec<AgentNote>, String) {
    let mut options = options(dir);
    let told = told.iter().map(|position| ("one".to_owned(), position.clone()));
    options.remembered = told.collect();
    let journal = Journal::with(RealFs, options);
    let mut notes = journal.opened.findings.clone();
    let origin = journal.opened.origin.clone();
    journal.close();
    let begun = notes.pop_if(|note| matches!(note, AgentNote::NewGeneration { .. }));
    assert_eq!(
        begun.is_some(),
        !notes.is_empty() && origin.contains("/gen/"),
        "{notes:?}"
    );
    (notes, origin)
}

/// Root over all records of the first generation, as they are.
fn root(dir: &std::path::Path) -> Option<String> {
    let mut dump = Dump::new(RealFs, dir, false).unwrap();
    let mut tree = Frontier::new();
    while let Some(item) = dump.next().unwrap() {
        match item {
            DumpItem::Origin(origin) if origin.contains("/gen/") => break,
            DumpItem::Records(batch) => {
                for entry in batch.iter() {
                    tree.push(leaf_hash(&entry.record.leaf())).unwrap();
                }
            }
            _ => {}
        }
    }
    Some(tree.root().to_string())
}

#[test]
fn a_tail_of_the_same_size_rewritten_while_stopped_is_found_by_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b", "c"]);
    for (sink, seq) in [("one", 3), ("two", 2)] {
        journal.handle.write_position(sink, &position(&journal, seq)).unwrap();
    }
    let last = position(&journal, 3);
    // Killed before anything was signed.
    let killed = image(dir.path());
    journal.close();
    let path = seg(killed.path(), 0);
    let (offset, seq, synced, _) = frames(&path)[2];
    patch(&path, offset, &common::frame(seq, synced, "C"));
    let journal = Journal::open(killed.path());
    let findings = &journal.opened.findings;
    assert_eq!(findings[0], differs(&last));
    let begun = AgentNote::NewGeneration {
        former: last.origin.clone(),
        entries: 3,
        root: root(killed.path()),
        end: 3,
        damaged: false,
    };
    assert_eq!(findings[1..], [begun], "and nothing of the other sink");
    assert_eq!(journal.opened.origin, format!("{}/gen/2", last.origin));
    assert_eq!(journal.handle.check_position(&last), PositionVerdict::Former);
    journal.close();
    let (again, origin) = found(killed.path(), &[]);
    assert_eq!((again, origin), (vec![], format!("{}/gen/2", last.origin)), "told once");
}

#[test]
fn a_former_generation_has_the_same_root_where_leaves_were_collapsed() {
    let dir = tempfile::tempdir().unwrap();
    let mut eager = options(dir.path());
    eager.keep_age = std::time::Duration::ZERO;
    let journal = Journal::with(RealFs, eager);
    wait_for("payloads of two segments to go", || {
        journal.submit(event(&"x".repeat(900))).unwrap();
        let second = files(dir.path(), ".leaf").get(1).copied();
        second.is_some_and(|second| files(dir.path(), ".seg")[0] > second)
    });
    let newest = position(&journal, 1);
    let late = Position { seq: 10_000, ..newest };
    journal.close();
    let begun = |dir: &std::path::Path| {
        let mut options = options(dir);
        options.remembered = vec![("one".to_owned(), late.clone())];
        let journal = Journal::with(RealFs, options);
        let note = journal.opened.findings.last().cloned();
        journal.close();
        note
    };
    let expected = begun(copy(dir.path()).path());
    let Some(AgentNote::NewGeneration { root: Some(_), .. }) = &expected else {
        panic!("{expected:?}")
    };
    // The second one still has its leaves.
    let path = seg_dir(dir.path()).join(format!("{:020}.leaf", 0));
    let leaves = std::fs::read(&path).unwrap();
    let mut range = Range::new(0);
    for leaf in leaves.as_chunks::<LEAF>().0 {
        range.push(leaf_hash(leaf)).unwrap();
    }
    let mut sub = [0, range.leaves().end - 1].map(u64::to_be_bytes).concat();
    for (_, hash) in range.subtrees() {
        sub.extend(hash.as_bytes());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path.with_extension("sub"), &sub).unwrap();
    assert_eq!(begun(copy(dir.path()).path()), expected);
    // Neither leaves nor what stands for them.
    std::fs::write(path.with_extension("sub"), &sub[..20]).unwrap();
    let none = begun(copy(dir.path()).path());
    assert!(
        matches!(none, Some(AgentNote::NewGeneration { root: None, .. })),
        "{none:?}"
    );
}

#[test]
fn a_record_rewritten_in_the_middle_is_found_by_a_sink_that_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b", "c"]);
    let behind = position(&journal, 2);
    let killed = image(dir.path());
    journal.close();
    assert_eq!(found(copy(killed.path()).path(), std::slice::from_ref(&behind)).0, []);
    let path = seg(killed.path(), 0);
    let (offset, seq, synced, _) = frames(&path)[1];
    patch(&path, offset, &common::frame(seq, synced, "B"));
    assert_eq!(
        found(killed.path(), std::slice::from_ref(&behind)).0,
        [differs(&behind)]
    );
}

#[test]
fn a_directory_put_back_as_a_whole_is_found_by_what_is_remembered_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    let early = position(&journal, 1);
    journal.close();
    let old = copy(dir.path());
    let journal = Journal::open(dir.path());
    journal.write(&["b", "c"]);
    let late = position(&journal, 3);
    journal.close();
    let signed = std::fs::read(old.path().join("journal/1/checkpoint")).unwrap();
    assert_eq!(found(copy(old.path()).path(), &[]).0, [], "nobody else knows");
    assert_eq!(found(copy(old.path()).path(), std::slice::from_ref(&early)).0, []);
    let (notes, origin) = found(old.path(), std::slice::from_ref(&late));
    assert!(notes.contains(&ahead(&late, 1)), "{notes:?}");
    assert_eq!(origin, format!("{}/gen/2", late.origin));
    let after = std::fs::read(old.path().join("journal/1/checkpoint")).unwrap();
    assert_eq!(
        after, signed,
        "nothing more is signed in the name of the former generation"
    );
    // What the store remembers of the former generation says nothing of this one.
    assert_eq!(found(old.path(), &[late]), (vec![], origin));
}

#[test]
fn no_number_of_a_generation_is_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b"]);
    let seen = position(&journal, 2);
    journal.close();
    // Put back to a time at which there was no generation 4 yet.
    let mut newer = seen.clone();
    newer.origin.push_str("/gen/4");
    let mut other = seen.clone();
    other.origin = "elsewhere/0011223344556677".to_owned();
    assert_eq!(found(dir.path(), &[seen.clone(), other]).0, []);
    let (notes, origin) = found(dir.path(), &[seen.clone(), newer.clone()]);
    assert_eq!(notes, [ahead(&newer, 2)]);
    assert_eq!(origin, format!("{}/gen/5", seen.origin));
}

#[test]
fn a_crash_and_rot_are_no_rollback() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    for index in 0..30 {
        journal.write(&[&format!("{index:0600}")]);
    }
    wait_for("sealed", || files(dir.path(), ".leaf").len() >= 2);
    let durable = journal.handle.durable();
    let all: Vec<Position> = (0..=durable).map(|seq| position(&journal, seq)).collect();
    let killed = image(dir.path());
    journal.close();
    // An unfinished write behind what the sinks have.
    let newest = *files(killed.path(), ".seg").last().unwrap();
    let path = seg(killed.path(), newest);
    patch(&path, end(&path), &common::frame(durable, durable, "torn")[..40]);
    let (notes, origin) = found(copy(killed.path()).path(), &all);
    assert!(matches!(notes[..], [AgentNote::TornTail { .. }]), "{notes:?}");
    assert_eq!(origin, all[0].origin);
    // A leaf file, or a record in a sealed segment: the other one still agrees.
    for (ending, at) in [("leaf", 100), ("seg", 300)] {
        let rotten = copy(killed.path());
        flip(&seg_dir(rotten.path()).join(format!("{:020}.{ending}", 0)), at);
        let (notes, origin) = found(rotten.path(), &all);
        assert!(matches!(notes[..], [AgentNote::TornTail { .. }]), "{ending}: {notes:?}");
        assert_eq!(origin, all[0].origin);
    }
    // A frame in the middle of the newest segment: damage, and what is behind it can be read.
    let rotten = copy(killed.path());
    forget_checkpoints(rotten.path());
    let path = seg(rotten.path(), newest);
    let found_frames = frames(&path);
    assert!(found_frames.len() > 3, "{found_frames:?}");
    flip(&path, found_frames[1].0 + 60);
    let (notes, origin) = found(rotten.path(), &all[..all.len() - 1]);
    assert!(
        notes.iter().all(|note| !matches!(
            note,
            AgentNote::PositionAhead { .. } | AgentNote::PositionDiffers { .. }
        )),
        "{notes:?}"
    );
    // Nothing could be signed there any more, and nobody has to accept that.
    assert_eq!(origin, format!("{}/gen/2", all[0].origin));
    let journal = Journal::open(rotten.path());
    assert_eq!(
        journal.handle.check_position(&all[all.len() - 2]),
        PositionVerdict::Accepted
    );
    journal.close();
}
