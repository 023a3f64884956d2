//! Reading frames from a file that may be damaged.

use std::io;
use std::sync::Arc;

use crate::format::{FRAME_HEAD, FrameHead};
use crate::fs::{FsFile, read_full_at};

mod find;

pub(crate) use find::Finder;

/// Bytes read at once; the buffer is larger only while a single frame is.
const CHUNK: usize = 256 << 10;

/// What stands at an offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Probe {
    /// A whole frame with a good CRC, whose records parse.
    Frame(FrameHead),
    /// A length of 0: the end of the data.
    Zero,
    /// The end of the file.
    End,
    /// Anything else.
    Bad,
}

/// Reads frames through a bounded buffer.
pub(crate) struct FrameReader {
    file: Arc<dyn FsFile>,
    buf: Vec<u8>,
    start: u64,
    limit: u64,
}

impl FrameReader {
    /// Reads `file` below the offset `limit`.
    pub(crate) fn new(file: Arc<dyn FsFile>, limit: u64) -> Self {
        Self {
            file,
            buf: Vec::new(),
            start: 0,
            limit,
        }
    }

    pub(crate) fn file(&self) -> &Arc<dyn FsFile> {
        &self.file
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Lets reading go on beyond the former limit, as a live segment grows.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// At least `len` bytes from `offset` on, fewer only where the data end.
    fn window(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(len as u64).min(self.limit);
        let covered = offset >= self.start && end <= self.start + self.buf.len() as u64;
        if !covered {
            let room = self.limit.saturating_sub(offset);
            let want = (len.max(CHUNK) as u64).min(room) as usize;
            self.buf.clear();
            if self.buf.capacity() > CHUNK.max(want) {
                self.buf.shrink_to(CHUNK);
            }
            self.buf.resize(want, 0);
            self.start = offset;
            let read = read_full_at(&*self.file, &mut self.buf, offset)?;
            self.buf.truncate(read);
        }
        let from = (offset - self.start) as usize;
        let to = self.buf.len().min(from.saturating_add(len));
        Ok(self.buf.get(from..to).unwrap_or_default())
    }

    /// Looks at what stands at `offset`.
    pub(crate) fn probe(&mut self, offset: u64) -> io::Result<Probe> {
        let limit = self.limit;
        let bytes = self.window(offset, FRAME_HEAD)?;
        if bytes.is_empty() {
            return Ok(Probe::End);
        }
        if bytes.iter().take(4).all(|byte| *byte == 0) {
            return Ok(Probe::Zero);
        }
        let Some(bytes) = bytes.first_chunk::<FRAME_HEAD>() else {
            return Ok(Probe::Bad);
        };
        let Ok(head) = FrameHead::parse(bytes) else {
            return Ok(Probe::Bad);
        };
        // Before memory is taken: the file must have as many bytes as the head says.
        if offset + head.len() as u64 > limit {
            return Ok(Probe::Bad);
        }
        match head.check(self.records(offset, &head)?) {
            Ok(()) => Ok(Probe::Frame(head)),
            Err(_) => Ok(Probe::Bad),
        }
    }

    /// The records of the frame at `offset`, whose head this is.
    pub(crate) fn records(&mut self, offset: u64, head: &FrameHead) -> io::Result<&[u8]> {
        let frame = self.window(offset, head.len())?;
        Ok(frame.get(FRAME_HEAD..).unwrap_or_default())
    }
}

/// Where a walk over frames ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// Behind the last good frame.
    pub(crate) offset: u64,
    /// Seq that a next frame should have had.
    pub(crate) seq: u64,
    /// Largest `synced` of the frames passed.
    pub(crate) synced: u64,
    /// Whether the last frame passed was a mark.
    pub(crate) marked: bool,
    /// Whether the walk ended because it reached the seq it was to end at.
    pub(crate) reached: bool,
}

/// Passes the frames that follow each other from `offset` on, the first of
/// which must have `seq`; ends at the first that doesn't fit, or at `until`.
pub(crate) fn walk(
    frames: &mut FrameReader,
    offset: u64,
    seq: u64,
    until: u64,
    mut visit: impl FnMut(u64, &FrameHead, &[u8]) -> io::Result<()>,
) -> io::Result<Stop> {
    let mut stop = Stop {
        offset,
        seq,
        synced: 0,
        marked: false,
        reached: false,
    };
    loop {
        if stop.seq >= until {
            stop.reached = true;
            return Ok(stop);
        }
        let Probe::Frame(head) = frames.probe(stop.offset)? else {
            return Ok(stop);
        };
        if head.first_seq != stop.seq || head.next_seq() > until {
            return Ok(stop);
        }
        visit(stop.offset, &head, frames.records(stop.offset, &head)?)?;
        stop.offset += head.len() as u64;
        stop.seq = head.next_seq();
        stop.synced = stop.synced.max(head.synced);
        stop.marked = head.count == 0;
    }
}

/// Offset behind the last byte that isn't zero in `from..to`, `None` if all are.
pub(crate) fn last_nonzero(file: &dyn FsFile, from: u64, to: u64) -> io::Result<Option<u64>> {
    let mut buf = vec![0; CHUNK];
    let mut offset = from;
    let mut last = None;
    while offset < to {
        let want = (to - offset).min(CHUNK as u64) as usize;
        let read = read_full_at(file, &mut buf[..want], offset)?;
        if let Some(at) = buf[..read].iter().rposition(|byte| *byte != 0) {
            last = Some(offset + at as u64 + 1);
        }
        if read < want {
            break;
        }
        offset += read as u64;
    }
    Ok(last)
}
