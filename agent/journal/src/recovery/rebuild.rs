//! The tree as it was: from tiles as far as segments are sealed, from leaves
//! and records behind that.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use auditmon_merkle::{Hash, TILE_WIDTH, TileId, TileReader, Tiler};

use crate::checkpoint::SignedCheckpoint;
use crate::collapse;
use crate::core::FIRST_FRAME;
use crate::format::{LEAF, RecordIter, leaf_hash};
use crate::fs::read_full_at;
use crate::scan::{Finder, FrameReader, Probe, hop, walk_pieces};
use crate::shared::{Located, Segment, Shared};
use crate::tree::{MOST, Tree, read_tile, write_tiles};

/// Leaves read at once.
const LEAVES: usize = 1024;

/// What became of the tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rebuilt {
    /// It is whole, and what the newest checkpoint says of it is true.
    Whole,
    /// This leaf is missing.
    Missing(u64),
    /// The checkpoint was signed over other records.
    Differs,
}

/// Builds the tree over all records that are durable, and puts it in its place.
/// The newest segment is read for it if it is `gone_on_with`.
pub(super) fn rebuild(shared: &Shared, newest: Option<&SignedCheckpoint>, gone_on_with: bool) -> io::Result<Rebuilt> {
    let end = shared.durable();
    let mut build = Build::new(
        shared,
        resume(shared, stored_end(shared, newest, gone_on_with).min(end)),
        newest,
    );
    build.run(end)?;
    if build.differs && build.began > 0 {
        // Tiles have no checksum: only leaves and records can tell that it was them.
        let signed = newest.map_or(end, |newest| newest.size.min(end));
        build = Build::new(shared, collapse::resume(shared, signed), newest);
        build.run(end)?;
        // Where a leaf is missing on the way there, what tiles say stands.
        build.differs |= build.seq < signed;
    }
    let rebuilt = match (build.differs, build.seq < end) {
        (true, _) => Rebuilt::Differs,
        (false, true) => Rebuilt::Missing(build.seq),
        (false, false) => Rebuilt::Whole,
    };
    let mut tree = build.tree;
    if rebuilt != Rebuilt::Whole {
        tree.break_off();
    }
    tree.begin();
    *shared.tree.lock() = tree;
    Ok(rebuilt)
}

/// Up to which seq tiles are taken for what they say, which the checkpoint then
/// confirms: at least as far as segments are sealed, and from there on as far as
/// none is missing. What lags behind in sealing need not be hashed for a start;
/// the newest segment is.
fn stored_end(shared: &Shared, newest: Option<&SignedCheckpoint>, gone_on_with: bool) -> u64 {
    let sealed = sealed_end(shared);
    // Not beyond the checkpoint, or its root could not be compared.
    let Some(newest) = newest else { return sealed };
    let active = shared.segments.read().keys().next_back().copied();
    let active = if gone_on_with { active.unwrap_or(0) } else { u64::MAX };
    let limit = active.min(newest.size);
    let width = u64::from(TILE_WIDTH);
    let mut end = sealed.min(newest.size) / width * width;
    while end + width <= limit
        && filled(end + width).all(|tile| read_tile(&*shared.fs, &shared.layout, tile).is_ok_and(|held| held.is_some()))
    {
        end += width;
    }
    end.max(sealed.min(newest.size))
}

/// The tiles that are full with the leaf before `end`, a multiple of a tile's width.
fn filled(end: u64) -> impl Iterator<Item = TileId> {
    let tiles = (0..8).map_while(move |level| {
        let leaves = u64::from(TILE_WIDTH).checked_pow(u32::from(level) + 1)?;
        end.is_multiple_of(leaves)
            .then(|| TileId::new(level, end / leaves - 1, TILE_WIDTH))
    });
    tiles.flatten()
}

/// Makes the tiles below `end` again that were given up, from leaves and
/// records. Where those are missing too there is nothing to be done.
pub(crate) fn make_again(shared: &Shared, end: u64) -> io::Result<()> {
    let Some(first) = shared.tree.lock().lost_below(end) else {
        return Ok(());
    };
    let tiler = resume(shared, first);
    let mut build = Build::new(shared, tiler, None);
    // The writer's tiles may be among them.
    let _one = shared.tile_writer.lock();
    build.run(end)?;
    build.write();
    if let Some(error) = build.unwritten {
        return Err(error);
    }
    shared.tree.lock().made_again(end);
    Ok(())
}

/// Seq behind the leaves that follow each other from the first on.
fn sealed_end(shared: &Shared) -> u64 {
    let leaves = shared.leaves.read();
    let last = leaves.iter().next_back();
    last.map_or(0, |(first, count)| first.saturating_add(*count))
}

/// The tree of the whole tiles below `end`. If tiles are missing that of the collapsed records, which have no leaves
/// any more; the empty one if there are none.
fn resume(shared: &Shared, end: u64) -> Tiler {
    let width = u64::from(TILE_WIDTH);
    let aligned = end / width * width;
    Tiler::resume(aligned, &mut Stored(shared)).unwrap_or_else(|_| collapse::resume(shared, end))
}

