//! Tiles made, resumed from and read; readers that have too little.

use std::collections::HashMap;

use auditmon_merkle::{
    NodeId, NodeReader as _, ProveError, Range, TILE_BYTES, TileError, TileId, TileNodes, TileReader, Tiler,
    full_tile_root, leaf_hash, prove_inclusion, verify_inclusion,
};

use crate::naive::{Leaves, Read, Tree as _};

/// A directory of tiles that may refuse.
#[derive(Clone, Default)]
struct Store {
    tiles: HashMap<String, Vec<u8>>,
    broken: Option<TileId>,
}

#[derive(Debug, thiserror::Error)]
#[error("the disk refuses")]
struct Refused;

impl TileReader for Store {
    type Error = Refused;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Refused> {
        if self.broken == Some(tile) {
            return Err(Refused);
        }
        Ok(self.tiles.get(&tile.to_string()).cloned())
    }
}

/// A tree of numbers with its full tiles stored, as on a journal's disk.
fn grow(size: u64) -> (Tiler, Store) {
    let mut tree = Tiler::new();
    let mut store = Store::default();
    for n in 0..size {
        tree.push(leaf_hash(n.to_string().as_bytes())).unwrap();
        for (tile, bytes) in tree.filled() {
            assert!(
                store.tiles.insert(tile.to_string(), bytes.to_vec()).is_none(),
                "{tile} twice"
            );
        }
    }
    (tree, store)
}

/// The same with the partial tile of the leaves, which comes from the journal's records.
fn with_newest(tree: &Tiler, store: &Store) -> Store {
    let mut store = store.clone();
    let newest = tree.partials().filter(|(tile, _)| tile.level() == 0);
    store
        .tiles
        .extend(newest.map(|(tile, bytes)| (tile.to_string(), bytes.to_vec())));
    store
}

#[test]
fn tiles_hold_what_the_specification_says() {
    let size = 66_000;
    let (tree, store) = grow(size);
    assert_eq!(store.tiles.len(), 257 + 1);
    let mut leaves = Leaves::numbers(size);
    let mut check = |tile: TileId, bytes: &[u8]| {
        let mut naive = Read::new(&mut leaves);
        assert_eq!(naive.read(tile).unwrap().unwrap(), bytes, "{tile}");
    };
    for (path, bytes) in &store.tiles {
        let tile: TileId = path.parse().unwrap();
        assert!(tile.is_full());
        check(tile, bytes);
    }
    let partials: Vec<_> = tree.partials().map(|(tile, bytes)| (tile, bytes.to_vec())).collect();
    let paths: Vec<_> = partials.iter().map(|(tile, _)| tile.to_string()).collect();
    assert_eq!(paths, ["tile/0/257.p/208", "tile/1/001.p/1", "tile/2/000.p/1"]);
    for (tile, bytes) in partials {
        check(tile, &bytes);
    }
}

#[test]
fn a_tile_is_filled_once_its_last_leaf_is_there() {
    let mut tree = Tiler::new();
    assert_eq!(tree.filled().count(), 0);
    assert_eq!(tree.partials().count(), 0);
    for n in 1..=65_536_u64 {
        tree.push(leaf_hash(b"")).unwrap();
        let filled: Vec<_> = tree.filled().map(|(tile, _)| (tile.level(), tile.index())).collect();
        match n {
            65_536 => assert_eq!(filled, [(0, 255), (1, 0)]),
            n if n % 256 == 0 => assert_eq!(filled, [(0, n / 256 - 1)]),
            _ => assert_eq!(filled, []),
        }
    }
    let (tile, _) = tree.partials().next().unwrap();
    assert_eq!(tile.to_string(), "tile/2/000.p/1");
}

#[test]
fn earlier_sizes_of_a_partial_tile_are_given() {
    let (tree, _) = grow(256 + 10);
    let tile = |path: &str| tree.partial(path.parse().unwrap()).map(<[u8]>::to_vec);
    let ten = tile("tile/0/001.p/10").unwrap();
    assert_eq!(tile("tile/0/001.p/3").unwrap(), ten[..96]);
    assert_eq!(tile("tile/1/000.p/1").unwrap().len(), 32);
    for path in [
        "tile/0/001.p/11",
        "tile/0/001",
        "tile/0/000.p/5",
        "tile/0/000",
        "tile/0/002.p/1",
        "tile/2/000.p/1",
    ] {
        assert_eq!(tile(path), None, "{path}");
    }
}

