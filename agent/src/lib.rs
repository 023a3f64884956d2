//! The agent `auditmon`: command line, registry of plugins.
//!
//! A library too, so that the tests' own binary can be the same agent with one more line in its registry.

#![cfg_attr(not(test), warn(clippy::print_stdout))]

mod admin;
mod cli;
mod logging;
mod registry;

pub use registry::entries;

use std::process::ExitCode;

use auditmon_core::plugin::Entry;

/// The whole program, with these plugins.
pub fn main_with(entries: fn() -> Vec<Entry>) -> ExitCode {
    // What the agent keeps is for its owner only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    cli::main(entries)
}
