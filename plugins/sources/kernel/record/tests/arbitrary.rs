//! Nothing that arrives makes it panic, hang, or write JSON that is none.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use audit_record::gap::Gaps;
use audit_record::json::{Encoder, NoNames};
use audit_record::{Event, Limits, Reassembler, RecordType, Summary, fields, header, saddr};
use common::{FILES, Line, load, strict};
use proptest::prelude::*;

fn kind() -> impl Strategy<Value = RecordType> {
    prop_oneof![
        4 => proptest::sample::select(vec![
            1006_u16, 1112, 1300, 1302, 1305, 1306, 1307, 1309, 1318, 1320, 1327, 1336, 1400, 1701,
        ]),
        1 => any::<u16>(),
    ]
    .prop_map(RecordType)
}

/// Bodies made of the pieces that the grammar is about.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "a0",
            "a1",
            "a1_len",
            "a1[0]",
            "a1[1]",
            "argc",
            "auid",
            "auid_name",
            "auid_hex",
            "ses",
            "uid",
            "key",
            "key_hex",
            "name",
            "name_hex",
            "msg",
            "op",
            "saddr",
            "cwd",
            "proctitle",
            "exit",
            "success",
            "arch",
            "syscall",
            "words",
            "old",
            "new",
            "comm",
            "exe",
            "res",
        ])
        .prop_map(|name| [name.as_bytes(), b"="].concat()),
        proptest::sample::select(vec![
            "\"",
            "'",
            " ",
            "  ",
            "=",
            "(null)",
            "\"x\"",
            "make_equiv",
            "41",
            "FF",
            "0A",
            "c000003e",
            "59",
            "-1",
            "4294967295",
            "2F",
            "020000097F000001",
            "\u{1}",
            "\n",
            "msg='",
            "é",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn line() -> impl Strategy<Value = Line> {
    (kind(), 0..4_u32, body())
        .prop_map(|(kind, serial, body)| (kind, [format!("audit(1.000:{serial}): ").as_bytes(), &body].concat()))
}

/// A recorded line with some bytes changed.
fn mutated() -> impl Strategy<Value = Line> {
    let file = proptest::sample::select(FILES.iter().map(|(file, _)| *file).collect::<Vec<_>>());
    let changes = proptest::collection::vec((any::<u16>(), any::<u8>()), 0..5);
    (file, any::<u16>(), changes).prop_map(|(file, at, changes)| {
        let mut lines = load(file);
        let index = usize::from(at) % lines.len();
        let (kind, mut payload) = lines.swap_remove(index);
        for (at, byte) in changes {
            let length = payload.len();
            payload[usize::from(at) % length] = byte;
        }
        (kind, payload)
    })
}

fn check(event: &Event) {
    let summary = Summary::of(event);
    let _ = (
        summary.event_name(),
        summary.outcome(),
        summary.resource(),
        summary.keys(),
    );
    let _ = (
        summary.argv(),
        summary.saddr_text(),
        summary.paths().count(),
        summary.exit(),
    );
    let mut out = b"before".to_vec();
    Encoder::new().event_data(&summary, &common::People, &["resource"], &mut out);
    strict(out.strip_prefix(b"before").unwrap());
}

fn run(lines: &[Line]) {
    let mut reassembler = Reassembler::new(Limits {
        max_open: 3,
        ..Limits::default()
    });
    let mut gaps = Gaps::new(None);
    for (at, (kind, payload)) in lines.iter().enumerate() {
        if let Some(stamp) = reassembler.push(*kind, payload, at as u64 * 70_000_000) {
            gaps.observe(stamp.serial, at as u64);
        }
        while let Some(event) = reassembler.pop() {
            check(&event);
            reassembler.recycle(event);
        }
    }
    reassembler.flush();
    while let Some(event) = reassembler.pop() {
        check(&event);
    }
    assert_eq!((reassembler.open(), reassembler.bytes()), (0, 0));
    gaps.flush();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn made_of_pieces(lines in proptest::collection::vec(line(), 1..12)) {
        run(&lines);
    }

    #[test]
    fn changed_recordings(lines in proptest::collection::vec(mutated(), 1..4)) {
        run(&lines);
    }

    #[test]
    fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..400), kind in kind()) {
        let _ = header::parse(&payload);
        let fields: Vec<_> = fields::fields(&payload).collect();
        prop_assert!(fields.len() <= payload.len());
        let _ = saddr::decode(&payload).text();
        run(&[(kind, payload)]);
    }

    #[test]
    fn serials(steps in proptest::collection::vec((any::<u32>(), 0..10_u64), 0..300)) {
        let mut gaps = Gaps::new(None);
        let mut now = 0;
        for (serial, step) in steps {
            now += step * 500_000_000;
            gaps.observe(serial, now);
            if let Some(report) = gaps.expire(now) {
                prop_assert!(report.missing > 0 && report.ranges.len() <= 1_000);
            }
        }
    }

    #[test]
    fn few_serials_are_counted_exactly(
        order in proptest::collection::vec(1..200_u32, 0..200),
        offset in prop_oneof![Just(0_u32), Just(u32::MAX - 100), any::<u32>()],
    ) {
        let mut gaps = Gaps::new(Some(offset));
        let mut seen = std::collections::BTreeSet::new();
        for serial in order {
            gaps.observe(offset.wrapping_add(serial), 0);
            seen.insert(serial);
        }
        let highest = seen.last().copied().unwrap_or(0);
        let report = gaps.flush().unwrap_or_default();
        let mut missing = Vec::new();
        for (first, last) in report.ranges {
            let (first, last) = (first.wrapping_sub(offset), last.wrapping_sub(offset));
            missing.extend(first..=last);
        }
        let expected: Vec<u32> = (1..=highest).filter(|n| !seen.contains(n)).collect();
        prop_assert_eq!(missing, expected);
    }
}

