//! Names, ids and text form of the keys that sign notes, whatever their algorithm.
//!
//! Source: C2SP signed-note, "Signatures" and "Verifier keys".

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::text;

/// Longest text of a key: room for the largest algorithm assigned, ML-DSA-44.
pub const MAX_KEY_TEXT: usize = 4096;

/// Why a text or a name is no key of ours. The text itself is not in it: it may be a private key.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
pub enum KeyError {
    /// Not three parts, or not the hex and base64 that they should be.
    #[error("not a verifier key: `name+hex id+base64` is expected")]
    Verifier,
    /// The same for a private key.
    #[error("not a private key: `PRIVATE+KEY+name+hex id+base64` is expected")]
    Private,
    /// Empty, or with a space, a plus or a control character.
    #[error("a key's name must be non-empty, without spaces, `+` and control characters")]
    Name,
    /// More than [`MAX_KEY_TEXT`].
    #[error("longer than {MAX_KEY_TEXT} bytes")]
    Length,
    /// Another algorithm than the one asked for.
    #[error("a key of type {found:#04x} where {expected:#04x} is needed")]
    Kind {
        /// The type that the caller understands.
        expected: u8,
        /// The key's type.
        found: u8,
    },
    /// The id is not that of this name and key: a part of the text was changed.
    #[error("the key's id doesn't belong to its name and bytes")]
    Id,
    /// No point of the curve, or a weak one.
    #[error("not a usable public key")]
    Material,
}

/// Four bytes that tell keys of one name apart. No proof of anything: they are easy to match.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    /// The id that the specification recommends: the first four bytes of
    /// SHA-256 of name, newline, type and public key.
    pub fn new(name: &str, kind: u8, public: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', kind])
            .chain_update(public);
        let hash: [u8; 32] = hash.finalize().into();
        Self([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(hex: &str) -> Result<Self, KeyError> {
        let lower = hex.len() == 8 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = u32::from_str_radix(hex, 16).ok().filter(|_| lower);
        id.map(|id| Self(id.to_be_bytes())).ok_or(KeyError::Verifier)
    }
}

/// A key that checks signatures of notes. One implementation an algorithm:
/// [`Ed25519Verifier`](crate::Ed25519Verifier) is type 0x01; cosignatures
/// (0x04) fit in the same way.
pub trait Verifier {
    /// The name in signature lines.
    fn name(&self) -> &str;

    /// Tells keys of the same name apart.
    fn id(&self) -> KeyId;

    /// Whether `signature`, as it stands behind the key's id in a signature
    /// line, is this key's over the note's text. May be any bytes of any length.
    fn verify(&self, text: &str, signature: &[u8]) -> bool;
}

/// A key that signs notes.
pub trait Signer {
    /// The name in signature lines.
    fn name(&self) -> &str;

    /// Tells keys of the same name apart.
    fn id(&self) -> KeyId;

    /// The signature over a note's text, without the key's id.
    fn sign(&self, text: &str) -> Vec<u8>;
}

/// Checks that a name may stand in a signature line.
///
/// # Errors
/// [`KeyError::Name`].
pub fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c.is_whitespace() || c < ' ' || c == '+';
    if name.is_empty() || name.contains(bad) {
        return Err(KeyError::Name);
    }
    Ok(())
}

/// A verifier key in its text form, `name+id+base64(type ‖ key)`, of any algorithm.
///
/// Whoever implements an algorithm checks the type and, where its
/// specification says how the id is made, the id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vkey {
    pub(crate) name: String,
    pub(crate) id: KeyId,
    pub(crate) kind: u8,
    pub(crate) material: Vec<u8>,
}

impl Vkey {
    /// A key with the id that the specification recommends.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, kind: u8, material: &[u8]) -> Result<Self, KeyError> {
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            id: KeyId::new(name, kind, material),
            kind,
            material: material.to_vec(),
        })
    }

    /// The name in signature lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells keys of the same name apart.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The signature type: 0x01 Ed25519, 0x04 Ed25519 cosignature.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The public key.
    pub fn material(&self) -> &[u8] {
        &self.material
    }

    /// The public key, if the type is `kind` and the id is the recommended one.
    ///
    /// # Errors
    /// [`KeyError::Kind`], [`KeyError::Id`].
    pub fn expect(&self, kind: u8) -> Result<&[u8], KeyError> {
        if self.kind != kind {
            return Err(KeyError::Kind {
                expected: kind,
                found: self.kind,
            });
        }
        if self.id != KeyId::new(&self.name, kind, &self.material) {
            return Err(KeyError::Id);
        }
        Ok(&self.material)
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.kind], self.material.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, self.id, text::to_base64(&bytes))
    }
}

impl FromStr for Vkey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_TEXT {
            return Err(KeyError::Length);
        }
        // Base64 may have a plus too, so only the first two separate.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Verifier);
        };
        check_name(name)?;
        let id = id.parse()?;
        let bytes = text::base64(key).ok_or(KeyError::Verifier)?;
        let (kind, material) = bytes.split_first().ok_or(KeyError::Verifier)?;
        Ok(Self {
            name: name.to_owned(),
            id,
            kind: *kind,
            material: material.to_vec(),
        })
    }
}
