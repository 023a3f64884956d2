//! The kernel source: processor an exec event, and records a second without loss, beside a bare receive loop.
//!
//! As root, under the lock that tests of audit share; the kernel is left as it was found.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use audit_rule::{Host, Statement};
use auditmon_source_kernel::control::{Control, Loaded};
use auditmon_source_kernel::holder::Holder;
use auditmon_source_kernel::status::{SettingKind, Status};
use auditmon_source_kernel::{socket, wire};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto, sockopt};

use crate::agent::{Agent, Metrics, Place, shares};
use crate::table::{Table, number};
use crate::{Bench, Fault, plugins};

const LOCK: &str = "/tmp/auditmon-kernel.lock";
const RULE: &str = "-a always,exit -F arch=b64 -S execve,execveat -k auditmon-bench";
const BACKLOG: u32 = 8192;
/// Receive buffer of the bare loop, the agent's default.
const BUFFER: usize = 16 << 20;
/// Executions a second.
const RATE: u32 = 1000;
/// How long the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(600);
/// End of an event.
const EOE: u16 = 1320;
/// Records begin here.
const FIRST_RECORD: u16 = 1100;

/// Measures everything about the kernel.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let Some(mut kernel) = Borrowed::take()? else {
        table.row("kernel source", "skipped", "", "needs root and a kernel with audit");
        return Ok(());
    };
    let time = bench.time(30);
    let bare = kernel.bare(&["spawn", &RATE.to_string(), &time.as_secs().to_string()])?;
    table.row(
        format!("bare receive loop: CPU an exec event, {RATE}/s"),
        format!("{:.1} µs", bare.cpu / bare.events as f64 * 1e6),
        "",
        format!(
            "{} events, {:.1} records each",
            number(bare.events as f64),
            bare.records as f64 / bare.events as f64
        ),
    );
    for (store, goal) in [(false, "≤ 2 × bare"), (true, "")] {
        kernel.restore();
        cpu(bench, table, store, goal, time, bare.cpu / bare.events as f64)?;
    }
    kernel.restore();
    let seconds = bench.time(8).as_secs().to_string();
    let bare = kernel.bare(&["fail", &seconds])?;
    table.row(
        "bare receive loop: records/s that a producer is held to",
        number(bare.records as f64 / bare.seconds),
        "",
        format!(
            "{:.1} µs an event, {:.1} records each",
            bare.cpu / bare.events as f64 * 1e6,
            bare.records as f64 / bare.events as f64
        ),
    );
    kernel.restore();
    storm(bench, table, &seconds, bare.records as f64 / bare.events as f64)?;
    kernel.restore();
    plugins::kernel(bench, table)
}

fn place(bench: &Bench, store: bool) -> Result<Place, Fault> {
    let place = Place::new(bench, if store { "kernel-store" } else { "kernel" })?;
    place.configure(&format!(
        "sources: {{kernel: {{backlog_limit: {BACKLOG}, rules: {{list: [\"{RULE}\"]}}}}}}\nsinks: {{store: {{enabled: {store}}}}}"
    ))?;
    Ok(place)
}

