//! What an audit comes to.

use immudb_verify::{PublicKey, Reason, State};

use crate::client::Fault;
use crate::key;
use crate::locate::Located;

/// Reason of a finding that is over as far as the server shows, and that nobody has accepted yet.
pub(crate) const NOT_ACCEPTED: &str = "not-accepted";

/// Longest part of a signature that is kept; those of P-256 have 72 bytes, its keys 65.
const MAX_SIGNATURE: usize = 160;

/// Outcome of one audit of one database.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// What the server shows follows from what is trusted.
    Ok(Good),
    /// It doesn't.
    Tampered(Finding),
    /// Nobody knows.
    Unchecked(Unchecked),
}

/// The signature that came with a state, for those who pass it on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Signature {
    pub(crate) bytes: Vec<u8>,
    /// Whose it says to be.
    pub(crate) key: Vec<u8>,
}

impl Signature {
    /// As it was received; `None` if it is longer than one can be.
    pub(crate) fn new(bytes: &[u8], key: &[u8]) -> Option<Self> {
        let good = |part: &[u8]| (1..=MAX_SIGNATURE).contains(&part.len());
        (good(bytes) && good(key)).then(|| Self {
            bytes: bytes.to_vec(),
            key: key.to_vec(),
        })
    }
}

/// What was found in order.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(crate) state: State,
    pub(crate) signature: Option<Signature>,
    pub(crate) uuid: Option<String>,
    pub(crate) key: Option<PublicKey>,
    pub(crate) how: How,
    /// What was found to follow the trusted state, in order; the claimed state is the last. Empty if nothing is new.
    pub(crate) seen: Vec<State>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// Seen for the first time: taken on trust.
    First,
    /// Nothing new.
    Same,
    /// Nothing new, and the server still holds the last transaction.
    Held,
    /// Every new header.
    Walk,
    /// The server's proof alone.
    Proof,
}

impl How {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::First => "first-seen",
            Self::Same => "same",
            Self::Held => "held",
            Self::Walk => "walk",
            Self::Proof => "proof",
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    pub(crate) code: Code,
    /// The verifier's or the fault's code.
    pub(crate) reason: &'static str,
    /// What was found, with numbers.
    pub(crate) text: String,
    /// The state that the server shows, if it showed one.
    pub(crate) shown: Option<State>,
    /// The signature of that.
    pub(crate) signature: Option<Signature>,
    /// The server's name now.
    pub(crate) uuid: Option<String>,
    /// The transaction, if it is known.
    pub(crate) tx: Option<u64>,
    /// Stored keys: those whose values are wrong, else those that the transaction holds now.
    pub(crate) keys: Vec<Vec<u8>>,
    /// Where the history begins to differ, as far as is remembered.
    pub(crate) located: Option<Box<Located>>,
    /// Of another server: whether it has the same history.
    pub(crate) history: Option<History>,
}

/// What another server than before shows, beside the history that is trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum History {
    /// It follows from that.
    Follows,
    /// It doesn't, as a finding of this kind.
    Differs(Code),
    /// It could not be told.
    Unknown,
}

impl History {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Follows => "follows",
            Self::Differs(_) => "differs",
            Self::Unknown => "unknown",
        }
    }
}

/// What could not be checked, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unchecked {
    pub(crate) reason: &'static str,
    pub(crate) text: String,
    /// What was found before, and stands.
    pub(crate) finding: Option<Code>,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Code {
    Proof,
    Rollback,
    Emptied,
    Fork,
    Missing,
    Identity,
    Signature,
    CorruptTx,
    Value,
    StateLost,
    Malformed,
    SplitView,
}

impl Code {
    const ALL: [Self; 12] = [
        Self::Proof,
        Self::Rollback,
        Self::Emptied,
        Self::Fork,
        Self::Missing,
        Self::Identity,
        Self::Signature,
        Self::CorruptTx,
        Self::Value,
        Self::StateLost,
        Self::Malformed,
        Self::SplitView,
    ];

