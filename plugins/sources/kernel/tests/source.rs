//! The whole source against the kernel of this machine and a real journal.
//! As root, one at a time, under the shared lock; skipped loudly else.

#![allow(clippy::unwrap_used)]

#[path = "support/journal.rs"]
mod journal;
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use auditmon_core::health::State;
use auditmon_core::plugin::PluginError;
use auditmon_source_kernel::KernelConfig;
use auditmon_source_kernel::memory;
use auditmon_source_kernel::reader::Reader;
use auditmon_source_kernel::ring;
use journal::Watcher;
use journal::{Agent, count};
use serde_json::Value;
use support::{Live, privileged};
use tokio_util::sync::CancellationToken;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Waits until an event fits, and gives all events so far.
fn wait_for(agent: &mut Watcher, what: &str, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut all = Vec::new();
    loop {
        all.extend(agent.events());
        if all.iter().any(&fits) {
            return all;
        }
        assert!(Instant::now() < deadline, "{what} did not come: {:?}", count(&all));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Serials in the raw lines of kernel events.
fn serials(events: &[Value]) -> BTreeSet<u32> {
    let kernel = events.iter().filter(|event| event["kind"] == "kernel");
    kernel
        .map(|event| {
            let line = event["event_data"]["records"][0].as_str().unwrap();
            let (head, _) = line.split_once("): ").unwrap();
            head.rsplit_once(':').unwrap().1.parse().unwrap()
        })
        .collect()
}

fn gaps(events: &[Value]) -> Vec<&Value> {
    let gaps = events.iter().filter(|event| event["event_name"] == "kernel.gap");
    gaps.map(|event| &event["event_data"]).collect()
}

#[test]
fn without_configuration_programs_are_seen_and_the_kernel_is_left_as_found() {
    let Some(mut live) = Live::borrow("without_configuration") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::open(dir.path());
    let stop = CancellationToken::new();
    let runtime = runtime();
    let argument = format!("auditmon-{}", std::process::id());
    std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        // A failed assertion must not leave the source running.
        let _stop = stop.clone().drop_guard();
        let run = scope.spawn(|| runtime.block_on(agent_ref.run(KernelConfig::default(), token)));
        let deadline = Instant::now() + Duration::from_secs(10);
        while agent.board.all().get("kernel").map(|health| health.state) != Some(State::Ok) {
            assert!(Instant::now() < deadline, "{:?}", agent.board.all());
            assert!(!run.is_finished());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(
            live.loaded()
                .iter()
                .filter(|rule| rule.keys().any(|key| key == b"auditmon-demo"))
                .count()
                == 2
        );
        Command::new("/bin/true")
            .args([&argument, "two words"])
            .status()
            .unwrap();
        let _ = Command::new("/bin/false").status();
        std::thread::sleep(Duration::from_millis(2500));
        stop.cancel();
        let start = Instant::now();
        run.join().unwrap().unwrap();
        println!("stopped in {:?}", start.elapsed());
    });
    assert!(live.is_as_found());
    let events = agent.watcher().events();
    println!("{:?}", count(&events));
    let exec = events
        .iter()
        .find(|event| event["event_data"]["argv"][1] == argument.as_str());
    let exec = exec.expect("the program was seen");
    println!("{exec:#}");
    assert_eq!(exec["event_name"], "execve");
    assert_eq!(exec["username"], "root");
    assert_eq!(exec["kind"], "kernel");
    assert_eq!(exec["outcome"], "success");
    assert_eq!(exec["event_source"], "kernel");
    assert!(exec["resource"].as_str().unwrap().ends_with("/true"));
    assert_eq!(exec["event_data"]["keys"][0], "auditmon-demo");
    assert_eq!(exec["event_data"]["argv"][2], "two words");
    let start = events
        .iter()
        .find(|event| event["event_name"] == "kernel.start")
        .unwrap();
    println!("{:#}", start["event_data"]);
    assert_eq!(start["kind"], "agent");
    assert_eq!(start["event_data"]["rules"]["added"], 2);
    let stop = events
        .iter()
        .find(|event| event["event_name"] == "kernel.stop")
        .unwrap();
    println!("{:#}", stop["event_data"]);
    assert_eq!(stop["event_data"]["rules_removed"], 2);
    assert_eq!(stop["event_data"]["missing"], 0);
    assert_eq!(stop["event_data"]["discarded"], 0);
    assert!(gaps(&events).is_empty());
    assert!(agent.metric("auditmon_kernel_heartbeat_delay_seconds") > 0.0);
    assert_eq!(agent.metric("auditmon_kernel_sequence_gaps_total"), 0.0);
    agent.close();

    // Started again: what passed meanwhile is one gap, and it is exact.
    let before = serials(&events);
    let agent = Agent::open(dir.path());
    let mut watcher = agent.watcher();
    watcher.events();
    let mark = memory::Mark::from_bytes(&agent.memory[memory::BOOT].0).unwrap();
    assert!(before.iter().all(|serial| *serial <= mark.serial));
    assert!(mark.beyond.is_empty());
    assert!(
        !agent.memory.keys().any(|key| key.starts_with(b"ledger")),
        "nothing is ours"
    );
    live.enable();
    for _ in 0..17 {
        live.control.message(2500, b"nobody listens").unwrap();
    }
    let stop = CancellationToken::new();
    let again = std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        // A failed assertion must not leave the source running.
        let _stop = stop.clone().drop_guard();
        let run = scope.spawn(|| runtime.block_on(agent_ref.run(KernelConfig::default(), token)));
        std::thread::sleep(Duration::from_secs(1));
        stop.cancel();
        run.join().unwrap().unwrap();
        watcher.events()
    });
    let gaps = gaps(&again);
    println!("{gaps:?}");
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["reason"], "restart");
    let ranges: Vec<(u32, u32)> = serde_json::from_value(gaps[0]["ranges"].clone()).unwrap();
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0].0, mark.serial + 1);
    assert!(gaps[0]["missing"].as_u64().unwrap() >= 17);
    assert!(serials(&again).iter().all(|serial| *serial > ranges[0].1));
    agent.close();
}

