//! Signatures of states: ECDSA with P-256 and SHA-256.

use std::fmt;

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use thiserror::Error;

use crate::part::Part;
use crate::reason::Reason;
use crate::state::State;
use crate::wire;

/// Bytes of an uncompressed point: `04 ‖ x ‖ y`.
pub const POINT: usize = 65;

/// Most bytes of a key file.
pub const MAX_PEM: usize = 64 << 10;

const BEGIN: &str = "-----BEGIN ";
const LABEL: &str = "PUBLIC KEY";
const DASHES: &str = "-----";

/// A key of P-256 that states are signed with.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct PublicKey(VerifyingKey);

/// Lengths of uncompressed points of other curves that servers can sign with: P-224, P-384, P-521.
const OTHERS: [usize; 3] = [57, 97, 133];

/// Why a key can't be used.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum KeyError {
    /// There is no PEM block.
    #[error("no PEM block found, a key begins with -----BEGIN PUBLIC KEY-----")]
    NoPem,
    /// The first PEM block is another.
    #[error("the first PEM block is not a PUBLIC KEY (make one with `openssl ec -pubout`)")]
    OtherBlock,
    /// More than [`MAX_PEM`] bytes.
    #[error("a file of {found} bytes is no public key")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Not base64 of a key, or a key of another algorithm or curve.
    #[error(
        "the PEM block is not an EC public key of the curve P-256 (prime256v1), the only one whose signatures can be \
         checked"
    )]
    NotP256,
    /// Not 65 bytes that begin with 04, or no point of the curve.
    #[error("not an uncompressed point of P-256")]
    NotAPoint,
}

impl PublicKey {
    /// Reads a key file: the first PEM block, `PUBLIC KEY`.
    ///
    /// # Errors
    /// It holds no such key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let found = text.len();
        if found > MAX_PEM {
            return Err(KeyError::TooLong { found });
        }
        // What stands around the block is no part of it.
        let block = &text[text.find(BEGIN).ok_or(KeyError::NoPem)?..];
        let label = block[BEGIN.len()..].split(DASHES).next();
        if label != Some(LABEL) {
            return Err(KeyError::OtherBlock);
        }
        let end = format!("{DASHES}END {LABEL}{DASHES}");
        let length = block.find(&end).ok_or(KeyError::NoPem)? + end.len();
        VerifyingKey::from_public_key_pem(&block[..length])
            .map(Self)
            .map_err(|_| KeyError::NotP256)
    }

    /// Reads an uncompressed point, as it comes with a signature.
    ///
    /// # Errors
    /// It is none of P-256.
    pub fn from_point(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != POINT || bytes.first() != Some(&4) {
            return Err(KeyError::NotAPoint);
        }
        VerifyingKey::from_sec1_bytes(bytes)
            .map(Self)
            .map_err(|_| KeyError::NotAPoint)
    }

    /// The uncompressed point, [`POINT`] bytes: what a pinned key is stored as.
    pub fn to_point(&self) -> Vec<u8> {
        self.0.to_sec1_point(false).as_bytes().to_vec()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.to_point().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Which keys may sign.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'a> {
    /// These, and a state must be signed. Several, so that a key can be changed.
    Configured(&'a [PublicKey]),
    /// The one that was seen first. A state must be signed.
    Pinned(&'a PublicKey),
    /// Any: no key is configured and none was ever seen.
    Unknown,
}

/// Who signed a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signed {
    /// A configured or pinned key.
    By(PublicKey),
    /// A key that nobody vouches for: to be pinned.
    FirstSeen(PublicKey),
    /// Nobody.
    Unsigned,
}

/// The bytes that are signed for a state.
pub fn signed_bytes(db: &str, state: &State) -> Vec<u8> {
    let length = u32::try_from(db.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(4 + db.len() + 8 + 32);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(db.as_bytes());
    bytes.extend_from_slice(&state.tx.0.to_be_bytes());
    bytes.extend_from_slice(state.alh.0.as_bytes());
    bytes
}

/// Checks who signed a state of the database `db`: that of `CurrentState`, or
/// a proof's target.
///
/// The key that comes with a signature must be the key that made it. It says
/// neither which server signed nor when.
///
/// # Errors
/// Unsigned although keys are known; signed by another; signature or key that
/// is none, or a signature of something else. A key of another curve where
/// none is known can't be judged.
pub fn verify_signature(
    keys: Keys<'_>,
    db: &str,
    state: &State,
    signature: Option<&wire::Signature<'_>>,
) -> Result<Signed, Reason> {
    let Some(received) = signature else {
        return match keys {
            Keys::Configured(_) => Err(Reason::Unsigned),
            Keys::Pinned(_) => Err(Reason::NoLongerSigned),
            Keys::Unknown => Ok(Signed::Unsigned),
        };
    };
    let form = |part| Reason::SignatureForm { part };
    let point = received.public_key;
    if OTHERS.contains(&point.len()) && point.first() == Some(&4) {
        return Err(match keys {
            Keys::Configured(_) => Reason::KeyNotConfigured,
            // Those of P-256 have another.
            Keys::Pinned(_) => Reason::KeyChanged,
            Keys::Unknown => Reason::Curve,
        });
    }
    let key = PublicKey::from_point(received.public_key).map_err(|_| form(Part::PublicKey))?;
    let signature = Signature::from_der(received.signature).map_err(|_| form(Part::Signature))?;
    let signed = match keys {
        Keys::Configured(known) if known.contains(&key) => Signed::By(key),
        Keys::Configured(_) => return Err(Reason::KeyNotConfigured),
        Keys::Pinned(pinned) if *pinned == key => Signed::By(key),
        Keys::Pinned(_) | Keys::Unknown => Signed::FirstSeen(key),
    };
    key.0
        .verify(&signed_bytes(db, state), &signature)
        .map_err(|_| Reason::BadSignature)?;
    match (keys, signed) {
        // A valid signature, so the server has another key.
        (Keys::Pinned(_), Signed::FirstSeen(_)) => Err(Reason::KeyChanged),
        _ => Ok(signed),
    }
}
