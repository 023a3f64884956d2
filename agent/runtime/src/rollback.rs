//! A journal that was rewritten or put back goes on as a new generation;
//! sinks that keep their place in a file wait until somebody has accepted that.

use auditmon_core::event::{Outcome, Severity};
use auditmon_journal::Handle;

use crate::agent::About;

/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// The event about it.
pub const ACCEPTED: About<'static> = ("journal.rollback_accepted", Outcome::Success, Severity::Warning);

/// Whether a reason can be kept.
///
/// # Errors
/// A sentence.
pub fn check(reason: &str) -> Result<(), String> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON || reason.contains(char::is_control) {
        return Err(format!("a reason is a line of 1 to {MAX_REASON} bytes"));
    }
    Ok(())
}

/// Accepts the new generation. Waits for the disk.
///
/// # Errors
/// A sentence: there is nothing to accept, or it can't be written.
pub fn accept(journal: &Handle, reason: &str) -> Result<(), String> {
    check(reason)?;
    if journal.is_accepted() {
        return Err(format!("{} is accepted already", journal.origin()));
    }
    match journal.accept_rollback(reason) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "there is nothing to accept: {} is the journal's first generation",
            journal.origin()
        )),
        Err(error) => Err(format!("it can't be written: {error}")),
    }
}

/// What the event says.
#[must_use]
pub fn data(origin: &str, reason: &str) -> serde_json::Value {
    serde_json::json!({"origin": origin, "reason": reason})
}
