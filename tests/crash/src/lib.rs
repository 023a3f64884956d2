//! What the crash tests share: clients that remember what they were promised, the judge who looks for it,
//! the kernel borrowed and watched by a second pair of eyes, and system calls recorded by strace.
//!
//! `AUDITMON_LONG=1` runs every test to its full length; without it all of them together stay below six minutes.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a harness reports faults by panicking"
)]

pub mod calls;
pub mod clients;
pub mod judge;
pub mod kernel;
pub mod oracle;
pub mod serials;
pub mod signed;

use std::time::Duration;

use auditmon_e2e::{Agent, eventually};

/// The API key that a first start prints, a moment after it says that it is ready.
#[must_use]
pub fn first_key(agent: &Agent) -> String {
    eventually("the key of the first start", Duration::from_secs(5), || {
        let text = agent.stderr();
        let (_, rest) = text.split_once("API key `default`:")?;
        Some(rest.split_once('\n')?.0.trim().to_owned())
    })
}

/// Whether the tests are to run at full length.
#[must_use]
pub fn long() -> bool {
    std::env::var_os("AUDITMON_LONG").is_some_and(|value| value == "1")
}
