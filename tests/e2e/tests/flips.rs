//! One byte of any file that a killed agent left changed: `auditmon verify` calls it tampering, save for what the manual
//! says of the end of a file that was being written, or nothing of the store that is told was changed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use attacker::copy;
use auditmon_e2e::{Agent, PATIENCE, event, eventually};
use auditmon_journal::format::parse_frame;
use auditmon_journal::inspect::FIRST_FRAME;
use rusqlite::OpenFlags;
use rusqlite::types::Value;

const CONFIG: &str = "journal: {segment_size: 64KiB, reserve: 64KiB, checkpoint_interval: 100ms}\n";

/// Of nobody's concern, by docs/verify.md.
const NO_EVIDENCE: [&str; 6] = [
    "accounts.db",
    "accounts.db-wal",
    "accounts.db-shm",
    "reserve",
    "lock",
    "events.db-shm",
];

/// All that the store tells: events, by each index too, positions and counts; but not the rows behind the end of the
/// former generation, which nothing tells from those of the history that was lost, by docs/verify.md. As verify sees
/// it: the log of a killed agent is read and stays as it is.
fn told(database: &Path) -> Option<Vec<Vec<Value>>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?mode=ro&readonly_shm=1", database.display());
    let db = rusqlite::Connection::open_with_flags(uri, flags).ok()?;
    let mut all = Vec::new();
    for sql in [
        "SELECT * FROM events WHERE origin LIKE '%/gen/2' OR seq < (SELECT event_data ->> 'entries' FROM events
         WHERE event_name = 'journal.new_generation') ORDER BY place",
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

/// The newest segment of a generation, and where its records end. What stands behind them, by docs/verify.md: a mark and
/// what was never written to are called an unfinished write in what a killed agent left; in the former generation they
/// count among what was accepted.
fn newest_segment(data_dir: &Path, generation: u32) -> (PathBuf, usize) {
    let dir = data_dir.join(format!("journal/{generation}/seg"));
    let segments = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let newest = segments
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .max()
        .unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    let mut at = usize::try_from(FIRST_FRAME).unwrap();
    let mut end = at;
    while let Ok((head, _)) = parse_frame(&bytes[at..]) {
        at += head.len();
        if head.count > 0 {
            end = at;
        }
    }
    (newest, end)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && entry.metadata().unwrap().len() > 0 {
                found.push(entry.path());
            }
        }
    }
    // What was still being made beside a file's place goes at the next start.
    found.retain(|file| file.extension().is_none_or(|extension| extension != "new"));
    found.retain(|file| {
        !NO_EVIDENCE
            .iter()
            .any(|name| file.file_name().is_some_and(|file| file == *name))
    });
    found.sort();
    found
}

/// Two generations, the second of an accepted rollback; killed, with rows in the store's log.
fn killed() -> Agent {
    let mut agent = Agent::builder().config(CONFIG).start();
    let many: Vec<String> = (0..400).map(|_| event("many")).collect();
    let many = format!("[{}]", many.join(","));
    let _ = agent.post(many.as_str()).expect(201);
    let _ = agent.await_events("?event_name=many&limit=1000", 400);
    assert_eq!(agent.stop(), 0);
    let (journal, old) = (agent.data_dir().join("journal"), agent.dir().join("old"));
    copy(&journal, &old);
    agent.start_again();
    let _ = agent.post(event("late")).expect(201);
    let _ = agent.await_events("?event_name=late", 1);
    assert_eq!(agent.stop(), 0);
    std::fs::remove_dir_all(&journal).unwrap();
    copy(&old, &journal);
    agent.start_again();
    let _ = agent.post(many.as_str()).expect(201);
    let _ = agent.await_events("?event_name=many&limit=1000", 800);
    let _ = agent
        .run(&["journal", "accept-rollback", "--reason", "a drill"])
        .expect(0);
    eventually("all of it is signed", PATIENCE, || {
        let said = agent.run(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&said).ok()?;
        let journal = &status["journal"];
        (journal["checkpoint"]["entries"] == journal["entries"]).then_some(())
    });
    agent.kill();
    agent
}

#[test]
fn a_random_byte_of_any_file_that_a_killed_agent_left() {
    let agent = killed();
    let database = agent.data_dir().join("events.db");
    let good = agent.run(&["verify"]).expect(0).stdout;
    let rows = told(&database);
    assert!(rows.as_ref().is_some_and(|rows| rows.len() > 800));
    let files = files(agent.data_dir());
    let newest = [1, 2].map(|generation| newest_segment(agent.data_dir(), generation));
    for name in [
        "events.db-wal",
        "journal/2/former",
        "journal/2/accepted",
        "journal/1/checkpoint",
    ] {
        assert!(files.contains(&agent.data_dir().join(name)), "{name} of {files:?}");
    }
    let times = match std::env::var_os("AUDITMON_LONG") {
        Some(_) => 2000,
        None => 200,
    };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut state = seed;
    // xorshift64
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    // Noticed, and not called tampering: what the manual says so of, and nothing else.
    let mut otherwise = BTreeMap::new();
    for _ in 0..times {
        let file = &files[random(files.len())];
        let was = std::fs::read(file).unwrap();
        let (at, mask) = (random(was.len()), random(255) as u8 + 1);
        let mut bytes = was.clone();
        bytes[at] ^= mask;
        std::fs::write(file, &bytes).unwrap();
        let said = agent.run(&["verify"]);
        let noticed = said.code == 1 || said.stdout != good;
        let of_store = file.file_name().unwrap().to_str().unwrap().starts_with("events.db");
        let harmless = of_store && told(&database) == rows;
        let what = format!("{} byte {at} ^ {mask} (seed {seed})", file.display());
        assert!(noticed || harmless, "{what}: {}", said.stdout);
        std::fs::write(file, &was).unwrap();
        if said.code != 1 && !harmless {
            let behind = newest.iter().any(|(newest, end)| file == newest && at >= *end);
            let may_be = file.ends_with("events.db-wal") || behind;
            assert!(
                may_be,
                "{what}: exit code {}: {}{}",
                said.code, said.stdout, said.stderr
            );
            *otherwise.entry((file.file_name(), said.code)).or_insert(0) += 1;
        }
    }
    println!("of {times}, noticed otherwise than as tampering: {otherwise:?}");
    assert_eq!(agent.run(&["verify"]).expect(0).stdout, good);
}
