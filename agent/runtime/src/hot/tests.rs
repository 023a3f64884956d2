use std::path::Path;

use auditmon_core::batch::push_agent_event;
use auditmon_core::emitter::{Emitter, SourceMetrics};
use auditmon_core::event::{Data, Draft, Kind};
use auditmon_journal::{Linger, Options, RealFs};
use tokio_util::sync::CancellationToken;

use super::*;

struct Journal {
    handle: Handle,
    emitter: Emitter,
}

impl Journal {
    fn open(dir: &Path) -> Self {
        let note = |_, records: &mut _| {
            push_agent_event(records, "h", Draft::new("journal", "agent")).unwrap();
        };
        let options = Options {
            reserve: 0,
            segment_size: 4 << 20,
            ..Options::new(dir, "h", Box::new(note))
        };
        let (writer, _) = auditmon_journal::open(RealFs, options).unwrap();
        writer.set_hold("test", 0);
        let handle = writer.spawn(Box::new(|_| ())).unwrap();
        let metrics = SourceMetrics::new().unwrap();
        let stop = CancellationToken::new();
        let emitter = Emitter::new("test", Kind::Application, "h".into(), handle.clone(), stop, metrics);
        Self { handle, emitter }
    }

    /// One frame of `n` events of about 1 KiB.
    async fn emit(&self, n: usize) {
        let data = format!("{{\"text\":\"{}\"}}", "x".repeat(700));
        let mut batch = self.emitter.batch();
        for _ in 0..n {
            batch
                .push(Draft {
                    data: Data::Raw(&data),
                    ..Draft::new("login", "alice")
                })
                .unwrap();
        }
        self.emitter.emit(batch, Linger::NONE).await.unwrap();
    }
}

fn part(next: Next) -> Arc<Decoded> {
    match next {
        Next::Part(part) => part,
        Next::Gap(gap) => panic!("{gap:?}"),
        Next::Nothing => panic!("nothing"),
    }
}

/// A sink that reads to the end; returns how many parts that were.
fn read_all(hot: &Hot, name: &'static str, seq: &mut u64) -> usize {
    let (mut own, mut parts) = (None, 0);
    hot.at(name, Some(*seq));
    while let Next::Part(part) = hot.next(*seq, &mut own).unwrap() {
        assert!((part.first_seq()..part.next_seq()).contains(seq));
        *seq = part.next_seq();
        hot.at(name, Some(*seq));
        parts += 1;
    }
    parts
}

fn made(hot: &Hot) -> usize {
    hot.made.lock().len()
}

#[tokio::test]
async fn what_one_sink_has_read_is_given_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let hot = Hot::new(journal.handle.clone(), DEFAULT_LIMIT);
    let mut places = [0; 3];
    for name in ["a", "b", "c"] {
        hot.at(name, Some(0));
    }
    for _ in 0..20 {
        journal.emit(5).await;
        for (name, seq) in ["a", "b", "c"].into_iter().zip(&mut places) {
            assert_eq!(read_all(&hot, name, seq), 1);
        }
    }
    assert_eq!(places, [100; 3]);
    assert_eq!(made(&hot), 20, "each part was decoded once");
    assert_eq!(hot.alive(), 0, "what all have passed is gone");
}

#[tokio::test]
async fn many_sinks_that_wait_for_the_same_part_read_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.emit(200).await;
    let hot = Hot::new(journal.handle.clone(), DEFAULT_LIMIT);
    let gate = std::sync::Barrier::new(8);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    gate.wait();
                    part(hot.next(0, &mut None).unwrap())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(parts.iter().all(|part| Arc::ptr_eq(part, &parts[0])));
    assert_eq!(made(&hot), 1);
}

/// Whether any segment of the journal is open.
fn has_open_segment(dir: &Path) -> bool {
    let segments = std::fs::canonicalize(dir).unwrap().join("journal/1/seg");
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut paths = open.filter_map(|fd| {
        let info = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(fd.file_name())).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let path = std::fs::read_link(fd.path()).ok()?;
        flags.trim().ends_with('0').then_some(path)
    });
    paths.any(|path| path.starts_with(&segments))
}

#[tokio::test]
async fn who_follows_the_head_does_not_read_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.emit(3).await;
    let hot = Hot::new(journal.handle.clone(), DEFAULT_LIMIT);
    let (mut seq, mut from_disk) = (0, 0);
    read_all(&hot, "a", &mut seq);
    assert!(has_open_segment(dir.path()), "what was there before is read");
    for n in [1, 400, 2] {
        from_disk = seq;
        journal.emit(n).await;
        read_all(&hot, "a", &mut seq);
        assert_eq!(seq, from_disk + n as u64);
        assert!(!has_open_segment(dir.path()));
    }
    // Another one, which comes later, does.
    let mut own = None;
    part(hot.next(from_disk, &mut own).unwrap());
    assert!(has_open_segment(dir.path()));
    // So does one after what is in memory was forgotten, because something of it was erased.
    drop(own);
    journal.emit(1).await;
    hot.forget();
    read_all(&hot, "a", &mut seq);
    assert!(has_open_segment(dir.path()));
}

