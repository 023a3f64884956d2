//! Each item of the threat table in docs/verify.md, told by `auditmon verify` and by the verifier in another language.
//!
//! The attacker recomputes checksums, salts, commitments, marks, leaves and tiles, and leaves behind only what a test
//! names; signatures he can't make. A record is named by segment and seq where a leaf file, a tile or a row still says
//! what it was, else the range between the last checkpoint that holds and the first that doesn't.
//!
//! A tail that was rewritten while stopped, and a directory that was put back, are noticed at the start, too:
//! `rollback.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacker;
// The writer of journals that follows the format page, with the attacker's hands.
#[allow(dead_code, reason = "the verifier's own tests use the rest")]
#[path = "../../../agent/verify/tests/it/model.rs"]
mod model;

use std::path::PathBuf;

use auditmon_e2e::binary;
use auditmon_journal::format::Kind;
use auditmon_merkle::Ed25519Signer;
use model::{Dir, Leave, Model, canonical, insert, leaf_file, recount, seg};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

/// An event in the middle of the middle segment, which begins with 254.
const EVENT: u64 = 300;
const MIDDLE: u64 = 254;

/// What one of the verifiers is expected to say.
#[derive(Clone, Copy)]
enum Says<'a> {
    /// It was tampered with, in a line that has all of these.
    Tampered(&'a [&'a str]),
    /// Not noticed; what it says that it can't see has this.
    Unseen(&'a str),
    /// It could not check, and says why.
    NoVerdict(&'a str),
}
use Says::{NoVerdict, Tampered, Unseen};

struct Place {
    dir: Dir,
    model: Model,
    more: Vec<String>,
}

/// With the store's rows, or without.
fn place(rows: bool) -> Place {
    let mut model = Model::usual();
    if !rows {
        model.stored = None;
    }
    let dir = Dir::of(&model);
    Place {
        dir,
        model,
        more: Vec::new(),
    }
}

impl Place {
    /// Writes the changed journal, all computed anew; the store stays.
    fn recompute(&self) {
        self.model.write_except(self.dir.path(), Leave::default());
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.file(name)).unwrap();
    }

    fn id(&self, seq: u64) -> String {
        self.model.rec(seq).id()
    }

    /// Sizes of the checkpoints around a record.
    fn around(&self, seq: u64) -> (u64, u64) {
        let sizes = self
            .model
            .notes
            .iter()
            .map(|note| note.lines().nth(1).unwrap().parse::<u64>().unwrap());
        let (below, above): (Vec<u64>, Vec<u64>) = sizes.partition(|size| *size <= seq);
        (below.into_iter().max().unwrap_or(0), above.into_iter().min().unwrap())
    }

    /// Both verifiers say so.
    #[track_caller]
    fn both(&self, ours: Says<'_>, theirs: Says<'_>) {
        self.ours(ours);
        let dir = self.dir.path().to_str().unwrap();
        let mut arguments = vec![dir];
        arguments.extend(self.more.iter().map(String::as_str));
        if let Some((code, said)) = attacker::python(&arguments) {
            judge("the verifier in Python", theirs, code, &said);
        }
    }

    #[track_caller]
    fn ours(&self, says: Says<'_>) {
        let out = std::process::Command::new(binary())
            .args(["verify", "--data-dir", self.dir.path().to_str().unwrap()])
            .args(&self.more)
            .env_clear()
            .env("HOME", "/nonexistent")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        judge("auditmon verify", says, out.status.code().unwrap(), &said);
    }
}

#[track_caller]
fn judge(who: &str, says: Says<'_>, code: i32, said: &str) {
    match says {
        Tampered(parts) => {
            assert_eq!(code, 1, "{who}: {said}");
            let named = |line: &str| line.starts_with("tampered: ") && parts.iter().all(|part| line.contains(part));
            assert!(said.lines().any(named), "{who}: {parts:?} is expected:\n{said}");
        }
        Unseen(text) | NoVerdict(text) => {
            let expected = if matches!(says, NoVerdict(_)) { 2 } else { 0 };
            assert_eq!(code, expected, "{who}: {said}");
            assert!(said.contains(text), "{who}: `{text}` is expected:\n{said}");
        }
    }
}

