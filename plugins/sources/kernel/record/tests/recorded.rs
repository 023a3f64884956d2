//! What the recorded files must give.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use audit_record::fields::fields;
use audit_record::gap::Gaps;
use audit_record::{Outcome, RecordType, Stamp, Summary, header};
use common::{FILES, SECOND, join, json, load, strict};

#[test]
fn every_file_has_its_events() {
    let (mut events, mut records) = (0, 0);
    for (file, count) in FILES {
        let lines = load(file);
        let joined = join(&lines);
        assert_eq!(joined.len(), *count, "{file}");
        assert!(joined.iter().all(|event| !event.late && !event.unstamped), "{file}");
        let incomplete = joined.iter().filter(|event| event.incomplete).count();
        // The three records of gaps.log are looked at below.
        if *file != "gaps.log" {
            assert_eq!(incomplete, 0, "{file}");
        }
        let kept: usize = joined.iter().map(|event| event.len()).sum();
        if *file != "exec-long-20x20k.log" && *file != "exec-long-one-arg-128k.log" {
            assert_eq!(kept, lines.len(), "{file}");
        }
        events += joined.len();
        records += lines.len();
    }
    // 2,663 and 12,438 in text; embedded-newlines.hexlog has two more.
    assert_eq!((events, records), (2_665, 12_440));
}

#[test]
fn every_record_but_the_end_has_fields() {
    for (file, _) in FILES {
        for (kind, payload) in load(file) {
            let (_, body) = header::parse(&payload).unwrap();
            let named = fields(body).filter(|field| !field.name.is_empty()).count();
            assert_eq!(named == 0, kind == RecordType::EOE, "{file} {kind}");
        }
    }
}

#[test]
fn gaps_log_misses_124_serials_and_part_of_one_event() {
    let lines = load("gaps.log");
    let mut gaps = Gaps::new(None);
    for (_, payload) in &lines {
        gaps.observe(header::parse(payload).unwrap().0.serial, 0);
    }
    assert_eq!(gaps.expire(4 * SECOND), None);
    let report = gaps.expire(5 * SECOND).unwrap();
    assert_eq!((report.missing, report.ranges.len()), (124, 1));

    let events = join(&lines);
    let incomplete: Vec<_> = events.iter().filter(|event| event.incomplete).collect();
    assert_eq!(incomplete.len(), 1);
    let kinds: Vec<_> = incomplete[0].records().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordType::SYSCALL]);
    assert_eq!(incomplete[0].stamp.serial + 1, report.ranges[0].0);
}

#[test]
fn no_other_file_has_a_gap_inside() {
    // These were recorded alone and whole; the others were cut out of longer runs.
    for file in ["exec-storm.log", "interleave-light.log", "files.log"] {
        let mut gaps = Gaps::new(None);
        for (_, payload) in load(file) {
            gaps.observe(header::parse(&payload).unwrap().0.serial, 0);
        }
        assert_eq!(gaps.flush(), None, "{file}");
    }
}

#[test]
fn every_event_is_strict_json() {
    for (file, _) in FILES {
        for event in join(&load(file)) {
            let value = strict(&json(&event));
            let raw = value["records"].as_array().unwrap();
            assert_eq!(raw.len(), event.len(), "{file}");
            for (line, record) in raw.iter().zip(event.records()) {
                let text = format!("type={} msg={}", record.kind, String::from_utf8_lossy(record.payload));
                assert_eq!(line, &text, "{file}");
            }
        }
    }
}

#[test]
fn nothing_decoded_is_lost() {
    // Every value of every record can be found again in the members.
    fn texts(value: &serde_json::Value, all: &mut Vec<String>) {
        match value {
            serde_json::Value::Array(list) => list.iter().for_each(|v| texts(v, all)),
            serde_json::Value::Object(map) => map
                .iter()
                .filter(|(name, _)| *name != "records")
                .for_each(|(_, v)| texts(v, all)),
            serde_json::Value::String(text) => all.push(text.clone()),
            other => all.push(other.to_string()),
        }
    }
    for (file, _) in FILES {
        for event in join(&load(file)) {
            let value = strict(&json(&event));
            let mut all = Vec::new();
            texts(&value, &mut all);
            for record in event.records() {
                for field in fields(record.body) {
                    let plain = String::from_utf8_lossy(field.value.text).into_owned();
                    let skip = matches!(field.name, b"key" | b"saddr" | b"arch" | b"syscall" | b"argc" | b"msg")
                        || record.kind == RecordType::EXECVE
                        || plain == "(null)"
                        || plain == "-1";
                    if skip || all.contains(&plain) {
                        continue;
                    }
                    let bytes = audit_record::untrusted::decode_untrusted(&field.value);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let spaced = text.replace('\0', " ");
                    assert!(
                        all.contains(&text) || all.contains(&spaced),
                        "{file}: {}={plain}",
                        String::from_utf8_lossy(field.name)
                    );
                }
            }
        }
    }
}

