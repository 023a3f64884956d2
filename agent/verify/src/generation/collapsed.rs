//! A segment of which only subtree hashes are left, and the tiles that stay beside them.

use std::io;

use auditmon_merkle::{
    HASH, Hash, NodeId, NodeReader as _, Range, TILE_HEIGHT, TILE_LEVELS, TILE_WIDTH, TileId, TileNodes, TileReader,
    full_tile_root, subtrees,
};

use super::Check;
use super::step::NOT_SEEN_BEFORE;
use crate::files::{Generation, read};
use crate::report::{CouldNot, Fault};
use crate::tiles::{TileFile, Tiles};

/// The tiles that are left, as files.
struct Left<'a>(&'a Tiles);

impl TileReader for Left<'_> {
    type Error = io::Error;

    fn read(&mut self, tile: TileId) -> io::Result<Option<Vec<u8>>> {
        let full = TileId::new(tile.level(), tile.index(), TILE_WIDTH);
        Ok(match full.map(|full| self.0.read(full)).transpose()? {
            Some(TileFile::Full(bytes)) => Some(bytes),
            _ => None,
        })
    }
}

/// What tiles that are left say of the single leaves of a collapsed segment.
struct Tiled<'a> {
    tiles: &'a mut Tiles,
    records: &'a [std::ops::Range<u64>],
    place: String,
}

impl Tiled<'_> {
    fn hash(&mut self, seq: u64) -> Result<Option<Hash>, CouldNot> {
        let at = self.records.partition_point(|records| records.end <= seq);
        if self.records.get(at).is_none_or(|records| records.start > seq) {
            return Ok(None);
        }
        let hash = self.tiles.hash(seq, &mut None);
        hash.map_err(|error| CouldNot::new(&self.place, error))
    }
}