fn forge(model: &mut Model, seq: u64) {
    let rec = model.rec_mut(seq);
    let text = String::from_utf8(rec.payload.clone()).unwrap();
    rec.payload = text.replace("alice", "mallo").into_bytes();
    rec.salt = [9; 16];
}

/// Tampering that removes a file can leave something else in its place, which is neither waited for nor an error.
#[test]
fn something_else_in_the_place_of_a_file() {
    for file in [seg(MIDDLE), "journal/1/tile/0/001".to_owned(), "events.db".to_owned()] {
        let place = place(true);
        place.remove(&file);
        std::fs::create_dir(place.dir.file(&file)).unwrap();
        place.both(Tampered(&[&file]), Tampered(&[&file]));
        std::fs::remove_dir(place.dir.file(&file)).unwrap();
        mknodat(CWD, place.dir.file(&file), FileType::Fifo, Mode::RUSR, 0).unwrap();
        place.both(Tampered(&[&file]), Tampered(&[&file]));
    }
}

#[test]
fn what_the_store_did_not_make() {
    for (sql, name) in [
        (
            "CREATE INDEX faster ON events (kind, username) WHERE place <> 300",
            "index faster",
        ),
        ("CREATE VIEW shown AS SELECT * FROM events", "view shown"),
        (
            "CREATE TRIGGER quiet AFTER INSERT ON events BEGIN DELETE FROM events WHERE place = 300; END",
            "trigger quiet",
        ),
    ] {
        let place = place(true);
        let db = rusqlite::Connection::open(place.dir.file("events.db")).unwrap();
        db.execute_batch(sql).unwrap();
        db.close().unwrap();
        place.both(Tampered(&["events.db", name]), Tampered(&["events.db", name]));
    }
}

#[test]
fn a_generation_that_was_never_begun() {
    let place = place(true);
    std::fs::create_dir_all(place.dir.file("journal/2/seg")).unwrap();
    place.both(Unseen("never begun"), Unseen("never begun"));
    // The public keys are given its name before it has an event.
    let name = format!("{}/gen/2", model::ORIGIN);
    let vkey = |seed: u8| Ed25519Signer::from_seed(&name, &[seed; 32]).unwrap().verifier().vkey();
    std::fs::write(place.dir.file("keys/log.vkey"), format!("{}\n", vkey(1))).unwrap();
    std::fs::write(place.dir.file("keys/log.old.vkey"), format!("{}\n", vkey(11))).unwrap();
    place.both(Unseen("never begun"), Unseen("never begun"));
    for key in [place.model.vkey(), vkey(1).to_string()] {
        let mut place = self::place(true);
        std::fs::create_dir_all(place.dir.file("journal/2/seg")).unwrap();
        std::fs::write(place.dir.file("keys/log.vkey"), format!("{}\n", vkey(1))).unwrap();
        place.more = vec!["--key".to_owned(), key];
        place.both(Unseen("never begun"), Unseen("never begun"));
    }
}

/// A kill, or a full disk, before the store has its tables; or an agent that is about to make them.
#[test]
fn a_database_that_was_only_begun() {
    let wal = "PRAGMA journal_mode = WAL";
    let migrations = "PRAGMA journal_mode = WAL; CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY)";
    for sql in ["", wal, migrations] {
        for open in [false, true] {
            let place = place(false);
            std::fs::write(place.dir.file("events.db"), "").unwrap();
            let db = database(&place);
            db.execute_batch(sql).unwrap();
            let _db = open.then_some(db);
            place.both(Unseen("events.db was only begun"), Unseen("events.db was only begun"));
        }
    }
}

#[test]
fn a_link_to_nothing_in_the_place_of_a_file() {
    let place = place(true);
    place.remove("events.db");
    let link = |name: &str| std::os::unix::fs::symlink("/nonexistent", place.dir.file(name)).unwrap();
    link("events.db");
    place.both(NoVerdict("events.db"), NoVerdict("events.db"));
    place.remove("events.db");
    for file in ["journal/origin", "journal/1/checkpoint", &seg(MIDDLE)] {
        let good = std::fs::read(place.dir.file(file)).unwrap();
        place.remove(file);
        link(file);
        place.both(
            Tampered(&[file, "in the place of"]),
            Tampered(&[file, "in the place of"]),
        );
        place.remove(file);
        std::fs::write(place.dir.file(file), good).unwrap();
    }
    // What a kill left unfinished is none of them.
    link("keys/log.vkey.new");
    place.both(Unseen("holds: "), Unseen("good: "));
}

