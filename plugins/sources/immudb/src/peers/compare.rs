//! Whether a state that a peer has seen is in the history that is trusted here.

use auditmon_core::time;
use immudb_verify::{Keys, PublicKey, Signed, State, TxId, verify_signature, wire};
use serde_json::{Value, json};

use super::hub::Hub;
use super::message::Claim;
use crate::client::{Fault, Seat};
use crate::evidence::{Between, Evidence};
use crate::link::Link;
use crate::note::shown;
use crate::secret::excerpt;
use crate::trusted::Record;
use crate::verdict::{Code, Finding, Signature};

/// Most headers that a proof over a lagging tree may need.
const MAX_PENDING: u64 = 10_000;

/// What looking at a peer's state came to.
pub(crate) enum Met {
    /// It is in the same history.
    Same,
    /// It is in another one, and the server has signed both.
    Split(Box<Finding>),
    /// It is in another one, as the peer says.
    Differs(Word),
    /// That can't be told now.
    Unknown(String),
}

/// What is told of a peer's state that proves nothing.
pub(crate) struct Word {
    pub(crate) text: String,
    /// Of the event.
    pub(crate) data: Value,
}

impl Link {
    /// Looks at a state of at most as many transactions as the trusted one has.
    pub(crate) async fn compare(
        &self,
        hub: &Hub,
        (peer, database): (usize, &str),
        claim: &Claim,
        record: &Record,
    ) -> Met {
        let theirs = claim.state;
        let held = self.held(database, record, theirs.tx).await;
        if held == Some(theirs) {
            return Met::Same;
        }
        let answered = self.shown(database, record, theirs.tx).await;
        let (here, between) = match (answered, held) {
            (Ok((here, between)), _) => (here, Ok(between)),
            // It is the accused that would not answer; what was verified here before needs no word of it.
            (Err(why), Some(held)) => (held, Err(why)),
            (Err(why), None) => return Met::Unknown(why),
        };
        if here == theirs {
            return Met::Same;
        }
        let name = hub.peers[peer].identity.name();
        let what = format!(
            "{name} has seen transaction {} with the hash {}, and here it has {}",
            theirs.tx, theirs.alh, here.alh
        );
        // A key proves something of one server only, and that says that it is another one there.
        let Some(key) = self.bound(database, claim, record) else {
            let text = match other(claim, record) {
                None if is_given_up(claim, record) => {
                    format!("{what}; an operator has given up a history with as many transactions")
                }
                None => format!(
                    "{what}; what the peer has seen is not signed by the server's key: one of both says what is not so"
                ),
                Some((theirs, ours)) => format!(
                    "{what}; the peer's server says that it is {}, and this one {}: two servers under one address, or \
                     one that changes its name",
                    excerpt(theirs, None),
                    excerpt(ours, None)
                ),
            };
            return Met::Differs(self.word(text, (name, database), [Some(theirs), Some(here)]));
        };
        let text = format!("{what}; the server has signed both histories");
        let proven = match &between {
            Ok(between) => {
                let proven = self.proven(hub, (name, database, &text), (claim, record), between, &key);
                let late = || "the server gave no signature in time".to_owned();
                let proven = tokio::time::timeout(self.deadline, proven).await;
                proven.unwrap_or_else(|_| Err(late()))
            }
            Err(why) => Err(why.clone()),
        };
        let text = match proven {
            Ok(path) => format!("{text}: {path} proves it (`auditmon immudb evidence FILE`)"),
            Err(why) => format!("{text}; no file could be made that proves it: {why}"),
        };
        Met::Split(Box::new(Finding {
            tx: Some(theirs.tx.0),
            ..Finding::new(Code::SplitView, "split-view", text)
        }))
    }

    /// What is told of two states, a peer's and the one here.
    pub(crate) fn word(&self, text: String, (peer, database): (&str, &str), states: [Option<State>; 2]) -> Word {
        let [theirs, ours] = states.map(|state| state.map(|state| shown(&state)));
        let data = json!({
            "server": {"name": self.label, "address": self.client.endpoint.to_string()},
            "database": database,
            "peer": peer,
            "theirs": theirs,
            "ours": ours,
            "text": text,
        });
        Word { text, data }
    }

    /// The state of a transaction in the trusted history, if that is remembered.
    async fn held(&self, database: &str, record: &Record, tx: TxId) -> Option<State> {
        let (trusted, past) = (record.state, record.past);
        if trusted.tx == tx {
            return Some(trusted);
        }
        let history = self.histories.of(&self.client.endpoint, database);
        let found = tokio::task::spawn_blocking(move || {
            let rungs = history.rungs(&trusted, past.as_ref())?;
            rungs.map_or(Ok(None), |rungs| rungs.find(tx))
        });
        // The file is a help; the server is asked all the same.
        found.await.ok()?.ok()?
    }

    /// The state of a transaction as the server proves it now, in one deadline, and that proof.
    async fn shown(&self, database: &str, record: &Record, tx: TxId) -> Result<(State, Between), String> {
        let ours = record.state;
        if ours.tx == tx {
            return Ok((ours, Between::default()));
        }
        let between = tokio::time::timeout(self.deadline, self.between(database, record, tx)).await;
        let between = between.unwrap_or(Err(Fault::Timeout(self.deadline)));
        let between = between.map_err(|fault| fault.to_string())?;
        let here = between.older(&ours)?;
        if here.tx != tx {
            return Err(format!("the server proves transaction {}, not {tx}", here.tx));
        }
        Ok((here, between))
    }

    /// The server's proof that leads from a transaction to the trusted one.
    async fn between(&self, database: &str, record: &Record, tx: TxId) -> Result<Between, Fault> {
        let mut seat = self.seat(database).await?;
        let answered = self.proof(&mut seat, database, record, tx).await;
        self.back(seat, &answered).await;
        answered.map(|(between, _)| between)
    }

