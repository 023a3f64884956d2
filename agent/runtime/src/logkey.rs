//! The key that signs checkpoints, changed by hand.

use auditmon_core::event::{Outcome, Severity};
use auditmon_journal::Handle;

use crate::agent::About;

/// Makes a new key, or with `finish` ends the time in which the former one signs too; returns the verifier key.
/// Waits for the disk.
///
/// # Errors
/// A sentence: it is not the time for it, or a file can't be written.
pub fn change(journal: &Handle, finish: bool) -> Result<String, String> {
    let changed = match finish {
        true => journal.finish_rotation(),
        false => journal.rotate_key(),
    };
    changed.map_err(|error| error.to_string())
}

/// The event about it.
#[must_use]
pub fn about(finish: bool) -> About<'static> {
    let name = match finish {
        true => "journal.key_rotation_finished",
        false => "journal.key_rotated",
    };
    (name, Outcome::Success, Severity::Notice)
}

/// What the event says.
#[must_use]
pub fn data(vkey: &str) -> serde_json::Value {
    serde_json::json!({"vkey": vkey})
}