/// Not a test: runs the source until it is killed.
#[test]
#[ignore = "helper process of another test"]
fn helper_that_runs() {
    let Some(dir) = std::env::var_os("AUDITMON_TEST_DIR") else {
        return;
    };
    let agent = Agent::open(Path::new(&dir));
    let config = serde_json::from_str(&std::env::var("AUDITMON_TEST_CONFIG").unwrap()).unwrap();
    println!("\nRUNNING");
    let result = runtime().block_on(agent.run(config, CancellationToken::new()));
    println!("{result:?}");
}

#[test]
fn kill_9_leaves_nothing_unreported_and_no_rules() {
    let Some(mut live) = Live::borrow("kill_9") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = serde_json::json!({
        "rules": {"list": [
            "-a always,exit -F arch=b64 -S execve -k kill-test",
            "-w /etc/hostname -p wa -k kill-test",
        ]}
    });
    let mut beats = 0;
    for round in 0..3 {
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper_that_runs", "--ignored", "--nocapture"])
            .env("AUDITMON_TEST_DIR", dir.path())
            .env("AUDITMON_TEST_CONFIG", config.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "RUNNING"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while live.control.status().unwrap().pid != child.id() {
            assert!(Instant::now() < deadline, "{:?}", lines.next());
            std::thread::sleep(Duration::from_millis(10));
        }
        // Killed in the middle of a storm, later each time.
        let until = Instant::now() + Duration::from_millis(400 + 1700 * round);
        while Instant::now() < until {
            let _ = Command::new("/bin/true").status();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        beats += started.elapsed().as_secs() / 2 + 2;
        for _ in 0..20 {
            let _ = Command::new("/bin/true").status();
        }
        let ours = live.loaded().into_iter();
        let ours = ours.filter(|rule| rule.keys().any(|key| key == b"kill-test"));
        assert_eq!(ours.count(), 2, "leftovers of the killed run");
    }
    let agent = Agent::open(dir.path());
    let stop = CancellationToken::new();
    let runtime = runtime();
    std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        // A failed assertion must not leave the source running.
        let _stop = stop.clone().drop_guard();
        let config = serde_json::from_value(config).unwrap();
        let run = scope.spawn(move || runtime.block_on(agent_ref.run(config, token)));
        std::thread::sleep(Duration::from_secs(1));
        stop.cancel();
        run.join().unwrap().unwrap();
    });
    assert!(live.is_as_found(), "the leftovers were known for ours and removed");
    agent.close();
    // Everything from the first run on.
    let agent = Agent::open(dir.path());
    let all = agent.watcher().events();
    println!("{:?}", count(&all));
    let stored = serials(&all);
    let mut missing = BTreeSet::new();
    for gap in gaps(&all) {
        println!("{gap}");
        assert_eq!(gap["reason"], "restart");
        let ranges: Vec<(u32, u32)> = serde_json::from_value(gap["ranges"].clone()).unwrap();
        let mut count = 0;
        for (first, last) in ranges {
            for serial in first..=last {
                assert!(missing.insert(serial), "{serial} reported twice");
                assert!(!stored.contains(&serial), "{serial} is stored and reported");
                count += 1;
            }
        }
        assert_eq!(gap["missing"], count);
    }
    assert!(missing.len() >= 60);
    let (first, last) = (*stored.first().unwrap(), *stored.last().unwrap());
    let unexplained: Vec<u32> = (first..=last)
        .filter(|serial| !stored.contains(serial) && !missing.contains(serial))
        .collect();
    // Heartbeats are neither.
    println!(
        "{} stored, {} reported, {} heartbeats",
        stored.len(),
        missing.len(),
        unexplained.len()
    );
    assert!(unexplained.len() as u64 <= beats + 2, "{unexplained:?}");
    agent.close();
}

