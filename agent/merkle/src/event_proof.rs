//! Proof of one event of a journal: `.auditmon-proof`.
//!
//! What is checked here is computed from `reference/journal-format.md` alone
//! and shares nothing with the code that wrote the journal.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::checkpoint::Checkpoint;
use crate::key::Verifier;
use crate::text;
use crate::tlog_proof::{MAX_TLOG_PROOF, TlogProof, TlogProofError};
use crate::tree::leaf_hash;

/// The first line.
const HEADER: &str = "auditmon-proof/v1";
/// Between two proofs in one file.
const SEPARATOR: &str = "---";

/// Bytes of a salt.
pub const SALT: usize = 16;
/// Bytes of a leaf: version, event id, received, kind, source, commitment.
pub const LEAF: usize = 1 + 16 + 8 + 1 + 8 + 32;
/// Most canonical bytes of an event.
pub const MAX_EVENT: usize = 1 << 20;
/// Longest text of a proof.
pub const MAX_EVENT_PROOF: usize = MAX_EVENT.div_ceil(3) * 4 + 1024 + MAX_TLOG_PROOF;

/// Why a text is no proof of an event, or proves nothing.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum EventProofError {
    /// More than [`MAX_EVENT_PROOF`] bytes.
    #[error("a proof of more than {MAX_EVENT_PROOF} bytes")]
    Long,
    /// Another first line.
    #[error("a proof must begin with the line `{HEADER}`")]
    Header,
    /// One of the lines event, salt, leaf and the blank one isn't there or isn't in its form.
    #[error("{expected} is expected")]
    Line {
        /// What should be there.
        expected: &'static str,
    },
    /// Opaque data, or a separator line in the checkpoint.
    #[error("a line that the proof of an event can't have: `{line}`")]
    Unexpected {
        /// How the line begins.
        line: &'static str,
    },
    /// The lower part is no proof, or doesn't hold.
    #[error("the leaf is not proved to be in a journal")]
    Tlog(#[source] TlogProofError),
    /// Event and salt are not those that the leaf commits to.
    #[error("the event is not the one that the leaf commits to")]
    Commitment,
    /// A leaf of another version of the format.
    #[error("a leaf of version {version}, only 1 is known")]
    Version {
        /// The leaf's first byte.
        version: u8,
    },
    /// The event is no JSON object with exactly the members of version 1.
    #[error("the event is not in canonical form")]
    Event,
    /// The clear part of the leaf says something else than the event.
    #[error("the leaf's {member} is not the event's")]
    Prefix {
        /// event_id, time of the event_id, kind or event_source.
        member: &'static str,
    },
}

/// An event with what ties it to a signed checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventProof {
    event: Vec<u8>,
    salt: [u8; SALT],
    leaf: [u8; LEAF],
    proof: TlogProof,
}

/// What a valid proof proves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProvenEvent<'a> {
    /// Canonical bytes: a JSON object.
    pub event: &'a str,
    /// Its number in the journal.
    pub seq: u64,
    /// When the agent received it, in ns since the Unix epoch.
    pub received_ns: u64,
    /// The signed tree head that covers it; its origin names the journal.
    pub checkpoint: Checkpoint,
}

impl EventProof {
    /// A proof from its parts. Whether it holds is for [`verify`](Self::verify).
    ///
    /// # Errors
    /// More than [`MAX_EVENT`] bytes, opaque data in `proof`, or a checkpoint
    /// with a line that would end the proof.
    pub fn new(event: Vec<u8>, salt: [u8; SALT], leaf: [u8; LEAF], proof: TlogProof) -> Result<Self, EventProofError> {
        if event.len() > MAX_EVENT {
            return Err(EventProofError::Long);
        }
        if proof.extra().is_some() {
            return Err(EventProofError::Unexpected { line: "extra" });
        }
        if proof.note().lines().any(|line| line == SEPARATOR) {
            return Err(EventProofError::Unexpected { line: SEPARATOR });
        }
        Ok(Self {
            event,
            salt,
            leaf,
            proof,
        })
    }

    /// Reads one proof; [`split`] finds those of a file.
    ///
    /// # Errors
    /// It is none, or larger than the limits.
    pub fn parse(proof: &str) -> Result<Self, EventProofError> {
        if proof.len() > MAX_EVENT_PROOF {
            return Err(EventProofError::Long);
        }
        let mut rest = proof;
        if text::line(&mut rest) != Some(HEADER) {
            return Err(EventProofError::Header);
        }
        let mut line = |prefix: &'static str, expected: &'static str| {
            let line = text::line(&mut rest).and_then(|line| line.strip_prefix(prefix));
            line.ok_or(EventProofError::Line { expected })
        };
        let event = line("event ", EVENT_LINE)?;
        let salt = line("salt ", SALT_LINE)?;
        let leaf = line("leaf ", LEAF_LINE)?;
        if !line("", BLANK_LINE)?.is_empty() {
            return Err(EventProofError::Line { expected: BLANK_LINE });
        }
        let bad = |expected| EventProofError::Line { expected };
        Self::new(
            text::base64(event).ok_or(bad(EVENT_LINE))?,
            text::base64_array(salt).ok_or(bad(SALT_LINE))?,
            text::base64_array(leaf).ok_or(bad(LEAF_LINE))?,
            TlogProof::parse(rest).map_err(EventProofError::Tlog)?,
        )
    }

