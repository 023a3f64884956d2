//! Files of proofs, checked with a key and nothing else.

use auditmon_merkle::{Ed25519Verifier, EventProof, Verifier as _, event_proof};
use serde::Serialize;

use crate::files::number_in;
use crate::keys::material;
use crate::report::CouldNot;

/// What one proof of a file proves, or why it doesn't.
#[derive(Clone, Debug, Serialize)]
pub struct Proven {
    /// Its number in the file, from 1.
    pub number: usize,
    /// The journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The event's number there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When the agent received it, in ns since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_ns: Option<u64>,
    /// Canonical bytes of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What is wrong; then nothing is proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Checks all proofs of a file with the journal's verifier key.
///
/// # Errors
/// The key is none.
pub fn check_proofs(text: &str, key: &str) -> Result<Vec<Proven>, CouldNot> {
    let key: Ed25519Verifier = key.trim().parse().map_err(|error| CouldNot::new("--key", error))?;
    let check = |(at, text): (usize, &str)| {
        let mut proven = Proven {
            number: at + 1,
            origin: None,
            seq: None,
            received_ns: None,
            event: None,
            fault: None,
        };
        let parsed = EventProof::parse(text);
        // One key signs all generations of a journal, under the name of each.
        let renamed = parsed.as_ref().ok().and_then(|proof| in_its_generation(&key, proof));
        let key = renamed.as_ref().unwrap_or(&key);
        let checked = parsed
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|proof| proof.verify(&[key]));
        match checked {
            Ok(event) => {
                proven.origin = Some(event.checkpoint.origin().to_owned());
                proven.seq = Some(event.seq);
                proven.received_ns = Some(event.received_ns);
                proven.event = Some(event.event.to_owned());
            }
            Err(error) => proven.fault = Some(with_sources(&error)),
        }
        proven
    };
    Ok(event_proof::split(text).enumerate().map(check).collect())
}

/// The key under the name of the generation that a proof is of, if that is another one of the same journal.
fn in_its_generation(key: &Ed25519Verifier, proof: &EventProof) -> Option<Ed25519Verifier> {
    let origin = proof.tlog_proof().note().lines().next()?;
    number_in(origin, key.name())?;
    Ed25519Verifier::new(origin, &material(key)?).ok()
}

/// An error with what it comes from.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
