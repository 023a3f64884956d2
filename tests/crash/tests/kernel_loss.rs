//! Losses of kernel events are reported exactly: every call of a load is shipped or its serial is in a gap.
//!
//! Root only. One at a time on this machine; the kernel is given back as it was found.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use auditmon_crash::kernel::{LOAD_DIR, Live, Load};
use auditmon_crash::long;
use auditmon_crash::oracle::Oracle;
use auditmon_crash::serials::{Account, Balance};
use auditmon_e2e::{Agent, eventually};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Failing execve calls a second.
const RATE: u64 = 6_000;
/// Numbers from here on are calls that only show how far the agent has got.
const SENTINELS: u64 = 900_000_000;

const CONFIG: &str = "
journal: {segment_size: 16MiB, reserve: 1MiB}
sinks: {store: {enabled: false}}
";
const SMALL_BUFFER: &str = "
journal: {segment_size: 16MiB, reserve: 1MiB}
sources: {kernel: {receive_buffer: 1MiB}}
sinks: {store: {enabled: false}}
";

fn calls() -> u64 {
    RATE * if long() { 60 } else { 8 }
}

fn load(first: u64, count: u64, rate: u64) -> Load {
    Load::start(env!("CARGO_BIN_EXE_exec-load"), first, count, rate, 4)
}

/// Waits until the agent has got as far as now: calls with a number of their own, until one is in the journal.
fn await_caught_up(agent: &Agent) {
    let begin = Instant::now();
    for sentinel in SENTINELS.. {
        load(sentinel, 1, 0).wait(Duration::from_secs(70));
        // The journal proves what it has by its next mark, within a second.
        std::thread::sleep(Duration::from_millis(1_300));
        let path = format!("{LOAD_DIR}{sentinel}");
        if agent.run(&["journal", "dump"]).expect(0).stdout.contains(&path) {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(90),
            "the agent does not catch up: {}",
            agent.stderr()
        );
    }
}

/// Runs `disturb` while the load runs; then everything must add up.
fn exact(test: &str, config: &str, disturb: impl FnOnce(&mut Agent)) -> Option<(Balance, Account)> {
    let mut live = Live::borrow(test)?;
    let lost = live.lost();
    // Before the agent: its first heartbeat counts.
    let oracle = Oracle::start();
    let mut agent = Agent::builder().config(config).kernel().start();
    agent.await_log("receiving the kernel's audit records");
    let calls = calls();
    let begin = Instant::now();
    let mut running = load(0, calls, RATE);
    std::thread::sleep(Duration::from_secs(2));
    disturb(&mut agent);
    running.wait(Duration::from_secs(90));
    let took = begin.elapsed();
    await_caught_up(&agent);
    let caught_up = begin.elapsed() - took;
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let lost = live.lost().wrapping_sub(lost);
    live.assert_as_found();
    let seen = oracle.finish();
    let account = Account::of(&agent.dump());
    let balance = account
        .balance(&seen, 0..calls, lost)
        .unwrap_or_else(|faults| panic!("{test}: {faults}"));
    println!(
        "{test}: {calls} calls in {took:?} ({:.0}/s), caught up after {caught_up:?} more; {balance:?}; {} gap events, missing by reason {:?}{}; kernel lost {lost}",
        calls as f64 / took.as_secs_f64(),
        account.gap_events,
        account.by_reason(),
        if account.merged { " (merged)" } else { "" },
    );
    let sum = balance.calls_shipped + balance.calls_in_part + balance.calls_missing + balance.calls_without_serial;
    assert_eq!(sum, calls, "every call has one place");
    Some((balance, account))
}

#[test]
fn a_reader_that_stands_still_for_3_seconds() {
    let test = "a_reader_that_stands_still_for_3_seconds";
    exact(test, CONFIG, |agent| {
        agent.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(3));
        agent.signal(Signal::CONT);
    });
}

#[test]
fn an_agent_that_is_killed_and_starts_again() {
    let test = "an_agent_that_is_killed_and_starts_again";
    let result = exact(test, CONFIG, |agent| {
        agent.kill();
        std::thread::sleep(Duration::from_millis(500));
        agent.start_again();
        agent.await_log("receiving the kernel's audit records");
    });
    if let Some((_, account)) = result {
        assert!(account.by_reason().contains_key("restart"), "{:?}", account.by_reason());
    }
}

#[test]
fn a_receive_buffer_that_is_too_small() {
    let test = "a_receive_buffer_that_is_too_small";
    let result = exact(test, SMALL_BUFFER, |agent| {
        agent.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(2));
        agent.signal(Signal::CONT);
    });
    if let Some((balance, _)) = result {
        assert!(balance.missing > 0, "nothing was lost: the test shows nothing");
    }
}

