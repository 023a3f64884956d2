//! Commits, segment change, sealing, marks, closing.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant, SystemTime};

use auditmon_journal::format::{Kind, MAX_MEMORY, leaf_hash, source_hash};
use auditmon_journal::{DirLock, Dump, DumpItem, Item, Linger, LockError, PushError, RealFs, Records, Refused, fsck};
use common::{Journal, event, files, frames, image, options, prefix, seg, state, wait_for};

#[test]
fn a_submission_is_one_frame_and_answered_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let mut records = Records::new();
    for text in ["a", "b"] {
        let prefix = prefix(Kind::Application);
        records.push(&prefix, [0; 16], |out| out.extend(text.bytes())).unwrap();
    }
    records.push_state("app", [0; 16], 1, [0; 16], b"k", 0, b"v").unwrap();
    let committed = journal.submit(records).unwrap();
    assert_eq!((committed.first_seq, committed.last_seq), (0, 2));
    assert_eq!(journal.handle.durable(), 3);
    let journal_frames = frames(&seg(dir.path(), 0));
    assert_eq!(journal_frames[0].3, 3);
    assert_eq!(journal.submit(Records::new()), Err(Refused::Empty));
    journal.close();
}

#[test]
fn nothing_is_visible_before_it_is_answered_and_readers_follow() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let mut reader = journal.handle.reader(0);
    for index in 0..200u64 {
        assert!(reader.next().unwrap().is_none());
        let seq = journal.submit(event(&format!("{index:0200}"))).unwrap().first_seq;
        let mut seen = false;
        while let Some(item) = reader.next().unwrap() {
            let Item::Records(batch) = item else {
                panic!("{item:?}");
            };
            seen |= batch.iter().any(|entry| entry.seq == seq);
        }
        assert!(seen, "{index}");
    }
    assert!(files(dir.path(), ".seg").len() > 3, "through segment changes");
    journal.close();
}

#[test]
fn company_shares_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let before = journal.handle.status().metrics.syncs;
    let linger = Linger {
        max_wait: Duration::from_millis(100),
        max_bytes: 1 << 20,
    };
    let begin = Instant::now();
    let answers: Vec<_> = (0..10).map(|_| journal.send(event("x"), linger)).collect();
    let seqs: Vec<u64> = answers
        .iter()
        .map(|answer| answer.recv().unwrap().unwrap().first_seq)
        .collect();
    assert_eq!(seqs, (0..10).collect::<Vec<_>>(), "in order");
    assert!(begin.elapsed() >= Duration::from_millis(95));
    assert_eq!(journal.handle.status().metrics.syncs, before + 1);
    assert_eq!(journal.handle.status().metrics.frames, 10);

    // Bytes end the wait early.
    let patient = Linger {
        max_wait: Duration::from_secs(60),
        max_bytes: 1000,
    };
    let first = journal.send(event("y"), patient);
    let second = journal.send(event(&"y".repeat(1000)), patient);
    first.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
    second.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
    // Someone in a hurry takes everyone along.
    let first = journal.send(event("z"), patient);
    journal.submit(event("z")).unwrap();
    first.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
    journal.close();
}

#[test]
fn a_mark_follows_a_burst_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b"]);
    let begin = Instant::now();
    wait_for("a mark", || {
        frames(&seg(dir.path(), 0)).last().map(|last| (last.2, last.3)) == Some((2, 0))
    });
    assert!(begin.elapsed() < Duration::from_secs(1));
    std::thread::sleep(Duration::from_millis(700));
    let marks = frames(&seg(dir.path(), 0));
    assert_eq!(marks.iter().filter(|frame| frame.3 == 0).count(), 1, "and only one");
    journal.close();
}

#[test]
fn sealed_segments_are_cut_and_have_their_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    for index in 0..20 {
        journal.write(&[&format!("{index:0900}")]);
    }
    wait_for("sealed", || files(dir.path(), ".leaf").contains(&0));
    let path = seg(dir.path(), 0);
    assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, common::end(&path));
    let leaves = std::fs::read(path.with_extension("leaf")).unwrap();
    let next = files(dir.path(), ".seg")[1];
    assert_eq!(leaves.len() as u64, next * 66);
    let Some(Item::Records(batch)) = journal.handle.reader(0).next().unwrap() else {
        panic!("no records");
    };
    for (entry, leaf) in batch.iter().zip(leaves.chunks(66)) {
        assert_eq!(entry.record.leaf(), *leaf);
        let stored = journal.handle.leaf_hash_before(entry.seq + 1);
        assert_eq!(stored, Some(leaf_hash(&entry.record.leaf())));
    }
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
    common::flip(&path.with_extension("leaf"), 70);
    let report = fsck::check(&RealFs, dir.path()).unwrap();
    assert_eq!(
        report.generations[0].segments[0].problems,
        [fsck::Problem::Leaves { seq: 1 }]
    );
}

