//! Whom a message is from: it carries the newest checkpoint of its sender's journal, which only the journal's key signs.
//!
//! A checkpoint is no secret and says nothing of the message: who got hold of one can pretend to be its journal. He then
//! learns states of servers that he can name, and can say what he likes, of which only what a server has signed counts.

use auditmon_merkle::{Checkpoint, Ed25519Verifier};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Longest checkpoint that is read, in bytes: those of ours have about 300.
const MAX_CHECKPOINT: usize = 16 << 10;
/// What stands between a journal's name and the number of its generation.
const GENERATION: &str = "/gen/";

/// A journal, whatever generation it is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    /// Its origin without the generation.
    name: String,
    key: [u8; 32],
}

impl Identity {
    /// Reads a verifier key.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn parse(vkey: &str) -> Result<Self, String> {
        let expected = "expected the verifier key that `auditmon keys log` prints there";
        let key = vkey.trim().parse::<Ed25519Verifier>();
        let vkey = key.map_err(|error| format!("{expected}: {error}"))?.vkey();
        Ok(Self {
            name: journal(vkey.name()).to_owned(),
            key: vkey.material().try_into().map_err(|_| expected.to_owned())?,
        })
    }

    /// The journal's name, for people and in metrics.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this journal's key signed a checkpoint of it.
    pub(crate) fn signed(&self, note: &str) -> bool {
        let origin = note.lines().next().unwrap_or_default();
        // The key has the name of the generation that it signs for.
        let key = Ed25519Verifier::new(origin, &self.key)
            .ok()
            .filter(|_| journal(origin) == self.name);
        key.is_some_and(|key| Checkpoint::open(note, &[&key]).is_ok())
    }
}

/// A journal's origin without its generation.
fn journal(origin: &str) -> &str {
    match origin.rsplit_once(GENERATION) {
        Some((journal, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => journal,
        _ => origin,
    }
}

/// A checkpoint as a header has it.
pub(crate) fn header(note: &str) -> String {
    BASE64_STANDARD.encode(note)
}

/// The checkpoint of a header.
pub(crate) fn note(header: &[u8]) -> Option<String> {
    if header.len() > MAX_CHECKPOINT {
        return None;
    }
    String::from_utf8(BASE64_STANDARD.decode(header).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use auditmon_merkle::{Ed25519Signer, Signer, Tiler, leaf_hash};

    use super::*;

    fn key(seed: u8, name: &str) -> Ed25519Signer {
        Ed25519Signer::from_seed(name, &[seed; 32]).unwrap()
    }

    fn checkpoint(origin: &str, keys: &[&dyn Signer]) -> String {
        let mut tree = Tiler::new();
        tree.push(leaf_hash(b"x")).unwrap();
        Checkpoint::new(origin, tree.head()).unwrap().sign(keys).unwrap()
    }

    #[test]
    fn checkpoints_of_all_generations_and_of_nobody_else() {
        let (one, two) = (key(1, "b/00"), key(2, "b/00"));
        let second = key(1, "b/00/gen/2");
        let identity = Identity::parse(&one.verifier().to_string()).unwrap();
        assert_eq!(identity.name(), "b/00");
        assert_eq!(Identity::parse(&second.verifier().to_string()).unwrap(), identity);
        assert!(identity.signed(&checkpoint("b/00", &[&one])));
        assert!(identity.signed(&checkpoint("b/00/gen/2", &[&second])));
        // While its key is changed both sign.
        assert!(identity.signed(&checkpoint("b/00", &[&two, &one])));
        let other = key(1, "c/00");
        for foreign in [
            checkpoint("b/00", &[&two]),
            checkpoint("c/00", &[&other]),
            checkpoint("b/00", &[&one]).replace("\n1\n", "\n2\n"),
            "b/00\n".to_owned(),
            String::new(),
        ] {
            assert!(!identity.signed(&foreign), "{foreign}");
        }
        let note = checkpoint("b/00", &[&one]);
        assert_eq!(super::note(header(&note).as_bytes()), Some(note));
        assert_eq!(super::note(&[b'A'; MAX_CHECKPOINT + 4]), None);
        assert_eq!(super::note(b"\xff"), None);
    }

    #[test]
    fn what_is_no_key_is_told_without_it() {
        let error = Identity::parse("T0P5ECRET").unwrap_err();
        assert!(
            error.contains("auditmon keys log") && !error.contains("T0P5ECRET"),
            "{error}"
        );
    }
}
