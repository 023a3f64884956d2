//! The event API: answers a second, and how long one takes. An answer counts only if its event is found in the
//! journal of the killed agent.

use std::process::Command;

use crate::agent::{Agent, Place, shares};
use crate::table::{Table, number};
use crate::{Bench, Fault};

/// Kernel source and store off: what is measured is the way into the journal.
const ALONE: &str = "sources: {kernel: {enabled: false}}\nsinks: {store: {enabled: false}}\n";

/// What the client says at its end.
pub struct Said {
    /// Events accepted a second.
    pub rate: f64,
    /// Events accepted in all.
    pub accepted: u64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

/// Runs the client against an agent.
pub fn generate(
    place: &Place,
    agent: &Agent,
    name: &str,
    connections: u32,
    batch: u32,
    seconds: f64,
) -> Result<Said, Fault> {
    let out = Command::new(std::env::current_exe()?)
        .args(["generate", &agent.address.to_string(), &place.key, name])
        .args([connections.to_string(), batch.to_string(), seconds.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).map_err(|_| "the client failed")?;
    if said["errors"] != 0 {
        return Err(format!("{} requests were not accepted: {}", said["errors"], said["first_error"]).into());
    }
    let value = |name: &str| said[name].as_f64().unwrap_or(0.0);
    Ok(Said {
        rate: value("rate"),
        accepted: said["accepted"].as_u64().unwrap_or(0),
        p50: value("p50") / 1e3,
        p99: value("p99") / 1e3,
        cpu: value("cpu"),
    })
}

struct Run {
    said: Said,
    syncs: f64,
    agent_cpu: f64,
    shares: String,
}

fn run(bench: &Bench, name: &str, connections: u32, batch: u32, seconds: f64) -> Result<Run, Fault> {
    let place = Place::new(bench, name)?;
    place.configure(ALONE)?;
    let agent = place.start()?;
    let (cpu, threads) = (agent.cpu(), agent.threads());
    let said = generate(&place, &agent, name, connections, batch, seconds)?;
    let agent_cpu = agent.cpu() - cpu;
    let shares = shares(&threads, &agent.threads());
    let metrics = agent.metrics()?;
    let syncs = metrics.sum("auditmon_journal_fsync_seconds_count");
    agent.kill()?;
    let found = place.dump(&format!("\"event_name\":\"{name}\""), |_| ())?;
    if found < said.accepted {
        return Err(format!("{} events were accepted and {found} are in the journal", said.accepted).into());
    }
    Ok(Run {
        syncs: syncs / (seconds + 1.0),
        agent_cpu,
        shares,
        said,
    })
}

/// One event a request.
pub fn acks(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let seconds = bench.time(10).as_secs_f64();
    for connections in [1, 8, 64, 256] {
        let run = run(bench, &format!("bench.acks{connections}"), connections, 1, seconds)?;
        let events = run.said.accepted as f64;
        let goal = if connections == 64 {
            "≥ 40,000, p99 < 15 ms"
        } else {
            ""
        };
        table.row(
            format!("durable answers/s, {connections} connections"),
            format!(
                "{}; p50 {:.2} ms, p99 {:.1} ms",
                number(run.said.rate),
                run.said.p50,
                run.said.p99
            ),
            goal,
            format!(
                "{} syncs/s; CPU an event: agent {:.1} µs, client {:.1} µs; {}",
                number(run.syncs),
                run.agent_cpu / events * 1e6,
                run.said.cpu / events * 1e6,
                run.shares
            ),
        );
    }
    Ok(())
}

/// A thousand events a request.
pub fn ndjson(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let run = run(bench, "bench.ndjson", 8, 1000, bench.time(10).as_secs_f64())?;
    let events = run.said.accepted as f64;
    table.row(
        "NDJSON, 1,000 events a request, 8 connections, events/s",
        format!(
            "{}; p50 {:.0} ms, p99 {:.0} ms",
            number(run.said.rate),
            run.said.p50,
            run.said.p99
        ),
        "≥ 250,000",
        format!(
            "{} MB/s; CPU an event: agent {:.2} µs, client {:.2} µs; {}",
            number(run.said.rate * crate::events::LENGTH as f64 / 1e6),
            run.agent_cpu / events * 1e6,
            run.said.cpu / events * 1e6,
            run.shares
        ),
    );
    Ok(())
}
