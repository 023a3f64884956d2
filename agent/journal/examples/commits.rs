//! Commits and events a second with many waiting submitters, beside a bare loop
//! of `pwrite` and `fdatasync` on the same directory.
//!
//! `cargo run --release -p auditmon-journal --example commits [DIR] [SECONDS]`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{Linger, Options, RealFs, Records, open};
use rustix::fs::{FallocateFlags, fallocate, fdatasync};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const PAYLOAD: usize = 410;
const SEGMENT: u64 = 64 << 20;

fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| ".".to_owned());
    let seconds = args.next().and_then(|s| s.parse().ok()).unwrap_or(5);
    let base = tempfile::tempdir_in(dir)?;
    println!("way                                     commits/s   events/s   p50 µs   p99 µs");
    for (name, zeros) in [("bare, fallocate", false), ("bare, zeros written before", true)] {
        bare(base.path(), name, zeros, 512, seconds)?;
        bare(base.path(), name, zeros, 32 << 10, seconds)?;
    }
    for submitters in [1, 8, 64] {
        journal(base.path(), submitters, 1, Linger::NONE, seconds)?;
    }
    journal(base.path(), 8, 100, Linger::NONE, seconds)?;
    let linger = Linger {
        max_wait: Duration::from_millis(1),
        max_bytes: 256 << 10,
    };
    journal(base.path(), 64, 1, linger, seconds)
}

/// One thread that writes `bytes` and syncs, again and again.
fn bare(dir: &Path, name: &str, zeros: bool, bytes: usize, seconds: u64) -> Outcome {
    let path = dir.join("bare");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    fallocate(&file, FallocateFlags::empty(), 0, SEGMENT)?;
    if zeros {
        let block = vec![0; 1 << 20];
        for at in (0..SEGMENT).step_by(block.len()) {
            file.write_all_at(&block, at)?;
        }
    }
    file.sync_all()?;
    let block = vec![7; bytes];
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut at = 0;
    // Only as long as it is preallocated: that is what is measured.
    while begin.elapsed().as_secs() < seconds && at + bytes as u64 <= SEGMENT {
        let one = Instant::now();
        file.write_all_at(&block, at)?;
        fdatasync(&file)?;
        times.push(one.elapsed());
        at += bytes as u64;
    }
    let took = begin.elapsed();
    std::fs::remove_file(path)?;
    let label = format!("{name}, {bytes} B");
    line(&label, times.len() as u64, None, took, times);
    Ok(())
}

fn journal(dir: &Path, submitters: usize, events: u32, linger: Linger, seconds: u64) -> Outcome {
    let dir = tempfile::tempdir_in(dir)?;
    let prefix = Prefix {
        event_id: [7; 16],
        received_ns: 1,
        kind: Kind::Application,
        source: source_hash("bench"),
    };
    let note = Box::new(move |_, records: &mut Records| {
        let _ = records.push(&prefix, [0; 16], |out| out.push(b'-'));
    });
    let (writer, _) = open(RealFs, Options::new(dir.path(), "bench", note))?;
    let handle = writer.spawn(Box::new(|_| {}))?;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let threads: Vec<_> = (0..submitters)
        .map(|_| {
            let handle = handle.clone();
            let stop = Arc::clone(&stop);
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                let payload = [b'x'; PAYLOAD];
                let (answer, answers) = sync_channel(1);
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let one = Instant::now();
                    let mut records = Records::new();
                    for _ in 0..events {
                        let _ = records.push(&prefix, [1; 16], |out| out.extend(payload));
                    }
                    let answer = answer.clone();
                    let tell = Box::new(move |fate: Result<_, _>| {
                        let _ = answer.send(fate.is_ok());
                    });
                    handle.submit(records, linger, tell);
                    if answers.recv() != Ok(true) {
                        break;
                    }
                    done.fetch_add(u64::from(events), Ordering::Relaxed);
                    times.push(one.elapsed());
                }
                times
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(seconds));
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| "a submitter panicked")?);
    }
    let took = begin.elapsed();
    let syncs = handle.status().metrics.syncs;
    handle.close(Duration::from_secs(5));
    let wait = linger.max_wait.as_millis();
    let label = format!("journal, {submitters} submitters x {events}, {wait} ms");
    line(&label, syncs, Some(done.load(Ordering::Relaxed)), took, times);
    Ok(())
}

fn line(label: &str, commits: u64, events: Option<u64>, took: Duration, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0, Duration::as_micros);
    let rate = |count: u64| count as f64 / took.as_secs_f64();
    let events = events.map_or_else(|| "-".to_owned(), |events| format!("{:.0}", rate(events)));
    println!(
        "{label:<40}{:>9.0}{events:>11}{:>9}{:>9}",
        rate(commits),
        at(50),
        at(99)
    );
}
