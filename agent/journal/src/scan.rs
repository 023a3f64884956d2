//! Reading frames from a file that may be damaged.

use std::io;
use std::sync::Arc;

use crate::format::{FRAME_HEAD, FormatError, FrameHead, parse_record, record_len};
use crate::fs::{FsFile, read_full_at};

mod find;

pub(crate) use find::Finder;

/// Bytes read at once; the buffer is larger only while what is looked at as a whole is.
const CHUNK: usize = 256 << 10;
/// Records of larger frames are read in pieces of at most this many bytes, or of one record.
const PIECE: usize = 1 << 20;

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

/// Whole records of one frame that follow each other, by their place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    pub(crate) first_seq: u64,
    pub(crate) next_seq: u64,
    offset: u64,
    len: usize,
    crc: u32,
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

    /// What the first bytes at `offset` say; the frame behind a good head is not yet checked.
    fn head(&mut self, offset: u64) -> io::Result<Probe> {
        let limit = self.limit;
        let bytes = self.window(offset, FRAME_HEAD)?;
        if bytes.is_empty() {
            return Ok(Probe::End);
        }
        if bytes.iter().take(4).all(|byte| *byte == 0) {
            return Ok(Probe::Zero);
        }
        let head = bytes.first_chunk().and_then(|bytes| FrameHead::parse(bytes).ok());
        // Before memory is taken: the file must have as many bytes as the head says.
        let whole = head.filter(|head| offset + head.len() as u64 <= limit);
        Ok(whole.map_or(Probe::Bad, Probe::Frame))
    }

    /// Looks at what stands at `offset`.
    pub(crate) fn probe(&mut self, offset: u64) -> io::Result<Probe> {
        let head = match self.head(offset)? {
            Probe::Frame(head) => head,
            other => return Ok(other),
        };
        match head.check(self.records(offset, &head)?) {
            Ok(()) => Ok(Probe::Frame(head)),
            Err(_) => Ok(Probe::Bad),
        }
    }

    /// The same without holding a large frame: its records are read in pieces, whose places `pieces` then has.
    pub(crate) fn survey(&mut self, offset: u64, pieces: &mut Vec<Piece>) -> io::Result<Probe> {
        pieces.clear();
        let head = match self.head(offset)? {
            Probe::Frame(head) => head,
            other => return Ok(other),
        };
        let end = offset + head.len() as u64;
        let mut crc = head.crc_of_itself();
        let (mut at, mut seq) = (offset + FRAME_HEAD as u64, head.first_seq);
        while at < end {
            let Some((len, count)) = self.whole_records(at, (end - at) as usize)? else {
                return Ok(Probe::Bad);
            };
            let records = self.window(at, len)?;
            crc = crc32c::crc32c_append(crc, records);
            let piece = Piece {
                first_seq: seq,
                next_seq: seq.saturating_add(count),
                offset: at,
                len,
                crc: crc32c::crc32c(records),
            };
            at += len as u64;
            seq = piece.next_seq;
            pieces.push(piece);
        }
        if crc == head.crc && seq == head.next_seq() {
            Ok(Probe::Frame(head))
        } else {
            pieces.clear();
            Ok(Probe::Bad)
        }
    }

    /// Bytes and number of the records from `offset` on that are read at once, of `left` bytes of records; `None`
    /// if no record stands there.
    fn whole_records(&mut self, offset: u64, left: usize) -> io::Result<Option<(usize, u64)>> {
        let mut want = left.min(PIECE);
        loop {
            let bytes = self.window(offset, want)?;
            let (mut len, mut count) = (0, 0);
            while let Some(rest) = bytes.get(len..).filter(|rest| !rest.is_empty()) {
                match parse_record(rest) {
                    Ok((_, record)) => {
                        len += record;
                        count += 1;
                    }
                    Err(FormatError::Short) => break,
                    Err(_) => return Ok(None),
                }
            }
            if len > 0 {
                return Ok(Some((len, count)));
            }
            // One record alone may be longer.
            want = match record_len(bytes) {
                Some(len) if len > want && len <= left => len,
                _ => return Ok(None),
            };
        }
    }

    /// The records of a piece, which must be what they were when [`survey`](Self::survey) passed them.
    pub(crate) fn piece(&mut self, piece: &Piece) -> io::Result<&[u8]> {
        let records = self.window(piece.offset, piece.len)?;
        if records.len() == piece.len && crc32c::crc32c(records) == piece.crc {
            Ok(records)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame was good and is not when it is read again",
            ))
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

impl Stop {
    fn new(offset: u64, seq: u64) -> Self {
        Self {
            offset,
            seq,
            synced: 0,
            marked: false,
            reached: false,
        }
    }

    /// Whether a walk that is to end at `until` goes on.
    fn goes_on(&mut self, until: u64) -> bool {
        self.reached = self.seq >= until;
        !self.reached
    }

    /// Whether the next frame is this one.
    fn is_before(&self, head: &FrameHead, until: u64) -> bool {
        head.first_seq == self.seq && head.next_seq() <= until
    }

    fn pass(&mut self, head: &FrameHead) {
        self.offset += head.len() as u64;
        self.seq = head.next_seq();
        self.synced = self.synced.max(head.synced);
        self.marked = head.count == 0;
    }
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
    let mut stop = Stop::new(offset, seq);
    while stop.goes_on(until) {
        match frames.probe(stop.offset)? {
            Probe::Frame(head) if stop.is_before(&head, until) => {
                visit(stop.offset, &head, frames.records(stop.offset, &head)?)?;
                stop.pass(&head);
            }
            _ => break,
        }
    }
    Ok(stop)
}

/// The same without holding a large frame: `visit` is given its records in
/// pieces, once the whole of it was found good.
pub(crate) fn walk_pieces(
    frames: &mut FrameReader,
    offset: u64,
    seq: u64,
    until: u64,
    mut visit: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Stop> {
    let mut stop = Stop::new(offset, seq);
    let mut pieces = Vec::new();
    while stop.goes_on(until) {
        match frames.survey(stop.offset, &mut pieces)? {
            Probe::Frame(head) if stop.is_before(&head, until) => {
                for piece in &pieces {
                    visit(frames.piece(piece)?)?;
                }
                stop.pass(&head);
            }
            _ => break,
        }
    }
    Ok(stop)
}

/// Offset and first seq of the frame that holds the record `wanted`, by the heads
/// of those before it alone, from the one at `offset` on, which has `seq`; where
/// a head doesn't fit, its place.
pub(crate) fn hop(file: &dyn FsFile, mut offset: u64, mut seq: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut bytes = [0; FRAME_HEAD];
    while seq < wanted {
        let whole = read_full_at(file, &mut bytes, offset)? == FRAME_HEAD;
        let head = FrameHead::parse(&bytes)
            .ok()
            .filter(|head| whole && head.first_seq == seq);
        let Some(head) = head.filter(|head| head.next_seq() <= wanted) else {
            break;
        };
        offset += head.len() as u64;
        seq = head.next_seq();
    }
    Ok((offset, seq))
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
