//! From verdicts to events, memory and metrics: what is known of each database of one server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use auditmon_core::plugin::Memory;
use auditmon_core::time::{self, Nanos};
use immudb_verify::{PublicKey, State};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::address::Endpoint;
use crate::chore::{Budget, Done, Task};
use crate::compat::Face;
use crate::compat::known::Import;
use crate::config::MIN_INTERVAL;
use crate::descent::Descent;
use crate::key;
use crate::locate::Located;
use crate::metrics::Metrics;
use crate::note::{Note, Told, log, shown};
use crate::peers::{Claim, Published};
use crate::room::Room;
use crate::trusted::{self, Latched, Record, Remembered};
use crate::verdict::{Code, Finding, History, How, NOT_ACCEPTED, Unchecked, Verdict};
use crate::weigh::weigh;
use crate::word::{Order, Word};

/// After so long an unchanged verdict is told again.
const AGAIN: Nanos = 3_600_000_000_000;
/// When work beside the audits has come to nothing so many times in a row, it is told.
const ROUNDS: u32 = 3;
/// Where nothing gets late.
const DAY: Duration = Duration::from_secs(86_400);

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
    /// For databases that are new.
    room: Room,
    /// Whether the journal refused to remember something because all there is has no room.
    pub(crate) full: bool,
    /// How many databases are left out, since the server lists too many.
    pub(crate) left: usize,
    /// What the replaced auditor would show.
    pub(crate) face: Option<Face>,
}

/// What is known of one database.
#[derive(Clone, Debug, Default)]
struct Watched {
    remembered: Option<Remembered>,
    kind: Option<(&'static str, &'static str)>,
    /// When the last verdict was reached, of any kind; before the first one, since when there should be one. Nothing where
    /// it isn't audited.
    said: Option<Instant>,
    /// When it was asked last, if it gave no answer.
    silent: Option<Instant>,
    /// When the last one was reached that tells something.
    checked: Option<Nanos>,
    /// When an event told of it.
    told: Option<Nanos>,
    /// Whether another server has the trusted history, as an event told it.
    answer: Option<History>,
    /// Since when it is gone.
    gone: Option<Nanos>,
    /// The state that it showed at the last verdict; a server that gives no answer takes nothing back.
    shown: Option<State>,
    /// Whether that follows from the trusted history, where it is another server's or something was found before.
    history: Option<History>,
    /// Where it was found to differ, and what the server showed then.
    located: Option<(State, Located)>,
    /// Since when work beside the audits comes to nothing.
    stuck: Option<Stuck>,
}

/// Work beside the audits that comes to nothing.
#[derive(Clone, Copy, Debug)]
struct Stuck {
    since: Nanos,
    /// So many times.
    rounds: u32,
    /// When an event told of it.
    told: Option<Nanos>,
}

impl Watched {
    /// What was found and not accepted yet.
    fn finding(&self) -> Option<&Latched> {
        match &self.remembered {
            Some(Remembered::Record(record)) => record.finding.as_ref(),
            _ => None,
        }
    }

    /// How far headers from before the first contact were looked at; nothing where none is left.
    fn past(&self) -> Past {
        let record = match &self.remembered {
            Some(Remembered::Record(record)) => Some(record),
            _ => None,
        };
        let past = record.and_then(|record| record.past).filter(|past| past.left() > 0);
        past.map_or_else(Past::default, |past| Past {
            databases: 1,
            all: past.from.tx.0.saturating_sub(past.floor),
            left: past.left(),
        })
    }
}

/// Numbers for the plugin's state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Summary {
    pub(crate) all: usize,
    pub(crate) tampered: Vec<String>,
    pub(crate) unchecked: Vec<String>,
    pub(crate) past: Past,
    /// Whether something could not be remembered.
    pub(crate) full: bool,
    /// How many databases are left out.
    pub(crate) left: usize,
}

/// How far headers from before the first contact were looked at, over databases of which some are left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Past {
    pub(crate) databases: u64,
    pub(crate) all: u64,
    pub(crate) left: u64,
}

impl Past {
    pub(crate) fn add(&mut self, other: Self) {
        self.databases = self.databases.saturating_add(other.databases);
        self.all = self.all.saturating_add(other.all);
        self.left = self.left.saturating_add(other.left);
    }
}

