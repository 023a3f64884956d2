//! Tiles: runs of 256 hashes of one level, as files that never change.
//!
//! Source: C2SP tlog-tiles, "Merkle Tree" and "Partial Tiles".

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text;
use crate::tree::{HASH, Hash, MAX_SIZE, NodeId, node_hash};

/// Levels of the tree in one tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile.
pub const TILE_WIDTH: u16 = 1 << TILE_HEIGHT;
/// Bytes of a full tile.
pub const TILE_BYTES: usize = TILE_WIDTH as usize * HASH;
/// Levels of tiles that a tree of [`MAX_SIZE`] leaves has.
pub const TILE_LEVELS: u8 = 8;

/// A text that is no tile's path.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
#[error("not the path of a tile, such as `tile/0/x001/234` or `tile/1/000.p/17`")]
pub struct PathError;

/// Which tile: its level, its place in the level, and how many hashes it has.
///
/// Hash `i` of tile `n` on level `l` is the node `n·256 + i` on level `8·l` of
/// the tree. As text it is its path: `tile/0/x001/234`, `tile/1/000.p/17`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

impl TileId {
    /// A tile of `width` hashes, 1–256; `None` if a tree of [`MAX_SIZE`] leaves has no such tile.
    pub fn new(level: u8, index: u64, width: u16) -> Option<Self> {
        if level >= TILE_LEVELS || !(1..=TILE_WIDTH).contains(&width) {
            return None;
        }
        let hashes = index.checked_mul(TILE_WIDTH.into())?.checked_add(width.into())?;
        (hashes <= hashes_on(level, MAX_SIZE)).then_some(Self { level, index, width })
    }

    /// The tile as it is in a tree of `size` leaves, full or partial; `None`
    /// if that tree has no hash of it, or is larger than [`MAX_SIZE`].
    pub fn within(level: u8, index: u64, size: u64) -> Option<Self> {
        if level >= TILE_LEVELS || size > MAX_SIZE {
            return None;
        }
        let before = index.checked_mul(TILE_WIDTH.into())?;
        let width = hashes_on(level, size).checked_sub(before)?.min(TILE_WIDTH.into());
        Self::new(level, index, width as u16)
    }

    /// The tile that holds what a node is made of, and where in it: the node
    /// is the root of the tile's hashes in the range.
    pub(crate) fn of(node: NodeId, size: u64) -> Option<(Self, std::ops::Range<usize>)> {
        let level = node.level() / TILE_HEIGHT;
        let height = node.level() % TILE_HEIGHT;
        let first = node.index() << height;
        let tile = Self::within(level, first / u64::from(TILE_WIDTH), size)?;
        let begin = (first % u64::from(TILE_WIDTH)) as usize;
        let end = begin + (1 << height);
        (end <= usize::from(tile.width)).then_some((tile, begin..end))
    }

    /// Level of tiles, 0–7; 0 holds hashes of leaves.
    pub fn level(self) -> u8 {
        self.level
    }

    /// Place in its level.
    pub fn index(self) -> u64 {
        self.index
    }

    /// Hashes, 1–256.
    pub fn width(self) -> u16 {
        self.width
    }

    /// Whether it has all of its 256 hashes and will never grow.
    pub fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Length in bytes.
    pub fn bytes(self) -> usize {
        usize::from(self.width) * HASH
    }

    /// The leaves below it.
    pub fn leaves(self) -> std::ops::Range<u64> {
        let shift = self.level * TILE_HEIGHT;
        let first = self.index * u64::from(TILE_WIDTH);
        first << shift..(first + u64::from(self.width)) << shift
    }

    /// The full tiles of the level below whose roots are this one's hashes; none below level 0.
    pub(crate) fn below(self) -> impl Iterator<Item = Self> {
        let first = self.index * u64::from(TILE_WIDTH);
        let indices = first..first + u64::from(self.width);
        let level = self.level.checked_sub(1);
        indices.filter_map(move |index| Self::new(level?, index, TILE_WIDTH))
    }
}

