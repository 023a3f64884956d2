//! What plugins are tested with; a dev-dependency only.
//!
//! | module | what it holds |
//! |---|---|
//! | [`journal`] | a real journal in a temporary directory |
//! | [`agent`] | what the runtime would give a plugin: contexts, keys, health, metrics |
//! | [`contract`] | what every plugin keeps: configuration, source, sink, service |
//!
//! A plugin's own test of the contract is a few lines:
//!
//! ```ignore
//! let entry = Entry::sink::<FileConfig>("file");
//! contract::config::<FileConfig>(&entry);
//! contract::Sink::new(&entry, json!({"file": path})).taken(|| seqs_in(path)).keeps();
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test kit reports faults by panicking"
)]

pub mod agent;
pub mod contract;
pub mod journal;

pub use agent::TestAgent;
pub use journal::TestJournal;

use std::time::{Duration, Instant};

/// How long a test waits for what takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds what it looks for.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
