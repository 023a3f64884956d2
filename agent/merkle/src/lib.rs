//! The journal as a transparency log, and what an outsider needs to check it.
//!
//! A journal's leaves form the Merkle tree of RFC 6962. A log signs its size
//! and root now and then; from that alone anyone can check that an event is in
//! it (*inclusion*) and that a later tree only added to an earlier one
//! (*consistency*). Formats are those of C2SP, so that foreign tools read
//! ours: signed notes, checkpoints, tiles, proofs.
//!
//! Pure: no I/O, no clock, no task. No input makes it panic, and it allocates
//! no more than a small multiple of the input's length.
//!
//! | module | what it holds |
//! |---|---|
//! | `tree` | [`Hash`](struct@Hash), [`leaf_hash`], [`node_hash`], [`TreeHead`], [`NodeId`], [`subtrees`] |
//! | `frontier` | [`Frontier`]: append and root; [`Range`]: leaves reduced to subtrees |
//! | `tile` | [`TileId`]: which tile, its path and width |
//! | `tiler` | [`Tiler`]: a frontier that makes tiles |
//! | `path` | which siblings a proof consists of |
//! | `prove` | [`prove_inclusion`], [`prove_consistency`], the trait [`NodeReader`] |
//! | `tile_nodes` | [`TileNodes`]: nodes from tiles; the trait [`TileReader`] |
//! | `verify` | [`verify_inclusion`], [`verify_consistency`] |
//! | `key` | the traits [`Signer`] and [`Verifier`], [`KeyId`], [`Vkey`] |
//! | `ed25519` | [`Ed25519Signer`], [`Ed25519Verifier`]: signature type 0x01 |
//! | `note` | [`Note`], [`sign_note`], [`signature_line`] |
//! | `checkpoint` | [`Checkpoint`], [`split_checkpoints`] |
//! | `tlog_proof` | [`TlogProof`]: an entry's proof for any log |
//! | [`event_proof`] | [`EventProof`]: an event's proof, `.auditmon-proof` |
//! | `text` | decimals, base64 and lines, in one spelling each |
//!
//! # Writing
//!
//! [`Tiler`] takes the leaf hashes of synced records in order, gives full
//! tiles as they fill up and the head to sign:
//!
//! ```
//! use auditmon_merkle::{Checkpoint, Ed25519Signer, Tiler, leaf_hash};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = Ed25519Signer::from_seed("host-a.example.com/0011", &[7; 32])?;
//! let mut tree = Tiler::new();
//! for n in 0..300_u32 {
//!     tree.push(leaf_hash(&n.to_be_bytes()))?;
//!     for (tile, _bytes) in tree.filled() {
//!         assert_eq!(tile.to_string(), "tile/0/000"); // written to that path
//!     }
//! }
//! let note = Checkpoint::new("host-a.example.com/0011", tree.head())?.sign(&[&key])?;
//! # let _ = note;
//! # Ok(())
//! # }
//! ```
//!
//! # Proving
//!
//! A [`TileReader`] finds tiles by their paths; [`TileNodes`] reads what a
//! proof needs of them.
//!
//! # Checking
//!
//! An outsider has the log's verifier key, from elsewhere, and a file:
//!
//! ```
//! use auditmon_merkle::{Ed25519Verifier, EventProof, EventProofError, event_proof};
//!
//! fn check(file: &str, vkey: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     let journal: Ed25519Verifier = vkey.parse()?;
//!     for proof in event_proof::split(file) {
//!         let proof = EventProof::parse(proof)?;
//!         let proven = proof.verify(&[&journal])?;
//!         println!("{} {}: {}", proven.checkpoint.origin(), proven.seq, proven.event);
//!     }
//!     Ok(())
//! }
//! # assert_eq!(EventProof::parse(""), Err(EventProofError::Header));
//! # assert!(check("", "").is_err());
//! ```
//!
//! # What a proof doesn't say
//!
//! That the event was true when it was written; that the log shows the same
//! tree to everyone, which takes witnesses; anything about records after the
//! newest checkpoint that somebody kept.

mod tree;

mod frontier;
mod tile;
mod tiler;

mod path;
mod prove;
mod tile_nodes;
mod verify;

mod ed25519;
mod key;

mod checkpoint;
mod note;

pub mod event_proof;
mod tlog_proof;

mod text;

pub use checkpoint::{Checkpoint, CheckpointError, split_checkpoints};
pub use ed25519::{ED25519, Ed25519Signer, Ed25519Verifier};
pub use event_proof::{EventProof, EventProofError, ProvenEvent};
pub use frontier::{AppendError, Frontier, Range};
pub use key::{KeyError, KeyId, MAX_KEY_TEXT, Signer, Verifier, Vkey, check_name};
pub use note::{MAX_NOTE, MAX_SIGNATURES, Note, NoteError, SignatureLine, sign as sign_note, signature_line};
pub use prove::{NodeReader, ProveError, prove_consistency, prove_inclusion};
pub use tile::{PathError, TILE_BYTES, TILE_HEIGHT, TILE_LEVELS, TILE_WIDTH, TileId, full_tile_root};
pub use tile_nodes::{TileError, TileNodes, TileReader};
pub use tiler::Tiler;
pub use tlog_proof::{MAX_EXTRA, MAX_TLOG_PROOF, TlogProof, TlogProofError};
pub use tree::{EMPTY_ROOT, HASH, Hash, MAX_SIZE, NodeId, TreeHead, leaf_hash, node_hash, subtrees};
pub use verify::{MAX_PROOF, VerifyError, verify_consistency, verify_inclusion};
