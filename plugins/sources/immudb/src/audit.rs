//! One audit of one database: what the server shows now has to follow from what is trusted.

use std::collections::BTreeMap;

use auditmon_proto::immudb as proto;
use immudb_verify::{
    Class, Keys, Part, Progress, PublicKey, Reason, Signed, State, TxHeader, TxId, Verified, WINDOW, Walk, verify_dual,
    verify_signature,
};
use parking_lot::Mutex;

use crate::client::{Answer, Client, Fault, PAGE, Seat, wire};
use crate::history::Trail;
use crate::trusted::Record;
use crate::verdict::{Code, Finding, Good, History, How, Signature, Unchecked, Verdict};

/// Code of [`Reason::RootUnknown`].
const ROOT_UNKNOWN: &str = "root-unknown";
/// Most headers that a proof over a lagging tree may need.
const MAX_PENDING: u64 = 10_000;

/// What an audit goes by.
pub(crate) struct Asked<'a> {
    pub(crate) database: &'a str,
    /// What is trusted; nothing at first contact.
    pub(crate) trusted: Option<&'a Record>,
    /// Name and key that the server's other databases were seen with; for a database that is new.
    pub(crate) server: (Option<&'a str>, Option<&'a PublicKey>),
    /// Keys of which one has to sign.
    pub(crate) keys: &'a [PublicKey],
    /// So many new transactions are walked.
    pub(crate) walk: u64,
    /// Whether to ask for the last transaction although nothing is new.
    pub(crate) held: bool,
    /// By database, where it is put at once that it is another server than before: the audit may come to no end.
    pub(crate) findings: &'a Mutex<BTreeMap<String, Finding>>,
}

/// What an audit came to.
pub(crate) struct Audited {
    pub(crate) verdict: Verdict,
    /// Whether it ended for want of an answer, whatever was found before.
    pub(crate) silent: bool,
}

impl From<Verdict> for Audited {
    fn from(verdict: Verdict) -> Self {
        Self {
            silent: verdict.is_silence(),
            verdict,
        }
    }
}

/// Why an audit ends early.
#[allow(clippy::large_enum_variant, reason = "an audit has one at most")]
enum Stop {
    /// The login is over: log in and begin again.
    Expired,
    Verdict(Verdict),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Verdict(Verdict::of_reason(&reason))
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Expired => Self::Expired,
            fault => Self::Verdict(Verdict::of_fault(&fault)),
        }
    }
}

/// Audits; `None` if the login is over.
pub(crate) async fn audit(client: &Client, seat: &mut Seat, asked: &Asked<'_>) -> Option<Audited> {
    let mut audit = Audit {
        client,
        seat,
        asked,
        uuid: None,
        shown: None,
        signature: None,
        other: None,
        silent: false,
        trail: Trail::default(),
    };
    let mut verdict = match audit.run().await {
        Ok(good) => Verdict::Ok(good),
        Err(Stop::Verdict(verdict)) => verdict,
        Err(Stop::Expired) => return None,
    };
    if let Verdict::Tampered(finding) = &mut verdict {
        audit.show(finding);
    }
    let silent = audit.silent;
    Some(Audited { verdict, silent })
}

struct Audit<'a> {
    client: &'a Client,
    seat: &'a mut Seat,
    asked: &'a Asked<'a>,
    uuid: Option<String>,
    shown: Option<State>,
    /// The signature of that.
    signature: Option<Signature>,
    /// That it is another server than before; the audit goes on all the same.
    other: Option<Finding>,
    /// Whether it ended for want of an answer.
    silent: bool,
    /// What a walk came by.
    trail: Trail,
}

