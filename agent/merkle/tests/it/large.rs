//! Trees that no machine holds, up to the last leaf.

use auditmon_merkle::{
    MAX_PROOF, MAX_SIZE, TileNodes, Tiler, TreeHead, VerifyError, prove_consistency, prove_inclusion,
    verify_consistency, verify_inclusion,
};
use proptest::prelude::*;

use crate::naive::{Read, Sparse, Tree as _};

/// Numbers around powers of two, and any.
fn number(most: u64) -> impl Strategy<Value = u64> {
    let around = (0_u32..64, -2_i64..3).prop_map(|(bit, off)| (1_u64 << bit).saturating_add_signed(off));
    prop_oneof![around, any::<u64>(), Just(u64::MAX), Just(MAX_SIZE)].prop_map(move |n| match n {
        n if n <= most => n,
        n => n % (most + 1),
    })
}

fn size_and_index() -> impl Strategy<Value = (u64, u64)> {
    number(MAX_SIZE - 1).prop_flat_map(|n| (Just(n + 1), number(n)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn inclusion((size, index) in size_and_index()) {
        let mut tree = Sparse::new(index);
        let (leaf, head) = (tree.leaf(index), tree.head(size));
        let expected = tree.path(index, 0, size);
        let mut nodes = Read::new(&mut tree);
        let proof = prove_inclusion(&mut nodes, index, size).unwrap();
        prop_assert!(nodes.reads <= 126, "{} nodes", nodes.reads);
        prop_assert_eq!(&proof, &expected);
        prop_assert!(proof.len() <= MAX_PROOF);
        prop_assert_eq!(verify_inclusion(&leaf, index, &proof, &head), Ok(()));

        let mut tiles = Read::new(&mut tree);
        let mut nodes = TileNodes::new(&mut tiles, size).unwrap();
        prop_assert_eq!(prove_inclusion(&mut nodes, index, size).unwrap(), expected);
        prop_assert!(tiles.reads <= 16, "{} tiles", tiles.reads);
    }

    #[test]
    fn consistency((new, before) in size_and_index()) {
        let old = before + 1;
        // The last leaf of the old tree is the special one, or the first of the new.
        for special in [before, old] {
            let mut tree = Sparse::new(special);
            let (old_head, new_head) = (tree.head(old), tree.head(new));
            let expected = tree.proof(old, new);
            let mut nodes = Read::new(&mut tree);
            let proof = prove_consistency(&mut nodes, old, new).unwrap();
            prop_assert!(nodes.reads <= 127, "{} nodes", nodes.reads);
            prop_assert_eq!(&proof, &expected);
            prop_assert!(proof.len() <= MAX_PROOF);
            prop_assert_eq!(verify_consistency(&old_head, &new_head, &proof), Ok(()));

            let mut tiles = Read::new(&mut tree);
            let mut nodes = TileNodes::new(&mut tiles, new).unwrap();
            prop_assert_eq!(prove_consistency(&mut nodes, old, new).unwrap(), expected);
            prop_assert!(tiles.reads <= 16, "{} tiles", tiles.reads);
        }
    }

    #[test]
    fn a_tree_goes_on_where_it_stood(size in number(MAX_SIZE - 300)) {
        let mut tree = Sparse::new(u64::MAX);
        let mut tiler = Tiler::resume(size, &mut Read::new(&mut tree)).unwrap();
        prop_assert_eq!(tiler.head(), tree.head(size));
        for n in 1..=300 {
            tiler.push(tree.leaf(0)).unwrap();
            for (tile, bytes) in tiler.filled() {
                let leaves = tile.leaves();
                prop_assert_eq!(leaves.end, size + n);
                // All hashes of a tile are alike, as the leaves are.
                let hash = tree.mth(0, (leaves.end - leaves.start) / 256);
                prop_assert_eq!(bytes.as_slice(), [hash; 256].concat());
            }
        }
        prop_assert_eq!(tiler.head(), tree.head(size + 300));
    }
}

#[test]
fn sizes_beyond_the_limit_are_refused() {
    let head = |size| TreeHead {
        size,
        root: [0; 32].into(),
    };
    for size in [MAX_SIZE + 1, u64::MAX] {
        let refused = Err(VerifyError::Size { size });
        assert_eq!(verify_inclusion(&[0; 32].into(), 0, &[], &head(size)), refused);
        assert_eq!(verify_consistency(&head(1), &head(size), &[]), refused);
        assert_eq!(verify_consistency(&head(size), &head(1), &[]), refused);
        assert!(TileNodes::new(&mut Read::new(&mut Sparse::new(0)), size).is_err());
        assert!(Tiler::resume(size, &mut Read::new(&mut Sparse::new(0))).is_err());
    }
}

#[test]
fn the_largest_tree_is_proved_at_both_ends() {
    for index in [0, 1, MAX_SIZE / 2, MAX_SIZE - 1] {
        let mut tree = Sparse::new(index);
        let proof = prove_inclusion(&mut Read::new(&mut tree), index, MAX_SIZE).unwrap();
        assert_eq!(proof.len(), 63);
        verify_inclusion(&tree.leaf(index), index, &proof, &tree.head(MAX_SIZE)).unwrap();
    }
    let mut tree = Sparse::new(0);
    let proof = prove_consistency(&mut Read::new(&mut tree), MAX_SIZE - 1, MAX_SIZE).unwrap();
    assert_eq!(proof.len(), MAX_PROOF);
    verify_consistency(&tree.head(MAX_SIZE - 1), &tree.head(MAX_SIZE), &proof).unwrap();
}
