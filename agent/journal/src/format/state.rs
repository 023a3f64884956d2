//! The payload of a state record: one thing that a source must remember.

use super::{FormatError, take};

/// Bytes a state payload may have: key, expiry and value together 64 KiB.
pub const MAX_STATE: usize = 64 << 10;
/// Bytes that all newest state payloads of one source may have: 8 MiB.
pub const MAX_MEMORY: usize = 8 << 20;
/// Bytes before a state's key.
pub const STATE_HEAD: usize = 10;

/// A state, borrowed from a record's payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StateRecord<'a> {
    /// Names the thing; unique within its source.
    pub key: &'a [u8],
    /// When it is forgotten, in ns since the Unix epoch; 0 is never.
    pub expiry_ns: u64,
    /// What is remembered; empty removes the key.
    pub value: &'a [u8],
}

impl<'a> StateRecord<'a> {
    /// Reads a state record's payload.
    ///
    /// # Errors
    /// Cut short, or longer than [`MAX_STATE`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, FormatError> {
        if payload.len() > MAX_STATE {
            return Err(FormatError::Length);
        }
        let mut rest = payload;
        let key_length = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let expiry_ns = u64::from_be_bytes(take(&mut rest)?);
        let (key, value) = rest.split_at_checked(key_length).ok_or(FormatError::Short)?;
        Ok(Self { key, expiry_ns, value })
    }
}

/// Appends a state record's payload.
///
/// # Errors
/// [`FormatError::Length`] if it would be longer than [`MAX_STATE`].
pub fn encode_state(state: &StateRecord<'_>, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let key_length = u16::try_from(state.key.len()).map_err(|_| FormatError::Length)?;
    if STATE_HEAD + state.key.len() + state.value.len() > MAX_STATE {
        return Err(FormatError::Length);
    }
    out.extend_from_slice(&key_length.to_be_bytes());
    out.extend_from_slice(&state.expiry_ns.to_be_bytes());
    out.extend_from_slice(state.key);
    out.extend_from_slice(state.value);
    Ok(())
}
