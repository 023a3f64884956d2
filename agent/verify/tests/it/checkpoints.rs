//! Checkpoints put back, removed, changed or signed by others.

use std::time::SystemTime;

use auditmon_journal::DirLock;
use auditmon_journal::format::Kind;
use auditmon_merkle::split_checkpoints;
use auditmon_verify::{DatabaseFile, Request, verify};
use serde_json::json;

use crate::cases::{EVENT, alone, change, usual};
use crate::model::{Dir, Leave, Model, leaf_file, seg};

#[test]
fn an_older_checkpoint_put_back() {
    let (model, dir) = alone();
    let old = &model.notes[4];
    std::fs::write(dir.file("journal/1/checkpoint"), old).unwrap();
    dir.finds("tampered: journal/1/checkpoint: ", "an older one was put back");
    // With all that were signed later.
    std::fs::write(dir.file("journal/1/checkpoints"), model.notes[..4].concat()).unwrap();
    dir.finds(
        "tampered: journal/1/checkpoint: seq ",
        "an older checkpoint was put back",
    );
}

/// Who holds the lock looks like an agent, which signs what it writes.
#[test]
fn an_older_checkpoint_put_back_beside_what_looks_like_an_agent_is_said() {
    let mut model = Model::usual();
    let dir = Dir::of(&model);
    let lock = DirLock::acquire(dir.path()).unwrap();
    let all = dir.holds();
    assert!(!all.to_string().contains("has not signed"), "{all}");
    let covered = model.size();
    model.event(Kind::Application, "login", "alice", json!({"n": 1}));
    model.event(Kind::Application, "login", "alice", json!({"n": 2}));
    model.write(dir.path());
    let report = dir.holds();
    let says = format!("whether seq {covered} to {} are as they were written", covered + 1);
    assert!(report.to_string().contains(&says), "{report}");
    assert!(report.to_string().contains("has not signed"), "{report}");
    drop(lock);
    // What can't be a lock is none.
    std::fs::remove_file(dir.file("lock")).unwrap();
    std::os::unix::fs::symlink("lock", dir.file("lock")).unwrap();
    dir.finds("tampered: journal/1/checkpoint: ", "an older checkpoint was put back");
}

#[test]
fn all_checkpoints_removed_and_a_kill_feigned_is_no_verdict() {
    let (mut model, mut dir) = alone();
    let newest = model.notes.last().unwrap().clone();
    let key = model.vkey();
    let remove = |dir: &Dir| {
        for name in ["checkpoint", "checkpoints"] {
            std::fs::remove_file(dir.file("journal/1").join(name)).unwrap();
        }
    };
    model.ended = false;
    model.write_except(dir.path(), Leave::default());
    remove(&dir);
    for key in [None, Some(key)] {
        dir.key = key;
        let error = dir.check().unwrap_err().to_string();
        assert!(
            error.starts_with("journal/1/checkpoint: no record is under a checkpoint"),
            "{error}"
        );
    }
    // What was kept elsewhere covers them.
    dir.against = Some(newest);
    dir.holds();
    change(&mut model, EVENT);
    model.write_except(dir.path(), Leave::default());
    remove(&dir);
    dir.finds("tampered: journal/1/seg: seq 0 to ", "FILE");
    // A fault is a fault all the same.
    dir.against = None;
    std::fs::remove_file(dir.file(&seg(254))).unwrap();
    std::fs::remove_file(dir.file(&leaf_file(254))).unwrap();
    dir.finds("tampered: journal/1/seg: seq 254 to ", "a segment is missing");
}

#[test]
fn later_checkpoints_removed_and_a_kill_feigned_is_not_seen_and_that_is_said() {
    let mut model = Model::usual();
    model.event(Kind::Agent, "agent.start", "auditmon", json!(null));
    let (first, last) = (model.size() - 192, model.size() - 1);
    let kept = model
        .notes
        .iter()
        .rposition(|note| note.lines().nth(1).unwrap().parse::<u64>().unwrap() <= first);
    model.notes.truncate(kept.unwrap() + 1);
    let covered: u64 = model.notes.last().unwrap().lines().nth(1).unwrap().parse().unwrap();
    model.ended = false;
    model.stored = None;
    let report = Dir::of(&model).holds();
    let says = format!("whether seq {covered} to {last} are as they were written");
    let count = format!(
        "or later checkpoints were removed; they are {} records of ",
        last + 1 - covered
    );
    let found = report
        .not_seen
        .iter()
        .any(|text| text.contains(&says) && text.contains(&count) && text.contains(" s (starts of the agent: 1)"));
    assert!(found, "{report}");
}

