//! The tree by the letter of RFC 6962 §2.1: recursive, slow, and without a
//! line of the code that it is compared with.

use std::collections::HashMap;
use std::convert::Infallible;

use auditmon_merkle::{Hash, NodeId, NodeReader, TileId, TileReader, TreeHead};
use sha2::{Digest, Sha256};

pub type Bytes = [u8; 32];

/// A tree whose subtree hashes can be asked for.
pub trait Tree {
    /// `MTH(D[begin:end])`.
    fn mth(&mut self, begin: u64, end: u64) -> Bytes;

    fn head(&mut self, size: u64) -> TreeHead {
        TreeHead {
            size,
            root: self.mth(0, size).into(),
        }
    }

    /// `PATH(m, D[begin:end])`.
    fn path(&mut self, m: u64, begin: u64, end: u64) -> Vec<Hash> {
        let n = end - begin;
        if n == 1 {
            return Vec::new();
        }
        let k = split(n);
        let (mut path, sibling) = if m < k {
            (self.path(m, begin, begin + k), self.mth(begin + k, end))
        } else {
            (self.path(m - k, begin + k, end), self.mth(begin, begin + k))
        };
        path.push(sibling.into());
        path
    }

    /// `PROOF(m, D[n])`.
    fn proof(&mut self, m: u64, n: u64) -> Vec<Hash> {
        if m == 0 {
            Vec::new()
        } else {
            self.subproof(m, 0, n, true)
        }
    }

    /// `SUBPROOF(m, D[begin:end], b)`.
    fn subproof(&mut self, m: u64, begin: u64, end: u64, known: bool) -> Vec<Hash> {
        let n = end - begin;
        if m == n {
            return if known {
                Vec::new()
            } else {
                vec![self.mth(begin, end).into()]
            };
        }
        let k = split(n);
        let (mut proof, other) = if m <= k {
            (self.subproof(m, begin, begin + k, known), self.mth(begin + k, end))
        } else {
            (self.subproof(m - k, begin + k, end, false), self.mth(begin, begin + k))
        };
        proof.push(other.into());
        proof
    }
}

/// Largest power of two smaller than `n`.
fn split(n: u64) -> u64 {
    let mut k = 1;
    while k < n - k {
        k *= 2;
    }
    k
}

fn leaf(data: &[u8]) -> Bytes {
    Sha256::digest([&[0], data].concat()).into()
}

fn node(left: Bytes, right: Bytes) -> Bytes {
    Sha256::digest([&[1], left.as_slice(), right.as_slice()].concat()).into()
}

/// A small tree of any leaves.
#[derive(Debug)]
pub struct Leaves(pub Vec<Vec<u8>>);

impl Leaves {
    /// Leaf `n` is `n` in decimal.
    pub fn numbers(count: u64) -> Self {
        Self((0..count).map(|n| n.to_string().into_bytes()).collect())
    }

    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn leaf(&self, index: u64) -> Hash {
        leaf(&self.0[index as usize]).into()
    }

    pub fn hashes(&self) -> impl Iterator<Item = Hash> {
        (0..self.len()).map(|index| self.leaf(index))
    }
}

impl Tree for Leaves {
    fn mth(&mut self, begin: u64, end: u64) -> Bytes {
        match end - begin {
            0 => Sha256::digest([]).into(),
            1 => leaf(&self.0[begin as usize]),
            n => {
                let middle = begin + split(n);
                node(self.mth(begin, middle), self.mth(middle, end))
            }
        }
    }
}

/// A tree of any size whose leaves are alike but for one.
pub struct Sparse {
    pub special: u64,
    alike: HashMap<u64, Bytes>,
}

impl Sparse {
    pub fn new(special: u64) -> Self {
        Self {
            special,
            alike: HashMap::new(),
        }
    }

    pub fn leaf(&self, index: u64) -> Hash {
        leaf(if index == self.special { b"special" } else { b"" }).into()
    }
}

impl Tree for Sparse {
    fn mth(&mut self, begin: u64, end: u64) -> Bytes {
        let n = end - begin;
        let alike = !(begin..end).contains(&self.special);
        if let Some(hash) = self.alike.get(&n).filter(|_| alike) {
            return *hash;
        }
        let hash = match n {
            0 => Sha256::digest([]).into(),
            1 => self.leaf(begin).into(),
            _ => {
                let middle = begin + split(n);
                node(self.mth(begin, middle), self.mth(middle, end))
            }
        };
        if alike {
            self.alike.insert(n, hash);
        }
        hash
    }
}

/// Lets a naive tree be read where nodes or tiles are wanted; counts both.
pub struct Read<'a, T> {
    pub tree: &'a mut T,
    pub reads: usize,
}

impl<'a, T> Read<'a, T> {
    pub fn new(tree: &'a mut T) -> Self {
        Self { tree, reads: 0 }
    }
}

impl<T: Tree> NodeReader for Read<'_, T> {
    type Error = Infallible;

    fn node(&mut self, node: NodeId) -> Result<Hash, Infallible> {
        self.reads += 1;
        let leaves = node.leaves();
        Ok(self.tree.mth(leaves.start, leaves.end).into())
    }
}

impl<T: Tree> TileReader for Read<'_, T> {
    type Error = Infallible;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Infallible> {
        self.reads += 1;
        let span = 1_u64 << (8 * tile.level());
        let first = tile.index() * 256;
        let hashes = first..first + u64::from(tile.width());
        Ok(Some(
            hashes.flat_map(|i| self.tree.mth(i * span, (i + 1) * span)).collect(),
        ))
    }
}
