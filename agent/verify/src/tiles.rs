//! Full tiles as files.

use std::io;
use std::path::PathBuf;

use auditmon_merkle::{HASH, Hash, TILE_BYTES, TILE_WIDTH, TileId};

use crate::files::read;

/// The tile of level 0 that leaves are compared with.
pub(crate) struct Tiles {
    dir: PathBuf,
    index: Option<u64>,
    bytes: Option<Vec<u8>>,
}

/// A tile's file, as it is.
pub(crate) enum TileFile {
    Full(Vec<u8>),
    Missing,
    /// It has another length.
    Length(usize),
}

impl Tiles {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            index: None,
            bytes: None,
        }
    }

    /// Reads a full tile.
    pub(crate) fn read(&self, tile: TileId) -> io::Result<TileFile> {
        let path = self.dir.join(tile.to_string());
        Ok(match read(&path, TILE_BYTES as u64)? {
            None => TileFile::Missing,
            Some(bytes) if bytes.len() == TILE_BYTES => TileFile::Full(bytes),
            Some(bytes) => TileFile::Length(bytes.len()),
        })
    }

    /// What the tile says the hash of a leaf is; a tile of a wrong length is told once.
    pub(crate) fn hash(&mut self, seq: u64, wrong: &mut Option<(TileId, usize)>) -> io::Result<Option<Hash>> {
        let index = seq / u64::from(TILE_WIDTH);
        if self.index != Some(index) {
            self.index = Some(index);
            self.bytes = None;
            if let Some(tile) = TileId::new(0, index, TILE_WIDTH) {
                match self.read(tile)? {
                    TileFile::Full(bytes) => self.bytes = Some(bytes),
                    TileFile::Missing => {}
                    TileFile::Length(length) => *wrong = Some((tile, length)),
                }
            }
        }
        let at = (seq % u64::from(TILE_WIDTH)) as usize;
        let hashes = self.bytes.as_deref().map(|bytes| bytes.as_chunks::<HASH>().0);
        Ok(hashes.and_then(|hashes| hashes.get(at)).map(|hash| Hash::from(*hash)))
    }

    /// Forgets what was read: the file may be there by now.
    pub(crate) fn forget(&mut self) {
        if self.bytes.is_none() {
            self.index = None;
        }
    }
}
