//! The way to one server: its logins, its list, and one audit of one of its databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use auditmon_core::time;
use immudb_verify::{PublicKey, State};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::audit::{Asked, Audited, audit};
use crate::behind::Behind;
use crate::chore::{Budget, Line};
use crate::client::seat::ONLY;
use crate::client::{Client, Fault, Listed, MAX_DATABASES, Seat, is_name};
use crate::compat::Known;
use crate::config::Accept;
use crate::history::Histories;
use crate::ledger::Ledger;
use crate::locate::{Located, locate};
use crate::metrics::Metrics;
use crate::select::Selection;
use crate::trusted::Record;
use crate::verdict::{Code, Finding, Good, Verdict};

/// A session that is not used for so long is kept alive; servers end it after two minutes.
pub(crate) const IDLE: Duration = Duration::from_secs(45);
/// Most databases of one server at a time: a server has 100 sessions for all its clients.
pub(crate) const SEATS: usize = 8;
/// A finding waits for its place for as long as so many calls may take, and never longer than an audit may.
const PLACE: u32 = 3;
/// For saying goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// What does not change while it runs.
pub(crate) struct Link {
    /// Its name in metrics.
    pub(crate) label: String,
    pub(crate) client: Client,
    pub(crate) selection: Selection,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) accept: Vec<Accept>,
    /// What another auditor trusted.
    pub(crate) known: Vec<Known>,
    pub(crate) walk: u64,
    /// For work beside the audits, each interval.
    pub(crate) budget: Budget,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Duration,
    /// Databases at a time, all servers together; those that give no answer, and those whose place is looked for, don't
    /// count.
    pub(crate) limit: Arc<Semaphore>,
    /// Databases of this server at a time: its share of all.
    pub(crate) width: usize,
    /// So many audits in a row ended without an answer.
    pub(crate) silences: AtomicUsize,
    pub(crate) seats: Mutex<Vec<Seat>>,
    /// Findings that are not told yet, by database.
    pub(crate) findings: Mutex<BTreeMap<String, Finding>>,
    pub(crate) histories: Histories,
    pub(crate) behind: Behind,
    pub(crate) metrics: Metrics,
}

/// The audits of one interval.
pub(crate) struct Turn {
    begun: Instant,
    /// How many databases gave no answer, or are being asked although there will hardly be one.
    silent: AtomicUsize,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            silent: AtomicUsize::new(0),
        }
    }
}

/// One database to audit.
pub(crate) struct Job {
    pub(crate) name: String,
    loaded: bool,
    /// It gave no answer last time.
    silent: bool,
    record: Option<Record>,
    server: (Option<String>, Option<PublicKey>),
    held: bool,
    /// Where it was found to differ, and what the server showed then.
    located: Option<(State, Located)>,
    /// What work beside the audits found, to be told if the audit itself finds nothing.
    pub(crate) found: Option<Finding>,
}

impl Link {
    /// What is to be audited of these databases, which are in order, and of those that are named or remembered; those that
    /// gave no answer last time at the end, by when they were asked. And how many that are new are left out.
    pub(crate) fn jobs(&self, ledger: &Ledger, listed: &[Listed]) -> (Vec<Job>, usize) {
        let (names, left) = self.names(ledger, listed);
        let now = time::now();
        let (uuid, key) = ledger.identity();
        let server = (uuid.map(str::to_owned), key.copied());
        let mut jobs: Vec<Job> = names
            .into_iter()
            .map(|name| Job {
                loaded: listed
                    .binary_search_by(|listed| listed.name.as_str().cmp(name))
                    .map_or(true, |at| listed[at].loaded),
                silent: ledger.silent(name).is_some(),
                record: ledger.record(name).cloned(),
                server: server.clone(),
                held: ledger.is_due(name, now),
                located: ledger.located(name),
                found: None,
                name: name.to_owned(),
            })
            .collect();
        jobs.sort_by_cached_key(|job| ledger.silent(&job.name));
        (jobs, left)
    }

