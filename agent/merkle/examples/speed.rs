//! What the tree's operations cost on this machine, one thread.
//!
//! `cargo run --release -p auditmon-merkle --example speed [LEAVES]`

use std::hint::black_box;
use std::time::Instant;

use auditmon_merkle::{
    Checkpoint, Ed25519Signer, Frontier, Note, TileId, TileNodes, TileReader, Tiler, leaf_hash, node_hash,
    prove_consistency, prove_inclusion, verify_consistency, verify_inclusion,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let leaves = std::env::args().nth(1).map_or(Ok(1 << 20), |n| n.parse())?;
    let leaf = leaf_hash(&[7; 66]);
    measure("leaf hash of 66 bytes", leaves, |n| leaf_hash(&[n as u8; 66]));
    measure("node hash", leaves, |n| node_hash(&leaf, &[n as u8; 32].into()));

    let mut frontier = Frontier::new();
    measure("Frontier::push", leaves, |_| frontier.push(leaf));
    measure("Frontier::root", 1000, |_| frontier.root());
    let mut tree = Tiler::new();
    let mut tiles = Tiles::default();
    measure("Tiler::push, tiles taken", leaves, |_| {
        let pushed = tree.push(leaf);
        tree.filled().for_each(|(tile, bytes)| tiles.put(tile, bytes));
        pushed
    });
    tree.partials().for_each(|(tile, bytes)| tiles.put(tile, bytes));
    measure("Tiler::resume", 100, |_| {
        Tiler::resume(leaves, &mut tiles).map(|tree| tree.root())
    });

    let head = tree.head();
    let (index, old) = (leaves / 3, leaves / 2 + 1);
    measure("inclusion proof from tiles", 1000, |_| {
        TileNodes::new(&mut tiles, leaves).map(|mut nodes| prove_inclusion(&mut nodes, index, leaves))
    });
    let mut nodes = TileNodes::new(&mut tiles, leaves)?;
    let included = prove_inclusion(&mut nodes, index, leaves)?;
    let consistent = prove_consistency(&mut nodes, old, leaves)?;
    println!("{:32} {:>10} hashes", "inclusion proof", included.len());
    measure("verify inclusion", 10_000, |_| {
        verify_inclusion(&leaf, index, &included, &head)
    });
    let mut older = Frontier::new();
    for _ in 0..old {
        older.push(leaf)?;
    }
    let older = older.head();
    measure("verify consistency", 10_000, |_| {
        verify_consistency(&older, &head, &consistent)
    });
    verify_inclusion(&leaf, index, &included, &head)?;
    verify_consistency(&older, &head, &consistent)?;

    let key = Ed25519Signer::from_seed("host/0011", &[1; 32])?;
    let verifier = key.verifier();
    let checkpoint = Checkpoint::new("host/0011", head)?;
    let note = checkpoint.sign(&[&key])?;
    measure("sign a checkpoint", 1000, |_| checkpoint.sign(&[&key]));
    measure("open a checkpoint", 1000, |_| Checkpoint::open(&note, &[&verifier]));
    measure("read a note", 10_000, |_| {
        Note::parse(&note).map(|note| note.signatures().len())
    });
    Ok(())
}

/// Calls `times` times, in rounds; prints the mean of the best round, in which
/// nobody else had the processor.
fn measure<T>(name: &str, times: u64, mut call: impl FnMut(u64) -> T) {
    let round = times.div_ceil(50).max(1);
    let mut best = u128::MAX;
    let mut n = 0;
    while n < times {
        let end = (n + round).min(times);
        let begin = Instant::now();
        for n in n..end {
            black_box(call(black_box(n)));
        }
        best = best.min(begin.elapsed().as_nanos() / u128::from(end - n));
        n = end;
    }
    println!("{name:32} {best:>10} ns");
}

/// Tiles in memory, by level and place.
#[derive(Default)]
struct Tiles(std::collections::HashMap<(u8, u64), Vec<u8>>);

impl Tiles {
    fn put(&mut self, tile: TileId, bytes: &[u8]) {
        self.0.insert((tile.level(), tile.index()), bytes.to_vec());
    }
}

impl TileReader for Tiles {
    type Error = std::convert::Infallible;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(&(tile.level(), tile.index())).cloned())
    }
}
