//! A generation in which nothing can be signed any more is given up, and what is left of it can be read.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use auditmon_journal::{AgentNote, Gap, GapReason, Handle, Position, PositionVerdict};
use common::{Journal, copy, files, seg, seg_dir, wait_for};

/// A journal with two sealed segments at least, and the hashes before each record.
fn sealed() -> (tempfile::TempDir, Vec<Position>) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    for index in 0..30 {
        journal.write(&[&format!("{index:0600}")]);
    }
    wait_for("sealed", || files(dir.path(), ".leaf").len() >= 2);
    let handle = &journal.handle;
    let at = |seq| Position {
        origin: handle.origin().to_owned(),
        seq,
        leaf_hash: handle.leaf_hash_before(seq).unwrap(),
    };
    let positions = (0..=handle.durable()).map(at).collect();
    journal.close();
    (dir, positions)
}

/// What the first segment's records take.
fn first_segment(dir: &Path) -> u64 {
    files(dir, ".seg")[1]
}

fn leaf(dir: &Path) -> std::path::PathBuf {
    seg_dir(dir).join(format!("{:020}.leaf", 0))
}

fn covers_all(journal: &Journal) -> bool {
    let handle: &Handle = &journal.handle;
    handle.checkpoint().is_some_and(|head| head.size == handle.durable())
}

#[test]
fn leaves_that_nothing_stands_for_begin_a_new_generation_that_signs() {
    let (dir, positions) = sealed();
    let end = positions.len() as u64 - 1;
    let origin = positions[0].origin.clone();
    let signed = std::fs::read(dir.path().join("journal/1/checkpoint")).unwrap();
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil, u64); 2] = [
        ("gone", |dir| std::fs::remove_file(leaf(dir)).unwrap(), 0),
        (
            "short",
            |dir| {
                let file = std::fs::File::options().write(true).open(leaf(dir)).unwrap();
                file.set_len(3 * 66 + 5).unwrap();
            },
            3,
        ),
    ];
    for (how, spoil, seq) in spoils {
        let dir = copy(dir.path());
        let second = first_segment(dir.path());
        spoil(dir.path());
        // The records say it as well.
        let journal = Journal::open(copy(dir.path()).path());
        assert_eq!((journal.opened.generation, &journal.opened.findings[..]), (1, &[][..]));
        journal.close();
        std::fs::remove_file(seg(dir.path(), 0)).unwrap();

        let journal = Journal::open(dir.path());
        let missing = AgentNote::LeafMissing {
            origin: origin.clone(),
            seq,
        };
        let begun = AgentNote::NewGeneration {
            former: origin.clone(),
            entries: end,
            root: None,
            end,
            damaged: true,
        };
        assert_eq!(journal.opened.findings, [missing, begun], "{how}");
        assert_eq!(journal.opened.origin, format!("{origin}/gen/2"));
        journal.write(&["on"]);
        wait_for("signed", || covers_all(&journal));
        assert!(journal.handle.signs());
        let after = std::fs::read(dir.path().join("journal/1/checkpoint")).unwrap();
        assert_eq!(after, signed, "nothing is signed that contradicts it");

        // Nobody has to accept it, and what is left can be read, now and after a start.
        let check = |journal: &Journal| {
            let former = journal.handle.former().unwrap().unwrap();
            assert_eq!((former.origin(), former.durable()), (origin.as_str(), end));
            assert!(former.former().unwrap().is_none(), "it is the first");
            let (records, gaps) = common::read(&former, 0);
            let gap = Gap {
                first: 0,
                last: second - 1,
                reason: GapReason::Expired,
            };
            assert_eq!(gaps, [gap]);
            let seqs: Vec<u64> = records.iter().map(|(seq, ..)| *seq).collect();
            assert_eq!(seqs, (second..end).collect::<Vec<_>>());
            for position in &positions {
                assert_eq!(journal.handle.check_position(position), PositionVerdict::Accepted);
                let verdict = former.check_position(position);
                let readable = position.seq == 0 || position.seq > second;
                assert!(
                    verdict == PositionVerdict::Ok || (!readable && verdict == PositionVerdict::Gone),
                    "{}: {verdict:?}",
                    position.seq
                );
            }
        };
        assert!(!journal.handle.is_accepted() && journal.handle.continues_damaged());
        check(&journal);
        journal.close();
        let journal = Journal::open(dir.path());
        assert!(journal.opened.findings.is_empty(), "told once");
        check(&journal);
        // As far as anybody can say who has removed it.
        std::fs::remove_dir_all(dir.path().join("journal/1")).unwrap();
        assert!(journal.handle.former().unwrap().is_none());
        journal.close();
    }
}

#[test]
fn what_contradicts_the_journal_as_well_has_to_be_accepted() {
    let (dir, positions) = sealed();
    let second = first_segment(dir.path());
    std::fs::remove_file(leaf(dir.path())).unwrap();
    std::fs::remove_file(seg(dir.path(), 0)).unwrap();
    let mut other = positions[second as usize + 2].clone();
    other.leaf_hash[0] ^= 1;
    let mut options = common::options(dir.path());
    options.remembered = vec![("store".to_owned(), other)];
    let journal = Journal::with(auditmon_journal::RealFs, options);
    let findings = &journal.opened.findings;
    assert!(
        matches!(
            findings[..],
            [
                AgentNote::LeafMissing { .. },
                AgentNote::PositionDiffers { .. },
                AgentNote::NewGeneration { .. }
            ]
        ),
        "{findings:?}"
    );
    let position = positions.last().unwrap();
    assert_eq!(journal.handle.check_position(position), PositionVerdict::Former);
    assert!(!journal.handle.continues_damaged());
    assert!(journal.handle.accept_rollback("looked into").unwrap());
    assert_eq!(journal.handle.check_position(position), PositionVerdict::Accepted);
    let former = journal.handle.former().unwrap().unwrap();
    assert_eq!(former.durable(), positions.len() as u64 - 1);
    journal.close();
}

#[test]
fn damage_upon_a_rollback_excuses_nothing() {
    let (dir, positions) = sealed();
    let mut other = positions[5].clone();
    other.leaf_hash[0] ^= 1;
    let mut options = common::options(dir.path());
    options.remembered = vec![("store".to_owned(), other)];
    Journal::with(auditmon_journal::RealFs, options).close();
    // The second generation has its leaf in one record.
    let second = dir.path().join("journal/2/seg/00000000000000000000.seg");
    common::flip(&second, common::frames(&second)[0].0 + 60);
    let journal = Journal::open(dir.path());
    assert_eq!(journal.opened.generation, 3);
    assert!(journal.handle.continues_damaged());
    assert_eq!(journal.handle.check_position(&positions[5]), PositionVerdict::Former);
    let mut of_second = positions[5].clone();
    of_second.origin.push_str("/gen/2");
    assert_eq!(journal.handle.check_position(&of_second), PositionVerdict::Accepted);
    assert!(journal.handle.accept_rollback("looked into").unwrap());
    assert_eq!(journal.handle.check_position(&positions[5]), PositionVerdict::Accepted);
    journal.close();
}
