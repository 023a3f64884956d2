//! Which of the earlier checkpoints stay: all of a day, then one an hour, and
//! those that end a segment or a run or that others signed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::Arc;

use auditmon_merkle::{KeyId, MAX_NOTE, Note, Vkey};

use crate::format::{LEAF, PREFIX, Prefix};
use crate::fs::{FsFile, read_full_at, write_all_at};
use crate::keys;
use crate::layout::{CHECKPOINTS, Layout, SegFile};
use crate::shared::Shared;

const HOUR: u64 = 3_600_000_000_000;
const DAY: u64 = 24 * HOUR;
/// Of collapsed leaves it isn't known when their checkpoints were signed, if an
/// earlier run did that: then so many of a segment stay.
const SPREAD: u64 = 24;
/// Bytes that are read or written at once.
const PIECE: usize = 16 << 10;

/// When this run signed, by the hour: 16 bytes for each.
#[derive(Default)]
pub(super) struct Hours(BTreeMap<u64, u64>);

impl Hours {
    /// A checkpoint over `size` records was signed.
    pub(super) fn signed(&mut self, size: u64, wall_ns: u64) {
        let last = self.0.values().next_back();
        if last.is_none_or(|last| last / HOUR != wall_ns / HOUR) {
            self.0.insert(size, wall_ns);
        }
    }

    /// The end of the hour in which this size was signed.
    fn of(&self, size: u64) -> Option<u64> {
        let (_, begun) = self.0.range(..=size).next_back()?;
        Some(begun / HOUR * HOUR + (HOUR - 1))
    }
}

/// Writes the file anew without what need not stay, note by note; false if all
/// of it does.
pub(super) fn thin(shared: &Shared, file: &Arc<dyn FsFile>, end: u64, hours: &Hours, now_ns: u64) -> io::Result<bool> {
    let mut notes = Notes::new(Arc::clone(file), end);
    let mut rule = Rule::new(shared, hours, now_ns)?;
    let mut beside: Option<Beside> = None;
    let mut offset = 0;
    let mut former = None;
    let mut pending = rule.read(&mut notes)?;
    while let Some(entry) = pending.take() {
        let next = rule.read(&mut notes)?;
        let stays = next.as_ref().is_none_or(|next| rule.keeps(former, &entry, next));
        match &mut beside {
            None if !stays => beside = Some(Beside::begin(shared, file, offset)?),
            Some(beside) if stays => beside.push(&entry.note)?,
            _ => {}
        }
        offset += entry.note.len() as u64;
        former = entry.size;
        pending = next;
    }
    match beside {
        None => Ok(false),
        Some(beside) => beside.finish(shared).map(|()| true),
    }
}

/// A note of the file.
struct Entry {
    note: Vec<u8>,
    size: Option<u64>,
    /// When it was signed, as far as that is known.
    time: Option<u64>,
}

struct Rule<'a> {
    now_ns: u64,
    /// Where segments begin.
    ends: BTreeSet<u64>,
    /// Of our keys, those of before among them.
    own: Vec<KeyId>,
    clock: Clock<'a>,
    /// Leaves below may be collapsed.
    collapsed: u64,
    /// The last that stays where no time is known.
    spread: u64,
}

impl<'a> Rule<'a> {
    fn new(shared: &'a Shared, hours: &'a Hours, now_ns: u64) -> io::Result<Self> {
        let mut ends: BTreeSet<u64> = shared.segments.read().keys().copied().collect();
        ends.extend(shared.leaves.read().keys());
        for name in shared.fs.list(&shared.layout.seg_dir())? {
            if let Some(SegFile::Sub(first)) = Layout::parse_seg(&name) {
                ends.insert(first);
            }
        }
        let mut verifiers: Vec<_> = shared.keys.lock().iter().map(|key| key.verifier()).collect();
        verifiers.extend(keys::former(&*shared.fs, &shared.layout));
        let own = verifiers.iter().filter_map(|key| {
            let key = key.vkey();
            // One of a former generation signed under another name there.
            let key = Vkey::new(&shared.origin, key.kind(), key.material()).ok()?;
            Some(key.id())
        });
        Ok(Self {
            now_ns,
            ends,
            own: own.collect(),
            clock: Clock {
                shared,
                hours,
                open: None,
            },
            collapsed: shared.collapsed.lock().end(),
            spread: 0,
        })
    }

    fn read(&mut self, notes: &mut Notes) -> io::Result<Option<Entry>> {
        let Some(note) = notes.next()? else { return Ok(None) };
        let text = std::str::from_utf8(&note).ok();
        let size = text.and_then(|text| text.lines().nth(1)?.parse().ok());
        let time = match size {
            Some(size) => self.clock.signed_ns(size)?,
            None => None,
        };
        Ok(Some(Entry { note, size, time }))
    }

    /// Whether a note stays that has one behind it, and one of size `former` before it.
    fn keeps(&mut self, former: Option<u64>, entry: &Entry, next: &Entry) -> bool {
        let (Some(size), Some(next_size)) = (entry.size, next.size) else {
            return true;
        };
        // One that ends a run stands there twice.
        if next_size <= size || former == Some(size) {
            return true;
        }
        if self.ends.range(size..next_size).next().is_some() || self.is_cosigned(&entry.note) {
            return true;
        }
        match (entry.time, next.time) {
            (Some(time), Some(next)) => self.now_ns.saturating_sub(time) < DAY || time / HOUR != next / HOUR,
            (Some(_), None) => true,
            (None, _) => self.spreads(size),
        }
    }

