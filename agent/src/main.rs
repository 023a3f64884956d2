//! The agent `auditmon`: command line, registry of plugins.

#![cfg_attr(not(test), warn(clippy::print_stdout))]

mod admin;
mod cli;
mod logging;
mod registry;

use std::process::ExitCode;

/// musl's allocator is slow where many threads allocate. glibc's stays: it gives large bodies back to the system at
/// once, where mimalloc kept 260 MB after a few bodies of 15 MB, and starts with 13 MB less.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What the agent keeps is for its owner only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    cli::main()
}
