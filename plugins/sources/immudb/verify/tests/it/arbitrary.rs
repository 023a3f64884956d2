//! Random and mutated bytes for everything that the fuzz targets run.

use proptest::prelude::*;

use crate::entry;
use crate::proto;
use crate::recorded::files;
use prost::Message;

/// Recorded exports and headers.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for file in files().iter().filter(|file| file.scenario.starts_with("p09")) {
        for call in file.calls.iter().filter(|call| call.responses_hex.len() == 1) {
            let content = proto::Chunk::decode(&call.responses_hex[0].0[..]).unwrap().content;
            if content.len() < 1_000 {
                let length = u32::from_be_bytes(*content[8..].first_chunk().unwrap()) as usize;
                seeds.push(content[12..12 + length].to_vec());
                seeds.push(content[8..].to_vec());
            }
        }
    }
    assert!(seeds.len() > 100);
    seeds
}

fn bytes(bytes: &[u8]) {
    entry::export(bytes);
    entry::header(bytes);
    entry::proofs(bytes);
    entry::signature(bytes);
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (
        any::<prop::sample::Index>(),
        0_usize..9,
        prop::collection::vec(any::<u8>(), 0..9),
    );
    (prop::sample::select(seeds()), prop::collection::vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
        for (at, less, more) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + less).min(bytes.len());
            bytes.splice(at..end, more);
        }
        bytes
    })
}

/// Numbers that matter, then any bytes.
fn numbered() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        (0_u32..64, -2_i64..3).prop_map(|(bit, off)| (1_u64 << bit).saturating_add_signed(off)),
        0_u64..70,
        any::<u64>(),
    ];
    let rest = prop::collection::vec(any::<u8>(), 0..2_200);
    (prop::collection::vec(number, 5), rest).prop_map(|(numbers, rest)| {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        bytes.extend(rest);
        bytes
    })
}

fn cases() -> u32 {
    let long = std::env::var("AUDITMON_LONG").is_ok_and(|value| value == "1");
    if long { 1_000_000 } else { 2_000 }
}

#[test]
fn the_seeds_are_read() {
    seeds().iter().for_each(|seed| bytes(seed));
    bytes(&[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn mutated_exports(input in mutated()) {
        bytes(&input);
    }

    #[test]
    fn any_bytes(input in prop::collection::vec(any::<u8>(), 0..300)) {
        bytes(&input);
    }

    #[test]
    fn numbers_and_bytes(input in numbered()) {
        bytes(&input);
    }
}