    /// The code of a name; what a later version may have written counts as [`Proof`](Self::Proof).
    pub(crate) fn parse(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|code| code.as_str() == name);
        known.unwrap_or(Self::Proof)
    }

    /// Stable name, for machines.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Rollback => "rollback",
            Self::Emptied => "emptied",
            Self::Fork => "fork",
            Self::Missing => "missing",
            Self::Identity => "identity",
            Self::Signature => "signature",
            Self::CorruptTx => "corrupt-tx",
            Self::Value => "value",
            Self::StateLost => "state-lost",
            Self::Malformed => "malformed",
            Self::SplitView => "split-view",
        }
    }

    /// What it means, for people who have never seen it.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Proof => {
                "The history that the server shows now doesn't contain the one it showed before: transactions were \
                 changed or replaced."
            }
            Self::Rollback => {
                "Transactions that the server had are gone: an older copy was put back, or the end was cut off."
            }
            Self::Emptied => "All transactions are gone: the database was replaced by an empty one.",
            Self::Fork => "The last transaction is another than before: the server shows a second history.",
            Self::Missing => "A database that was audited is gone: it was deleted, or its data was removed.",
            Self::Identity => {
                "This is another server than before, or its signing key was changed or removed: it may hold a copy."
            }
            Self::Signature => "States have to be signed with a configured key, and this one is not.",
            Self::CorruptTx => "The server itself finds a transaction in its log damaged: by a disk or by hand.",
            Self::Value => {
                "A stored value is not the one that its transaction set: it was damaged by a disk, or changed by hand."
            }
            Self::StateLost => "What the auditor had remembered of this database can't be read any more.",
            Self::Malformed => "The server answers with what no immudb server gives.",
            Self::SplitView => {
                "The server has signed two histories of this database: it shows one here, and another one to another \
                 auditor."
            }
        }
    }

    /// What to do now.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Missing => {
                "If it was deleted on purpose, say so: `auditmon immudb trust SERVER DB --reason TEXT`. If not, keep the \
                 server's data directory as it is and find out who removed it."
            }
            Self::Identity | Self::Signature => {
                "If the server or its key was changed on purpose, name the new key in `signing_keys` where that is set, and \
                 then accept the new state: `auditmon immudb trust SERVER DB --reason TEXT`. If not, don't trust this \
                 server until it is known who runs it."
            }
            Self::StateLost => {
                "Check the journal (`auditmon journal fsck`) and who had access to this host; then accept a state \
                 that another record vouches for: `auditmon immudb trust` with --tx and --hash."
            }
            Self::SplitView => {
                "Keep the file that the text names: it proves it to anybody who has the server's public key. Stop writing \
                 to this database, and find out who reads which of the two histories. Accept a state \
                 (`auditmon immudb trust`) on both agents once it is known which one is right."
            }
            Self::Malformed => {
                "Look what stands between the auditor and the server, a proxy or another service at this address; \
                 then treat it as tampering."
            }
            _ => {
                "Stop writing to this database and keep a copy of the server's data directory. Compare with replicas \
                 and backups from before. If it was a restore that you know of, accept the state shown: \
                 `auditmon immudb trust SERVER DB --reason TEXT`."
            }
        }
    }
}

impl Finding {
    /// Whether it stands by itself, whatever an audit says next: the server has signed two histories, gave a value that
    /// isn't the one that was set or last set, or says itself that what a key is set to is damaged.
    pub(crate) fn stands(&self) -> bool {
        let of_value = ["value-hash", "stale-key"].contains(&self.reason) || self.of_tx() == Some(0);
        self.code == Code::SplitView || (self.code == Code::Value && of_value)
    }

