//! Sealing: a segment that is over gets its length and its leaves.

use std::io::{self, IoSlice};

use crate::find::Span;
use crate::format::{LEAF, RecordIter, leaf};
use crate::fs::{FsFile, write_all_at};
use crate::layout::Layout;
use crate::recovery::make_tiles_again;
use crate::scan::{Finder, FrameReader, walk_pieces};
use crate::shared::Shared;
use crate::tree::store_tiles;

/// Leaves are written in pieces of about this many bytes.
const PIECE: usize = 64 << 10;

/// A segment that is over but not sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SealJob {
    pub(crate) first_seq: u64,
    /// First seq of the next segment: what is there or beyond was given up.
    pub(crate) end_seq: u64,
}

/// What became of a [`SealJob`].
#[derive(Debug)]
pub enum SealResult {
    /// Cut, synced, and its leaves are on disk.
    Sealed {
        /// Records in it.
        records: u64,
        /// Its bytes.
        bytes: u64,
        /// When its newest record was received, ns since the Unix epoch.
        newest_ns: u64,
        /// Of its ids.
        span: Span,
    },
    /// Records are missing; it stays as it is.
    Damaged {
        /// Where its readable frames end.
        offset: u64,
        /// First and last missing record.
        missing: (u64, u64),
        /// Its bytes.
        bytes: u64,
        /// When its newest readable record was received.
        newest_ns: u64,
    },
    /// The file is no longer there.
    Gone,
    /// To be tried again later.
    Failed(io::Error),
}

impl SealJob {
    pub(crate) fn new(first_seq: u64, end_seq: u64) -> Self {
        Self { first_seq, end_seq }
    }

    /// Does the work; may run beside the writer.
    pub(crate) fn run(&self, shared: &Shared) -> SealResult {
        match self.try_run(shared) {
            Ok(result) => result,
            Err(error) if error.kind() == io::ErrorKind::NotFound => SealResult::Gone,
            Err(error) => SealResult::Failed(error),
        }
    }

    fn try_run(&self, shared: &Shared) -> io::Result<SealResult> {
        let (fs, layout) = (&*shared.fs, &shared.layout);
        let file = fs.open(&layout.seg(self.first_seq))?;
        let size = file.size()?;
        let name = Layout::leaf_name(self.first_seq);
        let beside = layout.seg_dir().join(format!("{name}.new"));
        let mut leaves = LeafWriter::new(fs.create(&beside)?);
        let mut newest_ns = 0;
        let mut span = Span::EMPTY;
        let mut frames = FrameReader::new(file.clone(), size);
        let first_frame = crate::core::FIRST_FRAME;
        // Of this segment, and what is still there of those before it, which have their leaves.
        let held = shared.commitments.lock().take_below(self.end_seq);
        let mut seq = self.first_seq;
        let stop = walk_pieces(&mut frames, first_frame, self.first_seq, self.end_seq, |records| {
            for record in RecordIter::new(records).flatten() {
                newest_ns = newest_ns.max(record.prefix.received_ns);
                span.include(&record.prefix.event_id);
                let commitment = held.get(seq).unwrap_or_else(|| record.commitment());
                leaves.push(&leaf(&record.prefix.encode(), &commitment))?;
                seq += 1;
            }
            Ok(())
        })?;
        if !stop.reached {
            fs.remove(&beside)?;
            // What is left of it in memory: it stands for the leaves that are missing.
            store_tiles(shared, self.end_seq, 0)?;
            let mut finder = Finder::new(file, stop.offset, size);
            let found = finder.find(stop.offset + 1, stop.seq..self.end_seq)?;
            let behind = found.map_or(self.end_seq, |(_, head)| head.first_seq);
            return Ok(SealResult::Damaged {
                offset: stop.offset,
                missing: (stop.seq, behind.saturating_sub(1)),
                bytes: size,
                newest_ns,
            });
        }
        if size > stop.offset {
            file.set_len(stop.offset)?;
        }
        // Also where nothing is cut: an earlier try may have cut and failed here.
        file.sync()?;
        let records = leaves.finish()?;
        // Before its leaves get their name: whoever sees them finds the tiles.
        make_tiles_again(shared, self.end_seq)?;
        store_tiles(shared, self.end_seq, 0)?;
        fs.rename(&beside, &layout.leaf(self.first_seq))?;
        fs.sync_dir(&layout.seg_dir())?;
        Ok(SealResult::Sealed {
            records,
            bytes: stop.offset,
            newest_ns,
            span,
        })
    }
}

struct LeafWriter {
    file: std::sync::Arc<dyn FsFile>,
    buf: Vec<u8>,
    offset: u64,
}

impl LeafWriter {
    fn new(file: std::sync::Arc<dyn FsFile>) -> Self {
        Self {
            file,
            buf: Vec::with_capacity(PIECE + LEAF),
            offset: 0,
        }
    }

    fn push(&mut self, leaf: &[u8; LEAF]) -> io::Result<()> {
        self.buf.extend_from_slice(leaf);
        if self.buf.len() >= PIECE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &mut [IoSlice::new(&self.buf)], self.offset)?;
        self.offset += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    /// Syncs, and returns the number of leaves.
    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync()?;
        Ok(self.offset / LEAF as u64)
    }
}
