//! How fast the sink stores, beside prepared inserts of the same rows into the same schema through rusqlite:
//!
//!     cargo run --release -p auditmon-sink-store --example insert -- [ROWS] [ROUNDS] [DIRECTORY]
//!
//! The two take turns, so that the load of a shared machine meets both; CPU time of the whole process says more
//! there than the clock. The other side has its values parsed
//! and at hand before the clock starts; the sink parses each event as it does at work.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use auditmon_core::Emitter;
use auditmon_core::batch::push_agent_event;
use auditmon_core::emitter::SourceMetrics;
use auditmon_core::event::{Data, Draft, EventView, Kind, Outcome, kind_str};
use auditmon_core::health::HealthBoard;
use auditmon_core::keys::{Caller, Keys};
use auditmon_core::plugin::{BuildContext, PluginConfig as _};
use auditmon_core::subscription::Events;
use auditmon_core::time;
use auditmon_journal::{Item, Linger, Options, RealFs};
use auditmon_sink_store::StoreConfig;

/// The agent's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the driver hands over at most.
const BATCH: usize = 5_000;
const SCHEMA: &str = include_str!("../../../../migrations/sqlite/0001_events.sql");

struct NoKeys;

impl Keys for NoKeys {
    fn check(&self, _: &str) -> Option<Caller> {
        None
    }
    fn session(&self, _: &str) -> Option<Caller> {
        None
    }
    fn open_session(&self, _: &str) -> Option<String> {
        None
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().map_or(Ok(100_000), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |n| n.parse())?;
    let place = arguments.next().unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::TempDir::new_in(&place)?;
    let batches = events(dir.path(), rows).await?;
    let (count, bytes) = batches
        .iter()
        .fold((0, 0), |(n, b), events| (n + events.len(), b + events.bytes()));
    println!(
        "{count} events of {} bytes in {} transactions",
        bytes / count.max(1),
        batches.len()
    );
    let (mut by_clock, mut by_cpu) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let sink = with_sink(&dir.path().join(format!("sink-{round}")), &batches).await?;
        let raw = with_rusqlite(&dir.path().join(format!("raw-{round}.db")), &batches)?;
        println!(
            "sink {:>6.0} rows/s {:>4.1} µs CPU   rusqlite {:>6.0} rows/s {:>4.1} µs CPU   ratio {:.2}",
            sink.rows_per_second,
            sink.cpu_micros,
            raw.rows_per_second,
            raw.cpu_micros,
            sink.rows_per_second / raw.rows_per_second
        );
        by_clock.push(sink.rows_per_second / raw.rows_per_second);
        by_cpu.push(raw.cpu_micros / sink.cpu_micros);
    }
    println!(
        "median ratio by the clock {:.2}, by CPU time {:.2}",
        median(by_clock),
        median(by_cpu)
    );
    let file = dir.path().join("raw-0.db");
    println!(
        "{} bytes a row on disk",
        std::fs::metadata(file)?.len() as usize / count.max(1)
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

struct Speed {
    rows_per_second: f64,
    /// For one row, all threads together.
    cpu_micros: f64,
}

/// Clock and CPU time since the start, in seconds.
fn clocks(start: Instant) -> Result<(f64, f64), Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15, in ticks of 10 ms.
    let ticks: u64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Ok((start.elapsed().as_secs_f64(), ticks as f64 / 100.0))
}

/// Events as an application sends them, through a real journal.
async fn events(dir: &Path, rows: usize) -> Result<Vec<Events>, Failure> {
    let note = |_, records: &mut _| {
        // Nothing depends on it here.
        let _ = push_agent_event(records, "bench-host", Draft::new("journal", "agent"));
    };
    let options = Options {
        reserve: 0,
        ..Options::new(dir, "bench-host", Box::new(note))
    };
    let (writer, _) = auditmon_journal::open(RealFs, options)?;
    let journal = writer.spawn(Box::new(|_| ()))?;
    let stop = Default::default();
    let emitter = Emitter::new(
        "ingest",
        Kind::Application,
        Arc::from("bench-host"),
        journal.clone(),
        stop,
        SourceMetrics::new()?,
    );
    let mut made = 0;
    while made < rows {
        let mut batch = emitter.batch_from("billing");
        for n in made..rows.min(made + BATCH) {
            let user = format!("user-{}@example.com", n * 7919 % 2_000);
            let (resource, request) = (format!("invoice/2026-{:06}", n % 50_000), format!("req-{n:016x}"));
            let data = format!(
                "{{\"amount\": {}.{:02}, \"currency\": \"EUR\", \"session\": \"{:032x}\", \"agent\": \"Mozilla/5.0 (X11; Linux \
                 x86_64) AppleWebKit/537.36\", \"path\": \"/api/v2/invoices/{n}/lines\", \"status\": 200}}",
                n % 900,
                n % 100,
                n * 0x9e37_79b9
            );
            batch.push(Draft {
                time: time::now() - (n as u64 % 1_000) * 1_000_000,
                resource: Some(&resource),
                address: Some(std::net::IpAddr::from([10, 0, (n >> 8 & 255) as u8, (n & 255) as u8])),
                request_id: Some(&request),
                outcome: Outcome::ALL[n % 3],
                data: Data::Raw(&data),
                ..Draft::new(["invoice.read", "invoice.create", "login"][n % 3], &user)
            })?;
        }
        made += BATCH;
        emitter.emit(batch, Linger::NONE).await?;
    }
    let (mut reader, mut batches) = (journal.reader(0), Vec::new());
    let mut events = Events::new(Arc::from(journal.origin()));
    while let Some(item) = reader.next()? {
        if let Item::Records(batch) = item {
            events.push(batch);
        }
        if events.len() >= BATCH {
            batches.push(std::mem::replace(&mut events, Events::new(Arc::from(journal.origin()))));
        }
    }
    if !events.is_empty() {
        batches.push(events);
    }
    Ok(batches)
}

async fn with_sink(dir: &Path, batches: &[Events]) -> Result<Speed, Failure> {
    std::fs::create_dir(dir)?;
    let mut cx = BuildContext {
        host: Arc::from("bench-host"),
        data_dir: dir.to_owned(),
        origin: Arc::from(batches[0].origin()),
        metrics: prometheus::Registry::new(),
        keys: Arc::new(NoKeys),
        control: auditmon_core::privileged::Control::of_caller(Vec::new())?,
        reader: None,
        health: HealthBoard::default().reporter("store"),
        memory: Arc::new(tokio::sync::Semaphore::new(1)),
        routes: Default::default(),
        named_routes: Default::default(),
        emitter: None,
    };
    let mut sink = StoreConfig::default().build(&mut cx).await?.sink;
    sink.start(batches[0].origin()).await?;
    let begun = Instant::now();
    let before = clocks(begun)?;
    let mut rows = 0;
    for events in batches {
        sink.write(events).await?;
        rows += events.len();
    }
    let after = clocks(begun)?;
    sink.close().await?;
    Ok(Speed {
        rows_per_second: rows as f64 / (after.0 - before.0),
        cpu_micros: (after.1 - before.1) * 1e6 / rows as f64,
    })
}

/// A row, ready to be bound.
struct Row<'a> {
    seq: i64,
    received: i64,
    happened: i64,
    kind: &'static str,
    view: EventView<'a>,
    salt: [u8; 16],
    canonical: &'a [u8],
}

