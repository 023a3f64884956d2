//! The Merkle tree over the records that are on disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use auditmon_merkle::{Frontier, Hash, TILE_BYTES, TILE_WIDTH, TileId, Tiler};

mod store;

pub(crate) use store::{AT_ONCE, read as read_tile, store as store_tiles, write as write_tiles};

/// A full tile that is not on disk yet.
pub(crate) type NewTile = (TileId, Arc<[u8; TILE_BYTES]>);

/// Most full tiles in memory, beside the few that come between two looks: 2 MiB.
pub(crate) const MOST: usize = 256;

/// The tree as far as records are on disk, with what of its tiles isn't.
///
/// Its newest tile of each level lives in memory, and so do full ones until
/// enough of them have come together to be written.
pub(crate) struct Tree {
    tiler: Tiler,
    /// Full tiles by level and index.
    full: BTreeMap<(u8, u64), Arc<[u8; TILE_BYTES]>>,
    /// Leaves whose tiles no disk took, so that memory kept its bound; sealing makes them again.
    lost: Range<u64>,
    /// A leaf is missing, or is another one than a checkpoint says: nothing is
    /// appended or signed any more.
    broken: bool,
    /// Records covered when this run began: tiles that were full then may be on disk.
    began: u64,
}

impl Tree {
    /// The tree of `tiler`; its full tiles are on disk.
    pub(crate) fn new(tiler: Tiler) -> Self {
        Self {
            began: 0,
            tiler,
            full: BTreeMap::new(),
            lost: 0..0,
            broken: false,
        }
    }

    /// Records covered.
    pub(crate) fn size(&self) -> u64 {
        self.tiler.size()
    }

    /// From here on tiles that fill can't be on disk yet.
    pub(crate) fn begin(&mut self) {
        self.began = self.size();
    }

    /// Records covered when this run began.
    pub(crate) fn began(&self) -> u64 {
        self.began
    }

    /// Whether it can't be gone on with.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn break_off(&mut self) {
        self.broken = true;
    }

    /// Appends the records that follow each other from `first_seq` on, by their leaf hashes.
    pub(crate) fn extend<'a>(&mut self, first_seq: u64, hashes: impl IntoIterator<Item = &'a [u8; 32]>) {
        self.broken |= first_seq != self.tiler.size();
        for hash in hashes {
            if self.broken {
                return;
            }
            self.push(Hash::from(*hash));
        }
    }

    fn push(&mut self, leaf: Hash) {
        if self.tiler.push(leaf).is_err() {
            self.broken = true;
            return;
        }
        if self.tiler.size().is_multiple_of(TILE_WIDTH.into()) {
            for (tile, bytes) in self.tiler.filled() {
                self.full.insert((tile.level(), tile.index()), Arc::new(*bytes));
            }
        }
    }

    /// What a checkpoint is to be signed over; `None` if none may be.
    pub(crate) fn frontier(&self) -> Option<Frontier> {
        (!self.broken).then(|| self.tiler.frontier().clone())
    }

    /// A tile, or a later state of it, if it is in memory.
    pub(crate) fn tile(&self, tile: TileId) -> Option<Vec<u8>> {
        if let Some(bytes) = self.full.get(&(tile.level(), tile.index())) {
            return Some(bytes.to_vec());
        }
        self.tiler.partial(tile).map(<[u8]>::to_vec)
    }

    /// Full tiles, all of whose leaves lie below `end`, that are not on disk; `most`
    /// of them, in the order in which they filled, so that none is on disk without
    /// those before it.
    pub(crate) fn unstored(&self, end: u64, most: usize) -> Vec<NewTile> {
        let tiles = self.full.iter().filter_map(|((level, index), bytes)| {
            let tile = TileId::new(*level, *index, TILE_WIDTH)?;
            (tile.leaves().end <= end).then(|| (tile, Arc::clone(bytes)))
        });
        let mut tiles: Vec<_> = tiles.collect();
        tiles.sort_unstable_by_key(|(tile, _)| (tile.leaves().end, tile.level()));
        tiles.truncate(most);
        tiles
    }

    /// Number of full tiles in memory.
    pub(crate) fn pending(&self) -> usize {
        self.full.len()
    }

    /// Forgets tiles that are on disk.
    pub(crate) fn stored(&mut self, tiles: &[NewTile]) {
        for (tile, _) in tiles {
            self.full.remove(&(tile.level(), tile.index()));
        }
    }

    /// Forgets all full tiles although they aren't on disk: leaves or records can give them again.
    pub(crate) fn give_up(&mut self) {
        let full = std::mem::take(&mut self.full);
        let tiles = full
            .keys()
            .filter_map(|(level, index)| TileId::new(*level, *index, TILE_WIDTH));
        // A tile of a higher level is made again by the last one below it.
        let Some(first) = tiles.map(|tile| tile.leaves().end - u64::from(TILE_WIDTH)).min() else {
            return;
        };
        let start = if self.lost.is_empty() {
            first
        } else {
            first.min(self.lost.start)
        };
        self.lost = start..self.size();
    }

    /// From which leaf on tiles that end below `end` are to be made again; a multiple of a tile's width.
    pub(crate) fn lost_below(&self, end: u64) -> Option<u64> {
        let first = self.lost.start;
        (!self.lost.is_empty() && first + u64::from(TILE_WIDTH) <= end).then_some(first)
    }

    /// All tiles that end below `end` are there, or never will be.
    pub(crate) fn made_again(&mut self, end: u64) {
        let width = u64::from(TILE_WIDTH);
        self.lost.start = self.lost.start.max(end / width * width);
    }
}
