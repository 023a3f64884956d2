//! Every line of `rule-encodings.tsv`: we send what auditctl 4.2.2 sent, byte
//! for byte, or refuse where it refused; the few that we treat otherwise are
//! listed with a reason in `unsupported.tsv`.

#![allow(clippy::unwrap_used)]

mod support;

use audit_rule::{Statement, parse_line};
use support::{Recorded, fixture, unhex};

/// The bytes that the recording describes.
fn recorded(text: &str) -> Vec<u8> {
    let part = |name: &str| {
        let start = text.find(name).unwrap() + name.len();
        let rest = &text[start..];
        match rest.strip_prefix('[') {
            Some(list) => &list[..list.find(']').unwrap()],
            None => rest.split(' ').next().unwrap(),
        }
    };
    let mut out = vec![0u8; 1040];
    let mut put = |at: usize, value: u32| out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(0, part("flags=").parse().unwrap());
    put(4, part("action=").parse().unwrap());
    let mut mask = [0u32; 64];
    match part("mask=") {
        "all" => mask = [u32::MAX; 64],
        "none" => {}
        calls => {
            for call in calls.split(',') {
                let call: usize = call.parse().unwrap();
                mask[call / 32] |= 1 << (call % 32);
            }
        }
    }
    for (index, word) in mask.iter().enumerate() {
        put(12 + 4 * index, *word);
    }
    let fields: Vec<&str> = part("fields=").split_whitespace().collect();
    put(8, fields.len() as u32);
    for (index, field) in fields.iter().enumerate() {
        let mut parts = field.split(':');
        put(268 + 4 * index, parts.next().unwrap().parse().unwrap());
        put(780 + 4 * index, u32::from_str_radix(parts.next().unwrap(), 16).unwrap());
        put(524 + 4 * index, parts.next().unwrap().parse().unwrap());
    }
    put(1036, part("buflen=").parse().unwrap());
    out.extend(unhex(part("buf=")));
    out
}

/// Mask bit and place of the value in `audit_status`.
fn setting(statement: &Statement) -> Option<(u32, usize, u32)> {
    match statement {
        Statement::Enabled(value) => Some((0x01, 4, *value)),
        Statement::Failure(value) => Some((0x02, 8, *value)),
        Statement::RateLimit(value) => Some((0x08, 16, *value)),
        Statement::BacklogLimit(value) => Some((0x10, 20, *value)),
        Statement::BacklogWaitTime(value) => Some((0x20, 36, *value)),
        _ => None,
    }
}

#[test]
fn every_recorded_line_encodes_as_auditctl_does() {
    let unsupported = include_str!("unsupported.tsv");
    let exceptions: Vec<&str> = unsupported
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('\t').unwrap().0)
        .collect();
    let mut seen = 0;
    let (mut encoded, mut refused, mut excepted) = (0, 0, 0);
    let text = fixture("rule-encodings.tsv");
    for row in text.lines().filter(|row| !row.starts_with('#')) {
        seen += 1;
        let columns: Vec<&str> = row.split('\t').collect();
        let [line, _, message, kind, payload] = columns[..] else {
            panic!("{row}");
        };
        let parsed = parse_line(line.as_bytes(), &Recorded);
        if exceptions.contains(&line) {
            assert!(parsed.is_err(), "{line}: listed as unsupported, but parsed");
            excepted += 1;
            continue;
        }
        if kind == "-" || payload.contains("flags=4294967295") {
            // auditctl itself refused.
            assert!(parsed.is_err(), "{line}: auditctl said {message}, we took it");
            refused += 1;
            continue;
        }
        let parsed = parsed.unwrap_or_else(|faults| panic!("{line}: {faults:?}"));
        let [(1, statement)] = &parsed.statements[..] else {
            panic!("{line}: {:?}", parsed.statements);
        };
        match statement {
            Statement::Add(rule) => {
                assert_eq!(rule.encode().unwrap(), recorded(payload), "{line}");
                assert!(kind.contains("type=1011"), "{line}");
            }
            Statement::DeleteAll { key: None } => assert!(kind.contains("type=1013"), "{line}"),
            other => {
                let (bit, at, value) = setting(other).unwrap_or_else(|| panic!("{line}"));
                let mut status = vec![0u8; 44];
                status[..4].copy_from_slice(&bit.to_ne_bytes());
                status[at..at + 4].copy_from_slice(&value.to_ne_bytes());
                assert_eq!(status, unhex(payload), "{line}");
            }
        }
        encoded += 1;
    }
    println!("{seen} lines: {encoded} encoded, {refused} refused by both, {excepted} listed");
    assert_eq!(seen, 114, "the recording has 114 lines");
    assert_eq!(excepted, exceptions.len());
}

#[test]
fn listed_rules_decode_and_encode_back() {
    let text = fixture("netlink-datagrams.tsv");
    let mut seen = 0;
    for row in text.lines() {
        let columns: Vec<&str> = row.split('\t').collect();
        if columns[0] != "reply:AUDIT_LIST_RULES" || columns[3] != "1013" {
            continue;
        }
        let datagram = unhex(columns[5]);
        let rule = audit_rule::Rule::decode(&datagram[16..]).unwrap();
        let back = rule.encode().unwrap();
        // What follows the strings is netlink's padding.
        assert_eq!(back[..], datagram[16..16 + back.len()]);
        assert!(datagram.len() - 16 - back.len() < 4);
        println!("{rule}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}
