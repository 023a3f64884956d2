//! The recorded answers, and what is to be checked of each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use immudb_verify::{Alh, Hash, PublicKey, State, TxId};
use prost::Message;
use serde::{Deserialize, Deserializer};

use crate::check::{Check, Dual};
use crate::proto::{self, Entries};

#[derive(Deserialize)]
pub struct File {
    pub scenario: String,
    pub public_key_pem: Option<String>,
    pub trusted_state: Option<Trusted>,
    pub calls: Vec<Call>,
}

#[derive(Deserialize)]
pub struct Trusted {
    pub tx: u64,
    pub hash: Bytes,
}

#[derive(Deserialize)]
pub struct Call {
    pub version: String,
    pub rpc: String,
    #[serde(default)]
    pub request_hex: Bytes,
    pub response_hex: Option<Bytes>,
    #[serde(default)]
    pub responses_hex: Vec<Bytes>,
    pub grpc_status: Status,
    pub expected: String,
    #[serde(default)]
    pub phase: String,
    #[serde(default)]
    pub database: String,
    #[serde(default)]
    pub note: String,
    pub verify: Option<Verify>,
}

#[derive(Deserialize)]
pub struct Status {
    pub code: i32,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verify {
    DualProof(Pair),
    DualProofV2(Pair),
    VerifiableGet {
        trusted_tx: u64,
        trusted_hash: Option<Bytes>,
        key_hex: Bytes,
        at_tx: u64,
    },
    ProofSignature {
        db: String,
        signed_tx: u64,
        signed_hash: Bytes,
    },
    Entries {
        alh: Bytes,
    },
    Export {
        tx: u64,
        alh: Bytes,
    },
}

#[derive(Deserialize)]
pub struct Pair {
    trusted_tx: u64,
    trusted_hash: Bytes,
    claimed_tx: u64,
    claimed_hash: Bytes,
}

#[derive(Clone, Default)]
pub struct Bytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(from)?.unwrap_or_default();
        hex::decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

pub fn state(tx: u64, hash: &[u8]) -> State {
    State {
        tx: TxId(tx),
        alh: Alh(Hash::from(<[u8; 32]>::try_from(hash).unwrap())),
    }
}

impl Pair {
    fn states(&self) -> (State, State) {
        (
            state(self.trusted_tx, &self.trusted_hash.0),
            state(self.claimed_tx, &self.claimed_hash.0),
        )
    }
}

/// Every recorded file, by name.
pub fn files() -> Vec<File> {
    let mut folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.push("../../../../tests/fixtures/immudb-vectors");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 101);
    paths
        .iter()
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
}

impl File {
    pub fn key(&self) -> Option<PublicKey> {
        self.public_key_pem
            .as_deref()
            .map(|pem| PublicKey::from_pem(pem).unwrap())
    }
}

impl Call {
    pub fn method(&self) -> &str {
        self.rpc.rsplit('/').next().unwrap()
    }

    /// The answer, if the server gave one.
    pub fn answer(&self) -> Option<&[u8]> {
        let answer = self.response_hex.as_ref().map(|bytes| &bytes.0[..]);
        answer.filter(|_| self.grpc_status.code == 0)
    }

    pub fn layout(&self) -> Entries {
        match &self.version[..3] {
            "1.0" | "1.1" if !self.version.starts_with("1.10") && !self.version.starts_with("1.11") => Entries::UpTo1_1,
            _ => Entries::Since1_2,
        }
    }

    /// Whether this server leaves entries out when asked to.
    pub fn has_entries_spec(&self) -> bool {
        self.layout() == Entries::Since1_2
    }

    /// The database and the key that signed this proof, if one did.
    fn signer(&self, answer: &[u8]) -> Option<(String, PublicKey)> {
        let signature = proto::VerifiableTx::decode(answer).unwrap().signature?;
        let db = if self.database.is_empty() {
            "defaultdb"
        } else {
            &self.database
        };
        Some((db.to_owned(), PublicKey::from_point(&signature.public_key).unwrap()))
    }

    /// What is to be checked of the answer by its `verify` member.
    pub fn check(&self, file: &File, headers: &BTreeMap<u64, proto::TxHeader>) -> Option<Check> {
        let answer = self.answer()?;
        let layout = self.layout();
        let all_entries = !self.has_entries_spec();
        Some(match self.verify.as_ref()? {
            Verify::DualProof(pair) => {
                let request = proto::VerifiableTxRequest::decode(&self.request_hex.0[..]).unwrap();
                let (trusted, claimed) = pair.states();
                Check::Dual(Dual {
                    trusted,
                    claimed,
                    tx: TxId(request.tx),
                    layout,
                    all_entries,
                    headers: headers.clone(),
                    signed: self.signer(answer),
                })
            }
            Verify::ProofSignature {
                db,
                signed_tx,
                signed_hash,
            } => {
                let request = proto::VerifiableTxRequest::decode(&self.request_hex.0[..]).unwrap();
                let proof = proto::VerifiableTx::decode(answer).unwrap().dual_proof.unwrap();
                let source = immudb_verify::TxHeader::new(&proof.source.as_ref().unwrap().wire()).unwrap();
                Check::Dual(Dual {
                    trusted: State {
                        tx: source.id(),
                        alh: source.alh(),
                    },
                    claimed: state(*signed_tx, &signed_hash.0),
                    tx: TxId(request.tx),
                    layout,
                    all_entries,
                    headers: headers.clone(),
                    signed: Some((db.clone(), file.key().unwrap())),
                })
            }
            Verify::DualProofV2(pair) => {
                let (trusted, claimed) = pair.states();
                Check::DualV2 { trusted, claimed }
            }
            Verify::VerifiableGet {
                trusted_tx,
                trusted_hash,
                key_hex,
                at_tx,
            } => Check::Get {
                trusted: (*trusted_tx > 0).then(|| state(*trusted_tx, &trusted_hash.as_ref().unwrap().0)),
                key: key_hex.0.clone(),
                at: (*at_tx > 0).then_some(TxId(*at_tx)),
                layout,
            },
            Verify::Entries { alh } => Check::Tx {
                alh: state(1, &alh.0).alh,
                layout,
            },
            Verify::Export { .. } => return None,
        })
    }

    /// The bytes that a check takes: for documents the message inside the answer.
    pub fn checked_bytes(&self) -> Vec<u8> {
        let answer = self.answer().unwrap();
        match self.verify {
            Some(Verify::DualProofV2(_)) => proto::ProofDocument::decode(answer).unwrap().verifiable_tx,
            _ => answer.to_vec(),
        }
    }
}

/// Headers that rule 11 may need: those of the file's pages, by their number.
/// Only where the file has one history.
pub fn headers(file: &File) -> BTreeMap<u64, proto::TxHeader> {
    let mut headers = BTreeMap::new();
    if !file.scenario.starts_with("p05") {
        return headers;
    }
    for call in file.calls.iter().filter(|call| call.method() == "TxScan") {
        let Some(answer) = call.answer() else { continue };
        for tx in proto::TxList::decode(answer).unwrap().txs {
            let header = tx.header.unwrap();
            headers.insert(header.id, header);
        }
    }
    headers
}