    /// Gives a login back after a call.
    async fn back<T>(&self, seat: Seat, answered: &Result<T, Fault>) {
        match answered {
            // Of no use any more.
            Err(Fault::Expired) => {}
            // It may still be at work on that.
            Err(Fault::Timeout(_)) => self.leave(seat).await,
            _ => self.seats.lock().push(seat),
        }
    }

    /// The same, and the signature that came with it.
    async fn proof(
        &self,
        seat: &mut Seat,
        database: &str,
        record: &Record,
        tx: TxId,
    ) -> Result<(Between, Option<Signature>), Fault> {
        self.client.select(seat, database).await?;
        let answer = self.client.proof(seat, record.state.tx.0, tx.0).await?;
        if record.uuid.is_some() && answer.uuid != record.uuid {
            return Err(Fault::Other("another server answers".to_owned()));
        }
        let signature = answer.message.signature.as_ref();
        let signature = signature.and_then(|signature| Signature::new(&signature.signature, &signature.public_key));
        let mut between = Between {
            proof: answer.message.dual_proof,
            headers: Vec::new(),
        };
        if let Some((first, last)) = between.needs(&record.state) {
            if last.saturating_sub(first) >= MAX_PENDING {
                return Err(Fault::Lag(format!(
                    "the proof needs the headers of transactions {first} to {last}"
                )));
            }
            let mut next = first;
            while next <= last {
                let page = self.client.headers(seat, next, last - next + 1).await?.message.txs;
                let headers = page.into_iter().filter_map(|tx| tx.header);
                let before = between.headers.len();
                between.headers.extend(headers);
                let came = (between.headers.len() - before) as u64;
                if came == 0 {
                    return Err(Fault::NoSuchTx(format!("no header of transaction {next}")));
                }
                next = next.saturating_add(came);
            }
        }
        Ok((between, signature))
    }

    /// The server's key that binds it to a peer's state: it has signed that, and neither says it to be another server's nor
    /// has an operator given it up.
    pub(crate) fn bound(&self, database: &str, claim: &Claim, record: &Record) -> Option<PublicKey> {
        let counts = other(claim, record).is_none() && !is_given_up(claim, record);
        counts.then(|| self.signer(database, claim, record)).flatten()
    }

    /// The server's key that signed a peer's state; none if it is a key that nobody here knows.
    fn signer(&self, database: &str, claim: &Claim, record: &Record) -> Option<PublicKey> {
        let keys = match (&self.keys[..], record.key.as_ref()) {
            ([], None) => return None,
            ([], Some(pinned)) => Keys::Pinned(pinned),
            (configured, _) => Keys::Configured(configured),
        };
        signed(keys, database, &claim.state, claim.signature.as_ref()?)
    }

    /// Makes the file that proves it; gives its path.
    async fn proven(
        &self,
        hub: &Hub,
        (peer, database, text): (&str, &str, &str),
        (claim, record): (&Claim, &Record),
        between: &Between,
        key: &PublicKey,
    ) -> Result<String, String> {
        let theirs = claim.signature.as_ref().ok_or("the peer's state is not signed")?;
        let ours = self.own(database, record, key).await?;
        let server = json!({
            "name": self.label, "address": self.client.endpoint.to_string(), "uuid": record.uuid,
        });
        let evidence = Evidence::new(
            (text.to_owned(), server, database),
            key,
            [(peer, &claim.state, theirs), (&hub.origin, &record.state, &ours)],
            between,
            time::format(time::now()),
        );
        // What is shown to others is looked at as they will.
        evidence.verify()?;
        let dir = hub.evidence.clone();
        let written = tokio::task::spawn_blocking(move || evidence.write(&dir)).await;
        let written = written.map_err(std::io::Error::other).flatten();
        written
            .map(|path| path.display().to_string())
            .map_err(|error| error.to_string())
    }

    /// The signature of the trusted state by this key: the one that came with it, else a new one of the server's.
    async fn own(&self, database: &str, record: &Record, key: &PublicKey) -> Result<Signature, String> {
        let kept = Claim::of(record).signature;
        let good = |signature: &Signature| signed(Keys::Pinned(key), database, &record.state, signature).is_some();
        if let Some(kept) = kept.filter(good) {
            return Ok(kept);
        }
        let mut seat = self.seat(database).await.map_err(|fault| fault.to_string())?;
        let answered = self.proof(&mut seat, database, record, record.state.tx).await;
        self.back(seat, &answered).await;
        let (_, signature) = answered.map_err(|fault| fault.to_string())?;
        let signature = signature.filter(good);
        signature.ok_or_else(|| "what is trusted here is not signed with the same key".to_owned())
    }
}

/// Who the peer's server says it is, and who this one does, if these are two.
fn other<'a>(claim: &'a Claim, record: &'a Record) -> Option<(&'a String, &'a String)> {
    let servers = claim.uuid.as_ref().zip(record.uuid.as_ref());
    servers.filter(|(theirs, ours)| theirs != ours)
}

/// Whether an operator has given up a history with as many transactions.
fn is_given_up(claim: &Claim, record: &Record) -> bool {
    claim.state.tx.0 <= record.given_up
}

/// Whose signature it is, if it is one of these keys'.
fn signed(keys: Keys<'_>, database: &str, state: &State, signature: &Signature) -> Option<PublicKey> {
    let received = wire::Signature {
        public_key: &signature.key,
        signature: &signature.bytes,
    };
    match verify_signature(keys, database, state, Some(&received)) {
        Ok(Signed::By(key)) => Some(key),
        _ => None,
    }
}
