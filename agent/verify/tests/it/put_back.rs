//! A journal that was put back or rewritten, by what sinks and others remember.

use auditmon_journal::DirLock;
use auditmon_journal::format::{Kind, Position};
use serde_json::json;

use crate::cases::change;
use crate::model::{Dir, Leave, Model};

#[test]
fn a_tail_of_the_same_size_rewritten_while_stopped() {
    let mut model = Model::usual();
    // Written and seen by a sink in the last second before a kill: not signed.
    let last = model.event(Kind::Application, "login", "alice", json!({"n": 1}));
    model.ended = false;
    model.stored = None;
    model.positions.insert("webhook.one".to_owned(), model.position());
    let dir = Dir::of(&model);
    let report = dir.holds();
    assert!(report.to_string().contains("ended before they were signed"), "{report}");
    change(&mut model, last);
    model.write_except(dir.path(), Leave::default());
    let id = model.rec(last).id();
    dir.finds(
        &format!("tampered: positions/webhook.one: seq {last}, event {id}: "),
        "not the record that the sink has seen",
    );
    // Or cut off.
    model.segs.last_mut().unwrap().frames.pop();
    model.write_except(dir.path(), Leave::default());
    let cut = || {
        dir.finds(
            &format!("tampered: positions/webhook.one: seq {last}: "),
            "the sink has seen 1 records more",
        )
    };
    cut();
    // Beside what holds the lock as an agent does, too.
    let _lock = DirLock::acquire(dir.path()).unwrap();
    cut();
}

#[test]
fn a_position_in_a_newer_generation_than_there_is() {
    let mut model = Model::usual();
    let newer = Position {
        origin: format!("{}/gen/2", crate::model::ORIGIN),
        seq: 7,
        leaf_hash: [1; 32],
    };
    // The store's.
    model.rows.clear();
    model.stored = Some(newer.clone());
    let what = "the sink has seen 7 records of generation 2, which the journal hasn't: it was put back";
    Dir::of(&model).finds("tampered: events.db (position): ", what);
    // That of a sink without a memory of its own.
    model.stored = None;
    model.positions.insert("webhook.one".to_owned(), newer);
    Dir::of(&model).finds("tampered: positions/webhook.one: ", what);
    // A store may serve other agents, and their journals aren't here.
    let other = Position {
        origin: "host-b.example.com/0011223344556677".to_owned(),
        seq: 7,
        leaf_hash: [1; 32],
    };
    model.positions.clear();
    model.stored = Some(other);
    Dir::of(&model).holds();
}

#[test]
fn the_directory_put_back_to_an_older_copy() {
    // A copy of a moment at which it was stopped in order.
    let mut model = Model::usual();
    let old = model.clone();
    model.event(Kind::Application, "login", "alice", json!({"n": 1}));
    model.sign();
    model.store();
    let mut dir = Dir::of(&old);
    let report = dir.holds();
    assert!(
        report
            .to_string()
            .contains("not seen: whether the whole directory was put back"),
        "{report}"
    );
    dir.against = Some(model.notes.last().unwrap().clone());
    let size = old.size();
    dir.finds(&format!("tampered: FILE: seq {size}: "), "not in the journal");
    dir.against = None;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("events.db");
    model.write_database(&file);
    dir.database = Some(file.clone());
    let faults = dir.finds(&format!("tampered: {}: seq {size}, event ", file.display()), "put back");
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("the sink has seen 1 records more")),
        "{faults:?}"
    );
}
