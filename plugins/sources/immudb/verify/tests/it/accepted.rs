//! No false alarms: every recorded answer of an honest server is accepted, and
//! those of others are judged as they should be.

use std::collections::BTreeMap;

use immudb_verify::export::{Exported, Layout, split_message};
use immudb_verify::{Class, EMPTY, Progress, State, TxHeader, TxId, Walk};
use prost::Message;

use crate::check::{Check, Rejected};
use crate::proto::{self, Entries};
use crate::recorded::{Call, File, Verify, files, headers, state};

/// Pages of headers in the order in which they were asked for: each goes on
/// from the one before, or begins at the first transaction.
pub fn pages(file: &File) -> Vec<(Check, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut walk = Walk::from_first();
    for call in file.calls.iter().filter(|call| call.method() == "TxScan") {
        let request = proto::TxScanRequest::decode(&call.request_hex.0[..]).unwrap();
        let Some(answer) = call.answer().filter(|answer| !answer.is_empty()) else {
            continue;
        };
        if request.initial_tx == 1 {
            walk = Walk::from_first();
        }
        if request.desc || request.initial_tx != walk.next_tx().0 || call.note.contains("entriesSpec") {
            continue;
        }
        let from = walk.clone();
        for tx in proto::TxList::decode(answer).unwrap().txs {
            let header = tx.header.unwrap();
            if let Err(reason) = walk.step(&header.wire()) {
                panic!("{} {}: {reason}", file.scenario, header.id);
            }
        }
        let check = Check::Page {
            from,
            to: walk.reached(),
            layout: call.layout(),
            all_entries: !call.has_entries_spec(),
        };
        pages.push((check, answer.to_vec()));
    }
    pages
}

fn count(totals: &mut BTreeMap<&'static str, usize>, what: &'static str) {
    *totals.entry(what).or_default() += 1;
}

#[test]
fn every_answer_is_judged_as_expected() {
    let mut totals = BTreeMap::new();
    for file in files() {
        let headers = headers(&file);
        for call in &file.calls {
            let Some(check) = call.check(&file, &headers) else {
                continue;
            };
            let what = format!("{} {} {}", file.scenario, call.rpc, hex::encode(&call.request_hex.0));
            let found = check.run(&call.checked_bytes());
            // A rolled-back or damaged server's proof can be right; the file's verdict is for the whole.
            let expected = call.expected.as_str();
            match (&found, expected) {
                (Ok(()), "ok") => count(&mut totals, check.message()),
                (Err(Rejected::Reason(reason)), "inconclusive:advance-proof-absent") => {
                    assert_eq!(reason.code(), "advance-proof-absent", "{what}");
                    assert_eq!(reason.class(), Class::Inconclusive);
                    count(&mut totals, "inconclusive");
                }
                (Err(Rejected::Reason(reason)), "tampered:proof" | "tampered:identity+proof") => {
                    assert_eq!(reason.class(), Class::Proof, "{what}: {reason}");
                    count(&mut totals, "rejected");
                }
                (Err(Rejected::Reason(reason)), "tampered:fork") => {
                    assert_eq!(reason.class(), Class::Fork, "{what}: {reason}");
                    count(&mut totals, "rejected");
                }
                (Ok(()), _) if expected.starts_with("tampered:") && !expected.contains("proof") => {
                    count(&mut totals, "right answers of tampered servers");
                }
                _ => panic!("{what}: {found:?}, expected {expected}"),
            }
        }
    }
    let expected = [
        ("Tx", 208),
        ("VerifiableEntry", 270),
        ("VerifiableTx", 1220 + 56),
        ("VerifiableTxV2", 9),
        ("inconclusive", 20),
        ("rejected", 12),
        ("right answers of tampered servers", 13),
    ];
    assert_eq!(totals, BTreeMap::from(expected));
}

#[test]
fn every_walk_comes_through() {
    let (mut walks, mut walked) = (0, 0);
    for file in files() {
        for (check, page) in pages(&file) {
            assert_eq!(check.run(&page), Ok(()), "{}", file.scenario);
            let Check::Page { from, to, .. } = check else {
                unreachable!()
            };
            walks += usize::from(from.next_tx() == TxId(1));
            walked += to.tx.0 - from.reached().tx.0;
        }
    }
    assert_eq!((walks, walked), (98, 4_045));
}

