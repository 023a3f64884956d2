//! What the agent says of itself: `/healthz`, `auditmon status`.

use std::collections::BTreeMap;

use auditmon_core::health::Health;
use auditmon_core::time::{self, Nanos};
use auditmon_journal::Handle;
use serde::Serialize;

use crate::dead_letters;
use crate::notes::pause_word;
use crate::parts::Parts;
use crate::plugins::View;
use crate::reload::{ReloadStatus, Reloads};

/// How the agent is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its version.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// When it started.
    #[serde(serialize_with = "time_text")]
    pub since: Nanos,
    /// All plugins by name, those that are off too.
    pub plugins: BTreeMap<&'static str, PluginStatus>,
    /// The journal.
    pub journal: JournalStatus,
    /// Sinks by name; those that begin at the head and keep no place are left out.
    pub sinks: BTreeMap<&'static str, SinkStatus>,
    /// Keys that wait for the next start of the agent, as of the last reload that was not refused.
    pub pending_restart: Vec<String>,
    /// How the configuration was loaded last, if it was since the start.
    pub last_reload: Option<ReloadStatus>,
}

/// How a plugin is.
#[derive(Clone, Debug, Serialize)]
pub struct PluginStatus {
    /// State, reason, since when.
    #[serde(flatten)]
    pub health: Health,
    /// source, sink or service; `None` if it is off.
    pub kind: Option<&'static str>,
    /// How often it was started again after a fault.
    pub restarts: u64,
    /// When it is started again, if it waits for that.
    #[serde(serialize_with = "some_time_text")]
    pub next_start: Option<Nanos>,
    /// Whether it stays down until the configuration is loaded again.
    pub given_up: bool,
    /// Of a sink: events that its other side refused for good, and that wait to be replayed. `None` if their files can't
    /// be read, and of what is no sink or off.
    pub dead_letters: Option<u64>,
}

/// How the journal is.
#[derive(Clone, Debug, Serialize)]
pub struct JournalStatus {
    /// `<host>/<16 hex digits>` and perhaps a generation.
    pub origin: String,
    /// Entries that are on disk.
    pub entries: u64,
    /// Number of the oldest entry with a payload.
    pub oldest: u64,
    /// Bytes of segments and leaves.
    pub bytes: u64,
    /// Bytes free on the volume, if it says so.
    pub free_bytes: Option<u64>,
    /// Why events are refused, if they are.
    pub paused: Option<&'static str>,
    /// Whether the journal was put back or rewritten, and nobody has accepted that.
    pub unaccepted_rollback: bool,
    /// The newest signed checkpoint.
    pub checkpoint: Option<CheckpointStatus>,
}

/// The newest signed checkpoint.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CheckpointStatus {
    /// Entries that it covers.
    pub entries: u64,
    /// How long ago it was signed; `None` if an earlier run did.
    pub age_seconds: Option<u64>,
}

/// How far a sink is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SinkStatus {
    /// Everything below this number is delivered.
    pub position: u64,
    /// Entries that wait for it.
    pub lag_entries: u64,
}

pub(crate) fn time_text<S: serde::Serializer>(at: &Nanos, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&time::format(*at))
}

fn some_time_text<S: serde::Serializer>(at: &Option<Nanos>, s: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time_text(at, s),
        None => s.serialize_none(),
    }
}

/// The journal, as `/healthz` and `auditmon status` show it.
pub(crate) fn journal(journal: &Handle) -> JournalStatus {
    let status = journal.status();
    JournalStatus {
        origin: journal.origin().to_owned(),
        entries: status.durable,
        oldest: status.oldest_payload,
        bytes: status.bytes,
        free_bytes: status.free_bytes,
        paused: status.paused.map(pause_word),
        unaccepted_rollback: journal.waits_for_acceptance(),
        checkpoint: journal.checkpoint().map(|newest| CheckpointStatus {
            entries: newest.size,
            age_seconds: newest.age().map(|age| age.as_secs()),
        }),
    }
}

/// All of it. Reads the dead letters' files.
pub(crate) fn status(version: &'static str, since: Nanos, parts: &Parts, view: &View, reloads: &Reloads) -> Status {
    let view = view.lock().clone();
    let durable = parts.journal.durable();
    let sinks = view.iter().filter(|(_, seen)| seen.kind == "sink");
    let sinks = sinks.filter_map(|(name, _)| {
        let position = parts.journal.hold(name)?;
        let lag_entries = durable.saturating_sub(position);
        Some((*name, SinkStatus { position, lag_entries }))
    });
    let plugin = |(name, health): (&'static str, Health)| {
        let seen = view.get(name);
        let counts = seen.map(|seen| seen.tally.counts()).unwrap_or_default();
        let status = PluginStatus {
            health,
            kind: seen.map(|seen| seen.kind),
            restarts: counts.restarts,
            next_start: counts.next,
            given_up: counts.given_up,
            dead_letters: seen
                .filter(|seen| seen.kind == "sink")
                .and_then(|_| dead_letters::count(&parts.data_dir, name).ok()),
        };
        (name, status)
    };
    Status {
        version,
        pid: std::process::id(),
        since,
        plugins: parts.health.all().into_iter().map(plugin).collect(),
        journal: journal(&parts.journal),
        sinks: sinks.collect(),
        pending_restart: reloads.pending.clone(),
        last_reload: reloads.last.clone(),
    }
}
