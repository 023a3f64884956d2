//! From verdicts to events, memory and metrics: what is known of each database of one server.

use std::collections::BTreeMap;
use std::time::Duration;

use auditmon_core::Batch;
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::plugin::Memory;
use auditmon_core::time::{self, Nanos};
use immudb_verify::{PublicKey, State};
use serde_json::{Value, json};

use crate::address::Endpoint;
use crate::config::Accept;
use crate::metrics::Metrics;
use crate::trusted::{self, Latched, Record, Remembered};
use crate::verdict::{Code, Finding, How, NOT_ACCEPTED, Unchecked, Verdict};

/// After so long an unchanged verdict is told again.
const AGAIN: Nanos = 3_600_000_000_000;
/// `username` of the events: who says it.
const USER: &str = "auditmon";

/// One server's databases.
pub(crate) struct Ledger {
    pub(crate) endpoint: Endpoint,
    pub(crate) label: String,
    /// What the server said of itself last.
    pub(crate) version: String,
    databases: BTreeMap<String, Watched>,
    metrics: Metrics,
    interval: Duration,
    missing_after: Duration,
    every: bool,
}

/// What is known of one database.
#[derive(Clone, Debug, Default)]
struct Watched {
    remembered: Option<Remembered>,
    kind: Option<(&'static str, &'static str)>,
    /// When the last verdict was reached, of any kind.
    said: Option<Nanos>,
    /// When the last one was reached that tells something.
    checked: Option<Nanos>,
    /// When an event told of it.
    told: Option<Nanos>,
    /// Since when it is gone.
    gone: Option<Nanos>,
}

