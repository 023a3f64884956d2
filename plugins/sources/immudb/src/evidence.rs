//! What proves to anybody that a server has signed two histories of one database: two states with its signatures, and
//! where they are of different transactions its own proof that the newer one leads elsewhere.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use auditmon_proto::immudb as proto;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use immudb_verify::{Keys, Proven, PublicKey, State, TxHeader, Verified, verify_dual, verify_signature};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::client::wire;
use crate::trusted;
use crate::verdict::Signature;

/// What the file says it is.
const FORMAT: &str = "auditmon immudb evidence 1";
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Evidence {
    pub(crate) format: String,
    /// For people.
    pub(crate) text: String,
    /// Name, address and identity that the server was audited under.
    pub(crate) server: serde_json::Value,
    pub(crate) database: String,
    /// The key of both signatures: an uncompressed point of P-256.
    pub(crate) public_key: String,
    /// The one with fewer transactions first.
    pub(crate) states: [Witnessed; 2],
    /// The server's answer, a message `DualProof` in base64, where the states are of different transactions.
    pub(crate) proof: Option<String>,
    /// Messages `TxHeader` that the proof needs, for servers whose trees lag.
    #[serde(default)]
    pub(crate) headers: Vec<String>,
    pub(crate) found: String,
}

/// A signed state, and the journal of the agent that saw it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Witnessed {
    pub(crate) seen_by: String,
    pub(crate) tx: u64,
    pub(crate) hash: String,
    pub(crate) signature: String,
}

/// What a server gave beside its states: that the newer one leads to another older one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Between {
    /// None where both are of one transaction.
    pub(crate) proof: Option<proto::DualProof>,
    pub(crate) headers: Vec<proto::TxHeader>,
}

impl Between {
    /// The older state that is in the newer one's history.
    ///
    /// # Errors
    /// It is no such proof; a sentence.
    pub(crate) fn older(&self, newer: &State) -> Result<State, String> {
        let Some(proof) = &self.proof else {
            return Ok(*newer);
        };
        let (older, verified) = dual(proof, newer)?;
        if let Verified::NeedsHeaders(pending) = verified {
            let headers = self.headers.iter().map(wire::header);
            pending.verify(headers).map_err(|reason| reason.to_string())?;
        }
        Ok(older)
    }

    /// First and last of the transactions whose headers it needs beside the proof.
    pub(crate) fn needs(&self, newer: &State) -> Option<(u64, u64)> {
        match dual(self.proof.as_ref()?, newer).ok()? {
            (_, Verified::NeedsHeaders(pending)) => {
                let (first, last) = pending.range();
                Some((first.0, last.0))
            }
            (_, Verified::Proven(_)) => None,
        }
    }
}

/// The older state that a proof names, and whether the newer one follows from it.
fn dual(proof: &proto::DualProof, newer: &State) -> Result<(State, Verified<Proven>), String> {
    let source = proof.source_tx_header.as_ref();
    let source = source.ok_or("the proof has no header of the older transaction")?;
    let source = TxHeader::new(&wire::header(source)).map_err(|reason| reason.to_string())?;
    let older = State {
        tx: source.id(),
        alh: source.alh(),
    };
    let verified = verify_dual(&older, newer, &wire::dual_proof(proof));
    verified
        .map(|verified| (older, verified))
        .map_err(|reason| reason.to_string())
}

impl Evidence {
    pub(crate) fn new(
        (text, server, database): (String, serde_json::Value, &str),
        key: &PublicKey,
        states: [(&str, &State, &Signature); 2],
        between: &Between,
        found: String,
    ) -> Self {
        let witnessed = |(seen_by, state, signature): (&str, &State, &Signature)| Witnessed {
            seen_by: seen_by.to_owned(),
            tx: state.tx.0,
            hash: state.alh.0.to_string(),
            signature: hex::encode(&signature.bytes),
        };
        Self {
            format: FORMAT.to_owned(),
            text,
            server,
            database: database.to_owned(),
            public_key: hex::encode(key.to_point()),
            states: states.map(witnessed),
            proof: between
                .proof
                .as_ref()
                .map(|proof| BASE64_STANDARD.encode(proof.encode_to_vec())),
            headers: between
                .headers
                .iter()
                .map(|header| BASE64_STANDARD.encode(header.encode_to_vec()))
                .collect(),
            found,
        }
    }

