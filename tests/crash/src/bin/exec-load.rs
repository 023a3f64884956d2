//! Calls `execve` on paths that do not exist: each call is an audit event with a number of its own in the
//! path, and costs no process.
//!
//! Arguments: first number, how many, calls a second (0: as fast as can be), threads.
#![allow(clippy::unwrap_used, reason = "a test's tool")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|arg| arg.parse().unwrap()).collect();
    let [first, count, rate, threads] = args[..] else {
        panic!("first count rate threads")
    };
    let done = AtomicU64::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = done.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    if let Some(due) = (at * 1_000_000_000).checked_div(rate) {
                        let due = begin + Duration::from_nanos(due);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    let path = format!("{}{:06}", auditmon_crash::kernel::LOAD_DIR, first + at);
                    let error = Command::new(path).exec();
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                }
            });
        }
    });
}
