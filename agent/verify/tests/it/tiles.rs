//! Leaf files and tiles exchanged or changed.

use auditmon_journal::format::Kind;
use serde_json::json;

use crate::cases::{EVENT, alone};
use crate::model::{Dir, Model, leaf_file};

#[test]
fn a_leaf_file_exchanged() {
    let (_, dir) = alone();
    std::fs::copy(dir.file(&leaf_file(0)), dir.file(&leaf_file(254))).unwrap();
    dir.finds(
        &format!("tampered: {}: seq 254 to ", leaf_file(254)),
        "not the leaf of the record",
    );
    let (model, dir) = alone();
    let path = dir.file(&leaf_file(254));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = (EVENT - 254) as usize * 66;
    bytes[at + 40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let id = model.rec(EVENT).id();
    let faults = dir.finds(
        &format!("tampered: {}: seq {EVENT}, event {id}: ", leaf_file(254)),
        "not the leaf of the record",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_tile_changed() {
    let (model, dir) = alone();
    let path = dir.file("journal/1/tile/0/001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(EVENT - 256) as usize * 32] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let id = model.rec(EVENT).id();
    let faults = dir.finds(
        &format!("tampered: journal/1/tile/0/001: seq {EVENT}, event {id}: "),
        "not the hash of the record's leaf",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
    std::fs::write(&path, [0; 100]).unwrap();
    dir.finds("tampered: journal/1/tile/0/001: ", "100 bytes");
}

#[test]
fn a_tile_of_a_higher_level_changed() {
    let mut model = Model::new();
    for n in 0..66_000_u64 {
        model.event(Kind::Application, "login", "alice", json!(null));
        if n == 65_800 {
            model.segment();
        }
    }
    model.sign();
    let dir = Dir::of(&model);
    dir.holds();
    let path = dir.file("journal/1/tile/1/000");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[77] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    dir.finds(
        "tampered: journal/1/tile/1/000: seq 0 to 65535: ",
        "not the hashes of the tiles below",
    );
}
