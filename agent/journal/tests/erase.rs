//! Erasing payloads beside a running writer and its readers.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::path::Path;
use std::sync::mpsc::channel;

use auditmon_journal::format::{Kind, Record, leaf_hash};
use auditmon_journal::{Erased, GapReason, Item, Reader, RealFs, fsck};
use common::{Journal, WAIT, event, files, flip, frames, now_ns, options, prefix, seg, state, wait_for};

fn erase(journal: &Journal, seq: u64) -> io::Result<Erased> {
    let (tell, told) = channel();
    journal.handle.erase(seq, move |erased| tell.send(erased).unwrap());
    told.recv_timeout(WAIT).unwrap()
}

/// A text of its own, long enough that a segment has few of them.
fn text(n: u64) -> String {
    format!("event {n:04} {}", "x".repeat(900))
}

/// Writes events until there are this many segments; gives the seq of each, by its number.
fn fill(journal: &Journal, dir: &Path, segments: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while files(dir, ".seg").len() < segments {
        let committed = journal.submit(event(&text(seqs.len() as u64))).unwrap();
        seqs.push(committed.first_seq);
    }
    seqs
}

/// Seq, and payload unless it was erased.
fn see(record: &Record<'_>) -> Option<String> {
    record
        .payload()
        .map(|payload| String::from_utf8_lossy(payload).into_owned())
}

fn rest(reader: &mut Reader) -> Vec<(u64, Option<String>)> {
    let mut seen = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        let Item::Records(batch) = item else { panic!("{item:?}") };
        seen.extend(batch.iter().map(|entry| (entry.seq, see(&entry.record))));
    }
    seen
}

fn is_anywhere(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(common::seg_dir(dir)).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn in_an_old_segment_and_in_the_newest_and_readers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::held(options(dir.path()));
    let seqs = fill(&journal, dir.path(), 4);
    let (old, new) = (2, seqs.len() - 1);
    // One that has read a part of the segment, and one that stands behind the record in it.
    let mut before = journal.handle.reader(0);
    let mut behind = journal.handle.reader(seqs[old + 2]);
    let first: Vec<u64> = [&mut before, &mut behind]
        .map(|reader| match reader.next().unwrap().unwrap() {
            Item::Records(batch) => batch.next_seq(),
            Item::Gap(gap) => panic!("{gap:?}"),
        })
        .to_vec();
    let leaves: Vec<_> = (1..=journal.handle.durable())
        .map(|seq| journal.handle.leaf_hash_before(seq))
        .collect();

    for n in [old, new] {
        assert!(is_anywhere(dir.path(), &text(n as u64)));
        assert_eq!(erase(&journal, seqs[n]).unwrap(), Erased::Now);
        assert!(!is_anywhere(dir.path(), &text(n as u64)));
        assert_eq!(erase(&journal, seqs[n]).unwrap(), Erased::Before);
    }
    journal.write(&["after"]);
    let expected = |seq: u64| {
        let n = seqs.iter().position(|at| *at == seq)?;
        (n != old && n != new).then(|| text(n as u64))
    };
    for (mut reader, from) in [
        (journal.handle.reader(0), 0),
        (journal.handle.reader(seqs[old] + 1), seqs[old] + 1),
        (before, first[0]),
        (behind, first[1]),
    ] {
        let seen = rest(&mut reader);
        let places: Vec<u64> = seen.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(places, (from..journal.handle.durable()).collect::<Vec<_>>());
        for (seq, payload) in seen.iter().filter(|(seq, _)| seqs.contains(seq)) {
            assert_eq!(*payload, expected(*seq), "{seq}");
        }
        assert_eq!(seen.last().unwrap().1.as_deref(), Some("after"));
    }
    let again: Vec<_> = (1..=leaves.len() as u64)
        .map(|seq| journal.handle.leaf_hash_before(seq))
        .collect();
    assert_eq!(again, leaves, "the tree is the same");
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());

    journal.close();
    let journal = Journal::open(dir.path());
    assert!(journal.opened.findings.is_empty(), "{:?}", journal.opened.findings);
    assert_eq!(erase(&journal, seqs[old]).unwrap(), Erased::Before);
    let mut reader = journal.handle.reader(seqs[old]);
    let Some(Item::Records(batch)) = reader.next().unwrap() else {
        panic!()
    };
    let entry = batch.iter().next().unwrap();
    assert_eq!((entry.seq, entry.record.payload()), (seqs[old], None));
    assert_eq!(Some(leaf_hash(&entry.record.leaf())), leaves[seqs[old] as usize]);
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
}

