//! Streams committed records in order, from disk, through a bounded buffer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::Records;
use crate::core::FIRST_FRAME;
use crate::format::{Record, RecordIter};
use crate::scan::{Finder, FrameReader, Piece, Probe};
use crate::shared::{Located, Segment, Shared};

/// A batch ends behind the frame, or the part of a frame larger than 1 MiB, with which it has this many bytes.
pub(crate) const BATCH: usize = 256 << 10;

/// What a [`Reader`] comes upon.
#[derive(Debug)]
pub enum Item {
    /// Records that follow each other without a gap.
    Records(Batch),
    /// Records that can't be read.
    Gap(Gap),
}

/// Records that can't be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// Seq of the first.
    pub first: u64,
    /// Seq of the last.
    pub last: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why records can't be read.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum GapReason {
    /// Their bytes are damaged or missing.
    Damaged,
    /// Retention has removed their payloads.
    Expired,
}

/// Records of one or more frames, or of a part of a large one, in order and without gaps.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    first_seq: u64,
    next_seq: u64,
}

/// A record and its place.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its place in the journal.
    pub seq: u64,
    /// The record; [`Kind::State`](crate::format::Kind::State) ones are not for sinks.
    pub record: Record<'a>,
}

impl Batch {
    /// Records of one or more frames.
    pub(crate) fn new(first_seq: u64, next_seq: u64, records: Vec<u8>) -> Self {
        Self {
            bytes: records,
            first_seq,
            next_seq,
        }
    }

    /// A frame's records.
    pub(crate) fn of(first_seq: u64, next_seq: u64, records: &[u8]) -> Self {
        Self::new(first_seq, next_seq, records.to_vec())
    }

    /// Adds what follows.
    pub(crate) fn append(&mut self, next: &Self) {
        self.bytes.extend_from_slice(&next.bytes);
        self.next_seq = next.next_seq;
    }

    /// Bytes of memory, those not used among them.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// Records as if they had been read, the first of them with this seq.
    pub fn from_records(first_seq: u64, records: &Records) -> Self {
        Self::of(
            first_seq,
            first_seq.saturating_add(records.records().into()),
            records.as_bytes(),
        )
    }

    /// The records one behind the other, as they are on disk.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Seq of the first record.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Seq behind the last record.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Bytes of all records as they are on disk.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records in order, state records among them.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        // Checked when they were read: an error can't come.
        (self.first_seq..)
            .zip(RecordIter::new(&self.bytes).flatten())
            .map(|(seq, record)| Entry { seq, record })
    }
}

/// Reads committed records in order; never one that isn't durable.
///
/// Its buffer has 256 KiB, and at most 1 MiB, or one record, while it reads larger frames.
pub struct Reader {
    shared: Arc<Shared>,
    seq: u64,
    cursor: Option<Cursor>,
}

/// A place in an open segment.
struct Cursor {
    segment: Arc<Segment>,
    frames: FrameReader,
    /// Of the frame before `offset`, and how many of them were passed.
    pieces: Vec<Piece>,
    passed: usize,
    offset: u64,
    /// Seq that the next piece has, or the frame at `offset` must have.
    seq: u64,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        Self {
            shared,
            seq: from,
            cursor: None,
        }
    }

    /// Seq of the record that comes next.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The next records or gap; `None` when all durable ones were returned.
    /// Never waits for the writer, but reads from disk.
    ///
    /// # Errors
    /// A file could not be opened or read; the call may be repeated.
    #[allow(clippy::should_implement_trait)] // it is fallible and never ends
    pub fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            let durable = self.shared.durable();
            if self.seq >= durable {
                return Ok(None);
            }
            let (segment, end_seq) = match self.shared.locate(self.seq, durable) {
                Located::In(segment, end_seq) => (segment, end_seq),
                Located::Gone(next) => {
                    self.cursor = None;
                    return Ok(Some(self.gap(next, GapReason::Expired)));
                }
            };
            if !self.is_at(&segment) {
                match Cursor::open(&self.shared, &segment, self.seq) {
                    // Written anew between the two steps: places of frames are others in the new file.
                    Ok(_) if !self.is_listed(&segment) => continue,
                    Ok(cursor) => self.cursor = Some(cursor),
                    // Retention took it between the two steps; look again.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_listed(&segment) => {
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(cursor) = &mut self.cursor else {
                continue;
            };
            match cursor.read(self.seq, end_seq) {
                Ok(Found::Records(batch)) => {
                    self.seq = batch.next_seq;
                    return Ok(Some(Item::Records(batch)));
                }
                Ok(Found::Gap(next)) => return Ok(Some(self.gap(next, GapReason::Damaged))),
                Err(error) => {
                    // What was found good may not be any more: the next call looks again.
                    self.cursor = None;
                    return Err(error);
                }
            }
        }
    }

    fn gap(&mut self, next: u64, reason: GapReason) -> Item {
        let gap = Gap {
            first: self.seq,
            last: next.saturating_sub(1),
            reason,
        };
        self.seq = next;
        Item::Gap(gap)
    }

    /// Whether the cursor is in this segment: the very one, since a segment
    /// that never had a durable record is replaced under the same name.
    fn is_at(&self, segment: &Arc<Segment>) -> bool {
        self.cursor
            .as_ref()
            .is_some_and(|cursor| Arc::ptr_eq(&cursor.segment, segment) && cursor.seq <= self.seq)
    }

    fn is_listed(&self, segment: &Arc<Segment>) -> bool {
        let segments = self.shared.segments.read();
        segments
            .get(&segment.first_seq)
            .is_some_and(|listed| Arc::ptr_eq(listed, segment))
    }
}