#[test]
fn a_segment_begins_with_all_states_that_have_not_expired() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    journal.submit(state("app", b"stays", 0, b"1")).unwrap();
    journal
        .submit(state("app", b"later", now + 3_600_000_000_000, b"2"))
        .unwrap();
    journal.submit(state("app", b"expired", now + 1, b"3")).unwrap();
    journal.submit(state("kernel", b"removed", 0, b"4")).unwrap();
    journal.submit(state("kernel", b"removed", 0, b"")).unwrap();
    while files(dir.path(), ".seg").len() < 2 {
        journal.submit(event(&"x".repeat(900))).unwrap();
    }
    let second = files(dir.path(), ".seg")[1];
    let (records, gaps) = journal.read(second);
    assert!(gaps.is_empty());
    let kinds: Vec<Kind> = records.iter().take(3).map(|record| record.1).collect();
    assert_eq!(kinds, [Kind::State, Kind::State, Kind::Application]);
    let crashed = image(dir.path());
    journal.close();
    let journal = Journal::open(crashed.path());
    let states = &journal.opened.states;
    assert_eq!(states.len(), 1);
    let keys: Vec<_> = states[&source_hash("app")].keys().cloned().collect();
    assert_eq!(keys, [b"later".to_vec(), b"stays".to_vec()]);
    journal.close();
}

#[test]
fn what_a_source_remembers_is_told_as_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let app = source_hash("app");
    let ask = || {
        let (tell, told) = std::sync::mpsc::channel();
        journal.handle.states(app, move |states| tell.send(states).unwrap());
        told.recv_timeout(common::WAIT).unwrap()
    };
    let keys = |states: &auditmon_journal::SourceStates| -> Vec<Vec<u8>> { states.keys().cloned().collect() };
    assert_eq!(ask(), Some(Default::default()));
    let remember = |key: &[u8], expiry: u64, value: &[u8]| {
        let mut records = Records::new();
        records
            .push_state("app", [0; 16], 1, [0; 16], key, expiry, value)
            .unwrap();
        records
    };
    journal.submit(remember(b"gone", 1, b"v")).unwrap();
    journal.submit(remember(b"kept", 0, b"v")).unwrap();
    // Queued before, and in no hurry: it is waited for, and its wait ends.
    let patient = Linger {
        max_wait: Duration::from_secs(3600),
        max_bytes: 1 << 20,
    };
    let answer = journal.send(remember(b"late", 0, b"v"), patient);
    assert_eq!(keys(&ask().unwrap()), [b"kept".to_vec(), b"late".to_vec()]);
    answer.recv_timeout(common::WAIT).unwrap().unwrap();
    journal.submit(remember(b"kept", 0, b"")).unwrap();
    assert_eq!(keys(&ask().unwrap()), [b"late".to_vec()]);
    let (tell, told) = std::sync::mpsc::channel();
    journal
        .handle
        .states(source_hash("other"), move |states| tell.send(states).unwrap());
    assert_eq!(told.recv_timeout(common::WAIT).unwrap(), Some(Default::default()));
    assert!(journal.handle.close(common::WAIT));
    assert_eq!(ask(), None, "closed");
}

#[test]
fn more_states_than_a_frame_may_have_are_repeated_in_several() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    for batch in 0..3u16 {
        let mut records = Records::new();
        for index in 0..900u16 {
            let key = (batch * 900 + index).to_be_bytes();
            records.push_state("app", [0; 16], 1, [0; 16], &key, 0, &key).unwrap();
        }
        journal.submit(records).unwrap();
    }
    journal.submit(event(&"x".repeat(8000))).unwrap();
    let crashed = image(dir.path());
    journal.close();
    let newest = *files(crashed.path(), ".seg").last().unwrap();
    let counts: Vec<u32> = frames(&seg(crashed.path(), newest))
        .iter()
        .take(3)
        .map(|frame| frame.3)
        .collect();
    assert_eq!(counts, [1000, 1000, 700]);
    let journal = Journal::open(crashed.path());
    assert_eq!(journal.opened.states[&source_hash("app")].len(), 2700);
    journal.close();
}

