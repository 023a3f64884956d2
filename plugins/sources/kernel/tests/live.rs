//! The I/O layer against the kernel of this machine. As root, one at a time,
//! under the lock that all audit tests of this machine share; skipped loudly
//! else.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use auditmon_source_kernel::control::Loaded;
use auditmon_source_kernel::error::{ControlError, RegisterError};
use auditmon_source_kernel::heartbeat::Heartbeat;
use auditmon_source_kernel::holder::Holder;
use auditmon_source_kernel::ledger::Ledger;
use auditmon_source_kernel::load::{self, Plan};
use auditmon_source_kernel::reader::{Reader, coarse_now};
use auditmon_source_kernel::ring::{self, Consumer, DEFAULT_CAPACITY, Taken};
use auditmon_source_kernel::serials::serial_of;
use auditmon_source_kernel::status::SettingKind;
use support::{Here, Live, fixture, privileged, rule};

const BUFFER: usize = 16 << 20;

/// Records until `enough` or the time is over.
fn collect(consumer: &mut Consumer, time: Duration, mut enough: impl FnMut(u16, &[u8]) -> bool) -> Vec<(u16, Vec<u8>)> {
    let deadline = Instant::now() + time;
    let mut records = Vec::new();
    while Instant::now() < deadline {
        match consumer.take(Duration::from_millis(50)) {
            Taken::Chunk(chunk) => {
                let mut stop = false;
                for entry in chunk.entries() {
                    records.push((entry.kind, entry.payload.to_vec()));
                    stop |= enough(entry.kind, entry.payload);
                }
                consumer.recycle(chunk);
                if stop {
                    break;
                }
            }
            Taken::Nothing => {}
            Taken::Closed => break,
        }
    }
    records
}

#[test]
fn status_registration_and_its_refusal() {
    let Some(mut live) = Live::borrow("status_registration_and_its_refusal") else {
        return;
    };
    let status = live.control.status().unwrap();
    assert!(status.backlog_wait_time.is_some());
    println!("{status:?}");

    let (producer, consumer) = ring::ring(DEFAULT_CAPACITY);
    let mut reader = Reader::start(BUFFER, producer, &privileged()).unwrap();
    println!("{:?}", reader.receive_buffer());
    assert!(reader.receive_buffer().forced);
    assert!(reader.receive_buffer().bytes >= BUFFER);
    reader.register(|| panic!("free")).unwrap();
    assert_eq!(live.control.status().unwrap().pid, std::process::id());

    // A second registration is refused and names us.
    let (producer, _second_consumer) = ring::ring(DEFAULT_CAPACITY);
    let mut second = Reader::start(BUFFER, producer, &privileged()).unwrap();
    let refused = second.register(|| Ok(live.control.status()?.pid));
    let Err(RegisterError::Held(Holder::Process(process))) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(process.pid, std::process::id());
    println!("{}", refused.unwrap_err());
    drop(second);

    live.control.unregister().unwrap();
    assert_eq!(live.control.status().unwrap().pid, 0);
    // Somebody else's, or nobody's: nothing to give back, no error.
    let start = Instant::now();
    reader.stop();
    assert!(start.elapsed() < Duration::from_secs(1));
    let mut consumer = consumer;
    collect(&mut consumer, Duration::from_secs(1), |_, _| false);
    assert!(matches!(consumer.take(Duration::ZERO), Taken::Closed));
    assert!(live.is_as_found());
}

