//! The bytes of the journal, version 1: pure encoders and parsers.
//!
//! All integers are big-endian, a CRC is CRC32C, a hash is SHA-256. No parser
//! here panics or allocates by a number that it read.

mod frame;
mod position;
mod record;
mod segment;
mod state;

pub use frame::{
    FRAME_HEAD, FrameHead, MARK, MAX_EVENTS, MAX_FRAME, MAX_RECORDS, MAX_STATES, frame_head, mark, parse_frame,
};
pub use position::{POSITION_HEAD, Position};
pub(crate) use record::record_len;
pub use record::{
    Body, ERASED_RECORD, Kind, LEAF, PREFIX, Prefix, RECORD_HEAD, Record, RecordIter, SALT, commitment, encode_erased,
    leaf, leaf_hash, parse_record, source_hash,
};
pub use segment::{SEGMENT_HEAD, SegmentHead, origin_hash};
pub use state::{MAX_MEMORY, MAX_STATE, STATE_HEAD, StateRecord, encode_state};

use thiserror::Error;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
pub enum FormatError {
    /// Fewer bytes than the structure has.
    #[error("cut short")]
    Short,
    /// A length field is outside of what the format allows.
    #[error("length out of range")]
    Length,
    /// A version that this program doesn't know.
    #[error("unknown version")]
    Version,
    /// A kind outside 1–5.
    #[error("unknown kind")]
    Kind,
    /// Reserved record flags.
    #[error("reserved flags")]
    Flags,
    /// The checksum doesn't match.
    #[error("checksum mismatch")]
    Crc,
    /// A number that contradicts another one.
    #[error("inconsistent sequence number")]
    Seq,
    /// The record count doesn't match the records.
    #[error("record count mismatch")]
    Count,
    /// The file doesn't start as a segment does, or its padding isn't zero.
    #[error("not a segment header")]
    Magic,
    /// Text that is no UTF-8.
    #[error("not UTF-8")]
    Text,
}

/// Splits `N` bytes off the front of `input`.
fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], FormatError> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or(FormatError::Short)?;
    *input = rest;
    Ok(*head)
}
