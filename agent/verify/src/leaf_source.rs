//! Leaves and payloads of single records, wherever they are; and tiles, made of leaves where there is no file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use auditmon_journal::format::{FRAME_HEAD, FrameHead, Kind, LEAF, RecordIter};
use auditmon_journal::inspect::FIRST_FRAME;
use auditmon_merkle::{HASH, Hash, TILE_BYTES, TILE_WIDTH, TileId, TileReader, leaf_hash};

use crate::files::{Generation, Parts, open, read};
use crate::segment::{Next, Segment};

/// Bytes read at once to find heads of frames.
const SKIM: usize = 64 << 10;
/// Leaves read at once.
const LEAVES: usize = 4096;

/// A record's leaf, and its content where that is still there.
#[derive(Clone, Debug)]
pub(crate) struct FoundRecord {
    pub(crate) seq: u64,
    pub(crate) leaf: [u8; LEAF],
    pub(crate) content: Option<([u8; 16], Vec<u8>)>,
}

/// Leaves of one generation.
pub(crate) struct LeafSource<'a> {
    generation: &'a Generation,
    segments: BTreeMap<u64, Parts>,
    /// Of a segment that has no leaf file: its first seq, and leaf hashes from a record on.
    scanned: Option<(u64, u64, Vec<Hash>)>,
}

/// Goes through a segment by the heads of its frames alone: what is found so is believed only once it leads to a
/// signed root.
struct Skim {
    file: File,
    offset: u64,
    buffer: Vec<u8>,
    begin: u64,
}