enum Found {
    Records(Batch),
    /// Nothing readable before this seq.
    Gap(u64),
}

impl Cursor {
    fn open(shared: &Shared, segment: &Arc<Segment>, seq: u64) -> io::Result<Self> {
        let file = shared.fs.open_read(&segment.path)?;
        let (seq, offset) = segment.nearest(seq).unwrap_or((segment.first_seq, FIRST_FRAME));
        Ok(Self {
            segment: Arc::clone(segment),
            frames: FrameReader::new(file, 0),
            pieces: Vec::new(),
            passed: 0,
            offset,
            seq,
        })
    }

    /// Reads records from `from` on, all below `end_seq`.
    fn read(&mut self, from: u64, end_seq: u64) -> io::Result<Found> {
        let end = self.segment.end.load(Ordering::Acquire);
        let limit = match end {
            u64::MAX => self.frames.file().size()?,
            end => end,
        };
        self.frames.set_limit(limit);
        let mut batch = Batch {
            first_seq: from,
            next_seq: from,
            ..Batch::default()
        };
        while self.seq < end_seq && batch.bytes.len() < BATCH {
            if let Some(piece) = self.pieces.get(self.passed) {
                if piece.next_seq > from {
                    let records = self.frames.piece(piece)?;
                    let skip = from.saturating_sub(piece.first_seq);
                    batch.bytes.extend_from_slice(behind(records, skip));
                    batch.next_seq = piece.next_seq;
                }
                self.seq = piece.next_seq;
                self.passed += 1;
                continue;
            }
            match self.frames.survey(self.offset, &mut self.pieces)? {
                Probe::Frame(head) if head.first_seq == self.seq && head.next_seq() <= end_seq => {
                    self.passed = 0;
                    self.offset += head.len() as u64;
                }
                // Records first; the next call comes here again.
                _ if batch.next_seq > from => {
                    self.pieces.clear();
                    break;
                }
                _ => {
                    self.pieces.clear();
                    self.leap(end_seq)?;
                    if self.seq > from {
                        return Ok(Found::Gap(self.seq));
                    }
                }
            }
        }
        if batch.next_seq > from {
            // Batches near the head are kept for all sinks: no room that is not used.
            batch.bytes.shrink_to_fit();
            Ok(Found::Records(batch))
        } else {
            Ok(Found::Gap(end_seq))
        }
    }

    /// Goes to the next good frame behind bad bytes, or to the segment's end.
    fn leap(&mut self, end_seq: u64) -> io::Result<()> {
        let limit = self.frames.limit();
        let mut finder = Finder::new(Arc::clone(self.frames.file()), self.offset, limit);
        match finder.find(self.offset + 1, self.seq..end_seq)? {
            Some((offset, head)) => {
                self.offset = offset;
                self.seq = head.first_seq;
            }
            None => {
                self.offset = limit;
                self.seq = end_seq;
            }
        }
        Ok(())
    }
}

/// What stands behind the first `skip` records.
fn behind(records: &[u8], skip: u64) -> &[u8] {
    let mut rest = records;
    for _ in 0..skip {
        let Ok((_, length)) = crate::format::parse_record(rest) else {
            break;
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    rest
}
