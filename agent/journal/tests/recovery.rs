//! Each sentence of the format's chapter on recovery, on real files.

#![allow(clippy::unwrap_used)]

mod common;

use auditmon_journal::format::Kind;
use auditmon_journal::{AgentNote, Gap, GapReason, OpenError, Position, PositionVerdict, RealFs, fsck, open};
use common::{
    Journal, copy, end, event, files, flip, frame, frames, image, options, patch, seg, seg_dir, state, wait_for,
};

#[test]
fn orderly_stop_is_known_and_leaves_nothing_uncovered() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    assert!(journal.opened.clean_stop, "nothing was there");
    let origin = journal.opened.origin.clone();
    assert!(origin.starts_with("host/") && origin.len() == 5 + 16);
    journal.write(&["a", "b"]);
    journal.close();
    let path = seg(dir.path(), 0);
    let last = frames(&path).pop().unwrap();
    assert_eq!((last.1, last.2, last.3), (2, 2, 0), "a mark over everything");
    assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, end(&path));

    let journal = Journal::open(dir.path());
    assert!(journal.opened.clean_stop);
    assert_eq!(journal.opened.origin, origin);
    assert_eq!(journal.opened.next_seq, 2);
    assert!(journal.opened.findings.is_empty());
    journal.write(&["c"]);
    let crashed = image(dir.path());
    journal.close();
    let journal = Journal::open(crashed.path());
    assert!(!journal.opened.clean_stop);
    assert!(journal.opened.findings.is_empty());
    assert_eq!(journal.texts(), ["a", "b", "c"]);
    journal.close();
}

#[test]
fn torn_tail_is_cut_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b"]);
    let crashed = image(dir.path());
    journal.close();
    let path = seg(crashed.path(), 0);
    let offset = end(&path);
    // A torn frame, and behind it a whole one of the same group.
    let torn = frame(2, 2, "torn");
    patch(&path, offset, &torn[..40]);
    patch(&path, offset + torn.len(), &frame(3, 2, "stale"));
    let length = (torn.len() + frame(3, 2, "stale").len()) as u64;

    let journal = Journal::open(crashed.path());
    let note = AgentNote::TornTail {
        segment: 0,
        offset: offset as u64,
        length,
    };
    assert_eq!(journal.opened.findings, std::slice::from_ref(&note));
    assert_eq!(journal.texts(), ["a", "b"]);
    assert_eq!(journal.texts_of(Kind::Agent), [format!("{note:?}")]);
    assert_eq!(journal.write(&["c"])[0].first_seq, 3);
    assert_eq!(
        std::fs::metadata(&path).unwrap().len(),
        8192 + 1024,
        "preallocated anew"
    );
    journal.close();
    assert!(fsck::check(&RealFs, crashed.path()).unwrap().is_clean());
}

#[test]
fn bytes_that_are_no_frame_are_a_torn_tail_too() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    let crashed = image(dir.path());
    journal.close();
    let path = seg(crashed.path(), 0);
    let offset = end(&path);
    patch(&path, offset + 700, b"x");
    let report = fsck::check(&RealFs, crashed.path()).unwrap();
    assert!(report.is_clean(), "printed, and clean");
    let problems = &report.generations[0].segments[0].problems;
    let length = 701;
    assert_eq!(
        *problems,
        [fsck::Problem::TornTail {
            offset: offset as u64,
            length
        }]
    );
    let journal = Journal::open(crashed.path());
    assert!(matches!(
        journal.opened.findings[..],
        [AgentNote::TornTail { length: 701, .. }]
    ));
    journal.close();
}

