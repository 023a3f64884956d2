//! What a server's task makes of peers: it tells them what it trusts, and looks at what they tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::time::{self, Nanos};
use auditmon_journal::Linger;
use immudb_verify::State;
use serde_json::Value;
use tokio::task::{JoinError, JoinSet};

use super::compare::Met;
use super::hub::{Hub, Of};
use crate::server::Server;

/// Most states that are looked at in one go.
const MOST: usize = 100;
/// After so long a difference that stays is told again.
const AGAIN: Nanos = 3_600_000_000_000;

/// A peer's state, and what looking at it came to.
pub(crate) struct Compared {
    of: Of,
    state: State,
    /// What the history here began with when it was looked at.
    from: Option<State>,
    met: Met,
}

/// A server's share in the exchange.
pub(crate) struct Meeting {
    hub: Arc<Hub>,
    /// At most one at a time.
    work: JoinSet<Vec<Compared>>,
    /// When differences that nobody has signed were told, by peer and database.
    told: BTreeMap<(usize, String), Nanos>,
}

impl Meeting {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            work: JoinSet::new(),
            told: BTreeMap::new(),
        }
    }

    /// An operator trusts another state of a database.
    pub(crate) fn forget(meeting: Option<&Self>, label: &str, database: &str) {
        if let Some(meeting) = meeting {
            meeting.hub.forget(label, database);
        }
    }

    /// What was looked at; `None` if nothing is.
    pub(crate) async fn next(meeting: &mut Option<Self>) -> Option<Result<Vec<Compared>, JoinError>> {
        meeting.as_mut()?.work.join_next().await
    }

    /// Ends what is under way.
    pub(crate) async fn end(meeting: &mut Option<Self>) {
        if let Some(meeting) = meeting {
            meeting.work.shutdown().await;
        }
    }
}

impl Server {
    /// Tells peers what is trusted, and begins to look at what they told.
    pub(crate) fn meet(&mut self) {
        let Some(meeting) = &mut self.meeting else { return };
        let (hub, label) = (&meeting.hub, &self.ledger.label);
        hub.publish(label, &self.ledger.endpoint, self.ledger.published());
        if !meeting.work.is_empty() {
            return;
        }
        let waiting = hub.waiting(label, MOST).into_iter();
        let tasks = waiting.filter_map(|(of, claim)| {
            let record = self.ledger.record(&of.2)?;
            // A finding stands by itself; what has fewer transactions by now comes again.
            let due = record.finding.is_none() && record.state.tx >= claim.state.tx;
            due.then(|| (of, claim, record.clone()))
        });
        let tasks: Vec<_> = tasks.collect();
        if tasks.is_empty() {
            return;
        }
        let (link, hub) = (self.link.clone(), hub.clone());
        meeting.work.spawn(async move {
            let mut all = Vec::new();
            for (of, claim, record) in tasks {
                let met = link.compare(&hub, (of.0, &of.2), &claim, &record).await;
                let state = claim.state;
                let from = record.past.map(|past| past.from);
                all.push(Compared { of, state, from, met });
            }
            all
        });
    }

    /// Takes what looking at peers' states came to.
    pub(crate) async fn compared(&mut self, done: Result<Vec<Compared>, JoinError>) {
        let done = match done {
            Ok(done) => done,
            // As if it had come from here.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        let Some(meeting) = &mut self.meeting else { return };
        let (mut differences, mut standing) = (Vec::new(), Vec::new());
        for compared in done {
            let name = meeting.hub.peers[compared.of.0].identity.name();
            let key = (compared.of.0, compared.of.2.clone());
            let result = match compared.met {
                Met::Same => {
                    meeting.told.remove(&key);
                    meeting.hub.agree(&self.ledger.label, compared.of, compared.state);
                    "same"
                }
                Met::Split(finding) => {
                    let record = self.ledger.record(&key.1);
                    // Unless something was found or an operator's word taken meanwhile: then it comes again.
                    if record.is_some_and(|record| {
                        record.finding.is_none() && record.past.map(|past| past.from) == compared.from
                    }) {
                        let verdict = self.ledger.standing(&key.1, *finding);
                        standing.push((key.1, verdict));
                    }
                    "split"
                }
                Met::Differs(text, data) => {
                    differences.push((key, text, data));
                    "differs"
                }
                Met::Unknown(why) => {
                    let (server, database) = (&self.ledger.label, &key.1);
                    tracing::debug!(
                        server,
                        database,
                        peer = name,
                        "immudb: a peer's state can't be looked at: {why}"
                    );
                    "unknown"
                }
            };
            meeting.hub.metrics.state(name, result);
        }
        // The server may not answer again, or the agent end before.
        self.say(standing).await;
        for (key, text, data) in differences {
            self.differs(key, &text, &data).await;
        }
    }

    /// Tells that a peer says something else, which nobody has signed; not again within an hour.
    async fn differs(&mut self, key: (usize, String), text: &str, data: &Value) {
        let now = time::now();
        let Some(meeting) = &mut self.meeting else { return };
        let recent = meeting
            .told
            .get(&key)
            .is_some_and(|told| now.saturating_sub(*told) < AGAIN);
        if recent {
            return;
        }
        let resource = format!("immudb://{}/{}", self.ledger.endpoint, key.1);
        let data = data.to_string();
        let draft = Draft {
            resource: Some(&resource),
            read_only: true,
            outcome: Outcome::Unknown,
            severity: Severity::Warning,
            data: Data::Raw(&data),
            ..Draft::new("immudb.peer.differs", "auditmon")
        };
        let mut batch = self.emitter.batch();
        // What isn't taken now is told the next time.
        if batch.push(draft).is_ok() && self.emitter.emit(batch, Linger::NONE).await.is_ok() {
            tracing::warn!(server = self.ledger.label, database = key.1, "immudb: {text}");
            meeting.told.insert(key, now);
        }
    }
}
