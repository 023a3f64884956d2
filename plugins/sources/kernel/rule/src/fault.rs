//! What is wrong in a rules line, in words for the person who wrote it.

use std::fmt;

/// One thing wrong in a rules line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line in its file, from 1; 1 for a line on its own.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty where that is said already.
    pub right: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)?;
        if !self.right.is_empty() {
            write!(f, "; {}", self.right)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Most bytes of a foreign text in a message.
const SHOWN_LEN: usize = 200;

/// Foreign bytes as text that is safe in a message: control characters
/// escaped, bad UTF-8 replaced, length bounded.
pub(crate) fn shown(text: &[u8]) -> String {
    let cut = text.len() > SHOWN_LEN * 40;
    let text = text.get(..text.len().min(SHOWN_LEN * 40)).unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    if cut {
        out.push('…');
    }
    out
}

/// Like [`shown`], for a short piece of a line.
pub(crate) fn piece(text: &[u8]) -> String {
    match text.get(..SHOWN_LEN) {
        Some(head) if text.len() > SHOWN_LEN => format!("{}…", shown(head)),
        _ => shown(text),
    }
}
