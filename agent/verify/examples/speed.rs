//! Measures a whole check, and the making of proofs.
//!
//!     cargo run --release -p auditmon-verify --example speed -- [EVENTS [ROWS_EVERY [DIRECTORY]]]
//!
//! Makes a journal of EVENTS (1,000,000) in a temporary directory, with segments of 64 MiB, tiles, a checkpoint every
//! 10,000 records and a store that has every ROWS_EVERYth event (1); beyond 2,000,000 the payloads of the older
//! segments are left out, as retention leaves them. Prints seconds, peak memory and the time of proofs.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use auditmon_journal::format::Body;
use auditmon_journal::format::{
    Kind, Position, Prefix, Record, SegmentHead, commitment, frame_head, leaf, mark, origin_hash, source_hash,
};
use auditmon_merkle::{Checkpoint, Ed25519Signer, Tiler, leaf_hash};
use auditmon_verify::{DatabaseFile, ProveRequest, Request, prove, uuid_text, verify};

const ORIGIN: &str = "host/0011223344556677";
const SEGMENT: u64 = 64 << 20;
const BEGIN: u64 = 1_767_225_600_000_000_000;
/// Events of a frame.
const BATCH: u64 = 20;
const SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_events.sql");

fn prefix(n: u64) -> Prefix {
    let received_ns = BEGIN + n * 50_000;
    let mut event_id = [0x70; 16];
    event_id[..6].copy_from_slice(&(received_ns / 1_000_000).to_be_bytes()[2..]);
    event_id[8..].copy_from_slice(&(1 << 63 | n).to_be_bytes());
    Prefix {
        event_id,
        received_ns,
        kind: Kind::Application,
        source: source_hash("billing"),
    }
}

fn event(n: u64, prefix: &Prefix) -> Vec<u8> {
    format!(
        "{{\"event_id\":\"{}\",\"event_time\":\"2026-01-01T00:00:00.000Z\",\"event_name\":\"invoice.created\",\"username\":\"user-{}\",\
         \"resource\":\"/invoices/{n}\",\"event_source\":\"billing\",\"source_ip_address\":\"192.0.2.7\",\"request_id\":\"{n:032x}\",\
         \"read_only\":false,\"kind\":\"application\",\"host\":\"host\",\"outcome\":\"success\",\"severity\":\"info\",\
         \"event_data\":{{\"amount\": {n}, \"currency\": \"EUR\", \"items\": [1, 2, 3]}}}}",
        uuid_text(&prefix.event_id),
        n % 1000,
    )
    .into_bytes()
}

struct Writer<'a> {
    dir: &'a Path,
    keep: bool,
    first: u64,
    seg: Option<BufWriter<File>>,
    leaves: Option<BufWriter<File>>,
    bytes: u64,
}

impl Writer<'_> {
    fn path(&self, ending: &str) -> std::path::PathBuf {
        self.dir.join(format!("journal/1/seg/{:020}.{ending}", self.first))
    }

    fn begin(&mut self, first: u64, keep: bool) {
        (self.first, self.keep, self.bytes) = (first, keep, 64);
        let create = |path| BufWriter::new(File::create(path).unwrap());
        self.leaves = Some(create(self.path("leaf")));
        self.seg = keep.then(|| create(self.path("seg")));
        let origin = origin_hash(ORIGIN);
        self.seg(
            &SegmentHead {
                first_seq: first,
                origin,
            }
            .encode(),
        );
    }

    fn seg(&mut self, bytes: &[u8]) {
        if let Some(seg) = &mut self.seg {
            seg.write_all(bytes).unwrap();
        }
    }
}

