//! Bytes of every format and framing, for the recorded events of the journal's golden vectors.
#![allow(clippy::unwrap_used)] // helpers of tests

use auditmon_codec::{Body, Format, Framing, Item, Overflow};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    origin: String,
    records: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    seq: u64,
    payload: String,
}

/// 2026-01-01T00:00:00.000000007Z
const RECEIVED: u64 = 1_767_225_600_000_000_007;

fn vectors() -> Vectors {
    let mut vectors: Vectors =
        serde_json::from_str(include_str!("../../../tests/fixtures/journal-vectors.json")).unwrap();
    // State records are not events.
    vectors.records.retain(|record| record.payload.starts_with('{'));
    assert_eq!(vectors.records.len(), 3);
    vectors
}

fn items(vectors: &Vectors) -> Vec<Item<'_>> {
    vectors
        .records
        .iter()
        .map(|record| Item {
            origin: &vectors.origin,
            seq: record.seq,
            received: RECEIVED,
            canonical: record.payload.as_bytes(),
        })
        .collect()
}

fn body(framing: Framing, items: &[Item<'_>]) -> String {
    let mut body = Body::new(&Format::Auditmon, framing, 1 << 20);
    for item in items {
        body.push(item).unwrap();
    }
    assert_eq!(body.events(), items.len());
    String::from_utf8(body.finish()).unwrap()
}

#[test]
fn auditmon_json_is_what_the_golden_files_hold() {
    let vectors = vectors();
    let items = items(&vectors);
    assert_eq!(
        body(Framing::Event, &items[..1]),
        include_str!("golden/auditmon.json").trim_end()
    );
    assert_eq!(
        body(Framing::Array, &items),
        include_str!("golden/auditmon.array.json").trim_end()
    );
    assert_eq!(body(Framing::Ndjson, &items), include_str!("golden/auditmon.ndjson"));
}

#[test]
fn every_framing_is_json_that_keeps_the_canonical_bytes() {
    let vectors = vectors();
    let items = items(&vectors);
    let array = body(Framing::Array, &items);
    let parsed: Vec<&serde_json::value::RawValue> = serde_json::from_str(&array).unwrap();
    let lines = body(Framing::Ndjson, &items);
    for ((element, line), item) in parsed.iter().zip(lines.lines()).zip(&items) {
        assert_eq!(element.get(), line);
        assert_eq!(*element.get(), body(Framing::Event, &[*item]));
        let canonical = std::str::from_utf8(item.canonical).unwrap();
        assert!(line.starts_with(canonical.strip_suffix('}').unwrap()));
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["seq"], item.seq);
        assert_eq!(value["origin"], item.origin);
        assert_eq!(value["received_time"], "2026-01-01T00:00:00.000000007Z");
    }
    assert_eq!(parsed.len(), 3);
}

#[test]
fn content_types() {
    let of = |framing| Format::Auditmon.content_type(framing);
    assert_eq!(of(Framing::Event), "application/json");
    assert_eq!(of(Framing::Array), "application/json");
    assert_eq!(of(Framing::Ndjson), "application/x-ndjson");
}

#[test]
fn no_events_are_no_bytes() {
    for framing in [Framing::Event, Framing::Array, Framing::Ndjson] {
        assert_eq!(body(framing, &[]), "");
    }
}

#[test]
fn a_lone_event_framing_takes_one() {
    let vectors = vectors();
    let items = items(&vectors);
    let mut body = Body::new(&Format::Auditmon, Framing::Event, 1 << 20);
    body.push(&items[0]).unwrap();
    assert_eq!(body.push(&items[1]), Err(Overflow::Full));
    assert_eq!(body.finish(), self::body(Framing::Event, &items[..1]).into_bytes());
}

#[test]
fn the_limit_counts_the_last_byte() {
    let vectors = vectors();
    let items = items(&vectors);
    for framing in [Framing::Array, Framing::Ndjson] {
        let both = body(framing, &items[..2]);
        let mut fits = Body::new(&Format::Auditmon, framing, both.len());
        assert_eq!(fits.push(&items[0]).and_then(|()| fits.push(&items[1])), Ok(()));
        assert_eq!(fits.finish(), both.as_bytes());

        let mut full = Body::new(&Format::Auditmon, framing, both.len() - 1);
        full.push(&items[0]).unwrap();
        assert_eq!(full.push(&items[1]), Err(Overflow::Full));
        assert_eq!(full.finish(), body(framing, &items[..1]).into_bytes());

        let alone = body(framing, &items[..1]).len();
        let mut small = Body::new(&Format::Auditmon, framing, alone - 1);
        assert_eq!(
            small.push(&items[0]),
            Err(Overflow::TooLarge {
                bytes: alone,
                limit: alone - 1
            })
        );
        assert!(small.finish().is_empty());
    }
}

#[test]
fn the_configuration_names_formats() {
    let format: Format = serde_json::from_str("\"auditmon\"").unwrap();
    assert_eq!(format, Format::Auditmon);
    assert_eq!(serde_json::to_string(&format).unwrap(), "\"auditmon\"");
    let error = serde_json::from_str::<Format>("\"auditmom\"").unwrap_err().to_string();
    assert!(error.contains("unknown variant `auditmom`, expected"), "{error}");
    let framing: Framing = serde_json::from_str("\"ndjson\"").unwrap();
    assert_eq!(framing, Framing::Ndjson);
}

proptest! {
    #[test]
    fn a_body_never_exceeds_its_limit(limit in 0_usize..4_000, framing in 0..3_usize, order in proptest::collection::vec(0..3_usize, 0..12)) {
        let vectors = vectors();
        let items = items(&vectors);
        let framing = [Framing::Event, Framing::Array, Framing::Ndjson][framing];
        let mut body = Body::new(&Format::Auditmon, framing, limit);
        let mut taken = Vec::new();
        for at in order {
            if body.push(&items[at]).is_ok() {
                taken.push(items[at]);
            }
        }
        let bytes = body.finish();
        prop_assert!(bytes.len() <= limit);
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), self::body(framing, &taken));
    }
}
