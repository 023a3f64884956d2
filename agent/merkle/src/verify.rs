//! Proofs verified.
//!
//! Source: RFC 6962 §2.1.1 and §2.1.2, RFC 9162 §2.1.3.2 and §2.1.4.2.

use thiserror::Error;

use crate::path::{Path, Side};
use crate::tree::{EMPTY_ROOT, Hash, MAX_SIZE, TreeHead, node_hash};

/// Most hashes in a proof.
pub const MAX_PROOF: usize = 64;

/// Why a proof doesn't prove what it should.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
pub enum VerifyError {
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
    /// The size of the trees decides how many hashes a proof has.
    #[error("the proof has {found} hashes, it must have {expected}")]
    Length {
        /// Hashes that the proof must have.
        expected: usize,
        /// Hashes that it has.
        found: usize,
    },
    /// The proof leads elsewhere: the leaf, the proof or the root was changed.
    #[error("the proof doesn't lead to the root of the tree of {size} leaves")]
    Root {
        /// Leaves of the tree.
        size: u64,
    },
}

/// Checks that the leaf `index` of the tree `head` has the hash `leaf`.
///
/// # Errors
/// It doesn't, or the proof is not one for this leaf and size.
pub fn verify_inclusion(leaf: &Hash, index: u64, proof: &[Hash], head: &TreeHead) -> Result<(), VerifyError> {
    check_size(head)?;
    let size = head.size;
    if index >= size {
        return Err(VerifyError::Index { index, size });
    }
    let path = Path::new(0, index, size);
    check_length(path.len(), proof)?;
    let root = path
        .siblings()
        .zip(proof)
        .fold(*leaf, |node, ((_, side), sibling)| match side {
            Side::Left => node_hash(sibling, &node),
            Side::Right => node_hash(&node, sibling),
        });
    if root == head.root {
        Ok(())
    } else {
        Err(VerifyError::Root { size })
    }
}

/// Checks that the tree `new` begins with all leaves of the tree `old`, in order and unchanged.
///
/// # Errors
/// It doesn't, or the proof is not one for these sizes. Between trees of the
/// same size, and from the empty tree, only the empty proof is one.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), VerifyError> {
    check_size(old)?;
    check_size(new)?;
    if old.size > new.size {
        return Err(VerifyError::Shrunk {
            old: old.size,
            new: new.size,
        });
    }
    if old.size == 0 || old.size == new.size {
        check_length(0, proof)?;
        let same = old.size == 0 || old.root == new.root;
        return if same {
            Ok(())
        } else {
            Err(VerifyError::Root { size: new.size })
        };
    }
    // Both roots are computed from the last perfect subtree of the old tree on:
    // the old one from what is to the left of it, the new one from everything.
    let level = old.size.trailing_zeros();
    let path = Path::new(level, old.size - 1, new.size);
    let (seed, siblings) = if old.size.is_power_of_two() {
        // That subtree is the whole old tree.
        check_length(path.len(), proof)?;
        (old.root, proof)
    } else {
        check_length(1 + path.len(), proof)?;
        match proof.split_first() {
            Some((seed, siblings)) => (*seed, siblings),
            None => return check_length(1, proof),
        }
    };
    let (mut old_root, mut new_root) = (seed, seed);
    for ((_, side), sibling) in path.siblings().zip(siblings) {
        match side {
            Side::Left => {
                old_root = node_hash(sibling, &old_root);
                new_root = node_hash(sibling, &new_root);
            }
            Side::Right => new_root = node_hash(&new_root, sibling),
        }
    }
    if old_root != old.root {
        return Err(VerifyError::Root { size: old.size });
    }
    if new_root != new.root {
        return Err(VerifyError::Root { size: new.size });
    }
    Ok(())
}

fn check_size(head: &TreeHead) -> Result<(), VerifyError> {
    match head.size {
        0 if head.root != EMPTY_ROOT => Err(VerifyError::Root { size: 0 }),
        0..=MAX_SIZE => Ok(()),
        size => Err(VerifyError::Size { size }),
    }
}

fn check_length(expected: usize, proof: &[Hash]) -> Result<(), VerifyError> {
    let found = proof.len();
    if expected == found {
        Ok(())
    } else {
        Err(VerifyError::Length { expected, found })
    }
}
