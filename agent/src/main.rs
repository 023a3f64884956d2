//! The agent `auditmon`: command line, registry of plugins.

#![cfg_attr(not(test), warn(clippy::print_stdout))]

mod cli;
mod logging;
mod registry;

use std::process::ExitCode;

/// Small allocations by many threads are what the agent does all day; the C library's allocator is slow at that,
/// above all musl's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What the agent keeps is for its owner only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    cli::main()
}
