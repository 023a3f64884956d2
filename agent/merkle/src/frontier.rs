//! The tree's right edge: all that appending needs.

use thiserror::Error;

use crate::tree::{EMPTY_ROOT, HASH, Hash, MAX_SIZE, NodeId, TreeHead, node_hash, subtrees};

/// Why nothing was appended; the tree is as it was before.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
pub enum AppendError {
    /// The tree would have more than [`MAX_SIZE`] leaves.
    #[error("the tree is full")]
    Full,
    /// A subtree can only stand at a multiple of its own size.
    #[error("a subtree of level {level} can't begin at leaf {size}")]
    Unaligned {
        /// Height of the subtree.
        level: u8,
        /// Leaves before it.
        size: u64,
    },
}

/// A tree that grows at its right end, kept as the hashes of the perfect
/// subtrees that it consists of: 2 KiB, whatever its size.
///
/// A push costs one [`node_hash`] on average and allocates nothing.
#[derive(Clone)]
pub struct Frontier {
    size: u64,
    /// The one of level `i` counts if bit `i` of `size` is set.
    nodes: [Hash; 64],
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Self {
        Self {
            size: 0,
            nodes: [EMPTY_ROOT; 64],
        }
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hash over all leaves; at most 63 node hashes.
    pub fn root(&self) -> Hash {
        let mut nodes = self.subtrees().rev().map(|(_, hash)| hash);
        let Some(last) = nodes.next() else {
            return EMPTY_ROOT;
        };
        nodes.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.size,
            root: self.root(),
        }
    }

    /// Appends a leaf by its hash.
    ///
    /// # Errors
    /// [`AppendError::Full`] at [`MAX_SIZE`] leaves.
    pub fn push(&mut self, leaf: Hash) -> Result<(), AppendError> {
        self.add(0, leaf, |_, _| {})
    }

    /// Appends a perfect subtree of `2^level` leaves, of which only the hash is known.
    ///
    /// # Errors
    /// The tree is full, or its size is no multiple of `2^level`.
    pub fn push_subtree(&mut self, level: u8, hash: Hash) -> Result<(), AppendError> {
        if level > 63 {
            return Err(AppendError::Full);
        }
        if !self.size.is_multiple_of(1 << level) {
            return Err(AppendError::Unaligned { level, size: self.size });
        }
        self.add(level, hash, |_, _| {})
    }

    /// The subtrees that the tree consists of, largest first.
    pub fn subtrees(&self) -> impl DoubleEndedIterator<Item = (u8, &Hash)> {
        let size = self.size;
        self.nodes
            .iter()
            .enumerate()
            .rev()
            .filter(move |(level, _)| size >> level & 1 == 1)
            .map(|(level, hash)| (level as u8, hash))
    }

    /// The size as u64, big-endian, then the hashes of the subtrees, largest first.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + HASH * self.size.count_ones() as usize);
        out.extend_from_slice(&self.size.to_be_bytes());
        for (_, hash) in self.subtrees() {
            out.extend_from_slice(hash.as_bytes());
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if the size is above
    /// [`MAX_SIZE`] or the length is not the one that the size asks for. There
    /// is no checksum: compare [`head`](Self::head) with a checkpoint.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let size = u64::from_be_bytes(*size);
        let (hashes, []) = rest.as_chunks::<HASH>() else {
            return None;
        };
        Self::from_subtrees(size, hashes.iter().map(|hash| Hash::from(*hash)))
    }

    /// A frontier from the hashes of its subtrees, largest first.
    pub(crate) fn from_subtrees(size: u64, mut hashes: impl Iterator<Item = Hash>) -> Option<Self> {
        if size > MAX_SIZE {
            return None;
        }
        let mut tree = Self { size, ..Self::new() };
        for node in subtrees(0, size) {
            tree.nodes[usize::from(node.level())] = hashes.next()?;
        }
        hashes.next().is_none().then_some(tree)
    }