fn with_rusqlite(file: &Path, batches: &[Events]) -> Result<Speed, Failure> {
    let mut connection = rusqlite::Connection::open(file)?;
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
         PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 8192; PRAGMA journal_size_limit = 67108864;",
    )?;
    connection.execute_batch(SCHEMA)?;
    let (start, mut seconds, mut cpu) = (Instant::now(), 0.0, 0.0);
    let mut rows = 0;
    for events in batches {
        let parsed: Vec<Row<'_>> = events
            .iter()
            .map(|event| {
                let view = EventView::parse(event.canonical)?;
                Ok(Row {
                    seq: event.seq as i64,
                    received: event.received as i64,
                    happened: time::parse(&view.event_time)? as i64,
                    kind: kind_str(event.kind),
                    view,
                    salt: event.salt,
                    canonical: event.canonical,
                })
            })
            .collect::<Result<_, Failure>>()?;
        let before = clocks(start)?;
        let tx = connection.transaction()?;
        let mut insert = tx.prepare_cached(
            "INSERT INTO events (origin, place, received_time_ns, event_time_ns, kind, event_name, username, resource,
                 event_source, source_ip_address, request_id, read_only, host, outcome, severity, salt, canonical)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?;
        for row in &parsed {
            insert.execute(rusqlite::params![
                events.origin(),
                row.seq,
                row.received,
                row.happened,
                row.kind,
                row.view.event_name,
                row.view.username,
                row.view.resource,
                row.view.event_source,
                row.view.source_ip_address,
                row.view.request_id,
                row.view.read_only,
                row.view.host,
                row.view.outcome.as_str(),
                row.view.severity.as_str(),
                row.salt,
                row.canonical,
            ])?;
        }
        drop(insert);
        let end = events.end().ok_or("no records")?;
        tx.execute(
            "INSERT INTO position (origin, number, seq, leaf_hash) VALUES (?1, 0, ?2, ?3)
             ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq, leaf_hash = excluded.leaf_hash",
            rusqlite::params![end.origin, end.seq as i64, end.leaf_hash],
        )?;
        tx.commit()?;
        let after = clocks(start)?;
        seconds += after.0 - before.0;
        cpu += after.1 - before.1;
        rows += parsed.len();
    }
    Ok(Speed {
        rows_per_second: rows as f64 / seconds,
        cpu_micros: cpu * 1e6 / rows as f64,
    })
}