impl Skim {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open(path)?,
            offset: FIRST_FRAME,
            buffer: Vec::new(),
            begin: 0,
        })
    }

    /// The head of the next frame, if there is one that begins with this record.
    fn head(&mut self, seq: u64) -> io::Result<Option<FrameHead>> {
        let held = |skim: &Self| {
            let at = skim.offset.checked_sub(skim.begin)? as usize;
            skim.buffer.get(at..)?.first_chunk::<FRAME_HEAD>().copied()
        };
        if held(self).is_none() {
            self.buffer.resize(SKIM, 0);
            let read = read_full(&self.file, &mut self.buffer, self.offset)?;
            self.buffer.truncate(read);
            self.begin = self.offset;
        }
        let head = held(self).and_then(|bytes| FrameHead::parse(&bytes).ok());
        Ok(head.filter(|head| head.first_seq == seq))
    }

    /// Passes over a frame.
    fn pass(&mut self, head: &FrameHead) {
        self.offset += head.len() as u64;
    }

    /// The records of the next frame.
    fn records(&self, head: &FrameHead) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; head.records_len as usize];
        let read = read_full(&self.file, &mut bytes, self.offset + FRAME_HEAD as u64)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl<'a> LeafSource<'a> {
    pub(crate) fn new(generation: &'a Generation) -> io::Result<Self> {
        Ok(Self {
            segments: generation.segments()?,
            generation,
            scanned: None,
        })
    }

    /// Looks for an event by its id: in the newest segment first, then in those that were written at its time, then
    /// in the others, newest first.
    pub(crate) fn find(&self, id: &[u8; 16]) -> io::Result<Option<u64>> {
        let mut order: Vec<(bool, u64, Parts)> = Vec::new();
        for (first, parts) in &self.segments {
            if parts.is_collapsed() {
                continue;
            }
            let near = !parts.leaf || self.spans(*first, id)?;
            order.push((near, *first, *parts));
        }
        order.sort_unstable_by_key(|(near, first, _)| std::cmp::Reverse((*near, *first)));
        for (_, first, parts) in order {
            let found = if parts.leaf {
                self.in_leaves(first, id)?
            } else if parts.seg {
                self.in_segment(first, id)?
            } else {
                None
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Seq behind the last record that has a leaf file: up to here all full tiles are on disk.
    pub(crate) fn sealed_end(&self) -> io::Result<u64> {
        let last = self.segments.iter().rfind(|(_, parts)| parts.leaf);
        let Some((first, _)) = last else { return Ok(0) };
        Ok(first + self.leaves(*first)?.metadata()?.len() / LEAF as u64)
    }

    /// Seq behind the records of which only hashes over many are left, if there are any.
    pub(crate) fn collapsed_end(&self) -> Option<u64> {
        let last = self.segments.iter().rfind(|(_, parts)| parts.is_collapsed());
        last.map(|(first, _)| self.end_of(*first))
    }

    /// First and last of the collapsed records that this one belongs to.
    pub(crate) fn collapsed(&self, seq: u64) -> Option<(u64, u64)> {
        let (first, parts) = self.segment_of(seq)?;
        parts.is_collapsed().then(|| (first, self.end_of(first) - 1))
    }

    fn end_of(&self, first: u64) -> u64 {
        let next = self.segments.range(first + 1..).next();
        next.map_or(u64::MAX, |(next, _)| *next)
    }

    fn leaves(&self, first: u64) -> io::Result<File> {
        open(&self.generation.dir.join(Generation::leaf_name(first)))
    }

    /// Whether an id's time lies between those of a segment's first and last leaf.
    fn spans(&self, first: u64, id: &[u8; 16]) -> io::Result<bool> {
        let file = self.leaves(first)?;
        let Some(last) = file.metadata()?.len().checked_sub(LEAF as u64) else {
            return Ok(false);
        };
        let time = |at: u64| -> io::Result<[u8; 6]> {
            let mut bytes = [0; 7];
            file.read_exact_at(&mut bytes, at)?;
            let [_, time @ ..] = bytes;
            Ok(time)
        };
        let [a, b, c, d, e, f, ..] = *id;
        Ok((time(0)?..=time(last)?).contains(&[a, b, c, d, e, f]))
    }

    fn in_leaves(&self, first: u64, id: &[u8; 16]) -> io::Result<Option<u64>> {
        let file = self.leaves(first)?;
        let mut bytes = vec![0; LEAVES * LEAF];
        let mut seq = first;
        loop {
            let at = (seq - first) * LEAF as u64;
            let read = read_full(&file, &mut bytes, at)?;
            let (leaves, _) = bytes[..read].as_chunks::<LEAF>();
            for leaf in leaves {
                if leaf[1..17] == *id && leaf[25] != Kind::State as u8 {
                    return Ok(Some(seq));
                }
                seq += 1;
            }
            if leaves.len() < LEAVES {
                return Ok(None);
            }
        }
    }

    fn in_segment(&self, first: u64, id: &[u8; 16]) -> io::Result<Option<u64>> {
        let mut found = None;
        self.scan(first, |seq, record| {
            let prefix = &record.prefix;
            if prefix.event_id == *id && prefix.kind != Kind::State {
                found = Some(seq);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Goes through the records of a segment until `visit` wants no more.
    fn scan(
        &self,
        first: u64,
        mut visit: impl FnMut(u64, &auditmon_journal::format::Record<'_>) -> bool,
    ) -> io::Result<()> {
        let end = self.segments.range(first + 1..).next().map(|(next, _)| *next);
        let mut segment = Segment::open(&self.generation.dir.join(Generation::seg_name(first)), end)?;
        let mut seq = first;
        loop {
            match segment.next(seq, |_| false)? {
                Next::Over => return Ok(()),
                Next::Missing { until, .. } => seq = until,
                Next::Frame(head) => {
                    for record in RecordIter::new(segment.records(&head)?).flatten() {
                        if !visit(seq, &record) {
                            return Ok(());
                        }
                        seq += 1;
                    }
                }
            }
        }
    }

    /// The same from the record `from` on, without a look at those before; ends where a frame can't be read.
    fn scan_from(
        &self,
        first: u64,
        from: u64,
        mut visit: impl FnMut(u64, &auditmon_journal::format::Record<'_>) -> bool,
    ) -> io::Result<()> {
        let end = self
            .segments
            .range(first + 1..)
            .next()
            .map_or(u64::MAX, |(next, _)| *next);
        let mut skim = Skim::open(&self.generation.dir.join(Generation::seg_name(first)))?;
        let mut seq = first;
        while let Some(head) = skim.head(seq)?.filter(|head| head.next_seq() <= end) {
            if head.next_seq() > from {
                for (at, record) in (seq..).zip(RecordIter::new(&skim.records(&head)?).flatten()) {
                    if at >= from && !visit(at, &record) {
                        return Ok(());
                    }
                }
            }
            skim.pass(&head);
            seq = head.next_seq();
        }
        Ok(())
    }

    fn segment_of(&self, seq: u64) -> Option<(u64, Parts)> {
        self.segments
            .range(..=seq)
            .next_back()
            .map(|(first, parts)| (*first, *parts))
    }

    /// A record by its number, from its segment.
    pub(crate) fn record(&self, wanted: u64) -> io::Result<Option<FoundRecord>> {
        let Some((first, parts)) = self.segment_of(wanted) else {
            return Ok(None);
        };
        if !parts.seg {
            let leaf = if parts.leaf { self.leaf(first, wanted)? } else { None };
            return Ok(leaf.map(|leaf| FoundRecord {
                seq: wanted,
                leaf,
                content: None,
            }));
        }
        let mut found = None;
        self.scan_from(first, wanted, |seq, record| {
            if seq == wanted {
                let content = match record.body {
                    auditmon_journal::format::Body::Whole { salt, payload } => Some((salt, payload.to_vec())),
                    auditmon_journal::format::Body::Erased { .. } => None,
                };
                found = Some(FoundRecord {
                    seq,
                    leaf: record.leaf(),
                    content,
                });
            }
            seq < wanted
        })?;
        Ok(found)
    }

    fn leaf(&self, first: u64, seq: u64) -> io::Result<Option<[u8; LEAF]>> {
        let mut leaf = [0; LEAF];
        let read = read_full(&self.leaves(first)?, &mut leaf, (seq - first) * LEAF as u64)?;
        Ok((read == LEAF).then_some(leaf))
    }

    /// Hashes of the leaves `from..to`, as far as they are there.
    fn hashes(&mut self, from: u64, to: u64) -> io::Result<Vec<Hash>> {
        let mut hashes = Vec::with_capacity((to - from) as usize);
        let mut seq = from;
        while seq < to {
            let Some((first, parts)) = self.segment_of(seq) else {
                break;
            };
            let end = self
                .segments
                .range(first + 1..)
                .next()
                .map_or(to, |(next, _)| to.min(*next));
            let before = hashes.len();
            if parts.leaf {
                let mut bytes = vec![0; (end - seq) as usize * LEAF];
                let read = read_full(&self.leaves(first)?, &mut bytes, (seq - first) * LEAF as u64)?;
                let (leaves, _) = bytes[..read].as_chunks::<LEAF>();
                hashes.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
            } else if parts.seg {
                let all = self.scanned(first, seq)?;
                hashes.extend(all.iter().take((end - seq) as usize));
            }
            seq += (hashes.len() - before) as u64;
            if seq < end {
                break;
            }
        }
        Ok(hashes)
    }

    /// Leaf hashes of a segment from a record on. The first call is for the tree's right edge, and usually the last.
    fn scanned(&mut self, first: u64, from: u64) -> io::Result<&[Hash]> {
        let again = match &self.scanned {
            Some((of, begin, _)) if *of == first && *begin <= from => None,
            Some((of, ..)) if *of == first => Some(first),
            _ => Some(from),
        };
        if let Some(begin) = again {
            let mut hashes = Vec::new();
            self.scan_from(first, begin, |_, record| {
                hashes.push(leaf_hash(&record.leaf()));
                true
            })?;
            self.scanned = Some((first, begin, hashes));
        }
        let Some((_, begin, hashes)) = &self.scanned else {
            return Ok(&[]);
        };
        Ok(hashes.get((from - begin) as usize..).unwrap_or_default())
    }
}

/// Tiles of a generation: files, and leaves where there is none yet.
impl TileReader for LeafSource<'_> {
    type Error = io::Error;

    fn read(&mut self, tile: TileId) -> io::Result<Option<Vec<u8>>> {
        let full = TileId::new(tile.level(), tile.index(), TILE_WIDTH);
        if let Some(full) = full
            && let Some(bytes) = read(&self.generation.dir.join(full.to_string()), TILE_BYTES as u64)?
        {
            return Ok(Some(bytes));
        }
        if tile.level() > 0 {
            return Ok(None);
        }
        let leaves = tile.leaves();
        let hashes = self.hashes(leaves.start, leaves.end)?;
        let mut bytes = Vec::with_capacity(hashes.len() * HASH);
        for hash in &hashes {
            bytes.extend_from_slice(hash.as_bytes());
        }
        Ok((bytes.len() == tile.bytes()).then_some(bytes))
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(some) => read += some,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