    pub(crate) fn new(code: Code, reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            text: text.into(),
            shown: None,
            signature: None,
            uuid: None,
            tx: None,
            keys: Vec::new(),
            located: None,
            history: None,
        }
    }

    /// Says of another server whether it has the same history.
    pub(crate) fn follow(&mut self, history: History, why: &str) {
        let words = match history {
            History::Follows => "; what it shows follows from the trusted history".to_owned(),
            History::Differs(code) => {
                format!("; and its history is not the trusted one ({}): {why}", code.as_str())
            }
            History::Unknown => format!("; whether it has the trusted history could not be told: {why}"),
        };
        self.text.push_str(&words);
        self.history = Some(history);
    }

    /// What the finding is as well: another server that also shows another history.
    pub(crate) fn also(&self) -> Option<Code> {
        match self.history {
            Some(History::Differs(code)) => Some(code),
            _ => None,
        }
    }

    /// What to do now.
    pub(crate) fn advice(&self) -> &'static str {
        match self.history {
            Some(History::Differs(_)) => {
                "Don't accept the state shown: it doesn't follow from the trusted history. Keep a copy of the server's \
                 data directory and find out who runs this server, and with which copy of the data. If that is known and \
                 well, `auditmon immudb trust` with --tx and --hash."
            }
            Some(History::Unknown) => {
                "Wait until an audit says whether this server has the trusted history, then accept its state with \
                 `auditmon immudb trust` if it was changed on purpose. If not, don't trust it until it is known who runs \
                 it."
            }
            Some(History::Follows) | None => self.code.advice(),
        }
    }

    /// The transaction that is wrong in itself, as it is remembered; 0 if an answer on a key is, whichever transaction set
    /// it; none where the history is another one.
    pub(crate) fn of_tx(&self) -> Option<u64> {
        match self.tx {
            _ if self.located.is_some() => None,
            None if !self.keys.is_empty() => Some(0),
            tx => tx,
        }
    }

    /// Names keys, also in words.
    pub(crate) fn name(mut self, keys: Vec<Vec<u8>>) -> Self {
        self.text.push_str(&key::words("; ", &keys));
        self.keys = keys;
        self
    }

    /// Adds where the history begins to differ.
    pub(crate) fn locate(&mut self, located: Located) {
        self.text.push_str(&located.words());
        self.tx = self.tx.or(located.tx());
        self.keys.clone_from(&located.keys);
        self.located = Some(Box::new(located));
    }
}

impl Unchecked {
    pub(crate) fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            finding: None,
        }
    }
}

impl Verdict {
    /// Why something was not accepted: a finding, or nothing that can be judged.
    pub(crate) fn of_reason(reason: &Reason) -> Self {
        use immudb_verify::Class;
        let code = match reason.class() {
            Class::Proof => Code::Proof,
            Class::Rollback => Code::Rollback,
            Class::Emptied => Code::Emptied,
            Class::Fork => Code::Fork,
            Class::Identity => Code::Identity,
            Class::Signature => Code::Signature,
            Class::Value => Code::Value,
            Class::Malformed => Code::Malformed,
            Class::Inconclusive => {
                return Self::Unchecked(Unchecked::new(reason.code(), reason.to_string()));
            }
        };
        Self::Tampered(Finding::new(code, reason.code(), reason.to_string()))
    }

    /// What a call that failed says: most say nothing of the database.
    pub(crate) fn of_fault(fault: &Fault) -> Self {
        let code = match fault {
            Fault::Corrupt { tx, .. } => {
                return Self::Tampered(Finding {
                    tx: *tx,
                    ..Finding::new(Code::CorruptTx, fault.code(), fault.to_string())
                });
            }
            Fault::NoSuchTx(_) => Code::Rollback,
            Fault::Value(_) => Code::Value,
            Fault::Malformed(_) => Code::Malformed,
            _ => return Self::Unchecked(Unchecked::new(fault.code(), fault.to_string())),
        };
        Self::Tampered(Finding::new(code, fault.code(), fault.to_string()))
    }

    /// Whether there was no answer in time.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unchecked(why) if why.reason == "timeout")
    }

    /// Its result, as events and metrics have it.
    pub(crate) fn result(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Tampered(_) => "tampered",
            Self::Unchecked(_) => "error",
        }
    }

    /// Of another server: whether it has the trusted history.
    pub(crate) fn history(&self) -> Option<History> {
        match self {
            Self::Tampered(finding) => finding.history,
            Self::Ok(_) | Self::Unchecked(_) => None,
        }
    }

    /// What makes two verdicts in a row the same, beside [`history`](Self::history).
    pub(crate) fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::Ok(_) => ("ok", ""),
            Self::Tampered(finding) if finding.reason == NOT_ACCEPTED => ("tampered", NOT_ACCEPTED),
            Self::Tampered(finding) => ("tampered", finding.code.as_str()),
            Self::Unchecked(why) => ("error", why.reason),
        }
    }
}
