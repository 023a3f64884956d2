//! Erasing one payload: its segment is written anew beside the old one, with the record in erased form and everything
//! else as it was, and takes the old one's name.
//!
//! The thread that seals does it, so no segment is sealed or erased from twice at once. Retention may take the segment
//! at any time: the new file gets its name only while the segment is still listed.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::core::{Core, FIRST_FRAME, Time};
use crate::format::{Body, FormatError};
use crate::format::{FRAME_HEAD, FrameHead, Kind, Record, RecordIter, commitment, encode_erased, frame_head};
use crate::fs::{FsFile, is_full, read_full_at, write_all_at};
use crate::scan::{Finder, FrameReader, Probe};
use crate::shared::{Located, Segment, Shared};

/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// What became of a payload that was to be erased.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Erased {
    /// It is gone from the journal; its leaf stays.
    Now,
    /// It was erased before.
    Before,
    /// Retention has removed it.
    Gone,
    /// Its bytes are damaged, and can't be told from others.
    Damaged,
}

/// A payload that is to be erased.
pub(crate) struct Erasure {
    pub(crate) seq: u64,
    /// Told once; dropped untold if the journal is closed first.
    pub(crate) done: Box<dyn FnOnce(io::Result<Erased>) + Send>,
}

impl Core {
    /// Takes up what is to be erased; its segment ends if it is the one that is written to.
    pub(crate) fn begin_erasure(&mut self, erasure: Erasure, now: Time) {
        self.now = now;
        if erasure.seq >= self.shared.durable() {
            let error = io::Error::new(io::ErrorKind::NotFound, "there is no such record");
            return (erasure.done)(Err(error));
        }
        let newest = |core: &Self| core.active.as_ref().map(|active| active.first_seq);
        if newest(self).is_some_and(|first| first <= erasure.seq)
            && let Err(refused) = self.change_segment(0, true)
        {
            let why = format!("no new segment can be made ({refused:?}), which erasing in the newest one needs");
            return (erasure.done)(Err(io::Error::other(why)));
        }
        self.erasures.push(erasure);
    }

    /// The next payload to be erased whose segment is over: sealed, or damaged, or gone.
    pub(crate) fn take_erasure(&mut self) -> Option<Erasure> {
        let at =
            self.erasures
                .iter()
                .position(|erasure| match self.shared.locate(erasure.seq, self.shared.durable()) {
                    Located::Gone(_) => true,
                    Located::In(segment, _) => {
                        let first = segment.first_seq;
                        self.unsealable.contains(&first) || self.shared.leaves.read().contains_key(&first)
                    }
                })?;
        Some(self.erasures.swap_remove(at))
    }
}

/// A frame with its records.
struct Frame {
    offset: u64,
    head: FrameHead,
    records: Vec<u8>,
}

/// What stands where the record should be.
enum Found {
    Frame(Frame),
    Damaged,
}

/// Erases the payload of the record `seq`, whose segment is over. All of it is on disk when this returns.
pub(crate) fn erase(shared: &Shared, seq: u64) -> io::Result<Erased> {
    let Located::In(segment, end_seq) = shared.locate(seq, shared.durable()) else {
        return Ok(Erased::Gone);
    };
    let fs = &*shared.fs;
    let file = match fs.open_read(&segment.path) {
        // Retention took it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Erased::Gone),
        file => file?,
    };
    let size = file.size()?;
    let Found::Frame(frame) = find(&file, size, segment.first_seq, seq, end_seq)? else {
        return Ok(Erased::Damaged);
    };
    let Some(records) = without(&frame, seq)? else {
        // A crash may have come between the new name and its being on disk.
        fs.sync_dir(&shared.layout.seg_dir())?;
        return Ok(Erased::Before);
    };
    let beside = shared.layout.seg_new(segment.first_seq);
    let written = write_beside(shared, &beside, &*file, size, &frame, &records);
    let replaced = written.and_then(|bytes| replace(shared, &beside, &segment, bytes));
    if !matches!(replaced, Ok(true)) {
        // Recovery removes what this can't.
        let _ = fs.remove(&beside);
    }
    if !replaced? {
        return Ok(Erased::Gone);
    }
    fs.sync_dir(&shared.layout.seg_dir())?;
    Ok(Erased::Now)
}

