//! What a sink costs, what it holds in memory, and how long a reload takes that changes one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::agent::{Agent, Place, shares};
use crate::table::{Table, number};
use crate::{Bench, Fault, http};

/// Webhooks beside each other; the cost of one is the difference to the run before, shared among those that came on top.
const COUNTS: [usize; 4] = [0, 1, 2, 5];
/// Longest wait until all sinks have everything.
const DRAIN: Duration = Duration::from_secs(120);

/// Measures all of it.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let receiver = receiver()?;
    let mut before: Option<(usize, f64, f64)> = None;
    for count in COUNTS {
        let (cost, memory, shares) = with(bench, receiver, count)?;
        let (label, value) = match before {
            None => ("no sink: CPU an event".to_owned(), format!("{cost:.2} µs")),
            Some((had, less, _)) => {
                let each = (cost - less) / (count - had) as f64;
                (
                    format!("{count} webhooks: CPU an event"),
                    format!("{cost:.2} µs; {each:.2} µs for each one more"),
                )
            }
        };
        let held = before.map_or(String::new(), |(had, _, less)| {
            format!("; {:.2} MB for each one more", (memory - less) / (count - had) as f64)
        });
        table.row(label, value, "", format!("Pss {memory:.1} MB{held}; {shares}"));
        before = Some((count, cost, memory));
    }
    reloads(bench, receiver, table)
}

fn configuration(receiver: SocketAddr, count: usize, timeout: u32) -> String {
    let mut text = String::from(
        "sources: {kernel: {enabled: false}}\nsinks:\n  store: {enabled: false}\n  webhook:\n    off: {enabled: false, url: \"http://127.0.0.1/\"}\n",
    );
    for number in 0..count {
        text += &format!(
            "    w{number}: {{url: \"http://{receiver}/\", body: ndjson, workers: 1, request_timeout: {timeout}s, batch: {{events: 1000}}}}\n"
        );
    }
    text
}

/// Processor time an event in µs, Pss in MB when all is delivered, and where the time went.
fn with(bench: &Bench, receiver: SocketAddr, count: usize) -> Result<(f64, f64, String), Fault> {
    let name = format!("bench.sinks{count}");
    let place = Place::new(bench, &name)?;
    place.configure(&configuration(receiver, count, 30))?;
    let agent = place.start()?;
    let (cpu, threads) = (agent.cpu(), agent.threads());
    let said = http::generate(&place, &agent, &name, 4, 100, bench.time(8).as_secs_f64())?;
    drained(&agent)?;
    let cost = (agent.cpu() - cpu) / said.accepted as f64 * 1e6;
    let shares = shares(&threads, &agent.threads());
    let memory = agent.kilobytes("smaps_rollup", "Pss") as f64 / 1e3;
    agent.stop()?;
    Ok((cost, memory, shares))
}

fn drained(agent: &Agent) -> Result<(), Fault> {
    let until = Instant::now() + DRAIN;
    while agent.metrics()?.sum("auditmon_sink_lag_entries{") > 0.0 {
        if Instant::now() > until {
            return Err("the sinks did not deliver everything in time".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn reloads(bench: &Bench, receiver: SocketAddr, table: &mut Table) -> Result<(), Fault> {
    let place = Place::new(bench, "reload")?;
    place.configure(&configuration(receiver, 2, 30))?;
    let agent = place.start()?;
    let mut rows = [
        ("nothing changes", Vec::new()),
        ("one webhook of two changes", Vec::new()),
    ];
    for round in 0..u32::try_from(bench.count(20))? {
        for (at, (_, times)) in rows.iter_mut().enumerate() {
            if at == 1 {
                let text = configuration(receiver, 2, 30);
                let changed = text.replacen("30s", &format!("{}s", 31 + round), 1);
                place.configure(&changed)?;
            }
            let begin = Instant::now();
            place.command(&["reload"])?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    agent.stop()?;
    for (what, mut times) in rows {
        times.sort_by(f64::total_cmp);
        let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
        table.row(
            format!("auditmon reload, {what}"),
            format!("{middle:.0} ms, at most {most:.0} ms"),
            "",
            format!("{} reloads, start of the command included", number(times.len() as f64)),
        );
    }
    Ok(())
}

/// Takes everything and answers 200.
fn receiver() -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The agent hangs up at its end.
            std::thread::spawn(move || take(stream));
        }
    });
    Ok(address)
}

fn take(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
