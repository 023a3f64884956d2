//! Generations of the journal that took the place of others, made by the journal's own writer.

use std::time::Duration;

use auditmon_journal::DirLock;
use auditmon_journal::format::{Body, Kind, Position, RecordIter, SegmentHead, mark, origin_hash, parse_frame};
use auditmon_merkle::{Checkpoint, Ed25519Signer, Ed25519Verifier, Tiler};
use auditmon_verify::{ProveRequest, check_proofs, prove};
use serde_json::json;

use crate::journal::{WAIT, start, wait_for};
use crate::model::{Dir, Model, Rec, leaf_file, seg};

/// Writes a little; a sink remembers more, of this generation of it, and it is begun and ended again.
fn put_back(dir: &Dir, generation: &str) {
    let running = start(dir.path(), |_| {});
    running.write(0, 20);
    assert!(running.handle.close(WAIT));
    drop(running);
    let origin = std::fs::read_to_string(dir.file("journal/origin")).unwrap();
    let seen = Position {
        origin: format!("{origin}{generation}"),
        seq: 1000,
        leaf_hash: [7; 32],
    };
    let running = start(dir.path(), |options| {
        options.remembered = vec![("store".to_owned(), seen)]
    });
    running.write(20, 20);
    assert!(running.handle.close(WAIT));
}

