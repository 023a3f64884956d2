//! Harness for tests that start the real agent: its process, its data directory, its HTTP.
//!
//! Build the binary first: `cargo build -p auditmon`; `AUDITMON_BIN` names another one. Nothing here sleeps
//! where it can wait for a condition ([`eventually`]), and nothing tries a failed assertion again.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a harness reports faults by panicking"
)]

mod agent;
pub mod authority;
mod disk;
mod etc;
mod http;
mod load;
pub mod receiver;
mod reload;
mod threads;

pub use agent::{Agent, BlockedStore, Builder, Output, binary, ended};
pub use disk::SlowDisk;
pub use etc::{OwnEtc, own_etc};
pub use http::{Answer, Http, Raw, Request, request};
pub use load::{Obligation, Producers, all_kept, cpu_share};
pub use threads::Thread;

use std::time::{Duration, Instant};

/// How long a test waits for what a user sees within a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds what it looks for.
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A good event whose `event_name` is `name`.
#[must_use]
pub fn event(name: &str) -> String {
    format!(r#"{{"event_name":"{name}","username":"tester"}}"#)
}

/// Whether the test may do what only root can; says so loudly if not.
#[must_use]
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {test} has to be run as root");
    }
    root
}
