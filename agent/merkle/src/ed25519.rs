//! Ed25519 signatures over a note's text: type 0x01, what logs sign with.
//!
//! Source: C2SP signed-note, "Ed25519 signatures"; the text of private keys is
//! that of Go's `golang.org/x/mod/sumdb/note`.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::key::{KeyError, KeyId, MAX_KEY_TEXT, Signer, Verifier, Vkey, check_name};
use crate::text;

/// The signature type.
pub const ED25519: u8 = 0x01;

/// Bytes of a private key's seed.
const SEED: usize = 32;

/// A public key that checks a log's signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ed25519Verifier {
    name: String,
    id: KeyId,
    key: VerifyingKey,
}

impl Ed25519Verifier {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// A name that can't be, no point of the curve, or a weak one.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, KeyError> {
        Self::try_from(&Vkey::new(name, ED25519, key)?)
    }

    /// The key in its text form.
    pub fn vkey(&self) -> Vkey {
        Vkey {
            name: self.name.clone(),
            id: self.id,
            kind: ED25519,
            material: self.key.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<&Vkey> for Ed25519Verifier {
    type Error = KeyError;

    fn try_from(vkey: &Vkey) -> Result<Self, KeyError> {
        let key = vkey.expect(ED25519)?.try_into().map_err(|_| KeyError::Material)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| KeyError::Material)?;
        // Under a weak key one signature fits many texts.
        if key.is_weak() {
            return Err(KeyError::Material);
        }
        Ok(Self {
            name: vkey.name().to_owned(),
            id: vkey.id(),
            key,
        })
    }
}

impl FromStr for Ed25519Verifier {
    type Err = KeyError;

    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        Self::try_from(&vkey.parse()?)
    }
}

impl fmt::Display for Ed25519Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vkey().fmt(f)
    }
}

impl Verifier for Ed25519Verifier {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> KeyId {
        self.id
    }

    fn verify(&self, text: &str, signature: &[u8]) -> bool {
        // Strict: no other bytes are a signature of the same text.
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(text.as_bytes(), &signature).is_ok())
    }
}

/// A private key that signs as a log. Wiped when dropped, and never shown by `Debug`.
#[derive(Clone)]
pub struct Ed25519Signer {
    name: String,
    id: KeyId,
    key: SigningKey,
}

impl Ed25519Signer {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn generate<R: CryptoRng + ?Sized>(name: &str, random: &mut R) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; SEED]);
        random.fill_bytes(seed.as_mut_slice());
        Self::from_seed(name, &seed)
    }

    /// A key from its 32 secret bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; SEED]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = SigningKey::from_bytes(seed);
        Ok(Self {
            name: name.to_owned(),
            id: KeyId::new(name, ED25519, key.verifying_key().as_bytes()),
            key,
        })
    }

    /// The same key under another name, as a new generation of a journal needs it.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn renamed(&self, name: &str) -> Result<Self, KeyError> {
        Self::from_seed(name, self.key.as_bytes())
    }

    /// Reads `PRIVATE+KEY+name+id+base64(type ‖ seed)`.
    ///
    /// # Errors
    /// Not in that form, another type, or an id that doesn't belong to the key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_TEXT {
            return Err(KeyError::Length);
        }
        let mut parts = text
            .strip_prefix("PRIVATE+KEY+")
            .ok_or(KeyError::Private)?
            .splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Private);
        };
        let id: KeyId = id.parse().map_err(|_| KeyError::Private)?;
        let bytes = Zeroizing::new(text::base64(key).ok_or(KeyError::Private)?);
        let (kind, seed) = bytes.split_first().ok_or(KeyError::Private)?;
        if *kind != ED25519 {
            return Err(KeyError::Kind {
                expected: ED25519,
                found: *kind,
            });
        }
        let signer = Self::from_seed(name, seed.try_into().map_err(|_| KeyError::Private)?)?;
        if signer.id == id { Ok(signer) } else { Err(KeyError::Id) }
    }

    /// The secret text that [`parse`](Self::parse) reads. Wiped when dropped.
    pub fn private_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ED25519; 1 + SEED]);
        bytes[1..].copy_from_slice(self.key.as_bytes());
        let key = Zeroizing::new(text::to_base64(bytes.as_slice()));
        Zeroizing::new(format!("PRIVATE+KEY+{}+{}+{}", self.name, self.id, *key))
    }

    /// The public half.
    pub fn verifier(&self) -> Ed25519Verifier {
        Ed25519Verifier {
            name: self.name.clone(),
            id: self.id,
            key: self.key.verifying_key(),
        }
    }
}

impl Signer for Ed25519Signer {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> KeyId {
        self.id
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        self.key.sign(text.as_bytes()).to_bytes().to_vec()
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Signer({}+{})", self.name, self.id)
    }
}
