//! What the agent says of itself: `/healthz`, `auditmon status`.

use auditmon_core::health::HealthBoard;
use auditmon_core::time::{self, Nanos};
use auditmon_journal::Handle;
use serde_json::{Value, json};

use crate::notes::pause_word;

/// The journal, as `/healthz` and `auditmon status` show it.
pub(crate) fn journal(journal: &Handle) -> Value {
    let status = journal.status();
    json!({
        "origin": journal.origin(),
        "entries": status.durable,
        "oldest": status.oldest_payload,
        "bytes": status.bytes,
        "free_bytes": status.free_bytes,
        "paused": status.paused.map(pause_word),
    })
}

/// What `auditmon status` shows.
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) since: Nanos,
    pub(crate) journal: Handle,
    pub(crate) health: HealthBoard,
}

impl Status {
    pub(crate) fn json(&self) -> Value {
        json!({
            "version": self.version,
            "pid": std::process::id(),
            "since": time::format(self.since),
            "plugins": self.health.all(),
            "journal": journal(&self.journal),
        })
    }
}
