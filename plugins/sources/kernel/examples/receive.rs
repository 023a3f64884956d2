//! What receiving costs: CPU time of the receiving process per event, on the
//! live kernel of this machine (root; takes the lock that audit tests share).
//!
//! ```text
//! receive ring                      no kernel: ns to push one record through the ring
//! receive bare|ring-live|full|source [RATE [SECONDS]]
//! ```
//!
//! `bare` receives and throws away, `ring-live` adds the ring, `full` also
//! puts events together and writes their JSON, `source` is the whole source
//! with a journal on disk. RATE is programs started a second (1000), by
//! another process; 0 is as fast as it can.

#![allow(clippy::unwrap_used)]

#[path = "../tests/support/journal.rs"]
mod journal;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit_record::json::Encoder;
use audit_record::{Limits, Reassembler, RecordType, Summary};
use auditmon_source_kernel::KernelConfig;
use auditmon_source_kernel::reader::{Reader, coarse_now};
use auditmon_source_kernel::ring::{self, Consumer, Taken};
use auditmon_source_kernel::users::Users;
use support::{Live, privileged, rule};
use tokio_util::sync::CancellationToken;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let mut number = |default| arguments.next().map_or(default, |text| text.parse().unwrap());
    let (rate, seconds) = (number(1000), number(10));
    match mode.as_str() {
        "storm" => storm(rate, seconds),
        "ring" => ring_alone(),
        "bare" | "ring-live" | "full" | "source" => live(&mode, rate, seconds),
        _ => eprintln!("receive ring|bare|ring-live|full|source [RATE [SECONDS]]"),
    }
}

/// Starts programs, `rate` a second.
fn storm(rate: u64, seconds: u64) {
    let start = Instant::now();
    let mut started = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        if rate > 0 && started >= start.elapsed().as_micros() as u64 * rate / 1_000_000 {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        Command::new("/bin/true")
            .args(["--some", "usual arguments", "/of/a/program"])
            .status()
            .unwrap();
        started += 1;
    }
    println!("{started} programs started");
}

/// ns that all threads of this process have run.
fn run_time() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Run time by thread name, µs an event.
fn by_thread(before: &BTreeMap<String, u64>, events: u64) {
    for (name, time) in run_times() {
        let time = time - before.get(&name).copied().unwrap_or_default();
        println!("  {name}: {:.2} µs", time as f64 / 1e3 / events.max(1) as f64);
    }
}

fn run_times() -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap();
        let time: u64 = read("schedstat").split(' ').next().unwrap().parse().unwrap();
        *times.entry(read("comm").trim().to_owned()).or_default() += time;
    }
    times
}

fn ring_alone() {
    let payload = vec![b'x'; 300];
    let (producer, mut consumer) = ring::ring(ring::DEFAULT_CAPACITY);
    for _ in 0..5 {
        let start = Instant::now();
        let mut records = 0;
        for _ in 0..1_000_000u32 {
            records += u32::from(producer.push(1300, false, 0, &payload));
            if consumer.level().0 > 16 << 20 {
                while let Taken::Chunk(chunk) = consumer.take(Duration::ZERO) {
                    consumer.recycle(chunk);
                    if consumer.level().0 < 1 << 20 {
                        break;
                    }
                }
            }
        }
        let each = start.elapsed().as_nanos() as u64 / 1_000_000;
        println!("{each} ns a record of 300 bytes, {records} taken, the level looked at each time");
    }
    // From one thread to another.
    let reading = std::thread::spawn(move || {
        let mut records = 0u64;
        loop {
            match consumer.take(Duration::from_secs(1)) {
                Taken::Chunk(chunk) => {
                    records += chunk.entries().count() as u64;
                    consumer.recycle(chunk);
                }
                Taken::Nothing => {}
                Taken::Closed => return records,
            }
        }
    });
    let start = Instant::now();
    let before = thread_time();
    for _ in 0..5_000_000u32 {
        producer.push(1300, false, coarse_now(), &payload);
    }
    let (cpu, wall) = (thread_time() - before, start.elapsed());
    drop(producer);
    let records = reading.join().unwrap();
    println!(
        "between threads, clock read too: {} ns of CPU, {} ns of time a record; {records} of 5000000 arrived",
        cpu / 5_000_000,
        wall.as_nanos() / 5_000_000
    );
}

fn thread_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn live(mode: &str, rate: u64, seconds: u64) {
    let Some(mut live) = Live::borrow(mode) else {
        return;
    };
    if mode == "source" {
        return source(&mut live, rate, seconds);
    }
    live.control
        .set(auditmon_source_kernel::status::SettingKind::BacklogLimit, 8192)
        .unwrap();
    live.control
        .add_rule(&rule("-a always,exit -F arch=b64 -S execve,execveat -k receive"))
        .unwrap();
    let done = AtomicBool::new(false);
    let (records, events, json) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (producer, consumer) = ring::ring(ring::DEFAULT_CAPACITY);
        if mode == "bare" {
            drop(producer);
            let (done, records, events) = (&done, &records, &events);
            let fd = auditmon_source_kernel::socket::open().unwrap();
            auditmon_source_kernel::socket::set_receive_buffer(&fd, 16 << 20).unwrap();
            register_bare(&fd);
            scope.spawn(move || bare(&fd, done, records, events));
            run_storm(&mut live, rate, seconds, records, events, &json);
            live.control.unregister().unwrap();
            done.store(true, Ordering::Relaxed);
            return;
        }
        let mut reader = Reader::start(16 << 20, producer, &privileged()).unwrap();
        reader.register(|| panic!("free")).unwrap();
        let (records, events, json) = (&records, &events, &json);
        let full = mode == "full";
        std::thread::Builder::new()
            .name("work".into())
            .spawn_scoped(scope, move || work(consumer, full, records, events, json))
            .unwrap();
        run_storm(&mut live, rate, seconds, records, events, json);
        live.control.unregister().unwrap();
        let stats = reader.stats();
        println!(
            "overruns {}, dropped {}",
            stats.overruns.load(Ordering::Relaxed),
            stats.dropped.load(Ordering::Relaxed)
        );
        reader.stop();
    });
}