/// The frame that has the record; damage before it is passed over.
fn find(file: &Arc<dyn FsFile>, size: u64, first_seq: u64, seq: u64, end_seq: u64) -> io::Result<Found> {
    let mut frames = FrameReader::new(Arc::clone(file), size);
    let (mut next, mut offset) = (first_seq, FIRST_FRAME);
    while next <= seq {
        let head = match frames.probe(offset)? {
            Probe::Frame(head) if head.first_seq == next && head.next_seq() <= end_seq => head,
            _ => {
                let mut finder = Finder::new(Arc::clone(file), offset, size);
                match finder.find(offset + 1, next..end_seq)? {
                    Some((at, head)) => {
                        offset = at;
                        head
                    }
                    None => return Ok(Found::Damaged),
                }
            }
        };
        if (head.first_seq..head.next_seq()).contains(&seq) {
            let records = frames.records(offset, &head)?.to_vec();
            // Read again since it was found good.
            if head.check(&records).is_err() {
                return Ok(Found::Damaged);
            }
            return Ok(Found::Frame(Frame { offset, head, records }));
        }
        next = head.next_seq();
        offset += head.len() as u64;
    }
    Ok(Found::Damaged)
}

/// The frame's records with one in erased form; `None` if it has that form already.
fn without(frame: &Frame, seq: u64) -> io::Result<Option<Vec<u8>>> {
    let wrong = |error: FormatError| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut out = Vec::with_capacity(frame.records.len());
    for (at, record) in (frame.head.first_seq..).zip(RecordIter::new(&frame.records)) {
        let record: Record<'_> = record.map_err(wrong)?;
        match record.body {
            _ if at != seq => record.encode(&mut out),
            Body::Erased { .. } => return Ok(None),
            Body::Whole { .. } if record.prefix.kind == Kind::State => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a state is no event"));
            }
            Body::Whole { salt, payload } => encode_erased(&record.prefix, &commitment(&salt, payload), &mut out),
        }
    }
    Ok(Some(out))
}

/// Writes the segment with these records in the frame's place; returns its size. All of it is on disk then, but its
/// name.
fn write_beside(
    shared: &Shared,
    beside: &Path,
    file: &dyn FsFile,
    size: u64,
    frame: &Frame,
    records: &[u8],
) -> io::Result<u64> {
    let head: [u8; FRAME_HEAD] = frame_head(frame.head.first_seq, frame.head.synced, frame.head.count, records);
    let out = shared.fs.create(beside)?;
    let behind = frame.offset + frame.head.len() as u64;
    let at = frame.offset + (FRAME_HEAD + records.len()) as u64;
    copy(file, 0..frame.offset, &*out, 0)?;
    write_all_at(&*out, &mut [IoSlice::new(&head), IoSlice::new(records)], frame.offset)?;
    copy(file, behind..size, &*out, at)?;
    out.sync()?;
    Ok(at + size.saturating_sub(behind))
}

fn copy(from: &dyn FsFile, range: Range<u64>, to: &dyn FsFile, mut at: u64) -> io::Result<()> {
    let mut buf = vec![0; CHUNK];
    let mut offset = range.start;
    while offset < range.end {
        let want = (range.end - offset).min(CHUNK as u64) as usize;
        let part = buf.get_mut(..want).unwrap_or_default();
        if read_full_at(from, part, offset)? < want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(to, &mut [IoSlice::new(part)], at)?;
        offset += want as u64;
        at += want as u64;
    }
    Ok(())
}

/// Gives the new file the segment's name; false if the segment has gone meanwhile. Offsets are others in it: readers
/// see by the new entry that they must open it.
fn replace(shared: &Shared, beside: &Path, segment: &Arc<Segment>, bytes: u64) -> io::Result<bool> {
    // Under this lock retention takes a segment out, and removes its file afterwards.
    let mut segments = shared.segments.write();
    let first_seq = segment.first_seq;
    let listed = segments.get(&first_seq);
    if !listed.is_some_and(|listed| Arc::ptr_eq(listed, segment)) {
        return Ok(false);
    }
    shared.fs.rename(beside, &segment.path)?;
    let new = Segment::new(first_seq, segment.path.clone(), u64::MAX, bytes);
    new.newest_ns.store(segment.newest_ns.load(Relaxed), Relaxed);
    segments.insert(first_seq, Arc::new(new));
    Ok(true)
}

/// What a person is told of a fault.
pub(crate) fn worded(error: io::Error) -> io::Error {
    if is_full(&error) {
        let why = "the disk is full: erasing needs room for a copy of the segment";
        return io::Error::new(error.kind(), why);
    }
    error
}
