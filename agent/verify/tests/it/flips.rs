//! One byte of any file changed: found, or nothing that is told was changed.

use std::path::{Path, PathBuf};

use auditmon_journal::format::Kind;
use auditmon_verify::CouldNot;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::model::{Dir, Model};

/// Everything that a database tells: events, by each index too, positions and counts.
fn dump(path: &Path) -> Option<Vec<Vec<rusqlite::types::Value>>> {
    let db = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let mut all = Vec::new();
    for sql in [
        "SELECT * FROM events ORDER BY place",
        "SELECT kind, received_time_ns, place FROM events INDEXED BY events_kind ORDER BY kind, received_time_ns, place",
        "SELECT event_time_ns, place FROM events INDEXED BY events_time ORDER BY event_time_ns, place",
        "SELECT username, place FROM events INDEXED BY events_username ORDER BY username, place",
        "SELECT * FROM position ORDER BY origin",
        "SELECT * FROM usage ORDER BY kind",
    ] {
        let mut statement = db.prepare(sql).ok()?;
        let columns = statement.column_count();
        let mut rows = statement.query([]).ok()?;
        while let Some(row) = rows.next().ok()? {
            let values = (0..columns).map(|column| row.get(column));
            all.push(values.collect::<Result<Vec<_>, _>>().ok()?);
        }
    }
    Some(all)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_random_byte_of_any_file() {
    let mut model = Model::usual();
    model.rotate();
    let (whole, erased) = (model.segs[2].first, model.segs[2].first + 30);
    let data = json!({"first_seq": 0, "last_seq": whole - 1, "segments": 2});
    model.event(Kind::Agent, "journal.retention", "auditmon", data);
    model.event(Kind::Agent, "journal.erasure", "auditmon", json!({"seq": erased}));
    model.sign();
    model.store();
    // Rows of the collapsed segment are compared with the tile that is left.
    model.rows.remove(&erased);
    model.positions.insert("webhook.one".to_owned(), model.position());
    // Of which no leaf is left, only the leaf, and the newest record.
    let newest = model.size() - 1;
    let letters = [20, 300, newest].map(|seq| model.letter(seq)).concat();
    model.letters.insert("webhook.one.jsonl".to_owned(), letters);
    model.segs[0].collapsed = true;
    model.segs[1].expired = true;
    model.rec_mut(erased).erased = true;
    let dir = Dir::of(&model);
    dir.holds();
    let files = files(dir.path());
    assert!(files.len() > 10, "{files:?}");
    let database = dir.file("events.db");
    let rows = dump(&database);
    let times = if std::env::var_os("AUDITMON_LONG").is_some() {
        2000
    } else {
        200
    };
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..times {
        let path = &files[random.random_range(0..files.len())];
        let was = std::fs::read(path).unwrap();
        let mut bytes = was.clone();
        let at = random.random_range(0..bytes.len());
        let mask = random.random_range(1..=255_u8);
        bytes[at] ^= mask;
        std::fs::write(path, &bytes).unwrap();
        let found = match dir.check() {
            Ok(report) => !report.holds(),
            // Nothing but a fault of the file is to blame.
            Err(CouldNot { place, reason }) => panic!("{} byte {at} ^ {mask}: {place}: {reason}", path.display()),
        };
        let harmless = *path == database && dump(path) == rows;
        assert!(found || harmless, "{} byte {at} ^ {mask} (seed {seed})", path.display());
        std::fs::write(path, &was).unwrap();
    }
    dir.holds();
}
