//! A million events that the store has not seen, after a kill: time to the start, and rows a second from then on.

use std::time::{Duration, Instant};

use crate::agent::{Place, shares};
use crate::table::{Table, number};
use crate::{Bench, Fault, http, limits};

const OFF: &str = "sources: {kernel: {enabled: false}}\nsinks: {store: {enabled: false}}\n";
const ON: &str = "sources: {kernel: {enabled: false}}\n";
/// Longest wait for the store.
const DRAIN: Duration = Duration::from_secs(300);

/// Measures both.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let place = Place::new(bench, "backlog")?;
    place.configure(OFF)?;
    let agent = place.start()?;
    let wanted = bench.count(1_000_000);
    let mut behind = 0;
    while behind < wanted {
        behind += http::generate(&place, &agent, "bench.backlog", 4, 1000, 0.5)?.accepted;
    }
    agent.kill()?;
    place.configure(ON)?;
    let agent = place.start()?;
    let begin = Instant::now();
    let threads = agent.threads();
    let (ready, mut peak) = (agent.ready, 0);
    table.row(
        "start with events behind, after SIGKILL: to «ready»",
        format!("{} ms", ready.as_millis()),
        "",
        format!("{} events in the journal", number(behind as f64)),
    );
    let mut first = None;
    let (events, seconds) = loop {
        let metrics = agent.metrics()?;
        let (at, stored) = (
            begin.elapsed(),
            metrics.sum("auditmon_sink_events_total{result=\"ok\",sink=\"store\"}"),
        );
        // From the first batch on: what came before is the opening of the database.
        let (from, had) = *first.get_or_insert((at, stored));
        peak = peak.max(agent.kilobytes("smaps_rollup", "Pss"));
        if stored >= behind as f64 {
            break (stored - had, (at - from).as_secs_f64());
        }
        if at > DRAIN {
            return Err(format!("the store had {stored} of {behind} events after {} s", at.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let shares = shares(&threads, &agent.threads());
    let insert = agent.metrics()?;
    let busy = insert.sum("auditmon_store_insert_seconds_sum");
    agent.stop()?;
    table.row(
        "store: rows/s out of the backlog",
        number(events / seconds),
        "≥ 35,000, 60 % of bare",
        format!(
            "{:.0} % of the time in transactions; {} bytes a row on disk; peak Pss {:.0} MB; {shares}",
            busy / seconds * 100.0,
            number(place.store_bytes() as f64 / behind as f64),
            peak as f64 / 1e3
        ),
    );
    let bare = limits::inserts(bench, behind)?;
    table.row(
        "bare: as many prepared inserts into the store's tables, rows/s",
        number(bare),
        "",
        format!(
            "5,000 a commit, WAL, FULL; the store has {:.0} % of it",
            events / seconds / bare * 100.0
        ),
    );
    Ok(())
}