impl Ledger {
    pub(crate) fn new(
        (endpoint, label): (Endpoint, String),
        (memory, room): (&Memory, Room),
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
            room,
            full: false,
            left: 0,
            face: None,
        }
    }

    /// What is trusted of a database.
    pub(crate) fn record(&self, database: &str) -> Option<&Record> {
        match self.databases.get(database)?.remembered.as_ref()? {
            Remembered::Record(record) => Some(record),
            Remembered::Broken => None,
        }
    }

    /// Databases that are audited.
    pub(crate) fn audited(&self) -> impl Iterator<Item = &str> {
        let audited = self.databases.iter().filter(|(_, watched)| watched.said.is_some());
        audited.map(|(name, _)| name.as_str()).filter(|name| !name.is_empty())
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

    /// Where a database was found to differ last.
    pub(crate) fn located(&self, database: &str) -> Option<(State, Located)> {
        self.databases.get(database).and_then(|watched| watched.located.clone())
    }

    /// Whether an event is due for a database although nothing changed.
    pub(crate) fn is_due(&self, database: &str, now: Nanos) -> bool {
        let told = self.databases.get(database).and_then(|watched| watched.told);
        told.is_none_or(|told| now.saturating_sub(told) >= AGAIN)
    }

    /// When a database was asked last, if it gave no answer.
    pub(crate) fn silent(&self, database: &str) -> Option<Instant> {
        self.databases.get(database)?.silent
    }

    /// Takes that a database was asked, and whether it gave an answer.
    pub(crate) fn asked(&mut self, database: &str, answered: bool) {
        if let Some(watched) = self.databases.get_mut(database) {
            watched.silent = (!answered).then(Instant::now);
        }
    }

    /// Whether the last audit of a database found it in order.
    pub(crate) fn is_in_order(&self, database: &str) -> bool {
        let kind = self.databases.get(database).and_then(|watched| watched.kind);
        matches!(kind, Some(("ok", _)))
    }

    /// The server answers: what was said of it as a whole is over.
    pub(crate) fn server_answers(&mut self) {
        self.databases.remove("");
        self.metrics.up(&self.label, true);
    }

    /// Forgets databases that are audited no more, all but what is remembered: a server may list others each time.
    pub(crate) fn keep(&mut self, names: &BTreeSet<&str>) {
        let (label, metrics) = (&self.label, &self.metrics);
        self.databases.retain(|name, watched| {
            if name.is_empty() || names.contains(name.as_str()) {
                return true;
            }
            if watched.said.is_some() {
                metrics.forget(label, name);
            }
            *watched = Watched {
                remembered: watched.remembered.take(),
                ..Watched::default()
            };
            watched.remembered.is_some()
        });
    }

    /// There is nothing to audit on the server: it can't be asked, or has nothing that is selected.
    pub(crate) fn server_fails(&self) {
        self.metrics.up(&self.label, false);
    }

    /// Takes that databases are audited from now on: each has to come to a verdict.
    pub(crate) fn expect<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let now = Instant::now();
        for name in names {
            let watched = self.databases.entry(name.to_owned()).or_default();
            if watched.said.is_some() {
                continue;
            }
            watched.said = Some(now);
            if watched.finding().is_some() {
                self.metrics.found(&self.label, name);
            }
        }
    }

    /// How old a verdict may get. Shorter intervals than users can have count as theirs: what such a one misses is a busy
    /// host, not a server without an answer.
    fn most(&self) -> Duration {
        2 * self.interval.max(MIN_INTERVAL)
    }

    /// When the next verdict gets too old.
    pub(crate) fn next_late(&self) -> Instant {
        let said = self.databases.values().filter_map(|watched| watched.said).min();
        said.map_or_else(|| Instant::now() + DAY, |said| said + self.most())
    }

    /// Databases whose last verdict is older than two intervals, or will be in a moment: all of them at once. What could
    /// not be checked anyway has said so; so has a finding on one that gave no answer, and it stands.
    pub(crate) fn late(&mut self) -> Vec<String> {
        let (now, most) = (Instant::now(), self.most());
        let mut late = Vec::new();
        for (name, watched) in &mut self.databases {
            let left = watched.said.map(|said| (said + most).saturating_duration_since(now));
            if left.is_none_or(|left| left > most / 16) {
                continue;
            }
            watched.said = Some(now);
            let told = match watched.kind {
                Some(("error", _)) => true,
                Some(("tampered", _)) => watched.silent.is_some(),
                _ => false,
            };
            if !told {
                late.push(name.clone());
            }
        }
        late
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary {
            full: self.full,
            left: self.left,
            ..Summary::default()
        };
        for (name, watched) in &self.databases {
            let Some((result, code)) = watched.kind else { continue };
            summary.all += 1;
            summary.past.add(watched.past());
            let text = |code: &str| match name.as_str() {
                "" => format!("{} ({code})", self.label),
                name => format!("{}/{name} ({code})", self.label),
            };
            match result {
                "tampered" => summary.tampered.push(text(code)),
                "error" => {
                    summary
                        .tampered
                        .extend(watched.finding().map(|finding| text(&finding.code)));
                    summary.unchecked.push(text(code));
                }
                _ => {}
            }
        }
        summary
    }

    /// Databases whose last audit was in order and that have something to do within a budget, by name.
    pub(crate) fn tasks(&self, budget: Budget) -> Vec<Task> {
        let sound = self
            .databases
            .iter()
            .filter_map(|(name, watched)| match &watched.remembered {
                Some(Remembered::Record(record))
                    if record.finding.is_none() && matches!(watched.kind, Some(("ok", _))) =>
                {
                    Some(Task {
                        database: name.clone(),
                        record: (**record).clone(),
                    })
                }
                _ => None,
            });
        sound.filter(|task| task.is_due(budget)).collect()
    }

    /// Takes what work beside the audits came to; gives what it found, by database.
    pub(crate) fn absorb(&mut self, done: Done, note: &mut Note) -> Option<(String, Finding)> {
        let watched = self.databases.get_mut(&done.database)?;
        let Some(Remembered::Record(record)) = &mut watched.remembered else {
            return None;
        };
        // It is audited no more.
        watched.kind?;
        // A finding, or an operator's word on another state, came in between.
        if record.finding.is_some() || record.past.is_none_or(|past| past.from != done.past.from) {
            return None;
        }
        self.metrics.proven(&self.label, &done.database, done.proven);
        let same = record.past == Some(done.past) && record.values == done.values;
        match done.stuck {
            Some(why) if same => {
                let now = time::now();
                let stuck = watched.stuck.get_or_insert(Stuck {
                    since: now,
                    rounds: 0,
                    told: None,
                });
                stuck.rounds = stuck.rounds.saturating_add(1);
                let due = stuck.told.is_none_or(|told| now.saturating_sub(told) >= AGAIN);
                if stuck.rounds >= ROUNDS && due {
                    stuck.told = Some(now);
                    note.stuck.push(json!({
                        "server": {"name": self.label, "address": self.endpoint.to_string()},
                        "database": done.database,
                        "since": time::format(stuck.since),
                        "age_seconds": now.saturating_sub(stuck.since) / 1_000_000_000,
                        "rounds": stuck.rounds,
                        "text": format!("values and earlier headers could not be checked {} times in a row: {why}", stuck.rounds),
                        "values": checked_values(record),
                    }));
                }
            }
            _ => watched.stuck = None,
        }
        if record.past != Some(done.past) || record.values != done.values {
            record.past = Some(done.past);
            record.values = done.values;
            let key = trusted::key(&self.endpoint, &done.database);
            note.states.push((key, record.encode()));
            self.metrics.known(&self.label, &done.database, record);
        }
        done.finding.map(|finding| (done.database, finding))
    }

    /// A finding that needs no audit to be told, with what the server showed last.
    pub(crate) fn standing(&self, database: &str, finding: Finding) -> Verdict {
        let shown = self.databases.get(database).and_then(|watched| watched.shown);
        Verdict::Tampered(Finding {
            shown,
            uuid: self.record(database).and_then(|record| record.uuid.clone()),
            ..finding
        })
    }

    /// What peers are told.
    pub(crate) fn published(&self) -> Published {
        let states = self
            .databases
            .iter()
            .filter_map(|(name, watched)| match &watched.remembered {
                Some(Remembered::Record(record)) if !record.state.is_empty() => Some((name.clone(), Claim::of(record))),
                _ => None,
            });
        Published {
            uuid: self.identity().0.map(str::to_owned),
            states: states.collect(),
        }
    }

    /// Weighs an operator's word.
    ///
    /// # Errors
    /// A sentence: it was taken before, there is no finding, or nothing that could be trusted.
    pub(crate) fn weigh(&self, order: &Order, now: Nanos) -> Result<Word, String> {
        let watched = self.databases.get(&order.database);
        let remembered = watched.and_then(|watched| watched.remembered.as_ref());
        let shown = watched.and_then(|watched| Some((watched.shown?, watched.history)));
        let found = match watched.and_then(|watched| watched.kind) {
            Some(("tampered", code)) if remembered.is_none() => Some(code),
            _ => None,
        };
        Word::new(order, (&self.endpoint, &self.label), remembered, found, shown, now)
    }

    /// Whether what is remembered under a key says that something was found.
    pub(crate) fn is_found(&self, key: &[u8]) -> bool {
        let prefix = trusted::key(&self.endpoint, "");
        let name = key
            .strip_prefix(&prefix[..])
            .and_then(|name| std::str::from_utf8(name).ok());
        let record = name.and_then(|name| self.record(name));
        record.is_some_and(|record| record.finding.is_some())
    }

    /// Whether something is remembered of a database.
    pub(crate) fn remembers(&self, database: &str) -> bool {
        let watched = self.databases.get(database);
        watched.is_some_and(|watched| watched.remembered.is_some())
    }

    /// Whether there is room for what another auditor trusted.
    pub(crate) fn has_room(&self, import: &Import) -> bool {
        self.room
            .take(&trusted::key(&self.endpoint, &import.database), &import.record)
    }

    /// Trusts what another auditor trusted, which is in the journal by now.
    pub(crate) fn import(&mut self, import: Import) {
        let watched = self.databases.entry(import.database).or_default();
        watched.remembered = Some(Remembered::Record(Box::new(import.record)));
    }

    /// Trusts what an operator's word says, which is in the journal by now.
    pub(crate) fn take(&mut self, word: Word) {
        if !self.remembers(&word.database) {
            // It is there, whether or not there is room for as much as it may grow to.
            let key = trusted::key(&self.endpoint, &word.database);
            let _ = self.room.take(&key, &word.record);
        }
        let watched = self.databases.entry(word.database).or_default();
        watched.remembered = Some(Remembered::Record(Box::new(word.record)));
        watched.gone = None;
        // Whatever comes next is news.
        (watched.told, watched.answer) = (None, None);
        // The same state may differ elsewhere from another trusted one.
        watched.located = None;
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
        let verdict = missing(watched, verdict, (self.missing_after, self.interval), now);
        let before = match &watched.remembered {
            Some(Remembered::Record(record)) => Some((**record).clone()),
            _ => None,
        };
        let (mut verdict, mut record) = weigh(watched.remembered.as_ref(), verdict, now);
        let key = trusted::key(&self.endpoint, database);
        if let (None, Some(new)) = (&watched.remembered, &record)
            && !self.room.take(&key, new)
        {
            let text = "there is no room to remember one more database: all servers share 8 MiB, of which each \
                        of several keeps a part for itself; select fewer";
            (verdict, record) = (Verdict::Unchecked(Unchecked::new("too-many", text)), None);
        }
        if let Some(record) = record {
            note.states.push((key, record.encode()));
            watched.remembered = Some(Remembered::Record(Box::new(record)));
        }
        let beside = match &watched.remembered {
            Some(Remembered::Record(record)) => {
                self.metrics.known(&self.label, database, record);
                (unseen(record.past), checked_values(record))
            }
            _ => (Value::Null, Value::Null),
        };
        match &verdict {
            Verdict::Ok(good) => (watched.shown, watched.history) = (Some(good.state), None),
            Verdict::Tampered(finding) => {
                // What was found before is not found any more.
                let follows = (finding.reason == NOT_ACCEPTED).then_some(History::Follows);
                (watched.shown, watched.history) = (finding.shown, finding.history.or(follows));
                let located = finding.shown.zip(finding.located.as_deref().cloned());
                watched.located = located.or(watched.located.take());
            }
            Verdict::Unchecked(_) => {}
        }
        let (kind, history) = (verdict.kind(), verdict.history());
        // That it can't be told just now is no news.
        let news = history != watched.answer && history.is_some_and(|history| history != History::Unknown);
        let changed = watched.kind.replace(kind) != Some(kind) || news;
        let due = watched.told.is_none_or(|told| now.saturating_sub(told) >= AGAIN);
        if changed || due {
            watched.answer = history;
        }
        watched.said = Some(Instant::now());
        let checked = watched.checked;
        if kind.0 != "error" {
            watched.checked = Some(now);
        }
        let trusted = before.as_ref().map_or(0, |record| record.state.tx.0);
        if named {
            self.metrics.end(&self.label, database, &verdict, trusted, now);
        }
        if let Some(face) = &mut self.face {
            face.verdict(database, &verdict, before.as_ref().map(|record| record.state), now);
        }
        if changed || due || self.every {
            watched.told = Some(now);
            if changed {
                log(&self.label, database, &verdict);
            }
            let told = Told {
                database: database.to_owned(),
                data: self.data(database, &verdict, before.as_ref(), beside, (checked, now)),
                verdict,
            };
            note.told.push(told);
        }
    }

    /// What to do now, with the names that its command takes, where these need no quotes.
    fn advice(&self, finding: &Finding, database: &str) -> String {
        let is_plain = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
            !name.is_empty() && name.bytes().all(plain)
        };
        let advice = finding.advice();
        if is_plain(&self.label) && is_plain(database) {
            advice.replace("SERVER DB", &format!("{} {database}", self.label))
        } else {
            advice.to_owned()
        }
    }

    fn data(
        &self,
        database: &str,
        verdict: &Verdict,
        trusted: Option<&Record>,
        (unseen, values): (Value, Value),
        (checked, now): (Option<Nanos>, Nanos),
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
                state["signature"] = record.signature.as_ref().map(hex::encode).into();
                state
            }),
            "unseen": unseen,
            "values": values,
        });
        match verdict {
            Verdict::Ok(good) => {
                data["checked"] = good.how.as_str().into();
                data["current"] = shown(&good.state);
                data["current"]["uuid"] = good.uuid.clone().into();
                data["current"]["signed_by"] = good.key.map(|key| hex::encode(key.to_point())).into();
                let signature = good.signature.as_ref().map(|signature| hex::encode(&signature.bytes));
                data["current"]["signature"] = signature.into();
                let before = trusted.map_or(0, |record| record.state.tx.0);
                if good.how != How::First {
                    data["new_transactions"] = good.state.tx.0.saturating_sub(before).into();
                }
            }
            Verdict::Tampered(finding) => {
                data["code"] = finding.code.as_str().into();
                data["reason"] = finding.reason.into();
                data["text"] = finding.text.clone().into();
                data["meaning"] = finding.code.meaning().into();
                data["do"] = self.advice(finding, database).into();
                if let Some(history) = finding.history {
                    data["history"] = history.as_str().into();
                    data["also"] = finding.also().map(Code::as_str).into();
                }
                data["tx"] = finding.tx.into();
                data["keys"] = finding.keys.iter().map(|key| key::shown(key)).collect();
                data["location"] = finding.located.as_ref().map_or(Value::Null, |located| located.data());
                data["current"] = finding.shown.map_or(Value::Null, |state| shown(&state));
                if let (Some(_), Some(signature)) = (finding.shown, &finding.signature) {
                    data["current"]["signed_by"] = hex::encode(&signature.key).into();
                    data["current"]["signature"] = hex::encode(&signature.bytes).into();
                }
                if let Some(uuid) = &finding.uuid {
                    data["uuid"] = uuid.clone().into();
                }
            }
            Verdict::Unchecked(why) => {
                data["reason"] = why.reason.into();
                data["text"] = why.text.clone().into();
                data["finding"] = why.finding.map(Code::as_str).into();
                data["last_checked"] = checked.map(time::format).into();
                data["age_seconds"] = checked
                    .map(|checked| now.saturating_sub(checked) / 1_000_000_000)
                    .into();
            }
        }
        data
    }
}

