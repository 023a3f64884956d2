//! Other agents that audit some of the same servers: each tells the others which states it has seen, so that a server
//! that shows one history here and another one there is found.
//!
//! | module | what it does |
//! |---|---|
//! | `config` | `sources.immudb.peers` |
//! | `identity` | whom a checkpoint is from |
//! | `message` | what goes to and fro |
//! | `hub` | what is told, and what is left to look at |
//! | `route`, `caller` | the exchange, as the one that is asked and as the one that asks |
//! | `silence` | when a peer that doesn't answer is told |
//! | `compare` | whether a peer's state is in the history that is trusted here |
//! | `meet` | what a server's task makes of it |
//! | `metrics` | what `/metrics` shows of it |
//!
//! A peer is taken at its word for nothing: its states count against a server only if that has signed them.

pub(crate) mod caller;
mod compare;
mod config;
pub(crate) mod hub;
mod identity;
mod meet;
mod message;
mod metrics;
pub(crate) mod route;
mod silence;

pub use config::PeerConfig;

pub(crate) use config::MAX_PEERS;
pub(crate) use hub::{Hub, Published};
pub(crate) use meet::Meeting;
pub(crate) use message::Claim;

/// Where an agent takes what another one has seen.
const PATH: &str = "/api/v1/immudb/states";
/// The header with the sender's newest checkpoint, in base64.
const CHECKPOINT: &str = "auditmon-checkpoint";
/// Largest body of an exchange, in bytes.
const MAX_BODY: usize = 8 << 20;
/// Most states of one message; where there are more, they take turns.
const MAX_STATES: usize = 20_000;