/// The worst that fits: sizes stay below the limit, and time stays short.
#[test]
fn the_largest_events_stay_below_the_limit() {
    let head = |text: &[u8]| [b"audit(1.000:1): ", text].concat();
    let controls = [b"argc=1 a0=\"".as_slice(), &[1; 60_000], b"\""].concat();
    let invalid: Vec<u8> = (0..16_000).flat_map(|n| format!("a{n}=FF ").into_bytes()).collect();
    let names: Vec<u8> = (0..12_000).flat_map(|n| format!("n{n}=1 ").into_bytes()).collect();
    let same: Vec<u8> = b"x=1 ".repeat(16_000);
    let glued: Vec<u8> = b"ses=1".repeat(13_000);
    let raw = vec![0xff; 64 << 10];
    for (kind, body) in [
        (1309, controls),
        (1309, invalid),
        (1318, names.clone()),
        (1300, names),
        (1318, same),
        (1305, glued),
        (1300, [b"comm=\"".as_slice(), &raw, b"\""].concat()),
        (1307, [b"cwd=\"".as_slice(), &raw[..60_000], b"\""].concat()),
        (1302, [b"name=\"".as_slice(), &raw[..60_000], b"\""].concat()),
        (1318, raw.clone()),
        (1112, [b"msg='".as_slice(), &[7; 60_000], b"'"].concat()),
        (1300, [b"key=\"".as_slice(), &b"k\x01".repeat(30_000), b"\""].concat()),
    ] {
        let mut reassembler = Reassembler::new(Limits::default());
        let payload = head(&body);
        reassembler.push(
            RecordType::SYSCALL,
            &head(&[b"comm=\"", &raw[..9_000], b"\""].concat()),
            0,
        );
        for _ in 0..9 {
            reassembler.push(RecordType(kind), &payload, 0);
        }
        reassembler.flush();
        let start = std::time::Instant::now();
        while let Some(event) = reassembler.pop() {
            let mut out = Vec::new();
            Encoder::new().event_data(&Summary::of(&event), &NoNames, &[], &mut out);
            strict(&out);
            let _ = Summary::of(&event).resource();
        }
        assert!(start.elapsed().as_secs() < 5, "{kind} takes {:?}", start.elapsed());
    }
}
