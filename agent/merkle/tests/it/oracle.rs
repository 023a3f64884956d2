//! Agreement with Go's `golang.org/x/mod/sumdb`, which serves the Go checksum
//! database: `golden/oracle.json`, made by `golden/oracle.go`.

use std::collections::BTreeMap;

use auditmon_merkle::{
    Checkpoint, Ed25519Signer, Ed25519Verifier, Hash, TileId, TileNodes, TileReader, Tiler, leaf_hash,
    prove_consistency, prove_inclusion, verify_inclusion,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn oracle() -> Value {
    serde_json::from_str(include_str!("../golden/oracle.json")).unwrap()
}

/// All tiles of a tree, by level and place.
#[derive(Default)]
struct Tiles(BTreeMap<(u8, u64), (TileId, Vec<u8>)>);

impl Tiles {
    fn put(&mut self, tile: TileId, bytes: &[u8]) {
        self.0.insert((tile.level(), tile.index()), (tile, bytes.to_vec()));
    }
}

impl TileReader for Tiles {
    type Error = std::convert::Infallible;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self
            .0
            .get(&(tile.level(), tile.index()))
            .map(|(_, bytes)| bytes.clone()))
    }
}

fn grow(size: u64) -> (Tiler, Tiles) {
    let mut tree = Tiler::new();
    let mut tiles = Tiles::default();
    for n in 0..size {
        tree.push(leaf_hash(n.to_string().as_bytes())).unwrap();
        tree.filled().for_each(|(tile, bytes)| tiles.put(tile, bytes));
    }
    tree.partials().for_each(|(tile, bytes)| tiles.put(tile, bytes));
    (tree, tiles)
}

fn digest<'a>(hashes: impl IntoIterator<Item = &'a Hash>) -> String {
    let mut digest = Sha256::new();
    hashes.into_iter().for_each(|hash| digest.update(hash.as_bytes()));
    hex::encode(digest.finalize())
}

fn hashes(proof: &Value) -> (u64, u64, Vec<Hash>) {
    let hashes = proof["hashes"].as_array().unwrap().iter();
    let hashes = hashes
        .map(|hash| Hash::from_base64(hash.as_str().unwrap()).unwrap())
        .collect();
    (proof["from"].as_u64().unwrap(), proof["size"].as_u64().unwrap(), hashes)
}

#[test]
fn a_large_tree_has_the_same_tiles_root_and_proofs() {
    let oracle = oracle();
    let size = oracle["leaves"].as_u64().unwrap();
    let (tree, tiles) = grow(size);
    assert_eq!(tree.root().to_string(), oracle["root"].as_str().unwrap());

    let mut digest = Sha256::new();
    for (tile, bytes) in tiles.0.values() {
        digest.update(format!("{tile}\n"));
        digest.update(bytes);
    }
    assert_eq!(hex::encode(digest.finalize()), oracle["tiles"].as_str().unwrap());

    let mut nodes = TileNodes::new(tiles, size).unwrap();
    for proof in oracle["included"].as_array().unwrap() {
        let (index, size, expected) = hashes(proof);
        assert_eq!(
            prove_inclusion(&mut nodes, index, size).unwrap(),
            expected,
            "leaf {index}"
        );
        verify_inclusion(&leaf_hash(index.to_string().as_bytes()), index, &expected, &tree.head()).unwrap();
    }
    for proof in oracle["consistent"].as_array().unwrap() {
        let (old, new, expected) = hashes(proof);
        assert_eq!(prove_consistency(&mut nodes, old, new).unwrap(), expected, "size {old}");
    }
}

#[test]
fn all_proofs_of_small_trees_are_the_same() {
    let oracle = oracle();
    let (_, tiles) = grow(270);
    let mut nodes = TileNodes::new(tiles, 270).unwrap();
    let (mut inclusion, mut consistency, mut roots) = (Vec::new(), Vec::new(), Vec::new());
    for size in (1..=40).chain(250..=270) {
        roots.push(grow(size).0.root());
        for from in 0..size {
            inclusion.extend(prove_inclusion(&mut nodes, from, size).unwrap());
            consistency.extend(prove_consistency(&mut nodes, from, size).unwrap());
        }
    }
    assert_eq!(digest(&roots), oracle["roots"].as_str().unwrap());
    assert_eq!(digest(&inclusion), oracle["inclusion"].as_str().unwrap());
    assert_eq!(digest(&consistency), oracle["consistency"].as_str().unwrap());
}

#[test]
fn paths_of_tiles_are_the_same() {
    let oracle = oracle();
    let paths = oracle["paths"].as_array().unwrap();
    assert_eq!(paths.len(), 4);
    for path in paths {
        let number = |at: usize| path[at].as_u64().unwrap();
        let tile = TileId::new(number(0) as u8, number(1), number(2) as u16).unwrap();
        assert_eq!(tile.to_string(), path[3].as_str().unwrap());
        assert_eq!(path[3].as_str().unwrap().parse(), Ok(tile));
    }
}

#[test]
fn keys_and_signatures_are_the_same() {
    let oracle = oracle();
    let text = |name: &str| oracle[name].as_str().unwrap();
    let signer = Ed25519Signer::parse(text("skey")).unwrap();
    assert_eq!(signer.private_text().as_str(), text("skey"));
    let verifier: Ed25519Verifier = text("vkey").parse().unwrap();
    assert_eq!(signer.verifier(), verifier);
    let checkpoint = Checkpoint::open(text("checkpoint"), &[&verifier]).unwrap();
    assert_eq!(checkpoint.head().size, oracle["leaves"].as_u64().unwrap());
    assert_eq!(checkpoint.sign(&[&signer]).unwrap(), text("checkpoint"));
}
