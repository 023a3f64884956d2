//! What happened to the journal, as events of kind agent.

use auditmon_core::batch::{AGENT, push_agent_event};
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_journal::{AgentNote, PauseReason, Records};

/// What it means that a sink has seen more than there is, and what to do.
const PUT_BACK: &str = "this sink has seen records that the journal doesn't have: the journal was put back to an older \
    state, or its end was removed. It goes on as a new generation; the former one stays in the data directory, for \
    `auditmon verify`. Find out who did it, then `auditmon journal accept-rollback --reason TEXT`: sinks with a position \
    of the former generation wait for that";
/// The same where a record is another one.
const REWRITTEN: &str = "records are not those that were signed, or that this sink has seen: the journal was rewritten. It \
    goes on as a new generation; the former one stays in the data directory, for `auditmon verify`. Find out who did \
    it, then `auditmon journal accept-rollback --reason TEXT`: sinks with a position of the former generation wait for that";

/// What it means that a leaf is missing.
const LEAF_MISSING: &str = "a record and its leaf can't be read, and no tile stands for it: no checkpoint could be made \
    here any more. The journal goes on as a new generation; sinks are given first what is left of the former one, which \
    stays in the data directory, for `auditmon verify`";

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
        AgentNote::PositionAhead {
            sink,
            origin,
            seq,
            entries,
        } => (
            "journal.rollback",
            Severity::Critical,
            Outcome::Failure,
            json!({"former_origin": origin, "sink": sink, "seq": seq, "entries": entries, "text": PUT_BACK}),
        ),
        AgentNote::PositionDiffers { sink, origin, seq } => (
            "journal.rewritten",
            Severity::Critical,
            Outcome::Failure,
            json!({"former_origin": origin, "sink": sink, "seq": seq, "text": REWRITTEN}),
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
            json!({"former_origin": origin, "checkpoint_entries": size, "text": REWRITTEN}),
        ),
        AgentNote::LeafMissing { origin, seq } => (
            "journal.damage",
            Severity::Critical,
            Outcome::Failure,
            json!({"former_origin": origin, "seq": seq, "text": LEAF_MISSING}),
        ),
        AgentNote::NewGeneration {
            former,
            entries,
            root,
            end,
            damaged,
        } => (
            "journal.new_generation",
            Severity::Warning,
            Outcome::Success,
            json!({
                "former_origin": former, "entries": entries, "root": root, "end": end,
                "reason": if *damaged { "damaged" } else { "contradicted" },
            }),
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
            tracing::error!(origin, size, "journal: {REWRITTEN}");
        }
        AgentNote::PositionAhead {
            sink,
            origin,
            seq,
            entries,
        } => tracing::error!(sink, origin, seq, entries, "journal: {PUT_BACK}"),
        AgentNote::PositionDiffers { sink, origin, seq } => {
            tracing::error!(sink, origin, seq, "journal: {REWRITTEN}");
        }
        AgentNote::LeafMissing { origin, seq } => {
            tracing::error!(origin, seq, "journal: {LEAF_MISSING}");
        }
        AgentNote::NewGeneration { former, entries, .. } => {
            tracing::warn!(former, entries, "journal: a new generation was begun");
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
        AgentNote::Paused(PauseReason::SyncFailed) => {
            tracing::error!("journal: writes to the disk fail; events are refused until one succeeds");
        }
        AgentNote::Resumed(PauseReason::Reserve) => {
            tracing::warn!("journal: the disk has room again; events are accepted");
        }
        AgentNote::Resumed(PauseReason::SizeLimit) => {
            tracing::warn!("journal: is below journal.max_size again; events are accepted");
        }
        AgentNote::Resumed(PauseReason::SyncFailed) => {
            tracing::warn!("journal: writes to the disk succeed again; events are accepted");
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
