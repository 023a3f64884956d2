//! Linux kernel audit records: parsing, decoding, reassembly, and the JSON of an event. Pure.
//!
//! The path of a record: netlink payload bytes → [`header`] → [`reassemble`] joins records of
//! one event → [`view`] finds what the agent asks for → [`json`] streams `event_data`. Beside
//! it [`gap`] watches the serials for what never came. Nothing here does input or output, reads
//! a clock, or fails on any bytes; every store has a limit.
//!
//! Facts about the records are those of the kernel-audit reference: grammar (section 15), types
//! and samples (16), events and their end (17), interpretation (19).
#![forbid(unsafe_code)]

pub mod header;
pub mod kind;
mod names;

pub mod fields;
mod table;
pub mod untrusted;

pub mod execve;
pub mod interpret;
pub mod saddr;

pub mod event;
pub mod gap;
pub mod reassemble;

pub mod json;
pub mod view;

pub use event::{Event, Record, Truncated};
pub use header::{HeaderError, Stamp};
pub use kind::{Class, RecordType};
pub use reassemble::{Limits, Reassembler};
pub use view::{Outcome, Summary};
