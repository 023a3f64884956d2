//! Source: Linux kernel audit

pub mod control;
pub mod error;
pub mod heartbeat;
pub mod holder;
pub mod ledger;
pub mod load;
pub mod reader;
pub mod ring;
pub mod serials;
pub mod socket;
pub mod status;
pub mod wire;