/// Numbers for the plugin's state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Summary {
    pub(crate) all: usize,
    pub(crate) tampered: Vec<String>,
    pub(crate) unchecked: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(
        (endpoint, label): (Endpoint, String),
        memory: &Memory,
        metrics: Metrics,
        interval: Duration,
        missing_after: Duration,
        every: bool,
    ) -> Self {
        let remembered = trusted::of_server(memory, &endpoint).into_iter();
        let databases = remembered.map(|(name, remembered)| {
            let watched = Watched {
                remembered: Some(remembered),
                ..Watched::default()
            };
            (name, watched)
        });
        metrics.up(&label, false);
        Self {
            databases: databases.collect(),
            endpoint,
            label,
            version: String::new(),
            metrics,
            interval,
            missing_after,
            every,
        }
    }

    /// What is trusted of a database.
    pub(crate) fn record(&self, database: &str) -> Option<&Record> {
        match self.databases.get(database)?.remembered.as_ref()? {
            Remembered::Record(record) => Some(record),
            Remembered::Broken => None,
        }
    }

    /// Databases that were seen, also while they were empty.
    pub(crate) fn known(&self) -> impl Iterator<Item = &str> {
        let known = self
            .databases
            .iter()
            .filter(|(_, watched)| watched.remembered.is_some());
        known.map(|(name, _)| name.as_str())
    }

    /// Databases that had something to lose.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = &str> {
        let known = self.databases.iter().filter(|(_, watched)| match &watched.remembered {
            Some(Remembered::Record(record)) => !record.state.is_empty() || record.finding.is_some(),
            Some(Remembered::Broken) => true,
            None => false,
        });
        known.map(|(name, _)| name.as_str())
    }

    /// Name and key that the server was taken with last; for databases that are new.
    pub(crate) fn identity(&self) -> (Option<&str>, Option<&PublicKey>) {
        let records = self.databases.values().filter_map(|watched| match &watched.remembered {
            Some(Remembered::Record(record)) => Some(record),
            _ => None,
        });
        let last = records
            .filter(|record| record.uuid.is_some())
            .max_by_key(|record| record.taken);
        last.map_or((None, None), |record| (record.uuid.as_deref(), record.key.as_ref()))
    }

    /// Whether an event is due for a database although nothing changed.
    pub(crate) fn is_due(&self, database: &str, now: Nanos) -> bool {
        let told = self.databases.get(database).and_then(|watched| watched.told);
        told.is_none_or(|told| now.saturating_sub(told) >= AGAIN)
    }

    /// Whether a database gave no answer last time.
    pub(crate) fn was_silent(&self, database: &str) -> bool {
        let kind = self.databases.get(database).and_then(|watched| watched.kind);
        matches!(kind, Some(("error", "timeout" | "late")))
    }

    /// The server answers: what was said of it as a whole is over.
    pub(crate) fn server_answers(&mut self) {
        self.databases.remove("");
        self.metrics.up(&self.label, true);
    }

    /// There is nothing to audit on the server: it can't be asked, or has nothing that is selected.
    pub(crate) fn server_fails(&self) {
        self.metrics.up(&self.label, false);
    }

    /// Whether a database's last verdict is older than two intervals.
    pub(crate) fn late(&self, database: &str, now: Nanos) -> bool {
        let most = Nanos::try_from(self.interval.as_nanos().saturating_mul(2)).unwrap_or(Nanos::MAX);
        let watched = self.databases.get(database);
        watched.is_some_and(|watched| watched.said.is_some_and(|said| now.saturating_sub(said) > most))
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (name, watched) in &self.databases {
            let Some((result, code)) = watched.kind else { continue };
            summary.all += 1;
            let text = match name.as_str() {
                "" => format!("{} ({code})", self.label),
                name => format!("{}/{name} ({code})", self.label),
            };
            match result {
                "tampered" => summary.tampered.push(text),
                "error" => summary.unchecked.push(text),
                _ => {}
            }
        }
        summary
    }

    /// Takes what operators accepted, each once, and tells of it.
    pub(crate) fn accept(&mut self, accepted: &[Accept], batch: &mut Batch, now: Nanos) {
        for accept in accepted {
            let Some(state) = accept.state() else { continue };
            let database = accept.database.to_lowercase();
            let Some(watched) = self.databases.get_mut(&database) else {
                continue;
            };
            let mark = accept.mark();
            let (old, first) = match &watched.remembered {
                Some(Remembered::Record(record)) if record.accepted.contains(&mark) => continue,
                Some(Remembered::Record(record)) if record.finding.is_some() => (Some(record.clone()), record.first),
                Some(Remembered::Broken) => (None, now),
                _ => continue,
            };
            let mut marks = old.as_ref().map_or_else(Vec::new, |old| old.accepted.clone());
            marks.push(mark);
            let record = Record {
                state,
                uuid: None,
                key: None,
                first,
                taken: now,
                finding: None,
                accepted: marks,
            };
            let key = trusted::key(&self.endpoint, &database);
            let data = json!({
                "server": {"name": self.label, "address": self.endpoint.to_string()},
                "database": database,
                "by": accept.by,
                "reason": accept.reason,
                "old": old.as_ref().map(|old| shown(&old.state)),
                "finding": old.as_ref().and_then(|old| old.finding.as_ref()).map(|finding| finding.code.clone()),
                "new": shown(&state),
            });
            watched.remembered = Some(Remembered::Record(Box::new(record.clone())));
            let resource = format!("immudb://{}/{database}", self.endpoint);
            let data = data.to_string();
            let draft = Draft {
                resource: Some(&resource),
                outcome: Outcome::Success,
                severity: Severity::Warning,
                data: Data::Raw(&data),
                ..Draft::new("immudb.trust", &accept.by)
            };
            let added = batch.push(draft).is_ok();
            if !added || batch.remember(&key, None, &record.encode()).is_err() {
                tracing::error!(database, "what was accepted does not fit a batch");
            }
        }
    }

    /// Takes a verdict: what is trusted, what is told.
    pub(crate) fn settle(&mut self, database: &str, verdict: Verdict, note: &mut Note, now: Nanos) {
        let fresh = !self.databases.contains_key(database);
        let watched = self.databases.entry(database.to_owned()).or_default();
        // The server as a whole has no name of a database, and no metrics.
        let named = !database.is_empty();
        if named && (fresh || watched.kind.is_none()) {
            self.metrics.begin(&self.label, database);
        }
        let verdict = missing(watched, verdict, self.missing_after, now);
        let before = match &watched.remembered {
            Some(Remembered::Record(record)) => Some((**record).clone()),
            _ => None,
        };
        let (verdict, record) = weigh(watched.remembered.as_ref(), verdict, now);
        if let Some(record) = record {
            note.states
                .push((trusted::key(&self.endpoint, database), record.encode()));
            watched.remembered = Some(Remembered::Record(Box::new(record)));
        }
        let kind = verdict.kind();
        let changed = watched.kind.replace(kind) != Some(kind);
        let due = watched.told.is_none_or(|told| now.saturating_sub(told) >= AGAIN);
        watched.said = Some(now);
        let checked = watched.checked;
        if kind.0 != "error" {
            watched.checked = Some(now);
        }
        let trusted = before.as_ref().map_or(0, |record| record.state.tx.0);
        if named {
            self.metrics.end(&self.label, database, &verdict, trusted, now);
        }
        if changed || due || self.every {
            watched.told = Some(now);
            if changed {
                log(&self.label, database, &verdict);
            }
            let told = Told {
                database: database.to_owned(),
                data: self.data(database, &verdict, before.as_ref(), checked, now),
                verdict,
            };
            note.told.push(told);
        }
    }

    fn data(
        &self,
        database: &str,
        verdict: &Verdict,
        trusted: Option<&Record>,
        checked: Option<Nanos>,
        now: Nanos,
    ) -> Value {
        let mut data = json!({
            "result": verdict.result(),
            "server": {"name": self.label, "address": self.endpoint.to_string(), "version": self.version},
            "database": database,
            "trusted": trusted.map(|record| {
                let mut state = shown(&record.state);
                state["since"] = time::format(record.taken).into();
                state["uuid"] = record.uuid.clone().into();
                state["signed_by"] = record.key.map(|key| hex::encode(key.to_point())).into();
                state
            }),
        });
        match verdict {
            Verdict::Ok(good) => {
                data["checked"] = good.how.as_str().into();
                data["current"] = shown(&good.state);
                data["current"]["uuid"] = good.uuid.clone().into();
                data["current"]["signed_by"] = good.key.map(|key| hex::encode(key.to_point())).into();
                let before = trusted.map_or(0, |record| record.state.tx.0);
                if good.how == How::First {
                    let seen = !good.state.is_empty();
                    data["unseen"] = seen.then(|| json!({"first_tx": 1, "last_tx": good.state.tx.0})).into();
                } else {
                    data["new_transactions"] = good.state.tx.0.saturating_sub(before).into();
                }
            }
            Verdict::Tampered(finding) => {
                data["code"] = finding.code.as_str().into();
                data["reason"] = finding.reason.into();
                data["text"] = finding.text.clone().into();
                data["meaning"] = finding.code.meaning().into();
                data["do"] = finding.code.advice().into();
                data["tx"] = finding.tx.into();
                data["current"] = finding.shown.map_or(Value::Null, |state| shown(&state));
                if let Some(uuid) = &finding.uuid {
                    data["uuid"] = uuid.clone().into();
                }
            }
            Verdict::Unchecked(why) => {
                data["reason"] = why.reason.into();
                data["text"] = why.text.clone().into();
                data["last_checked"] = checked.map(time::format).into();
                data["age_seconds"] = checked
                    .map(|checked| now.saturating_sub(checked) / 1_000_000_000)
                    .into();
            }
        }
        data
    }
}