/// Not a test: registers, says so, and waits to be killed. Started by
/// `another_process_holds_the_registration`, which holds the lock.
#[test]
#[ignore = "helper process of another test"]
fn helper_that_registers() {
    if std::env::var_os("AUDITMON_TEST_HELPER").is_none() {
        return;
    }
    let (producer, _consumer) = ring::ring(DEFAULT_CAPACITY);
    let mut reader = Reader::start(BUFFER, producer, &privileged()).unwrap();
    reader.register(|| panic!("free")).unwrap();
    println!("\nREGISTERED");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn another_process_holds_the_registration() {
    let Some(mut live) = Live::borrow("another_process_holds_the_registration") else {
        return;
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_registers", "--ignored", "--nocapture"])
        .env("AUDITMON_TEST_HELPER", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        if line.unwrap() == "REGISTERED" {
            break;
        }
    }
    let (producer, _consumer) = ring::ring(DEFAULT_CAPACITY);
    let mut reader = Reader::start(BUFFER, producer, &privileged()).unwrap();
    let refused = reader.register(|| Ok(live.control.status()?.pid));
    let message = refused.unwrap_err().to_string();
    println!("{message}");
    assert!(message.contains(&format!("pid {}", child.id())), "{message}");
    assert!(matches!(
        live.control.unregister(),
        Err(ControlError::NotPermitted { .. })
    ));

    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel still names the dead one, and lets a new one in.
    println!("after kill -9: pid {}", live.control.status().unwrap().pid);
    reader.register(|| Ok(live.control.status()?.pid)).unwrap();
    assert_eq!(live.control.status().unwrap().pid, std::process::id());
    live.control.unregister().unwrap();
    assert!(live.is_as_found());
}

#[test]
fn heartbeats_come_back() {
    let Some(mut live) = Live::borrow("heartbeats_come_back") else {
        return;
    };
    let (producer, mut consumer) = ring::ring(DEFAULT_CAPACITY);
    let mut reader = Reader::start(BUFFER, producer, &privileged()).unwrap();
    reader.register(|| panic!("free")).unwrap();
    live.enable();
    let mut heartbeat = Heartbeat::new();
    let mark = heartbeat.mark();
    for expected in 1..=20 {
        let text = heartbeat.beat(coarse_now());
        live.control.message(Heartbeat::KIND, text.as_bytes()).unwrap();
        let records = collect(&mut consumer, Duration::from_secs(2), |kind, payload| {
            mark.recognise(kind, payload) == Some(expected)
        });
        let (kind, payload) = records.last().unwrap();
        assert_eq!(mark.recognise(*kind, payload), Some(expected));
        let delay = heartbeat.returned(expected, coarse_now()).unwrap();
        assert!(delay < 1_000_000_000);
        if expected == 1 {
            println!("{}", String::from_utf8_lossy(payload));
        }
    }
    live.control.unregister().unwrap();
}

#[test]
fn every_supported_rule_is_listed_as_it_was_sent() {
    let Some(mut live) = Live::borrow("every_supported_rule_is_listed_as_it_was_sent") else {
        return;
    };
    let text = fixture("rule-encodings.tsv");
    let mut checked = 0;
    for row in text.lines().filter(|row| !row.starts_with('#')) {
        let line = row.split('\t').next().unwrap();
        let Ok(parsed) = audit_rule::parse_line(line.as_bytes(), &Here) else {
            continue;
        };
        let Some((1, audit_rule::Statement::Add(rule))) = parsed.statements.first() else {
            continue;
        };
        match live.control.add_rule(rule) {
            Ok(()) => {}
            Err(ControlError::Missing { .. }) if row.contains("/no/such/") => continue,
            Err(error) => {
                println!("{line}: {error}");
                // Labels need a security module, which this machine may not have.
                assert!(line.contains("subj_") || line.contains("obj_"), "{line}: {error}");
                continue;
            }
        }
        assert!(
            live.loaded().contains(&rule.normalised()),
            "{line}: {:?}",
            live.loaded()
        );
        let again = live.control.add_rule(rule);
        if rule.prepend {
            // The kernel compares the flag too, which loaded rules lose: a
            // prepended rule can be loaded twice. Plans look before they add.
            assert_eq!(again, Ok(()), "{line}");
            live.control.delete_rule(&rule.normalised()).unwrap();
        } else {
            assert!(matches!(again, Err(ControlError::Exists { .. })), "{line}: {again:?}");
        }
        live.control.delete_rule(&rule.normalised()).unwrap();
        assert!(matches!(
            live.control.delete_rule(rule),
            Err(ControlError::Missing { .. })
        ));
        checked += 1;
    }
    println!("{checked} rules added, listed, deleted");
    assert!(checked > 70);
    assert!(live.is_as_found());
}

#[test]
fn what_we_changed_is_put_back_and_nothing_else() {
    let Some(mut live) = Live::borrow("what_we_changed_is_put_back_and_nothing_else") else {
        return;
    };
    let theirs = "-a always,exit -F arch=b64 -S swapon -k theirs";
    let ours = "-a always,exit -F arch=b64 -S swapoff -k ours\n-w /etc/hostname -p wa -k ours";
    live.control.add_rule(&rule(theirs)).unwrap();
    let before = live.control.status().unwrap();
    let rules_before = live.loaded();

    let text = format!("-D\n-b {}\n{theirs}\n{ours}\n", before.backlog_limit + 100);
    let mut wanted = load::parse_all([("test", text.into_bytes())], &Here).unwrap();
    wanted.set_default(SettingKind::Enabled, 1);
    let mut ledger = Ledger::new("boot");
    let plan = Plan::make(
        &wanted,
        &live.control.rules().unwrap(),
        &live.control.status().unwrap(),
        &mut ledger,
    );
    assert_eq!(plan.present, 1);
    let saved = ledger.to_bytes();
    let report = plan.carry_out(&mut live.control, &mut ledger);
    assert_eq!((report.added, report.failed.len()), (2, 0));
    assert_eq!(live.loaded().len(), rules_before.len() + 2);
    assert_eq!(live.control.status().unwrap().enabled, 1);

    // kill -9: all that the next start has is what was saved before.
    let mut ledger = Ledger::of_boot(Some(&saved), "boot");
    assert_eq!(ledger.rules().len(), 2);
    let plan = Plan::make(
        &wanted,
        &live.control.rules().unwrap(),
        &live.control.status().unwrap(),
        &mut ledger,
    );
    assert!(plan.is_empty(), "{plan:?}");
    let restored = load::restore(&mut live.control, &mut ledger).unwrap();
    assert_eq!((restored.rules, restored.failed.len()), (2, 0));
    assert!(ledger.is_empty());
    assert_eq!(live.loaded(), rules_before);
    let after = live.control.status().unwrap();
    assert_eq!(
        (after.enabled, after.backlog_limit),
        (before.enabled, before.backlog_limit)
    );
    live.control.delete_rule(&rule(theirs)).unwrap();
    assert!(live.is_as_found());
}

#[test]
fn a_full_ring_drops_exactly_what_it_names() {
    let Some(mut live) = Live::borrow("a_full_ring_drops_exactly_what_it_names") else {
        return;
    };
    let (producer, mut consumer) = ring::ring(1);
    let mut reader = Reader::start(BUFFER, producer, &privileged()).unwrap();
    reader.register(|| panic!("free")).unwrap();
    live.enable();
    let text = "x".repeat(100);
    for _ in 0..3000 {
        live.control.message(2500, text.as_bytes()).unwrap();
    }
    // Everything has passed the reader when the socket has been quiet.
    let stats = reader.stats();
    let mut last = 0;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = stats.records.load(Ordering::Relaxed);
        if now == last {
            break;
        }
        last = now;
    }
    live.control.unregister().unwrap();
    live.control.set(SettingKind::Enabled, 0).unwrap();
    reader.stop();
    let dropped = consumer.take_dropped();
    let kept: BTreeSet<u32> = collect(&mut consumer, Duration::from_secs(5), |_, _| false)
        .iter()
        .filter_map(|(_, payload)| serial_of(payload))
        .collect();
    println!(
        "{} kept, {} records dropped, {:?}",
        kept.len(),
        dropped.records,
        dropped.serials
    );
    assert!(dropped.records > 1000);
    assert_eq!(stats.dropped.load(Ordering::Relaxed), dropped.records);
    let first = *kept.first().unwrap();
    let ranges = dropped.serials.ranges();
    let end = ranges.last().unwrap().1.max(*kept.last().unwrap());
    for serial in first..=end {
        assert!(
            kept.contains(&serial) || dropped.serials.overlaps(serial, serial),
            "{serial}"
        );
    }
    assert_eq!(stats.overruns.load(Ordering::Relaxed), 0);
}

#[test]
fn programs_that_start_are_seen() {
    let Some(mut live) = Live::borrow("programs_that_start_are_seen") else {
        return;
    };
    let (producer, mut consumer) = ring::ring(DEFAULT_CAPACITY);
    let mut reader = Reader::start(BUFFER, producer, &privileged()).unwrap();
    reader.register(|| panic!("free")).unwrap();
    live.control
        .add_rule(&rule("-a always,exit -F arch=b64 -S execve,execveat -k live-test"))
        .unwrap();
    live.enable();
    let argument = format!("auditmon-{}", std::process::id());
    Command::new("/bin/true").arg(&argument).status().unwrap();
    let mut seen = None;
    let records = collect(&mut consumer, Duration::from_secs(3), |kind, payload| {
        let text = String::from_utf8_lossy(payload);
        if kind == 1309 && text.contains(&argument) {
            seen = serial_of(payload);
        }
        kind == 1320 && seen.is_some() && serial_of(payload) == seen
    });
    assert!(seen.is_some());
    let kinds: BTreeSet<u16> = records
        .iter()
        .filter(|(_, payload)| serial_of(payload) == seen)
        .map(|(kind, _)| *kind)
        .collect();
    println!("{kinds:?}");
    assert!(kinds.is_superset(&BTreeSet::from([1300, 1302, 1307, 1309, 1320, 1327])));
    let syscall = records
        .iter()
        .find(|(kind, payload)| *kind == 1300 && serial_of(payload) == seen);
    let text = String::from_utf8_lossy(&syscall.unwrap().1).into_owned();
    assert!(text.ends_with("key=\"live-test\""), "nothing is cut: {text}");
    live.control.unregister().unwrap();
    assert!(
        live.loaded()
            .iter()
            .any(|rule| rule.keys().any(|key| key == b"live-test"))
    );
    assert!(
        !live
            .control
            .rules()
            .unwrap()
            .iter()
            .any(|rule| matches!(rule, Loaded::Unknown(_)))
    );
}

/// Not a test: asks for the status without privilege. Started by
/// `without_privilege_it_says_what_is_missing` as nobody.
#[test]
#[ignore = "helper process of another test"]
fn helper_without_privilege() {
    if std::env::var_os("AUDITMON_TEST_HELPER").is_none() {
        return;
    }
    let mut control = auditmon_source_kernel::control::Control::of_caller().unwrap();
    println!("\nSTATUS {:?}", control.status());
    println!("\nMESSAGE {:?}", control.message(2500, b"x"));
}

#[test]
fn without_privilege_it_says_what_is_missing() {
    use std::os::unix::process::CommandExt;
    let Some(_live) = Live::borrow("without_privilege_it_says_what_is_missing") else {
        return;
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_without_privilege", "--ignored", "--nocapture"])
        .env("AUDITMON_TEST_HELPER", "1")
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("STATUS Err(NotPermitted"), "{text}");
    assert!(text.contains("MESSAGE Err(NotPermitted"), "{text}");
}
