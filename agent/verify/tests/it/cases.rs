//! The journal that is tampered with, and what more than one test does to it.

use crate::model::{Dir, Model};

/// Of a segment in the middle, an event.
pub(crate) const EVENT: u64 = 300;

pub(crate) fn usual() -> (Model, Dir) {
    let model = Model::usual();
    let dir = Dir::of(&model);
    (model, dir)
}

/// Without rows: only the journal's own files tell.
pub(crate) fn alone() -> (Model, Dir) {
    let mut model = Model::usual();
    model.stored = None;
    let dir = Dir::of(&model);
    (model, dir)
}

/// The heads' sizes around a seq.
pub(crate) fn range(model: &Model, seq: u64) -> (u64, u64) {
    let sizes: Vec<u64> = model
        .notes
        .iter()
        .map(|note| note.lines().nth(1).unwrap().parse().unwrap())
        .collect();
    let good = sizes.iter().copied().filter(|size| *size <= seq).max().unwrap_or(0);
    (good, sizes.into_iter().filter(|size| *size > seq).min().unwrap())
}

pub(crate) fn change(model: &mut Model, seq: u64) {
    let rec = model.rec_mut(seq);
    let text = String::from_utf8(rec.payload.clone()).unwrap();
    rec.payload = text.replace("alice", "mallo").into_bytes();
}

#[test]
fn what_nobody_changed_holds() {
    let (model, mut dir) = usual();
    let report = dir.holds();
    assert_eq!(report.counts.records, model.size());
    assert_eq!(report.counts.rows, model.rows.len() as u64);
    assert_eq!(report.counts.checkpoints, model.notes.len() as u64);
    let text = report.to_string();
    assert!(text.contains("--key") && text.contains("--against"), "{text}");
    dir.key = Some(model.vkey());
    dir.against = Some(model.notes[3].clone());
    let report = dir.holds();
    assert_eq!(report.not_seen, Vec::<String>::new());
    assert_eq!(report.counts.checkpoints, model.notes.len() as u64 + 1);
}
