//! Proofs made from a directory and checked with a key alone.

use std::path::PathBuf;
use std::time::Duration;

use auditmon_journal::format::Kind;
use auditmon_merkle::event_proof;
use auditmon_verify::{ProveError, ProveRequest, check_proofs, prove};
use serde_json::json;

use crate::model::{Dir, Model, leaf_file, seg};

fn request<'a>(dir: &'a Dir, database: Option<&'a PathBuf>, event_id: [u8; 16]) -> ProveRequest<'a> {
    ProveRequest {
        data_dir: dir.path(),
        database,
        event_id,
        patience: Duration::ZERO,
    }
}

#[test]
fn every_event_is_proved_from_rows_leaves_and_records() {
    let model = Model::usual();
    let dir = Dir::of(&model);
    let database = dir.file("events.db");
    for tiles in [true, false] {
        if !tiles {
            std::fs::remove_dir_all(dir.file("journal/1/tile")).unwrap();
        }
        for database in [Some(&database), None] {
            for (seq, rec) in model.records().filter(|(seq, _)| seq % 31 == 0 || *seq > 670) {
                let proof = prove(&request(&dir, database, rec.prefix.event_id));
                if rec.prefix.kind == Kind::State {
                    assert!(matches!(proof, Err(ProveError::Unknown(_))), "a state is no event");
                    continue;
                }
                let text = proof.unwrap().to_string();
                let proven = check_proofs(&text, &model.vkey()).unwrap();
                assert_eq!(proven.len(), 1);
                assert_eq!((proven[0].seq, proven[0].fault.as_deref()), (Some(seq), None));
                assert_eq!(proven[0].event.as_deref().unwrap().as_bytes(), rec.payload);
            }
        }
    }
}

#[test]
fn a_sealed_event_is_proved_without_the_segment_that_is_being_written() {
    let model = Model::usual();
    let dir = Dir::of(&model);
    std::fs::remove_file(dir.file(&seg(model.segs[2].first))).unwrap();
    let proof = prove(&request(&dir, None, model.rec(300).prefix.event_id)).unwrap();
    let size: u64 = proof.tlog_proof().note().lines().nth(1).unwrap().parse().unwrap();
    assert!(300 < size && size <= model.segs[2].first, "{size}");
    // Where no checkpoint ends between, the newest is what there is.
    let dir = Dir::of(&model);
    std::fs::remove_file(dir.file("journal/1/checkpoints")).unwrap();
    let proof = prove(&request(&dir, None, model.rec(300).prefix.event_id)).unwrap();
    let size: u64 = proof.tlog_proof().note().lines().nth(1).unwrap().parse().unwrap();
    assert_eq!(size, model.size());
}

#[test]
fn several_proofs_are_one_file_and_each_is_checked() {
    let model = Model::usual();
    let mut dir = Dir::of(&model);
    let ids = [6, 300, 500].map(|seq| model.rec(seq).prefix.event_id);
    let proofs: Vec<_> = ids.iter().map(|id| prove(&request(&dir, None, *id)).unwrap()).collect();
    let file = event_proof::join(&proofs);
    assert_eq!(file.lines().filter(|line| *line == "---").count(), 2);
    let proven = check_proofs(&file, &model.vkey()).unwrap();
    assert_eq!(
        proven.iter().filter_map(|proven| proven.seq).collect::<Vec<_>>().len(),
        3
    );
    let other = auditmon_merkle::Ed25519Signer::from_seed(crate::model::ORIGIN, &[9; 32]).unwrap();
    let proven = check_proofs(&file, &other.verifier().vkey().to_string()).unwrap();
    assert!(
        proven
            .iter()
            .all(|proven| proven.fault.is_some() && proven.event.is_none())
    );
    let mut changed = file.clone();
    changed.replace_range(
        changed.find("salt ").unwrap() + 5..changed.find("salt ").unwrap() + 7,
        "AA",
    );
    let proven = check_proofs(&changed, &model.vkey()).unwrap();
    assert_eq!(
        proven.iter().filter(|proven| proven.fault.is_some()).count(),
        1,
        "{proven:?}"
    );
    assert!(check_proofs(&file, "no key").is_err());
    // What was proved before, the journal must have.
    dir.against = Some(file);
    dir.holds();
}

#[test]
fn what_has_no_proof_says_why() {
    let mut model = Model::usual();
    let late = model.event(Kind::Application, "login", "alice", json!({}));
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    model.event(Kind::Agent, "journal.retention", "auditmon", data);
    model.segs[0].expired = true;
    let dir = Dir::of(&model);
    let none = prove(&request(&dir, None, [7; 16])).unwrap_err();
    assert!(matches!(none, ProveError::Unknown(_)), "{none}");
    let gone = prove(&request(&dir, None, model.rec(3).prefix.event_id)).unwrap_err();
    assert!(matches!(gone, ProveError::Gone { seq: 3, .. }), "{gone}");
    // The store has it still.
    let database = dir.file("events.db");
    let row = prove(&request(&dir, Some(&database), model.rec(3).prefix.event_id));
    assert!(row.is_ok(), "{row:?}");
    let early = prove(&request(&dir, None, model.rec(late).prefix.event_id)).unwrap_err();
    assert!(matches!(early, ProveError::NotCovered { .. }), "{early}");
    // A row that was changed is no event of the journal.
    let db = rusqlite::Connection::open(&database).unwrap();
    db.execute_batch("UPDATE events SET salt = zeroblob(16) WHERE place = 300")
        .unwrap();
    db.close().unwrap();
    let broken = prove(&request(&dir, Some(&database), model.rec(300).prefix.event_id)).unwrap_err();
    assert!(matches!(broken, ProveError::Broken { seq: 300, .. }), "{broken}");
    std::fs::remove_file(dir.file(&seg(254))).unwrap();
    std::fs::remove_file(dir.file(&leaf_file(254))).unwrap();
    assert!(prove(&request(&dir, None, model.rec(300).prefix.event_id)).is_err());
}

#[test]
fn an_event_that_is_signed_a_little_later_is_waited_for() {
    let mut model = Model::usual();
    let late = model.event(Kind::Application, "login", "alice", json!({}));
    let dir = Dir::of(&model);
    model.sign();
    let id = model.rec(late).prefix.event_id;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            prove(&ProveRequest {
                patience: Duration::from_secs(60),
                ..request(&dir, None, id)
            })
        });
        std::fs::write(dir.file("journal/1/checkpoint"), model.notes.last().unwrap()).unwrap();
        assert!(waiting.join().unwrap().is_ok());
    });
}