#[test]
fn a_source_remembers_at_most_8_mib() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.segment_size = 32 << 20;
    let journal = Journal::with(RealFs, options);
    let value = vec![1; (64 << 10) - 14];
    let fits = MAX_MEMORY / (64 << 10);
    for key in 0..fits as u32 {
        journal.submit(state("app", &key.to_be_bytes(), 0, &value)).unwrap();
    }
    let more = || state("app", b"more", 0, &value);
    assert_eq!(journal.submit(more()), Err(Refused::TooLarge));
    journal.submit(state("app", &[0; 4], 0, b"")).unwrap();
    journal.submit(more()).unwrap();
    journal.submit(state("other", b"k", 0, &value)).unwrap();
    journal.close();
}

#[test]
fn a_frame_longer_than_a_segment_makes_one_longer() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    let long = "x".repeat(100_000);
    journal.write(&[&long, "b"]);
    assert_eq!(journal.texts(), ["a", long.as_str(), "b"]);
    journal.close();
    let journal = Journal::open(dir.path());
    assert_eq!(journal.texts(), ["a", long.as_str(), "b"]);
    journal.close();
}

#[test]
fn limits_of_a_frame() {
    let mut records = Records::new();
    let prefix = prefix(Kind::Application);
    for _ in 0..10_000 {
        records.push(&prefix, [0; 16], |out| out.push(1)).unwrap();
    }
    let full = records.as_bytes().len();
    let more = records.push(&prefix, [0; 16], |out| out.push(1));
    assert_eq!(more, Err(PushError::Events));
    for key in 0..1000u16 {
        let key = key.to_be_bytes();
        records.push_state("app", [0; 16], 1, [0; 16], &key, 0, b"v").unwrap();
    }
    let more = records.push_state("app", [0; 16], 1, [0; 16], b"k", 0, b"v");
    assert_eq!(more, Err(PushError::States));
    assert!(records.as_bytes().len() > full);
    records.clear();
    let block = vec![0; 12 << 20];
    records.push(&prefix, [0; 16], |out| out.extend(&block)).unwrap();
    let before = records.as_bytes().len();
    let more = records.push(&prefix, [0; 16], |out| out.extend(&block));
    assert_eq!(more, Err(PushError::Bytes));
    assert_eq!((records.as_bytes().len(), records.events()), (before, 1));
    let failed: Result<(), PushError> = records.try_push(&prefix, [0; 16], |out| {
        out.extend(b"half");
        Err(PushError::Order)
    });
    assert_eq!(failed, Err(PushError::Order));
    assert_eq!(records.as_bytes().len(), before, "rolled back");
    records.clear();
    let long = vec![0; 64 << 10];
    let state = records.push_state("app", [0; 16], 1, [0; 16], b"k", 0, &long);
    assert_eq!(state, Err(PushError::State));
    records.push_state("app", [0; 16], 1, [0; 16], b"k", 0, b"v").unwrap();
    assert_eq!(records.push(&prefix, [0; 16], |_| ()), Err(PushError::Order));
}

#[test]
fn closing_answers_everyone_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let linger = Linger {
        max_wait: Duration::from_secs(60),
        max_bytes: 1 << 30,
    };
    let waiting: Vec<_> = (0..5).map(|_| journal.send(event("x"), linger)).collect();
    assert!(journal.handle.clone().close(common::WAIT));
    for answer in waiting {
        answer.recv().unwrap().unwrap();
        assert!(answer.recv().is_err(), "only once");
    }
    let late = journal.submit(event("late"));
    assert!(matches!(late, Err(Refused::Closed | Refused::Draining)));
    assert!(journal.handle.close(common::WAIT), "twice is fine");
}

#[test]
fn dump_shows_what_is_proven() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b", "c"]);
    let seqs = |running| {
        let mut dump = Dump::new(RealFs, dir.path(), running).unwrap();
        let mut seqs = Vec::new();
        while let Some(item) = dump.next().unwrap() {
            if let DumpItem::Records(batch) = item {
                seqs.extend(batch.iter().map(|entry| entry.seq));
            }
        }
        seqs
    };
    assert!(seqs(true).len() >= 2, "the last waits for its mark");
    wait_for("a mark", || seqs(true) == [0, 1, 2]);
    journal.close();
    assert_eq!(seqs(false), [0, 1, 2]);
}

#[test]
fn the_lock_names_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    match DirLock::acquire(dir.path()) {
        Err(LockError::Held { pid, command }) => {
            assert_eq!(pid, std::process::id());
            assert!(!command.is_empty() && command != "unknown");
        }
        other => panic!("{other:?}"),
    }
    drop(lock);
    DirLock::acquire(dir.path()).unwrap();
}
