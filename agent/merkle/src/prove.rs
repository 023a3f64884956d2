//! Proofs made, by reading O(log n) nodes.

use thiserror::Error;

use crate::path::{Path, Side};
use crate::tree::{Hash, MAX_SIZE, NodeId, node_hash, subtrees};

/// Where the nodes of a tree are read: tiles, through
/// [`TileNodes`](crate::TileNodes), or whatever still has their hashes.
pub trait NodeReader {
    /// Why a node could not be read.
    type Error: std::error::Error + 'static;

    /// The hash of a perfect subtree within the tree.
    ///
    /// # Errors
    /// It can't be read or is gone.
    fn node(&mut self, node: NodeId) -> Result<Hash, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, Error)]
pub enum ProveError<E: std::error::Error + 'static> {
    /// More than [`MAX_SIZE`] leaves.
    #[error("a tree of {size} leaves is larger than 2^63")]
    Size {
        /// Leaves.
        size: u64,
    },
    /// There is no such leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    Index {
        /// Number of the leaf.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The tree that should extend the other is smaller.
    #[error("a tree of {new} leaves can't extend one of {old}")]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// A node that the proof is made of could not be read.
    #[error("the node over leaves {}..{} can't be read", node.leaves().start, node.leaves().end)]
    Read {
        /// The node.
        node: NodeId,
        /// The reader's reason.
        source: E,
    },
}

/// The proof that leaf `index` is in the tree of the first `size` leaves:
/// siblings from the leaf up. At most 126 nodes are read.
///
/// Nothing read is verified: check the proof against the signed root before it
/// is handed out.
///
/// # Errors
/// No such leaf, or a node can't be read.
pub fn prove_inclusion<R: NodeReader>(nodes: &mut R, index: u64, size: u64) -> Result<Vec<Hash>, ProveError<R::Error>> {
    check_size(size)?;
    if index >= size {
        return Err(ProveError::Index { index, size });
    }
    let mut proof = Vec::new();
    siblings(nodes, 0, index, size, &mut proof)?;
    Ok(proof)
}

/// The proof that the tree of the first `old` leaves is the beginning of the
/// tree of the first `new`; empty if `old` is 0 or `new`. At most 127 nodes are read.
///
/// Nothing read is verified: check the proof against the signed roots before
/// it is handed out.
///
/// # Errors
/// `new` is smaller than `old`, or a node can't be read.
pub fn prove_consistency<R: NodeReader>(nodes: &mut R, old: u64, new: u64) -> Result<Vec<Hash>, ProveError<R::Error>> {
    check_size(new)?;
    if old > new {
        return Err(ProveError::Shrunk { old, new });
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    // From the last perfect subtree of the old tree up. If that is the whole
    // old tree, the verifier has its hash already.
    let level = old.trailing_zeros();
    if !old.is_power_of_two() {
        proof.push(read(nodes, level, (old - 1) >> level)?);
    }
    siblings(nodes, level, old - 1, new, &mut proof)?;
    Ok(proof)
}

/// Appends the siblings on the way from a node up to the root.
fn siblings<R: NodeReader>(
    nodes: &mut R,
    level: u32,
    index: u64,
    size: u64,
    proof: &mut Vec<Hash>,
) -> Result<(), ProveError<R::Error>> {
    let path = Path::new(level, index, size);
    for (level, side) in path.siblings() {
        let at = index >> level;
        proof.push(match side {
            Side::Left => read(nodes, level, at - 1)?,
            Side::Right if level + 1 < path.meet() => read(nodes, level, at + 1)?,
            Side::Right => right_edge(nodes, (at + 1) << level, size)?,
        });
    }
    Ok(())
}

/// The hash over the leaves from `begin`, where a node begins, to the end of
/// the tree, which that node may reach beyond.
fn right_edge<R: NodeReader>(nodes: &mut R, begin: u64, size: u64) -> Result<Hash, ProveError<R::Error>> {
    let mut edge = None;
    let parts: Vec<_> = subtrees(begin, size).collect();
    for part in parts.iter().rev() {
        let hash = read(nodes, part.level().into(), part.index())?;
        edge = Some(edge.map_or(hash, |right| node_hash(&hash, &right)));
    }
    edge.ok_or(ProveError::Index { index: begin, size })
}

fn read<R: NodeReader>(nodes: &mut R, level: u32, index: u64) -> Result<Hash, ProveError<R::Error>> {
    // A node of a path is within its tree.
    let level = level as u8;
    let node = NodeId { level, index };
    nodes.node(node).map_err(|source| ProveError::Read { node, source })
}

fn check_size<E: std::error::Error>(size: u64) -> Result<(), ProveError<E>> {
    if size > MAX_SIZE {
        return Err(ProveError::Size { size });
    }
    Ok(())
}
