//! Records changed, exchanged, cut off or erased by someone who recomputes what can be recomputed.

use auditmon_journal::format::Kind;
use serde_json::json;

use crate::cases::{EVENT, alone, change, range, usual};
use crate::model::{Dir, Leave, Model, Rec, canonical, seg};

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