/// Tiles on disk; what can't be read counts as missing.
struct Stored<'a>(&'a Shared);

impl TileReader for Stored<'_> {
    type Error = Infallible;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(read_tile(&*self.0.fs, &self.0.layout, tile).ok().flatten())
    }
}

struct Build<'a> {
    shared: &'a Shared,
    tree: Tree,
    seq: u64,
    /// Leaves that tiles stood for.
    began: u64,
    newest: Option<&'a SignedCheckpoint>,
    differs: bool,
    /// Why tiles were given up.
    unwritten: Option<io::Error>,
}

impl<'a> Build<'a> {
    fn new(shared: &'a Shared, tiler: Tiler, newest: Option<&'a SignedCheckpoint>) -> Self {
        let mut build = Self {
            shared,
            seq: tiler.size(),
            began: tiler.size(),
            tree: Tree::new(tiler),
            newest,
            differs: false,
            unwritten: None,
        };
        build.compare();
        build
    }

    /// Goes on up to `end`, or to the first leaf that is missing.
    fn run(&mut self, end: u64) -> io::Result<()> {
        while self.seq < end {
            let before = self.seq;
            self.leaves(end)?;
            if self.seq == before {
                self.records(end)?;
            }
            if self.seq == before {
                break;
            }
            self.flush();
        }
        Ok(())
    }

    fn push(&mut self, leaf: &[u8; LEAF]) {
        self.tree.extend(self.seq, [&leaf_hash(leaf)]);
        self.seq += 1;
        self.compare();
    }

    /// Compares the root where the checkpoint has one.
    fn compare(&mut self) {
        if let Some(newest) = self.newest
            && newest.size == self.seq
            && let Some(tree) = self.tree.frontier()
        {
            self.differs |= tree.root() != Hash::from(newest.root);
        }
    }

    /// From the file of leaves that has the next one, if there is one.
    fn leaves(&mut self, end: u64) -> io::Result<()> {
        let found = {
            let leaves = self.shared.leaves.read();
            let file = leaves.range(..=self.seq).next_back();
            file.map(|(first, count)| (*first, first.saturating_add(*count).min(end)))
        };
        let Some((first, behind)) = found.filter(|(_, behind)| *behind > self.seq) else {
            return Ok(());
        };
        let file = self.shared.fs.open_read(&self.shared.layout.leaf(first))?;
        let mut buf = vec![0; LEAVES * LEAF];
        while self.seq < behind {
            let count = (behind - self.seq).min(LEAVES as u64) as usize;
            let want = &mut buf[..count * LEAF];
            let read = read_full_at(&*file, want, (self.seq - first) * LEAF as u64)?;
            let (leaves, _) = want[..read].as_chunks::<LEAF>();
            for leaf in leaves {
                self.push(leaf);
            }
            if leaves.len() < count {
                break;
            }
            self.flush();
        }
        Ok(())
    }

    /// From the records of the segment that has the next one.
    fn records(&mut self, end: u64) -> io::Result<()> {
        let Located::In(segment, end_seq) = self.shared.locate(self.seq, end) else {
            return Ok(());
        };
        let segment: Arc<Segment> = segment;
        let file = self.shared.fs.open_read(&segment.path)?;
        let size = file.size()?;
        // What lies before is in the tree already, also where it can't be read any more.
        let (mut offset, mut seq) = hop(&*file, FIRST_FRAME, segment.first_seq, self.seq)?;
        let mut frames = FrameReader::new(Arc::clone(&file), size);
        if seq < self.seq && !matches!(frames.probe(offset)?, Probe::Frame(head) if head.first_seq == seq) {
            let mut finder = Finder::new(file, offset, size);
            if let Some((at, head)) = finder.find(offset + 1, seq..self.seq + 1)? {
                (offset, seq) = (at, head.first_seq);
            }
        }
        walk_pieces(&mut frames, offset, seq, end_seq, |records| {
            for record in RecordIter::new(records).flatten() {
                if seq == self.seq {
                    self.push(&record.leaf());
                }
                seq += 1;
            }
            self.flush();
            Ok(())
        })?;
        Ok(())
    }

    /// Writes tiles where many have come together.
    fn flush(&mut self) {
        if self.tree.pending() >= MOST {
            self.write();
        }
    }

    /// Writes tiles that an earlier version, or a crash, left out. Their leaves
    /// are on disk, so that on a full one they can wait.
    fn write(&mut self) {
        let tiles = self.tree.unstored(self.seq, usize::MAX);
        match write_tiles(&*self.shared.fs, &self.shared.layout, &tiles, u64::MAX) {
            Ok(()) => self.tree.stored(&tiles),
            Err(error) => {
                self.tree.give_up();
                self.unwritten = Some(error);
            }
        }
    }
}
