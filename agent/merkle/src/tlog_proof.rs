//! Proof that an entry is in a log, as a text that needs no log to be checked.
//!
//! Source: C2SP tlog-proof, "Format" and "Verifying a tlog proof".

use std::fmt;

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::key::Verifier;
use crate::note::{MAX_NOTE, Note, NoteError};
use crate::text;
use crate::tree::Hash;
use crate::verify::{MAX_PROOF, VerifyError, verify_inclusion};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Most bytes of opaque data.
pub const MAX_EXTRA: usize = 64 << 10;
/// Longest text of a proof.
pub const MAX_TLOG_PROOF: usize = MAX_NOTE + 2 * MAX_EXTRA;

/// Why a text is no proof, or proves nothing.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum TlogProofError {
    /// More than [`MAX_TLOG_PROOF`] bytes.
    #[error("a proof of more than {MAX_TLOG_PROOF} bytes")]
    Long,
    /// Another first line.
    #[error("a proof must begin with the line `{HEADER}`")]
    Header,
    /// An extra line that is not base64 of at most [`MAX_EXTRA`] bytes.
    #[error("the extra data of a proof must be base64 of at most {MAX_EXTRA} bytes")]
    Extra,
    /// No line with the index.
    #[error("`index` and a number are expected")]
    Index,
    /// A line that is no hash.
    #[error("hash {number} of the proof is not base64 of 32 bytes")]
    Hash {
        /// Counted from 1.
        number: usize,
    },
    /// No blank line within the hashes that a proof can have.
    #[error("at most {MAX_PROOF} hashes and a blank line are expected")]
    Hashes,
    /// What follows is no note.
    #[error("the checkpoint of the proof is no signed note")]
    Note(#[source] NoteError),
    /// The checkpoint isn't to be believed.
    #[error("the checkpoint of the proof is not signed by a known log")]
    Checkpoint(#[source] CheckpointError),
    /// The hashes don't lead from the entry to the checkpoint.
    #[error("the proof doesn't hold")]
    Inclusion(#[source] VerifyError),
}

/// An entry's place in a tree, the way to its root, and the log's signature over that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlogProof {
    extra: Option<Vec<u8>>,
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: String,
}

impl TlogProof {
    /// A proof from its parts: the inclusion proof of leaf `index` in the tree
    /// of a signed checkpoint. Whether it holds is for [`verify`](Self::verify).
    ///
    /// # Errors
    /// More hashes than a proof can have, or a checkpoint that is no note.
    pub fn new(index: u64, hashes: Vec<Hash>, checkpoint: &str) -> Result<Self, TlogProofError> {
        if hashes.len() > MAX_PROOF {
            return Err(TlogProofError::Hashes);
        }
        Note::parse(checkpoint).map_err(TlogProofError::Note)?;
        Ok(Self {
            extra: None,
            index,
            hashes,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// The same with opaque data, which nothing authenticates.
    ///
    /// # Errors
    /// More than [`MAX_EXTRA`] bytes.
    pub fn with_extra(self, extra: Vec<u8>) -> Result<Self, TlogProofError> {
        if extra.len() > MAX_EXTRA {
            return Err(TlogProofError::Extra);
        }
        Ok(Self {
            extra: Some(extra),
            ..self
        })
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// It is none, or larger than the limits.
    pub fn parse(proof: &str) -> Result<Self, TlogProofError> {
        if proof.len() > MAX_TLOG_PROOF {
            return Err(TlogProofError::Long);
        }
        let mut rest = proof;
        if text::line(&mut rest) != Some(HEADER) {
            return Err(TlogProofError::Header);
        }
        let mut line = text::line(&mut rest).ok_or(TlogProofError::Index)?;
        let mut extra = None;
        if let Some(base64) = line.strip_prefix("extra ") {
            let bytes = text::base64(base64).filter(|bytes| bytes.len() <= MAX_EXTRA);
            extra = Some(bytes.ok_or(TlogProofError::Extra)?);
            line = text::line(&mut rest).ok_or(TlogProofError::Index)?;
        }
        let index = line
            .strip_prefix("index ")
            .and_then(text::decimal)
            .ok_or(TlogProofError::Index)?;
        let mut hashes = Vec::new();
        loop {
            let line = text::line(&mut rest).ok_or(TlogProofError::Hashes)?;
            if line.is_empty() {
                break;
            }
            let number = hashes.len() + 1;
            hashes.push(Hash::from_base64(line).ok_or(TlogProofError::Hash { number })?);
        }
        let proof = Self::new(index, hashes, rest)?;
        Ok(Self { extra, ..proof })
    }

    /// Checks that the entry with this leaf hash is in a tree that one of
    /// `logs` signed, and returns that checkpoint. Witnesses' cosignatures are
    /// for the caller to check, in [`note`](Self::note).
    ///
    /// # Errors
    /// It can't be believed, or is the proof of something else.
    pub fn verify(&self, leaf: &Hash, logs: &[&dyn Verifier]) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, logs).map_err(TlogProofError::Checkpoint)?;
        verify_inclusion(leaf, self.index, &self.hashes, &checkpoint.head()).map_err(TlogProofError::Inclusion)?;
        Ok(checkpoint)
    }

    /// Opaque data, to be distrusted.
    pub fn extra(&self) -> Option<&[u8]> {
        self.extra.as_deref()
    }

    /// Place of the entry in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The inclusion proof, sibling of the leaf first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The signed checkpoint.
    pub fn note(&self) -> &str {
        &self.checkpoint
    }
}

/// The text that [`TlogProof::parse`] reads.
impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", text::to_base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
