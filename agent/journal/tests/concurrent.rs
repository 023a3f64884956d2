//! Writers, readers, retention, fsck and dump at the same time.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auditmon_journal::format::Kind;
use auditmon_journal::{Dump, DumpItem, GapReason, Item, RealFs, fsck};
use common::{Journal, event, options};

#[test]
fn everyone_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.segment_size = 64 << 10;
    options.keep_age = Duration::ZERO;
    let journal = Journal::with(RealFs, options);
    journal.handle.set_hold("follower", Some(0));
    let stop = AtomicBool::new(false);
    let writers = AtomicU64::new(4);
    let accepted = AtomicU64::new(0);
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while Instant::now() < end {
                    journal.submit(event(&"x".repeat(400))).unwrap();
                    accepted.fetch_add(1, Ordering::SeqCst);
                }
                stop.store(true, Ordering::SeqCst);
                writers.fetch_sub(1, Ordering::SeqCst);
            });
        }
        // Follows the head, misses nothing, and lets retention follow it.
        let follower = scope.spawn(|| {
            let mut reader = journal.handle.reader(0);
            let mut events = 0;
            loop {
                let done = writers.load(Ordering::SeqCst) == 0;
                match reader.next().unwrap() {
                    Some(Item::Records(batch)) => {
                        for (seq, entry) in (batch.first_seq()..).zip(batch.iter()) {
                            assert_eq!(entry.seq, seq);
                            events += u64::from(entry.record.prefix.kind == Kind::Application);
                        }
                        journal.handle.set_hold("follower", Some(reader.seq()));
                    }
                    Some(Item::Gap(gap)) => panic!("{gap:?}"),
                    None if done && events == accepted.load(Ordering::SeqCst) => break events,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        // Begins at the front again and again, where payloads vanish.
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let mut reader = journal.handle.reader(0);
                while let Some(item) = reader.next().unwrap() {
                    if let Item::Gap(gap) = item {
                        assert_eq!(gap.reason, GapReason::Expired, "{gap:?}");
                    }
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let report = fsck::check(&RealFs, dir.path()).unwrap();
                assert!(report.is_clean(), "{report:?}");
                let mut dump = Dump::new(RealFs, dir.path(), true).unwrap();
                while let Some(item) = dump.next().unwrap() {
                    if let DumpItem::Gap(gap) = item {
                        assert_eq!(gap.reason, GapReason::Expired, "{gap:?}");
                    }
                }
            }
        });
        let events = follower.join().unwrap();
        assert_eq!(events, accepted.load(Ordering::SeqCst));
    });
    let status = journal.handle.status();
    assert!(status.oldest_payload > 0, "retention ran");
    assert!(status.metrics.syncs < status.metrics.frames, "syncs are shared");
    println!("{} events, {:?}", accepted.load(Ordering::SeqCst), status.metrics);
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
}
