//! Recorded files, and JSON that is checked strictly.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use audit_record::{Event, Limits, Reassembler, RecordType};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

pub const SECOND: u64 = 1_000_000_000;

/// Files and their events, from `kernel-records/README.md`.
pub const FILES: &[(&str, usize)] = &[
    ("exec.log", 44),
    ("exec-long-one-arg-128k.log", 2),
    ("exec-long-20x20k.log", 2),
    ("exec-many-3000-args.log", 2),
    ("exec-long-mixed-60-args.log", 2),
    ("exec-long-7400.log", 2),
    ("exec-long-7499.log", 2),
    ("exec-long-7501.log", 2),
    ("exec-long-4000-spaces.log", 2),
    ("exec-long-utf8.log", 2),
    ("files.log", 157),
    ("watches.log", 22),
    ("net.log", 57),
    ("priv.log", 70),
    ("ipc.log", 24),
    ("uring.log", 10),
    ("uring-with-enter.log", 17),
    ("seccomp-abend.log", 11),
    ("bpf-fanotify-landlock.log", 17),
    ("landlock-with-rules.log", 10),
    ("anom-link-creat.log", 5),
    ("login.log", 3),
    ("config-change.log", 30),
    ("time.log", 8),
    ("listener-replace.log", 4),
    ("promisc.log", 3),
    ("netfilter.log", 13),
    ("user-crafted.log", 26),
    ("user-pam-shadow.log", 34),
    ("user-filtered.log", 1),
    ("tty.log", 6),
    ("all-syscalls.log", 285),
    ("blocking-calls.log", 15),
    ("interleave-light.log", 604),
    ("interleave-heavy.log", 599),
    ("exec-storm.log", 290),
    ("gaps.log", 279),
    ("boot-kernel.log", 1),
    ("embedded-newlines.hexlog", 2),
];

pub type Line = (RecordType, Vec<u8>);

/// Records of a recorded file, in order of arrival.
pub fn load(file: &str) -> Vec<Line> {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.push("../../../../tests/fixtures/kernel-records");
    path.push(file);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split(|b| *b == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| {
            if file.ends_with(".hexlog") {
                hex_line(line)
            } else {
                text_line(line)
            }
        })
        .collect()
}

fn text_line(line: &[u8]) -> Line {
    let rest = line.strip_prefix(b"type=").unwrap();
    let space = rest.iter().position(|b| *b == b' ').unwrap();
    let payload = rest[space..].strip_prefix(b" msg=").unwrap();
    (number(&rest[..space]), payload.to_vec())
}

fn hex_line(line: &[u8]) -> Line {
    let tab = line.iter().position(|b| *b == b'\t').unwrap();
    (number(&line[..tab]), hex::decode(&line[tab + 1..]).unwrap())
}

fn number(text: &[u8]) -> RecordType {
    RecordType(std::str::from_utf8(text).unwrap().parse().unwrap())
}

/// Reassembles records that arrive a microsecond apart.
pub fn join(records: &[Line]) -> Vec<Event> {
    let mut reassembler = Reassembler::new(Limits::default());
    let mut events = Vec::new();
    for (at, (kind, payload)) in records.iter().enumerate() {
        assert!(reassembler.push(*kind, payload, at as u64 * 1_000).is_some());
        events.extend(std::iter::from_fn(|| reassembler.pop()));
    }
    reassembler.expire(100 * SECOND);
    events.extend(std::iter::from_fn(|| reassembler.pop()));
    assert_eq!((reassembler.open(), reassembler.bytes()), (0, 0));
    events
}

/// The `event_data` of an event.
pub fn json(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    let summary = audit_record::Summary::of(event);
    audit_record::json::Encoder::new().event_data(&summary, &People, &[], &mut out);
    out
}

/// Knows root and alice.
pub struct People;

impl audit_record::json::Names for People {
    fn user(&self, id: u32) -> Option<&str> {
        match id {
            0 => Some("root"),
            1000 => Some("alice"),
            _ => None,
        }
    }

    fn group(&self, id: u32) -> Option<&str> {
        (id == 0).then_some("root")
    }
}

/// Parses what must be one object; fails on a repeated name, on U+0000 in a name, on depth.
pub fn strict(text: &[u8]) -> serde_json::Value {
    assert!(text.len() < (1 << 20) - (64 << 10), "{} bytes", text.len());
    let text = std::str::from_utf8(text).unwrap();
    let Strict(depth) = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:.3000}"));
    assert!(depth <= 6, "depth {depth}");
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    assert!(value.is_object());
    value
}

struct Strict(usize);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Strict;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
                Ok(Strict(0))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
                Ok(Strict(0))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
                Ok(Strict(0))
            }
            fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
                Ok(Strict(0))
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(0))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
                let mut depth = 0;
                while let Some(Strict(inner)) = seq.next_element()? {
                    depth = depth.max(inner);
                }
                Ok(Strict(depth + 1))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let (mut names, mut depth) = (HashSet::new(), 0);
                while let Some((name, Strict(inner))) = map.next_entry::<String, Strict>()? {
                    if name.contains('\0') || !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("name {name:?} twice")));
                    }
                    depth = depth.max(inner);
                }
                Ok(Strict(depth + 1))
            }
        }
        deserializer.deserialize_any(Walk)
    }
}
