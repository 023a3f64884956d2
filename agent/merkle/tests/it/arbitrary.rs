//! Random and mutated bytes for everything that the fuzz targets run.

use proptest::prelude::*;

use crate::entry;
use crate::vectors::{LOG_VKEY, SPEC_NOTE, WITNESS_VKEY, WITNESSED, journal};

/// Texts of every format.
fn seeds() -> Vec<String> {
    let vectors = journal();
    let proof = vectors["proof_of_seq_1"].as_str().unwrap();
    let (_, tlog) = proof.split_once("\n\n").unwrap();
    vec![
        LOG_VKEY.to_owned(),
        WITNESS_VKEY.to_owned(),
        "PRIVATE+KEY+log.example.com/oracle+d67254b6+AZICr2zpJbJq5rJa3/8LJwUUfhlfo43ViubsxY7SY3Uf".to_owned(),
        SPEC_NOTE.to_owned(),
        WITNESSED.to_owned(),
        WITNESSED.split_inclusive('\n').take(3).collect(),
        tlog.to_owned(),
        tlog.replace("\nindex", "\nextra AAAA\nindex"),
        proof.to_owned(),
        format!("{proof}---\n{proof}"),
        "tile/0/x001/x234/067.p/5".to_owned(),
        "tile/7/000.p/128".to_owned(),
    ]
}

/// A format's text with some of it replaced, removed or repeated, or cut anywhere.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,5}",
        "[0-9A-Za-z+/=\n .x-]{0,8}",
        prop::sample::select(vec![
            "\n",
            "\n\n",
            "\n---\n",
            "\u{2014} ",
            "index ",
            "extra ",
            "+",
            "=",
            "x000/",
            ".p/",
            "18446744073709551615",
            "9223372036854775808",
            "\0",
            "\r\n",
        ])
        .prop_map(str::to_owned),
    ];
    let change = (any::<prop::sample::Index>(), 0_usize..9, piece);
    (prop::sample::select(seeds()), prop::collection::vec(change, 0..5)).prop_map(|(seed, changes)| {
        let mut text: Vec<char> = seed.chars().collect();
        for (at, less, more) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + less).min(text.len());
            text.splice(at..end, more.chars());
        }
        text.into_iter().collect()
    })
}

/// Numbers that matter, then any bytes.
fn numbered() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        (0_u32..64, -2_i64..3).prop_map(|(bit, off)| (1_u64 << bit).saturating_add_signed(off)),
        0_u64..1000,
        any::<u64>(),
    ];
    let hashes = prop_oneof![0_usize..70, Just(256)].prop_map(|count| count * 32);
    let rest = (hashes, 0_usize..2, any::<u8>()).prop_map(|(length, more, byte)| vec![byte; length + more]);
    (prop::collection::vec(number, 1..3), rest).prop_map(|(numbers, rest)| {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        bytes.extend(rest);
        bytes
    })
}

fn texts(text: &str) {
    entry::keys(text);
    entry::note(text);
    entry::checkpoint(text);
    entry::tlog_proof(text);
    entry::event_proofs(text);
    entry::tile(text);
}

fn bytes(bytes: &[u8]) {
    entry::frontier(bytes);
    entry::proofs(bytes);
    entry::resume(bytes);
    texts(&String::from_utf8_lossy(bytes));
}

fn cases() -> u32 {
    let long = std::env::var("AUDITMON_LONG").is_ok_and(|value| value == "1");
    if long { 1_000_000 } else { 2_000 }
}

#[test]
fn the_seeds_are_read() {
    seeds().iter().for_each(|seed| texts(seed));
    assert!(seeds()[0].parse::<auditmon_merkle::Vkey>().is_ok());
    assert!(auditmon_merkle::TlogProof::parse(&seeds()[7]).is_ok());
    assert!(auditmon_merkle::EventProof::parse(&seeds()[8]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn mutated_texts(text in mutated()) {
        texts(&text);
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