#[test]
fn one_of_many_in_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let mut records = auditmon_journal::Records::new();
    for n in 0..3 {
        let event = prefix(Kind::Application);
        records
            .push(&event, [n; 16], |out| out.extend(format!("part {n}").bytes()))
            .unwrap();
    }
    records
        .push_state("app", [3; 16], now_ns(), [4; 16], b"k", 0, b"v")
        .unwrap();
    let first = journal.submit(records).unwrap().first_seq;
    assert_eq!(erase(&journal, first + 1).unwrap(), Erased::Now);
    let seen = rest(&mut journal.handle.reader(first));
    let payloads: Vec<_> = seen.iter().take(3).map(|(_, payload)| payload.as_deref()).collect();
    assert_eq!(payloads, [Some("part 0"), None, Some("part 2")]);
    let frames = frames(&seg(dir.path(), files(dir.path(), ".seg")[0]));
    assert!(frames.iter().any(|(_, seq, _, count)| (*seq, *count) == (first, 4)));
    journal.close();
    let journal = Journal::open(dir.path());
    assert_eq!(journal.opened.states.len(), 1, "what sources remember stays");
    journal.close();
}

#[test]
fn what_is_no_event_or_not_there_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let state = journal.submit(state("app", b"k", 0, b"v")).unwrap().first_seq;
    assert_eq!(erase(&journal, state).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let beyond = journal.handle.durable() + 7;
    assert_eq!(erase(&journal, beyond).unwrap_err().kind(), io::ErrorKind::NotFound);
    journal.close();
}

#[test]
fn what_retention_has_removed_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.keep_size = 1;
    let journal = Journal::with(RealFs, options);
    let seqs: Vec<u64> = (0..40)
        .map(|n| journal.submit(event(&text(n))).unwrap().first_seq)
        .collect();
    wait_for("retention", || journal.handle.status().oldest_payload > seqs[1]);
    assert_eq!(erase(&journal, seqs[1]).unwrap(), Erased::Gone);
    journal.close();
}

#[test]
fn damage_before_it_is_passed_and_what_is_damaged_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::held(options(dir.path()));
    let seqs = fill(&journal, dir.path(), 3);
    wait_for("sealed", || files(dir.path(), ".leaf").len() == 2);
    let segment = files(dir.path(), ".seg")[0];
    let place = frames(&seg(dir.path(), segment))
        .iter()
        .find(|(_, seq, _, _)| *seq == seqs[1])
        .unwrap()
        .0;
    flip(&seg(dir.path(), segment), place + 200);
    assert_eq!(erase(&journal, seqs[1]).unwrap(), Erased::Damaged);
    assert_eq!(erase(&journal, seqs[2]).unwrap(), Erased::Now);
    assert!(!is_anywhere(dir.path(), &text(2)));
    let mut reader = journal.handle.reader(seqs[0]);
    let mut gaps = Vec::new();
    let mut read = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Gap(gap) => gaps.push((gap.first, gap.last, gap.reason)),
            Item::Records(batch) => read.extend(batch.iter().map(|entry| entry.seq)),
        }
    }
    assert_eq!(gaps, [(seqs[1], seqs[1], GapReason::Damaged)], "no more than before");
    assert!(read.contains(&seqs[0]) && read.contains(&seqs[2]) && read.contains(&seqs[3]));
    journal.close();
}

#[test]
fn readers_beside_it_see_every_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::held(options(dir.path()));
    let seqs = fill(&journal, dir.path(), 3);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0_u64;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) || rounds == 0 {
                        let end = journal.handle.durable();
                        let from = seqs[rounds as usize % seqs.len()];
                        let mut reader = journal.handle.reader(from);
                        let seen = rest(&mut reader);
                        let places: Vec<u64> = seen.iter().map(|(seq, _)| *seq).take_while(|seq| *seq < end).collect();
                        assert_eq!(places, (from..end).collect::<Vec<_>>());
                        rounds += 1;
                    }
                })
            })
            .collect();
        for seq in &seqs {
            assert_eq!(erase(&journal, *seq).unwrap(), Erased::Now);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
}