/// What one group of verdicts adds to the journal.
#[derive(Clone, Default)]
pub(crate) struct Note {
    told: Vec<Told>,
    states: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone)]
struct Told {
    database: String,
    verdict: Verdict,
    data: Value,
}

impl Note {
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.states.is_empty()
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
        let states = self.states.iter();
        told && states.fold(true, |all, (key, value)| {
            batch.remember(key, None, value).is_ok() && all
        })
    }
}

/// A database that is gone becomes a finding once it is gone for long enough and there was something to lose.
fn missing(watched: &mut Watched, verdict: Verdict, after: Duration, now: Nanos) -> Verdict {
    let had = match &watched.remembered {
        Some(Remembered::Record(record)) => !record.state.is_empty(),
        Some(Remembered::Broken) => true,
        None => false,
    };
    match verdict {
        Verdict::Unchecked(Unchecked {
            reason: "missing",
            text,
        }) if had => {
            let since = *watched.gone.get_or_insert(now);
            if u128::from(now.saturating_sub(since)) >= after.as_nanos() {
                Verdict::Tampered(Finding::new(Code::Missing, "missing", text))
            } else {
                Verdict::Unchecked(Unchecked::new("missing", text))
            }
        }
        // Nothing is known of it while nobody answers.
        Verdict::Unchecked(why) => Verdict::Unchecked(why),
        other => {
            watched.gone = None;
            other
        }
    }
}

/// What is trusted after a verdict, if that changes, and what the verdict is beside an earlier finding.
fn weigh(remembered: Option<&Remembered>, verdict: Verdict, now: Nanos) -> (Verdict, Option<Record>) {
    let record = match remembered {
        Some(Remembered::Broken) => {
            let text = "what was remembered of this database can't be read";
            return (
                Verdict::Tampered(Finding::new(Code::StateLost, "state-lost", text)),
                None,
            );
        }
        Some(Remembered::Record(record)) => Some(record),
        None => None,
    };
    match (verdict, record) {
        (Verdict::Ok(good), Some(record)) => {
            if let Some(latched) = &record.finding {
                let text = format!(
                    "what the server shows now follows from the trusted state; the finding of {} stands until an \
                     operator accepts a state",
                    time::format(latched.at)
                );
                let mut finding = Finding::new(Code::parse(&latched.code), NOT_ACCEPTED, text);
                finding.shown = Some(good.state);
                finding.uuid = good.uuid;
                return (Verdict::Tampered(finding), None);
            }
            let same = record.state == good.state && record.uuid == good.uuid && record.key == good.key;
            let next = (!same).then(|| Record {
                state: good.state,
                uuid: good.uuid.clone(),
                key: good.key,
                taken: now,
                ..(**record).clone()
            });
            (Verdict::Ok(good), next)
        }
        (Verdict::Ok(good), None) => {
            let record = Record {
                state: good.state,
                uuid: good.uuid.clone(),
                key: good.key,
                first: now,
                taken: now,
                finding: None,
                accepted: Vec::new(),
            };
            (Verdict::Ok(good), Some(record))
        }
        (Verdict::Tampered(finding), Some(record)) => {
            let latched = Latched {
                code: finding.code.as_str().to_owned(),
                at: record.finding.as_ref().map_or(now, |latched| latched.at),
            };
            let next = (record.finding.as_ref() != Some(&latched)).then(|| Record {
                finding: Some(latched),
                ..(**record).clone()
            });
            (Verdict::Tampered(finding), next)
        }
        (verdict, _) => (verdict, None),
    }
}

fn shown(state: &State) -> Value {
    json!({"tx": state.tx.0, "hash": state.alh.0.to_string()})
}

fn log(server: &str, database: &str, verdict: &Verdict) {
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
