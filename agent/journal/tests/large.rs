//! Frames that readers take in pieces.

#![allow(clippy::unwrap_used)]

mod common;

use auditmon_journal::bare::{Submission, Time};
use auditmon_journal::format::{FRAME_HEAD, Kind, RECORD_HEAD, leaf_hash};
use auditmon_journal::{Gap, GapReason, Item, RealFs, Records, fsck};
use common::{Journal, Seen, files, flip, frames, now_ns, options, prefix, seg, wait_for};

/// Payloads of about 12 MiB: many short ones, some around a piece's size, one longer than a batch of a sink.
fn texts() -> Vec<Vec<u8>> {
    let mib = 1 << 20;
    let sizes = [
        vec![700; 3_000],
        vec![1, mib - RECORD_HEAD - 1, mib - RECORD_HEAD, mib - RECORD_HEAD + 1, 1],
        vec![5 * mib],
        vec![300_000; 5],
    ];
    let sizes = sizes.concat();
    (0..).zip(sizes).map(|(index, size)| vec![index as u8; size]).collect()
}

fn large() -> Records {
    let mut records = Records::new();
    for text in texts() {
        let prefix = prefix(Kind::Application);
        records.push(&prefix, [5; 16], |out| out.extend(text)).unwrap();
    }
    records.push_state("app", [0; 16], 1, [0; 16], b"k", 0, b"v").unwrap();
    records
}

/// One event, a large frame of some thousands of records, one event.
fn written(journal: &Journal) -> (Vec<Seen>, u64) {
    journal.write(&["before"]);
    let committed = journal.submit(large()).unwrap();
    assert_eq!(committed.first_seq, 1);
    let behind = journal.write(&["behind"])[0].first_seq;
    let mut all = vec![(0, Kind::Application, b"before".to_vec())];
    all.extend((1..).zip(texts()).map(|(seq, text)| (seq, Kind::Application, text)));
    (all, behind)
}

fn applications(records: Vec<Seen>) -> Vec<Seen> {
    let wanted = |(_, kind, _): &Seen| *kind == Kind::Application;
    records.into_iter().filter(wanted).collect()
}

#[test]
fn a_large_frame_is_read_in_pieces_from_any_record_on() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let (mut all, behind) = written(&journal);
    all.push((behind, Kind::Application, b"behind".to_vec()));
    for from in [
        0,
        1,
        2,
        1_499,
        1_500,
        3_001,
        3_002,
        3_004,
        3_006,
        3_007,
        behind - 1,
        behind,
    ] {
        let (records, gaps) = journal.read(from);
        let expected: Vec<_> = all.iter().filter(|(seq, ..)| *seq >= from).cloned().collect();
        assert!(applications(records) == expected && gaps.is_empty(), "from {from}");
    }

    let mut reader = journal.handle.reader(0);
    let (mut next, mut batches) = (0, 0);
    while let Some(Item::Records(batch)) = reader.next().unwrap() {
        assert_eq!(batch.first_seq(), next);
        next = batch.next_seq();
        batches += 1;
        let longest = batch.iter().map(|entry| entry.record.payload().unwrap().len()).max();
        let most = (256 << 10) + longest.unwrap().max(1 << 20) + RECORD_HEAD;
        assert!(batch.bytes() <= most, "{}", batch.bytes());
    }
    assert_eq!(next, journal.handle.durable());
    assert!(batches >= 8, "{batches}");
    journal.close();
}

/// One that ends with its last frame says that the run ended in order: a kill within the write would look like damage.
#[test]
fn the_first_frame_of_a_segment_may_be_longer_than_it_and_does_not_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = auditmon_journal::open(RealFs, options(dir.path())).unwrap();
    let mut core = writer.into_core();
    let (done, answer) = std::sync::mpsc::channel();
    let submission = Submission {
        records: large(),
        done: Box::new(move |fate| done.send(fate).unwrap()),
        since_ns: 1,
        own: false,
    };
    let len = submission.records.bytes() as u64;
    assert!(len > 100 * options(dir.path()).segment_size);
    let now = Time {
        wall_ns: now_ns(),
        mono_ns: 1,
    };
    core.commit([submission], now);
    assert_eq!(answer.recv().unwrap().unwrap().first_seq, 0);
    let newest = files(dir.path(), ".seg").pop().unwrap();
    let size = std::fs::metadata(seg(dir.path(), newest)).unwrap().len();
    // As much as the shortest frame, and more, is left behind it.
    assert!(size > len + 29, "{size} of {len}");
    drop(core);
    let (_, opened) = auditmon_journal::open(RealFs, options(dir.path())).unwrap();
    assert!(!opened.clean_stop);
}

#[test]
fn a_large_frame_is_sealed_with_all_its_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let _ = written(&journal);
    wait_for("sealed", || files(dir.path(), ".leaf").contains(&1));
    let mut hashes = Vec::new();
    let mut reader = journal.handle.reader(0);
    while let Some(Item::Records(batch)) = reader.next().unwrap() {
        hashes.extend(batch.iter().map(|entry| leaf_hash(&entry.record.leaf())));
    }
    for seq in [1, 2, 1_500, 3_001, 3_007, 3_012] {
        let stored = journal.handle.leaf_hash_before(seq as u64 + 1);
        assert_eq!(stored, Some(hashes[seq]), "{seq}");
    }
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
}

#[test]
fn damage_anywhere_in_a_large_frame_is_a_gap_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.segment_size = 64 << 20;
    let journal = Journal::with(RealFs, options);
    let (_, behind) = written(&journal);
    let path = seg(dir.path(), 0);
    let (offset, first, ..) = frames(&path)[1];
    let end = frames(&path)[2].0;
    let gap = Gap {
        first,
        last: behind - 1,
        reason: GapReason::Damaged,
    };
    // Its head, the length of its first record, bytes of pieces in the middle and the last.
    let middle = (offset + end) / 2;
    for at in [offset + 9, offset + FRAME_HEAD + 1, middle, middle + (3 << 20), end - 1] {
        flip(&path, at);
        let (records, gaps) = journal.read(0);
        assert_eq!(gaps, [gap], "byte {at}");
        assert_eq!(applications(records).len(), 2);
        flip(&path, at);
    }
    assert!(journal.read(0).1.is_empty());

    // What goes bad between two pieces is an error, and a gap when it is read again.
    let mut reader = journal.handle.reader(0);
    while reader.seq() <= first {
        assert!(matches!(reader.next().unwrap(), Some(Item::Records(_))));
    }
    let read = reader.seq();
    flip(&path, end - 1);
    let error = loop {
        match reader.next() {
            Ok(Some(Item::Records(_))) => {}
            Ok(item) => panic!("{item:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let Some(Item::Gap(rest)) = reader.next().unwrap() else {
        panic!("no gap");
    };
    assert!(rest.first > read && rest.last == behind - 1, "{rest:?}");
    journal.close();
}
