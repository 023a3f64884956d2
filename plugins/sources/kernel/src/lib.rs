//! Source: the Linux kernel's audit records.
//!
//! ```text
//! kernel ──netlink──▶ kernel-read ──ring, 32 MiB──▶ kernel-event ──batches──▶ journal
//!    ▲                (reader)                      (process)
//!    └── rules, settings, registration, heartbeats ── kernel-control (supervise)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`], [`source`] | `sources.kernel`, and the source as the runtime sees it |
//! | [`privileges`] | which feature needs which capability |
//! | `supervise`, `watch` | the controlling thread: start, watch, stop |
//! | [`control`], [`status`], [`wire`], [`socket`] | requests to the kernel and their answers |
//! | [`holder`], [`error`] | who is in the way, in plain words |
//! | [`load`], [`ledger`] | rules and settings: what is wanted, what is ours, what is put back |
//! | [`reader`], [`ring`], [`serials`] | the receiving thread and the bounded queue behind it |
//! | `process`, `outbox`, `pending`, [`losses`], [`memory`] | the working thread: events, gaps, what is remembered |
//! | [`heartbeat`], [`users`], [`metrics`] | proof of life, names of ids, what /metrics shows |
//!
//! Facts about the kernel's behaviour: `reference/kernel-audit.md`.

pub mod config;
pub mod control;
pub mod error;
pub mod heartbeat;
pub mod holder;
pub mod ledger;
pub mod load;
pub mod losses;
pub mod memory;
pub mod metrics;
pub mod privileges;
pub mod reader;
pub mod ring;
pub mod serials;
pub mod socket;
pub mod source;
pub mod status;
pub mod users;
pub mod wire;

mod outbox;
mod pending;
mod process;
mod ranges;
mod supervise;
mod watch;

pub use config::KernelConfig;