/// Hashes that a tree of `size` leaves has on a level of tiles below [`TILE_LEVELS`].
fn hashes_on(level: u8, size: u64) -> u64 {
    size >> (level * TILE_HEIGHT)
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        // Groups of three digits, the highest first.
        let mut unit = 1;
        while self.index / unit >= 1000 {
            unit *= 1000;
        }
        while unit > 1 {
            write!(f, "x{:03}/", self.index / unit % 1000)?;
            unit /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TileId {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        let parse = || {
            let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
            let level = text::decimal(level)?.try_into().ok()?;
            let (number, width) = match rest.split_once(".p/") {
                Some((number, width)) => (number, text::decimal(width)?.try_into().ok()?),
                None => (rest, TILE_WIDTH),
            };
            let (above, last) = number.rsplit_once('/').unwrap_or(("", number));
            let mut index = 0_u64;
            for group in above.split_terminator('/') {
                index = push_group(index, group.strip_prefix('x')?)?;
            }
            Self::new(level, push_group(index, last)?, width)
        };
        // Other spellings of the same tile are no paths.
        parse().filter(|tile| tile.to_string() == path).ok_or(PathError)
    }
}

/// A number with three more digits.
fn push_group(number: u64, digits: &str) -> Option<u64> {
    if digits.len() != 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    number.checked_mul(1000)?.checked_add(digits.parse().ok()?)
}

/// The root of a perfect subtree, given the hashes on one of its levels: 1, 2, 4, … of them.
pub(crate) fn perfect_root(hashes: &[[u8; HASH]]) -> Hash {
    debug_assert!(hashes.len().is_power_of_two(), "{} hashes", hashes.len());
    match hashes {
        [hash] => Hash::from(*hash),
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&perfect_root(left), &perfect_root(right))
        }
    }
}

/// The hash that a full tile becomes on the level above; `None` if it isn't [`TILE_BYTES`] long.
pub fn full_tile_root(tile: &[u8]) -> Option<Hash> {
    let (hashes, []) = tile.as_chunks::<HASH>() else {
        return None;
    };
    (hashes.len() == usize::from(TILE_WIDTH)).then(|| perfect_root(hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths and tiles named in C2SP tlog-tiles.
    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = TileId::new(0, 1_234_067, 256).unwrap();
        assert_eq!(tile.to_string(), "tile/0/x001/x234/067");
        let tree = 70_000;
        let path = |level, index| TileId::within(level, index, tree).map(|tile| tile.to_string());
        assert_eq!(path(0, 272).as_deref(), Some("tile/0/272"));
        assert_eq!(path(0, 273).as_deref(), Some("tile/0/273.p/112"));
        assert_eq!(path(0, 274), None);
        assert_eq!(path(1, 0).as_deref(), Some("tile/1/000"));
        assert_eq!(path(1, 1).as_deref(), Some("tile/1/001.p/17"));
        assert_eq!(path(2, 0).as_deref(), Some("tile/2/000.p/1"));
        assert_eq!(path(3, 0), None);
        assert_eq!(TileId::within(1, 0, 256).unwrap().to_string(), "tile/1/000.p/1");
        assert_eq!(TileId::within(0, 1, 256), None);
    }

    #[test]
    fn a_tile_has_one_path() {
        for path in [
            "tile/0/000",
            "tile/0/999.p/1",
            "tile/0/x001/000",
            "tile/0/x001/x234/067.p/255",
            "tile/7/000.p/128",
            "tile/0/x036/x028/x797/x018/x963/967",
        ] {
            assert_eq!(path.parse::<TileId>().unwrap().to_string(), path);
        }
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/-1/000",
            "tile/0/x000/000",
            "tile/0/x000/001",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0//000",
            "tile/0/x001//000",
            "tile/0/xx01/000",
            "tile/0/+01",
            "tile/0/000.p/0",
            "tile/0/000.p/00",
            "tile/0/000.p/01",
            "tile/0/000.p/256",
            "tile/0/000.p/65537",
            "tile/0/000.p/",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/0/000/",
            "tile/0/../000",
            "tile/7/000.p/129",
            "tile/7/000",
            "tile/8/000.p/1",
            "tile/256/000",
            "tile/0/x036/x028/x797/x018/x963/968",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/entries/000",
        ] {
            assert_eq!(path.parse::<TileId>(), Err(PathError), "{path}");
        }
    }

    #[test]
    fn the_largest_tree_has_its_last_tiles() {
        for level in 0..TILE_LEVELS {
            let last = (MAX_SIZE >> (8 * level)).div_ceil(256) - 1;
            let tile = TileId::within(level, last, MAX_SIZE).unwrap();
            assert_eq!(tile.leaves().end, MAX_SIZE);
            assert_eq!(TileId::within(level, last + 1, MAX_SIZE), None);
            assert_eq!(TileId::within(level, 0, MAX_SIZE + 1), None);
        }
        for level in [0, 7, 8, 255] {
            assert_eq!(TileId::new(level, u64::MAX, 1), None);
            assert_eq!(TileId::within(level, u64::MAX, u64::MAX), None);
        }
    }
}
