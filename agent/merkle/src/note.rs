//! Signed notes: text with signature lines below.
//!
//! Source: C2SP signed-note, "Format" and "Signatures".

use thiserror::Error;

use crate::key::{KeyError, KeyId, Signer, Verifier, check_name};
use crate::text;

/// Longest note, in bytes. The specification asks for room for 16 signatures, which may have 5 kB each.
pub const MAX_NOTE: usize = 256 << 10;
/// Most signature lines of a note.
pub const MAX_SIGNATURES: usize = 100;

/// What begins a signature line: an em dash and a space.
pub(crate) const DASH: &str = "\u{2014} ";

/// Why a text is no note, or not to be believed.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum NoteError {
    /// More than [`MAX_NOTE`] bytes.
    #[error("a note of more than {MAX_NOTE} bytes")]
    Long,
    /// An ASCII control character other than a newline.
    #[error("a control character in a note")]
    Control,
    /// The text doesn't end with a newline.
    #[error("the text of a note must end with a newline")]
    Text,
    /// No blank line, nothing below it, or no newline at the end.
    #[error("no signature lines below a blank line")]
    Unsigned,
    /// A line below the blank one that is none of a signature.
    #[error("signature line {line} is not `\u{2014} name base64`")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// More than [`MAX_SIGNATURES`].
    #[error("more than {MAX_SIGNATURES} signatures")]
    Signatures,
    /// A name that can't stand in a signature line.
    #[error("the key `{name}` can't sign")]
    Key {
        /// The key's name.
        name: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A known key's signature doesn't fit the text: someone changed one of both.
    #[error("the signature of `{name}+{id}` doesn't fit the text")]
    Forged {
        /// The key's name.
        name: String,
        /// The key's id.
        id: KeyId,
    },
    /// All signatures are by keys that aren't known here.
    #[error("not signed by a known key")]
    Unknown,
}

/// A note as it was read. Nothing in it is to be believed before [`verify`](Self::verify).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<SignatureLine<'a>>,
}

/// One line below a note's text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureLine<'a> {
    /// Name of the key.
    pub name: &'a str,
    /// Id of the key.
    pub id: KeyId,
    /// What the key's algorithm made; not empty.
    pub signature: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Reads a note.
    ///
    /// # Errors
    /// It is none, or larger than the limits.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::Long);
        }
        if text::has_control(note) {
            return Err(NoteError::Control);
        }
        // The text may have blank lines of its own: the last one counts.
        let split = note.rfind("\n\n").ok_or(NoteError::Unsigned)?;
        let (text, mut rest) = (&note[..=split], &note[split + 2..]);
        if !rest.ends_with('\n') {
            return Err(NoteError::Unsigned);
        }
        let mut signatures = Vec::new();
        while let Some(line) = text::line(&mut rest) {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::Signatures);
            }
            let number = signatures.len() + 1;
            signatures.push(SignatureLine::parse(line).ok_or(NoteError::Line { line: number })?);
        }
        Ok(Self { text, signatures })
    }

    /// What was signed, with its last newline.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// All signature lines, in order, known or not.
    pub fn signatures(&self) -> &[SignatureLine<'a>] {
        &self.signatures
    }

    /// Checks the signatures of the `known` keys and returns them, at least
    /// one; those of other keys are ignored.
    ///
    /// # Errors
    /// [`NoteError::Forged`] if one of them doesn't fit, even beside others
    /// that do; [`NoteError::Unknown`] if there is none.
    pub fn verify(&self, known: &[&dyn Verifier]) -> Result<Vec<&SignatureLine<'a>>, NoteError> {
        let mut verified = Vec::new();
        for line in &self.signatures {
            let mut keys = known
                .iter()
                .filter(|key| key.name() == line.name && key.id() == line.id);
            let Some(first) = keys.next() else { continue };
            // Two known keys may share name and id by accident; either may have signed.
            let good =
                first.verify(self.text, &line.signature) || keys.any(|key| key.verify(self.text, &line.signature));
            if !good {
                return Err(NoteError::Forged {
                    name: line.name.to_owned(),
                    id: line.id,
                });
            }
            verified.push(line);
        }
        if verified.is_empty() {
            return Err(NoteError::Unknown);
        }
        Ok(verified)
    }
}

impl<'a> SignatureLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(DASH)?.split_once(' ')?;
        check_name(name).ok()?;
        let bytes = text::base64(base64)?;
        let (id, signature) = bytes.split_first_chunk()?;
        (!signature.is_empty()).then(|| Self {
            name,
            id: KeyId(*id),
            signature: signature.to_vec(),
        })
    }
}

/// Signs a text with every key, in order.
///
/// # Errors
/// The text isn't one of a note, there are no keys, or too many, or one has a
/// name that can't be.
pub fn sign(text: &str, keys: &[&dyn Signer]) -> Result<String, NoteError> {
    if text::has_control(text) {
        return Err(NoteError::Control);
    }
    if !text.ends_with('\n') {
        return Err(NoteError::Text);
    }
    if keys.is_empty() {
        return Err(NoteError::Unsigned);
    }
    if keys.len() > MAX_SIGNATURES {
        return Err(NoteError::Signatures);
    }
    let mut note = format!("{text}\n");
    for key in keys {
        note.push_str(&signature_line(text, *key)?);
    }
    if note.len() > MAX_NOTE {
        return Err(NoteError::Long);
    }
    Ok(note)
}

/// One key's signature line over a text, newline included; appended to a note
/// of that text it is one more signature of it.
///
/// # Errors
/// [`NoteError::Key`].
pub fn signature_line(text: &str, key: &dyn Signer) -> Result<String, NoteError> {
    let name = key.name();
    check_name(name).map_err(|source| NoteError::Key {
        name: name.to_owned(),
        source,
    })?;
    let bytes = [key.id().0.as_slice(), &key.sign(text)].concat();
    Ok(format!("{DASH}{name} {}\n", text::to_base64(&bytes)))
}
