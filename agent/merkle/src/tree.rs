//! Hashes, heads and nodes of the tree.
//!
//! Source of all hashing: RFC 6962 §2.1, with SHA-256.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::text;

/// Most leaves that a tree can have.
pub const MAX_SIZE: u64 = 1 << 63;

/// Bytes of a hash.
pub const HASH: usize = 32;

/// Root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// Hash of a leaf, of an inner node, or of the whole tree. Shown in base64, as
/// in checkpoints and proofs.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Hash([u8; HASH]);

impl Hash {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; HASH] {
        &self.0
    }

    /// Reads 44 characters of standard base64; `None` for anything else.
    pub fn from_base64(text: &str) -> Option<Self> {
        text::base64_array(text).map(Self)
    }
}

impl From<[u8; HASH]> for Hash {
    fn from(bytes: [u8; HASH]) -> Self {
        Self(bytes)
    }
}

impl From<Hash> for [u8; HASH] {
    fn from(hash: Hash) -> Self {
        hash.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::to_base64(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Hash of a leaf's bytes: SHA-256 of `0x00 ‖ leaf`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(leaf).finalize().into())
}

/// Hash of the node above two others: SHA-256 of `0x01 ‖ left ‖ right`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One update is cheaper than three, and this is most of what a push costs.
    let mut input = [1; 1 + 2 * HASH];
    input[1..=HASH].copy_from_slice(&left.0);
    input[1 + HASH..].copy_from_slice(&right.0);
    Hash(Sha256::digest(input).into())
}

/// Size and root of a tree: all that a signature over it says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// Hash over all of them.
    pub root: Hash,
}

/// A perfect subtree: node `index`, from 0 at the left, of `level`, 0 being the leaves.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NodeId {
    pub(crate) level: u8,
    pub(crate) index: u64,
}

impl NodeId {
    /// A node, `None` if it reaches beyond [`MAX_SIZE`] leaves.
    pub fn new(level: u8, index: u64) -> Option<Self> {
        (level < 64 && index < MAX_SIZE >> level).then_some(Self { level, index })
    }

    /// Height above the leaves, 0–63.
    pub fn level(self) -> u8 {
        self.level
    }

    /// Place in its level.
    pub fn index(self) -> u64 {
        self.index
    }

    /// The leaves below it.
    pub fn leaves(self) -> std::ops::Range<u64> {
        self.index << self.level..(self.index + 1) << self.level
    }
}

/// The fewest perfect subtrees that make up the leaves `begin..end`, from left
/// to right; at most 126. None if `end` is above [`MAX_SIZE`].
pub fn subtrees(begin: u64, end: u64) -> impl Iterator<Item = NodeId> {
    let mut at = begin;
    std::iter::from_fn(move || {
        if at >= end || end > MAX_SIZE {
            return None;
        }
        // As large as its place and what is left allow.
        let level = at.trailing_zeros().min((end - at).ilog2());
        let node = NodeId {
            level: level as u8,
            index: at >> level,
        };
        at += 1 << level;
        Some(node)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_end_where_the_largest_tree_does() {
        assert_eq!(NodeId::new(63, 0).unwrap().leaves(), 0..MAX_SIZE);
        assert_eq!(NodeId::new(0, MAX_SIZE - 1).unwrap().leaves(), MAX_SIZE - 1..MAX_SIZE);
        assert_eq!(NodeId::new(63, 1), None);
        assert_eq!(NodeId::new(64, 0), None);
        assert_eq!(NodeId::new(0, MAX_SIZE), None);
    }

    #[test]
    fn subtrees_cover_a_range_once_and_none_can_grow() {
        for begin in 0..70 {
            for end in begin..140 {
                let nodes: Vec<_> = subtrees(begin, end).collect();
                let mut at = begin;
                for node in &nodes {
                    assert_eq!(node.leaves().start, at);
                    at = node.leaves().end;
                    let parent = NodeId::new(node.level() + 1, node.index() / 2).unwrap().leaves();
                    assert!(parent.start < begin || parent.end > end, "{node:?} in {begin}..{end}");
                }
                assert_eq!(at, end);
            }
        }
        assert_eq!(subtrees(1, MAX_SIZE - 1).count(), 2 * 62);
        assert_eq!(subtrees(0, MAX_SIZE).count(), 1);
        assert_eq!(subtrees(0, MAX_SIZE + 1).count(), 0);
    }
}