    fn is_cosigned(&self, note: &[u8]) -> bool {
        let note = std::str::from_utf8(note).ok().and_then(|note| Note::parse(note).ok());
        // The ids are made with the name.
        note.is_some_and(|note| note.signatures().iter().any(|line| !self.own.contains(&line.id)))
    }

    /// Whether it is far enough behind the last one of its segment that stays.
    fn spreads(&mut self, size: u64) -> bool {
        if size > self.collapsed {
            return true;
        }
        let first = self.ends.range(..size).next_back().copied().unwrap_or(0);
        let end = self.ends.range(size..).next().copied().unwrap_or(size);
        let far = size - self.spread.max(first) >= (end - first).div_ceil(SPREAD);
        if far {
            self.spread = size;
        }
        far
    }
}

/// Tells when checkpoints were signed, for ascending sizes: their last record's
/// leaf says when it was received.
struct Clock<'a> {
    shared: &'a Shared,
    hours: &'a Hours,
    open: Option<(u64, Arc<dyn FsFile>)>,
}

impl Clock<'_> {
    fn signed_ns(&mut self, size: u64) -> io::Result<Option<u64>> {
        Ok(self.received_ns(size)?.or_else(|| self.hours.of(size)))
    }

    /// When the last of `size` records was received, if a file of leaves says so.
    fn received_ns(&mut self, size: u64) -> io::Result<Option<u64>> {
        let Some(seq) = size.checked_sub(1) else {
            return Ok(None);
        };
        let found = {
            let leaves = self.shared.leaves.read();
            let file = leaves.range(..=seq).next_back();
            file.and_then(|(first, count)| (seq - first < *count).then_some(*first))
        };
        let Some(first) = found else { return Ok(None) };
        let file = match &self.open {
            Some((open, file)) if *open == first => Arc::clone(file),
            _ => match self.shared.fs.open_read(&self.shared.layout.leaf(first)) {
                // It was collapsed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => {
                    let file = opened?;
                    self.open = Some((first, Arc::clone(&file)));
                    file
                }
            },
        };
        let mut prefix = [0; PREFIX];
        let read = read_full_at(&*file, &mut prefix, (seq - first) * LEAF as u64)?;
        let time = Prefix::parse(&prefix).ok().map(|prefix| prefix.received_ns);
        Ok(time.filter(|_| read == PREFIX))
    }
}

/// The notes of a file, one after the other.
struct Notes {
    file: Arc<dyn FsFile>,
    /// What is read next, and where that ends.
    offset: u64,
    end: u64,
    buf: Vec<u8>,
    /// What of it was taken.
    at: usize,
}

impl Notes {
    fn new(file: Arc<dyn FsFile>, end: u64) -> Self {
        Self {
            file,
            offset: 0,
            end,
            buf: Vec::new(),
            at: 0,
        }
    }

    /// The next note, or as much as one may have of what is none.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        const DASH: &[u8] = "\u{2014} ".as_bytes();
        let mut note = Vec::new();
        let mut signed = false;
        while note.len() < MAX_NOTE {
            let line = self.line()?;
            let line = self.buf.get(self.at..line).unwrap_or_default();
            if line.is_empty() || signed && !line.starts_with(DASH) {
                break;
            }
            signed |= line == b"\n";
            note.extend_from_slice(line);
            self.at += line.len();
        }
        Ok((!note.is_empty()).then_some(note))
    }

    /// Where the next line ends in what was read; a long one, or the last, may have no newline.
    fn line(&mut self) -> io::Result<usize> {
        let mut from = self.at;
        loop {
            if let Some(found) = self.buf.iter().skip(from).position(|byte| *byte == b'\n') {
                return Ok(from + found + 1);
            }
            if self.buf.len() - self.at >= MAX_NOTE || self.offset >= self.end {
                return Ok(self.buf.len());
            }
            self.buf.drain(..self.at);
            self.at = 0;
            from = self.buf.len();
            let want = (self.end - self.offset).min(PIECE as u64) as usize;
            self.buf.resize(from + want, 0);
            let read = read_full_at(&*self.file, &mut self.buf[from..], self.offset)?;
            self.buf.truncate(from + read);
            self.offset += read as u64;
            if read < want {
                self.end = self.offset;
            }
        }
    }
}

/// The file that takes the place of the one that is read.
struct Beside {
    file: Arc<dyn FsFile>,
    end: u64,
    buf: Vec<u8>,
}

impl Beside {
    /// Begins it with what stays before `until`.
    fn begin(shared: &Shared, from: &Arc<dyn FsFile>, until: u64) -> io::Result<Self> {
        let path = shared.layout.generation_dir().join(format!("{CHECKPOINTS}.new"));
        let mut beside = Self {
            file: shared.fs.create(&path)?,
            end: 0,
            buf: Vec::with_capacity(2 * PIECE),
        };
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        while offset < until {
            let want = (until - offset).min(PIECE as u64) as usize;
            if read_full_at(&**from, &mut piece[..want], offset)? < want {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            beside.push(&piece[..want])?;
            offset += want as u64;
        }
        Ok(beside)
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buf.extend_from_slice(bytes);
        if self.buf.len() >= PIECE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &mut [IoSlice::new(&self.buf)], self.end)?;
        self.end += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    /// A crash leaves the file as it was or this one.
    fn finish(mut self, shared: &Shared) -> io::Result<()> {
        self.flush()?;
        self.file.sync()?;
        let dir = shared.layout.generation_dir();
        let beside = dir.join(format!("{CHECKPOINTS}.new"));
        shared.fs.rename(&beside, &dir.join(CHECKPOINTS))?;
        shared.fs.sync_dir(&dir)
    }
}
