//! immudb's hashes, proofs and signatures, checked from outside.
//!
//! An immudb server keeps, for each database, a chain of transactions and a
//! Merkle tree over it, and proves on request that one state follows from
//! another. This crate judges such proofs, for servers 1.0 to 1.11. Pure: no
//! I/O, no clock, no task; no answer makes it panic, and it allocates no more
//! than a small multiple of the answer's size.
//!
//! Answers come in the types of [`wire`], which mirror immudb's messages and
//! borrow from whatever decoded them. Every function gives what is proven, or
//! a [`Reason`] with a [code](Reason::code) and a [class](Reason::class); what
//! is inconclusive is no tampering, and proves nothing.
//!
//! | module | what it holds |
//! |---|---|
//! | `hash` | [`Hash`](struct@Hash), [`Alh`], [`EntryDigest`], [`TxId`], [`LeafIndex`], [`TreeSize`], [`leaf_hash`], [`node_hash`] |
//! | `reason`, `class`, `part` | [`Reason`], [`Class`], [`Part`] |
//! | [`wire`] | answers as they arrived |
//! | `header` | [`TxHeader`], [`HeaderVersion`]; `metadata`: [`TxMetadata`], bytes of [`wire::KvMetadata`] |
//! | `state` | [`State`], [`Progress`]: rollback, emptied, fork |
//! | `merkle` | [`verify_inclusion`], [`verify_consistency`], [`verify_last`], [`path_length`] |
//! | `linear` | [`verify_linear`], [`verify_linear_advance`] |
//! | `dual` | [`verify_dual`], [`Verified`], [`Proven`], [`Pending`]; `dual_v2`: [`verify_dual_v2`] |
//! | `tree` | [`Tree`]: append and root |
//! | `walk` | [`Walk`], [`Snapshot`]: every header from one state to another |
//! | `back` | [`Back`]: headers from a known state towards the first transaction |
//! | `entries` | [`TxHeader::verify_entries`], [`wire::TxEntry::verify_value`] |
//! | `get` | [`verify_get`], [`Get`], [`ProvenEntry`] |
//! | `signature` | [`verify_signature`], [`PublicKey`], [`Keys`], [`Signed`] |
//! | [`export`] | exported transactions |
//!
//! # Auditing
//!
//! ```
//! use immudb_verify::{Progress, Reason, State, Verified, verify_dual, wire};
//!
//! fn audit(
//!     trusted: &State,
//!     answer: &wire::ImmutableState<'_>,
//!     proof: &wire::DualProof<'_, Vec<u8>>,
//! ) -> Result<State, Reason> {
//!     let claimed = State::new("defaultdb", answer)?;
//!     if trusted.compare(&claimed)? == Progress::Same {
//!         return Ok(claimed);
//!     }
//!     match verify_dual(trusted, &claimed, proof)? {
//!         Verified::Proven(proven) => Ok(proven.target_state()),
//!         Verified::NeedsHeaders(pending) => {
//!             let (_first, _last) = pending.range(); // to be fetched
//!             let headers: Vec<wire::TxHeader<'_>> = Vec::new();
//!             Ok(pending.verify(headers)?.target_state())
//!         }
//!     }
//! }
//! ```
//!
//! [`Walk`] shows more than a dual proof, and needs every header.

mod back;
mod class;
mod hash;
mod part;
mod reason;
pub mod wire;

mod entries;
mod header;
mod metadata;
mod state;

mod linear;
mod merkle;
mod tree;

mod dual;
mod dual_v2;
mod get;
mod walk;

pub mod export;
mod signature;

pub use back::Back;
pub use class::Class;
pub use dual::{Entries, Pending, Proven, Verified, verify_dual};
pub use dual_v2::verify_dual_v2;
pub use get::{Get, ProvenEntry, verify_get};
pub use hash::{Alh, EMPTY, EntryDigest, Hash, LeafIndex, TreeSize, TxId, leaf_hash, node_hash};
pub use header::{HeaderVersion, TxHeader};
pub use linear::{verify_linear, verify_linear_advance};
pub use merkle::{path_length, verify_consistency, verify_inclusion, verify_last};
pub use metadata::{MAX_EXTRA, MAX_KV_METADATA, MAX_TX_METADATA, TxMetadata};
pub use part::Part;
pub use reason::Reason;
pub use signature::{KeyError, Keys, MAX_PEM, POINT, PublicKey, Signed, signed_bytes, verify_signature};
pub use state::{Progress, State};
pub use tree::Tree;
pub use walk::{Snapshot, WINDOW, Walk};
