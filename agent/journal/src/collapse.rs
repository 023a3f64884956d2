//! Collapse: of the oldest leaves only hashes over many of them stay.
//!
//! A segment whose payloads have gone is collapsed by itself, into a `.sub` of
//! its own: whatever a crash leaves of the two files is right, and a checkpoint
//! that ends a segment can be compared ever after. Then the tiles go that no
//! proof of a later record needs. The hashes of a tile's own tiles live in the
//! one above it; so it stays until that one is full and on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range as Leaves;

use auditmon_merkle::{HASH, Hash, NodeId, Range, TILE_LEVELS, TILE_WIDTH, TileId, Tiler, subtrees};

use crate::format::{LEAF, leaf_hash};
use crate::fs::{Fs, read_full_at, read_small, replace};
use crate::layout::Layout;
use crate::shared::Shared;
use crate::tree::read_tile;

/// Leaves read at once.
const PIECE: usize = 1024;
/// Segments collapsed by one call.
const AT_ONCE: usize = 16;
/// First and last record.
const HEAD: usize = 16;
/// Most bytes of a file: a range has at most 126 subtrees.
const MOST: usize = HEAD + 126 * HASH;
/// Bytes that a file takes of a volume.
const BLOCK: u64 = 4096;
/// Levels whose tiles may go; those of the last have none above them.
const LEVELS: usize = TILE_LEVELS as usize - 1;

/// What of the leaves has been collapsed.
#[derive(Default)]
pub(crate) struct Collapsed {
    /// Behind the last record of each run of collapsed segments, by its first.
    runs: BTreeMap<u64, u64>,
    files: u64,
    /// Of each level of tiles, the first that hasn't gone.
    tiles: [u64; LEVELS],
    /// Segments whose leaves aren't those of the tree, so that no hash may take their place.
    unfit: BTreeSet<u64>,
    running: bool,
}

impl Collapsed {
    fn insert(&mut self, first: u64, end: u64) {
        let before = self.runs.range(..=first).next_back();
        let (begin, former) = before
            .filter(|(_, end)| **end >= first)
            .map_or((first, end), |(begin, end)| (*begin, *end));
        let mut end = end.max(former);
        while let Some((next, behind)) = self.runs.range(begin + 1..=end).next().map(|(a, b)| (*a, *b)) {
            end = end.max(behind);
            self.runs.remove(&next);
        }
        self.runs.insert(begin, end);
        self.files += 1;
    }

    fn covers(&self, leaves: &Leaves<u64>) -> bool {
        let run = self.runs.range(..=leaves.start).next_back();
        run.is_some_and(|(_, end)| *end >= leaves.end)
    }

    /// Behind the last record of the last run.
    pub(crate) fn end(&self) -> u64 {
        self.runs.values().next_back().copied().unwrap_or(0)
    }

    /// Bytes of its files, and of the full tiles of a tree that is on disk up to `sealed`.
    pub(crate) fn bytes(&self, sealed: u64) -> u64 {
        let tiles = (0..TILE_LEVELS).map(|level| {
            let gone = self.tiles.get(usize::from(level)).copied().unwrap_or(0);
            full(level, sealed).saturating_sub(gone)
        });
        let tile = u64::from(TILE_WIDTH) * HASH as u64;
        tiles.sum::<u64>().saturating_mul(tile) + self.files * BLOCK
    }
}

/// Full tiles of a level in a tree of this size.
fn full(level: u8, size: u64) -> u64 {
    size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0)
}

