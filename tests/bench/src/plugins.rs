//! What each plugin holds in memory when nothing happens.

use std::time::Duration;

use crate::agent::Place;
use crate::table::Table;
use crate::{Bench, Fault};

/// Plugins with what turns them on; the kernel source is measured where its lock is held.
const PLUGINS: [(&str, &str); 7] = [
    ("ingest", "sources: {ingest: {enabled: true}}"),
    (
        "immudb, one server",
        "sources: {immudb: {enabled: true, servers: [{address: \"127.0.0.1:1\", username: u, password: p}]}}",
    ),
    ("store", "sinks: {store: {enabled: true}}"),
    ("prometheus", "sinks: {prometheus: {enabled: true}}"),
    ("stdout", "sinks: {stdout: {enabled: true}}"),
    (
        "webhook, one",
        "sinks: {webhook: {one: {url: \"http://127.0.0.1:1/\"}}}",
    ),
    ("web", "services: {web: {enabled: true}}"),
];
/// All that are on by default.
const DEFAULTS: [&str; 5] = ["ingest", "kernel", "store", "prometheus", "web"];
/// Starts of each: the middle one counts, because single figures differ by some 0.2 MB.
const STARTS: usize = 3;

/// Measures all but the kernel source.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let none = anonymous(bench, "")?;
    table.row("at rest without any plugin: anonymous memory", megabytes(none), "", "");
    for (name, yaml) in PLUGINS {
        row(bench, table, name, yaml, none)?;
    }
    Ok(())
}

/// Measures the kernel source.
pub fn kernel(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let none = anonymous(bench, "")?;
    row(bench, table, "kernel", "sources: {kernel: {enabled: true}}", none)
}

fn row(bench: &Bench, table: &mut Table, name: &str, yaml: &str, none: f64) -> Result<(), Fault> {
    let with = anonymous(bench, yaml)?;
    table.row(
        format!("at rest, {name}: anonymous memory more"),
        megabytes(with - none),
        "",
        "",
    );
    Ok(())
}

fn megabytes(kilobytes: f64) -> String {
    format!("{:.1} MB", kilobytes / 1e3)
}

/// Anonymous memory in kB of an agent with these plugins alone.
fn anonymous(bench: &Bench, yaml: &str) -> Result<f64, Fault> {
    let mut figures = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let place = Place::new(bench, "plugins")?;
        place.configure(yaml)?;
        let off: Vec<&str> = DEFAULTS
            .into_iter()
            .filter(|name| !yaml.contains(&format!("{name}:")))
            .collect();
        let agent = place.start_without(&off)?;
        std::thread::sleep(Duration::from_secs(1));
        figures.push(agent.kilobytes("status", "RssAnon") as f64);
        agent.stop()?;
    }
    figures.sort_by(f64::total_cmp);
    Ok(figures[STARTS / 2])
}