#[test]
fn nothing_was_changed() {
    let place = place(true);
    place.both(Unseen("holds: "), Unseen("good: "));
}

#[test]
fn byte_changed_where_a_leaf_file_is_left() {
    let mut place = place(false);
    let event = format!("seq {EVENT}, event {}", place.id(EVENT));
    forge(&mut place.model, EVENT);
    let leave = Leave {
        leaves: true,
        tiles: false,
    };
    place.model.write_except(place.dir.path(), leave);
    place.both(Tampered(&[&seg(MIDDLE), &event]), Tampered(&[&seg(MIDDLE), &event]));
}

#[test]
fn byte_changed_where_a_tile_is_left() {
    let mut place = place(false);
    let event = format!("seq {EVENT}, event {}", place.id(EVENT));
    forge(&mut place.model, EVENT);
    let leave = Leave {
        leaves: false,
        tiles: true,
    };
    place.model.write_except(place.dir.path(), leave);
    place.both(Tampered(&[&seg(MIDDLE), &event]), Tampered(&["seq 300: "]));
}

#[test]
fn byte_changed_where_the_row_is_left() {
    let mut place = place(true);
    let event = format!("seq {EVENT}, event {}", place.id(EVENT));
    forge(&mut place.model, EVENT);
    place.recompute();
    place.both(Tampered(&[&seg(MIDDLE), &event]), Tampered(&["events.db", &event]));
}

#[test]
fn byte_changed_and_nothing_left_but_checkpoints() {
    let mut place = place(false);
    forge(&mut place.model, EVENT);
    place.recompute();
    let (good, bad) = place.around(EVENT);
    let (ours, theirs) = (
        format!("seq {good} to {}: ", bad - 1),
        format!("seq {good}-{}: ", bad - 1),
    );
    place.both(Tampered(&[&ours]), Tampered(&[&theirs]));
}

#[test]
fn two_events_swapped() {
    let mut place = place(true);
    let (one, two) = (place.model.rec(EVENT).clone(), place.model.rec(EVENT + 2).clone());
    *place.model.rec_mut(EVENT) = two.clone();
    *place.model.rec_mut(EVENT + 2) = one.clone();
    place.recompute();
    for (seq, id) in [(EVENT, one.id()), (EVENT + 2, two.id())] {
        let (ours, theirs) = (format!("seq {seq}, event {id}"), format!("seq {seq}, event "));
        place.both(Tampered(&[&seg(MIDDLE), &ours]), Tampered(&[&theirs]));
    }
}

#[test]
fn last_ones_cut_after_a_checkpoint() {
    let mut place = place(false);
    let size = place.model.size();
    let frames = &mut place.model.segs.last_mut().unwrap().frames;
    frames.truncate(frames.len() - 5);
    place.recompute();
    let (ours, theirs) = (
        format!("seq {} to {}: ", size - 5, size - 1),
        format!("seq {}-{}: ", size - 5, size - 1),
    );
    place.both(
        Tampered(&["journal/1/checkpoint: ", &ours]),
        Tampered(&["journal/1/checkpoint", &theirs]),
    );
}

#[test]
fn middle_segment_removed() {
    let place = place(false);
    place.remove(&seg(MIDDLE));
    place.remove(&leaf_file(MIDDLE));
    let end = place.model.segs[2].first - 1;
    let (ours, theirs) = (format!("seq {MIDDLE} to {end}: "), format!("seq {MIDDLE}-{end}: "));
    place.both(Tampered(&["journal/1/seg: ", &ours]), Tampered(&[&theirs]));
}

#[test]
fn oldest_segments_removed_without_a_retention_event() {
    for leaves in [true, false] {
        let place = place(false);
        place.remove(&seg(0));
        if !leaves {
            place.remove(&leaf_file(0));
        }
        place.both(
            Tampered(&["journal/1/seg: ", "seq 0 to 253: "]),
            Tampered(&["seq 0-253: "]),
        );
    }
}

