//! The head of a segment file.

use sha2::{Digest, Sha256};

use super::{FormatError, take};

/// Bytes of a segment's head.
pub const SEGMENT_HEAD: usize = 64;

const MAGIC: &[u8; 8] = b"AUDITMON";
const VERSION: u16 = 1;

/// The head of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHead {
    /// Seq of the first record; everything below it is on disk.
    pub first_seq: u64,
    /// [`origin_hash`] of the journal's origin.
    pub origin: [u8; 32],
}

/// SHA-256 of an origin's text.
pub fn origin_hash(origin: &str) -> [u8; 32] {
    Sha256::digest(origin.as_bytes()).into()
}

impl SegmentHead {
    /// The 64 bytes on disk.
    pub fn encode(&self) -> [u8; SEGMENT_HEAD] {
        let mut out = [0; SEGMENT_HEAD];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_be_bytes());
        out[16..24].copy_from_slice(&self.first_seq.to_be_bytes());
        out[24..56].copy_from_slice(&self.origin);
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a head.
    ///
    /// # Errors
    /// Wrong magic, padding, CRC, or a version that isn't 1.
    pub fn parse(bytes: &[u8; SEGMENT_HEAD]) -> Result<Self, FormatError> {
        let mut rest = bytes.as_slice();
        if take::<8>(&mut rest)? != *MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u16::from_be_bytes(take(&mut rest)?);
        let padding = take::<6>(&mut rest)?;
        let first_seq = u64::from_be_bytes(take(&mut rest)?);
        let origin = take(&mut rest)?;
        let tail_padding = take::<4>(&mut rest)?;
        if u32::from_be_bytes(take(&mut rest)?) != crc32c::crc32c(&bytes[..60]) {
            return Err(FormatError::Crc);
        }
        if version != VERSION {
            return Err(FormatError::Version);
        }
        if padding != [0; 6] || tail_padding != [0; 4] {
            return Err(FormatError::Magic);
        }
        Ok(Self { first_seq, origin })
    }
}
