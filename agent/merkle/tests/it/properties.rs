//! Agreement with the naive tree.

use auditmon_merkle::{
    Frontier, Hash, Range, TileNodes, Tiler, TreeHead, VerifyError, prove_consistency, prove_inclusion, subtrees,
    verify_consistency, verify_inclusion,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::naive::{Leaves, Read, Tree as _};

#[test]
fn small_trees_and_all_their_proofs() {
    const MOST: u64 = 70;
    let mut leaves = Leaves::numbers(MOST);
    let heads: Vec<_> = (0..=MOST).map(|size| leaves.head(size)).collect();
    let mut tree = Frontier::new();
    for size in 0..=MOST {
        let head = heads[size as usize];
        assert_eq!(tree.head(), head);
        for index in 0..size {
            let proof = prove_inclusion(&mut Read::new(&mut leaves), index, size).unwrap();
            assert_eq!(proof, leaves.path(index, 0, size), "leaf {index} of {size}");
            verify_inclusion(&leaves.leaf(index), index, &proof, &head).unwrap();
        }
        for old in 0..=size {
            let proof = prove_consistency(&mut Read::new(&mut leaves), old, size).unwrap();
            assert_eq!(proof, leaves.proof(old, size), "{old} to {size}");
            verify_consistency(&heads[old as usize], &head, &proof).unwrap();
        }
        if size < MOST {
            tree.push(leaves.leaf(size)).unwrap();
        }
    }
}

#[test]
fn what_is_not_in_the_tree_has_no_proof() {
    let mut leaves = Leaves::numbers(5);
    let (four, five) = (leaves.head(4), leaves.head(5));
    let nodes = &mut Read::new(&mut leaves);
    for index in [5, 6, u64::MAX] {
        let made = prove_inclusion(nodes, index, 5).unwrap_err();
        assert_eq!(made.to_string(), format!("leaf {index} is not in a tree of 5 leaves"));
        let verified = verify_inclusion(&five.root, index, &[], &five);
        assert_eq!(verified, Err(VerifyError::Index { index, size: 5 }));
    }
    assert!(prove_inclusion(nodes, 0, 0).is_err());
    assert!(prove_inclusion(nodes, 0, (1 << 63) + 1).is_err());
    assert!(prove_consistency(nodes, 5, 4).is_err());
    assert!(prove_consistency(nodes, 1, u64::MAX).is_err());
    assert_eq!(nodes.reads, 0);
    assert_eq!(
        verify_consistency(&five, &four, &[]),
        Err(VerifyError::Shrunk { old: 5, new: 4 })
    );
}

#[test]
fn equal_sizes_need_equal_roots_and_no_proof() {
    let mut leaves = Leaves::numbers(5);
    let five = leaves.head(5);
    let other = TreeHead {
        size: 5,
        root: leaves.head(4).root,
    };
    assert_eq!(verify_consistency(&five, &five, &[]), Ok(()));
    assert_eq!(
        verify_consistency(&five, &other, &[]),
        Err(VerifyError::Root { size: 5 })
    );
    let long = VerifyError::Length { expected: 0, found: 1 };
    assert_eq!(verify_consistency(&five, &five, &[five.root]), Err(long));
}

#[test]
fn the_empty_tree_is_the_beginning_of_all_and_has_one_root() {
    let mut leaves = Leaves::numbers(5);
    let (empty, five) = (leaves.head(0), leaves.head(5));
    let wrong = TreeHead {
        size: 0,
        root: five.root,
    };
    assert_eq!(verify_consistency(&empty, &five, &[]), Ok(()));
    assert_eq!(verify_consistency(&empty, &empty, &[]), Ok(()));
    assert_eq!(
        verify_consistency(&wrong, &five, &[]),
        Err(VerifyError::Root { size: 0 })
    );
    let long = VerifyError::Length { expected: 0, found: 1 };
    assert_eq!(verify_consistency(&empty, &five, &[five.root]), Err(long));
}

/// Leaves of any bytes, some of them alike.
fn leaves() -> impl Strategy<Value = Leaves> {
    let leaf = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..80)];
    prop::collection::vec(leaf, 1..1100).prop_map(Leaves)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn roots_tiles_and_proofs(mut leaves in leaves(), a in any::<Index>(), b in any::<Index>()) {
        let most = leaves.len();
        let mut tree = Tiler::new();
        for leaf in leaves.hashes() {
            tree.push(leaf).unwrap();
        }
        let head = leaves.head(most);
        prop_assert_eq!(tree.head(), head);

        let size = 1 + a.index(most as usize) as u64;
        let from = b.index(size as usize) as u64;
        let (old, new) = (leaves.head(from), leaves.head(size));
        let included = leaves.path(from, 0, size);
        let consistent = leaves.proof(from, size);
        let leaf = leaves.leaf(from);
        prop_assert_eq!(verify_inclusion(&leaf, from, &included, &new), Ok(()));
        prop_assert_eq!(verify_consistency(&old, &new, &consistent), Ok(()));

        let mut nodes = TileNodes::new(Read::new(&mut leaves), most).unwrap();
        prop_assert_eq!(prove_inclusion(&mut nodes, from, size).unwrap(), included);
        prop_assert_eq!(prove_consistency(&mut nodes, from, size).unwrap(), consistent);
    }

    /// Any part of the leaves can be replaced by subtrees, with the same root.
    #[test]
    fn a_collapsed_range_gives_the_same_root(count in 0_u64..700, a in any::<Index>(), b in any::<Index>()) {
        let mut leaves = Leaves::numbers(count);
        let end = a.index(count as usize + 1) as u64;
        let begin = b.index(end as usize + 1) as u64;
        let mut range = Range::new(begin);
        for index in begin..end {
            range.push(leaves.leaf(index)).unwrap();
        }
        prop_assert_eq!(range.leaves(), begin..end);
        prop_assert_eq!(range.subtrees().count(), subtrees(begin, end).count());
        let mut tree = Frontier::new();
        for index in 0..begin {
            tree.push(leaves.leaf(index)).unwrap();
        }
        for (node, hash) in range.subtrees() {
            let below = node.leaves();
            prop_assert_eq!(*hash, Hash::from(leaves.mth(below.start, below.end)));
            tree.push_subtree(node.level(), *hash).unwrap();
        }
        for index in end..count {
            tree.push(leaves.leaf(index)).unwrap();
        }
        prop_assert_eq!(tree.head(), leaves.head(count));
        prop_assert_eq!(Frontier::decode(&tree.encode()), Some(tree));
    }
}