#[test]
fn record_put_into_erased_form() {
    let mut place = place(false);
    let event = format!("seq {EVENT}, event {}", place.id(EVENT));
    place.model.rec_mut(EVENT).erased = true;
    place.recompute();
    place.both(Tampered(&[&seg(MIDDLE), &event]), Tampered(&[&seg(MIDDLE), &event]));
}

#[test]
fn state_record_changed() {
    let mut place = place(false);
    let state = place
        .model
        .records()
        .find(|(seq, rec)| *seq > 260 && rec.prefix.kind == Kind::State);
    let seq = state.unwrap().0;
    let rec = place.model.rec_mut(seq);
    let last = rec.payload.len() - 1;
    rec.payload[last] ^= 1;
    let leave = Leave {
        leaves: true,
        tiles: false,
    };
    place.model.write_except(place.dir.path(), leave);
    let event = format!("seq {seq}, event ");
    place.both(Tampered(&[&seg(MIDDLE), &event]), Tampered(&[&seg(MIDDLE), &event]));
}

#[test]
fn older_state_repeated_at_a_segments_head() {
    let mut place = place(false);
    let head = place.model.segs[2].first;
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    let now = text(&place.model.rec(head).payload);
    let of_key =
        |(_, rec): &(u64, &model::Rec)| rec.prefix.kind == Kind::State && text(&rec.payload).contains(&now[10..15]);
    let before = place.model.records().find(of_key).unwrap().1.payload.clone();
    assert_ne!(text(&before), now);
    place.model.rec_mut(head).payload = before;
    place.recompute();
    let at = format!("seq {head}");
    place.both(
        Tampered(&[&seg(head), &at, "isn't the newest one"]),
        Tampered(&[&seg(head), &at, "not the newest one"]),
    );
}

#[test]
fn event_id_changed_in_prefix_and_payload() {
    let mut place = place(true);
    let was = place.id(EVENT);
    let rec = place.model.rec_mut(EVENT);
    rec.prefix.event_id[15] ^= 1;
    let prefix = rec.prefix;
    rec.payload = canonical(&prefix, "login", "alice", "billing", &json!({"n": 1}));
    place.recompute();
    let ours = format!("seq {EVENT}, event {was}");
    place.both(Tampered(&[&seg(MIDDLE), &ours]), Tampered(&["seq 300, event "]));
}

#[test]
fn older_checkpoint_put_back() {
    let place = place(false);
    let old = &place.model.notes[4];
    std::fs::write(place.dir.file("journal/1/checkpoint"), old).unwrap();
    let expected = Tampered(&["journal/1/checkpoint: "]);
    place.both(expected, expected);
    // With all that were signed later: the orderly stop was signed.
    std::fs::write(place.dir.file("journal/1/checkpoints"), place.model.notes[..4].concat()).unwrap();
    let put_back = ["journal/1/checkpoint: ", "an older checkpoint was put back"];
    place.both(Tampered(&put_back), expected);
}

#[test]
fn older_checkpoint_put_back_after_a_kill_with_all_later_ones_removed() {
    let mut place = place(false);
    let newest = place.model.notes.last().unwrap().clone();
    place.model.ended = false;
    place.model.notes.truncate(5);
    place.recompute();
    let last = place.model.size() - 1;
    place.both(
        Unseen("or later checkpoints were removed"),
        Unseen("under no checkpoint: not signed yet, or later checkpoints were removed"),
    );
    // Without any checkpoint neither has a verdict.
    let checkpoints = ["checkpoint", "checkpoints"].map(|name| place.dir.file("journal/1").join(name));
    let notes = checkpoints.each_ref().map(|file| std::fs::read(file).unwrap());
    for file in &checkpoints {
        std::fs::remove_file(file).unwrap();
    }
    place.both(
        NoVerdict("no record is under a checkpoint"),
        NoVerdict("no checkpoint covers"),
    );
    for (file, note) in checkpoints.iter().zip(notes) {
        std::fs::write(file, note).unwrap();
    }
    // What somebody kept elsewhere still covers them.
    let file = place.dir.file("kept");
    std::fs::write(&file, newest).unwrap();
    let mut place = place;
    place.more = vec!["--against".to_owned(), file.to_str().unwrap().to_owned()];
    place.both(Unseen("holds: "), Unseen("good: "));
    forge(&mut place.model, last - 1);
    place.recompute();
    place.both(Tampered(&["seq "]), Tampered(&["seq "]));
}