#[tokio::test]
async fn nothing_is_kept_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let hot = Hot::new(journal.handle.clone(), DEFAULT_LIMIT);
    let mut seq = 0;
    read_all(&hot, "a", &mut seq);
    journal.emit(2).await;
    hot.at("a", None);
    assert!(journal.handle.take_recent(0).is_none());
}

#[tokio::test]
async fn a_sink_that_is_behind_reads_for_itself_until_it_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let hot = Hot::new(journal.handle.clone(), 1 << 20);
    let (mut fast, mut slow) = (0, 0);
    hot.at("slow", Some(0));
    for _ in 0..40 {
        journal.emit(100).await;
        read_all(&hot, "fast", &mut fast);
    }
    let ring = || {
        let ring = hot.ring.lock();
        (ring.parts.front().unwrap().first_seq(), ring.end, ring.bytes)
    };
    let before = ring();
    assert!(
        before.0 > 2_000 && before.1 == 4_000 && before.2 <= 1 << 20,
        "{before:?}"
    );
    let mut own = None;
    while slow < before.0 {
        slow = part(hot.next(slow, &mut own).unwrap()).next_seq();
        assert!(own.is_some() || slow >= before.0);
        assert_eq!(ring(), before, "the ring stays as it is");
    }
    let decoded = made(&hot);
    assert!(part(hot.next(slow, &mut own).unwrap()).first_seq() <= slow);
    assert!(own.is_none() && made(&hot) == decoded, "from the ring now");
}

#[tokio::test]
async fn memory_is_bounded_however_far_a_sink_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let limit = 1 << 20;
    let hot = Hot::new(journal.handle.clone(), limit);
    hot.at("stuck", Some(0));
    let mut fast = 0;
    let mut most = 0;
    for _ in 0..200 {
        journal.emit(100).await;
        read_all(&hot, "fast", &mut fast);
        most = most.max(hot.alive());
    }
    // 20 MiB went by; the newest part may come on top.
    assert!(most > limit / 2 && most <= limit + (512 << 10), "{most}");
    hot.at("stuck", None);
    assert_eq!(hot.alive(), 0);
}

#[tokio::test]
async fn one_that_begins_at_the_head_takes_the_ring_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.emit(100).await;
    let hot = Hot::new(journal.handle.clone(), DEFAULT_LIMIT);
    hot.at("store", Some(0));
    let first = part(hot.next(0, &mut None).unwrap());
    journal.emit(100).await;
    journal.emit(100).await;
    let live = part(hot.next(250, &mut None).unwrap());
    assert_eq!((first.next_seq(), live.first_seq(), live.next_seq()), (100, 250, 300));
    // The one behind finds everything all the same.
    let mut seq = 100;
    read_all(&hot, "store", &mut seq);
    assert_eq!(seq, 300);
}

#[tokio::test]
async fn what_is_gone_is_a_gap_for_each_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    let note = |_, records: &mut _| {
        push_agent_event(records, "h", Draft::new("journal", "agent")).unwrap();
    };
    let options = Options {
        reserve: 0,
        segment_size: 64 << 10,
        max_size: 256 << 10,
        ..Options::new(dir.path(), "h", Box::new(note))
    };
    let (writer, _) = auditmon_journal::open(RealFs, options).unwrap();
    writer.set_yielding_hold("test", 0);
    let handle = writer.spawn(Box::new(|_| ())).unwrap();
    let metrics = SourceMetrics::new().unwrap();
    let stop = CancellationToken::new();
    let emitter = Emitter::new("test", Kind::Application, "h".into(), handle.clone(), stop, metrics);
    let journal = Journal { handle, emitter };
    let hot = Hot::new(journal.handle.clone(), DEFAULT_LIMIT);
    while journal.handle.status().oldest_payload == 0 {
        let mut batch = journal.emitter.batch();
        for _ in 0..20 {
            batch.push(Draft::new("login", "alice")).unwrap();
        }
        // A full journal is waited for.
        let _ = journal.emitter.emit(batch, Linger::NONE).await;
    }
    for _ in 0..2 {
        let mut own = None;
        let Next::Gap(gap) = hot.next(0, &mut own).unwrap() else {
            panic!()
        };
        assert_eq!((gap.first, gap.last + 1), (0, journal.handle.status().oldest_payload));
        assert_eq!(
            part(hot.next(gap.last + 1, &mut own).unwrap()).first_seq(),
            gap.last + 1
        );
    }
}
