//! Why something was rejected.

use thiserror::Error;

use crate::class::Class;
use crate::hash::{TreeSize, TxId};
use crate::part::Part;

/// Why something was rejected: a sentence for people, [`code`](Self::code) for machines.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// A message that must be there isn't.
    #[error("the {part} is missing")]
    Missing {
        /// What.
        part: Part,
    },
    /// A digest has 32 bytes.
    #[error("the {part} has {found} bytes where a digest has 32")]
    DigestLength {
        /// Which.
        part: Part,
        /// Bytes found.
        found: usize,
    },
    /// A kind of header that this verifier doesn't know.
    #[error("the header of transaction {tx} has the unsupported version {version}")]
    HeaderVersion {
        /// Its transaction.
        tx: TxId,
        /// The version.
        version: i32,
    },
    /// A number of entries that no hash covers wholly.
    #[error("the header of transaction {tx} says {nentries} entries, which its version can't hold")]
    Nentries {
        /// Its transaction.
        tx: TxId,
        /// The number.
        nentries: i64,
    },
    /// A header commits to a tree of older transactions only.
    #[error("the header of transaction {tx} commits to a tree of {size} transactions")]
    TreeTooLarge {
        /// Its transaction.
        tx: TxId,
        /// Leaves of the tree.
        size: TreeSize,
    },
    /// Without a tree the field is zero.
    #[error("{part} is not zero although there is no tree")]
    NotZero {
        /// The field.
        part: Part,
    },
    /// Metadata that this version of header can't have.
    #[error("the header of transaction {tx} is of version 0 and has metadata")]
    MetadataVersion {
        /// Its transaction.
        tx: TxId,
    },
    /// `extra` has at most 256 bytes.
    #[error("the header of transaction {tx} has {found} bytes of extra metadata, at most 256 are allowed")]
    ExtraLength {
        /// Its transaction.
        tx: TxId,
        /// Bytes found.
        found: usize,
    },
    /// Metadata of an entry whose digest can't cover it.
    #[error("an entry of a version 0 transaction has metadata")]
    EntryMetadata,
    /// A key longer than its digest can say.
    #[error("a key has {found} bytes, at most 65535 are possible")]
    KeyLength {
        /// Bytes found.
        found: usize,
    },
    /// Another transaction than the one asked for.
    #[error("the {part} is about transaction {found}, asked for was {expected}")]
    OtherTx {
        /// What.
        part: Part,
        /// The transaction asked for.
        expected: TxId,
        /// The transaction answered.
        found: TxId,
    },
    /// A proof from a newer to an older transaction, or from none.
    #[error("there is no proof from transaction {source_tx} to {target_tx}")]
    NotAhead {
        /// The trusted transaction.
        source_tx: TxId,
        /// The claimed one.
        target_tx: TxId,
    },
    /// A header has another Alh than the one trusted or claimed.
    #[error("the {part} of transaction {tx} doesn't hash to the known Alh")]
    HeaderHash {
        /// Which header.
        part: Part,
        /// Its transaction.
        tx: TxId,
    },
    /// The source's tree is larger than the target's: a database written by
    /// 1.0.5 to 1.2.4 can be like this, the walk decides.
    #[error("the tree of the older transaction has {source_size} leaves, that of the newer one {target_size}")]
    TreeShrank {
        /// Leaves of the source's tree.
        source_size: TreeSize,
        /// Leaves of the target's tree.
        target_size: TreeSize,
    },
    /// What is proven decides how many hashes a proof has.
    #[error("the {part} has {found} hashes, it must have {expected}")]
    Length {
        /// Which proof.
        part: Part,
        /// Hashes it must have.
        expected: u64,
        /// Hashes found.
        found: usize,
    },
    /// There is no such leaf.
    #[error("the {part} is about leaf {leaf} of a tree of {size}")]
    Leaf {
        /// Which proof.
        part: Part,
        /// Place of the leaf, from 0.
        leaf: u64,
        /// Leaves of the tree.
        size: TreeSize,
    },
    /// A proof leads to another hash.
    #[error("the {part} doesn't lead to the hash that it should prove")]
    Mismatch {
        /// Which proof.
        part: Part,
    },
    /// Servers before 1.4.1 don't send it; the walk decides.
    #[error("the linear advance proof is absent, {expected} hashes were needed")]
    AdvanceAbsent {
        /// Hashes it should have.
        expected: u64,
    },
    /// The last leaf of the target's tree isn't what the source or the target says.
    #[error("the last leaf of the tree of transaction {target_tx} is not transaction {tx} as known")]
    LastLeaf {
        /// Transaction of the leaf.
        tx: TxId,
        /// Transaction whose tree it is.
        target_tx: TxId,
    },
    /// Headers that should lead to the trusted transaction don't.
    #[error("the headers up to transaction {tx} don't tie the new leaves to the trusted history")]
    SourceChain {
        /// The trusted transaction.
        tx: TxId,
    },
    /// A proof without linear part needs a tree that doesn't lag.
    #[error("the tree of transaction {tx} has {size} leaves: this proof can't show a history that lags")]
    Lags {
        /// The transaction.
        tx: TxId,
        /// Leaves of its tree.
        size: TreeSize,
    },
    /// A returned transaction isn't in the proof.
    #[error("the returned transaction {tx} is neither source nor target of the proof")]
    NotInProof {
        /// The transaction.
        tx: TxId,
    },
    /// The entries aren't those of the transaction.
    #[error("the entries of transaction {tx} don't lead to its eH")]
    Entries {
        /// The transaction.
        tx: TxId,
    },
    /// More or fewer entries than the header says.
    #[error("transaction {tx} has {expected} entries, {found} were returned")]
    EntriesCount {
        /// The transaction.
        tx: TxId,
        /// Entries by its header.
        expected: u32,
        /// Entries returned.
        found: usize,
    },
    /// The answer is about another key.
    #[error("the answer is about another key than the one asked for")]
    OtherKey,
    /// A value has another hash.
    #[error("a value doesn't hash to its entry's hValue")]
    ValueHash,
    /// A value has another length.
    #[error("a value has {found} bytes, its entry says {expected}")]
    ValueLength {
        /// Bytes by the entry.
        expected: i64,
        /// Bytes found.
        found: usize,
    },
    /// A page of headers has a hole, or another order.
    #[error("the next header must be that of transaction {expected}, it is that of {found}")]
    WalkOrder {
        /// The transaction that is next.
        expected: TxId,
        /// The transaction found.
        found: TxId,
    },
    /// A header doesn't follow the one before.
    #[error("the header of transaction {tx} doesn't follow that of the one before")]
    WalkChain {
        /// Its transaction.
        tx: TxId,
    },
    /// A header commits to another tree than the transactions before it form.
    #[error("the header of transaction {tx} commits to another tree of {size} transactions")]
    WalkRoot {
        /// Its transaction.
        tx: TxId,
        /// Leaves of the tree.
        size: TreeSize,
    },
    /// The walk no longer knows the root of so small a tree: start earlier.
    #[error("the header of transaction {tx} commits to a tree of {size} transactions, whose root is not known here")]
    RootUnknown {
        /// Its transaction.
        tx: TxId,
        /// Leaves of the tree.
        size: TreeSize,
    },
    /// The headers don't reach the claimed transaction.
    #[error("the headers end at transaction {found}, the state is at {expected}")]
    WalkEnd {
        /// The claimed transaction.
        expected: TxId,
        /// The last header's.
        found: TxId,
    },
    /// The headers don't lead through a known transaction.
    #[error("the headers lead to another Alh of transaction {tx} than the known one")]
    WalkHash {
        /// The transaction.
        tx: TxId,
    },
    /// The state is of another database.
    #[error("the state is that of another database")]
    OtherDatabase,
    /// An empty database has the hash of nothing.
    #[error("the state has no transaction and the hash of one")]
    EmptyHash,
    /// Fewer transactions than before.
    #[error("the last transaction is {found}, it was {trusted}")]
    Rollback {
        /// The trusted transaction.
        trusted: TxId,
        /// The last one now.
        found: TxId,
    },
    /// No transactions any more.
    #[error("the database has no transactions, it had {trusted}")]
    Emptied {
        /// The trusted transaction.
        trusted: TxId,
    },
    /// Same transaction, other hash.
    #[error("transaction {tx} has another hash than the trusted one")]
    Fork {
        /// The transaction.
        tx: TxId,
    },
    /// A key is configured and nobody signed.
    #[error("the state is not signed, a key is configured")]
    Unsigned,
    /// States used to be signed.
    #[error("the state is not signed, earlier ones were")]
    NoLongerSigned,
    /// The signature isn't ASN.1 DER of two numbers in range, or the key isn't an uncompressed point of P-256.
    #[error("the {part} is not one of ECDSA with P-256")]
    SignatureForm {
        /// Which of both.
        part: Part,
    },
    /// Nobody is known to sign, and a key of another curve than P-256 does.
    #[error("the signature could not be checked: its key is of another curve than P-256, which is not supported")]
    Curve,
    /// Signed by a key that isn't configured.
    #[error("the state is signed by a key that is not configured")]
    KeyNotConfigured,
    /// Signed by another key than before.
    #[error("the state is signed by another key than the pinned one")]
    KeyChanged,
    /// The signature is wrong.
    #[error("the signature is not one of this state by the key that comes with it")]
    BadSignature,
    /// Bytes that no server exports.
    #[error("the exported transaction ends or goes on where it must not")]
    ExportForm,
}

