//! What is told to peers, and what they told that is left to look at.
//!
//! Of two states of one database the one with fewer transactions is looked at by the auditor that has more of them: it
//! can ask its server for the proof.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use auditmon_core::Emitter;
use auditmon_core::privileged::Control;
use axum::http::HeaderValue;
use immudb_verify::State;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::Semaphore;

use super::MAX_STATES;
use super::caller::Caller;
use super::config::PeerConfig;
use super::identity::{self, Identity};
use super::message::{Claim, Message, Seen};
use super::metrics::Metrics;
use crate::address::Endpoint;

/// A peer.
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    pub(crate) caller: Caller,
    /// One exchange at a time.
    pub(crate) turn: Semaphore,
}

/// What an auditor of one server has to tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) uuid: Option<String>,
    /// What is trusted, by database.
    pub(crate) states: BTreeMap<String, Claim>,
}

/// How a peer's state came here.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Way {
    /// In its answer at its address.
    #[default]
    Answer,
    /// From somebody who shows its checkpoint, which anybody may have.
    Request,
}

/// Whose state it is: peer, how it came, database. What one way brings takes nothing from the other.
pub(crate) type Of = (usize, Way, String);

/// One server, and what peers say of it.
struct Known {
    /// Where it is, in the form that is told.
    address: String,
    /// On each host another server has this address.
    local: bool,
    published: Published,
    /// Only of databases that are known here.
    waiting: BTreeMap<Of, Claim>,
    /// The last one that was looked at: the next one is next.
    looked: Of,
    /// What was found to be in the same history.
    agreed: BTreeMap<(usize, String), State>,
}

/// All peers and all servers.
pub(crate) struct Hub {
    pub(crate) peers: Vec<Peer>,
    pub(crate) metrics: Metrics,
    /// Whose states are told: this journal's.
    pub(crate) origin: Arc<str>,
    /// Where what proves that a server shows two histories is put.
    pub(crate) evidence: PathBuf,
    pub(crate) emitter: Emitter,
    /// By name.
    servers: Mutex<BTreeMap<String, Known>>,
    /// How many states were told of late, so that all have their turn.
    told: Mutex<usize>,
}

