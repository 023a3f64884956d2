//! Properties of encoders and parsers.

#![allow(clippy::unwrap_used)]

use auditmon_journal::Position;
use auditmon_journal::format::{
    Body, FRAME_HEAD, FrameHead, Kind, Prefix, Record, RecordIter, SegmentHead, StateRecord, encode_state, frame_head,
    parse_frame, parse_record,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<[u8; 16]>(), any::<u64>(), 1u8..=5, any::<[u8; 8]>()).prop_map(|(event_id, received_ns, kind, source)| {
        Prefix {
            event_id,
            received_ns,
            kind: Kind::from_u8(kind).unwrap(),
            source,
        }
    })
}

/// Bytes of some records, with their number.
fn records() -> impl Strategy<Value = (Vec<u8>, u32)> {
    let record = (prefix(), any::<[u8; 16]>(), vec(any::<u8>(), 0..200), any::<bool>());
    vec(record, 1..6).prop_map(|records| {
        let mut bytes = Vec::new();
        for (prefix, salt, payload, erased) in &records {
            let body = if *erased {
                Body::Erased {
                    commitment: auditmon_journal::format::commitment(salt, payload),
                }
            } else {
                Body::Whole { salt: *salt, payload }
            };
            let record = Record { prefix: *prefix, body };
            record.encode(&mut bytes);
        }
        (bytes, records.len() as u32)
    })
}

proptest! {
    #[test]
    fn frames_come_back(
        (bytes, count) in records(),
        first in 0..u64::MAX / 2,
        behind in 0..1000u64,
        rest in vec(any::<u8>(), 0..50),
    ) {
        let synced = first.saturating_sub(behind);
        let head = frame_head(first, synced, count, &bytes);
        let all = [head.as_slice(), &bytes, &rest].concat();
        let (parsed, records) = parse_frame(&all).unwrap();
        prop_assert_eq!((parsed.first_seq, parsed.synced, parsed.count), (first, synced, count));
        prop_assert_eq!(records, &bytes);
        let mut again = Vec::new();
        for record in RecordIter::new(records) {
            record.unwrap().encode(&mut again);
        }
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn a_flipped_bit_is_noticed((bytes, count) in records(), first in 0..1u64 << 40, at in any::<prop::sample::Index>()) {
        let mut all = [frame_head(first, first, count, &bytes).as_slice(), &bytes].concat();
        let bit = at.index(all.len() * 8);
        all[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(parse_frame(&all).is_err());
    }

    #[test]
    fn a_cut_frame_is_noticed((bytes, count) in records(), at in any::<prop::sample::Index>()) {
        let all = [frame_head(0, 0, count, &bytes).as_slice(), &bytes].concat();
        prop_assert!(parse_frame(&all[..at.index(all.len())]).is_err());
    }

    #[test]
    fn parsers_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = parse_frame(&bytes);
        let _ = parse_record(&bytes);
        let _ = RecordIter::new(&bytes).count();
        let _ = StateRecord::parse(&bytes);
        let _ = Position::parse(&bytes);
        if let Some(head) = bytes.first_chunk::<FRAME_HEAD>() {
            let _ = FrameHead::parse(head);
        }
        if let Some(head) = bytes.first_chunk() {
            let _ = SegmentHead::parse(head);
        }
    }

    #[test]
    fn states_and_positions_come_back(
        key in vec(any::<u8>(), 0..300),
        expiry_ns in any::<u64>(),
        value in vec(any::<u8>(), 0..300),
        origin in "[a-z./0-9]{1,80}",
        seq in any::<u64>(),
        leaf_hash in any::<[u8; 32]>(),
        bit in 0..40 * 8usize,
    ) {
        let mut bytes = Vec::new();
        let state = StateRecord { key: &key, expiry_ns, value: &value };
        encode_state(&state, &mut bytes).unwrap();
        prop_assert_eq!(StateRecord::parse(&bytes), Ok(state));
        let position = Position { origin, seq, leaf_hash };
        let mut bytes = position.encode();
        prop_assert_eq!(Position::parse(&bytes), Ok(position));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Position::parse(&bytes).is_err());
    }

    #[test]
    fn segment_heads_come_back(first_seq in any::<u64>(), origin in any::<[u8; 32]>(), bit in 0..64 * 8usize) {
        let head = SegmentHead { first_seq, origin };
        let mut bytes = head.encode();
        prop_assert_eq!(SegmentHead::parse(&bytes), Ok(head));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(SegmentHead::parse(&bytes).is_err());
    }
}
