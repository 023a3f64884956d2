//! A segment file as it lies on disk, for a reader that trusts nothing of it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::format::{FormatError, FrameHead, SEGMENT_HEAD, SegmentHead};
use crate::fs::{FsFile, RealFs, read_full_at};
use crate::scan::{Finder, FrameReader, Probe, last_nonzero};

/// Offset of a segment's first frame.
pub const FIRST_FRAME: u64 = SEGMENT_HEAD as u64;

/// What stands at an offset of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// A whole frame with a good CRC, whose records parse.
    Frame(FrameHead),
    /// A length of 0: the end of the data.
    Zero,
    /// The end of the file.
    End,
    /// Anything else.
    Bad,
}

/// A segment that is read through a buffer of 256 KiB, or of one frame.
pub struct SegmentFile {
    file: Arc<dyn FsFile>,
    size: u64,
    frames: FrameReader,
    finder: Option<Finder>,
}

impl SegmentFile {
    /// A segment that was opened for reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: File) -> io::Result<Self> {
        let file = RealFs::file(file);
        let size = file.size()?;
        Ok(Self {
            frames: FrameReader::new(Arc::clone(&file), size),
            finder: None,
            size,
            file,
        })
    }

    /// Bytes of the file when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The segment's head, or what is wrong with it.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn head(&self) -> io::Result<Result<SegmentHead, FormatError>> {
        let mut bytes = [0; SEGMENT_HEAD];
        if read_full_at(&*self.file, &mut bytes, 0)? < SEGMENT_HEAD {
            return Ok(Err(FormatError::Short));
        }
        Ok(SegmentHead::parse(&bytes))
    }

    /// Looks at what stands at `offset`.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn look(&mut self, offset: u64) -> io::Result<Look> {
        Ok(match self.frames.probe(offset)? {
            Probe::Frame(head) => Look::Frame(head),
            Probe::Zero => Look::Zero,
            Probe::End => Look::End,
            Probe::Bad => Look::Bad,
        })
    }

    /// The records of the frame at `offset`, whose head this is.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn records(&mut self, offset: u64, head: &FrameHead) -> io::Result<&[u8]> {
        self.frames.records(offset, head)
    }

    /// The first whole frame at or behind `from` with a first seq in `seqs`, at most 2^24 above its start.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn find(&mut self, from: u64, seqs: Range<u64>) -> io::Result<Option<(u64, FrameHead)>> {
        let (file, size) = (&self.file, self.size);
        let finder = self
            .finder
            .get_or_insert_with(|| Finder::new(Arc::clone(file), from.min(size), size));
        finder.find(from, seqs)
    }

    /// Offset behind the last byte from `from` on that isn't zero; `None` if all are.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn last_nonzero(&self, from: u64) -> io::Result<Option<u64>> {
        last_nonzero(&*self.file, from, self.size)
    }
}