#[test]
fn another_holder_is_named_and_the_kernel_left_alone() {
    let Some(mut live) = Live::borrow("another_holder") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_holds", "--ignored", "--nocapture"])
        .env("AUDITMON_TEST_HELPER", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "REGISTERED"));
    let agent = Agent::open(dir.path());
    let result = runtime().block_on(agent.run(KernelConfig::default(), CancellationToken::new()));
    child.kill().unwrap();
    child.wait().unwrap();
    let Err(PluginError::Permanent(message)) = result else {
        panic!("{result:?}");
    };
    println!("{message}");
    assert!(message.contains(&format!("pid {}", child.id())));
    assert!(live.is_as_found());
    agent.close();
}

/// Not a test: registers and waits to be killed.
#[test]
#[ignore = "helper process of another test"]
fn helper_that_holds() {
    if std::env::var_os("AUDITMON_TEST_HELPER").is_none() {
        return;
    }
    let (producer, _consumer) = ring::ring(1 << 20);
    let mut reader = Reader::start(1 << 20, producer, &privileged()).unwrap();
    reader.register(|| panic!("free")).unwrap();
    println!("\nREGISTERED");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn events_are_shipped_while_it_runs() {
    let Some(mut live) = Live::borrow("events_are_shipped") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::open(dir.path());
    let mut watcher = agent.watcher();
    let stop = CancellationToken::new();
    let runtime = runtime();
    std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        // A failed assertion must not leave the source running.
        let _stop = stop.clone().drop_guard();
        let run = scope.spawn(move || runtime.block_on(agent_ref.run(KernelConfig::default(), token)));
        wait_for(&mut watcher, "kernel.start", |event| {
            event["event_name"] == "kernel.start"
        });
        let sent = Instant::now();
        live.control
            .message(1112, b"op=login acct=\"alice\" res=success")
            .unwrap();
        wait_for(&mut watcher, "user_login", |event| event["event_name"] == "user_login");
        println!("in the journal after {:?}", sent.elapsed());
        assert!(sent.elapsed() < Duration::from_secs(1));
        stop.cancel();
        run.join().unwrap().unwrap();
    });
    assert!(live.is_as_found());
    agent.close();
}