fn registered(agent: &Agent) -> Result<Metrics, Fault> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = agent.metrics()?;
        if metrics.sum("auditmon_kernel_registered") > 0.0 {
            return Ok(metrics);
        }
        if Instant::now() > deadline {
            return Err("the kernel source did not register".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

const EVENTS: &str = "auditmon_source_events_total{plugin=\"kernel\"";

fn losses(metrics: &Metrics) -> f64 {
    ["sequence_gaps_total", "lost_total", "dropped_total", "discarded_total"]
        .iter()
        .map(|name| metrics.sum(&format!("auditmon_kernel_{name}")))
        .sum()
}

fn cpu(bench: &Bench, table: &mut Table, store: bool, goal: &str, time: Duration, bare: f64) -> Result<(), Fault> {
    let place = place(bench, store)?;
    let agent = place.start()?;
    registered(&agent)?;
    std::thread::sleep(Duration::from_secs(2));
    let idle_time = Duration::from_secs(5);
    let idle_events = agent.metrics()?.sum(EVENTS);
    let idle = agent.cpu();
    std::thread::sleep(idle_time);
    let idle = (agent.cpu() - idle) / idle_time.as_secs_f64();
    let before = agent.metrics()?;
    // What others start on this machine meanwhile is load as well, not idleness.
    let foreign = before.sum(EVENTS) - idle_events;
    let (cpu, threads, begin) = (agent.cpu(), agent.threads(), Instant::now());
    load(&["spawn", &RATE.to_string(), &time.as_secs().to_string()])?;
    std::thread::sleep(Duration::from_millis(500));
    let seconds = begin.elapsed().as_secs_f64();
    let quiet = if foreign < 100.0 { idle * seconds } else { 0.0 };
    let cpu = agent.cpu() - cpu - quiet;
    let shares = shares(&threads, &agent.threads());
    let after = agent.metrics()?;
    let events = after.sum(EVENTS) - before.sum(EVENTS);
    agent.stop()?;
    let each = cpu / events;
    table.row(
        format!(
            "agent, store {}: CPU an exec event, {RATE}/s",
            if store { "on" } else { "off" }
        ),
        format!("{:.1} µs", each * 1e6),
        goal,
        format!(
            "{:.1} × bare; {} events, {} lost; {shares}",
            each / bare,
            number(events),
            number(losses(&after))
        ),
    );
    Ok(())
}

fn storm(bench: &Bench, table: &mut Table, seconds: &str, records_an_event: f64) -> Result<(), Fault> {
    let place = place(bench, false)?;
    let agent = place.start()?;
    let before = registered(&agent)?;
    std::thread::sleep(Duration::from_secs(1));
    let (cpu, threads, begin) = (agent.cpu(), agent.threads(), Instant::now());
    load(&["fail", seconds])?;
    let produced = begin.elapsed().as_secs_f64();
    // The rest is still on its way.
    std::thread::sleep(Duration::from_secs(3));
    let cpu = agent.cpu() - cpu;
    let shares = shares(&threads, &agent.threads());
    let after = agent.metrics()?;
    let events = after.sum(EVENTS) - before.sum(EVENTS);
    agent.stop()?;
    let mut told = String::new();
    place.dump("\"event_name\":\"kernel.stop\"", |line| {
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(line) {
            let data = &json["event"]["event_data"];
            told = format!("{} records, {} missing", data["records"], data["missing"]);
        }
    })?;
    table.row(
        "agent, store off: records/s that it holds a producer to",
        number(events * records_an_event / produced),
        "no loss",
        format!(
            "{:.1} µs an event; {} lost; {told}; {shares}",
            cpu / events * 1e6,
            number(losses(&after))
        ),
    );
    Ok(())
}

/// Runs the load to its end.
fn load(words: &[&str]) -> Result<(), Fault> {
    let out = Command::new(std::env::current_exe()?)
        .arg("execute")
        .args(words)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if out.status.success() {
        Ok(())
    } else {
        Err("the load failed".into())
    }
}

/// What a bare loop saw.
#[derive(Default)]
struct Bare {
    records: u64,
    events: u64,
    cpu: f64,
    seconds: f64,
}

/// The kernel's audit, borrowed. Dropped, it is as it was.
struct Borrowed {
    control: Control,
    before: Status,
    rules: Vec<Loaded>,
    _lock: File,
}

impl Borrowed {
    fn take() -> Result<Option<Self>, Fault> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let lock = File::options().create(true).truncate(false).write(true).open(LOCK)?;
        let deadline = Instant::now() + PATIENCE;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{LOCK} is held by somebody else").into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let Ok(mut control) = Control::of_caller() else {
            return Ok(None);
        };
        let Ok(before) = control.status() else { return Ok(None) };
        if before.pid != 0
            && let holder @ Holder::Process(_) = Holder::find(before.pid)
        {
            return Err(format!("audit is taken by {holder}").into());
        }
        let rules = control.rules()?;
        Ok(Some(Self {
            control,
            before,
            rules,
            _lock: lock,
        }))
    }

    /// Puts back what was found.
    fn restore(&mut self) {
        // It may not be registered at all.
        let _ = self.control.unregister();
        for rule in self.control.rules().unwrap_or_default() {
            if !self.rules.contains(&rule)
                && let Loaded::Rule(rule) = rule
            {
                // Whoever added it may have taken it back this moment.
                let _ = self.control.delete_rule(&rule);
            }
        }
        for kind in SettingKind::ALL {
            if let Some(value) = self.before.value(kind) {
                // Some can't be set on every kernel; those were not changed either.
                let _ = self.control.set(kind, value);
            }
        }
    }

    /// Registers, receives while the load runs and for a moment longer, and counts.
    fn bare(&mut self, words: &[&str]) -> Result<Bare, Fault> {
        let parsed = audit_rule::parse_line(RULE.as_bytes(), &Nobody).map_err(|_| "the rule is wrong")?;
        let fd = socket::open()?;
        socket::set_receive_buffer(&fd, BUFFER)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(Duration::from_millis(100)))?;
        sendto(
            &fd,
            &registration(std::process::id()),
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        for (_, statement) in parsed.statements {
            if let Statement::Add(rule) = statement {
                self.control.add_rule(&rule)?;
            }
        }
        self.control.set(SettingKind::BacklogLimit, BACKLOG)?;
        self.control.set(SettingKind::Enabled, 1)?;
        let end = AtomicBool::new(false);
        let mut bare = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&fd, &end));
            let begin = Instant::now();
            let result = load(words);
            let seconds = begin.elapsed().as_secs_f64();
            std::thread::sleep(Duration::from_secs(1));
            end.store(true, Ordering::Relaxed);
            let mut bare = receiver.join().map_err(|_| "the receiving thread died")?;
            bare.seconds = seconds;
            result.map(|()| bare)
        })?;
        bare.events = bare.events.max(1);
        self.restore();
        Ok(bare)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.restore();
    }
}