fn run_storm(live: &mut Live, rate: u64, seconds: u64, records: &AtomicU64, events: &AtomicU64, json: &AtomicU64) {
    live.enable();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["storm", &rate.to_string(), &seconds.to_string()])
        .spawn()
        .unwrap();
    let before = run_time();
    let threads = run_times();
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let cpu = run_time() - before;
    let (records, events) = (records.load(Ordering::Relaxed), events.load(Ordering::Relaxed));
    println!(
        "{records} records, {events} events, {:.2} µs of CPU an event, {:.3} a record, {} bytes of JSON",
        cpu as f64 / 1e3 / events.max(1) as f64,
        cpu as f64 / 1e3 / records.max(1) as f64,
        json.load(Ordering::Relaxed)
    );
    by_thread(&threads, events);
    let status = live.control.status().unwrap();
    println!(
        "kernel lost {}, waited {:?} jiffies",
        status.lost, status.backlog_wait_time_actual
    );
}

fn register_bare(fd: &std::os::fd::OwnedFd) {
    use rustix::net::{SendFlags, netlink::SocketAddrNetlink, sendto};
    let mut request = vec![0u8; 60];
    request[0..4].copy_from_slice(&60u32.to_ne_bytes());
    request[4..6].copy_from_slice(&1001u16.to_ne_bytes());
    request[6..8].copy_from_slice(&1u16.to_ne_bytes());
    request[16..20].copy_from_slice(&4u32.to_ne_bytes());
    request[28..32].copy_from_slice(&std::process::id().to_ne_bytes());
    sendto(fd, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).unwrap();
}

fn bare(fd: &std::os::fd::OwnedFd, done: &AtomicBool, records: &AtomicU64, events: &AtomicU64) {
    use rustix::net::{RecvFlags, recvfrom, sockopt};
    let timeout = Some(Duration::from_millis(200));
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Recv, timeout).unwrap();
    let mut buffer = vec![0u8; 32 << 10];
    let (mut seen, mut ended) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        if recvfrom(fd, buffer.as_mut_slice(), RecvFlags::TRUNC).is_ok() {
            seen += 1;
            ended += u64::from(buffer[4..6] == 1320u16.to_ne_bytes());
            records.store(seen, Ordering::Relaxed);
            events.store(ended, Ordering::Relaxed);
        }
    }
}

fn work(mut consumer: Consumer, full: bool, records: &AtomicU64, events: &AtomicU64, json: &AtomicU64) {
    let mut reassembler = Reassembler::new(Limits::default());
    let mut encoder = Encoder::new();
    let users = Users::of_host(&privileged());
    let mut out = Vec::new();
    loop {
        let chunk = match consumer.take(Duration::from_secs(1)) {
            Taken::Chunk(chunk) => chunk,
            Taken::Nothing => continue,
            Taken::Closed => return,
        };
        let (mut seen, mut ended, mut bytes) = (0, 0, 0);
        for entry in chunk.entries() {
            seen += 1;
            if !full {
                ended += u64::from(entry.kind == 1320);
                continue;
            }
            reassembler.push(RecordType(entry.kind), entry.payload, entry.arrival);
            while let Some(event) = reassembler.pop() {
                out.clear();
                encoder.event_data(&Summary::of(&event), &users, &[], &mut out);
                bytes += out.len() as u64;
                ended += 1;
                reassembler.recycle(event);
            }
        }
        records.fetch_add(seen, Ordering::Relaxed);
        events.fetch_add(ended, Ordering::Relaxed);
        json.fetch_add(bytes, Ordering::Relaxed);
        consumer.recycle(chunk);
    }
}

fn source(live: &mut Live, rate: u64, seconds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let agent = journal::Agent::open(dir.path());
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        let _stop = stop.clone().drop_guard();
        let run = scope.spawn(move || runtime.block_on(agent_ref.run(KernelConfig::default(), token)));
        std::thread::sleep(Duration::from_millis(500));
        let first = agent.handle.durable();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["storm", &rate.to_string(), &seconds.to_string()])
            .spawn()
            .unwrap();
        let before = run_time();
        let threads = run_times();
        child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let cpu = run_time() - before;
        let records = agent.handle.durable() - first;
        let metrics = agent.handle.status().metrics;
        println!(
            "{records} journal records in {} frames, {:.2} µs of CPU each (journal thread included)",
            metrics.frames,
            cpu as f64 / 1e3 / records as f64
        );
        by_thread(&threads, records);
        let status = live.control.status().unwrap();
        println!(
            "kernel lost {}, waited {:?} jiffies",
            status.lost, status.backlog_wait_time_actual
        );
        stop.cancel();
        run.join().unwrap().unwrap();
    });
    println!("missing {}", agent.metric("auditmon_kernel_sequence_gaps_total"));
    agent.close();
}