    /// Appends a subtree whose place was checked; `made` is told each node
    /// above it that became complete, with its level.
    pub(crate) fn add(&mut self, level: u8, hash: Hash, mut made: impl FnMut(u8, &Hash)) -> Result<(), AppendError> {
        let size = self.size.checked_add(1 << level).filter(|size| *size <= MAX_SIZE);
        let size = size.ok_or(AppendError::Full)?;
        let mut node = hash;
        let mut at = level;
        while self.size >> at & 1 == 1 {
            node = node_hash(&self.nodes[usize::from(at)], &node);
            at += 1;
            made(at, &node);
        }
        self.nodes[usize::from(at)] = node;
        self.size = size;
        Ok(())
    }
}

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Frontier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frontier")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Frontier {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.subtrees().eq(other.subtrees())
    }
}

impl Eq for Frontier {}

/// Leaves from somewhere in a tree, reduced to the hashes of the perfect
/// subtrees that they make up: what stays of them when the leaves go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Range {
    begin: u64,
    end: u64,
    hashes: Vec<Hash>,
}

impl Range {
    /// No leaf yet; the first will be leaf `begin` of the tree.
    pub fn new(begin: u64) -> Self {
        Self {
            begin,
            end: begin,
            hashes: Vec::new(),
        }
    }

    /// The leaves covered.
    pub fn leaves(&self) -> std::ops::Range<u64> {
        self.begin..self.end
    }

    /// Appends a leaf by its hash.
    ///
    /// # Errors
    /// [`AppendError::Full`] at leaf [`MAX_SIZE`].
    pub fn push(&mut self, leaf: Hash) -> Result<(), AppendError> {
        if self.end >= MAX_SIZE {
            return Err(AppendError::Full);
        }
        let mut node = leaf;
        let mut level = 0;
        // A right child whose left sibling lies in the range becomes its parent.
        while self.end >> level & 1 == 1 && ((self.end >> level) - 1) << level >= self.begin {
            let Some(left) = self.hashes.pop() else { break };
            node = node_hash(&left, &node);
            level += 1;
        }
        self.hashes.push(node);
        self.end += 1;
        Ok(())
    }

    /// The subtrees, from left to right; at most 126.
    pub fn subtrees(&self) -> impl Iterator<Item = (NodeId, &Hash)> {
        subtrees(self.begin, self.end).zip(&self.hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;

    #[test]
    fn the_largest_tree_is_reached_and_not_passed() {
        let hashes = (0..63).map(|n| Hash::from([n; 32]));
        let mut tree = Frontier::from_subtrees(MAX_SIZE - 1, hashes).unwrap();
        assert_eq!(
            tree.push_subtree(1, EMPTY_ROOT),
            Err(AppendError::Unaligned {
                level: 1,
                size: MAX_SIZE - 1
            })
        );
        tree.push(leaf_hash(b"last")).unwrap();
        assert_eq!(tree.size(), MAX_SIZE);
        assert_eq!(tree.subtrees().count(), 1);
        let full = tree.clone();
        for level in [0, 1, 62, 63, 64, 255] {
            assert_eq!(tree.push_subtree(level, EMPTY_ROOT), Err(AppendError::Full), "{level}");
        }
        assert_eq!(tree.push(EMPTY_ROOT), Err(AppendError::Full));
        assert_eq!(tree, full);
        assert_eq!(Frontier::decode(&tree.encode()), Some(full));

        let mut range = Range::new(MAX_SIZE - 1);
        range.push(EMPTY_ROOT).unwrap();
        assert_eq!(range.push(EMPTY_ROOT), Err(AppendError::Full));
        assert_eq!(Range::new(u64::MAX).push(EMPTY_ROOT), Err(AppendError::Full));
    }

    #[test]
    fn only_its_own_encoding_is_read() {
        let mut tree = Frontier::new();
        assert_eq!(Frontier::decode(&tree.encode()).as_ref(), Some(&tree));
        for n in 0..100_u64 {
            tree.push(leaf_hash(&n.to_be_bytes())).unwrap();
            let mut bytes = tree.encode();
            assert_eq!(Frontier::decode(&bytes).as_ref(), Some(&tree));
            assert_eq!(Frontier::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Frontier::decode(&bytes[..bytes.len() - 32]), None);
            bytes.push(0);
            assert_eq!(Frontier::decode(&bytes), None);
            bytes.extend([0; 31]);
            assert_eq!(Frontier::decode(&bytes), None);
        }
        let beyond = [(MAX_SIZE + 1).to_be_bytes().as_slice(), &[0; 64]].concat();
        assert_eq!(Frontier::decode(&beyond), None);
    }
}