    /// Checks everything: the event is the one that the leaf commits to, the
    /// clear part of the leaf agrees with it, the leaf is in the tree, and one
    /// of `journals` signed that tree. Witnesses' cosignatures are for the
    /// caller to check, in [`TlogProof::note`].
    ///
    /// # Errors
    /// The first of these that doesn't hold.
    pub fn verify(&self, journals: &[&dyn Verifier]) -> Result<ProvenEvent<'_>, EventProofError> {
        let checkpoint = self
            .proof
            .verify(&leaf_hash(&self.leaf), journals)
            .map_err(EventProofError::Tlog)?;
        let leaf = Leaf::parse(&self.leaf)?;
        let commitment = Sha256::new()
            .chain_update(self.salt)
            .chain_update(&self.event)
            .finalize();
        if commitment[..] != *leaf.commitment {
            return Err(EventProofError::Commitment);
        }
        let event = std::str::from_utf8(&self.event).map_err(|_| EventProofError::Event)?;
        leaf.agrees(&serde_json::from_str(event).map_err(|_| EventProofError::Event)?)?;
        Ok(ProvenEvent {
            event,
            seq: self.proof.index(),
            received_ns: leaf.received_ns,
            checkpoint,
        })
    }

    /// The entry that is proved to be in the tree; whether it is the event's is for [`verify`](Self::verify).
    pub fn leaf(&self) -> &[u8; LEAF] {
        &self.leaf
    }

    /// The lower part: place, path and checkpoint.
    pub fn tlog_proof(&self) -> &TlogProof {
        &self.proof
    }
}

/// The text that [`EventProof::parse`] reads.
impl fmt::Display for EventProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nevent {}", text::to_base64(&self.event))?;
        writeln!(f, "salt {}", text::to_base64(&self.salt))?;
        writeln!(f, "leaf {}\n", text::to_base64(&self.leaf))?;
        self.proof.fmt(f)
    }
}

/// The proofs of a file, each to be read by [`EventProof::parse`]: between two
/// of them is a line `---`.
pub fn split(file: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(file);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.find("\n---\n") {
            Some(at) => {
                rest = text.get(at + 1 + SEPARATOR.len() + 1..);
                text.get(..=at)
            }
            None => rest.take(),
        }
    })
}

/// One file of several proofs.
pub fn join<'a>(proofs: impl IntoIterator<Item = &'a EventProof>) -> String {
    let texts: Vec<_> = proofs.into_iter().map(EventProof::to_string).collect();
    texts.join(&format!("{SEPARATOR}\n"))
}

const EVENT_LINE: &str = "a line `event` with the event in base64";
const SALT_LINE: &str = "a line `salt` with 16 bytes in base64";
const LEAF_LINE: &str = "a line `leaf` with 66 bytes in base64";
const BLANK_LINE: &str = "a blank line";

/// A leaf taken apart.
struct Leaf<'a> {
    event_id: [u8; 16],
    received_ns: u64,
    kind: u8,
    source: [u8; 8],
    commitment: &'a [u8],
}

impl<'a> Leaf<'a> {
    fn parse(leaf: &'a [u8; LEAF]) -> Result<Self, EventProofError> {
        let (prefix, commitment) = leaf.split_at(LEAF - 32);
        let mut rest = prefix;
        match take(&mut rest) {
            [1] => {}
            [version] => return Err(EventProofError::Version { version }),
        }
        let event_id = take(&mut rest);
        let received_ns = u64::from_be_bytes(take(&mut rest));
        let [kind] = take(&mut rest);
        Ok(Self {
            event_id,
            received_ns,
            kind,
            source: take(&mut rest),
            commitment,
        })
    }

    fn agrees(&self, event: &EventHead<'_>) -> Result<(), EventProofError> {
        let [a, b, c, d, e, f, ..] = self.event_id;
        let id_ms = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let source: [u8; 32] = Sha256::digest(event.event_source.as_bytes()).into();
        let kind = match event.kind.as_ref() {
            "application" => Some(1),
            "kernel" => Some(2),
            "immudb" => Some(3),
            "agent" => Some(4),
            _ => None,
        };
        let checks = [
            ("event_id", event.event_id == uuid_text(&self.event_id)),
            ("time of the event_id", id_ms == self.received_ns / 1_000_000),
            ("kind", kind == Some(self.kind)),
            ("event_source", source[..8] == self.source),
        ];
        match checks.into_iter().find(|(_, holds)| !holds) {
            Some((member, _)) => Err(EventProofError::Prefix { member }),
            None => Ok(()),
        }
    }
}

/// Takes `N` bytes off the front of a prefix, which has as many by its type.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, behind) = rest.split_first_chunk().unwrap_or((&[0; N], &[]));
    *rest = behind;
    *head
}

/// A UUID as canonical bytes have it.
fn uuid_text(id: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in id.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The members of a canonical event. All must be there, each once and no
/// other, so that no two readers see different events in the same bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "members that only have to be there")]
struct EventHead<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    event_time: IgnoredAny,
    event_name: IgnoredAny,
    username: IgnoredAny,
    resource: IgnoredAny,
    #[serde(borrow)]
    event_source: Cow<'a, str>,
    source_ip_address: IgnoredAny,
    request_id: IgnoredAny,
    read_only: IgnoredAny,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    host: IgnoredAny,
    outcome: IgnoredAny,
    severity: IgnoredAny,
    event_data: IgnoredAny,
}
