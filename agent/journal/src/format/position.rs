//! How far a sink is, and how that is kept in a file.

use super::{FormatError, take};

/// Bytes before a position's origin.
pub const POSITION_HEAD: usize = 44;
/// More than an origin ever has: host name, 16 hex digits, generation.
const MAX_ORIGIN: usize = 1024;

/// How far a sink is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// The journal it belongs to.
    pub origin: String,
    /// Seq of the next record it wants.
    pub seq: u64,
    /// Leaf hash of the record before it; zeros at seq 0.
    pub leaf_hash: [u8; 32],
}

impl Position {
    /// The bytes of a position file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(POSITION_HEAD + self.origin.len());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.leaf_hash);
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        out.extend_from_slice(self.origin.as_bytes());
        out
    }

    /// Reads a position file.
    ///
    /// # Errors
    /// Cut short, too long, a wrong CRC (it covers seq and hash), or an origin that is no UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut rest = bytes;
        let seq = u64::from_be_bytes(take(&mut rest)?);
        let leaf_hash = take(&mut rest)?;
        let crc = u32::from_be_bytes(take(&mut rest)?);
        if rest.len() > MAX_ORIGIN {
            return Err(FormatError::Length);
        }
        if crc != crc32c::crc32c(&bytes[..POSITION_HEAD - 4]) {
            return Err(FormatError::Crc);
        }
        let origin = std::str::from_utf8(rest).map_err(|_| FormatError::Text)?;
        Ok(Self {
            origin: origin.to_owned(),
            seq,
            leaf_hash,
        })
    }
}