#[test]
fn a_tree_is_resumed_from_full_tiles_and_the_newest_leaves() {
    for size in [0, 1, 255, 256, 257, 511, 65_535, 65_536, 65_537, 66_000] {
        let (tree, store) = grow(size);
        let mut resumed = Tiler::resume(size, &mut with_newest(&tree, &store)).unwrap();
        assert_eq!(resumed.head(), tree.head(), "size {size}");
        assert_eq!(resumed.frontier(), tree.frontier());
        let mut tree = tree;
        for n in 0..600_u64 {
            let leaf = leaf_hash(&n.to_be_bytes());
            tree.push(leaf).unwrap();
            resumed.push(leaf).unwrap();
            assert!(resumed.filled().eq(tree.filled()));
            assert!(resumed.partials().eq(tree.partials()));
        }
        assert_eq!(resumed.root(), tree.root());
    }
}

#[test]
fn partial_tiles_above_the_leaves_are_made_of_full_ones() {
    let size = 256 * 3 + 7;
    let (tree, store) = grow(size);
    let mut nodes = TileNodes::new(with_newest(&tree, &store), size).unwrap();
    for index in [0, 255, 256, 700, size - 1] {
        let proof = prove_inclusion(&mut nodes, index, size).unwrap();
        verify_inclusion(&leaf_hash(index.to_string().as_bytes()), index, &proof, &tree.head()).unwrap();
    }
}

#[test]
fn lost_tiles_above_the_leaves_are_made_of_those_below() {
    let size = 66_000;
    let (tree, mut store) = grow(size);
    // The one above, which is partial, isn't there either: it is made of what was made.
    store.tiles.remove("tile/1/000").unwrap();
    let mut nodes = TileNodes::new(with_newest(&tree, &store), size).unwrap();
    for index in [300, 65_999] {
        let proof = prove_inclusion(&mut nodes, index, size).unwrap();
        verify_inclusion(&leaf_hash(index.to_string().as_bytes()), index, &proof, &tree.head()).unwrap();
    }
    store.tiles.remove("tile/0/017").unwrap();
    assert!(matches!(
        prove_inclusion(&mut TileNodes::new(with_newest(&tree, &store), size).unwrap(), 65_999, size),
        Err(ProveError::Read { source: TileError::Missing { tile }, .. }) if tile.to_string() == "tile/0/017"
    ));
}

#[test]
fn a_tile_may_be_longer_than_it_was_then() {
    let (tree, store) = grow(300);
    let then = 256 + 5;
    let mut store = with_newest(&tree, &store);
    let newest = store.tiles.remove("tile/0/001.p/44").unwrap();
    store.tiles.insert("tile/0/001.p/5".to_owned(), newest);
    let head = Leaves::numbers(300).head(then);
    let mut nodes = TileNodes::new(store.clone(), then).unwrap();
    let proof = prove_inclusion(&mut nodes, 258, then).unwrap();
    verify_inclusion(&leaf_hash(b"258"), 258, &proof, &head).unwrap();
    assert_eq!(Tiler::resume(then, &mut store).unwrap().head(), head);
}