#[test]
fn tail_of_the_same_size_rewritten_while_stopped() {
    let mut place = place(false);
    // Written and seen by a sink in the last second before a kill: not signed.
    let last = place.model.event(Kind::Application, "login", "alice", json!({"n": 1}));
    place.model.ended = false;
    let position = place.model.position();
    place.model.positions.insert("webhook.one".to_owned(), position);
    place.recompute();
    place.both(Unseen("ended before they were signed"), Unseen("under no checkpoint"));
    forge(&mut place.model, last);
    place.recompute();
    let seq = format!("seq {last}");
    let expected = ["positions/webhook.one: ", seq.as_str()];
    place.both(Tampered(&expected), Tampered(&expected));
    // Where no sink had seen it, nothing tells.
    place.model.positions.clear();
    place.remove("positions/webhook.one");
    place.both(Unseen("ended before they were signed"), Unseen("under no checkpoint"));
}

#[test]
fn leaf_file_exchanged() {
    let place = place(false);
    std::fs::copy(place.dir.file(&leaf_file(0)), place.dir.file(&leaf_file(MIDDLE))).unwrap();
    place.both(
        Tampered(&[&leaf_file(MIDDLE), "seq 254 to ", "not the leaf of the record"]),
        Tampered(&["seq 254, event ", "record and leaf file differ"]),
    );
}