#[test]
fn numbers_of_generations_may_have_gaps_and_none_may_be_missing() {
    for (generation, newest) in [("", 2), ("/gen/4", 5)] {
        let dir = Dir::new();
        put_back(&dir, generation);
        let newest = format!("journal/{newest}");
        let report = dir.holds();
        assert_eq!(
            report
                .not_seen
                .iter()
                .filter(|text| text.contains("took the place"))
                .count(),
            0
        );
        std::fs::rename(dir.file("journal/1"), dir.file("kept")).unwrap();
        dir.finds("tampered: journal/1: ", "missing: every journal begins with it");
        std::fs::rename(dir.file("kept"), dir.file("journal/1")).unwrap();
        // The file that repeats it for the agent has no other say.
        std::fs::write(dir.file(&newest).join("former"), "3 20 contradicted\n").unwrap();
        dir.finds(&format!("tampered: {newest}/former: "), "does not say what the events");
        std::fs::remove_file(dir.file(&newest).join("former")).unwrap();
        let faults = dir.finds(&format!("tampered: {newest}/former: "), "is missing");
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}

#[test]
fn a_former_generation_without_checkpoints_is_what_the_next_one_signed() {
    let dir = Dir::new();
    put_back(&dir, "");
    for name in ["checkpoint", "checkpoints"] {
        let _ = std::fs::remove_file(dir.file("journal/1").join(name));
    }
    // Its end looks like that of a kill.
    let path = dir.file("journal/1/seg/00000000000000000000.seg");
    let good = std::fs::read(&path).unwrap();
    let write = |bytes: &[u8]| std::fs::write(&path, [bytes, &[0; 8192]].concat()).unwrap();
    write(&good);
    let report = dir.holds();
    assert!(
        report
            .to_string()
            .contains("there is no checkpoint, so nothing is signed"),
        "{report}"
    );
    // Without its last records.
    let (at, seq) = last_frame(&good);
    let mut cut = good[..at].to_vec();
    cut.extend(mark(seq));
    write(&cut);
    dir.finds(
        "tampered: journal/1/seg: ",
        "not the records that the next generation says",
    );
}

#[test]
fn a_generation_that_was_never_begun_is_left_out() {
    let model = Model::usual();
    let mut dir = Dir::of(&model);
    dir.key = Some(model.vkey());
    let notes = |report: &auditmon_verify::Report| {
        let note = "a generation that was never begun: it has no event, and the agent goes on with the one before";
        report.notes.iter().filter(|text| text.contains(note)).count()
    };
    for number in 2..4 {
        std::fs::create_dir_all(dir.file(&format!("journal/{number}/seg"))).unwrap();
    }
    std::fs::write(dir.file("journal/2/former"), "1 700 contradicted\n").unwrap();
    // What sources remember comes before the first event.
    let origin = origin_hash(&format!("{}/gen/2", crate::model::ORIGIN));
    let head = SegmentHead { first_seq: 0, origin }.encode();
    let segment = dir.file("journal/2/seg/00000000000000000000.seg");
    std::fs::write(&segment, [head.as_slice(), &mark(0), &[0; 4096]].concat()).unwrap();
    assert_eq!(notes(&dir.holds()), 2);
    // So does the new name of the public key, and of those of before.
    let good = std::fs::read(dir.file("keys/log.vkey")).unwrap();
    let named = |seed: u8, generation: u32| {
        let name = format!("{}/gen/{generation}", crate::model::ORIGIN);
        let key = Ed25519Signer::from_seed(&name, &[seed; 32]).unwrap();
        format!("{}\n", key.verifier().vkey())
    };
    std::fs::write(dir.file("keys/log.old.vkey"), named(11, 2)).unwrap();
    for generation in 2..4 {
        std::fs::write(dir.file("keys/log.vkey"), named(1, generation)).unwrap();
        for key in [Some(model.vkey()), Some(named(1, generation)), None] {
            dir.key = key;
            assert_eq!(notes(&dir.holds()), 2);
        }
    }
    std::fs::write(dir.file("keys/log.vkey"), named(1, 4)).unwrap();
    dir.finds("tampered: keys/log.vkey: ", "the key of another journal");
    std::fs::write(dir.file("keys/log.vkey"), good).unwrap();
    std::fs::remove_file(dir.file("keys/log.old.vkey")).unwrap();
    dir.key = Some(model.vkey());
    let lock = DirLock::acquire(dir.path()).unwrap();
    assert_eq!(notes(&dir.holds()), 2);
    drop(lock);
    // What can't be read may have been one.
    std::fs::write(&segment, [head.as_slice(), &[7; 4096]].concat()).unwrap();
    assert_eq!(notes(&dir.report()), 1, "only that of generation 3");
    std::fs::remove_file(segment).unwrap();
    std::fs::write(dir.file("journal/2/checkpoint"), model.notes.last().unwrap()).unwrap();
    dir.finds("tampered: journal/2/checkpoint: ", "");
}

#[test]
fn a_key_rotated_behind_a_former_generation() {
    let mut dir = Dir::new();
    put_back(&dir, "");
    let origin = std::fs::read_to_string(dir.file("journal/origin")).unwrap();
    let first = std::fs::read_to_string(dir.file("keys/log.vkey")).unwrap();
    let running = start(dir.path(), |_| {});
    let second = running.handle.rotate_key().unwrap();
    assert!(running.handle.finish_rotation().is_ok());
    running.write(40, 5);
    assert!(running.handle.close(WAIT));
    drop(running);
    dir.key = Some(second.clone());
    dir.holds();

    // Each is proved by the key that signed it, under the name of any generation.
    let named = |key: &str, generation: &str| {
        let key: Ed25519Verifier = key.trim().parse().unwrap();
        let public = key.vkey().material().try_into().unwrap();
        let key = Ed25519Verifier::new(&format!("{origin}{generation}"), &public).unwrap();
        key.vkey().to_string()
    };
    for (segment, good, bad) in [
        (seg(0), &first, &second),
        ("journal/2/seg/00000000000000000000.seg".to_owned(), &second, &first),
    ] {
        let records = records_of(&dir, &segment);
        let event = records.iter().rfind(|rec| rec.prefix.kind != Kind::State).unwrap();
        let proof = prove(&ProveRequest {
            data_dir: dir.path(),
            database: None,
            event_id: event.prefix.event_id,
            patience: Duration::ZERO,
        });
        let proof = proof.unwrap().to_string();
        let fault = |key: &str| check_proofs(&proof, key).unwrap().remove(0).fault;
        for generation in ["", "/gen/2", "/gen/7"] {
            assert_eq!(fault(&named(good, generation)), None, "{segment}");
            assert!(fault(&named(bad, generation)).is_some(), "{segment}");
        }
        let other = "host/00112233445566ff";
        let key: Ed25519Verifier = good.trim().parse().unwrap();
        let key = Ed25519Verifier::new(other, &key.vkey().material().try_into().unwrap()).unwrap();
        assert!(fault(&key.vkey().to_string()).is_some(), "of another journal");
    }

    // Who can write there takes the last record away, and puts a key of his own beside the former one.
    let kept = records(&dir);
    let forger = Ed25519Signer::from_seed(&origin, &[9; 32]).unwrap();
    let keys = std::fs::read_to_string(dir.file("keys/log.old.vkey")).unwrap();
    let own = forger.verifier().vkey();
    std::fs::write(dir.file("keys/log.old.vkey"), format!("{keys}{own}\n")).unwrap();
    let mut tree = Tiler::new();
    for rec in &kept[..kept.len() - 1] {
        tree.push(rec.hash()).unwrap();
    }
    let note = Checkpoint::new(&origin, tree.head()).unwrap().sign(&[&forger]).unwrap();
    std::fs::write(dir.file("journal/1/checkpoint"), note).unwrap();
    std::fs::write(dir.file("journal/1/checkpoints"), "").unwrap();
    let path = dir.file(&seg(0));
    let good = std::fs::read(&path).unwrap();
    let (at, seq) = last_frame(&good);
    std::fs::write(&path, [&good[..at], &mark(seq)].concat()).unwrap();
    dir.finds(
        "tampered: journal/1/seg: ",
        "not the records that the next generation says",
    );
}

/// Offset of the last frame that has records, and its first seq.
fn last_frame(segment: &[u8]) -> (usize, u64) {
    let (mut at, mut last) = (64, None);
    while let Ok((head, _)) = parse_frame(&segment[at..]) {
        if head.count > 0 {
            last = Some((at, head.first_seq));
        }
        at += head.len();
    }
    last.unwrap()
}

#[test]
fn a_generation_in_the_middle_is_missing() {
    let dir = Dir::new();
    put_back(&dir, "");
    put_back(&dir, "/gen/2");
    assert!(dir.file("journal/3").exists());
    dir.holds();
    std::fs::remove_dir_all(dir.file("journal/2")).unwrap();
    dir.finds("tampered: journal/2: ", "missing: generation 3 took its place");
}

#[test]
fn a_position_in_a_generation_that_was_lost_is_tampering_until_that_was_accepted() {
    let dir = Dir::new();
    put_back(&dir, "/gen/4");
    let origin = std::fs::read_to_string(dir.file("journal/origin")).unwrap();
    let seen = Position {
        origin: format!("{origin}/gen/4"),
        seq: 1000,
        leaf_hash: [7; 32],
    };
    std::fs::create_dir_all(dir.file("positions")).unwrap();
    // Of a sink that waits for somebody to accept it.
    std::fs::write(dir.file("positions/webhook.one"), seen.encode()).unwrap();
    dir.finds(
        "tampered: positions/webhook.one: ",
        "1000 records of generation 4, which the journal hasn't: it was removed, or put back",
    );
    let running = start(dir.path(), |_| {});
    running.say("journal.rollback_accepted", &json!({"reason": "a snapshot"}));
    assert!(running.handle.close(WAIT));
    drop(running);
    let report = dir.holds();
    let note = "positions/webhook.one: the sink has seen 1000 records of generation 4";
    assert!(
        report
            .notes
            .iter()
            .any(|text| text.starts_with(note) && text.contains("a snapshot")),
        "{report}"
    );
}

/// The records of the first generation's segment.
fn records(dir: &Dir) -> Vec<Rec> {
    records_of(dir, &seg(0))
}

fn records_of(dir: &Dir, segment: &str) -> Vec<Rec> {
    let bytes = std::fs::read(dir.file(segment)).unwrap();
    let (mut at, mut found) = (64, Vec::new());
    while let Ok((head, records)) = parse_frame(&bytes[at..]) {
        found.extend(RecordIter::new(records).map(|record| {
            let record = record.unwrap();
            let Body::Whole { salt, payload } = record.body else {
                panic!()
            };
            Rec {
                prefix: record.prefix,
                salt,
                payload: payload.to_vec(),
                erased: false,
            }
        }));
        at += head.len();
    }
    found
}

#[test]
fn a_gap_of_a_former_generation_that_a_running_agent_has_not_signed_yet_is_not_seen() {
    const LACKS: u64 = 5;
    let dir = Dir::new();
    put_back(&dir, "");
    let records = records(&dir);
    let mut store = Model::new();
    store.stored = Some(Position {
        origin: std::fs::read_to_string(dir.file("journal/origin")).unwrap(),
        seq: records.len() as u64,
        leaf_hash: *records.last().unwrap().hash().as_bytes(),
    });
    let rows = (0..).zip(records).filter(|(_, rec)| rec.prefix.kind != Kind::State);
    store.rows = rows.filter(|(seq, _)| *seq != LACKS).collect();
    store.write_database(&dir.file("events.db"));
    let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
    db.execute("UPDATE events SET origin = (SELECT origin FROM position)", [])
        .unwrap();
    db.close().unwrap();
    let removed = format!("tampered: events.db: seq {LACKS}, event ");
    dir.finds(&removed, "it was removed");

    // Signs once, and then not while this runs.
    let running = start(dir.path(), |options| {
        options.checkpoint_interval = Duration::from_secs(3600);
    });
    running.write(40, 1);
    let signed = || running.handle.checkpoint().map_or(0, |newest| newest.size);
    wait_for("signed", || signed() == running.handle.durable());
    dir.finds(&removed, "it was removed");
    let origin = std::fs::read_to_string(dir.file("journal/origin")).unwrap();
    let data = json!({"sink": "store", "former_origin": origin, "ranges": [[LACKS, LACKS]], "reason": "damaged"});
    running.say("sink.gap", &data);
    let says = format!("whether rows of seq {LACKS} to {LACKS} were removed: the event that says why");
    let report = dir.holds();
    assert!(signed() < running.handle.durable());
    assert!(report.not_seen.iter().any(|text| text.contains(&says)), "{report}");
    assert!(running.handle.close(WAIT));
    drop(running);
    let report = dir.holds();
    assert!(!report.to_string().contains(&says), "{report}");
}

#[test]
fn an_acceptance_excuses_no_damage() {
    let dir = Dir::new();
    let running = start(dir.path(), |_| {});
    running.write(0, 300);
    assert!(running.handle.close(WAIT));
    drop(running);
    let origin = std::fs::read_to_string(dir.file("journal/origin")).unwrap();
    let seen = Position {
        origin,
        seq: 1000,
        leaf_hash: [7; 32],
    };
    std::fs::create_dir_all(dir.file("positions")).unwrap();
    std::fs::write(dir.file("positions/webhook.one"), seen.encode()).unwrap();
    let remembered = vec![("webhook.one".to_owned(), seen)];
    let running = start(dir.path(), |options| options.remembered = remembered);
    dir.finds("tampered: positions/webhook.one: ", "records more than the journal has");
    running.say("journal.rollback_accepted", &json!({"reason": "a snapshot"}));
    assert!(running.handle.close(WAIT));
    drop(running);
    let accepted = |report: &auditmon_verify::Report| report.notes.iter().any(|note| note.contains("a snapshot"));
    assert!(accepted(&dir.holds()));
    for (file, at, says) in [
        (seg(0), 2000, "can't be read"),
        (seg(0), 3, "its head can't be read"),
        (leaf_file(0), 100, "not the leaf of the record"),
        (
            "journal/1/tile/0/000".to_owned(),
            100,
            "not the hash of the record's leaf",
        ),
        ("journal/1/checkpoint".to_owned(), 40, ""),
        ("journal/1/checkpoints".to_owned(), 40, "checkpoint 1: "),
    ] {
        let good = std::fs::read(dir.file(&file)).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(dir.file(&file), bad).unwrap();
        dir.finds(&format!("tampered: {file}: "), says);
        assert!(accepted(&dir.report()), "{file}");
        std::fs::write(dir.file(&file), good).unwrap();
    }
    dir.holds();
}

#[test]
fn what_was_accepted_is_not_told_where_the_check_ends_early() {
    let dir = Dir::new();
    let running = start(dir.path(), |_| {});
    running.write(0, 300);
    assert!(running.handle.close(WAIT));
    drop(running);
    let seen = Position {
        origin: std::fs::read_to_string(dir.file("journal/origin")).unwrap(),
        seq: 100,
        leaf_hash: [7; 32],
    };
    std::fs::create_dir_all(dir.file("positions")).unwrap();
    std::fs::write(dir.file("positions/webhook.one"), seen.encode()).unwrap();
    let remembered = vec![("webhook.one".to_owned(), seen)];
    let running = start(dir.path(), |options| options.remembered = remembered);
    let differs = "tampered: positions/webhook.one: seq 99, ";
    dir.finds(differs, "not the record that the sink has seen");
    let accept = |running: crate::journal::Running| {
        running.say("journal.rollback_accepted", &json!({"reason": "a snapshot"}));
        assert!(running.handle.close(WAIT));
    };
    // A file that opens and gives an error when it is read.
    let tile = dir.file("journal/1/tile/0/001");
    std::os::unix::fs::symlink("/proc/self/mem", &tile).unwrap();
    dir.finds(differs, "");
    accept(running);
    let error = dir.check().unwrap_err();
    assert_eq!(error.place, "journal/1/tile");
    // What no rollback does is told all the same.
    let leaves = dir.file(&leaf_file(0));
    let mut bad = std::fs::read(&leaves).unwrap();
    bad[100] ^= 1;
    std::fs::write(&leaves, bad).unwrap();
    let begins = format!("tampered: {}: ", leaf_file(0));
    let faults = dir.finds(&begins, "not the leaf of the record");
    assert_eq!(faults.len(), 1, "{faults:?}");
    let report = dir.report();
    assert!(
        report
            .not_seen
            .iter()
            .any(|text| text.contains("the check ended early")),
        "{report}"
    );
    std::fs::remove_file(&tile).unwrap();
    let report = dir.report();
    assert!(report.notes.iter().any(|note| note.contains("a snapshot")), "{report}");
}
