//! Each tampering, by someone who recomputes what can be recomputed.

use auditmon_journal::format::{Kind, Position};
use auditmon_merkle::split_checkpoints;
use auditmon_verify::{ProveError, ProveRequest, prove};
use serde_json::json;

use crate::model::{Dir, Leave, Model, Rec, canonical, leaf_file, seg, sub_bytes};

/// Of a segment in the middle, an event.
const EVENT: u64 = 300;

fn usual() -> (Model, Dir) {
    let model = Model::usual();
    let dir = Dir::of(&model);
    (model, dir)
}

/// Without rows: only the journal's own files tell.
fn alone() -> (Model, Dir) {
    let mut model = Model::usual();
    model.stored = None;
    let dir = Dir::of(&model);
    (model, dir)
}

/// The heads' sizes around a seq.
fn range(model: &Model, seq: u64) -> (u64, u64) {
    let sizes: Vec<u64> = model
        .notes
        .iter()
        .map(|note| note.lines().nth(1).unwrap().parse().unwrap())
        .collect();
    let good = sizes.iter().copied().filter(|size| *size <= seq).max().unwrap_or(0);
    (good, sizes.into_iter().filter(|size| *size > seq).min().unwrap())
}

fn change(model: &mut Model, seq: u64) {
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

#[test]
fn a_changed_byte_is_named_by_whatever_was_left() {
    let place = format!("tampered: {}: seq {EVENT}, event ", seg(254));
    assert!(Model::usual().segs[1].first == 254, "{}", Model::usual().segs[1].first);
    for leave in [
        Leave {
            leaves: true,
            tiles: false,
        },
        Leave {
            leaves: false,
            tiles: true,
        },
    ] {
        let (mut model, dir) = alone();
        let id = model.rec(EVENT).id();
        change(&mut model, EVENT);
        model.write_except(dir.path(), leave);
        dir.finds(&format!("{place}{id}"), "not the record that was written");
    }
    // The store has the row.
    let (mut model, dir) = usual();
    let id = model.rec(EVENT).id();
    change(&mut model, EVENT);
    model.write_except(dir.path(), Leave::default());
    dir.finds(&format!("{place}{id}"), "not the record that was written");
    // Nothing tells but the checkpoints.
    let (mut model, dir) = alone();
    change(&mut model, EVENT);
    model.write(dir.path());
    let (good, bad) = range(&model, EVENT);
    let faults = dir.finds(
        &format!("tampered: journal/1/seg: seq {good} to {}: ", bad - 1),
        "not the records that were signed",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_byte_changed_without_more_is_damage_of_its_frame() {
    let (model, dir) = usual();
    let path = dir.file(&seg(254));
    let mut bytes = std::fs::read(&path).unwrap();
    let text = model.rec(EVENT).payload.clone();
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    bytes[at + 100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let id = model.rec(EVENT).id();
    let faults = dir.finds(
        &format!("tampered: {}: seq {EVENT}, event {id}: offset", seg(254)),
        "can't be read",
    );
    assert_eq!(faults.len(), 1, "leaf, tile and row stand in for it: {faults:?}");
}

#[test]
fn two_events_swapped() {
    for rows in [true, false] {
        let (mut model, dir) = if rows { usual() } else { alone() };
        let (one, two) = (model.rec(EVENT).clone(), model.rec(EVENT + 2).clone());
        *model.rec_mut(EVENT) = two.clone();
        *model.rec_mut(EVENT + 2) = one.clone();
        model.write_except(dir.path(), Leave::default());
        if rows {
            for (seq, id) in [(EVENT, one.id()), (EVENT + 2, two.id())] {
                dir.finds(
                    &format!("tampered: {}: seq {seq}, event {id}", seg(254)),
                    "not the record",
                );
            }
        } else {
            let (good, bad) = range(&model, EVENT);
            dir.finds(&format!("tampered: journal/1/seg: seq {good} to {}", bad - 1), "signed");
        }
    }
}

#[test]
fn the_last_ones_cut_after_a_checkpoint() {
    for ended in [true, false] {
        let (mut model, dir) = alone();
        let size = model.size();
        let last = model.segs.last_mut().unwrap();
        last.frames.truncate(last.frames.len() - 5);
        model.ended = ended;
        model.write_except(dir.path(), Leave::default());
        dir.finds(
            &format!("tampered: journal/1/checkpoint: seq {} to {}: ", size - 5, size - 1),
            "not in the journal",
        );
    }
}

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
fn a_record_put_into_erased_form() {
    let (mut model, dir) = usual();
    model.rec_mut(EVENT).erased = true;
    model.write_except(dir.path(), Leave::default());
    let id = model.rec(EVENT).id();
    dir.finds(
        &format!("tampered: {}: seq {EVENT}, event {id}: ", seg(254)),
        "no erasure event says so",
    );
    // The journal said so before, and it is signed.
    let mut model = Model::usual();
    model.event(Kind::Agent, "journal.erasure", "auditmon", json!({"seq": EVENT}));
    model.sign();
    model.store();
    model.rows.remove(&EVENT);
    model.rec_mut(EVENT).erased = true;
    assert_eq!(Dir::of(&model).holds().counts.erased, 1);
}

#[test]
fn a_state_changed_or_an_older_one_repeated() {
    let (model, dir) = alone();
    let state = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    let head = model.segs[2].first;
    let key = state(&model.rec(head).payload)[10..15].to_owned();
    // The newest of this key, which the third segment repeats.
    let of_key = |(_, rec): &(u64, &Rec)| rec.prefix.kind == Kind::State && state(&rec.payload).contains(&key);
    let (seq, _) = model.records().take(head as usize).filter(of_key).last().unwrap();
    let mut changed = model.clone();
    let rec = changed.rec_mut(seq);
    let at = rec.payload.len() - 1;
    rec.payload[at] ^= 1;
    changed.write_except(dir.path(), Leave::default());
    let (good, bad) = range(&model, seq);
    dir.finds(&format!("tampered: journal/1/seg: seq {good} to {}", bad - 1), "signed");
    // The next segment repeats another value than the changed one: that names the later one.
    dir.finds(
        &format!("tampered: {}: seq {head}, event ", seg(head)),
        "isn't the newest one",
    );

    let (model, dir) = alone();
    let mut older = model.clone();
    let head = older.segs[2].first;
    let now = state(&older.rec(head).payload);
    let key = &now[10..15];
    let before = model
        .records()
        .find(|(_, rec)| rec.prefix.kind == Kind::State && state(&rec.payload).contains(key))
        .unwrap();
    assert_ne!(state(&before.1.payload), now);
    older.rec_mut(head).payload = before.1.payload.clone();
    older.write_except(dir.path(), Leave::default());
    dir.finds(&format!("tampered: {}: seq {head}", seg(head)), "isn't the newest one");
}

#[test]
fn an_id_changed_in_prefix_and_payload() {
    let (mut model, dir) = usual();
    let was = model.rec(EVENT).id();
    let rec = model.rec_mut(EVENT);
    rec.prefix.event_id[15] ^= 1;
    let prefix = rec.prefix;
    rec.payload = canonical(&prefix, "login", "alice", "billing", &json!({"n": 1}));
    model.write_except(dir.path(), Leave::default());
    dir.finds(
        &format!("tampered: {}: seq {EVENT}, event {was}", seg(254)),
        "not the record",
    );
    // In the prefix alone.
    let (mut model, dir) = usual();
    model.rec_mut(EVENT).prefix.event_id[15] ^= 1;
    model.write_except(dir.path(), Leave::default());
    dir.finds(&format!("tampered: {}: seq {EVENT}", seg(254)), "the id in the payload");
}

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
}

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
    dir.finds(
        &format!("tampered: positions/webhook.one: seq {last}: "),
        "the sink has seen 1 records more",
    );
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

#[test]
fn a_torn_tail_is_unfinished_and_after_an_orderly_end_tampering() {
    let (mut model, dir) = alone();
    let path = dir.file(&seg(model.segs[2].first));
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 1] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    dir.finds(
        &format!("tampered: {}: ", seg(model.segs[2].first)),
        &format!("offset {}", end - 28),
    );
    model.ended = false;
    model.write_except(dir.path(), Leave::default());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[end..end + 10].copy_from_slice(&[7; 10]);
    std::fs::write(&path, bytes).unwrap();
    let report = dir.holds();
    assert!(
        report
            .to_string()
            .contains(&format!("offset {end}: an unfinished write of 10 bytes")),
        "{report}"
    );
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
