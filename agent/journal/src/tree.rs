//! The Merkle tree over the records that are on disk.

use std::collections::BTreeMap;

use auditmon_merkle::{Frontier, Hash, TILE_BYTES, TILE_WIDTH, TileId, Tiler};

mod store;

pub(crate) use store::{read as read_tile, write as write_tiles};

/// A full tile that is not on disk yet.
pub(crate) type NewTile = (TileId, Box<[u8; TILE_BYTES]>);

/// The tree as far as records are on disk, with what of its tiles isn't.
///
/// Its newest tiles and those of segments that are not sealed live in memory:
/// 32 bytes a record, 8 MiB for a segment of 64 MiB with records of 256 bytes.
pub(crate) struct Tree {
    tiler: Tiler,
    /// Full tiles by level and index.
    full: BTreeMap<(u8, u64), Box<[u8; TILE_BYTES]>>,
    /// A leaf is missing, or is another one than a checkpoint says: nothing is
    /// appended or signed any more.
    broken: bool,
}

impl Tree {
    /// The tree of `tiler`; its full tiles are on disk.
    pub(crate) fn new(tiler: Tiler) -> Self {
        Self {
            tiler,
            full: BTreeMap::new(),
            broken: false,
        }
    }

    /// Records covered.
    pub(crate) fn size(&self) -> u64 {
        self.tiler.size()
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
                self.full.insert((tile.level(), tile.index()), Box::new(*bytes));
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

    /// The full tiles, all of whose leaves lie below `end`, that are not on disk.
    pub(crate) fn unstored(&self, end: u64) -> Vec<NewTile> {
        let tiles = self.full.iter().filter_map(|((level, index), bytes)| {
            let tile = TileId::new(*level, *index, TILE_WIDTH)?;
            (tile.leaves().end <= end).then(|| (tile, bytes.clone()))
        });
        tiles.collect()
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
}