/// Port ids of the sockets of audit (protocol 9) that this process has, from the kernel's own list. A socket that is
/// bound by itself has another id than the process.
fn ports(pid: u32) -> Vec<String> {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| {
            std::fs::read_link(fd.ok()?.path())
                .ok()?
                .into_os_string()
                .into_string()
                .ok()
        })
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/net/netlink").unwrap();
    let rows = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| row[1] == "9" && inodes.iter().any(|inode| Some(&inode.as_str()) == row.last()));
    own.map(|row| row[2].to_owned()).collect()
}

#[test]
fn a_reload_that_changes_a_webhook_keeps_the_registration() {
    let config = |seconds: u32| {
        format!("{CONFIG}  webhook: {{w: {{url: \"http://127.0.0.1:9/\", request_timeout: {seconds}s}}}}\n")
            .replace("sinks: {store: {enabled: false}}", "sinks:\n  store: {enabled: false}")
    };
    let test = "a_reload_that_changes_a_webhook_keeps_the_registration";
    let result = exact(test, &config(1), |agent| {
        let before = ports(agent.pid());
        assert!(!before.is_empty());
        for round in 2..5 {
            let (changed, pending) = agent.reload_with(&config(round));
            assert_eq!(
                (changed.as_str(), pending.as_str()),
                ("sinks.webhook.w.request_timeout", "")
            );
        }
        assert_eq!(ports(agent.pid()), before);
        let dump = agent.dump();
        let count = |name: &str| dump.iter().filter(|line| line["event"]["event_name"] == name).count();
        assert_eq!((count("kernel.start"), count("kernel.stop")), (1, 0));
    });
    if let Some((_, account)) = result {
        assert!(
            !account.by_reason().contains_key("restart"),
            "{:?}",
            account.by_reason()
        );
    }
}

/// The event of a program that was started with this first argument.
fn executed(agent: &Agent, argument: &str) -> Value {
    eventually(
        &format!("the event of `… {argument}`"),
        Duration::from_secs(20),
        || {
            let page = agent
                .get("/api/v1/events?kind=kernel&event_name=execve&outcome=success&limit=200")
                .expect(200)
                .json();
            let is = |event: &&Value| {
                event["event_data"]["argv"][1]
                    .as_str()
                    .is_some_and(|arg| arg.starts_with(argument))
            };
            page["events"].as_array().unwrap().iter().find(is).cloned()
        },
    )
}

#[test]
fn programs_that_start_are_found_by_the_api() {
    let Some(mut live) = Live::borrow("programs_that_start_are_found_by_the_api") else {
        return;
    };
    let mut agent = Agent::builder().kernel().start();
    agent.await_log("receiving the kernel's audit records");

    let first = format!("a{}", std::process::id());
    let child = Command::new("true").args([&first, "b"]).spawn().unwrap();
    let pid = child.id();
    drop(child.wait_with_output().unwrap());
    let event = executed(&agent, &first);
    let data = &event["event_data"];
    assert_eq!(data["argv"], serde_json::json!(["true", first, "b"]), "{event}");
    assert_eq!(data["pid"], pid, "{event}");
    assert_eq!(
        (event["kind"].as_str(), event["event_source"].as_str()),
        (Some("kernel"), Some("kernel"))
    );
    let root = ["root", "0"].contains(&event["username"].as_str().unwrap());
    let auid = std::fs::read_to_string("/proc/self/loginuid").unwrap();
    assert!(root || auid.trim() != "4294967295", "{event}");
    assert!(
        event["resource"].as_str().unwrap().ends_with("/true")
            || event["resource"].as_str().unwrap().contains("coreutils"),
        "{event}"
    );
    assert_eq!(data["keys"], serde_json::json!(["auditmon-demo"]));
    println!(
        "true a b: user {}, resource {}, argv {}",
        event["username"], event["resource"], data["argv"]
    );

    // The longest argument that the kernel takes: 128 KiB with its NUL.
    let long = format!("L{}{}", std::process::id(), "y".repeat(131_071));
    let long = &long[..131_071];
    assert!(Command::new("true").arg(long).status().unwrap().success());
    let event = executed(&agent, &long[..12]);
    let data = &event["event_data"];
    let truncated = &data["argv_truncated"];
    let mut all = b"true\0".to_vec();
    all.extend_from_slice(long.as_bytes());
    all.push(0);
    assert_eq!(truncated["count"], 2, "{truncated}");
    assert_eq!(truncated["bytes"], all.len(), "{truncated}");
    assert_eq!(truncated["sha256"], hex::encode(Sha256::digest(&all)), "{truncated}");
    let kept: usize = data["argv"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap().len())
        .sum();
    assert!((60_000..=65_536).contains(&kept), "{kept} bytes of arguments are kept");
    println!("an argument of 131,071 bytes: {kept} bytes kept, {truncated}");

    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    live.assert_as_found();
}