impl Check<'_> {
    /// A segment of which only subtree hashes are left.
    pub(super) fn collapsed(&mut self, first: u64, end: Option<u64>) -> Result<(), CouldNot> {
        let name = Generation::sub_name(first);
        let path = self.setting.generation.dir.join(&name);
        let bytes = read(&path, 1 << 16).map_err(self.could_not(&name))?.unwrap_or_default();
        let bounds = bytes
            .get(..16)
            .map(|head| (u64_at(head, 0), u64_at(head, 8).saturating_add(1)))
            .filter(|(begin, until)| *begin == first && begin < until && end.is_none_or(|end| *until <= end));
        let hashes = bytes.get(16..).unwrap_or_default().as_chunks::<HASH>();
        let Some((begin, until)) = bounds else {
            let what = "not what is left of this segment: first and last record are others";
            self.report.fault(Fault::of(self.place(&name), what));
            return end.map_or(Ok(()), |end| self.skip(end));
        };
        let nodes: Vec<_> = subtrees(begin, until).collect();
        if nodes.len() != hashes.0.len() || !hashes.1.is_empty() {
            self.report.fault(Fault::of(
                self.place(&name),
                "another number of hashes than its records need",
            ));
            return self.skip(until);
        }
        self.tiled.clear();
        self.heads_within(begin, until)?;
        for (node, hash) in nodes.into_iter().zip(hashes.0) {
            let hash = Hash::from(*hash);
            if let Some(as_accepted) = &mut self.as_accepted {
                as_accepted.push_subtree(node.level(), hash);
            }
            let entries = self.entries(node, hash)?;
            self.trees.push_subtree(node, hash, entries.as_deref());
            self.compare_tiles()?;
        }
        self.report.counts.records += until - begin;
        self.report.counts.expired += until - begin;
        self.absences.expired(begin, until - 1);
        self.expired_files = true;
        match self.collapsed.last_mut() {
            Some(run) if run.1 + 1 == begin => run.1 = until - 1,
            _ => self.collapsed.push((begin, until - 1)),
        }
        self.seq = until;
        let mut tiled = Tiled {
            tiles: &mut self.tiles,
            records: &self.tiled,
            place: self.setting.generation.place("tile"),
        };
        if let Some(rows) = &mut self.rows {
            rows.pass(until, |seq| tiled.hash(seq), self.report)?;
        }
        while let Some(remembered) = self.remembered.pop_if(|remembered| remembered.seq <= until) {
            let seq = remembered.seq.saturating_sub(1);
            match tiled.hash(seq)? {
                Some(known) if known == remembered.hash => {}
                Some(_) => self
                    .report
                    .fault(Fault::at(&remembered.place, seq, seq, None, NOT_SEEN_BEFORE)),
                None => self.report.unseen(remembered.uncompared()),
            }
        }
        self.compare_roots()
    }

    /// Compares roots of sizes within a collapsed segment, as far as tiles are left for that. Others can't be compared;
    /// whatever comes behind includes them.
    fn heads_within(&mut self, begin: u64, until: u64) -> Result<(), CouldNot> {
        while self.heads.size().is_some_and(|size| size < until) {
            let Some(head) = self.heads.take(self.report)? else {
                break;
            };
            let size = head.tree.size;
            match self.root_within(begin, size) {
                Some(root) if root == head.tree.root => {
                    self.report.counts.checkpoints += 1;
                    self.good = Some(head);
                }
                Some(_) => {
                    let what = format!(
                        "not the records that were signed, or not their tiles: the checkpoint of size {size} ({}) doesn't hold",
                        head.place
                    );
                    self.report.fault(Fault::at(self.place("seg"), begin, size - 1, None, what));
                }
                // Those of the directory itself are no evidence that anybody brought.
                None if !head.place.starts_with(&self.place("checkpoint")) => self.report.unseen(format!(
                    "whether the journal extends the checkpoint of size {size} in {}: it ends within seq {begin} to {}, of which only hashes over many records are left; one of size {begin} or from {until} on can be compared",
                    head.place,
                    until - 1
                )),
                None => {}
            }
        }
        Ok(())
    }

    /// Says of which records only hashes over many are left.
    pub(super) fn tell_collapsed(&mut self) {
        for (first, last) in std::mem::take(&mut self.collapsed) {
            self.report.unseen(format!(
                "the single records from seq {first} to {last}: only hashes over many of them are left; give FILE with --against that proves one"
            ));
        }
    }

    /// The root at a size within a collapsed segment, if the tiles are left that give it.
    fn root_within(&self, begin: u64, size: u64) -> Option<Hash> {
        let mut tree = self.trees.tiler()?.frontier().clone();
        let mut nodes = TileNodes::new(Left(&self.tiles), size).ok()?;
        for node in subtrees(begin, size) {
            let hash = nodes.node(node).ok()?;
            tree.push_subtree(node.level(), hash).ok()?;
        }
        Some(tree.root())
    }

    /// The hashes that a tile has for a node, where the tile or all of those below it are left; and whether these,
    /// and what is left below, are those of the node.
    fn entries(&mut self, node: NodeId, hash: Hash) -> Result<Option<Vec<Hash>>, CouldNot> {
        let level = node.level() / TILE_HEIGHT;
        let height = node.level() % TILE_HEIGHT;
        if level >= TILE_LEVELS {
            return Ok(None);
        }
        let first = node.index() << height;
        if height == 0 {
            self.below(level, first, hash)?;
            return Ok(Some(vec![hash]));
        }
        let width = u64::from(TILE_WIDTH);
        let held = match TileId::new(level, first / width, TILE_WIDTH) {
            Some(tile) => self.full_tile(tile)?.map(|bytes| (tile, bytes)),
            None => None,
        };
        let mut entries: Vec<Hash> = Vec::with_capacity(1 << height);
        if let Some((_, bytes)) = &held {
            let hashes = bytes.as_chunks::<HASH>().0.iter().skip((first % width) as usize);
            entries.extend(hashes.take(1 << height).map(|hash| Hash::from(*hash)));
        } else {
            // It isn't full yet, and made of those below.
            for index in first..first + (1 << height) {
                let tile = level
                    .checked_sub(1)
                    .and_then(|below| TileId::new(below, index, TILE_WIDTH));
                let bytes = tile.map(|tile| self.full_tile(tile)).transpose()?.flatten();
                let Some(root) = bytes.as_deref().and_then(full_tile_root) else {
                    return Ok(None);
                };
                entries.push(root);
            }
        }
        let mut range = Range::new(0);
        for entry in &entries {
            let _ = range.push(*entry);
        }
        if range.subtrees().map(|(_, root)| *root).next() != Some(hash) {
            let place = held.map_or_else(|| "tile".to_owned(), |(tile, _)| tile.to_string());
            self.other(&place, node);
            return Ok(None);
        }
        if level == 0 {
            self.tiled.push(node.leaves());
        }
        for (index, entry) in (first..).zip(&entries) {
            self.below(level, index, *entry)?;
        }
        Ok(Some(entries))
    }

    /// Compares what is left below a hash of a tile with it.
    fn below(&mut self, level: u8, index: u64, hash: Hash) -> Result<(), CouldNot> {
        let Some(tile) = level
            .checked_sub(1)
            .and_then(|below| TileId::new(below, index, TILE_WIDTH))
        else {
            return Ok(());
        };
        // One stays as long as any below it does.
        let Some(bytes) = self.full_tile(tile)? else {
            return Ok(());
        };
        if full_tile_root(&bytes) != Some(hash) {
            if let Some(node) = NodeId::new(level * TILE_HEIGHT, index) {
                self.other(&tile.to_string(), node);
            }
            return Ok(());
        }
        if tile.level() == 0 {
            self.tiled.push(tile.leaves());
        } else {
            let first = index * u64::from(TILE_WIDTH);
            for (index, hash) in (first..).zip(bytes.as_chunks::<HASH>().0) {
                self.below(tile.level(), index, Hash::from(*hash))?;
            }
        }
        Ok(())
    }

    fn full_tile(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, CouldNot> {
        match self.tiles.read(tile).map_err(self.could_not(tile))? {
            TileFile::Full(bytes) => Ok(Some(bytes)),
            TileFile::Missing => Ok(None),
            TileFile::Length(length) => {
                let what = format!("{length} bytes: a full tile has {}", tile.bytes());
                self.report.fault(Fault::of(self.place(tile), what).lasting());
                Ok(None)
            }
        }
    }

    fn other(&mut self, tile: &str, node: NodeId) {
        let leaves = node.leaves();
        let what = "not the hashes that the collapsed segment has";
        self.report
            .fault(Fault::at(self.place(tile), leaves.start, leaves.end - 1, None, what).lasting());
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}
