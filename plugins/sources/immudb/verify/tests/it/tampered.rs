//! Every recorded proof changed anywhere is rejected.

use std::collections::BTreeSet;

use crate::accepted::pages;
use crate::check::Check;
use crate::fields::{Name, changed_lists, fields, owners};
use crate::proto;
use crate::recorded::{files, headers};
use prost::Message;

/// Fields that prove nothing: whatever stands there, the proof is the same.
const PROVE_NOTHING: &[(Name, &str)] = &[
    (
        ("TxEntry", 3),
        "vLen since 1.2: no hash covers it; the value check compares it",
    ),
    (
        ("TxEntry", 4),
        "vLen up to 1.1: likewise (since 1.2 the field is the metadata, which counts)",
    ),
    (
        ("Entry", 1),
        "tx of the entry that a reference points at: that takes a proof of its own; else it counts",
    ),
    (("Entry", 3), "value of the entry that a reference points at: likewise"),
    (
        ("Entry", 6),
        "expired: the server's opinion, from the metadata and its clock",
    ),
    (("Entry", 7), "revision: the server's count of the key's versions"),
    (("Reference", 5), "revision of a reference: likewise"),
    (
        ("ImmutableState", 5),
        "precommittedTxId: not committed, signed by nobody, not used",
    ),
    (("ImmutableState", 6), "precommittedTxHash: likewise"),
];

/// What must never be on that list.
const COUNTS: &[&str] = &[
    "TxHeader",
    "TxMetadata",
    "KVMetadata",
    "Expiration",
    "DualProof",
    "DualProofV2",
    "LinearProof",
    "LinearAdvanceProof",
    "InclusionProof",
    "Signature",
    "Tx",
    "TxList",
];

/// Every recorded proof: what to check, and the bytes.
fn proofs() -> Vec<(String, Check, Vec<u8>)> {
    let mut proofs = Vec::new();
    for file in files() {
        let headers = headers(&file);
        for call in &file.calls {
            let what = || format!("{} {}", file.scenario, hex::encode(&call.request_hex.0));
            if let Some(check) = call.check(&file, &headers) {
                proofs.push((what(), check, call.checked_bytes()));
            }
            if let (Some(answer), "CurrentState", Some(key)) = (call.answer(), call.method(), file.key()) {
                let state = proto::ImmutableState::decode(answer).unwrap();
                let check = Check::State {
                    db: state.db,
                    signer: Some(key),
                    known: None,
                };
                proofs.push((what(), check, answer.to_vec()));
            }
        }
        proofs.extend(
            pages(&file)
                .into_iter()
                .map(|(check, page)| (file.scenario.clone(), check, page)),
        );
    }
    proofs.retain(|(_, check, bytes)| check.run(bytes).is_ok());
    // The same bytes asked for the same way prove nothing new.
    let mut seen = BTreeSet::new();
    proofs.retain(|(_, check, bytes)| seen.insert((check.message(), bytes.clone())));
    proofs
}

/// Pages of headers one transaction at a time: each byte is still tried, and
/// not with all headers behind it.
fn split(check: Check, bytes: Vec<u8>) -> Vec<(Check, Vec<u8>)> {
    let Check::Page {
        from,
        layout,
        all_entries,
        ..
    } = &check
    else {
        return vec![(check, bytes)];
    };
    let mut walk = from.clone();
    let mut out = Vec::new();
    for field in fields("TxList", &bytes, 0..bytes.len()) {
        let one = bytes[field.all].to_vec();
        let from = walk.clone();
        let list = proto::TxList::decode(&one[..]).unwrap();
        walk.step(&list.txs[0].header.as_ref().unwrap().wire()).unwrap();
        let check = Check::Page {
            from,
            to: walk.reached(),
            layout: *layout,
            all_entries: *all_entries,
        };
        out.push((check, one));
    }
    out
}

