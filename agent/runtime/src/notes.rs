//! What happened to the journal, as events of kind agent.

use auditmon_core::batch::{AGENT, push_agent_event};
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_journal::{AgentNote, PauseReason, Records};

/// A note in the words of an event.
struct Told {
    name: &'static str,
    severity: Severity,
    outcome: Outcome,
    data: serde_json::Value,
}

fn tell(note: &AgentNote) -> Told {
    use serde_json::json;
    let (name, severity, outcome, data) = match note {
        AgentNote::TornTail {
            segment,
            offset,
            length,
        } => (
            "journal.torn_tail",
            Severity::Notice,
            Outcome::Success,
            json!({"segment": segment, "offset": offset, "length": length}),
        ),
        AgentNote::Damage {
            segment,
            offset,
            first,
            last,
        } => (
            "journal.damage",
            Severity::Critical,
            Outcome::Failure,
            json!({"segment": segment, "offset": offset, "first_seq": first, "last_seq": last}),
        ),
        AgentNote::PositionAhead { sink, seq } => (
            "journal.rollback",
            Severity::Critical,
            Outcome::Failure,
            json!({"sink": sink, "seq": seq}),
        ),
        AgentNote::Retention { first, last, segments } => (
            "journal.retention",
            Severity::Info,
            Outcome::Success,
            json!({"first_seq": first, "last_seq": last, "segments": segments}),
        ),
        AgentNote::SyncFailed { seq } => (
            "journal.sync_failed",
            Severity::Error,
            Outcome::Failure,
            json!({"seq": seq}),
        ),
        AgentNote::Rewritten { origin, size } => (
            "journal.rewritten",
            Severity::Critical,
            Outcome::Failure,
            json!({"former_origin": origin, "checkpoint_entries": size}),
        ),
        AgentNote::CheckpointUnreadable => (
            "journal.checkpoint_unreadable",
            Severity::Error,
            Outcome::Failure,
            json!({"file": "checkpoint"}),
        ),
        AgentNote::NewKey { vkey } => (
            "journal.key_lost",
            Severity::Error,
            Outcome::Failure,
            json!({"vkey": vkey}),
        ),
        AgentNote::Paused(reason) => (
            "journal.paused",
            Severity::Error,
            Outcome::Failure,
            json!({"reason": pause_word(*reason)}),
        ),
        AgentNote::Resumed(reason) => (
            "journal.resumed",
            Severity::Notice,
            Outcome::Success,
            json!({"reason": pause_word(*reason)}),
        ),
        other => (
            "journal.note",
            Severity::Notice,
            Outcome::Unknown,
            json!({"note": format!("{other:?}")}),
        ),
    };
    Told {
        name,
        severity,
        outcome,
        data,
    }
}

/// The word of a pause, in events, health and metrics.
pub(crate) fn pause_word(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::Reserve => "disk_full",
        PauseReason::SizeLimit => "size_limit",
        PauseReason::SyncFailed => "sync_failed",
    }
}

/// Says in one line of the agent's own log what happened to the journal.
fn log(note: &AgentNote) {
    match note {
        AgentNote::TornTail {
            segment,
            offset,
            length,
        } => {
            tracing::info!(
                segment,
                offset,
                length,
                "journal: an unfinished write was cut off; nothing of it had been answered"
            );
        }
        AgentNote::Damage {
            segment,
            offset,
            first,
            last,
        } => {
            tracing::error!(
                segment,
                offset,
                first,
                last,
                "journal: damaged, these records can't be read"
            );
        }
        AgentNote::Retention { first, last, segments } => {
            tracing::info!(
                first,
                last,
                segments,
                "journal: payloads are removed, as journal.keep says"
            );
        }
        AgentNote::SyncFailed { seq } => {
            tracing::error!(seq, "journal: a write to the disk failed; a new segment was begun");
        }
        AgentNote::Rewritten { origin, size } => {
            tracing::error!(
                origin,
                size,
                "journal: its records are not those that the checkpoint of this size was signed over: it was rewritten; \
                 it goes on as a new generation. Sinks wait for `auditmon journal accept-rollback --reason`"
            );
        }
        AgentNote::CheckpointUnreadable => {
            tracing::error!("journal: the file `checkpoint` has no signature of ours; an older one was compared");
        }
        AgentNote::NewKey { vkey } => {
            tracing::error!(
                vkey,
                "journal: keys/log.key was missing, a new one was made; give its verifier key to those who check the journal"
            );
        }
        AgentNote::Paused(PauseReason::Reserve) => {
            tracing::error!("journal: the disk is full; events are refused until there is room again");
        }
        AgentNote::Paused(PauseReason::SizeLimit) => {
            tracing::error!(
                "journal: has reached journal.max_size; events are refused until a sink or retention makes room"
            );
        }
        other => tracing::warn!("journal: {other:?}"),
    }
}

/// How the journal has its notes turned into events.
pub(crate) type NoteWriter = Box<dyn Fn(AgentNote, &mut Records) + Send>;

/// Turns notes into events of this host.
pub(crate) fn writer(host: String) -> NoteWriter {
    Box::new(move |note, records| {
        log(&note);
        let told = tell(&note);
        let data = told.data.to_string();
        let draft = Draft {
            severity: told.severity,
            outcome: told.outcome,
            data: Data::Raw(&data),
            ..Draft::new(told.name, "auditmon")
        };
        if let Err(error) = push_agent_event(records, &host, draft) {
            tracing::error!(%error, source = AGENT, "journal: an event about the journal could not be made");
        }
    })
}