#[test]
fn checkpoints_removed_or_changed() {
    let (model, dir) = alone();
    std::fs::remove_file(dir.file("journal/1/checkpoint")).unwrap();
    dir.finds("tampered: journal/1/checkpoint: ", "missing");
    std::fs::remove_file(dir.file("journal/1/checkpoints")).unwrap();
    dir.finds("tampered: journal/1/checkpoint: ", "missing");
    let (_, dir) = alone();
    let text = model.notes.last().unwrap().replace("\n681", "\n680");
    let text = if text == *model.notes.last().unwrap() {
        text.replacen(
            &format!("\n{}\n", model.size()),
            &format!("\n{}\n", model.size() - 1),
            1,
        )
    } else {
        text
    };
    std::fs::write(dir.file("journal/1/checkpoint"), text).unwrap();
    dir.finds("tampered: journal/1/checkpoint: ", "its signature doesn't fit its text");
    // What the one before covers is signed all the same.
    let before: u64 = model.notes[model.notes.len() - 2]
        .lines()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    dir.finds(
        &format!("tampered: journal/1/checkpoint: seq {before} to {}: ", model.size() - 1),
        "the newest one was changed",
    );
}

#[test]
fn a_key_from_elsewhere_shows_that_all_was_signed_anew() {
    let (mut model, mut dir) = usual();
    let vkey = model.vkey();
    let old = model.notes.last().unwrap().clone();
    change(&mut model, EVENT);
    model.key = auditmon_merkle::Ed25519Signer::from_seed(crate::model::ORIGIN, &[9; 32]).unwrap();
    model.notes.clear();
    model.sign();
    model.store();
    model.write(dir.path());
    let report = dir.holds();
    assert!(
        report
            .to_string()
            .contains("not seen: whether someone who could write here exchanged the key")
    );
    dir.key = Some(vkey);
    dir.finds("tampered: keys/log.vkey: ", "not the key given");
    dir.finds("tampered: journal/1/checkpoint: ", "not signed with the journal's key");
    dir.key = None;
    dir.against = Some(old);
    dir.finds("tampered: FILE: ", "exchanged");
}

#[test]
fn a_second_history_that_was_signed_too_is_found() {
    let (model, mut dir) = alone();
    let mut other = model.clone();
    change(&mut other, EVENT);
    other.notes.clear();
    other.sign();
    dir.against = Some(other.notes[0].clone());
    dir.finds("tampered: journal/1/seg: seq ", "FILE");
    assert_eq!(split_checkpoints(&model.notes.concat()).count(), model.notes.len());
}

#[test]
fn what_was_signed_while_the_newest_segment_was_checked_is_not_late() {
    let mut model = Model::usual();
    let covered = model.size();
    let signed: Vec<String> = (0..3)
        .map(|_| {
            model.event(Kind::Application, "login", "alice", json!({}));
            model.sign();
            model.notes.pop().unwrap()
        })
        .collect();
    let last = model.size() - 1;
    // Of what is written meanwhile, all but the first two or none is old.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut fresh = model.clone();
    fresh.rec_mut(last).prefix.received_ns = now.as_nanos() as u64;
    for (model, note, late) in [
        (&model, None, Some(covered)),
        (&model, Some(&signed[0]), Some(covered + 1)),
        (&model, Some(&signed[2]), None),
        (&fresh, Some(&signed[0]), Some(covered + 1)),
        (&fresh, Some(&signed[1]), None),
    ] {
        let mut model = model.clone();
        model.ended = false;
        let dir = Dir::of(&model);
        let _lock = DirLock::acquire(dir.path()).unwrap();
        let size = |first: u64| dir.file(&seg(first)).metadata().unwrap().len();
        // All frames of the segments before, which have a head each.
        let before = model.segs[..2].iter().map(|seg| size(seg.first) - 64).sum();
        let report = verify(&Request {
            data_dir: dir.path(),
            key: None,
            against: None,
            database: DatabaseFile::Usual(dir.file("events.db")),
            progress: &|progress| {
                if let Some(note) = note.filter(|_| progress.done > before) {
                    std::fs::write(dir.file("journal/1/checkpoint"), note).unwrap();
                }
            },
        });
        let report = report.unwrap();
        assert!(report.holds(), "{report}");
        let text = report.to_string();
        match late {
            Some(first) => {
                let says = format!("whether seq {first} to {last} are as they were written: something runs there");
                assert!(text.contains(&says), "`{says}` is expected: {text}");
            }
            None => assert!(!text.contains("has not signed"), "{text}"),
        }
    }
}