impl Reason {
    /// Stable name, for machines; several reasons of one kind share it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing-part",
            Self::DigestLength { .. } => "digest-length",
            Self::HeaderVersion { .. } => "header-version",
            Self::Nentries { .. } => "nentries",
            Self::TreeTooLarge { .. } => "tree-too-large",
            Self::NotZero { .. } => "not-zero",
            Self::MetadataVersion { .. } => "metadata-version",
            Self::ExtraLength { .. } => "extra-length",
            Self::EntryMetadata => "entry-metadata",
            Self::KeyLength { .. } => "key-length",
            Self::OtherTx { .. } => "other-tx",
            Self::NotAhead { .. } => "not-ahead",
            Self::HeaderHash { .. } => "header-hash",
            Self::TreeShrank { .. } => "tree-shrank",
            Self::Length { .. } => "proof-length",
            Self::Leaf { .. } => "leaf",
            Self::Mismatch { part } => match part {
                Part::InclusionProof => "inclusion",
                Part::ConsistencyProof => "consistency",
                Part::LastInclusionProof => "last-inclusion",
                Part::LinearProof => "linear",
                Part::LinearAdvanceProof => "linear-advance",
                Part::EntryInclusionProof => "entry-inclusion",
                _ => "mismatch",
            },
            Self::AdvanceAbsent { .. } => "advance-proof-absent",
            Self::LastLeaf { .. } => "last-leaf",
            Self::SourceChain { .. } => "source-chain",
            Self::Lags { .. } => "lags",
            Self::NotInProof { .. } => "not-in-proof",
            Self::Entries { .. } => "entries",
            Self::EntriesCount { .. } => "entries-count",
            Self::OtherKey => "other-key",
            Self::ValueHash => "value-hash",
            Self::ValueLength { .. } => "value-length",
            Self::WalkOrder { .. } => "walk-order",
            Self::WalkChain { .. } => "walk-chain",
            Self::WalkRoot { .. } => "walk-root",
            Self::RootUnknown { .. } => "root-unknown",
            Self::WalkEnd { .. } => "walk-end",
            Self::WalkHash { .. } => "walk-hash",
            Self::OtherDatabase => "other-database",
            Self::EmptyHash => "empty-hash",
            Self::Rollback { .. } => "rollback",
            Self::Emptied { .. } => "emptied",
            Self::Fork { .. } => "fork",
            Self::Unsigned => "unsigned",
            Self::NoLongerSigned => "no-longer-signed",
            Self::SignatureForm { .. } => "signature-form",
            Self::Curve => "curve",
            Self::KeyNotConfigured => "key-not-configured",
            Self::KeyChanged => "key-changed",
            Self::BadSignature => "bad-signature",
            Self::ExportForm => "export-form",
        }
    }

    /// What it says about the server.
    pub fn class(&self) -> Class {
        match self {
            Self::HeaderVersion { .. }
            | Self::TreeShrank { .. }
            | Self::AdvanceAbsent { .. }
            | Self::Lags { .. }
            | Self::RootUnknown { .. }
            | Self::Curve => Class::Inconclusive,
            Self::Missing { .. }
            | Self::DigestLength { .. }
            | Self::Nentries { .. }
            | Self::TreeTooLarge { .. }
            | Self::NotZero { .. }
            | Self::MetadataVersion { .. }
            | Self::ExtraLength { .. }
            | Self::EntryMetadata
            | Self::KeyLength { .. }
            | Self::OtherTx { .. }
            | Self::NotAhead { .. }
            | Self::Length { .. }
            | Self::Leaf { .. }
            | Self::NotInProof { .. }
            | Self::OtherKey
            | Self::OtherDatabase
            | Self::EmptyHash
            | Self::ExportForm => Class::Malformed,
            Self::HeaderHash { .. }
            | Self::Mismatch { .. }
            | Self::LastLeaf { .. }
            | Self::SourceChain { .. }
            | Self::Entries { .. }
            | Self::EntriesCount { .. }
            | Self::WalkOrder { .. }
            | Self::WalkChain { .. }
            | Self::WalkRoot { .. }
            | Self::WalkEnd { .. }
            | Self::WalkHash { .. } => Class::Proof,
            Self::Rollback { .. } => Class::Rollback,
            Self::Emptied { .. } => Class::Emptied,
            Self::Fork { .. } => Class::Fork,
            Self::NoLongerSigned | Self::KeyChanged => Class::Identity,
            Self::Unsigned | Self::SignatureForm { .. } | Self::KeyNotConfigured | Self::BadSignature => {
                Class::Signature
            }
            Self::ValueHash | Self::ValueLength { .. } => Class::Value,
        }
    }
}
