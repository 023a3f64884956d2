//! Frames: atomic batches of records, and marks.

use super::{FormatError, RecordIter, take};

/// Bytes before a frame's records.
pub const FRAME_HEAD: usize = 28;
/// Bytes of a mark: a frame without records.
pub const MARK: usize = FRAME_HEAD;
/// Bytes a whole frame may have: 24 MiB.
pub const MAX_FRAME: usize = 24 << 20;
/// Events a frame may have.
pub const MAX_EVENTS: u32 = 10_000;
/// State records a frame may have.
pub const MAX_STATES: u32 = 1_000;
/// Records a frame may have.
pub const MAX_RECORDS: u32 = MAX_EVENTS + MAX_STATES;

/// What of a frame the CRC covers before the records.
const COVERED: usize = 20;

/// The head of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHead {
    /// Bytes of all its records together.
    pub records_len: u32,
    /// CRC32C of everything behind it.
    pub crc: u32,
    /// Seq of the first record; of the next one to come in a mark.
    pub first_seq: u64,
    /// All records below were known to be on disk when the frame was written.
    pub synced: u64,
    /// Number of records; 0 is a mark.
    pub count: u32,
}

impl FrameHead {
    /// Reads the head alone; neither CRC nor records are looked at.
    ///
    /// # Errors
    /// A length or count outside the format, or a `synced` above `first_seq`,
    /// or a `first_seq` so large that the records' numbers would not fit u64.
    pub fn parse(bytes: &[u8; FRAME_HEAD]) -> Result<Self, FormatError> {
        let mut rest = bytes.as_slice();
        let length = u32::from_be_bytes(take(&mut rest)?);
        let head = Self {
            records_len: length.checked_sub(COVERED as u32).ok_or(FormatError::Length)?,
            crc: u32::from_be_bytes(take(&mut rest)?),
            first_seq: u64::from_be_bytes(take(&mut rest)?),
            synced: u64::from_be_bytes(take(&mut rest)?),
            count: u32::from_be_bytes(take(&mut rest)?),
        };
        if head.len() > MAX_FRAME {
            return Err(FormatError::Length);
        }
        if head.count > MAX_RECORDS || (head.count == 0) != (head.records_len == 0) {
            return Err(FormatError::Count);
        }
        if head.synced > head.first_seq || head.first_seq.checked_add(u64::from(head.count)).is_none() {
            return Err(FormatError::Seq);
        }
        Ok(head)
    }

    /// Bytes of the whole frame.
    #[allow(clippy::len_without_is_empty)] // a frame is never empty
    pub fn len(&self) -> usize {
        FRAME_HEAD + self.records_len as usize
    }

    /// Seq behind the frame's last record.
    pub fn next_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }

    /// CRC of what it covers of the head, to which the records' bytes are yet to be appended.
    pub(crate) fn crc_of_itself(&self) -> u32 {
        let mut covered = [0; COVERED];
        covered[..8].copy_from_slice(&self.first_seq.to_be_bytes());
        covered[8..16].copy_from_slice(&self.synced.to_be_bytes());
        covered[16..].copy_from_slice(&self.count.to_be_bytes());
        crc32c::crc32c(&covered)
    }

    /// CRC that a frame with this head and these records must have.
    fn expected_crc(&self, records: &[u8]) -> u32 {
        crc32c::crc32c_append(self.crc_of_itself(), records)
    }

    /// Checks CRC and records of a frame whose head this is.
    ///
    /// # Errors
    /// [`FormatError::Crc`], a record that doesn't parse, or another number of
    /// records than the head says.
    pub fn check(&self, records: &[u8]) -> Result<(), FormatError> {
        if records.len() != self.records_len as usize {
            return Err(FormatError::Short);
        }
        if self.expected_crc(records) != self.crc {
            return Err(FormatError::Crc);
        }
        self.check_records(records)
    }

    /// Checks that exactly `count` records fill `records`.
    pub(crate) fn check_records(&self, records: &[u8]) -> Result<(), FormatError> {
        let mut count = 0u32;
        for record in RecordIter::new(records) {
            record?;
            count += 1;
        }
        if count == self.count {
            Ok(())
        } else {
            Err(FormatError::Count)
        }
    }
}

/// The head of a frame that holds `records`, CRC included.
///
/// `records` must be at most [`MAX_FRAME`]` - `[`FRAME_HEAD`] bytes;
/// [`Records`](crate::Records) sees to it.
pub fn frame_head(first_seq: u64, synced: u64, count: u32, records: &[u8]) -> [u8; FRAME_HEAD] {
    let head = FrameHead {
        records_len: records.len() as u32,
        crc: 0,
        first_seq,
        synced,
        count,
    };
    let crc = head.expected_crc(records);
    let mut out = [0; FRAME_HEAD];
    out[..4].copy_from_slice(&(head.records_len + COVERED as u32).to_be_bytes());
    out[4..8].copy_from_slice(&crc.to_be_bytes());
    out[8..16].copy_from_slice(&first_seq.to_be_bytes());
    out[16..24].copy_from_slice(&synced.to_be_bytes());
    out[24..].copy_from_slice(&count.to_be_bytes());
    out
}

/// A frame without records that says: everything below `next_seq` is on disk.
pub fn mark(next_seq: u64) -> [u8; MARK] {
    frame_head(next_seq, next_seq, 0, &[])
}

/// Reads and checks the frame at the front of `input`; returns its head and
/// its records.
///
/// # Errors
/// Whatever makes it no frame; a length of 0, which ends the data, is
/// [`FormatError::Length`].
pub fn parse_frame(input: &[u8]) -> Result<(FrameHead, &[u8]), FormatError> {
    let mut rest = input;
    let head = FrameHead::parse(&take(&mut rest)?)?;
    let records = rest.get(..head.records_len as usize).ok_or(FormatError::Short)?;
    head.check(records)?;
    Ok((head, records))
}