fn make(dir: &Path, events: u64, rows_every: u64) {
    for name in ["journal/1/seg", "keys"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    let key = Ed25519Signer::from_seed(ORIGIN, &[1; 32]).unwrap();
    std::fs::write(dir.join("journal/origin"), ORIGIN).unwrap();
    std::fs::write(dir.join("keys/log.vkey"), format!("{}\n", key.verifier().vkey())).unwrap();
    let mut db = rusqlite::Connection::open(dir.join("events.db")).unwrap();
    let tx = db.transaction().unwrap();
    tx.execute_batch(SCHEMA).unwrap();
    let (mut tree, mut notes, mut last) = (Tiler::new(), Vec::new(), [0; 32]);
    let mut writer = Writer {
        dir,
        keep: true,
        first: 0,
        seg: None,
        leaves: None,
        bytes: 0,
    };
    let kept = events.saturating_sub(2_000_000);
    writer.begin(0, kept == 0);
    let (mut rows, mut row_bytes) = (0_i64, 0_i64);
    for first in (0..events).step_by(BATCH as usize) {
        if writer.bytes >= SEGMENT {
            writer.begin(first, first >= kept);
        }
        let count = BATCH.min(events - first);
        let mut records = Vec::new();
        for n in first..first + count {
            let prefix = prefix(n);
            let payload = event(n, &prefix);
            let mut salt = [7; 16];
            salt[..8].copy_from_slice(&n.to_be_bytes());
            let body = Body::Whole {
                salt,
                payload: &payload,
            };
            Record { prefix, body }.encode(&mut records);
            let leaf = leaf(&prefix.encode(), &commitment(&salt, &payload));
            writer.leaves.as_mut().unwrap().write_all(&leaf).unwrap();
            let hash = leaf_hash(&leaf);
            last = *hash.as_bytes();
            tree.push(hash).unwrap();
            for (tile, bytes) in tree.filled() {
                let path = dir.join("journal/1").join(tile.to_string());
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            if n % 10_000 == 9_999 || n + 1 == events {
                let checkpoint = Checkpoint::new(ORIGIN, tree.head()).unwrap();
                notes.push(checkpoint.sign(&[&key]).unwrap());
            }
            if n % rows_every == 0 {
                rows += 1;
                row_bytes += payload.len() as i64;
                let mut statement = tx
                    .prepare_cached(
                        "INSERT INTO events (origin, place, received_time_ns, event_time_ns, kind, event_name, username,
                         resource, event_source, source_ip_address, request_id, read_only, host, outcome, severity, salt,
                         canonical) VALUES (?1, ?2, ?3, ?4, 'application', 'invoice.created', ?5, ?6, 'billing',
                         '192.0.2.7', ?7, 0, 'host', 'success', 'info', ?8, ?9)",
                    )
                    .unwrap();
                let params = rusqlite::params![
                    ORIGIN,
                    n as i64,
                    prefix.received_ns as i64,
                    BEGIN as i64,
                    format!("user-{}", n % 1000),
                    format!("/invoices/{n}"),
                    format!("{n:032x}"),
                    salt,
                    payload
                ];
                statement.execute(params).unwrap();
            }
        }
        writer.seg(&frame_head(first, first, count as u32, &records));
        writer.seg(&records);
        writer.bytes += 28 + records.len() as u64;
    }
    writer.seg(&mark(events));
    std::fs::remove_file(writer.path("leaf")).unwrap();
    let newest = notes.pop().unwrap();
    std::fs::write(dir.join("journal/1/checkpoint"), newest).unwrap();
    std::fs::write(dir.join("journal/1/checkpoints"), notes.concat()).unwrap();
    let position = Position {
        origin: ORIGIN.to_owned(),
        seq: events,
        leaf_hash: last,
    };
    let params = (&position.origin, position.seq as i64, position.leaf_hash.as_slice());
    tx.execute("INSERT INTO position VALUES (?1, 0, ?2, ?3)", params)
        .unwrap();
    tx.execute(
        "UPDATE usage SET rows = ?1, bytes = ?2 WHERE kind = 'application'",
        (rows, row_bytes),
    )
    .unwrap();
    tx.commit().unwrap();
}

/// Seconds of processor time of all threads, by which a busy machine is told from a slow program.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.to_owned()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments.next().map_or(1_000_000, |text| text.parse().unwrap());
    let rows_every: u64 = arguments.next().map_or(1, |text| text.parse().unwrap());
    let held = tempfile::tempdir().unwrap();
    // A directory given stays, and is made only if it is empty.
    let given = arguments.next().map(std::path::PathBuf::from);
    let dir = given.as_deref().unwrap_or(held.path());
    if std::env::var_os("SPEED_DIR").is_none() {
        // In a process of its own, so that the peak is the check's.
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args([events.to_string(), rows_every.to_string()]);
        if !dir.join("journal").exists() {
            make(dir, events, rows_every);
        }
        assert!(again.env("SPEED_DIR", dir).status().unwrap().success());
        return;
    }
    let dir = std::path::PathBuf::from(std::env::var_os("SPEED_DIR").unwrap());
    let begun = Instant::now();
    let report = verify(&Request {
        data_dir: &dir,
        key: None,
        against: None,
        database: DatabaseFile::Usual(dir.join("events.db")),
        progress: &|_| {},
    })
    .unwrap();
    println!(
        "verify: {:?}, {:.1} s of processor time, {}",
        begun.elapsed(),
        processor(),
        peak()
    );
    print!("{}", report.to_string().lines().last().unwrap_or_default());
    println!();
    let database = dir.join("events.db");
    let (mut times, before) = (Vec::new(), processor());
    for n in 0..200_u64 {
        let at = (n * 7919 * rows_every) % events / rows_every * rows_every;
        let begun = Instant::now();
        prove(&ProveRequest {
            data_dir: &dir,
            database: Some(&database),
            event_id: prefix(at).event_id,
            patience: Duration::ZERO,
        })
        .unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "prove: median {:?}, slowest of 200 {:?}, {:.1} ms of processor time each",
        times[100],
        times[199],
        (processor() - before) * 1000.0 / 200.0
    );
}
