//! Hashes, and the types that keep one kind from standing where another should.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::part::Part;
use crate::reason::Reason;

/// SHA-256 of nothing: the state of a database without transactions, what the
/// first transaction follows, and the root of a transaction without entries.
pub const EMPTY: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// 32 zero bytes: what stands where there is no tree yet.
pub(crate) const ZERO: Hash = Hash([0; 32]);

/// A SHA-256 hash. Shown in lower-case hex.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// SHA-256 of several pieces, one after the other.
    pub(crate) fn of_parts(parts: &[&[u8]]) -> Self {
        let mut sha = Sha256::new();
        parts.iter().for_each(|part| sha.update(part));
        Self(sha.finalize().into())
    }

    /// A received digest: exactly 32 bytes, neither padded nor cut.
    pub(crate) fn received(part: Part, bytes: &[u8]) -> Result<Self, Reason> {
        let found = bytes.len();
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| Reason::DigestLength { part, found })
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Hash of a transaction and, through the one before it, of all before it
/// ("accumulated linear hash").
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Alh(pub Hash);

impl Alh {
    /// What the first transaction follows.
    pub const FIRST: Self = Self(EMPTY);

    /// The Alh of transaction `id` with this inner hash, after the one with Alh `self`.
    pub fn then(&self, id: TxId, inner: &Hash) -> Self {
        let mut input = [0; 72];
        input[..8].copy_from_slice(&id.0.to_be_bytes());
        input[8..40].copy_from_slice(self.0.as_bytes());
        input[40..].copy_from_slice(inner.as_bytes());
        Self(Hash::of(&input))
    }

    /// Its leaf in the transaction tree.
    pub fn leaf(&self) -> Hash {
        leaf_hash(&self.0)
    }
}

impl fmt::Display for Alh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digest of an entry: of its key, its value's hash and its metadata.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EntryDigest(pub Hash);

impl EntryDigest {
    /// Its leaf in the tree of its transaction's entries.
    pub fn leaf(&self) -> Hash {
        leaf_hash(&self.0)
    }
}

/// Number of a transaction, from 1; 0 says that there is none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TxId(pub u64);

impl TxId {
    /// Its leaf in the transaction tree; that of 0 is in no tree.
    pub fn leaf(self) -> LeafIndex {
        LeafIndex(self.0.wrapping_sub(1))
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Place of a leaf in its tree, from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeafIndex(pub u64);

/// Number of leaves of a tree.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TreeSize(pub u64);

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hash of a leaf of either tree: SHA-256 of `0x00 ‖ digest`.
pub fn leaf_hash(digest: &Hash) -> Hash {
    let mut input = [0; 33];
    input[1..].copy_from_slice(&digest.0);
    Hash::of(&input)
}

/// Hash of the node above two others: SHA-256 of `0x01 ‖ left ‖ right`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One update is cheaper than three.
    let mut input = [1; 65];
    input[1..33].copy_from_slice(&left.0);
    input[33..].copy_from_slice(&right.0);
    Hash::of(&input)
}
