//! One server as the replaced auditor would show it: from ticks and verdicts to log lines and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use auditmon_core::time::Nanos;
use immudb_verify::State;
use serde::Serialize;

use super::gauges::Shown;
use super::{Compat, Level, Program, go};
use crate::address::Endpoint;
use crate::verdict::{How, Verdict};

/// Label of a server that has not said who it is.
const UNKNOWN: &str = "unknown";

/// What `/lastaudit` of immugw shows.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LastAudit {
    #[serde(rename = "ServerID")]
    pub(crate) server_id: String,
    pub(crate) server_address: String,
    pub(crate) has_run_consistency_check: bool,
    pub(crate) has_error: bool,
    pub(crate) consistency_check_result: bool,
    pub(crate) previous_root_index: i64,
    pub(crate) previous_root: String,
    pub(crate) current_root_index: i64,
    pub(crate) current_root: String,
    pub(crate) run_at: String,
}

impl Default for LastAudit {
    /// Before the first tick.
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_address: String::new(),
            has_run_consistency_check: false,
            has_error: false,
            consistency_check_result: false,
            previous_root_index: 0,
            previous_root: String::new(),
            current_root_index: 0,
            current_root: String::new(),
            run_at: "0001-01-01T00:00:00Z".to_owned(),
        }
    }
}

/// What is known of one database, in their terms.
#[derive(Clone, Debug)]
struct Seen {
    shown: Shown,
    previous: Option<State>,
    current: Option<State>,
    /// Of several that are equally bad, the last counts.
    turn: u64,
}

/// One server.
pub(crate) struct Face {
    compat: Arc<Compat>,
    address: String,
    id: Option<String>,
    /// Number of the tick.
    number: u64,
    began: Instant,
    /// Whether an audit of this tick has come to its end.
    finished: bool,
    seen: BTreeMap<String, Seen>,
    turn: u64,
}

impl Face {
    /// A server before its first tick; `id` is who it was when it was seen last.
    pub(crate) fn new(compat: Arc<Compat>, endpoint: &Endpoint, id: Option<&str>) -> Self {
        let face = Self {
            compat,
            address: endpoint.to_string(),
            id: id.map(str::to_owned),
            number: 0,
            began: Instant::now(),
            finished: false,
            seen: BTreeMap::new(),
            turn: 0,
        };
        face.compat.gauges.set(face.labels(), Shown::NOTHING, -1.0);
        face
    }

    fn labels(&self) -> (&str, &str) {
        (self.id.as_deref().unwrap_or(UNKNOWN), &self.address)
    }

    fn log(&self, level: Level, text: &str) {
        self.compat.log.line(level, &format!("audit #{} {text}", self.number));
    }

    /// A tick begins.
    pub(crate) fn begin(&mut self, now: Nanos) {
        self.number += 1;
        self.began = Instant::now();
        self.finished = false;
        self.log(Level::Info, &format!("started @ {}", go::instant(now)));
    }

    /// The server says who it is. immuclient keeps the first answer for the life of the process.
    pub(crate) fn identify(&mut self, id: Option<&str>) {
        let Some(id) = id else { return };
        let fixed = self.compat.config.program == Program::Immuclient && self.id.is_some();
        if fixed || self.id.as_deref() == Some(id) {
            return;
        }
        self.compat.gauges.remove(self.labels());
        self.id = Some(id.to_owned());
        let shown = self.worst().map_or(Shown::NOTHING, |seen| seen.shown);
        self.compat.gauges.set(self.labels(), shown, -1.0);
    }

