//! The agent as it is shipped, with the plugins of [`registry`] beside its own.

mod registry;

use std::process::ExitCode;

fn main() -> ExitCode {
    auditmon::main_with(registry::entries)
}