fn find(file: &str, serial: u32) -> audit_record::Event {
    join(&load(file))
        .into_iter()
        .find(|event| event.stamp.serial == serial)
        .unwrap()
}

#[test]
fn summaries() {
    let event = find("exec-storm.log", 1_699_353);
    let summary = Summary::of(&event);
    assert_eq!(
        event.stamp,
        Stamp {
            sec: 1_795_208_547,
            msec: 716,
            serial: 1_699_353
        }
    );
    assert_eq!(summary.event_name(), "execve");
    assert_eq!(summary.outcome(), Outcome::Success);
    assert_eq!((summary.pid(), summary.ppid()), (Some(23_076), Some(23_073)));
    assert_eq!(
        (summary.auid(), summary.uid(), summary.ses()),
        (Some(1_000), Some(0), Some(85))
    );
    assert_eq!(summary.comm().unwrap(), &b"seq"[..]);
    assert_eq!(summary.resource().unwrap(), &b"/usr/bin/seq"[..]);
    assert_eq!(summary.keys().as_slice(), [&b"ex"[..]]);
    assert_eq!(summary.argv().unwrap().to_vec(), [b"seq".to_vec(), b"100".to_vec()]);
    assert_eq!(summary.cwd().unwrap(), &b"/home/alice"[..]);
    assert_eq!(summary.paths().count(), 2);
    assert_eq!(summary.tty(), Some(&b"(none)"[..]));

    let event = find("net.log", 1_666_308);
    let summary = Summary::of(&event);
    assert_eq!(
        (summary.event_name(), summary.outcome()),
        ("connect".into(), Outcome::Failure)
    );
    assert_eq!(summary.exit(), Some(-115));
    assert_eq!(summary.resource().unwrap(), &b"127.0.0.1:9"[..]);

    let event = find("user-crafted.log", 1_666_660);
    let summary = Summary::of(&event);
    assert_eq!(
        (summary.event_name(), summary.outcome()),
        ("user_login".into(), Outcome::Failure)
    );
    assert_eq!(summary.claimed(b"addr").unwrap().text, b"2001:db8::7");
    assert_eq!(summary.resource().unwrap(), &b"/usr/sbin/sshd"[..]);
    assert_eq!((summary.auid(), summary.uid()), (Some(u32::MAX), Some(0)));

    let event = find("config-change.log", 1_666_563);
    let summary = Summary::of(&event);
    let glued = event.record(0).unwrap();
    let list: Vec<_> = fields(glued.body).map(|field| field.name).collect();
    assert_eq!(list, [&b"auid"[..], b"ses", b"op", b"path", b"key", b"list", b"res"]);
    assert_eq!(summary.event_name(), "unlinkat");

    let event = find(
        "blocking-calls.log",
        load("blocking-calls.log").iter().find_map(exit_group).unwrap(),
    );
    let summary = Summary::of(&event);
    assert_eq!(
        (summary.event_name(), summary.outcome()),
        ("exit_group".into(), Outcome::Unknown)
    );
}

fn exit_group((_, payload): &common::Line) -> Option<u32> {
    let (stamp, body) = header::parse(payload).unwrap();
    body.starts_with(b"arch=c000003e syscall=231 ").then_some(stamp.serial)
}

#[test]
fn keys_with_byte_one() {
    let all: Vec<Vec<String>> = join(&load("watches.log"))
        .iter()
        .map(|event| {
            let keys = Summary::of(event).keys();
            keys.iter()
                .map(|key| String::from_utf8_lossy(key).into_owned())
                .collect()
        })
        .collect();
    assert!(all.contains(&vec!["one".to_owned(), "two words".to_owned(), "three".to_owned()]));
}

#[test]
fn failed_exec_names_what_was_tried() {
    let failed: Vec<String> = join(&load("exec.log"))
        .iter()
        .map(Summary::of)
        .filter(|s| s.event_name() == "execve" && s.outcome() == Outcome::Failure)
        .map(|s| String::from_utf8_lossy(&s.resource().unwrap()).into_owned())
        .collect();
    assert_eq!(
        failed,
        [
            "/opt/demo/bin/noexec-here",
            "/opt/demo/bin/noperm",
            "/opt/demo/bin/badformat",
            "/opt/demo/bin",
            // Tried as bin/true in /home/alice.
            "/home/alice/bin/true",
        ]
    );
}

#[test]
fn a_lost_path_makes_an_event_incomplete_and_recorded_ones_miss_none() {
    for file in ["exec.log", "files.log", "ipc.log", "net.log"] {
        for event in join(&load(file)) {
            assert!(!Summary::of(&event).paths_missing(), "{file}: {:?}", event.stamp);
        }
    }
    let mut lines = load("exec.log");
    let lost = lines.iter().position(|(kind, _)| *kind == RecordType::PATH).unwrap();
    lines.remove(lost);
    let events = join(&lines);
    let missing: Vec<_> = events
        .iter()
        .filter(|event| Summary::of(event).paths_missing())
        .collect();
    assert_eq!(missing.len(), 1);
    assert_eq!(strict(&json(missing[0]))["incomplete"], true);
}
