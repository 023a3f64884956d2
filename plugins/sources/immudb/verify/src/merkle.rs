//! Proofs in a Merkle tree: of transactions, or of one transaction's entries.
//!
//! Shape and hashes are those of RFC 6962; the proofs are immudb's own. The
//! length of each is checked, for without that a proof for one place can be
//! read as one for another.

use crate::hash::{Hash, LeafIndex, TreeSize, node_hash};
use crate::part::Part;
use crate::reason::Reason;

/// Number of hashes in a proof that `leaf` is in a tree of `size` leaves; at most 64.
pub fn path_length(leaf: LeafIndex, size: TreeSize) -> u32 {
    let (mut at, mut last) = (leaf.0, size.0.saturating_sub(1));
    let mut length = 0;
    while last > 0 {
        // A node without a sibling is promoted: no hash.
        length += u32::from(at & 1 == 1 || at < last);
        at >>= 1;
        last >>= 1;
    }
    length
}

/// Checks that the tree of `size` leaves with this root has `leaf` at `index`.
///
/// # Errors
/// It hasn't, or the proof is none for that place.
pub fn verify_inclusion<D: AsRef<[u8]>>(
    part: Part,
    proof: &[D],
    index: LeafIndex,
    size: TreeSize,
    leaf: Hash,
    root: &Hash,
) -> Result<(), Reason> {
    if index.0 >= size.0 {
        let leaf = index.0;
        return Err(Reason::Leaf { part, leaf, size });
    }
    length(part, path_length(index, size).into(), proof)?;
    let (mut at, mut last, mut hash) = (index.0, size.0 - 1, leaf);
    for term in proof {
        let term = Hash::received(part, term.as_ref())?;
        // A node without a sibling takes the next hash at the level where it
        // has one, as a right child; its way up there changes nothing.
        hash = if at & 1 == 0 && at != last {
            node_hash(&hash, &term)
        } else {
            node_hash(&term, &hash)
        };
        at >>= 1;
        last >>= 1;
    }
    equal(part, &hash, root)
}

/// Checks that the tree of `new_size` leaves begins with that of `old_size`.
///
/// # Errors
/// It doesn't, or the proof is none for these sizes. Between equal trees it is
/// the two halves of the root, right one first, and nothing for a single leaf.
pub fn verify_consistency<D: AsRef<[u8]>>(
    proof: &[D],
    (old_size, old_root): (TreeSize, &Hash),
    (new_size, new_root): (TreeSize, &Hash),
) -> Result<(), Reason> {
    let part = Part::ConsistencyProof;
    if old_size.0 < 1 || old_size > new_size {
        let leaf = old_size.0;
        return Err(Reason::Leaf {
            part,
            leaf,
            size: new_size,
        });
    }
    if old_size == new_size {
        equal(part, old_root, new_root)?;
        length(part, if new_size.0 > 1 { 2 } else { 0 }, proof)?;
        if let [right, left] = proof {
            let left = Hash::received(part, left.as_ref())?;
            let right = Hash::received(part, right.as_ref())?;
            equal(part, &node_hash(&left, &right), new_root)?;
        }
        return Ok(());
    }
    // From the last perfect subtree of the old tree upwards.
    let level = old_size.0.trailing_zeros();
    let (mut at, mut last) = ((old_size.0 - 1) >> level, (new_size.0 - 1) >> level);
    length(part, 1 + climbs(at, last), proof)?;
    let Some((first, terms)) = proof.split_first() else {
        return length(part, 1, proof);
    };
    let first = Hash::received(part, first.as_ref())?;
    let (mut old, mut new) = (first, first);
    for term in terms {
        let term = Hash::received(part, term.as_ref())?;
        if at & 1 == 1 || at == last {
            old = node_hash(&term, &old);
            new = node_hash(&term, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, &term);
        }
        at >>= 1;
        last >>= 1;
    }
    equal(part, &old, old_root)?;
    equal(part, &new, new_root)
}

/// Hashes that lie between the node `at` of a level whose last node is `last` and the root.
fn climbs(mut at: u64, mut last: u64) -> u64 {
    let mut count = 0;
    while last > 0 {
        if at & 1 == 1 || at == last {
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        }
        at >>= 1;
        last >>= 1;
        count += 1;
    }
    count
}

/// Checks that `leaf` is the last of a tree of `size` leaves. The proof is the
/// peaks of the tree without it, smallest first.
///
/// # Errors
/// It isn't, or the proof is none for that size.
pub fn verify_last<D: AsRef<[u8]>>(proof: &[D], size: TreeSize, leaf: Hash, root: &Hash) -> Result<(), Reason> {
    let part = Part::LastInclusionProof;
    if size.0 < 1 {
        return Err(Reason::Leaf { part, leaf: 0, size });
    }
    length(part, (size.0 - 1).count_ones().into(), proof)?;
    let mut hash = leaf;
    for term in proof {
        hash = node_hash(&Hash::received(part, term.as_ref())?, &hash);
    }
    equal(part, &hash, root)
}

pub(crate) fn length<D>(part: Part, expected: u64, proof: &[D]) -> Result<(), Reason> {
    let found = proof.len();
    if u64::try_from(found).is_ok_and(|found| found == expected) {
        Ok(())
    } else {
        Err(Reason::Length { part, expected, found })
    }
}

pub(crate) fn equal(part: Part, found: &Hash, expected: &Hash) -> Result<(), Reason> {
    if found == expected {
        Ok(())
    } else {
        Err(Reason::Mismatch { part })
    }
}