#[test]
fn states_are_where_the_walks_end() {
    let mut met = 0;
    for file in files() {
        let ends: Vec<State> = pages(&file)
            .into_iter()
            .map(|(check, _)| match check {
                Check::Page { to, .. } => to,
                _ => unreachable!(),
            })
            .collect();
        for call in file.calls.iter().filter(|call| call.method() == "CurrentState") {
            let Some(answer) = call.answer() else { continue };
            let answer = proto::ImmutableState::decode(answer).unwrap();
            let claimed = State::new(&answer.db, &answer.wire()).unwrap();
            assert_eq!(claimed.is_empty(), claimed.alh.0 == EMPTY);
            met += usize::from(ends.contains(&claimed));
        }
    }
    assert_eq!(met, 98);
}

#[test]
fn a_tampered_server_is_told_from_its_states() {
    let mut found = BTreeMap::new();
    for file in files().iter().filter(|file| file.scenario.starts_with('d')) {
        let Some(trusted) = file.trusted_state.as_ref() else {
            continue;
        };
        let trusted = state(trusted.tx, &trusted.hash.0);
        let same = |call: &&Call| call.phase.starts_with("after") && call.database == file.calls[0].database;
        for call in file.calls.iter().filter(same) {
            let Some(answer) = call.answer().filter(|_| call.method() == "CurrentState") else {
                continue;
            };
            let answer = proto::ImmutableState::decode(answer).unwrap();
            let claimed = State::new(&answer.db, &answer.wire()).unwrap();
            let verdict = match trusted.compare(&claimed) {
                Ok(Progress::Same) => "same",
                Ok(Progress::Ahead) => "ahead",
                Err(reason) => reason.class().as_str(),
            };
            let scenario = file.scenario.split('-').next().unwrap().to_owned();
            *found.entry((scenario, verdict)).or_insert(0) += 1;
        }
    }
    let expected = [
        (("d01", "rollback"), 3),
        (("d02", "ahead"), 3),
        (("d02b", "fork"), 3),
        (("d03", "ahead"), 3),
        (("d04", "same"), 3),
        (("d05", "same"), 3),
        (("d06", "ahead"), 3),
        (("d07b", "ahead"), 1),
        (("d07b", "emptied"), 1),
        (("d09", "same"), 4),
        (("d10", "ahead"), 1),
        (("d10", "same"), 1),
    ];
    let expected = expected.map(|((scenario, verdict), count)| ((scenario.to_owned(), verdict), count));
    assert_eq!(found, BTreeMap::from(expected));
}

#[test]
fn exports_are_what_their_headers_say() {
    let (mut exports, mut entries, mut truncated) = (0, 0, 0);
    for file in files() {
        for call in &file.calls {
            let Some(Verify::Export { tx, alh }) = &call.verify else {
                continue;
            };
            let mut content = Vec::new();
            for chunk in &call.responses_hex {
                content.extend(proto::Chunk::decode(&chunk.0[..]).unwrap().content);
            }
            let layout = match call.layout() {
                Entries::UpTo1_1 => Layout::UpTo1_1,
                Entries::Since1_2 => Layout::Since1_2,
            };
            let mut met = false;
            let mut rest = &content[..];
            while let Some((message, behind)) = split_message(rest) {
                rest = behind;
                let exported = Exported::decode(message, layout).unwrap();
                exported.verify_entries().unwrap();
                met |= exported.header().id() == TxId(*tx) && exported.header().alh() == state(*tx, &alh.0).alh;
                entries += exported.entries().count();
                truncated += usize::from(exported.is_truncated());
                let mut again = Vec::new();
                exported.header().encode(&mut again);
                assert_eq!(TxHeader::decode(&again).as_ref(), Ok(exported.header()));
            }
            assert!(met && rest.is_empty(), "{} {tx}", file.scenario);
            exports += 1;
        }
    }
    assert_eq!((exports, entries > exports, truncated > 0), (161, true, true));
}
