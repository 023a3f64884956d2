//! Checkpoints: signed tree heads.
//!
//! Source: C2SP tlog-checkpoint, "Note text".

use std::fmt;

use thiserror::Error;

use crate::key::{Signer, Verifier};
use crate::note::{self, Note, NoteError};
use crate::text;
use crate::tree::{EMPTY_ROOT, Hash, MAX_SIZE, TreeHead};

/// Why a text is no checkpoint, or not to be believed.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum CheckpointError {
    /// No note, or not signed as it should be.
    #[error("not a signed note that can be trusted")]
    Note(#[from] NoteError),
    /// No origin in the first line.
    #[error("the first line of a checkpoint must be an origin")]
    Origin,
    /// The second line is no number, or above 2^63.
    #[error("the second line of a checkpoint must be a tree size up to 2^63")]
    Size,
    /// The third line is no hash.
    #[error("the third line of a checkpoint must be a hash in base64")]
    Root,
    /// The root of the empty tree is fixed.
    #[error("size 0 with the root of a tree that isn't empty")]
    EmptyRoot,
    /// An extension line is empty, or has a newline in it.
    #[error("an extension line of a checkpoint must be one non-empty line")]
    Extension,
    /// Signed by a known key, but of another log.
    #[error("`{origin}` is not the name of a key that signed")]
    Foreign {
        /// The checkpoint's origin.
        origin: String,
    },
}

/// What a log says about itself: which it is, how many leaves it has, and their root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    origin: String,
    head: TreeHead,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    ///
    /// # Errors
    /// An origin that is no line, a size above 2^63, or a wrong root for size 0.
    pub fn new(origin: &str, head: TreeHead) -> Result<Self, CheckpointError> {
        Self::with_extensions(origin, head, Vec::new())
    }

    /// A checkpoint with extension lines, which the log signs and nobody else can check.
    ///
    /// # Errors
    /// As for [`new`](Self::new), or an extension that is no line.
    pub fn with_extensions(origin: &str, head: TreeHead, extensions: Vec<String>) -> Result<Self, CheckpointError> {
        if !is_line(origin) {
            return Err(CheckpointError::Origin);
        }
        if head.size > MAX_SIZE {
            return Err(CheckpointError::Size);
        }
        if head.size == 0 && head.root != EMPTY_ROOT {
            return Err(CheckpointError::EmptyRoot);
        }
        if !extensions.iter().all(|line| is_line(line)) {
            return Err(CheckpointError::Extension);
        }
        Ok(Self {
            origin: origin.to_owned(),
            head,
            extensions,
        })
    }

    /// Reads the text of a checkpoint's note. Not to be believed by itself: see [`open`](Self::open).
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut rest = text;
        let origin = text::line(&mut rest).ok_or(CheckpointError::Origin)?;
        let size = text::line(&mut rest)
            .and_then(text::decimal)
            .ok_or(CheckpointError::Size)?;
        let root = text::line(&mut rest)
            .and_then(Hash::from_base64)
            .ok_or(CheckpointError::Root)?;
        let mut extensions = Vec::new();
        while let Some(line) = text::line(&mut rest) {
            extensions.push(line.to_owned());
        }
        if !rest.is_empty() {
            return Err(CheckpointError::Extension);
        }
        Self::with_extensions(origin, TreeHead { size, root }, extensions)
    }

    /// Reads a signed checkpoint and believes it: it must be signed by a key
    /// of `logs` whose name is its origin, and no signature of a key of `logs`
    /// may be wrong. Cosignatures are for the caller to check, by
    /// [`Note::verify`] with the witnesses' keys.
    ///
    /// # Errors
    /// It is no checkpoint, or none of these logs signed it.
    pub fn open(note: &str, logs: &[&dyn Verifier]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let signatures = note.verify(logs)?;
        let checkpoint = Self::parse(note.text())?;
        if !signatures.iter().any(|line| line.name == checkpoint.origin) {
            return Err(CheckpointError::Foreign {
                origin: checkpoint.origin,
            });
        }
        Ok(checkpoint)
    }

    /// The signed note. Whoever signs must never before have signed a tree
    /// that this one doesn't extend.
    ///
    /// # Errors
    /// No keys, too many, or a text beyond the limits of notes.
    pub fn sign(&self, keys: &[&dyn Signer]) -> Result<String, CheckpointError> {
        Ok(note::sign(&self.to_string(), keys)?)
    }

    /// Which log it is.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Size and root of its tree.
    pub fn head(&self) -> TreeHead {
        self.head
    }

    /// Further lines, opaque.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

/// The text that is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, self.head.root)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The signed checkpoints of a file that has one note after the other, each to
/// be read by [`Checkpoint::open`]. What was torn off at the end is the last, and is none.
///
/// A checkpoint has one blank line, and only signatures stand below it; so the
/// first line that is no signature begins the next.
pub fn split_checkpoints(file: &str) -> impl Iterator<Item = &str> {
    let mut rest = file;
    std::iter::from_fn(move || {
        let mut end = 0;
        let mut signed = false;
        for line in rest.split_inclusive('\n') {
            if signed && !line.starts_with(note::DASH) {
                break;
            }
            signed |= line == "\n";
            end += line.len();
        }
        let (checkpoint, behind) = rest.split_at_checked(end)?;
        rest = behind;
        (!checkpoint.is_empty()).then_some(checkpoint)
    })
}

/// A line of its own: something, without a newline or another control character.
fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.contains('\n') && !text::has_control(text)
}