#[test]
fn what_tiles_lack_is_told() {
    let size = 256 * 2 + 3;
    let (tree, store) = grow(size);
    let whole = with_newest(&tree, &store);
    let id = |path: &str| path.parse::<TileId>().unwrap();
    let node = NodeId::new(0, 0).unwrap();
    let read = |store: Store| TileNodes::new(store, size).unwrap().node(node);

    let mut nodes = TileNodes::new(whole.clone(), size).unwrap();
    for beyond in [
        NodeId::new(0, size).unwrap(),
        NodeId::new(2, 128).unwrap(),
        NodeId::new(63, 0).unwrap(),
    ] {
        let error = nodes.node(beyond).unwrap_err();
        assert!(matches!(error, TileError::Beyond { .. }), "{beyond:?}: {error:?}");
    }
    nodes.node(NodeId::new(0, size - 1).unwrap()).unwrap();

    let mut missing = whole.clone();
    missing.tiles.remove("tile/0/000");
    let error = read(missing.clone()).unwrap_err();
    assert_eq!(error.to_string(), "`tile/0/000` is missing");
    // And so is what would have to be made of it.
    let error = TileNodes::new(missing, size)
        .unwrap()
        .node(NodeId::new(9, 0).unwrap())
        .unwrap_err();
    assert!(
        matches!(error, TileError::Missing { tile } if tile == id("tile/0/000")),
        "{error:?}"
    );
    let error = Tiler::resume(size, &mut store.clone()).unwrap_err();
    assert!(
        matches!(error, TileError::Missing { tile } if tile == id("tile/0/002.p/3")),
        "{error:?}"
    );

    for bytes in [0, 32, TILE_BYTES - 32, TILE_BYTES - 1, TILE_BYTES + 1, TILE_BYTES + 32] {
        let mut short = whole.clone();
        short.tiles.insert("tile/0/000".to_owned(), vec![0; bytes]);
        let error = read(short).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`tile/0/000` has {bytes} bytes, it must have 8192")
        );
    }

    for bytes in [3 * 32 - 1, 3 * 32 + 1] {
        let mut part = whole.clone();
        part.tiles.insert("tile/0/002.p/3".to_owned(), vec![0; bytes]);
        let error = TileNodes::new(part, size)
            .unwrap()
            .node(NodeId::new(0, size - 1).unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`tile/0/002.p/3` has {bytes} bytes, it must have 96")
        );
    }

    let mut broken = whole;
    broken.broken = Some(id("tile/0/000"));
    let error = read(broken).unwrap_err();
    assert!(matches!(error, TileError::Read { tile, source: Refused } if tile == id("tile/0/000")));
}

#[test]
fn only_full_tiles_have_a_root() {
    let (_, store) = grow(256);
    let tile = &store.tiles["tile/0/000"];
    assert_eq!(full_tile_root(tile), Some(Leaves::numbers(256).head(256).root));
    assert_eq!(full_tile_root(&tile[..TILE_BYTES / 2]), None);
    assert_eq!(full_tile_root(&tile[1..]), None);
    assert_eq!(full_tile_root(&[]), None);
}

#[test]
fn behind_subtrees_a_tiler_gives_only_tiles_that_it_knows() {
    let leaves: Vec<_> = (0..140_000_u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let mut whole = Tiler::new();
    let mut full = std::collections::HashMap::new();
    for leaf in &leaves {
        whole.push(*leaf).unwrap();
        full.extend(whole.filled().map(|(tile, bytes)| (tile, *bytes)));
    }
    for begin in [1, 255, 256, 1000, 65_536, 65_537, 70_000, 131_072, 139_999] {
        let mut range = Range::new(0);
        for leaf in &leaves[..begin] {
            range.push(*leaf).unwrap();
        }
        let mut tree = Tiler::new();
        for (node, hash) in range.subtrees() {
            tree.push_subtree(node.level(), *hash).unwrap();
        }
        let mut given = 0;
        for leaf in &leaves[begin..] {
            tree.push(*leaf).unwrap();
            for (tile, bytes) in tree.filled() {
                assert_eq!(full[&tile], *bytes, "{tile} behind {begin}");
                given += 1;
            }
        }
        assert_eq!(tree.root(), whole.root());
        let behind = full.keys().filter(|tile| tile.leaves().start >= begin as u64).count();
        assert!(given >= behind, "{given} of {behind} behind {begin}");
        for (tile, bytes) in tree.partials() {
            assert_eq!(whole.partial(tile), Some(bytes), "{tile} behind {begin}");
            assert_eq!(tree.partial(tile), Some(bytes));
        }
    }
    assert!(whole.push_subtree(6, leaves[0]).is_err(), "unaligned");
    assert!(whole.push_subtree(64, leaves[0]).is_err());
}