#[test]
fn tile_changed() {
    let place = place(false);
    let path = place.dir.file("journal/1/tile/0/001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(EVENT - 256) as usize * 32] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let expected = Tampered(&["journal/1/tile/0/001: ", "seq 300"]);
    place.both(expected, expected);
}

fn database(place: &Place) -> rusqlite::Connection {
    rusqlite::Connection::open(place.dir.file("events.db")).unwrap()
}

#[test]
fn row_changed() {
    let mut place = place(true);
    let event = format!("seq {EVENT}, event {}", place.id(EVENT));
    forge(&mut place.model, EVENT);
    let forged = place.model.rec(EVENT).clone();
    let db = database(&place);
    db.execute("DELETE FROM events WHERE seq = ?1", [EVENT as i64]).unwrap();
    insert(&db, EVENT, &forged);
    recount(&db);
    drop(db);
    let expected = Tampered(&["events.db", &event]);
    place.both(expected, expected);
}

#[test]
fn rows_derived_column_changed() {
    let place = place(true);
    let event = format!("seq {EVENT}, event {}", place.id(EVENT));
    let original = std::fs::read(place.dir.file("events.db")).unwrap();
    for (column, value) in [
        ("origin", "'other'"),
        ("event_name", "'logout'"),
        ("username", "'mallory'"),
        ("resource", "'x'"),
        ("event_source", "'x'"),
        ("source_ip_address", "'10.0.0.1'"),
        ("request_id", "'x'"),
        ("read_only", "1"),
        ("kind", "'kernel'"),
        ("host", "'x'"),
        ("outcome", "'failure'"),
        ("severity", "'critical'"),
        ("event_time_ns", "1"),
        ("received_time_ns", "1"),
    ] {
        let sql = format!("UPDATE events SET {column} = {value} WHERE seq = {EVENT}");
        let db = database(&place);
        db.execute_batch(&sql).unwrap();
        recount(&db);
        drop(db);
        let expected = Tampered(&["events.db", &event]);
        place.both(expected, expected);
        std::fs::write(place.dir.file("events.db"), &original).unwrap();
    }
}

#[test]
fn row_removed() {
    let place = place(true);
    let event = format!("seq {EVENT}, event {}", place.id(EVENT));
    let db = database(&place);
    db.execute("DELETE FROM events WHERE seq = ?1", [EVENT as i64]).unwrap();
    recount(&db);
    drop(db);
    let expected = Tampered(&["events.db", &event]);
    place.both(expected, expected);
}

#[test]
fn rows_that_retention_deleted_while_an_older_one_of_their_kind_stays_for_ever() {
    let mut model = Model::usual();
    let said = model.event(Kind::Agent, "journal.erasure", "auditmon", json!({"seq": EVENT}));
    let deleted = model.event(Kind::Agent, "agent.start", "auditmon", json!(null));
    let newest = model.event(Kind::Agent, "agent.stop", "auditmon", json!(null));
    model.sign();
    model.store();
    model.rec_mut(EVENT).erased = true;
    model
        .rows
        .retain(|seq, rec| *seq != EVENT && (rec.prefix.kind != Kind::Agent || *seq == said || *seq == newest));
    let place = Place {
        dir: Dir::of(&model),
        model,
        more: Vec::new(),
    };
    place.both(
        Unseen("deleted by the store's retention"),
        Unseen("older than every row of their kind"),
    );
    // One that is newer than the oldest that retention left was removed.
    let db = database(&place);
    insert(&db, deleted, place.model.rec(deleted));
    db.execute("DELETE FROM events WHERE seq = ?1", [newest as i64])
        .unwrap();
    recount(&db);
    drop(db);
    let seq = format!("seq {newest}");
    place.both(Tampered(&["events.db", &seq]), Tampered(&["events.db", &seq]));
}

#[test]
fn row_added() {
    let mut place = place(true);
    let size = place.model.size();
    let seq = place
        .model
        .event(Kind::Application, "login", "mallory", json!({"n": 1}));
    assert_eq!(seq, size);
    let db = database(&place);
    insert(&db, seq, place.model.rec(seq));
    recount(&db);
    drop(db);
    let expected = [format!("seq {seq}")];
    place.both(
        Tampered(&["events.db", &expected[0]]),
        Tampered(&["events.db", &expected[0]]),
    );
    // In the middle, where the journal has what a source remembers.
    let place = self::place(true);
    let is_state = |(_, rec): &(u64, &model::Rec)| rec.prefix.kind == Kind::State;
    let state = place.model.records().find(is_state).unwrap().0;
    let db = database(&place);
    insert(&db, state, place.model.rec(EVENT));
    recount(&db);
    drop(db);
    let seq = format!("seq {state}, event ");
    place.both(
        Tampered(&["events.db", &seq, "it was added"]),
        Tampered(&["events.db", &seq, "are not those of the journal"]),
    );
}

/// A copy of a moment at which it was stopped in order, in the place of what came after; also the newest checkpoint
/// and the newest database.
fn put_back() -> (Place, String, PathBuf, tempfile::TempDir) {
    let mut model = Model::usual();
    let old = model.clone();
    model.event(Kind::Application, "login", "alice", json!({"n": 1}));
    model.sign();
    model.store();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("events.db");
    model.write_database(&file);
    let newest = model.notes.last().unwrap().clone();
    let place = Place {
        dir: Dir::of(&old),
        model: old,
        more: Vec::new(),
    };
    (place, newest, file, elsewhere)
}

#[test]
fn directory_put_back_to_an_older_copy_with_nothing_kept_elsewhere_is_not_noticed() {
    let (place, ..) = put_back();
    place.both(
        Unseen("not seen: whether the whole directory was put back to an older copy"),
        Unseen("without --against it cannot be seen whether the whole journal was rolled back"),
    );
}

#[test]
fn directory_put_back_to_an_older_copy_is_noticed_by_a_checkpoint_kept_elsewhere() {
    let (mut place, newest, _, elsewhere) = put_back();
    let file = elsewhere.path().join("checkpoint");
    std::fs::write(&file, newest).unwrap();
    place.more = vec!["--against".to_owned(), file.to_str().unwrap().to_owned()];
    let expected = format!("seq {}: ", place.model.size());
    place.both(Tampered(&[&expected]), Tampered(&[&expected]));
}

#[test]
fn directory_put_back_to_an_older_copy_is_noticed_by_a_store_elsewhere() {
    let (mut place, _, file, _elsewhere) = put_back();
    let file = file.to_str().unwrap().to_owned();
    let event = format!("seq {}, event ", place.model.size());
    place.more = vec!["--database".to_owned(), file.clone()];
    place.ours(Tampered(&[&file, &event]));
    place.ours(Tampered(&["the sink has seen 1 records more"]));
    // The second one knows only events.db in the directory.
    place.more.clear();
    std::fs::copy(&file, place.dir.file("events.db")).unwrap();
    let seq = format!("seq {}", place.model.size());
    place.both(Tampered(&["events.db", &seq]), Tampered(&["events.db", &seq]));
}