    /// The databases of this tick.
    pub(crate) fn list<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let names: Vec<&str> = names.collect();
        self.seen.retain(|name, _| names.contains(&name.as_str()));
        let text = format!(
            "- list of databases to audit has been (re)loaded - {} database(s) found: [{}]",
            names.len(),
            names.join(" ")
        );
        self.log(Level::Info, &text);
    }

    /// What the audit of a database came to; of none, where nothing can be said of any.
    pub(crate) fn verdict(&mut self, database: &str, verdict: &Verdict, trusted: Option<State>, now: Nanos) {
        let of =
            |state: Option<State>, none: i64| state.map_or(none, |state| i64::try_from(state.tx.0).unwrap_or(i64::MAX));
        // A database without transactions has no state there.
        let trusted = trusted.filter(|state| !state.is_empty());
        let (result, previous, current, codes) = match verdict {
            Verdict::Ok(good) if good.how == How::First || trusted.is_none() => (-1, None, Some(good.state), (-1, -1)),
            Verdict::Ok(good) => (1, trusted, Some(good.state), (-1, -1)),
            Verdict::Tampered(finding) => (0, trusted, finding.shown, (-1, -2)),
            Verdict::Unchecked(_) => (-2, None, None, (-2, -2)),
        };
        let shown = Shown {
            result,
            previous: of(previous, codes.0),
            current: of(current, codes.1),
        };
        self.say(database, verdict, previous, current);
        self.finished |= match verdict {
            Verdict::Ok(good) => !good.state.is_empty(),
            Verdict::Tampered(_) => true,
            Verdict::Unchecked(_) => false,
        };
        self.turn += 1;
        let seen = Seen {
            shown,
            previous,
            current,
            turn: self.turn,
        };
        self.seen.insert(database.to_owned(), seen);
        self.show(now);
        self.compat.audit_ended(now);
    }

    fn say(&self, database: &str, verdict: &Verdict, previous: Option<State>, current: Option<State>) {
        if !database.is_empty() {
            self.log(Level::Info, &format!("- auditing database {database}"));
        }
        let hash = |state: &State| state.alh.0.to_string();
        if let (Verdict::Ok(_) | Verdict::Tampered(_), Some(previous), Some(current)) = (verdict, previous, current) {
            let consistent = matches!(verdict, Verdict::Ok(_));
            let text = format!(
                "result:\n db: {database}, consistent:\t{consistent} previous state:\t{} at tx: {}\n  current \
                 state:\t{} at tx: {}",
                hash(&previous),
                previous.tx,
                hash(&current),
                current.tx
            );
            self.log(Level::Info, &text);
        }
        match verdict {
            Verdict::Ok(good) if good.state.is_empty() => {
                let (id, address) = self.labels();
                let text = format!("canceled: database is empty on server {id} @ {address}");
                self.log(Level::Warn, &text);
            }
            Verdict::Ok(_) => {}
            Verdict::Tampered(finding) => match (previous, current) {
                (Some(previous), Some(current)) => {
                    let text = format!(
                        "detected possible tampering of db {database} remote state (at id {}) so it will not overwrite \
                         the previous local state (at id {})",
                        current.tx, previous.tx
                    );
                    self.log(Level::Warn, &text);
                }
                _ => {
                    let text = format!("detected possible tampering of db {database}: {}", finding.text);
                    self.log(Level::Warn, &text);
                }
            },
            Verdict::Unchecked(why) => {
                let of = if database.is_empty() {
                    String::new()
                } else {
                    format!("db {database} ")
                };
                self.log(Level::Error, &format!("- {of}could not be checked: {}", why.text));
            }
        }
    }

    /// The database that is worst off.
    fn worst(&self) -> Option<&Seen> {
        self.seen.values().max_by_key(|seen| (seen.shown.rank(), seen.turn))
    }

    fn show(&self, now: Nanos) {
        let Some(worst) = self.worst() else { return };
        self.compat.gauges.set(self.labels(), worst.shown, now as f64 / 1e9);
        let (id, address) = self.labels();
        let hash = |state: Option<State>| state.map(|state| state.alh.0.to_string()).unwrap_or_default();
        *self.compat.last.lock() = LastAudit {
            server_id: id.to_owned(),
            server_address: address.to_owned(),
            has_run_consistency_check: matches!(worst.shown.result, 0 | 1),
            has_error: worst.shown.result == -2,
            consistency_check_result: worst.shown.result == 1,
            previous_root_index: worst.shown.previous,
            previous_root: hash(worst.previous),
            current_root_index: worst.shown.current,
            current_root: hash(worst.current),
            run_at: go::rfc3339(now),
        };
    }

    /// A tick ends. One in which all audits were canceled or came to an error says nothing of that.
    pub(crate) fn end(&mut self, now: Nanos) {
        if self.finished {
            let took = go::duration(self.began.elapsed());
            self.log(Level::Info, &format!("finished in {took} @ {}", go::rfc3339(now)));
        }
        self.show(now);
        self.compat.tick_ended(now);
    }
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