fn receive(fd: &rustix::fd::OwnedFd, end: &AtomicBool) -> Bare {
    let mut buffer = vec![0; 32 << 10];
    let mut bare = Bare::default();
    let mut kinds: BTreeMap<bool, u64> = BTreeMap::new();
    while !end.load(Ordering::Relaxed) {
        match recvfrom(fd, buffer.as_mut_slice(), RecvFlags::TRUNC) {
            Ok((_, length, _)) => {
                let bytes = buffer.get(..length.min(32 << 10)).unwrap_or_default();
                let kind = wire::Datagram::cut(bytes).map_or(0, |datagram| datagram.kind);
                if kind >= FIRST_RECORD {
                    *kinds.entry(kind == EOE).or_default() += 1;
                }
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => {}
            Err(_) => break,
        }
    }
    bare.events = kinds.get(&true).copied().unwrap_or(0);
    bare.records = kinds.values().sum();
    let time = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    bare.cpu = time
        .split(' ')
        .next()
        .and_then(|text| text.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1e9;
    bare
}

/// AUDIT_SET with the mask for the daemon's process id.
fn registration(pid: u32) -> Vec<u8> {
    const MASK_PID: u32 = 4;
    const REQUEST_ACK: u16 = 5;
    let mut status = [0_u32; 11];
    status[0] = MASK_PID;
    status[3] = pid;
    let length = u32::try_from(16 + 4 * status.len()).unwrap_or(0);
    let mut out = length.to_ne_bytes().to_vec();
    out.extend(wire::kind::SET.to_ne_bytes());
    out.extend(REQUEST_ACK.to_ne_bytes());
    out.extend(1_u32.to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    out.extend(status.iter().flat_map(|word| word.to_ne_bytes()));
    out
}

/// The rule names no users and no paths.
struct Nobody;

impl Host for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
    fn gid(&self, _: &str) -> Option<u32> {
        None
    }
    fn is_dir(&self, _: &[u8]) -> bool {
        false
    }
}