/// Reads which segments are collapsed; returns the seq behind the last one.
pub(crate) fn load(shared: &Shared, firsts: &[u64]) -> u64 {
    let mut collapsed = shared.collapsed.lock();
    for first in firsts {
        // What is no such file counts for nothing; `verify` names it.
        if let Some((leaves, _)) = read(&*shared.fs, &shared.layout, *first) {
            collapsed.insert(leaves.start, leaves.end);
        }
    }
    let end = collapsed.end();
    for level in 0..LEVELS {
        let there = |index: u64| {
            let tile = TileId::new(level as u8, index, TILE_WIDTH);
            tile.is_none_or(|tile| shared.fs.open_read(&shared.layout.tile(tile)).is_ok())
        };
        // They go from the first on.
        let (mut low, mut high) = (0, full(level as u8, end));
        while low < high {
            let middle = low + (high - low) / 2;
            if there(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        collapsed.tiles[level] = low;
    }
    end
}

/// Records, and the hashes over them.
pub(crate) type Sub = (Leaves<u64>, Vec<(NodeId, Hash)>);

/// The records that a `.sub` stands for, of which `first` is the first, with the hashes over them from left to right;
/// `None` if it is none.
pub(crate) fn read(fs: &dyn Fs, layout: &Layout, first: u64) -> Option<Sub> {
    let bytes = read_small(fs, &layout.sub(first), MOST + 1).ok()?;
    let (begin, rest) = bytes.split_first_chunk()?;
    let (last, rest) = rest.split_first_chunk()?;
    let (begin, last) = (u64::from_be_bytes(*begin), u64::from_be_bytes(*last));
    if begin != first || last < first || last >= 1 << 62 {
        return None;
    }
    let nodes: Vec<NodeId> = subtrees(begin, last + 1).collect();
    let (hashes, []) = rest.as_chunks::<HASH>() else {
        return None;
    };
    let hashes = hashes.iter().map(|hash| Hash::from(*hash));
    (hashes.len() == nodes.len()).then(|| (begin..last + 1, nodes.into_iter().zip(hashes).collect()))
}

/// The tree over the collapsed records, where its tiles don't give it: at most
/// `end` records, or none if there are more, or another begins it.
pub(crate) fn resume(shared: &Shared, end: u64) -> Tiler {
    let mut tree = Tiler::new();
    let mut firsts: Vec<u64> = Vec::new();
    for name in shared.fs.list(&shared.layout.seg_dir()).unwrap_or_default() {
        if let Some(crate::layout::SegFile::Sub(first)) = Layout::parse_seg(&name) {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    for first in firsts {
        let Some((_, nodes)) = read(&*shared.fs, &shared.layout, first).filter(|_| first == tree.size()) else {
            break;
        };
        for (node, hash) in nodes {
            if tree.push_subtree(node.level(), hash).is_err() {
                return Tiler::new();
            }
        }
    }
    // What is signed lies before: it could not be compared.
    if tree.size() > end { Tiler::new() } else { tree }
}

/// Whether a tile that a checkpoint covers has gone for good.
pub(crate) fn is_gone(shared: &Shared, tile: TileId) -> bool {
    TileId::new(tile.level(), tile.index(), TILE_WIDTH)
        .is_some_and(|full| shared.collapsed.lock().covers(&full.leaves()))
}

/// A segment that may be collapsed.
struct Candidate {
    first: u64,
    end: u64,
}

/// The oldest whose payloads have gone, if what comes behind it can do without its leaves.
fn candidate(shared: &Shared) -> Option<Candidate> {
    let signed = shared.checkpoint()?.size;
    let payload = shared.oldest_payload();
    let collapsed = shared.collapsed.lock();
    let leaves = shared.leaves.read();
    // The newest leaves stay: with them goes on what a start makes the tree of.
    let sealed = leaves.iter().next_back().map(|(first, count)| first + count)?;
    let mut fit = leaves.iter().filter(|(first, _)| !collapsed.unfit.contains(first));
    let (first, count) = fit.next().map(|(first, count)| (*first, *count))?;
    let end = first + count;
    // Tiles hold the hashes up to the first whole one behind it.
    let whole = end.next_multiple_of(u64::from(TILE_WIDTH));
    let fits = count > 0 && end <= payload && end < sealed && whole <= sealed.min(signed);
    fits.then_some(Candidate { first, end })
}

/// Whether [`run`] has something to do; true once until it has ended.
pub(crate) fn begin(shared: &Shared, limit: u64) -> bool {
    if shared.bytes().1 < limit || candidate(shared).is_none() {
        return false;
    }
    !std::mem::replace(&mut shared.collapsed.lock().running, true)
}

/// Collapses the oldest segments until leaves and tiles take less than `limit`
/// bytes. What can't be written is tried again when it is looked at again.
///
/// So many at a time that sealing doesn't have to wait long for its turn.
pub(crate) fn run(shared: &Shared, limit: u64) {
    for _ in 0..AT_ONCE {
        let Some(candidate) = candidate(shared).filter(|_| shared.bytes().1 >= limit) else {
            break;
        };
        if collapse(shared, &candidate).is_err() {
            break;
        }
        remove_tiles(shared);
    }
    shared.collapsed.lock().running = false;
}

fn collapse(shared: &Shared, candidate: &Candidate) -> io::Result<()> {
    let (fs, layout) = (&*shared.fs, &shared.layout);
    let Candidate { first, end } = *candidate;
    // One that retention could not remove would get its leaves again.
    gone(fs.remove(&layout.seg(first)))?;
    let found = hashes(shared, first, end);
    let Ok(Some(range)) = found else {
        // One that can't be read must not keep all behind it; a start tries again.
        shared.collapsed.lock().unfit.insert(first);
        return Ok(());
    };
    let mut bytes = Vec::with_capacity(MOST);
    bytes.extend_from_slice(&first.to_be_bytes());
    bytes.extend_from_slice(&(end - 1).to_be_bytes());
    for (_, hash) in range.subtrees() {
        bytes.extend_from_slice(hash.as_bytes());
    }
    replace(fs, &layout.seg_dir(), &Layout::sub_name(first), &bytes)?;
    shared.collapsed.lock().insert(first, end);
    shared.leaves.write().remove(&first);
    shared.spans.lock().remove(&first);
    // One that stays is found again at the next start, and collapsed again.
    gone(fs.remove(&layout.leaf(first)))
}

/// The subtrees over a segment's leaves; `None` if they aren't those of the
/// tree, or what comes behind can't do without them.
fn hashes(shared: &Shared, first: u64, end: u64) -> io::Result<Option<Range>> {
    let (fs, layout) = (&*shared.fs, &shared.layout);
    let file = fs.open_read(&layout.leaf(first))?;
    if file.size()? != (end - first) * LEAF as u64 {
        return Ok(None);
    }
    let width = u64::from(TILE_WIDTH);
    let mut tile: Option<(u64, Option<Vec<u8>>)> = None;
    let mut range = Range::new(first);
    let mut buf = vec![0; PIECE * LEAF];
    let mut seq = first;
    while seq < end {
        let part = &mut buf[..(end - seq).min(PIECE as u64) as usize * LEAF];
        if read_full_at(&*file, part, (seq - first) * LEAF as u64)? < part.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for leaf in part.as_chunks::<LEAF>().0 {
            let hash = leaf_hash(leaf);
            let index = seq / width;
            if tile.as_ref().is_none_or(|(held, _)| *held != index) {
                let id = TileId::new(0, index, TILE_WIDTH);
                let bytes = id.map(|id| read_tile(fs, layout, id)).transpose()?.flatten();
                tile = Some((index, bytes));
            }
            if let Some((_, Some(bytes))) = &tile {
                let at = (seq % width) as usize * HASH;
                if bytes.get(at..at + HASH) != Some(&hash[..]) {
                    return Ok(None);
                }
            }
            if range.push(Hash::from(hash)).is_err() {
                return Ok(None);
            }
            seq += 1;
        }
    }
    // The records behind it that share its last tile have it in their proofs.
    let needed = !end.is_multiple_of(width);
    let there = tile.is_some_and(|(_, bytes)| bytes.is_some());
    Ok((there || !needed).then_some(range))
}

/// Removes the tiles that only collapsed records needed.
fn remove_tiles(shared: &Shared) {
    let sealed = shared.sealed_end();
    for level in 0..LEVELS {
        let mut above: Option<TileId> = None;
        loop {
            let index = shared.collapsed.lock().tiles[level];
            let Some(tile) = TileId::new(level as u8, index, TILE_WIDTH) else {
                break;
            };
            {
                let collapsed = shared.collapsed.lock();
                let below = level.checked_sub(1).and_then(|below| collapsed.tiles.get(below));
                let last = (index + 1).saturating_mul(u64::from(TILE_WIDTH));
                if tile.leaves().end > collapsed.end() || below.is_some_and(|below| *below < last) {
                    break;
                }
            }
            let parent = TileId::new(level as u8 + 1, index / u64::from(TILE_WIDTH), TILE_WIDTH);
            let Some(parent) = parent.filter(|parent| parent.leaves().end <= sealed) else {
                break;
            };
            if above != Some(parent) {
                // Without it this one is what it is made of.
                let there = read_tile(&*shared.fs, &shared.layout, parent);
                if !there.is_ok_and(|bytes| bytes.is_some()) {
                    break;
                }
                above = Some(parent);
            }
            // Where leaves are missing that were never collapsed, it stands for them.
            let collapsed = shared.collapsed.lock().covers(&tile.leaves());
            if collapsed && gone(shared.fs.remove(&shared.layout.tile(tile))).is_err() {
                break;
            }
            shared.collapsed.lock().tiles[level] = index + 1;
        }
    }
}

/// A file that isn't there needs no removal.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_together() {
        let mut collapsed = Collapsed::default();
        for (first, end) in [(0, 10), (20, 30), (10, 20), (0, 10), (40, 50)] {
            collapsed.insert(first, end);
        }
        assert_eq!(Vec::from_iter(collapsed.runs.clone()), [(0, 30), (40, 50)]);
        assert!(collapsed.covers(&(5..30)) && !collapsed.covers(&(5..31)) && !collapsed.covers(&(30..41)));
        assert_eq!(collapsed.end(), 50);
    }

    #[test]
    fn tiles_count_until_they_are_gone() {
        let mut collapsed = Collapsed::default();
        assert_eq!(collapsed.bytes(256 * 300), 301 * 8192);
        collapsed.tiles[0] = 256;
        collapsed.files = 2;
        assert_eq!(collapsed.bytes(256 * 300), 45 * 8192 + 2 * 4096);
    }
}