    /// Looks whether it proves what it says; gives the key.
    ///
    /// # Errors
    /// What is missing, as a sentence.
    pub(crate) fn verify(&self) -> Result<PublicKey, String> {
        if self.format != FORMAT {
            return Err(format!("expected the format `{FORMAT}`"));
        }
        let point = hex::decode(&self.public_key).map_err(|error| format!("public_key: {error}"))?;
        let key = PublicKey::from_point(&point).map_err(|error| format!("public_key: {error}"))?;
        let [older, newer] = &self.states;
        let (older, newer) = (self.signed(older, &key)?, self.signed(newer, &key)?);
        let shown = self.between()?.older(&newer)?;
        if shown.tx != older.tx {
            return Err(format!(
                "the states are of transactions {} and {}, and no proof is about both",
                older.tx, newer.tx
            ));
        }
        if shown.alh == older.alh {
            return Err("both states are of one history".to_owned());
        }
        Ok(key)
    }

    /// A state that is signed as it says.
    fn signed(&self, state: &Witnessed, key: &PublicKey) -> Result<State, String> {
        let wrong = |what: &dyn std::fmt::Display| format!("the state of transaction {}: {what}", state.tx);
        let of = trusted::state(state.tx, &state.hash).ok_or_else(|| wrong(&"expected a hash of 64 digits"))?;
        let (signature, public_key) = (
            hex::decode(&state.signature).map_err(|error| wrong(&error))?,
            key.to_point(),
        );
        let signature = immudb_verify::wire::Signature {
            public_key: &public_key,
            signature: &signature,
        };
        let signed = verify_signature(Keys::Pinned(key), &self.database, &of, Some(&signature));
        signed.map_err(|reason| wrong(&reason))?;
        Ok(of)
    }

    fn between(&self) -> Result<Between, String> {
        let bytes = |text: &String| BASE64_STANDARD.decode(text).map_err(|error| error.to_string());
        let proof = self.proof.as_ref().map(|text| {
            let bytes = bytes(text)?;
            proto::DualProof::decode(&bytes[..]).map_err(|error| error.to_string())
        });
        let headers = self.headers.iter().map(|text| {
            let bytes = bytes(text)?;
            proto::TxHeader::decode(&bytes[..]).map_err(|error| error.to_string())
        });
        let headers: Result<Vec<_>, String> = headers.collect();
        Ok(Between {
            proof: proof.transpose().map_err(|error| format!("proof: {error}"))?,
            headers: headers.map_err(|error| format!("headers: {error}"))?,
        })
    }

    /// Puts it in its place whole, in a file of its own: the same one for the same states. Waits for the disk.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        let [older, newer] = &self.states;
        let what = format!(
            "{}/{}/{}/{}/{}",
            self.public_key, self.database, older.hash, newer.tx, newer.hash
        );
        let name = hex::encode(auditmon_journal::format::source_hash(&what));
        let path = dir.join(format!("split-view-{name}.json"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let beside = path.with_extension("new");
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(path)
    }
}

/// What a file of evidence proves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SplitView {
    /// The database.
    pub database: String,
    /// Transactions and hashes of the two states, the older one first.
    pub states: [(u64, String); 2],
    /// The server's key that signed both, an uncompressed point in hexadecimal digits.
    pub public_key: String,
}

/// Checks a file of evidence; with a `key` in PEM form, that the server's key is this one.
///
/// # Errors
/// Why it proves nothing, as a sentence.
pub fn verify_evidence(path: &Path, key: Option<&str>) -> Result<SplitView, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("can't be read: {error}"))?;
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
    read.map_err(|error| format!("can't be read: {error}"))?;
    if text.len() as u64 > MAX_FILE {
        return Err("is larger than 16 MiB".to_owned());
    }
    let evidence: Evidence = serde_json::from_str(&text).map_err(|error| format!("is no evidence: {error}"))?;
    let signer = evidence.verify()?;
    if let Some(pem) = key {
        let known = PublicKey::from_pem(pem).map_err(|error| format!("the key: {error}"))?;
        if known != signer {
            return Err("both states are signed, but with another key than the one given".to_owned());
        }
    }
    Ok(SplitView {
        states: evidence.states.map(|state| (state.tx, state.hash)),
        database: evidence.database,
        public_key: evidence.public_key,
    })
}

#[cfg(test)]
mod tests;
