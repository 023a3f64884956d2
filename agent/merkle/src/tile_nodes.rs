//! Nodes of the tree read from tiles.

use thiserror::Error;

use crate::prove::NodeReader;
use crate::tile::{TILE_BYTES, TileId, full_tile_root, perfect_root};
use crate::tree::{HASH, Hash, MAX_SIZE, NodeId};

/// Two tiles a level are what one proof needs: 128 KiB.
const KEPT: usize = 16;

/// Where tiles are read: a directory, a server, memory.
pub trait TileReader {
    /// Why a tile could not be read.
    type Error: std::error::Error + 'static;

    /// The bytes of a tile, or of a later state of it, which begins with them;
    /// `None` if it isn't there. A tile above level 0, a partial one above all,
    /// need not be there as long as the full tiles below it are. What is longer
    /// than [`TILE_BYTES`] is refused, so nobody has to read further.
    ///
    /// # Errors
    /// It is there and can't be read.
    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Self::Error>;
}

impl<T: TileReader + ?Sized> TileReader for &mut T {
    type Error = T::Error;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Self::Error> {
        (**self).read(tile)
    }
}

/// Why tiles don't give what a tree of that size must have.
#[derive(Debug, Error)]
pub enum TileError<E: std::error::Error + 'static> {
    /// More than [`MAX_SIZE`] leaves.
    #[error("a tree of {size} leaves is larger than 2^63")]
    Size {
        /// Leaves.
        size: u64,
    },
    /// The node reaches beyond the tree.
    #[error("leaf {leaf} is not in a tree of {size} leaves")]
    Beyond {
        /// Last leaf of the node.
        leaf: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The reader failed.
    #[error("`{tile}` can't be read")]
    Read {
        /// The tile.
        tile: TileId,
        /// The reader's reason.
        source: E,
    },
    /// The tile isn't there, and can't be made from those below.
    #[error("`{tile}` is missing")]
    Missing {
        /// The tile.
        tile: TileId,
    },
    /// Fewer bytes than the tile's width asks for, more than a full tile has, or part of a hash.
    #[error("`{tile}` has {bytes} bytes, it must have {}", tile.bytes())]
    Length {
        /// The tile.
        tile: TileId,
        /// Bytes that it has.
        bytes: usize,
    },
}

/// Nodes of a tree of `size` leaves, read from its tiles. Keeps the last 16
/// tiles, so that a proof reads each tile once.
#[derive(Debug)]
pub struct TileNodes<R> {
    reader: R,
    size: u64,
    /// The newest is the last.
    kept: Vec<(TileId, Vec<u8>)>,
}

impl<R: TileReader> TileNodes<R> {
    /// Reads the tiles of a tree of `size` leaves. Proofs for smaller trees can be made from it too.
    ///
    /// # Errors
    /// A size above [`MAX_SIZE`].
    pub fn new(reader: R, size: u64) -> Result<Self, TileError<R::Error>> {
        if size > MAX_SIZE {
            return Err(TileError::Size { size });
        }
        Ok(Self {
            reader,
            size,
            kept: Vec::new(),
        })
    }

    /// A tile's bytes, at least as many as its width asks for.
    pub(crate) fn tile(&mut self, tile: TileId) -> Result<&[u8], TileError<R::Error>> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == tile) {
            return Ok(&self.kept[at].1);
        }
        let bytes = self.read_or_made(tile)?;
        if self.kept.len() >= KEPT {
            self.kept.remove(0);
        }
        self.kept.push((tile, bytes));
        Ok(self.kept.last().map_or(&[], |(_, bytes)| bytes))
    }

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, TileError<R::Error>> {
        let read = self
            .reader
            .read(tile)
            .map_err(|source| TileError::Read { tile, source })?;
        match read {
            Some(bytes) if !(tile.bytes()..=TILE_BYTES).contains(&bytes.len()) || bytes.len() % HASH != 0 => {
                Err(TileError::Length {
                    tile,
                    bytes: bytes.len(),
                })
            }
            read => Ok(read),
        }
    }

    /// A tile as it is read; if it isn't there, made of the full ones below it, which may be made of those below them.
    /// The first tile of level 0 that isn't there ends it, so it takes no more than what is there.
    fn read_or_made(&mut self, tile: TileId) -> Result<Vec<u8>, TileError<R::Error>> {
        if let Some(bytes) = self.read(tile)? {
            return Ok(bytes);
        }
        if tile.level() == 0 {
            return Err(TileError::Missing { tile });
        }
        let mut bytes = Vec::with_capacity(tile.bytes());
        for below in tile.below() {
            let full = full_tile_root(&self.read_or_made(below)?);
            let root = full.ok_or(TileError::Missing { tile: below })?;
            bytes.extend_from_slice(root.as_bytes());
        }
        Ok(bytes)
    }
}

impl<R: TileReader> NodeReader for TileNodes<R> {
    type Error = TileError<R::Error>;

    fn node(&mut self, node: NodeId) -> Result<Hash, Self::Error> {
        let beyond = TileError::Beyond {
            leaf: node.leaves().end - 1,
            size: self.size,
        };
        let (tile, range) = TileId::of(node, self.size).ok_or(beyond)?;
        let (hashes, _) = self.tile(tile)?.as_chunks::<HASH>();
        let hashes = hashes.get(range).ok_or(TileError::Missing { tile })?;
        Ok(perfect_root(hashes))
    }
}
