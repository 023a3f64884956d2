//! From leaves to tiles.

use std::fmt;

use crate::frontier::{AppendError, Frontier};
use crate::tile::{TILE_BYTES, TILE_HEIGHT, TILE_LEVELS, TILE_WIDTH, TileId, perfect_root};
use crate::tile_nodes::{TileError, TileNodes, TileReader};
use crate::tree::{HASH, Hash, TreeHead, subtrees};

/// A [`Frontier`] that makes tiles as well: 66 KiB, whatever the tree's size.
///
/// A push costs what the frontier's costs, and a copy of 32 bytes. After each,
/// [`filled`](Self::filled) has the tiles that it completed: one every 256
/// leaves, two every 65,536, and so on.
#[derive(Clone)]
pub struct Tiler {
    frontier: Frontier,
    /// The newest tile of each level; how much of it counts follows from the size.
    tiles: Box<[[u8; TILE_BYTES]]>,
    /// Tiles that begin below this leaf have hashes that nobody gave, so they are not shown.
    known: u64,
    /// Lowest level of tiles that the last push reached.
    low: u8,
}

impl Tiler {
    /// The empty tree.
    pub fn new() -> Self {
        Self {
            frontier: Frontier::new(),
            tiles: vec![[0; TILE_BYTES]; TILE_LEVELS.into()].into_boxed_slice(),
            known: 0,
            low: 0,
        }
    }

    /// The tree of `size` leaves, from its newest tile of each level: at most
    /// eight, and full tiles of the level below where the reader has no
    /// partial one. There is no checksum: compare [`head`](Self::head) with a
    /// checkpoint.
    ///
    /// # Errors
    /// A tile can't be read, is missing or too short.
    pub fn resume<R: TileReader>(size: u64, tiles: &mut R) -> Result<Self, TileError<R::Error>> {
        let mut tiler = Self::new();
        let mut reader = TileNodes::new(tiles, size)?;
        for level in 0..TILE_LEVELS {
            if let Some(tile) = newest(level, size) {
                let bytes = reader.tile(tile)?;
                tiler.tiles[usize::from(level)][..tile.bytes()].copy_from_slice(&bytes[..tile.bytes()]);
            }
        }
        let hashes = subtrees(0, size).filter_map(|node| {
            let (tile, range) = TileId::of(node, size)?;
            let (hashes, _) = tiler.tiles[usize::from(tile.level())].as_chunks::<HASH>();
            Some(perfect_root(&hashes[range]))
        });
        let hashes: Vec<_> = hashes.collect();
        // The numbers agree by construction.
        tiler.frontier = Frontier::from_subtrees(size, hashes.into_iter()).unwrap_or_default();
        Ok(tiler)
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Hash over all leaves; at most 63 node hashes.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        self.frontier.head()
    }

    /// The same tree without tiles.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Appends a leaf by its hash.
    ///
    /// # Errors
    /// [`AppendError::Full`] at [`MAX_SIZE`](crate::MAX_SIZE) leaves.
    pub fn push(&mut self, leaf: Hash) -> Result<(), AppendError> {
        self.push_subtree(0, leaf)
    }

    /// Appends a perfect subtree of `2^level` leaves, of which only the hash
    /// is known. Tiles within it are never given. If `level` is no multiple of
    /// [`TILE_HEIGHT`](crate::TILE_HEIGHT), those that begin before its end
    /// aren't either, since a hash of them is unknown.
    ///
    /// # Errors
    /// The tree is full, or its size is no multiple of `2^level`.
    pub fn push_subtree(&mut self, level: u8, hash: Hash) -> Result<(), AppendError> {
        let size = self.frontier.size();
        if level > 63 {
            return Err(AppendError::Full);
        }
        if !size.is_multiple_of(1 << level) {
            return Err(AppendError::Unaligned { level, size });
        }
        let tiles = &mut self.tiles;
        // Every eighth level of the tree is one of tiles, and the frontier makes its nodes anyway.
        let mut put = |level: u8, hash: &Hash| {
            let at = (size >> (TILE_HEIGHT * level)) as usize % usize::from(TILE_WIDTH) * HASH;
            tiles[usize::from(level)][at..at + HASH].copy_from_slice(hash.as_bytes());
        };
        self.frontier.add(level, hash, |level, hash| {
            if level % TILE_HEIGHT == 0 {
                put(level / TILE_HEIGHT, hash);
            }
        })?;
        self.low = level / TILE_HEIGHT;
        if level.is_multiple_of(TILE_HEIGHT) {
            put(self.low, &hash);
        } else {
            self.known = self.frontier.size();
        }
        Ok(())
    }

    /// Whether all hashes of a tile were given.
    fn is_known(&self, tile: TileId) -> bool {
        tile.leaves().start >= self.known
    }

    /// The full tiles that the last push completed, lowest level first. They
    /// are gone with the next push.
    pub fn filled(&self) -> impl Iterator<Item = (TileId, &[u8; TILE_BYTES])> {
        let size = self.size();
        let levels = size.trailing_zeros() / u32::from(TILE_HEIGHT);
        let levels = if size == 0 { 0 } else { levels };
        let levels = (0..levels as u8).zip(&self.tiles).skip(self.low.into());
        levels.filter_map(move |(level, bytes)| {
            let index = (size >> (TILE_HEIGHT * (level + 1))) - 1;
            let tile = TileId::new(level, index, TILE_WIDTH)?;
            self.is_known(tile).then_some((tile, bytes))
        })
    }

    /// The partial tiles of the tree as it is, lowest level first: what has to
    /// be there beside the full ones for a checkpoint of this size.
    pub fn partials(&self) -> impl Iterator<Item = (TileId, &[u8])> {
        let size = self.size();
        (0..TILE_LEVELS).zip(&self.tiles).filter_map(move |(level, bytes)| {
            let tile = newest(level, size)?;
            self.is_known(tile).then(|| (tile, &bytes[..tile.bytes()]))
        })
    }

    /// A partial tile of this tree or of an earlier size of it; `None` if that
    /// tile is full by now (and so was given by [`filled`](Self::filled)), or not begun.
    pub fn partial(&self, tile: TileId) -> Option<&[u8]> {
        let newest = newest(tile.level(), self.size())?;
        let held = newest.index() == tile.index() && tile.width() <= newest.width() && self.is_known(tile);
        held.then(|| &self.tiles[usize::from(tile.level())][..tile.bytes()])
    }
}

/// The partial tile of a level, if there is one.
fn newest(level: u8, size: u64) -> Option<TileId> {
    let index = size
        .checked_shr(u32::from(TILE_HEIGHT) * (u32::from(level) + 1))
        .unwrap_or(0);
    TileId::within(level, index, size)
}

impl Default for Tiler {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiler")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}