/// Transactions from before the first contact, and how many of their headers are still to be looked at.
fn unseen(past: Option<Descent>) -> Value {
    let past = past.filter(|past| !past.from.is_empty());
    past.map_or(
        Value::Null,
        |past| json!({"first_tx": 1, "last_tx": past.from.tx.0, "left": past.left()}),
    )
}

/// How far values were checked.
fn checked_values(record: &Record) -> Value {
    let past = record.past.map_or(0, |past| past.from.tx.0);
    let (unchecked, oldest) = record.values.unchecked(record.state.tx.0, past);
    json!({
        "unchecked": unchecked,
        "oldest_unchecked": (oldest > 0).then_some(oldest),
        "round_seconds": record.values.took.map(|took| took / 1_000_000_000),
        "not_given": record.values.not_given_before,
    })
}

/// A database that is gone becomes a finding once it is gone for long enough and there was something to lose. No audit is
/// waited for on account of one that comes a little early.
fn missing(watched: &mut Watched, verdict: Verdict, (after, interval): (Duration, Duration), now: Nanos) -> Verdict {
    let early = after.min(interval) / 2;
    let had = match &watched.remembered {
        Some(Remembered::Record(record)) => !record.state.is_empty(),
        Some(Remembered::Broken) => true,
        None => false,
    };
    match verdict {
        Verdict::Unchecked(Unchecked {
            reason: "missing",
            text,
            ..
        }) if had => {
            let since = *watched.gone.get_or_insert(now);
            if Duration::from_nanos(now.saturating_sub(since)) + early >= after {
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

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::parse("db1:3322").unwrap()
    }

    fn ledger(memory: &Memory, registry: &Registry) -> Ledger {
        let room = Room::new(memory, [&endpoint()]);
        let metrics = Metrics::new(registry).unwrap();
        let minute = Duration::from_secs(60);
        let names = (endpoint(), "db1".to_owned());
        Ledger::new(names, (memory, room), metrics, minute, minute, false)
    }

    /// Another life shows what was found before anybody answers.
    #[test]
    fn a_finding_is_shown_from_the_start() {
        let record = |finding: Value| {
            let record = json!({
                "v": 1, "tx": 9, "alh": "07".repeat(32), "uuid": null, "key": null, "first": 1, "taken": 2,
                "finding": finding, "accepted": [],
            });
            (record.to_string().into_bytes(), None)
        };
        let mut memory = Memory::new();
        let found = record(json!({"code": "rollback", "at": 3}));
        memory.insert(trusted::key(&endpoint(), "bad"), found);
        memory.insert(trusted::key(&endpoint(), "good"), record(Value::Null));
        let registry = Registry::new();
        let mut ledger = ledger(&memory, &registry);
        ledger.expect(["", "bad", "good"].into_iter());
        let all = registry.gather();
        let results = all
            .iter()
            .filter(|family| family.name() == "auditmon_immudb_audit_result");
        let results = results.flat_map(|family| family.get_metric()).map(|metric| {
            let mut labels = metric.get_label().iter();
            let db = labels.find(|label| label.name() == "db").unwrap();
            (db.value().to_owned(), metric.get_gauge().get_value())
        });
        let results: Vec<_> = results.collect();
        assert_eq!(results, [("bad".to_owned(), 0.0)]);
    }

    /// What the last event says of another server's history gets old at the next answer, and silence takes no answer back.
    #[test]
    fn whether_another_server_has_the_history_is_told_as_soon_as_it_is_known() {
        use History::{Differs, Follows, Unknown};
        let mut ledger = ledger(&Memory::new(), &Registry::new());
        let mut now = 0;
        for (step, (history, told)) in [
            (Some(Unknown), true),
            (Some(Unknown), false),
            (Some(Follows), true),
            // Whatever it alternates between.
            (Some(Unknown), false),
            (Some(Follows), false),
            (Some(Unknown), false),
            (Some(Differs(Code::Rollback)), true),
            (Some(Differs(Code::Rollback)), false),
            (Some(Differs(Code::Proof)), true),
            (Some(Follows), true),
            // Not an answer at all, after which it says again what it knows.
            (None, true),
            (Some(Unknown), true),
            (Some(Follows), true),
            (Some(Follows), false),
        ]
        .into_iter()
        .enumerate()
        {
            let verdict = match history {
                Some(history) => {
                    let mut finding = Finding::new(Code::Identity, "identity", "another server");
                    finding.follow(history, "");
                    Verdict::Tampered(finding)
                }
                None => Verdict::Unchecked(Unchecked::new("timeout", "no answer")),
            };
            let mut note = Note::default();
            now += 60_000_000_000;
            ledger.settle("orders", verdict, &mut note, now);
            assert_eq!(note.told.len(), usize::from(told), "step {step}: {history:?}");
        }
        // What is told again after an hour may be that it is unknown.
        for (minutes, history, told) in [(60, Unknown, true), (1, Follows, true), (1, Unknown, false)] {
            let mut finding = Finding::new(Code::Identity, "identity", "another server");
            finding.follow(history, "");
            let mut note = Note::default();
            now += minutes * 60_000_000_000;
            ledger.settle("orders", Verdict::Tampered(finding), &mut note, now);
            assert_eq!(note.told.len(), usize::from(told), "{history:?}");
        }
    }

    fn rollback() -> Verdict {
        Verdict::Tampered(Finding::new(Code::Rollback, "rollback", "fewer"))
    }

    fn settled(ledger: &mut Ledger, verdict: Verdict, now: Nanos) -> usize {
        let mut note = Note::default();
        ledger.settle("orders", verdict, &mut note, now);
        note.told.len()
    }

    /// It was told, stands, and is told again every hour: how seldom its database is asked says nothing more.
    #[test]
    fn a_finding_on_a_database_without_an_answer_is_not_late() {
        let mut ledger = ledger(&Memory::new(), &Registry::new());
        let silence = || Verdict::Unchecked(Unchecked::new("timeout", "no answer"));
        for (verdict, answered, is_late) in [
            (rollback(), true, true),
            (rollback(), false, false),
            (silence(), false, false),
        ] {
            settled(&mut ledger, verdict, 0);
            ledger.asked("orders", answered);
            let old = Instant::now() - ledger.most();
            ledger.databases.get_mut("orders").unwrap().said = Some(old);
            assert_eq!(ledger.late() == ["orders"], is_late, "{answered}");
            assert!(ledger.next_late() > Instant::now(), "it is not looked at all the time");
        }
    }

    /// What is found after an operator's word is none of what was told before.
    #[test]
    fn a_finding_after_a_word_is_told_at_once() {
        let record = json!({
            "v": 1, "tx": 9, "alh": "07".repeat(32), "uuid": null, "key": null, "first": 1, "taken": 2,
            "finding": null, "accepted": [],
        });
        let mut memory = Memory::new();
        let value = (record.to_string().into_bytes(), None);
        memory.insert(trusted::key(&endpoint(), "orders"), value);
        let mut ledger = ledger(&memory, &Registry::new());
        let told = [1, 2].map(|now| settled(&mut ledger, rollback(), now));
        assert_eq!(told, [1, 0]);
        let order = Order {
            database: "orders".to_owned(),
            state: ledger.record("orders").map(|record| record.state),
            by: "jane".to_owned(),
            uid: None,
            reason: "a restore".to_owned(),
            mark: None,
        };
        let word = ledger.weigh(&order, 3).unwrap();
        ledger.take(word);
        let told = [4, 5].map(|now| settled(&mut ledger, rollback(), now));
        assert_eq!(told, [1, 0]);
    }

    /// The second audit that misses a database tells it, where that is what `missing_after` says, and no sooner.
    #[test]
    fn it_is_missing_at_the_next_audit_although_that_comes_early() {
        let second = Duration::from_secs(1);
        let gone = || Verdict::Unchecked(Unchecked::new("missing", ""));
        let minute = 60 * second;
        for (after, interval, audits) in [
            (Duration::ZERO, minute, 1),
            (minute / 6, minute, 2),
            (minute, minute, 2),
            (minute, minute / 2, 3),
            (2 * minute, minute, 3),
        ] {
            let mut watched = Watched {
                remembered: Some(Remembered::Broken),
                ..Watched::default()
            };
            // Each comes a little earlier than the one before.
            let step = (interval - Duration::from_millis(20)).as_nanos() as Nanos;
            let found = |now| missing(&mut watched, gone(), (after, interval), now).result() == "tampered";
            let first = (1..10).map(|audit| audit * step).position(found);
            assert_eq!(first, Some(audits - 1), "{after:?} {interval:?}");
        }
    }
}
