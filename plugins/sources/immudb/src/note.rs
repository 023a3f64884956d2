//! What verdicts add to the journal and to the log.

use auditmon_core::Batch;
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use immudb_verify::State;
use serde_json::{Value, json};

use crate::address::Endpoint;
use crate::verdict::Verdict;

/// `username` of the events: who says it.
const USER: &str = "auditmon";

/// What one group of verdicts adds to the journal.
#[derive(Clone, Default)]
pub(crate) struct Note {
    pub(crate) told: Vec<Told>,
    pub(crate) states: Vec<(Vec<u8>, Vec<u8>)>,
    /// What work beside the audits could not check, for the event.
    pub(crate) stuck: Vec<Value>,
}

/// One verdict that is told.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) database: String,
    pub(crate) verdict: Verdict,
    pub(crate) data: Value,
}

impl Note {
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.states.is_empty() && self.stuck.is_empty()
    }

    /// Writes it; events first. Whether all of it fitted.
    pub(crate) fn write(&self, endpoint: &Endpoint, batch: &mut Batch) -> bool {
        let told = self.told.iter().all(|told| {
            let resource = match told.database.as_str() {
                "" => format!("immudb://{endpoint}"),
                database => format!("immudb://{endpoint}/{database}"),
            };
            let (name, outcome, severity) = match &told.verdict {
                Verdict::Ok(_) => ("immudb.audit.ok", Outcome::Success, Severity::Info),
                Verdict::Tampered(_) => ("immudb.audit.tampered", Outcome::Failure, Severity::Critical),
                Verdict::Unchecked(_) => ("immudb.audit.error", Outcome::Unknown, Severity::Warning),
            };
            let data = told.data.to_string();
            let draft = Draft {
                resource: Some(&resource),
                read_only: true,
                outcome,
                severity,
                data: Data::Raw(&data),
                ..Draft::new(name, USER)
            };
            batch.push(draft).is_ok()
        });
        let stuck = self.stuck.iter().all(|data| {
            let resource = format!("immudb://{endpoint}/{}", data["database"].as_str().unwrap_or_default());
            let data = data.to_string();
            let draft = Draft {
                resource: Some(&resource),
                read_only: true,
                outcome: Outcome::Unknown,
                severity: Severity::Warning,
                data: Data::Raw(&data),
                ..Draft::new("immudb.values.stuck", USER)
            };
            batch.push(draft).is_ok()
        });
        let states = self.states.iter();
        told && stuck
            && states.fold(true, |all, (key, value)| {
                batch.remember(key, None, value).is_ok() && all
            })
    }
}

/// A state in an event.
pub(crate) fn shown(state: &State) -> Value {
    json!({"tx": state.tx.0, "hash": state.alh.0.to_string()})
}

/// Tells a change of verdict in the log.
pub(crate) fn log(server: &str, database: &str, verdict: &Verdict) {
    match verdict {
        Verdict::Ok(good) => {
            tracing::info!(
                server,
                database,
                tx = good.state.tx.0,
                "immudb: in order ({})",
                good.how.as_str()
            );
        }
        Verdict::Tampered(finding) => {
            tracing::error!(
                server,
                database,
                code = finding.code.as_str(),
                "immudb: TAMPERED: {}",
                finding.text
            );
        }
        Verdict::Unchecked(why) => {
            tracing::warn!(
                server,
                database,
                reason = why.reason,
                "immudb: could not check: {}",
                why.text
            );
        }
    }
}
