//! What an audit costs the auditor and a real server; only with `AUDITMON_TEST_IMMUDB=/path/to/immudb`.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::agent::{Place, cpu_of};
use crate::table::Table;
use crate::{Bench, Fault};

/// Longest start of the server.
const START: Duration = Duration::from_secs(60);

/// A server; killed when dropped.
struct Real(Child);

impl Drop for Real {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Real {
    fn start(binary: &Path, dir: &Path) -> Result<(Self, u16), Fault> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::create_dir_all(dir)?;
        let child = Command::new(binary)
            .arg("--dir")
            .arg(dir.join("data"))
            .args(["--address", "127.0.0.1", "--port", &port.to_string(), "--auth=true"])
            .args(["--web-server=false", "--pgsql-server=false"])
            .current_dir(dir)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let real = Self(child);
        let until = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err("immudb does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok((real, port))
    }
}

/// Measures both, less what the server takes when nobody asks.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let Some(binary) = std::env::var_os("AUDITMON_TEST_IMMUDB") else {
        table.row(
            "immudb: CPU a tick beside a real server",
            "skipped",
            "",
            "AUDITMON_TEST_IMMUDB is not set",
        );
        return Ok(());
    };
    let (real, port) = Real::start(Path::new(&binary), &bench.dir.join("immudb-real"))?;
    let time = bench.time(30);
    std::thread::sleep(Duration::from_secs(5));
    let before = cpu_of(real.0.id());
    std::thread::sleep(time);
    let idle = cpu_of(real.0.id()) - before;
    let place = Place::new(bench, "immudb-beside")?;
    place.configure(&format!(
        "sources: {{ingest: {{enabled: false}}, kernel: {{enabled: false}}, immudb: {{enabled: true, interval: 1s, past_calls: 0, \
         value_calls: 0, servers: [{{address: \"127.0.0.1:{port}\", username: immudb, password: immudb}}]}}}}"
    ))?;
    let agent = place.start()?;
    std::thread::sleep(Duration::from_secs(5));
    let runs = |metrics: crate::agent::Metrics| metrics.sum("auditmon_immudb_runs_total");
    let (ours, theirs, begun) = (agent.cpu(), cpu_of(real.0.id()), runs(agent.metrics()?));
    std::thread::sleep(time);
    let (ours, theirs) = (agent.cpu() - ours, cpu_of(real.0.id()) - theirs - idle);
    let ticks = (runs(agent.metrics()?) - begun).max(1.0);
    agent.stop()?;
    table.row(
        "immudb: CPU a tick beside a real server, auditor",
        format!("{:.1} ms", ours / ticks * 1e3),
        "< 2.5 ms",
        format!("{ticks:.0} ticks, one database, 1 s"),
    );
    table.row(
        "immudb: CPU a tick beside a real server, server",
        format!("{:.1} ms", theirs.max(0.0) / ticks * 1e3),
        "< 85 ms",
        "the login is kept",
    );
    Ok(())
}
