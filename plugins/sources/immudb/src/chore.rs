//! Work beside the audits, on what came before the first contact and on values: so many calls to each server an interval,
//! one after the other, on its databases in turn. What it finds is told once an audit says that the server still shows
//! what is trusted: else that tells more.

use std::time::Instant;

use immudb_verify::{Reason, State};

use crate::behind::Behind;
use crate::checked::Values;
use crate::client::{Answer, Client, Fault, Seat};
use crate::descent::Descent;
use crate::link::Link;
use crate::trusted::Record;
use crate::verdict::{Finding, Verdict};

/// Calls that may still be made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Budget {
    /// For headers from before the first contact.
    pub(crate) past: u32,
    /// For values.
    pub(crate) values: u32,
}

/// A database to work on.
pub(crate) struct Task {
    pub(crate) database: String,
    pub(crate) record: Record,
}

/// What the work on a database came to.
pub(crate) struct Done {
    pub(crate) database: String,
    /// How far back headers were looked at.
    pub(crate) past: Descent,
    /// Which values were checked.
    pub(crate) values: Values,
    /// How many keys were asked for and proven.
    pub(crate) proven: u64,
    pub(crate) finding: Option<Finding>,
    /// Why it came to nothing more.
    pub(crate) stuck: Option<String>,
}

/// Why work ends early.
pub(crate) enum Stop {
    /// It is gone on with later; if it is of any weight, an audit tells.
    Later,
    /// An answer came from another server than the one that is trusted.
    Stranger,
    /// The server gave no answer.
    Fault(Fault),
    Found(Finding),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        match Verdict::of_fault(&fault) {
            Verdict::Tampered(finding) => Self::Found(finding),
            _ => Self::Fault(fault),
        }
    }
}

impl Stop {
    /// What is wrong with this transaction.
    pub(crate) fn at(tx: u64, reason: &Reason) -> Self {
        match Verdict::of_reason(reason) {
            Verdict::Tampered(finding) => Self::Found(Finding {
                tx: Some(tx),
                ..finding
            }),
            _ => Self::Later,
        }
    }
}

/// The way to one database.
pub(crate) struct Line<'a> {
    pub(crate) client: &'a Client,
    pub(crate) seat: &'a Seat,
    /// The name that the server is trusted under.
    uuid: Option<&'a str>,
    /// Where keys are asked for: who is to be left alone, and the database's name.
    behind: Option<(&'a Behind, &'a str)>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(client: &'a Client, seat: &'a Seat, uuid: Option<&'a str>) -> Self {
        Self {
            client,
            seat,
            uuid,
            behind: None,
        }
    }

    /// Whether the database may be asked for a key.
    pub(crate) fn asks(&self) -> bool {
        self.behind
            .is_some_and(|(behind, name)| behind.is_due(name, Instant::now()))
    }

    /// Takes whether it gave an answer to that.
    pub(crate) fn asked(&self, answered: bool) {
        if let Some((behind, name)) = self.behind {
            behind.asked(name, answered, Instant::now());
        }
    }

    /// What an answer says, if it is from the server that is trusted.
    pub(crate) fn same<T>(&self, answer: Answer<T>) -> Result<T, Stop> {
        match self.uuid {
            Some(uuid) if answer.uuid.as_deref() != Some(uuid) => Err(Stop::Stranger),
            _ => Ok(answer.message),
        }
    }
}

impl Task {
    /// Whether there is anything to do within a budget.
    pub(crate) fn is_due(&self, budget: Budget) -> bool {
        let past = self
            .record
            .past
            .is_some_and(|past| past.page(1, self.low(&past)).is_some());
        (past && budget.past > 0) || (!self.record.state.is_empty() && budget.values > 0)
    }

    /// The transaction that a way down can't pass, since its damage was accepted; 0 if there is none.
    fn low(&self, descent: &Descent) -> u64 {
        let damaged = self.record.damaged.iter().copied();
        damaged.filter(|tx| *tx <= descent.next.tx.0).max().unwrap_or(0)
    }
}

impl Link {
    /// Works on these databases until its calls are used up, or something is found that stands by itself: that is told first.
    pub(crate) async fn chores(&self, tasks: Vec<Task>) -> Vec<Done> {
        let (mut budget, mut all) = (self.budget, Vec::new());
        for task in tasks {
            let stands = |done: &Done| done.finding.as_ref().is_some_and(Finding::stands);
            if budget == Budget::default() || all.last().is_some_and(stands) {
                break;
            }
            if task.is_due(budget) {
                all.extend(self.chore(task, &mut budget).await);
            }
        }
        all
    }

    async fn chore(&self, task: Task, budget: &mut Budget) -> Option<Done> {
        let mut done = Done {
            past: task.record.past?,
            values: task.record.values.clone(),
            proven: 0,
            finding: None,
            stuck: None,
            database: task.database.clone(),
        };
        // Why there is no login is for the audits to say.
        let mut seat = self.seat(&task.database).await.ok()?;
        let worked = match self.client.select(&mut seat, &task.database).await {
            Ok(()) => self.work(&seat, &task, &mut done, budget).await,
            Err(fault) => Err(fault.into()),
        };
        match worked {
            // Of no use any more.
            Err(Stop::Fault(Fault::Expired)) => {}
            // It may still be at work on that.
            Err(Stop::Fault(fault @ Fault::Timeout(_))) => {
                done.stuck = Some(fault.to_string());
                self.leave(seat).await;
            }
            worked => {
                self.seats.lock().push(seat);
                match worked {
                    Ok(()) => {}
                    Err(Stop::Found(finding)) => done.finding = Some(finding),
                    Err(Stop::Fault(fault)) => done.stuck = Some(fault.to_string()),
                    Err(Stop::Stranger) => done.stuck = Some("answers carry another server's identity".to_owned()),
                    Err(Stop::Later) => done.stuck = Some("answers don't fit together".to_owned()),
                }
            }
        }
        Some(done)
    }

    async fn work(&self, seat: &Seat, task: &Task, done: &mut Done, budget: &mut Budget) -> Result<(), Stop> {
        let line = Line {
            behind: Some((&self.behind, &task.database)),
            ..Line::new(&self.client, seat, task.record.uuid.as_deref())
        };
        let (before, mut found) = (done.past, Vec::new());
        let low = task.low(&before);
        let ended = line.past(&mut done.past, low, &mut budget.past, &mut found).await;
        self.keep(&task.database, before, found).await;
        ended?;
        let (first, calls) = (before.from.tx.0, &mut budget.values);
        line.values(&mut done.values, &task.record, first, calls, &mut done.proven)
            .await
    }

    /// Keeps hashes from before the first contact, for the day when something differs.
    async fn keep(&self, database: &str, before: Descent, found: Vec<State>) {
        if found.is_empty() {
            return;
        }
        let history = self.histories.of(&self.client.endpoint, database);
        let kept = tokio::task::spawn_blocking(move || history.earlier.append(&before, &found)).await;
        if let Err(error) = kept.map_err(std::io::Error::other).flatten() {
            let server = &self.label;
            tracing::debug!(server, database, "immudb: the earlier history is not kept: {error}");
        }
    }
}