impl Hub {
    /// Reads the files of certificates through the control thread, and waits for it.
    ///
    /// # Errors
    /// Which peer, and what is wrong with its settings.
    pub(crate) fn new(
        peers: &[PeerConfig],
        (origin, emitter): (Arc<str>, Emitter),
        evidence: PathBuf,
        registry: &Registry,
        control: &Control,
    ) -> Result<Self, String> {
        let peer = |peer: &PeerConfig| {
            let identity = peer.identity()?;
            let caller = Caller::new(peer, control).map_err(|error| format!("{}: {error}", identity.name()))?;
            Ok(Peer {
                identity,
                caller,
                turn: Semaphore::new(1),
            })
        };
        let peers: Result<Vec<Peer>, String> = peers.iter().map(peer).collect();
        let peers = peers?;
        let names = peers.iter().map(|peer| peer.identity.name());
        let metrics = Metrics::new(registry, names).map_err(|error| error.to_string())?;
        Ok(Self {
            peers,
            metrics,
            origin,
            evidence,
            emitter,
            servers: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// The peer that a checkpoint is of.
    pub(crate) fn peer(&self, note: &str) -> Option<usize> {
        self.peers.iter().position(|peer| peer.identity.signed(note))
    }

    /// This journal's newest checkpoint, as a header; `None` before the first was signed.
    pub(crate) fn checkpoint(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(identity::header(&self.emitter.checkpoint()?)).ok()
    }

    /// Takes what is trusted of a server by now.
    pub(crate) fn publish(&self, label: &str, endpoint: &Endpoint, published: Published) {
        let mut servers = self.servers.lock();
        match servers.get_mut(label) {
            Some(known) => known.published = published,
            None => {
                let known = Known {
                    address: endpoint.to_string(),
                    local: endpoint.is_local(),
                    published,
                    waiting: BTreeMap::new(),
                    looked: Default::default(),
                    agreed: BTreeMap::new(),
                };
                servers.insert(label.to_owned(), known);
            }
        }
    }

    /// What is trusted of all servers; of very many states a part, another one each time.
    pub(crate) fn all(&self) -> Message {
        let servers = self.servers.lock();
        let count: usize = servers.values().map(|known| known.published.states.len()).sum();
        let begin = {
            let mut told = self.told.lock();
            let begin = if count > MAX_STATES { *told % count } else { 0 };
            *told = begin + MAX_STATES;
            begin
        };
        let taken = |at: usize| (at + count - begin) % count.max(1) < MAX_STATES;
        let mut at = 0..count;
        let servers = servers.values().map(|known| {
            let states = known.published.states.iter();
            let states = states.filter(|_| at.next().is_some_and(taken));
            Seen {
                address: known.address.clone(),
                uuid: known.published.uuid.clone(),
                states: states.map(|(database, claim)| claim.stated(database)).collect(),
            }
        });
        Message {
            servers: servers.filter(|seen| !seen.states.is_empty()).collect(),
        }
    }

    /// What is trusted of those databases that a message is about.
    pub(crate) fn about(&self, message: &Message) -> Message {
        let servers = self.servers.lock();
        let mut answer = Message::default();
        for known in servers.values() {
            let asked = message.servers.iter().filter(|seen| known.is(seen));
            let databases = asked.flat_map(|seen| &seen.states).map(|stated| &stated.database);
            let states: BTreeMap<&String, &Claim> = databases
                .filter_map(|database| known.published.states.get_key_value(database))
                .collect();
            if !states.is_empty() {
                answer.servers.push(Seen {
                    address: known.address.clone(),
                    uuid: known.published.uuid.clone(),
                    states: states
                        .into_iter()
                        .map(|(database, claim)| claim.stated(database))
                        .collect(),
                });
            }
        }
        answer
    }

    /// Takes what a peer says.
    pub(crate) fn take(&self, (peer, way): (usize, Way), message: &Message) {
        let mut servers = self.servers.lock();
        for seen in &message.servers {
            for known in servers.values_mut().filter(|known| known.is(seen)) {
                for stated in seen.states.iter().take(MAX_STATES) {
                    let result = known.take((peer, way, stated.database.clone()), stated.claim(seen.uuid.as_ref()));
                    if let Some(result) = result {
                        self.metrics.state(self.peers[peer].identity.name(), result);
                    }
                }
            }
        }
    }

    /// States of a server to look at, with who says so; at most so many, so that all have their turn.
    pub(crate) fn waiting(&self, label: &str, most: usize) -> Vec<(Of, Claim)> {
        let mut servers = self.servers.lock();
        let Some(known) = servers.get_mut(label) else {
            return Vec::new();
        };
        let mut waiting = Vec::new();
        while waiting.len() < most {
            let behind = (Bound::Excluded(&known.looked), Bound::Unbounded);
            let next = known.waiting.range(behind).next().or(known.waiting.first_key_value());
            let Some(key) = next.map(|(key, _)| key.clone()) else {
                break;
            };
            if let Some(claim) = known.waiting.remove(&key) {
                waiting.push((key.clone(), claim));
            }
            known.looked = key;
        }
        waiting
    }

    /// Forgets what was told and found of a database, whose history is another one from now on.
    pub(crate) fn forget(&self, label: &str, database: &str) {
        if let Some(known) = self.servers.lock().get_mut(label) {
            known.waiting.retain(|key, _| key.2 != database);
            known.agreed.retain(|key, _| key.1 != database);
        }
    }

    /// A peer's state is in the history that is trusted here.
    pub(crate) fn agree(&self, label: &str, (peer, _, database): Of, state: State) {
        if let Some(known) = self.servers.lock().get_mut(label) {
            // It may have been told again while it was looked at.
            for way in [Way::Answer, Way::Request] {
                let key = (peer, way, database.clone());
                if known.waiting.get(&key).is_some_and(|claim| claim.state == state) {
                    known.waiting.remove(&key);
                }
            }
            known.agreed.insert((peer, database), state);
        }
    }
}

impl Known {
    /// Whether it is the same server as a peer's; asked for each that a peer names, who may name very many.
    fn is(&self, seen: &Seen) -> bool {
        let identity = self.published.uuid.is_some() && self.published.uuid == seen.uuid;
        identity || (!self.local && self.address == seen.address)
    }

    /// Takes a peer's state of a database that is known here; gives what can be said of it at once.
    fn take(&mut self, key: Of, claim: Option<Claim>) -> Option<&'static str> {
        let ours = self.published.states.get(&key.2)?;
        let Some(claim) = claim else {
            return Some("malformed");
        };
        if ours.state.tx < claim.state.tx {
            // The peer looks at what it is told from here.
            return Some("ahead");
        }
        let (peer, way, database) = key.clone();
        let by = (peer, database.clone());
        if ours.state == claim.state || self.agreed.get(&by) == Some(&claim.state) {
            self.agreed.insert(by, claim.state);
            return Some("same");
        }
        // Once is enough, as an answer if it is one.
        let other = match way {
            Way::Answer => (peer, Way::Request, database),
            Way::Request => (peer, Way::Answer, database),
        };
        if self.waiting.get(&other) == Some(&claim) {
            if way == Way::Request {
                return None;
            }
            self.waiting.remove(&other);
        }
        // What is signed can prove something.
        let signed = |claim: &Claim| claim.signature.is_some();
        if signed(&claim) || !self.waiting.get(&key).is_some_and(signed) {
            self.waiting.insert(key, claim);
        }
        None
    }
}

#[cfg(test)]
mod tests;
