//! Rows of the store against the journal.

use std::path::PathBuf;
use std::time::Duration;

use auditmon_journal::DirLock;
use auditmon_journal::format::{Kind, Position};
use auditmon_verify::{ProveRequest, prove};
use serde_json::json;

use crate::cases::{EVENT, usual};
use crate::model::{Dir, Model, insert, recount};

fn change(dir: &Dir, sql: &str) {
    let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
    db.execute_batch(sql).unwrap();
    recount(&db);
    db.close().unwrap();
}

#[test]
fn a_row_changed() {
    let (model, dir) = usual();
    let sql = format!(
        "UPDATE events SET username = 'mallo', canonical = CAST(replace(CAST(canonical AS TEXT), 'alice', 'mallo') AS BLOB)
         WHERE place = {EVENT}"
    );
    change(&dir, &sql);
    let id = model.rec(EVENT).id();
    let faults = dir.finds(
        &format!("tampered: events.db: seq {EVENT}, event {id}: "),
        "the row isn't the event that the journal has",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn each_derived_column_of_a_row_changed() {
    for (column, value) in [
        ("origin", "'other'"),
        ("event_name", "'logout'"),
        ("username", "'mallo'"),
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
        let (model, dir) = usual();
        change(
            &dir,
            &format!("UPDATE events SET {column} = {value} WHERE place = {EVENT}"),
        );
        let id = model.rec(EVENT).id();
        dir.finds(
            &format!("tampered: events.db: seq {EVENT}, event {id}: "),
            &format!("the column {column} isn't what the event says"),
        );
    }
    // The same millisecond of receipt: only the leaf tells.
    let (_, dir) = usual();
    change(
        &dir,
        &format!("UPDATE events SET received_time_ns = received_time_ns + 1 WHERE place = {EVENT}"),
    );
    dir.finds(&format!("tampered: events.db: seq {EVENT}"), "the row isn't the event");
    let (_, dir) = usual();
    change(
        &dir,
        &format!("UPDATE events SET salt = zeroblob(16) WHERE place = {EVENT}"),
    );
    dir.finds(&format!("tampered: events.db: seq {EVENT}"), "the row isn't the event");
}

#[test]
fn a_column_that_is_computed_otherwise() {
    let (_, dir) = usual();
    let sql = "PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, '$.event_time', '$.event_name') WHERE name = 'events';
        PRAGMA writable_schema = OFF;";
    change(&dir, sql);
    dir.finds("tampered: events.db: seq 0, event ", "event_time");
    dir.finds("tampered: events.db: ", "the table events isn't what the store makes");
}

#[test]
fn a_row_removed() {
    let (model, dir) = usual();
    change(&dir, &format!("DELETE FROM events WHERE place = {EVENT}"));
    let id = model.rec(EVENT).id();
    let faults = dir.finds(
        &format!("tampered: events.db: seq {EVENT}, event {id}: "),
        "it was removed",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn the_oldest_rows_may_be_gone_by_retention_and_that_is_said() {
    let (_, dir) = usual();
    change(&dir, "DELETE FROM events WHERE place < 20");
    let report = dir.holds();
    assert!(
        report.to_string().contains("deleted by the store's retention"),
        "{report}"
    );
    // Of one kind: not the agent's, which are newer than those that stayed.
    let (model, dir) = usual();
    let agent = model.records().find(|(_, rec)| rec.prefix.kind == Kind::Agent).unwrap();
    let (seq, id) = (agent.0, agent.1.id());
    change(
        &dir,
        &format!("DELETE FROM events WHERE place < 20 OR place = {}", seq - 1),
    );
    dir.finds(&format!("tampered: events.db: seq {}", seq - 1), "it was removed");
    assert_ne!(id, "");
}

#[test]
fn a_gap_that_was_told_is_none_of_an_attacker() {
    let mut model = Model::usual();
    let data = json!({"sink": "store", "ranges": [[EVENT, EVENT + 3]], "reason": "expired"});
    model.event(Kind::Agent, "sink.gap", "auditmon", data);
    model.sign();
    model.store();
    for seq in EVENT..=EVENT + 3 {
        model.rows.remove(&seq);
    }
    let dir = Dir::of(&model);
    dir.holds();
    change(&dir, &format!("DELETE FROM events WHERE place = {}", EVENT + 5));
    dir.finds(&format!("tampered: events.db: seq {}", EVENT + 5), "it was removed");
}

#[test]
fn a_gap_that_is_not_signed_excuses_no_row() {
    let mut model = Model::usual();
    for (name, data) in [
        (
            "sink.gap",
            json!({"sink": "store", "ranges": [[EVENT, EVENT]], "reason": "expired"}),
        ),
        ("journal.erasure", json!({"seq": EVENT - 1})),
    ] {
        model.event(Kind::Agent, name, "auditmon", data);
    }
    model.ended = false;
    model.store();
    model.rows.remove(&EVENT);
    model.rows.remove(&(EVENT - 1));
    let says = format!(
        "whether rows of seq {} to {EVENT} were removed: the event that says why",
        EVENT - 1
    );
    let report = Dir::of(&model).holds();
    assert!(report.to_string().contains(&says), "{report}");
    model.sign();
    let report = Dir::of(&model).holds();
    assert!(
        !report.to_string().contains("were removed: the event that says why"),
        "{report}"
    );
}

#[test]
fn a_gap_that_a_running_agent_has_not_signed_yet_is_not_seen() {
    let mut model = Model::usual();
    let data = json!({"sink": "store", "ranges": [[EVENT, EVENT]], "reason": "expired"});
    model.event(Kind::Agent, "sink.gap", "auditmon", data);
    model.ended = false;
    model.store();
    model.rows.remove(&EVENT);
    let dir = Dir::of(&model);
    let _running = DirLock::acquire(dir.path()).unwrap();
    let report = dir.holds();
    let says = format!("whether rows of seq {EVENT} to {EVENT} were removed: the event that says why");
    assert!(report.to_string().contains(&says), "{report}");
}

#[test]
fn what_says_why_a_row_is_missing_stays_when_retention_deletes_others_of_its_kind() {
    let gap = json!({"sink": "store", "ranges": [[EVENT, EVENT + 1]], "reason": "expired"});
    for (name, data, rowless) in [
        ("journal.erasure", json!({"seq": EVENT}), 1),
        ("sink.gap", gap, 2),
        ("journal.new_generation", json!({}), 0),
        ("journal.rollback_accepted", json!({}), 0),
    ] {
        let mut model = Model::usual();
        let said = model.event(Kind::Agent, name, "auditmon", data);
        let deleted = model.event(Kind::Agent, "agent.start", "auditmon", json!(null));
        model.segment();
        // The journal has its payload no more either.
        let first = model.segs[3].first;
        let data = json!({"first_seq": 0, "last_seq": first - 1, "segments": 3});
        model.event(Kind::Agent, "journal.retention", "auditmon", data);
        model.sign();
        model.store();
        for seg in &mut model.segs[..3] {
            seg.expired = true;
        }
        model
            .rows
            .retain(|seq, rec| rec.prefix.kind != Kind::Agent || *seq == said || *seq > deleted);
        for seq in EVENT..EVENT + rowless {
            model.rows.remove(&seq);
        }
        let dir = Dir::of(&model);
        dir.holds();
        change(&dir, &format!("DELETE FROM events WHERE place = {}", EVENT + 5));
        dir.finds(&format!("tampered: events.db: seq {}", EVENT + 5), "it was removed");
        if rowless > 0 {
            change(&dir, &format!("DELETE FROM events WHERE place = {said}"));
            dir.finds(&format!("tampered: events.db: seq {EVENT}"), "it was removed");
        }
    }
}

/// The first segment is collapsed, its payloads were removed before; the store has all rows.
fn collapsed() -> (Model, Dir) {
    let mut model = Model::usual();
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    model.event(Kind::Agent, "journal.retention", "auditmon", data);
    model.sign();
    model.store();
    model.segs[0].collapsed = true;
    let dir = Dir::of(&model);
    (model, dir)
}

const FORGE: &str = "UPDATE events SET username = 'mallo', canonical =
    CAST(replace(CAST(canonical AS TEXT), 'alice', 'mallo') AS BLOB) WHERE place = 20";

#[test]
fn rows_of_a_collapsed_segment_are_compared_with_the_tiles_that_are_left() {
    let (model, dir) = collapsed();
    let report = dir.holds();
    assert_eq!(report.counts.rows, model.rows.len() as u64);
    assert!(!report.to_string().contains("not even a leaf"), "{report}");
    change(&dir, FORGE);
    let begins = format!("tampered: events.db: seq 20, event {}: ", model.rec(20).id());
    let faults = dir.finds(&begins, "the row isn't the event that the journal has");
    assert_eq!(faults.len(), 1, "{faults:?}");
    // Where the tile is gone only what the row says of itself is left, and that is said.
    std::fs::remove_file(dir.file("journal/1/tile/0/000")).unwrap();
    let report = dir.holds();
    let rows = model.rows.range(..254).count();
    assert!(
        report
            .not_seen
            .iter()
            .any(|text| text.contains(&format!("whether {rows} rows of "))),
        "{report}"
    );
    change(&dir, "UPDATE events SET username = 'eve' WHERE place = 20");
    dir.finds(&begins, "the column username isn't what the event says");
}

#[test]
fn a_tile_that_is_not_the_collapsed_segments_stands_for_no_row() {
    let (model, dir) = collapsed();
    change(&dir, FORGE);
    // The forger gives the tile the leaf of his row.
    let mut forged = model.rec(20).clone();
    let text = String::from_utf8(forged.payload.clone()).unwrap();
    forged.payload = text.replace("alice", "mallo").into_bytes();
    let tile = dir.file("journal/1/tile/0/000");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[20 * 32..21 * 32].copy_from_slice(forged.hash().as_bytes());
    std::fs::write(&tile, bytes).unwrap();
    dir.finds(
        "tampered: journal/1/tile/0/000: ",
        "not the hashes that the collapsed segment has",
    );
}

#[test]
fn a_position_in_a_collapsed_segment_is_compared_with_the_tiles_that_are_left() {
    let (mut model, dir) = collapsed();
    let mut position = Position {
        seq: 100,
        leaf_hash: *model.rec(99).hash().as_bytes(),
        ..model.position()
    };
    model.positions.insert("webhook.one".to_owned(), position.clone());
    model.write(dir.path());
    dir.holds();
    position.leaf_hash[0] ^= 1;
    model.positions.insert("webhook.one".to_owned(), position);
    model.write(dir.path());
    dir.finds(
        "tampered: positions/webhook.one: seq 99: ",
        "not the record that the sink has seen",
    );
    std::fs::remove_file(dir.file("journal/1/tile/0/000")).unwrap();
    let report = dir.holds();
    assert!(
        report
            .to_string()
            .contains("whether positions/webhook.one is a position in this journal"),
        "{report}"
    );
}

#[test]
fn a_store_put_back_while_payloads_went_is_not_seen_and_that_is_said() {
    let mut model = Model::usual();
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    model.event(Kind::Agent, "journal.retention", "auditmon", data);
    model.sign();
    model.store();
    model.stored = Some(Position {
        seq: 101,
        leaf_hash: *model.rec(100).hash().as_bytes(),
        ..model.position()
    });
    let says = |model: &Model, text: &str| {
        let report = Dir::of(model).holds();
        let said = report.to_string().contains(text);
        (said, report)
    };
    let rows = model.rows.clone();
    model.rows.retain(|seq, _| *seq < 101);
    let text = "whether rows of seq 101 to 253 were removed and the position was put back to seq 101";
    // It is only behind, and gets the others.
    let (said, report) = says(&model, text);
    assert!(!said, "{report}");
    model.segs[0].expired = true;
    let (said, report) = says(&model, text);
    assert!(said, "{report}");
    // All but one.
    model.rows.insert(300, rows[&300].clone());
    Dir::of(&model).finds(
        "tampered: events.db: seq 300, event ",
        "a row at or behind the store's position, seq 101",
    );
}

#[test]
fn an_empty_store_says_nothing_of_what_it_had() {
    let (_, dir) = usual();
    change(&dir, "DELETE FROM events; DELETE FROM position");
    let report = dir.holds();
    assert!(
        report
            .to_string()
            .contains("were removed together with the position there"),
        "{report}"
    );
    assert_eq!(report.counts.rows, 0);
}

#[test]
fn a_row_added() {
    for running in [false, true] {
        row_added(running);
    }
}

/// Also beside what holds the lock as an agent does.
fn row_added(running: bool) {
    let usual = || {
        let (model, dir) = usual();
        let lock = running.then(|| DirLock::acquire(dir.path()).unwrap());
        (model, dir, lock)
    };
    // Where the journal has a state.
    let (model, dir, _lock) = usual();
    let state = model
        .records()
        .find(|(_, rec)| rec.prefix.kind == Kind::State)
        .unwrap()
        .0;
    let add = |dir: &Dir, seq: u64| {
        let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
        insert(&db, seq, model.rec(EVENT));
        recount(&db);
        db.close().unwrap();
    };
    add(&dir, state);
    dir.finds(&format!("tampered: events.db: seq {state}, event "), "it was added");
    // Behind its end.
    let (_, dir, _lock) = usual();
    add(&dir, model.size() + 5);
    dir.finds(
        &format!("tampered: events.db: seq {}, event ", model.size() + 5),
        "they were added",
    );
    // Of an origin that nobody knows.
    let (_, dir, _lock) = usual();
    add(&dir, 7 << 48);
    dir.finds("tampered: events.db: ", "is of no origin that the store knows");
}

#[test]
fn counts_and_indexes_fit_the_rows() {
    let (_, dir) = usual();
    let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
    db.execute_batch("UPDATE usage SET rows = rows + 1 WHERE kind = 'kernel'")
        .unwrap();
    db.close().unwrap();
    dir.finds("tampered: events.db: ", "its count of `kernel` rows");
}

#[test]
fn an_index_that_hides_a_row() {
    let (_, dir) = usual();
    let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
    db.execute_batch(
        "DROP INDEX events_username;
         CREATE INDEX events_username ON events (username) WHERE place <> 300;
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX events_username ON events (username)' WHERE name = 'events_username';
         PRAGMA writable_schema = OFF;",
    )
    .unwrap();
    db.close().unwrap();
    let faults = dir.finds(
        "tampered: events.db: ",
        "the index events_username isn't that of the rows",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn what_the_store_did_not_make() {
    for (sql, what) in [
        (
            "CREATE INDEX faster ON events (kind, username) WHERE place <> 300",
            "the index faster isn't the store's",
        ),
        (
            "CREATE TRIGGER quiet AFTER INSERT ON events BEGIN DELETE FROM events WHERE username = 'eve'; END",
            "the trigger quiet isn't the store's",
        ),
        (
            "CREATE VIEW shown AS SELECT * FROM events WHERE username <> 'eve'",
            "the view shown isn't the store's",
        ),
        ("CREATE TABLE other (id)", "the table other isn't the store's"),
        (
            "DROP INDEX events_time; CREATE INDEX events_time ON events (event_time_ns, username)",
            "the index events_time isn't what the store makes",
        ),
        ("DROP INDEX events_time", "the index events_time is missing"),
    ] {
        let (_, dir) = usual();
        let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
        db.execute_batch(sql).unwrap();
        db.close().unwrap();
        dir.finds("tampered: events.db: ", what);
    }
    // What keeps the list of migrations, and what helps SQLite to plan.
    let (_, dir) = usual();
    change(
        &dir,
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL); ANALYZE",
    );
    dir.holds();
}

#[test]
fn a_row_longer_than_any_event_is_not_read() {
    let (model, dir) = usual();
    let long = "'\"event_data\":\"' || hex(zeroblob(3000000)) || '\",\"more\":'";
    let longer = format!("CAST(replace(CAST(canonical AS TEXT), '\"event_data\":', {long}) AS BLOB)");
    change(
        &dir,
        &format!("UPDATE events SET canonical = {longer} WHERE place = {EVENT}"),
    );
    dir.finds(
        "tampered: events.db: ",
        &format!("behind the row of seq {}: string or blob too big", EVENT - 1),
    );
    let database = dir.file("events.db");
    let proof = prove(&ProveRequest {
        data_dir: dir.path(),
        database: Some(&database),
        event_id: model.rec(EVENT).prefix.event_id,
        patience: Duration::ZERO,
    });
    assert!(proof.is_ok(), "the journal has it: {proof:?}");
}

#[test]
fn a_database_alone_is_checked_by_itself() {
    let model = Model::usual();
    let mut dir = Dir::new();
    model.write_database(&dir.file("copy.db"));
    dir.database = Some(dir.file("copy.db"));
    // Nothing signs them, so that they fit is no verdict, with a key or without.
    for key in [None, Some(model.vkey())] {
        dir.key = key;
        let says = dir.check().unwrap_err().to_string();
        assert!(
            says.contains(&format!("each of {} rows fits itself", model.rows.len())) && says.contains("no journal"),
            "{says}"
        );
    }
    let db = rusqlite::Connection::open(dir.file("copy.db")).unwrap();
    db.execute_batch("UPDATE events SET username = 'mallo' WHERE place = 300")
        .unwrap();
    db.close().unwrap();
    dir.finds("tampered: copy.db", "the column username");
    dir.database = Some(dir.file("none.db"));
    assert!(dir.check().is_err());
    dir.database = None;
    assert!(dir.check().is_err(), "no journal, and no database that was given");
}

/// What a kill leaves of a database that is being made.
const BEGUN: [&str; 3] = [
    "",
    "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL",
    "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
     CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
     installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, \
     execution_time BIGINT NOT NULL)",
];

#[test]
fn a_database_that_was_only_begun_is_like_none() {
    for sql in BEGUN {
        for open in [false, true] {
            let mut model = Model::usual();
            model.stored = None;
            let mut dir = Dir::of(&model);
            let path = dir.file("events.db");
            std::fs::write(&path, "").unwrap();
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch(sql).unwrap();
            // Whoever makes it is at work, or ended.
            let _db = open.then_some(db);
            let before = list(&dir);
            let report = dir.holds();
            let says = "whether the store's rows are what the journal has: events.db was only begun";
            assert!(
                report.not_seen.iter().any(|text| text.starts_with(says)),
                "{sql}: {report}"
            );
            dir.database = Some(path.clone());
            let error = dir.check().unwrap_err().to_string();
            assert!(error.contains("events.db: it was only begun"), "{sql}: {error}");
            let proof = prove(&ProveRequest {
                data_dir: dir.path(),
                database: Some(&path),
                event_id: model.rec(EVENT).prefix.event_id,
                patience: Duration::ZERO,
            });
            assert!(proof.is_ok(), "{sql}: {proof:?}");
            // Within one process SQLite shares what it maps of -shm, also for writing.
            assert!(open || list(&dir) == before, "{sql}");
        }
    }
    // Also where what was to be in it is beside it: SQLite takes nothing of that, and would remove it.
    let (_, dir) = usual();
    let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; DELETE FROM events WHERE place = 300")
        .unwrap();
    std::fs::write(dir.file("events.db"), "").unwrap();
    let before = list(&dir);
    let report = dir.holds();
    assert!(report.to_string().contains("events.db was only begun"), "{report}");
    assert!(list(&dir) == before);
    drop(db);
}

/// A kill right behind the first write to a log that was begun again leaves that.
#[test]
fn a_log_that_has_only_its_head_holds_nothing() {
    let (_, dir) = usual();
    let path = |suffix: &str| dir.file(&format!("events.db{suffix}"));
    let db = rusqlite::Connection::open(path("")).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE x (y); DROP TABLE x; PRAGMA wal_checkpoint")
        .unwrap();
    let [log, shared] = ["-wal", "-shm"].map(|suffix| std::fs::read(path(suffix)).unwrap());
    assert!(log.len() > 32);
    db.close().unwrap();
    std::fs::write(path("-wal"), &log[..32]).unwrap();
    std::fs::write(path("-shm"), shared).unwrap();
    let before = list(&dir);
    let report = dir.holds();
    assert!(report.counts.rows > 0, "{report}");
    assert!(list(&dir) == before);
}

#[test]
fn a_database_without_its_tables_and_with_another_was_not_only_begun() {
    for sql in ["CREATE TABLE other (id)", "CREATE VIEW events AS SELECT 1 AS place"] {
        let mut model = Model::usual();
        model.stored = None;
        let dir = Dir::of(&model);
        let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
        db.execute_batch(sql).unwrap();
        db.close().unwrap();
        dir.finds("tampered: events.db: ", "no such table: position");
    }
    // Nor was one that has lost them.
    let (_, dir) = usual();
    let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
    db.execute_batch("DROP TABLE events; DROP TABLE position; DROP TABLE usage")
        .unwrap();
    db.close().unwrap();
    dir.finds("tampered: events.db: ", "no such table: position");
}

/// All files and their bytes.
fn list(dir: &Dir) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.path().to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn no_file_is_made_or_changed_whatever_state_the_database_is_in() {
    let (_, dir) = usual();
    let before = list(&dir);
    dir.holds();
    assert!(list(&dir) == before);
    // An agent has it open, with rows in the WAL; then it is killed.
    let db = rusqlite::Connection::open(dir.file("events.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; DELETE FROM events WHERE place = 300")
        .unwrap();
    recount(&db);
    let before = list(&dir);
    dir.finds("tampered: events.db: seq 300", "it was removed");
    let killed = Dir::new();
    for (path, bytes) in &before {
        let to = killed.path().join(path.strip_prefix(dir.path()).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    let before = list(&killed);
    killed.finds("tampered: events.db: seq 300", "it was removed");
    assert!(list(&killed) == before);
    std::fs::remove_file(killed.file("events.db-shm")).unwrap();
    let error = killed.check().unwrap_err().to_string();
    assert!(error.contains("-shm"), "{error}");
    drop(db);
}
