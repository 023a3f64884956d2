//! Keys of before: what they signed counts, and nothing newer.

use auditmon_journal::DirLock;
use auditmon_journal::format::Kind;
use serde_json::json;

use crate::model::{Dir, Model};

const EVENT: u64 = 300;

#[test]
fn a_rotated_key_is_no_tampering_and_a_former_one_signs_no_more() {
    let mut model = Model::usual();
    let first = model.vkey();
    for n in 0..2 {
        model.rotate();
        model.event(Kind::Application, "login", "alice", json!({"n": n}));
        model.sign();
    }
    model.store();
    let mut dir = Dir::of(&model);
    dir.against = Some(model.notes[2].clone());
    dir.holds();
    dir.key = Some(model.vkey());
    dir.holds();
    // Who has only the first one can't check what others signed.
    dir.key = Some(first);
    let says = "signed with the directory's key (keys/log.vkey), not with the one given";
    let faults = dir.finds("tampered: journal/1/checkpoint: ", says);
    assert_eq!(faults.len(), 1, "nothing else is wrong: {faults:#?}");
    // Nor beside an agent.
    let lock = DirLock::acquire(dir.path()).unwrap();
    let faults = dir.finds("tampered: journal/1/checkpoint: ", says);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    drop(lock);
    // What is wrong is found all the same.
    let older = dir.file("journal/1/checkpoints");
    let notes = std::fs::read(&older).unwrap();
    let mut changed = notes.clone();
    changed[60] ^= 1;
    std::fs::write(&older, changed).unwrap();
    assert_eq!(dir.faults().len(), 2);
    std::fs::write(&older, notes).unwrap();
    dir.key = Some(model.vkey());
    // Without the line of the first, its checkpoints are nobody's.
    let file = dir.file("keys/log.old.vkey");
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, lines.lines().nth(1).unwrap()).unwrap();
    dir.finds(
        "tampered: journal/1/checkpoints: checkpoint 1: ",
        "not signed with the journal's key",
    );
}

#[test]
fn a_key_that_somebody_puts_there_signs_for_nothing_newer() {
    let mut model = Model::usual();
    let key = model.vkey();
    model.rotate();
    model.rec_mut(EVENT).salt = [9; 16];
    model.notes.clear();
    model.event(Kind::Application, "login", "alice", json!({"n": 1}));
    model.sign();
    let forger = model.key.clone();
    std::mem::swap(&mut model.key, &mut model.former[0]);
    model.stored = None;
    let mut dir = Dir::of(&model);
    assert_ne!(forger.verifier().vkey().to_string(), key);
    dir.key = Some(key);
    dir.finds("tampered: journal/1/checkpoint: ", "signed with a former key only");
    // Nor beside the journal's own.
    let mut model = Model::usual();
    model.rotate();
    std::mem::swap(&mut model.key, &mut model.former[0]);
    let size = model.size();
    model.event(Kind::Application, "login", "alice", json!({"n": 1}));
    std::mem::swap(&mut model.key, &mut model.former[0]);
    model.sign();
    std::mem::swap(&mut model.key, &mut model.former[0]);
    model.event(Kind::Application, "login", "alice", json!({"n": 2}));
    model.sign();
    model.stored = None;
    let number = model.notes.len() - 1;
    assert!(size > 600);
    Dir::of(&model).finds(
        &format!("tampered: journal/1/checkpoints: checkpoint {number}: "),
        "signed with a former key only, behind one of the journal's key",
    );
}