#[test]
fn proof_of_a_lost_record_makes_it_damage() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b", "c", "d"]);
    journal.submit(state("app", b"k", 0, b"v")).unwrap();
    let crashed = image(dir.path());
    journal.close();
    let path = seg(crashed.path(), 0);
    // The second frame rots; those behind it say that it was synced.
    let bad = frames(&path)[1].0;
    flip(&path, bad + 60);
    let before = std::fs::read(&path).unwrap();
    assert!(!fsck::check(&RealFs, crashed.path()).unwrap().is_clean());

    let journal = Journal::open(crashed.path());
    let note = AgentNote::Damage {
        segment: 0,
        offset: bad as u64,
        first: 1,
        last: 1,
    };
    let findings = &journal.opened.findings;
    assert_eq!(findings[0], note);
    let former = journal.opened.origin.replace("/gen/2", "");
    let missing = AgentNote::LeafMissing { origin: former, seq: 1 };
    assert_eq!(findings[1], missing);
    assert!(matches!(
        findings[2..],
        [AgentNote::NewGeneration {
            entries: 5,
            root: None,
            ..
        }]
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before, "stays as it is");
    assert_eq!(files(crashed.path(), ".seg"), [0], "nothing is written there any more");
    assert_eq!(journal.opened.states.len(), 1, "states behind it are there");
    journal.write(&["e"]);
    assert_eq!(journal.texts(), ["e"]);
    let told = journal.texts_of(Kind::Agent);
    assert_eq!(told[..2], [format!("{note:?}"), format!("{missing:?}")]);
    wait_for("signed again", || {
        journal.handle.signs() && journal.handle.checkpoint().is_some_and(|head| head.size >= 5)
    });

    let former = journal.handle.former().unwrap().unwrap();
    let (records, gaps) = common::read(&former, 0);
    let gap = Gap {
        first: 1,
        last: 1,
        reason: GapReason::Damaged,
    };
    assert_eq!(gaps, [gap]);
    let seqs: Vec<u64> = records.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, [0, 2, 3, 4], "good frames on both sides");
    // A reader that begins behind the gap.
    let (records, gaps) = common::read(&former, 2);
    assert!(gaps.is_empty() && records[0].0 == 2);
    journal.close();

    let journal = Journal::open(crashed.path());
    assert!(journal.opened.findings.is_empty(), "told once");
    assert_eq!(journal.texts(), ["e"]);
    journal.close();
}

#[test]
fn damage_at_the_head_takes_states_from_the_segment_before() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.submit(state("app", b"k", 0, b"old")).unwrap();
    while files(dir.path(), ".seg").len() < 2 {
        journal.submit(event(&"x".repeat(900))).unwrap();
    }
    journal.submit(state("app", b"l", 0, b"new")).unwrap();
    journal.write(&["z"]);
    let crashed = image(dir.path());
    journal.close();
    let second = files(crashed.path(), ".seg")[1];
    flip(&seg(crashed.path(), second), 64 + 40);
    let journal = Journal::open(crashed.path());
    assert!(!journal.opened.findings.is_empty());
    let states = journal.opened.states.values().next().unwrap();
    let keys: Vec<&[u8]> = states.keys().map(Vec::as_slice).collect();
    assert_eq!(keys, [b"k", b"l"]);
    journal.close();
}

#[test]
fn unfinished_creations_are_removed_and_what_they_gave_up_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    let crashed = image(dir.path());
    journal.close();
    let path = seg(crashed.path(), 0);
    // A failed sync: its frame was given up when segment 1 got its name.
    let offset = end(&path);
    patch(&path, offset, &frame(1, 1, "given up"));
    let unfinished = seg(crashed.path(), 1);
    let header = auditmon_journal::format::SegmentHead {
        first_seq: 1,
        origin: std::fs::read(&path).unwrap()[24..56].try_into().unwrap(),
    };
    std::fs::write(&unfinished, header.encode()).unwrap();
    let new = seg_dir(crashed.path()).join("00000000000000000009.seg.new");
    std::fs::write(&new, b"half").unwrap();

    let journal = Journal::open(crashed.path());
    assert!(!new.exists());
    assert_eq!(files(crashed.path(), ".seg"), [0]);
    assert!(journal.opened.findings.is_empty());
    assert_eq!(journal.texts(), ["a"]);
    assert_eq!(journal.write(&["b"])[0].first_seq, 1);
    journal.close();
}

#[test]
fn given_up_frames_of_an_older_segment_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    while files(dir.path(), ".leaf").is_empty() {
        journal.submit(event(&"x".repeat(900))).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let next = files(dir.path(), ".seg")[1];
    let crashed = image(dir.path());
    journal.close();
    let path = seg(crashed.path(), 0);
    std::fs::remove_file(seg_dir(crashed.path()).join(format!("{:020}.leaf", 0))).unwrap();
    let offset = end(&path);
    patch(&path, offset, &frame(next, next, "given up"));
    assert!(fsck::check(&RealFs, crashed.path()).unwrap().is_clean());
    let journal = Journal::open(crashed.path());
    assert!(journal.opened.findings.is_empty());
    assert!(!journal.texts().iter().any(|text| text == "given up"));
    wait_for("sealed again", || files(crashed.path(), ".leaf").contains(&0));
    let size = std::fs::metadata(&path).unwrap().len() as usize;
    assert_eq!(size, offset, "cut again");
    journal.close();
    assert!(fsck::check(&RealFs, crashed.path()).unwrap().is_clean());
}

