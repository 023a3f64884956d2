//! What the machine itself can do: syncs a second, rows a second.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use rustix::fs::{FallocateFlags, fallocate, fdatasync};

use crate::table::{Table, number, percentile};
use crate::{Bench, Fault, agent, events};

/// The store's own tables and indexes.
const SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_events.sql");
/// The store's own settings.
const SETTINGS: &str = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    PRAGMA secure_delete = ON; PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 8192;";
/// Rows of one transaction, as the agent gives them to its store.
const COMMIT: u64 = 5_000;
const PAGE: u64 = 4096;
const FILE: u64 = 256 << 20;

/// Measures both.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let (rate, p50, p99) = syncs(bench, bench.time(5))?;
    let kind = if agent::is_memory(&bench.dir) {
        "A TMPFS: NO DISK"
    } else {
        "preallocated file"
    };
    table.row(
        "bare: 4 KiB append + fdatasync, /s",
        format!("{}; p50 {p50:.2} ms, p99 {p99:.1} ms", number(rate)),
        "",
        kind,
    );
    Ok(())
}

fn syncs(bench: &Bench, time: Duration) -> Result<(f64, f64, f64), Fault> {
    let path = bench.dir.join("syncs");
    let file = File::create(&path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE)?;
    file.sync_all()?;
    let page = vec![0x5a; usize::try_from(PAGE)?];
    let mut latencies = Vec::new();
    let (begin, mut at) = (Instant::now(), 0);
    while begin.elapsed() < time && at < FILE {
        let start = Instant::now();
        file.write_all_at(&page, at)?;
        fdatasync(&file)?;
        latencies.push(u32::try_from(start.elapsed().as_micros())?);
        at += PAGE;
    }
    let rate = latencies.len() as f64 / begin.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    latencies.sort_unstable();
    let millis = |part| f64::from(percentile(&latencies, part)) / 1e3;
    Ok((rate, millis(0.50), millis(0.99)))
}

/// Rows a second by one prepared statement through rusqlite.
pub fn inserts(bench: &Bench, rows: u64) -> Result<f64, Fault> {
    let path = bench.dir.join("inserts.db");
    let mut db = Connection::open(&path)?;
    db.execute_batch(SETTINGS)?;
    db.execute_batch(SCHEMA)?;
    let event = events::event("bench.insert");
    let begin = Instant::now();
    let mut place = 0_u64;
    while place < rows {
        let transaction = db.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO events (place, origin, event_name, username, resource, event_source, source_ip_address, \
                 request_id, read_only, kind, host, outcome, severity, event_time_ns, received_time_ns, salt, canonical) \
                 VALUES (?1, 'host/0123456789abcdef', 'bench.insert', ?2, 'accounts/4711', 'bench', '192.0.2.17', \
                 '0b0c9a3e-5d27-4f3c-9a56-0e3d', 0, 'application', 'host', 'unknown', 'info', ?3, ?3, ?4, ?5)",
            )?;
            for _ in 0..COMMIT {
                let time = 1_767_225_600_000_000_000_i64 + i64::try_from(place)? * 20_000;
                insert.execute(params![
                    i64::try_from(place)?,
                    "alice@example.com",
                    time,
                    [0_u8; 16].as_slice(),
                    event.as_bytes()
                ])?;
                place += 1;
            }
        }
        transaction.commit()?;
    }
    let rate = place as f64 / begin.elapsed().as_secs_f64();
    drop(db);
    for end in ["", "-wal", "-shm"] {
        // Some are gone already.
        let _ = std::fs::remove_file(bench.dir.join(format!("inserts.db{end}")));
    }
    Ok(rate)
}