    /// Databases to audit, and how many are left out: whatever a server lists, none that is named or remembered.
    fn names<'a>(&'a self, ledger: &'a Ledger, listed: &'a [Listed]) -> (BTreeSet<&'a str>, usize) {
        let takes = |name: &&str| self.selection.takes(name);
        let named = self.selection.named().filter(|name| is_name(name));
        let mut names: BTreeSet<&str> = ledger.remembered().filter(takes).chain(named).collect();
        let listed = listed.iter().map(|listed| listed.name.as_str()).filter(takes);
        let (known, new): (Vec<&str>, Vec<&str>) = listed.partition(|name| ledger.remembers(name));
        names.extend(known);
        let mut left = 0;
        for name in new {
            if names.len() < MAX_DATABASES {
                names.insert(name);
            } else if !names.contains(name) {
                left += 1;
            }
        }
        (names, left)
    }

    /// Says goodbye to the server; one that is gone ends its logins by itself.
    pub(crate) async fn goodbye(&self) {
        let seats = std::mem::take(&mut *self.seats.lock());
        let goodbye = futures_util::future::join_all(seats.into_iter().map(|seat| self.client.close(seat)));
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    /// Whether a database will hardly give an answer: it gave none last time, or the server gives none at all.
    fn is_silent(&self, job: &Job) -> bool {
        job.silent || self.silences.load(Relaxed) >= self.width
    }

    /// Audits one database; not if it will hardly give an answer and the others would have to wait for it.
    pub(crate) async fn in_turn(&self, job: &Job, turn: &Turn) -> Option<Audited> {
        let doubtful = job.loaded && self.is_silent(job);
        let waits = turn.silent.load(Relaxed) >= self.width && turn.begun.elapsed() + self.timeout > self.interval;
        if doubtful && waits {
            return None;
        }
        turn.silent.fetch_add(doubtful.into(), Relaxed);
        let audited = self.one(job).await;
        turn.silent.fetch_sub(doubtful.into(), Relaxed);
        turn.silent.fetch_add(audited.silent.into(), Relaxed);
        Some(audited)
    }

    /// Audits one database within its deadline, and says where it differs if it does.
    pub(crate) async fn one(&self, job: &Job) -> Audited {
        if !job.loaded {
            return Verdict::of_fault(&Fault::Unloaded).into();
        }
        let Audited { mut verdict, silent } = self.within(job).await;
        if silent {
            self.silences.fetch_add(1, Relaxed);
        } else {
            self.silences.store(0, Relaxed);
        }
        match &mut verdict {
            Verdict::Ok(good) => self.remember(job, good).await,
            // A finding doesn't wait for this for long, and stands without it.
            Verdict::Tampered(finding) => {
                self.findings.lock().insert(job.name.clone(), finding.clone());
                let most = self.deadline.min(self.timeout.saturating_mul(PLACE));
                let _ = tokio::time::timeout(most, self.locate(job, finding)).await;
            }
            Verdict::Unchecked(_) => {}
        }
        let verdict = match (verdict, &job.found) {
            (Verdict::Ok(good), Some(found)) => Verdict::Tampered(Finding {
                shown: Some(good.state),
                uuid: good.uuid,
                ..found.clone()
            }),
            (verdict, _) => verdict,
        };
        Audited { verdict, silent }
    }

    /// The audit itself, within limits.
    async fn within(&self, job: &Job) -> Audited {
        let _permit = match self.is_silent(job) {
            // Nobody else is to wait for it.
            true => None,
            // Never closed.
            false => self.limit.acquire().await.ok(),
        };
        let begin = Instant::now();
        let audited = tokio::time::timeout(self.deadline, self.judge(job)).await;
        self.metrics.took(&self.label, begin.elapsed().as_secs_f64());
        let audited = audited.unwrap_or_else(|_| Verdict::of_fault(&Fault::Timeout(self.deadline)).into());
        self.settled(job, audited)
    }

    /// Whatever an audit came to: that another server was seen on the way stands.
    fn settled(&self, job: &Job, audited: Audited) -> Audited {
        let why = match &audited.verdict {
            Verdict::Tampered(_) => return audited,
            Verdict::Unchecked(why) => format!(" ({})", why.text),
            Verdict::Ok(_) => String::new(),
        };
        let Some(mut finding) = self.findings.lock().get(&job.name).cloned() else {
            return audited;
        };
        finding.text.push_str(&why);
        Audited {
            verdict: Verdict::Tampered(finding),
            ..audited
        }
    }

    /// Keeps what was seen, for the day when something differs. Nothing is taken while a finding stands, and of databases
    /// that are new: there may be no room to remember them, and a server may list others each time.
    async fn remember(&self, job: &Job, good: &mut Good) {
        let seen = std::mem::take(&mut good.seen);
        let record = job.record.as_ref().filter(|record| record.finding.is_none());
        let Some(record) = record.filter(|_| !seen.is_empty() && !good.state.is_empty()) else {
            return;
        };
        let history = self.histories.of(&self.client.endpoint, &job.name);
        let trusted = record.state;
        let kept = tokio::task::spawn_blocking(move || history.append(&trusted, &seen)).await;
        if let Err(error) = kept.map_err(std::io::Error::other).flatten() {
            let (server, database) = (&self.label, &job.name);
            tracing::debug!(server, database, "immudb: the history is not kept: {error}");
        }
    }

    /// Says where the history begins to differ, as far as that is remembered.
    async fn locate(&self, job: &Job, finding: &mut Finding) {
        let (Some(record), Some(shown)) = (&job.record, finding.shown) else {
            return;
        };
        // Another server may have another history, too.
        let code = finding.also().unwrap_or(finding.code);
        if !matches!(code, Code::Proof | Code::Fork | Code::Rollback) {
            return;
        }
        if let Some((_, located)) = job.located.as_ref().filter(|(state, _)| *state == shown) {
            return finding.locate(located.clone());
        }
        let (history, trusted) = (self.histories.of(&self.client.endpoint, &job.name), record.state);
        let past = record.past;
        let rungs = tokio::task::spawn_blocking(move || history.rungs(&trusted, past.as_ref())).await;
        let Ok(Ok(Some(rungs))) = rungs else { return };
        let Ok(mut seat) = self.seat(&job.name).await else {
            return;
        };
        let found = locate(&self.client, &mut seat, &job.name, &rungs, (trusted, shown)).await;
        match found {
            Ok(mut located) => {
                if let Some(tx) = located.tx() {
                    let uuid = finding.uuid.as_deref().or(record.uuid.as_deref());
                    let line = Line::new(&self.client, &seat, uuid);
                    // One call more, which finds no place.
                    located.keys = line.keys(tx, &mut 1).await;
                }
                self.seats.lock().push(seat);
                finding.locate(located);
            }
            Err(fault) => {
                let text = format!("; where it differs could not be found: {fault}");
                finding.text.push_str(&text);
                // It may still be at work on that.
                self.leave(seat).await;
            }
        }
    }

    /// Gives back a login that nothing else is to be asked with.
    pub(crate) async fn leave(&self, seat: Seat) {
        let _ = tokio::time::timeout(GOODBYE, self.client.close(seat)).await;
    }

    async fn judge(&self, job: &Job) -> Audited {
        let asked = Asked {
            database: &job.name,
            trusted: job.record.as_ref(),
            server: (job.server.0.as_deref(), job.server.1.as_ref()),
            keys: &self.keys,
            walk: self.walk,
            held: job.held,
            findings: &self.findings,
        };
        for attempt in 0..2 {
            // A restart ends all logins: the second time none of those that lie there is taken.
            let seat = match attempt {
                0 => self.seat(&job.name).await,
                _ => self.client.open(&job.name).await,
            };
            let mut seat = match seat {
                Ok(seat) => seat,
                Err(fault) => return Verdict::of_fault(&fault).into(),
            };
            let Some(audited) = audit(&self.client, &mut seat, &asked).await else {
                continue;
            };
            if audited.silent {
                // It may still be at work on that; the seat is not asked anything else.
                self.leave(seat).await;
            } else {
                self.seats.lock().push(seat);
            }
            return audited;
        }
        Verdict::of_fault(&Fault::Expired).into()
    }

    /// A login, if possible one that is on this database.
    pub(crate) async fn seat(&self, database: &str) -> Result<Seat, Fault> {
        let free = {
            let mut seats = self.seats.lock();
            let there = seats.iter().position(|seat| seat.database() == Some(database));
            match there {
                Some(at) => Some(seats.swap_remove(at)),
                None => seats.pop(),
            }
        };
        match free {
            Some(seat) => Ok(seat),
            None => self.client.open(database).await,
        }
    }

    /// The list of databases; without a login that of a server without authentication.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, Fault> {
        let names: Vec<String> = self.selection.named().map(str::to_owned).collect();
        for attempt in 0..2 {
            let free = self.seats.lock().pop();
            let seat = match free {
                Some(seat) => seat,
                None => self.client.open_any(&names).await?,
            };
            match self.client.list(&seat).await {
                // After a restart of the server none of the others is good for anything either.
                Err(Fault::Expired) if attempt == 0 && !seat.is_without_login() => self.seats.lock().clear(),
                Err(Fault::NoAuthentication) if seat.is_without_login() => {
                    self.seats.lock().push(seat);
                    let name = ONLY.to_owned();
                    return Ok(vec![Listed { name, loaded: true }]);
                }
                Err(Fault::Expired) if seat.is_without_login() => {
                    let text = "the server asks for a login; set `username` and `password` or `password_file`";
                    return Err(Fault::Login(text.to_owned()));
                }
                other => {
                    self.seats.lock().push(seat);
                    return other;
                }
            }
        }
        Err(Fault::Expired)
    }

    /// Uses the sessions that were not used for a while; those that are gone are opened again when needed.
    pub(crate) async fn keep_alive(&self) {
        let idle: Vec<Seat> = {
            let mut seats = self.seats.lock();
            let (idle, busy) = std::mem::take(&mut *seats)
                .into_iter()
                .partition(|seat| seat.expires() && seat.used().elapsed() >= IDLE);
            *seats = busy;
            idle
        };
        let kept = idle.into_iter().map(|mut seat| async move {
            let kept = self.client.keep_alive(&mut seat).await;
            kept.is_ok().then_some(seat)
        });
        let kept = futures_util::future::join_all(kept).await;
        self.seats.lock().extend(kept.into_iter().flatten());
    }
}
