//! Segments removed or collapsed, and what declares that.

use auditmon_journal::format::Kind;
use auditmon_merkle::split_checkpoints;
use auditmon_verify::{ProveError, ProveRequest, prove};
use serde_json::json;

use crate::cases::alone;
use crate::model::{Dir, Leave, Model, leaf_file, seg, sub_bytes};

#[test]
fn the_middle_segment_removed() {
    let (model, dir) = alone();
    std::fs::remove_file(dir.file(&seg(254))).unwrap();
    std::fs::remove_file(dir.file(&leaf_file(254))).unwrap();
    let end = model.segs[2].first;
    let begins = format!("tampered: journal/1/seg: seq 254 to {}: ", end - 1);
    let faults = dir.finds(&begins, "a segment is missing");
    assert_eq!(faults.len(), 1, "those beside it are whole: {faults:?}");
    // Also where only leaves, or hashes over many of them, are left of the one before.
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    for collapsed in [false, true] {
        let mut model = Model::usual();
        model.event(Kind::Agent, "journal.retention", "auditmon", data.clone());
        model.sign();
        model.stored = None;
        model.segs[0].expired = true;
        model.segs[0].collapsed = collapsed;
        let dir = Dir::of(&model);
        std::fs::remove_file(dir.file(&seg(254))).unwrap();
        std::fs::remove_file(dir.file(&leaf_file(254))).unwrap();
        let faults = dir.finds(&begins, "a segment is missing");
        assert_eq!(faults.len(), 1, "those beside it are whole: {faults:?}");
    }
    // With its leaves left, only the payloads are gone, and nothing says that they may be.
    let (_, dir) = alone();
    std::fs::remove_file(dir.file(&seg(254))).unwrap();
    let faults = dir.finds(
        &format!("tampered: journal/1/seg: seq 254 to {}: ", end - 1),
        "no retention event",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn the_oldest_segments_removed() {
    let (_, dir) = alone();
    std::fs::remove_file(dir.file(&seg(0))).unwrap();
    dir.finds("tampered: journal/1/seg: seq 0 to 253: ", "no retention event says so");
    std::fs::remove_file(dir.file(&leaf_file(0))).unwrap();
    dir.finds(
        "tampered: journal/1/seg: seq 0 to 253: ",
        "the oldest segments are missing",
    );
}

#[test]
fn retention_that_was_declared_holds() {
    let mut model = Model::usual();
    model.ended = true;
    model.event(
        Kind::Agent,
        "journal.retention",
        "auditmon",
        json!({"first_seq": 0, "last_seq": 253, "segments": 1}),
    );
    model.sign();
    model.store();
    model.segs[0].expired = true;
    let dir = Dir::of(&model);
    let report = dir.holds();
    assert_eq!(report.counts.expired, 254);
    assert!(
        report.to_string().contains("seq 0 to 253 were removed by retention"),
        "{report}"
    );
    // Not what it says nothing of.
    model.segs[1].expired = true;
    model.write_except(dir.path(), Leave::default());
    let end = model.segs[2].first;
    dir.finds(
        &format!("tampered: journal/1/seg: seq 254 to {}: ", end - 1),
        "no retention event",
    );
}

#[test]
fn a_declaration_that_is_not_signed_declares_nothing() {
    let mut model = Model::usual();
    model.stored = None;
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    model.event(Kind::Agent, "journal.retention", "auditmon", data);
    model.ended = false;
    model.segs[0].expired = true;
    Dir::of(&model).finds("tampered: journal/1/seg: seq 0 to 253: ", "no retention event");
}

#[test]
fn an_application_can_declare_nothing() {
    let mut model = Model::usual();
    model.stored = None;
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    model.event(Kind::Application, "journal.retention", "auditmon", data);
    model.sign();
    model.segs[0].expired = true;
    Dir::of(&model).finds("tampered: journal/1/seg: seq 0 to 253: ", "no retention event");
}

#[test]
fn subtrees_stand_for_a_collapsed_segment() {
    let mut model = Model::usual();
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    model.event(Kind::Agent, "journal.retention", "auditmon", data);
    model.sign();
    model.stored = None;
    model.segs[0].expired = true;
    let mut dir = Dir::of(&model);
    let bytes = sub_bytes(&model.segs[0]);
    let sub = dir.file(&leaf_file(0).replace(".leaf", ".sub"));
    std::fs::write(&sub, &bytes).unwrap();
    std::fs::remove_file(dir.file(&leaf_file(0))).unwrap();
    let report = dir.holds();
    assert!(
        report.to_string().contains("only hashes over many of them are left"),
        "{report}"
    );
    assert_eq!(report.counts.expired, 254);
    // A checkpoint within it is compared by the tile that is left.
    let within = split_checkpoints(&model.notes.concat())
        .find(|note| {
            note.lines()
                .nth(1)
                .is_some_and(|size| (2..254).contains(&size.parse().unwrap()))
        })
        .unwrap()
        .to_owned();
    let checked = report.counts.checkpoints;
    dir.against = Some(within);
    assert_eq!(dir.holds().counts.checkpoints, checked + 1);
    let tile = dir.file("journal/1/tile/0/000");
    let good = std::fs::read(&tile).unwrap();
    std::fs::remove_file(&tile).unwrap();
    let report = dir.holds();
    assert!(
        report
            .to_string()
            .contains("whether the journal extends the checkpoint"),
        "{report}"
    );
    // The tile that is left belongs to it.
    let mut other = good.clone();
    other[100] ^= 1;
    std::fs::write(&tile, other).unwrap();
    dir.against = None;
    dir.finds(
        "tampered: journal/1/tile/0/000: seq 0 to ",
        "not the hashes that the collapsed segment has",
    );
    std::fs::write(&tile, good).unwrap();
    // With both, a crash came between.
    let leaves: Vec<u8> = model.segs[0].records().flat_map(|rec| rec.leaf()).collect();
    std::fs::write(dir.file(&leaf_file(0)), leaves).unwrap();
    dir.holds();
    std::fs::remove_file(dir.file(&leaf_file(0))).unwrap();
    for (at, says) in [
        (20, "not the records that were signed"),
        (7, "first and last record are others"),
    ] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        std::fs::write(&sub, &other).unwrap();
        dir.finds("tampered: journal/1/seg", says);
    }
    std::fs::write(&sub, &bytes[..bytes.len() - 1]).unwrap();
    dir.finds("tampered: journal/1/seg", "another number of hashes");
    // Nothing but the journal's own word lets payloads go.
    std::fs::write(&sub, &bytes).unwrap();
    dir.holds();
    let id = model.rec(3).prefix.event_id;
    let none = prove(&ProveRequest {
        data_dir: dir.path(),
        database: None,
        event_id: id,
        patience: std::time::Duration::ZERO,
    });
    let none = none.unwrap_err();
    assert!(
        matches!(none, ProveError::UnknownOrCollapsed { below: 254, .. }),
        "{none}"
    );
}

#[test]
fn a_collapsed_segment_that_nothing_declared() {
    let (model, dir) = alone();
    let mut range = auditmon_merkle::Range::new(0);
    for rec in model.segs[0].records() {
        range.push(rec.hash()).unwrap();
    }
    let mut bytes = [0_u64.to_be_bytes(), 253_u64.to_be_bytes()].concat();
    for (_, hash) in range.subtrees() {
        bytes.extend(hash.as_bytes());
    }
    std::fs::write(dir.file(&leaf_file(0).replace(".leaf", ".sub")), &bytes).unwrap();
    std::fs::remove_file(dir.file(&leaf_file(0))).unwrap();
    std::fs::remove_file(dir.file(&seg(0))).unwrap();
    dir.finds("tampered: journal/1/seg: seq 0 to 253: ", "no retention event says so");
}

#[test]
fn older_declarations_are_repeated_by_the_newest() {
    let declares = |first: u64| {
        let mut model = Model::usual();
        let end = model.segs[2].first;
        let data = json!({"first_seq": first, "last_seq": end - 1, "segments": 1});
        model.event(Kind::Agent, "journal.retention", "auditmon", data);
        model.sign();
        model.stored = None;
        model.segs[0].expired = true;
        model.segs[1].expired = true;
        Dir::of(&model)
    };
    declares(0).holds();
    declares(254).finds("tampered: journal/1/seg: seq 0 to 253: ", "no retention event says so");
}