impl Audit<'_> {
    async fn run(&mut self) -> Result<Good, Stop> {
        let judged = self.judge().await;
        self.silent = matches!(&judged, Err(Stop::Verdict(verdict)) if verdict.is_silence());
        let Some(mut finding) = self.other.take() else {
            return judged.map_err(|stop| self.unproven(stop));
        };
        match judged {
            Err(Stop::Expired) => return Err(Stop::Expired),
            // Nothing was trusted that it could follow from.
            _ if self.asked.trusted.is_none() => {}
            Ok(_) | Err(Stop::Verdict(Verdict::Ok(_))) => finding.follow(History::Follows, ""),
            Err(Stop::Verdict(Verdict::Unchecked(why))) => finding.follow(History::Unknown, &why.text),
            Err(Stop::Verdict(Verdict::Tampered(found))) => {
                let history = match found.code {
                    Code::Identity | Code::Signature | Code::Malformed => History::Unknown,
                    code => History::Differs(code),
                };
                (finding.tx, finding.keys) = (found.tx, found.keys);
                finding.follow(history, &found.text);
            }
        }
        Err(Stop::Verdict(Verdict::Tampered(finding)))
    }

    /// Says of a later answer of another server that nothing proves the state of the first one.
    fn unproven(&self, mut stop: Stop) -> Stop {
        if let Stop::Verdict(Verdict::Tampered(finding)) = &mut stop
            && finding.code == Code::Identity
            && self.asked.trusted.is_some()
        {
            finding.follow(History::Unknown, "its answers are not those of one server");
        }
        stop
    }

    /// Takes that it is another server than before; a stop, or a call without an answer, takes nothing back of that.
    fn is_other(&mut self, finding: Finding) {
        let mut known = finding.clone();
        self.show(&mut known);
        if self.asked.trusted.is_some() {
            known.follow(History::Unknown, "the audit came to no end");
        }
        self.asked.findings.lock().insert(self.asked.database.to_owned(), known);
        self.other = Some(finding);
    }

    /// Adds what the server shows.
    fn show(&self, finding: &mut Finding) {
        finding.shown = self.shown;
        finding.signature.clone_from(&self.signature);
        finding.uuid = finding.uuid.take().or_else(|| self.uuid.clone());
    }

    async fn judge(&mut self) -> Result<Good, Stop> {
        let asked = self.asked;
        self.client.select(self.seat, asked.database).await?;
        let answer = self.client.state(self.seat).await?;
        // Shown beside a finding on the name, too.
        let claimed = State::new(asked.database, &wire::state(&answer.message));
        self.shown = claimed.as_ref().ok().copied();
        let signature = answer.message.signature.as_ref();
        self.signature = signature.and_then(|signature| Signature::new(&signature.signature, &signature.public_key));
        let pinned = asked.trusted.map_or(asked.server.0, |record| record.uuid.as_deref());
        match (&answer.uuid, pinned) {
            (Some(uuid), Some(known)) if uuid != known => {
                self.uuid = Some(uuid.clone());
                self.is_other(another(uuid, known));
            }
            _ => {}
        }
        let message = self.named(answer)?;
        let claimed = claimed?;
        let key = match self.signed(&claimed, message.signature.as_ref()) {
            Err(reason) if reason.class() == Class::Identity => {
                let mut finding = Finding::new(Code::Identity, reason.code(), reason.to_string());
                if let Some(mut other) = self.other.take() {
                    other.text.push_str(&format!("; {}", finding.text));
                    finding = other;
                }
                self.is_other(finding);
                None
            }
            signed => signed?,
        };
        let how = match asked.trusted {
            None => {
                self.first(&claimed).await?;
                How::First
            }
            Some(record) => match record.state.compare(&claimed)? {
                // Another server may only repeat what it has heard.
                Progress::Same if (asked.held || self.other.is_some()) && !claimed.is_empty() => {
                    self.held(&claimed).await?;
                    How::Held
                }
                Progress::Same => How::Same,
                Progress::Ahead => self.ahead(&record.state, &claimed).await?,
            },
        };
        let known = asked.trusted.map_or(asked.server.0, |record| record.uuid.as_deref());
        Ok(Good {
            state: claimed,
            signature: self.signature.clone(),
            uuid: self.uuid.clone().or_else(|| known.map(str::to_owned)),
            key,
            how,
            seen: match how {
                How::Same | How::Held => Vec::new(),
                How::First | How::Walk | How::Proof => std::mem::take(&mut self.trail).end(claimed),
            },
        })
    }

    /// Looks at the server's name on an answer.
    fn named<T>(&mut self, answer: Answer<T>) -> Result<T, Stop> {
        let pinned = self
            .asked
            .trusted
            .map_or(self.asked.server.0, |record| record.uuid.as_deref());
        // All answers of an audit are held to the first one.
        let known = self.uuid.clone().or_else(|| pinned.map(str::to_owned));
        match (answer.uuid, known) {
            (Some(uuid), Some(known)) if uuid != known => Err(Stop::Verdict(Verdict::Tampered(another(&uuid, &known)))),
            (None, Some(_)) => {
                let text = "the server doesn't tell its identity any more; does a proxy remove the header immudb-uuid?";
                Err(Stop::Verdict(Verdict::Unchecked(Unchecked::new("no-uuid", text))))
            }
            (uuid, _) => {
                self.uuid = uuid.or(self.uuid.take());
                Ok(answer.message)
            }
        }
    }

    /// Checks who signed; gives the key to remember.
    fn signed(&self, claimed: &State, signature: Option<&proto::Signature>) -> Result<Option<PublicKey>, Reason> {
        let pinned = match self.asked.trusted {
            Some(record) => record.key.as_ref(),
            None => self.asked.server.1,
        };
        let keys = match (self.asked.keys, pinned) {
            ([], Some(pinned)) => Keys::Pinned(pinned),
            ([], None) => Keys::Unknown,
            (configured, _) => Keys::Configured(configured),
        };
        let signature = signature.map(wire::signature);
        match verify_signature(keys, self.asked.database, claimed, signature.as_ref())? {
            Signed::By(key) | Signed::FirstSeen(key) => Ok(Some(key)),
            Signed::Unsigned => Ok(None),
        }
    }

    async fn proof(&mut self, tx: TxId, since: TxId) -> Result<proto::VerifiableTx, Stop> {
        let answer = self.client.proof(self.seat, tx.0, since.0).await?;
        self.named(answer)
    }

    /// That the server holds the transaction it claims, with this hash.
    async fn held(&mut self, claimed: &State) -> Result<(), Stop> {
        let message = self.proof(claimed.tx, claimed.tx).await?;
        let proof = dual_proof(&message)?;
        verify_dual(claimed, claimed, &wire::dual_proof(proof))?;
        self.signed_proof(claimed, &message)
    }

    /// A state nobody knows yet is at least one of a transaction.
    async fn first(&mut self, claimed: &State) -> Result<(), Stop> {
        if claimed.is_empty() {
            Ok(())
        } else {
            self.held(claimed).await
        }
    }

    /// A proof carries a signature of its target, which is checked like that of a state.
    fn signed_proof(&self, target: &State, message: &proto::VerifiableTx) -> Result<(), Stop> {
        // Another server signs with another key, which says nothing of the history.
        if self.other.is_none() || !self.asked.keys.is_empty() {
            self.signed(target, message.signature.as_ref())?;
        }
        Ok(())
    }

    /// New transactions: each header if there are few, else the server's proof; each helps where the other can't tell.
    async fn ahead(&mut self, trusted: &State, claimed: &State) -> Result<How, Stop> {
        let few = claimed.tx.0 - trusted.tx.0 <= self.asked.walk;
        if trusted.is_empty() && !few {
            // Nothing was trusted: as at first contact.
            return self.held(claimed).await.map(|()| How::First);
        }
        if few {
            return match self.walk(trusted, claimed).await {
                Err(Stop::Verdict(Verdict::Unchecked(why))) if is_lag(&why) && !trusted.is_empty() => {
                    match self.dual(trusted, claimed).await {
                        // It has just given all headers: what it can't do is prove over trees that shrink.
                        Err(Stop::Verdict(Verdict::Tampered(finding))) if finding.code == Code::CorruptTx => {
                            Err(Stop::Verdict(Verdict::Unchecked(why)))
                        }
                        other => other,
                    }
                }
                other => other.map(|()| How::Walk),
            };
        }
        match self.dual(trusted, claimed).await {
            // Old servers say of trees that lag that they are damaged; the headers show.
            Err(Stop::Verdict(Verdict::Unchecked(why))) if is_lag(&why) => {
                self.walk(trusted, claimed).await.map(|()| How::Walk)
            }
            Err(Stop::Verdict(Verdict::Tampered(finding))) if finding.code == Code::CorruptTx => {
                self.walk(trusted, claimed).await.map(|()| How::Walk)
            }
            other => other,
        }
    }

    async fn dual(&mut self, trusted: &State, claimed: &State) -> Result<How, Stop> {
        let message = self.proof(claimed.tx, trusted.tx).await?;
        let proof = dual_proof(&message)?;
        if let Verified::NeedsHeaders(pending) = verify_dual(trusted, claimed, &wire::dual_proof(proof))? {
            let (first, last) = pending.range();
            if last.0.saturating_sub(first.0) >= MAX_PENDING {
                let text = format!("the proof needs the headers of transactions {first} to {last}, which are too many");
                return Err(Stop::Verdict(Verdict::Unchecked(Unchecked::new("lags", text))));
            }
            let mut headers = Vec::new();
            self.pages(first, last, |header| {
                headers.push(header);
                Ok(())
            })
            .await?;
            pending.verify(headers.iter().map(wire::header))?;
        }
        self.signed_proof(claimed, &message)?;
        Ok(How::Proof)
    }

    async fn walk(&mut self, trusted: &State, claimed: &State) -> Result<(), Stop> {
        match self.walk_on(trusted, claimed).await {
            Err(Stop::Verdict(Verdict::Unchecked(why))) if why.reason == ROOT_UNKNOWN => {
                self.walk_through(trusted, claimed).await
            }
            other => other,
        }
    }

    /// From the trusted state on.
    async fn walk_on(&mut self, trusted: &State, claimed: &State) -> Result<(), Stop> {
        let mut walk = if trusted.is_empty() {
            Walk::from_first()
        } else {
            // Also shows that the server still holds what was trusted.
            let message = self.proof(trusted.tx, trusted.tx).await?;
            Walk::from_trusted(trusted, &wire::dual_proof(dual_proof(&message)?))?
        };
        let (from, mut trail) = (walk.next_tx(), Trail::default());
        self.pages(from, claimed.tx, |header| {
            walk.step(&wire::header(&header))?;
            trail.push(walk.reached());
            Ok(())
        })
        .await?;
        walk.finish(claimed)?;
        self.trail = trail;
        Ok(())
    }

    /// From some way before the trusted state, for headers that commit to trees older than that: if it comes through the
    /// trusted state, it began right.
    async fn walk_through(&mut self, trusted: &State, claimed: &State) -> Result<(), Stop> {
        let back = TxId(trusted.tx.0.saturating_sub(WINDOW as u64));
        let mut walk = if back.0 == 0 {
            Walk::from_first()
        } else {
            let mut first = proto::TxHeader::default();
            self.pages(back, back, |header| {
                first = header;
                Ok(())
            })
            .await?;
            let alh = TxHeader::new(&wire::header(&first))?.alh();
            let message = self.proof(back, back).await?;
            Walk::from_trusted(&State { tx: back, alh }, &wire::dual_proof(dual_proof(&message)?))?
        };
        let (from, mut trail) = (walk.next_tx(), Trail::default());
        self.pages(from, claimed.tx, |header| {
            walk.step(&wire::header(&header))?;
            let reached = walk.reached();
            if reached.tx > trusted.tx {
                trail.push(reached);
            }
            if reached.tx == trusted.tx && reached != *trusted {
                return Err(Reason::WalkHash { tx: reached.tx });
            }
            Ok(())
        })
        .await?;
        walk.finish(claimed)?;
        self.trail = trail;
        Ok(())
    }

    /// Hands over the headers of these transactions, a page at a time.
    async fn pages(
        &mut self,
        first: TxId,
        last: TxId,
        mut take: impl FnMut(proto::TxHeader) -> Result<(), Reason>,
    ) -> Result<(), Stop> {
        let (mut next, mut most) = (first.0, u64::MAX);
        // Of a transaction with the last number that there is nothing can follow.
        while let Some(left) = last.0.checked_sub(next) {
            let count = most.min(left.saturating_add(1));
            let answer = match self.client.headers(self.seat, next, count).await {
                // Up to 1.2.2 all entries come along.
                Err(Fault::TooLarge(_)) if count > 1 => {
                    most = count.min(PAGE.into()) / 8;
                    most = most.max(1);
                    continue;
                }
                other => other?,
            };
            let page = self.named(answer)?;
            if page.txs.is_empty() {
                let text = format!("the server claims transaction {last} and gives none from {next} on");
                let finding = Finding::new(Code::Rollback, "no-such-tx", text);
                return Err(Stop::Verdict(Verdict::Tampered(finding)));
            }
            for tx in page.txs {
                let missing = Reason::Missing { part: Part::TxHeader };
                let header = tx.header.ok_or(missing)?;
                if header.id != next || next > last.0 {
                    let (expected, found) = (TxId(next), TxId(header.id));
                    return Err(Reason::WalkOrder { expected, found }.into());
                }
                take(header)?;
                let Some(after) = next.checked_add(1) else {
                    return Ok(());
                };
                next = after;
            }
        }
        Ok(())
    }
}

/// That it is another server than before.
fn another(uuid: &str, known: &str) -> Finding {
    let text = format!("the server's identity is {uuid:?}, it was {known:?}");
    Finding {
        uuid: Some(uuid.to_owned()),
        ..Finding::new(Code::Identity, "uuid-changed", text)
    }
}

/// Whether the other way of checking may tell more.
fn is_lag(why: &Unchecked) -> bool {
    ["lag", "lags", "tree-shrank", "advance-proof-absent", ROOT_UNKNOWN].contains(&why.reason)
}

fn dual_proof(message: &proto::VerifiableTx) -> Result<&proto::DualProof, Reason> {
    message
        .dual_proof
        .as_ref()
        .ok_or(Reason::Missing { part: Part::DualProof })
}
