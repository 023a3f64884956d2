//! Lines of `type=N msg=PAYLOAD`, as in the recorded files, through everything to JSON.
//!
//! `cargo +nightly fuzz run events fuzz/corpus/events ../../../../tests/fixtures/kernel-records`
//! Each line arrives 70 ms after the one before, so that timeouts happen as well.
#![no_main]

use audit_record::gap::Gaps;
use audit_record::json::{Encoder, NoNames};
use audit_record::{Limits, Reassembler, RecordType, Summary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut reassembler = Reassembler::new(Limits { max_open: 8, ..Limits::default() });
    let mut gaps = Gaps::new(None);
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let mut check = |reassembler: &mut Reassembler| {
        while let Some(event) = reassembler.pop() {
            let summary = Summary::of(&event);
            let _ = (summary.event_name(), summary.outcome(), summary.resource());
            out.clear();
            encoder.event_data(&summary, &NoNames, &[], &mut out);
            drop(summary);
            assert!(out.len() < 1 << 20);
            serde_json::from_slice::<serde_json::Value>(&out).expect("JSON");
            reassembler.recycle(event);
        }
    };
    for (at, line) in data.split(|b| *b == b'\n').enumerate() {
        let (kind, payload) = split(line);
        let now = at as u64 * 70_000_000;
        if let Some(stamp) = reassembler.push(kind, payload, now) {
            gaps.observe(stamp.serial, now);
        }
        check(&mut reassembler);
        let _ = gaps.expire(now);
    }
    reassembler.flush();
    check(&mut reassembler);
    assert_eq!((reassembler.open(), reassembler.bytes()), (0, 0));
});

/// Takes a line apart; what has no type is a SYSCALL record.
fn split(line: &[u8]) -> (RecordType, &[u8]) {
    let parts = || {
        let rest = line.strip_prefix(b"type=")?;
        let (number, rest) = rest.split_at_checked(4)?;
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some((RecordType(number), rest.strip_prefix(b" msg=")?))
    };
    parts().unwrap_or((RecordType::SYSCALL, line))
}
