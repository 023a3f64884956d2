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

#[test]
fn proofs_are_those_of_real_servers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/immudb-vectors");
    let (mut compared, mut versions) = (0, 0);
    for version in ["1.0.0", "1.1.0", "1.4.1", "1.5.0", "1.10.0", "1.11.1"] {
        let text = std::fs::read_to_string(folder.join(format!("p04-dualproof-{version}.json"))).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let bytes = |call: &Value, key: &str| hex::decode(call[key].as_str()?).ok();
        let calls: Vec<(Vec<u8>, proto::DualProof)> = file["calls"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|call| {
                let answer = proto::VerifiableTx::decode(&bytes(call, "response_hex")?[..]).unwrap();
                let mut proof = answer.dual_proof?;
                // Since 1.5 some headers have empty metadata, which is the same as none.
                for header in [&mut proof.source, &mut proof.target].into_iter().flatten() {
                    header
                        .metadata
                        .take_if(|metadata| *metadata == proto::TxMetadata::default());
                }
                Some((bytes(call, "request_hex")?, proof))
            })
            .collect();
        let headers = calls
            .iter()
            .flat_map(|(_, proof)| [&proof.source, &proof.target])
            .flatten();
        let headers = headers.map(|header| (header.id, header.clone())).collect();
        let Some(data) = database(&headers) else { continue };
        versions += 1;
        for (request, expected) in calls {
            let Reply::Answer(answer) = verifiable(&data, "defaultdb", None, &request) else {
                panic!("{version}: refused");
            };
            let answer = proto::VerifiableTx::decode(&answer[..]).unwrap();
            assert_eq!(answer.dual_proof.unwrap(), expected, "{version}");
            compared += 1;
        }
    }
    assert!(
        versions > 0 && compared > 400,
        "{compared} proofs of {versions} versions"
    );
}
