//! The server of our own proves as real ones do: held against their recorded answers.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use serde_json::Value;

use crate::fake::{Reply, verifiable};
use crate::naive::{Database, sha};
use crate::proto;

/// The history that headers are of; `None` if some are missing, or have what is not made up here.
fn database(headers: &BTreeMap<u64, proto::TxHeader>) -> Option<Database> {
    let mut data = Database::default();
    for (at, header) in headers.values().enumerate() {
        if header.id != at as u64 + 1 || header.metadata.is_some() {
            return None;
        }
        let start = match header.version {
            0 => [&[0, 0], &(header.nentries as u16).to_be_bytes()[..]].concat(),
            _ => [&[0, 1, 0, 0], &header.nentries.to_be_bytes()[..]].concat(),
        };
        let tree = [&header.eh[..], &header.bl_tx_id.to_be_bytes(), &header.bl_root].concat();
        let inner = sha(&[&header.ts.to_be_bytes(), &start, &tree]);
        data.alhs
            .push(sha(&[&header.id.to_be_bytes(), &header.prev_alh, &inner]));
        data.inner.push(inner);
        data.headers.push(header.clone());
    }
    Some(data)
}

/// Recorded proofs, also of histories whose trees lag; where the headers of all of their history are; and how many proofs
/// there are.
const RECORDED: [(&str, &str, usize); 14] = [
    ("p04-dualproof-1.0.0", "walk-1.0.0", 26),
    ("p04-dualproof-1.0.5", "walk-1.0.5", 26),
    ("p04-dualproof-1.1.0", "walk-1.1.0", 151),
    ("p04-dualproof-1.2.4", "walk-1.2.4", 26),
    ("p04-dualproof-1.4.1", "walk-1.4.1", 26),
    ("p04-dualproof-1.5.0", "walk-1.5.0", 26),
    ("p04-dualproof-1.10.0", "walk-1.10.0", 26),
    ("p04-dualproof-1.11.1", "walk-1.11.1", 433),
    (
        "p05-lag-written-1.0.5-served-1.0.5",
        "p05-lag-written-1.0.5-served-1.0.5",
        102,
    ),
    (
        "p05-lag-written-1.0.5-served-1.4.1",
        "p05-lag-written-1.0.5-served-1.4.1",
        66,
    ),
    (
        "p05-lag-written-1.0.5-served-1.11.1",
        "p05-lag-written-1.0.5-served-1.11.1",
        85,
    ),
    (
        "p05-lag-written-1.2.4-served-1.2.4",
        "p05-lag-written-1.2.4-served-1.2.4",
        114,
    ),
    (
        "p05-lag-written-1.2.4-served-1.4.1",
        "p05-lag-written-1.2.4-served-1.4.1",
        62,
    ),
    (
        "p05-lag-written-1.2.4-served-1.11.1",
        "p05-lag-written-1.2.4-served-1.11.1",
        60,
    ),
];

/// Requests and answers of a call in a file.
fn recorded<M: prost::Message + Default>(name: &str, call: &str) -> Vec<(Vec<u8>, M)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/immudb-vectors");
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let bytes = |call: &Value, key: &str| hex::decode(call[key].as_str()?).ok();
    let calls = file["calls"].as_array().unwrap().iter();
    let calls = calls.filter(|one| one["rpc"].as_str().unwrap().ends_with(&format!("/{call}")));
    let answers = calls.filter_map(|one| {
        let answer = M::decode(&bytes(one, "response_hex")?[..]).unwrap();
        Some((bytes(one, "request_hex")?, answer))
    });
    answers.collect()
}

/// Since 1.5 some headers have empty metadata, which is the same as none.
fn plain(header: &mut proto::TxHeader) {
    header
        .metadata
        .take_if(|metadata| *metadata == proto::TxMetadata::default());
}

#[test]
fn proofs_are_those_of_real_servers() {
    for (proofs, walk, wanted) in RECORDED {
        let mut headers = BTreeMap::new();
        for (_, page) in recorded::<proto::TxList>(walk, "TxScan") {
            for mut header in page.txs.into_iter().filter_map(|tx| tx.header) {
                plain(&mut header);
                headers.insert(header.id, header);
            }
        }
        let data = database(&headers).unwrap_or_else(|| panic!("{walk} has not all headers"));
        // Servers before 1.4.1 don't have it.
        let without_advance = ["1.0.5", "1.2.4"]
            .iter()
            .any(|by| proofs.ends_with(&format!("served-{by}")));
        let mut compared = 0;
        for (request, expected) in recorded::<proto::VerifiableTx>(proofs, "VerifiableTxById") {
            let Some(mut expected) = expected.dual_proof else {
                continue;
            };
            for header in [&mut expected.source, &mut expected.target].into_iter().flatten() {
                plain(header);
            }
            let Reply::Answer(answer) = verifiable(&data, "defaultdb", None, &request) else {
                panic!("{proofs}: refused");
            };
            let answer = proto::VerifiableTx::decode(&answer[..]).unwrap();
            let mut proof = answer.dual_proof.unwrap();
            if without_advance {
                proof.advance = None;
            }
            assert_eq!(proof, expected, "{proofs}");
            compared += 1;
        }
        assert_eq!(compared, wanted, "{proofs}");
    }
}
