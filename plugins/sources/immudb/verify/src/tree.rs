//! The tree that grows: all that appending and its root need.

use crate::hash::{EMPTY, Hash, LeafIndex, TreeSize, node_hash};
use crate::merkle::length;
use crate::part::Part;
use crate::reason::Reason;

/// A Merkle tree kept as the roots of the perfect subtrees that it consists
/// of: at most 64 hashes, whatever its size.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree {
    size: u64,
    /// Largest subtree first: one for each bit of `size`.
    peaks: Vec<Hash>,
}

impl Tree {
    /// The tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree from what [`peaks`](Self::peaks) gave.
    ///
    /// # Errors
    /// There is not one peak for each bit of `size`.
    pub fn from_peaks(size: TreeSize, peaks: &[Hash]) -> Result<Self, Reason> {
        length(Part::Peaks, size.0.count_ones().into(), peaks)?;
        Ok(Self {
            size: size.0,
            peaks: peaks.to_vec(),
        })
    }

    /// Number of leaves.
    pub fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// Place of the next leaf.
    pub fn next(&self) -> LeafIndex {
        LeafIndex(self.size)
    }

    /// Roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf; one node hash on average. A tree of 2^64 - 1 leaves stays as it is.
    pub fn push(&mut self, leaf: Hash) {
        let Some(size) = self.size.checked_add(1) else {
            return;
        };
        let mut node = leaf;
        for _ in 0..size.trailing_zeros() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size = size;
    }

    /// Hash over all leaves; at most 63 node hashes. Without leaves the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return EMPTY;
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}