/// Tries changes of each byte; gives how many there were, and the listed fields
/// that they changed. A change of anything else must be rejected, unless the
/// message says the same as before to whoever decodes it.
fn flip(what: &str, check: &Check, bytes: &[u8], accepted: &mut BTreeSet<Name>) -> usize {
    let mut names = vec![("", 0); bytes.len()];
    owners(
        check.message(),
        &fields(check.message(), bytes, 0..bytes.len()),
        &mut names,
    );
    let mut changed = bytes.to_vec();
    let mut tried = 0;
    let listed: Vec<Name> = PROVE_NOTHING.iter().map(|(name, _)| *name).collect();
    let meaning = check.meaning(bytes, &listed);
    // A large transaction is hashed anew for each change: a part of its bytes will do.
    let step = if bytes.len() > 16 << 10 && !long() { 61 } else { 1 };
    for (at, name) in names.into_iter().enumerate().step_by(step) {
        for mask in masks(at) {
            changed[at] = bytes[at] ^ mask;
            tried += 1;
            if check.run(&changed).is_ok() {
                assert!(
                    check.meaning(&changed, &listed) == meaning,
                    "{what}: byte {at} of {name:?} ^ {mask:#x} was accepted"
                );
                let others = |name: &Name| {
                    listed
                        .iter()
                        .filter(|other| *other != name)
                        .copied()
                        .collect::<Vec<_>>()
                };
                let differs = |name: &&Name| {
                    let others = others(name);
                    check.meaning(&changed, &others) != check.meaning(bytes, &others)
                };
                accepted.extend(listed.iter().filter(differs));
            }
        }
        changed[at] = bytes[at];
    }
    tried
}

fn long() -> bool {
    std::env::var("AUDITMON_LONG").is_ok_and(|value| value == "1")
}

/// One bit; in long runs each of the eight, and all at once.
fn masks(at: usize) -> Vec<u8> {
    if long() {
        return (0..8).map(|bit| 1 << bit).chain([0xff]).collect();
    }
    vec![1 << (at % 8)]
}

#[test]
fn every_changed_byte_is_rejected_or_proves_nothing() {
    let proofs = proofs();
    let half = proofs.len() / 2;
    let run = |proofs: Vec<(String, Check, Vec<u8>)>| {
        let (mut accepted, mut tried) = (BTreeSet::new(), 0);
        for (what, check, bytes) in proofs {
            for (check, bytes) in split(check, bytes) {
                tried += flip(&what, &check, &bytes, &mut accepted);
            }
        }
        (accepted, tried)
    };
    let mut first = proofs;
    let second = first.split_off(half);
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(move || run(second));
        (run(first), second.join().unwrap())
    });
    let tried = first.1 + second.1;
    let accepted: BTreeSet<Name> = first.0.into_iter().chain(second.0).collect();
    let listed: BTreeSet<Name> = PROVE_NOTHING.iter().map(|(name, _)| *name).collect();
    assert_eq!(accepted, listed);
    assert!(tried > 1_000_000, "{tried}");
}

#[test]
fn every_changed_list_is_rejected() {
    let mut tried = 0;
    let mut attempt = |what: &str, check: &Check, bytes: &[u8], deep| {
        for (name, changed) in changed_lists(check.message(), bytes, deep) {
            tried += 1;
            let same = || check.meaning(&changed, &[]) == check.meaning(bytes, &[]);
            assert!(
                check.run(&changed).is_err() || same(),
                "{what}: {name:?} {}",
                hex::encode(&changed)
            );
        }
    };
    for (what, check, bytes) in proofs() {
        if let Check::Page { .. } = &check {
            attempt(&what, &check, &bytes, false);
        }
        for (check, bytes) in split(check, bytes) {
            attempt(&what, &check, &bytes, true);
        }
    }
    assert!(tried > 100_000, "{tried}");
}

#[test]
fn no_field_that_counts_is_listed() {
    assert!(PROVE_NOTHING.len() <= 20);
    assert!(PROVE_NOTHING.iter().all(|((message, _), _)| !COUNTS.contains(message)));
}