#[test]
fn what_a_full_journal_costs_is_counted_exactly() {
    let Some(mut live) = Live::borrow("full_journal") else {
        return;
    };
    const SENT: usize = 40_000;
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::open_with(dir.path(), |options| {
        options.segment_size = 2 << 20;
        options.reserve = 0;
        options.max_size = 8 << 20;
    });
    // A sink that is behind: nothing may be removed.
    agent.handle.set_hold("sink", Some(1));
    let mut watcher = agent.watcher();
    let stop = CancellationToken::new();
    let runtime = runtime();
    let config = serde_json::json!({
        "buffer": "1MiB", "receive_buffer": "64MiB", "rules": {"list": []}
    });
    let started = Instant::now();
    let mut events = Vec::new();
    std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        // A failed assertion must not leave the source running.
        let _stop = stop.clone().drop_guard();
        let config = serde_json::from_value(config).unwrap();
        let run = scope.spawn(move || runtime.block_on(agent_ref.run(config, token)));
        events.extend(wait_for(&mut watcher, "kernel.start", |event| {
            event["event_name"] == "kernel.start"
        }));
        let text = "y".repeat(300);
        for _ in 0..SENT {
            live.control.message(2500, text.as_bytes()).unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
        println!("sent after {:?}", started.elapsed());
        // The sink catches up, until nothing more comes.
        let mut quiet = Instant::now();
        while quiet.elapsed() < Duration::from_secs(8) {
            let more = watcher.events();
            // Heartbeats are not shipped: no events means no events.
            if !more.is_empty() {
                quiet = Instant::now();
            }
            events.extend(more);
            agent.handle.set_hold("sink", Some(watcher.seq));
            assert!(started.elapsed() < Duration::from_secs(90), "{:?}", count(&events));
            std::thread::sleep(Duration::from_millis(10));
        }
        println!("{:?}", agent.handle.status());
        println!("caught up after {:?}", started.elapsed());
        stop.cancel();
        while !run.is_finished() {
            events.extend(watcher.events());
            agent.handle.set_hold("sink", Some(watcher.seq));
            std::thread::sleep(Duration::from_millis(10));
        }
        run.join().unwrap().unwrap();
    });
    events.extend(watcher.events());
    println!("{:?}", count(&events));
    let mut missing = BTreeSet::new();
    for gap in gaps(&events) {
        println!("{gap}");
        assert_eq!(gap["reason"], "own_drop");
        let ranges: Vec<(u32, u32)> = serde_json::from_value(gap["ranges"].clone()).unwrap();
        let before = missing.len();
        missing.extend(ranges.iter().flat_map(|(first, last)| *first..=*last));
        assert_eq!(gap["missing"], missing.len() - before);
    }
    let stored = serials(&events);
    assert!(stored.is_disjoint(&missing));
    // Some heartbeats were dropped like everything else.
    let beats = started.elapsed().as_secs() / 2 + 2;
    let all = stored.len() + missing.len();
    println!("{} events, {} missing", stored.len(), missing.len());
    assert!(missing.len() > 1000);
    assert!((SENT..=SENT + beats as usize + 10).contains(&all), "{all}");
    assert_eq!(
        agent.metric("auditmon_kernel_sequence_gaps_total") as usize,
        missing.len()
    );
    assert!(agent.metric("auditmon_kernel_dropped_total") as usize >= missing.len());
    assert_eq!(agent.metric("auditmon_kernel_discarded_total"), 0.0);
    assert!(live.is_as_found());
    agent.close();
}

#[test]
fn what_a_full_journal_refuses_to_the_end_is_reported_by_the_next_start() {
    let Some(mut live) = Live::borrow("full_to_the_end") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let open = |hold: bool| {
        let agent = Agent::open_with(dir.path(), |options| {
            options.segment_size = 1 << 20;
            options.reserve = 0;
            options.max_size = if hold { 4 << 20 } else { 64 << 20 };
        });
        agent.handle.set_hold("sink", Some(1));
        agent
    };
    let agent = open(true);
    let stop = CancellationToken::new();
    let runtime = runtime();
    let config = serde_json::json!({"buffer": "1MiB", "rules": {"list": []}});
    std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        let _stop = stop.clone().drop_guard();
        let config = serde_json::from_value(config.clone()).unwrap();
        let run = scope.spawn(|| runtime.block_on(agent_ref.run(config, token)));
        wait_for(&mut agent.watcher(), "kernel.start", |event| {
            event["event_name"] == "kernel.start"
        });
        for _ in 0..15_000 {
            live.control
                .message(2500, b"some text of usual length, more or less, as programs send it")
                .unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
        stop.cancel();
        let start = Instant::now();
        run.join().unwrap().unwrap();
        println!("gave up after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10));
    });
    assert!(live.is_as_found());
    assert!(agent.metric("auditmon_kernel_discarded_total") > 0.0);
    agent.close();

    let agent = open(false);
    let stop = CancellationToken::new();
    live.enable();
    std::thread::scope(|scope| {
        let (agent_ref, token) = (&agent, stop.clone());
        let _stop = stop.clone().drop_guard();
        let config = serde_json::from_value(config).unwrap();
        let run = scope.spawn(|| runtime.block_on(agent_ref.run(config, token)));
        std::thread::sleep(Duration::from_secs(1));
        stop.cancel();
        run.join().unwrap().unwrap();
    });
    let events = agent.watcher().events();
    println!("{:?}", count(&events));
    let stored = serials(&events);
    let mut missing = BTreeSet::new();
    for gap in gaps(&events) {
        let ranges: Vec<(u32, u32)> = serde_json::from_value(gap["ranges"].clone()).unwrap();
        missing.extend(ranges.iter().flat_map(|(first, last)| *first..=*last));
    }
    assert!(stored.is_disjoint(&missing));
    let all = stored.len() + missing.len();
    println!("{} stored, {} missing", stored.len(), missing.len());
    // Besides ours: heartbeats, and what our own changes of settings log.
    assert!((15_000..15_030).contains(&all), "{all}");
    agent.close();
}