#[test]
fn a_position_beyond_the_end_is_a_rollback() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b", "c"]);
    let position = Position {
        origin: journal.handle.origin().to_owned(),
        seq: 3,
        leaf_hash: journal.handle.leaf_hash_before(3).unwrap(),
    };
    journal.handle.write_position("file", &position).unwrap();
    assert_eq!(journal.handle.read_position("file").unwrap(), Some(position.clone()));
    assert_eq!(journal.handle.read_position("other").unwrap(), None);
    assert!(journal.handle.read_position("../x").is_err());
    let verdict = |position: &Position| journal.handle.check_position(position);
    assert_eq!(verdict(&position), PositionVerdict::Ok);
    let mut other = position.clone();
    other.leaf_hash[0] ^= 1;
    assert_eq!(verdict(&other), PositionVerdict::Differs);
    other.seq = 4;
    assert_eq!(verdict(&other), PositionVerdict::Ahead);
    other.origin.push('x');
    assert_eq!(verdict(&other), PositionVerdict::OtherOrigin);
    for seq in 0..=3 {
        assert!(journal.handle.leaf_hash_before(seq).is_some(), "{seq}");
    }
    assert_eq!(journal.handle.leaf_hash_before(4), None);
    journal.close();
    // The journal is rolled back to its first record; the sink remembers.
    let path = seg(dir.path(), 0);
    let cut = frames(&path)[1].0 as u64;
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(cut)
        .unwrap();
    let journal = Journal::open(dir.path());
    let findings = &journal.opened.findings;
    assert!(findings.contains(&AgentNote::PositionAhead {
        sink: "file".to_owned(),
        origin: position.origin.clone(),
        seq: 3,
        entries: 1,
    }));
    assert_eq!(journal.opened.generation, 2, "no seq is given twice");
    assert_eq!(journal.handle.check_position(&position), PositionVerdict::Former);
    journal.close();
}

#[test]
fn a_checkpoint_beyond_the_end_makes_it_damage() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    journal.close();
    let old = copy(dir.path());
    let journal = Journal::open(dir.path());
    journal.write(&["b", "c", "d", "e"]);
    journal.close();
    let signed = "journal/1/checkpoint";
    std::fs::copy(dir.path().join(signed), old.path().join(signed)).unwrap();
    let dir = old;
    let (_, opened) = open(RealFs, options(dir.path())).unwrap();
    let note = AgentNote::Damage {
        segment: 0,
        offset: end(&seg(dir.path(), 0)) as u64,
        first: 1,
        last: 4,
    };
    let former = opened.origin.replace("/gen/2", "");
    let missing = AgentNote::LeafMissing { origin: former, seq: 1 };
    assert_eq!(opened.findings[..2], [note, missing]);
    assert_eq!((opened.generation, opened.next_seq), (2, 3));
}

#[test]
fn rot_in_a_sealed_segment_is_one_gap() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    for index in 0..30 {
        journal.write(&[&format!("{index:0600}")]);
    }
    wait_for("sealed", || files(dir.path(), ".leaf").len() >= 2);
    journal.close();
    let path = seg(dir.path(), 0);
    let (offset, seq, ..) = frames(&path)[3];
    flip(&path, offset + 100);
    let journal = Journal::open(dir.path());
    assert!(journal.opened.findings.is_empty(), "sealed ones are trusted");
    let (records, gaps) = journal.read(0);
    let reason = GapReason::Damaged;
    assert_eq!(
        gaps,
        [Gap {
            first: seq,
            last: seq,
            reason
        }]
    );
    assert_eq!(records.len() as u64, journal.handle.durable() - 1);
    journal.close();
    let report = fsck::check(&RealFs, dir.path()).unwrap();
    assert_eq!(
        report.generations[0].segments[0].problems,
        [fsck::Problem::Damage {
            offset: offset as u64,
            first: seq,
            last: seq
        }]
    );
}

#[test]
fn another_journals_segment_is_refused() {
    let one = tempfile::tempdir().unwrap();
    let two = tempfile::tempdir().unwrap();
    for dir in [&one, &two] {
        let journal = Journal::open(dir.path());
        journal.write(&["a"]);
        journal.close();
    }
    std::fs::copy(seg(one.path(), 0), seg(two.path(), 0)).unwrap();
    assert!(matches!(
        open(RealFs, options(two.path())),
        Err(OpenError::Foreign { .. })
    ));
}

#[test]
fn a_generation_without_a_segment_was_only_begun() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    let origin = journal.opened.origin.clone();
    journal.close();
    std::fs::create_dir(dir.path().join("journal/2")).unwrap();
    let journal = Journal::open(dir.path());
    assert_eq!(journal.opened.generation, 1, "the one before is looked at again");
    assert_eq!(journal.opened.origin, origin);
    assert_eq!(journal.texts(), ["a"]);
    journal.close();
}
