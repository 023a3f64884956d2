//! An agent that nothing happens to: memory and processor.

use crate::agent::Place;
use crate::table::{Table, number};
use crate::{Bench, Fault};

/// Measures it with event API, store and page on, as on a host without privileges.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let place = Place::new(bench, "idle")?;
    place.configure("sources: {kernel: {enabled: false}}")?;
    let agent = place.start()?;
    std::thread::sleep(bench.time(4));
    let time = bench.time(30);
    let (cpu, switches) = (thread_time(&agent), voluntary(agent.pid()));
    std::thread::sleep(time);
    let seconds = time.as_secs_f64();
    let cpu = (thread_time(&agent) - cpu) / seconds * 100.0;
    let wakes = (voluntary(agent.pid()) - switches) / seconds;
    let (pss, rss) = (
        agent.kilobytes("smaps_rollup", "Pss"),
        agent.kilobytes("status", "VmRSS"),
    );
    let size = std::fs::metadata(&bench.binary)?.len() as f64 / 1e6;
    agent.stop()?;
    table.row(
        "idle, event API, store and page: Pss",
        format!("{:.1} MB", pss as f64 / 1e3),
        "< 25 MB",
        format!("RSS {:.1} MB; binary {size:.1} MB", rss as f64 / 1e3),
    );
    table.row(
        "idle: CPU",
        format!("{cpu:.3} %"),
        "< 0.3 %",
        format!("{} wake-ups/s", number(wakes)),
    );
    Ok(())
}

fn thread_time(agent: &crate::agent::Agent) -> f64 {
    agent.threads().values().sum()
}

fn voluntary(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let count = |text: String| -> Option<f64> {
        text.lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok())
    };
    tasks
        .filter_map(|task| count(std::fs::read_to_string(task.path().join("status")).ok()?))
        .sum()
}
