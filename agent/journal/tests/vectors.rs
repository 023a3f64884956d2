//! The golden vectors of `reference/journal-format.md`, byte by byte.

#![allow(clippy::unwrap_used)]

use auditmon_journal::format::{
    Body, FRAME_HEAD, Kind, Prefix, RecordIter, SEGMENT_HEAD, SegmentHead, StateRecord, commitment, encode_state,
    frame_head, leaf, leaf_hash, mark, origin_hash, parse_frame, parse_record, source_hash,
};
use auditmon_journal::{Position, Records};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/journal-vectors.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// The event source of the four records, in order.
const SOURCES: [&str; 4] = ["billing", "kernel", "immudb", "agent"];

#[test]
fn records_leaves_and_erased_records() {
    let vectors = vectors();
    let records = vectors["records"].as_array().unwrap();
    assert_eq!(records.len(), 4);
    for (index, vector) in records.iter().enumerate() {
        let payload = bytes(&vector["payload_hex"]);
        let encoded = bytes(&vector["record"]);
        let (record, length) = parse_record(&encoded).unwrap();
        assert_eq!(length, encoded.len());
        assert_eq!(record.payload(), Some(payload.as_slice()));
        assert_eq!(
            record.body,
            Body::Whole {
                salt: array(&vector["salt"]),
                payload: &payload
            }
        );
        let prefix: [u8; 34] = array(&vector["prefix"]);
        assert_eq!(record.prefix.encode(), prefix);
        assert_eq!(Prefix::parse(&prefix), Ok(record.prefix));
        let source = source_hash(SOURCES[index]);
        assert!(
            record.prefix.source == source || record.prefix.kind == Kind::State,
            "record {index}"
        );
        let commitment = commitment(&array(&vector["salt"]), &payload);
        assert_eq!(commitment, array(&vector["commitment"]));
        let leaf = leaf(&prefix, &commitment);
        assert_eq!(leaf, array(&vector["leaf"]));
        assert_eq!(record.leaf(), leaf);
        assert_eq!(leaf_hash(&leaf), array(&vector["leaf_hash"]));
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, encoded);

        let erased = bytes(&vector["erased_record"]);
        let (record, length) = parse_record(&erased).unwrap();
        assert_eq!(length, erased.len());
        assert_eq!(record.payload(), None);
        assert_eq!(record.leaf(), leaf);
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, erased);
    }
}

#[test]
fn frames_mark_and_segment() {
    let vectors = vectors();
    let records = vectors["records"].as_array().unwrap();
    let mut all = Vec::new();
    for (index, vector) in vectors["frames"].as_array().unwrap().iter().enumerate() {
        let frame = bytes(vector);
        let (head, body) = parse_frame(&frame).unwrap();
        assert_eq!(head.first_seq, index as u64 * 2);
        assert_eq!(head.synced, index as u64 * 2);
        assert_eq!(head.count, 2);
        assert_eq!(head.len(), frame.len());
        let again = frame_head(head.first_seq, head.synced, head.count, body);
        assert_eq!(again, frame[..FRAME_HEAD]);
        for record in RecordIter::new(body) {
            let mut encoded = Vec::new();
            record.unwrap().encode(&mut encoded);
            all.push(encoded);
        }
    }
    let expected: Vec<_> = records.iter().map(|r| bytes(&r["record"])).collect();
    assert_eq!(all, expected);
    assert_eq!(mark(4).as_slice(), bytes(&vectors["mark"]));

    let segment = bytes(&vectors["segment"]);
    let origin = origin_hash(vectors["origin"].as_str().unwrap());
    let head = SegmentHead { first_seq: 0, origin };
    assert_eq!(segment[..SEGMENT_HEAD], head.encode());
    assert_eq!(
        SegmentHead::parse(segment[..SEGMENT_HEAD].try_into().unwrap()),
        Ok(head)
    );
    let mut expected = head.encode().to_vec();
    for frame in vectors["frames"].as_array().unwrap() {
        expected.extend(bytes(frame));
    }
    if segment.len() > expected.len() {
        expected.extend(bytes(&vectors["mark"]));
    }
    assert_eq!(segment, expected);
}

#[test]
fn builder_makes_the_same_bytes() {
    let vectors = vectors();
    let vector = &vectors["records"][0];
    let payload = bytes(&vector["payload_hex"]);
    let prefix = Prefix::parse(&array(&vector["prefix"])).unwrap();
    let mut records = Records::new();
    records
        .push(&prefix, array(&vector["salt"]), |out| out.extend(&payload))
        .unwrap();
    assert_eq!(records.as_bytes(), bytes(&vector["record"]));
    assert_eq!(records.leaf_hashes(), [array::<32>(&vector["leaf_hash"])]);

    let vector = &vectors["records"][2];
    let payload = bytes(&vector["payload_hex"]);
    let state = StateRecord::parse(&payload).unwrap();
    assert_eq!(state.key, b"db/defaultdb");
    assert_eq!(state.expiry_ns, 0);
    assert_eq!(state.value, b"\x01trusted");
    let mut again = Vec::new();
    encode_state(&state, &mut again).unwrap();
    assert_eq!(again, payload);
    let prefix = Prefix::parse(&array(&vector["prefix"])).unwrap();
    let mut records = Records::new();
    records
        .push_state(
            "immudb",
            prefix.event_id,
            prefix.received_ns,
            array(&vector["salt"]),
            state.key,
            state.expiry_ns,
            state.value,
        )
        .unwrap();
    let made = Prefix::parse(records.as_bytes()[5..39].try_into().unwrap()).unwrap();
    assert_eq!(made.kind, Kind::State);
    if made.source == prefix.source {
        assert_eq!(records.as_bytes(), bytes(&vector["record"]));
    }
}

#[test]
fn position() {
    let vectors = vectors();
    let encoded = bytes(&vectors["position_before_seq_2"]);
    let position = Position::parse(&encoded).unwrap();
    assert_eq!(position.origin, vectors["origin"].as_str().unwrap());
    assert_eq!(position.seq, 2);
    assert_eq!(position.leaf_hash, array(&vectors["records"][1]["leaf_hash"]));
    assert_eq!(position.encode(), encoded);
}
