//! What a server's task makes of peers: it tells them what it trusts, and looks at what they tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::time::{self, Nanos};
use auditmon_journal::Linger;
use immudb_verify::State;
use tokio::task::{JoinError, JoinSet};

use super::compare::{Met, Word};
use super::hub::{Hub, Of, Way};
use crate::server::Server;

/// Most states that are looked at in one go.
const MOST: usize = 100;
/// After so long a difference that stays is told again.
const AGAIN: Nanos = 3_600_000_000_000;
/// So many looks in a row at signed states that the server doesn't prove, while it answers audits, are told.
const ENOUGH: u32 = 3;
/// The name of what is told of a state that nobody has signed.
const DIFFERS: &str = "immudb.peer.differs";
/// The name of what is told of a signed state that the server doesn't prove.
const UNPROVEN: &str = "immudb.peer.unproven";

/// A peer's state, and what looking at it came to.
pub(crate) struct Compared {
    of: Of,
    state: State,
    /// Whether it would prove something of the server if it were in another history.
    binds: bool,
    /// What the history here began with when it was looked at.
    from: Option<State>,
    met: Met,
}

/// A server's share in the exchange.
pub(crate) struct Meeting {
    hub: Arc<Hub>,
    /// At most one at a time.
    work: JoinSet<Vec<Compared>>,
    /// When something that proves nothing was told, by peer, database and name.
    told: BTreeMap<(usize, String, &'static str), Nanos>,
    /// How many times in a row a peer's signed states of a database could not be looked at; those of its own answers alone,
    /// as anybody may tell others in its name.
    unproven: BTreeMap<(usize, String), u32>,
}

impl Meeting {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            work: JoinSet::new(),
            told: BTreeMap::new(),
            unproven: BTreeMap::new(),
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

    /// What was looked at already; `None` if nothing was.
    pub(crate) fn ready(meeting: &mut Option<Self>) -> Option<Result<Vec<Compared>, JoinError>> {
        meeting.as_mut()?.work.try_join_next()
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
                all.push(Compared {
                    binds: link.bound(&of.2, &claim, &record).is_some(),
                    of,
                    state: claim.state,
                    from: record.past.map(|past| past.from),
                    met,
                });
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
        let (mut words, mut standing) = (Vec::new(), Vec::new());
        for compared in done {
            let name = meeting.hub.peers[compared.of.0].identity.name();
            let key = (compared.of.0, compared.of.2.clone());
            let answered = compared.of.1 == Way::Answer;
            let unproven = match &compared.met {
                _ if !answered => 0,
                // A server that answers no audits either is told of as such.
                Met::Unknown(_) if compared.binds && self.ledger.is_in_order(&key.1) => {
                    let unproven = meeting.unproven.entry(key.clone()).or_default();
                    *unproven = unproven.saturating_add(1);
                    *unproven
                }
                Met::Unknown(_) => 0,
                _ => {
                    meeting.unproven.remove(&key);
                    0
                }
            };
            let result = match compared.met {
                Met::Same => {
                    if answered {
                        for name in [DIFFERS, UNPROVEN] {
                            meeting.told.remove(&(key.0, key.1.clone(), name));
                        }
                    }
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
                Met::Differs(word) => {
                    words.push(((key.0, key.1, DIFFERS), word));
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
                    if unproven >= ENOUGH {
                        let text = format!(
                            "{name} has seen transaction {} signed with the hash {}, and the server, which answers \
                             audits, doesn't prove that it is in the history that is trusted here: {why}",
                            compared.state.tx, compared.state.alh
                        );
                        let word = self.link.word(text, (name, database), [Some(compared.state), None]);
                        words.push(((key.0, key.1, UNPROVEN), word));
                    }
                    "unknown"
                }
            };
            meeting.hub.metrics.state(name, result);
        }
        // The server may not answer again, or the agent end before.
        self.say(standing).await;
        for (key, word) in words {
            self.tell(key, &word).await;
        }
    }

    /// Tells what proves nothing; not again within an hour.
    async fn tell(&mut self, key: (usize, String, &'static str), word: &Word) {
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
        let data = word.data.to_string();
        let draft = Draft {
            resource: Some(&resource),
            read_only: true,
            outcome: Outcome::Unknown,
            severity: Severity::Warning,
            data: Data::Raw(&data),
            ..Draft::new(key.2, "auditmon")
        };
        let mut batch = self.emitter.batch();
        // What isn't taken now is told the next time.
        if batch.push(draft).is_ok() && self.emitter.emit(batch, Linger::NONE).await.is_ok() {
            tracing::warn!(server = self.ledger.label, database = key.1, "immudb: {}", word.text);
            meeting.told.insert(key, now);
        }
    }
}
