//! `auditmon completions`, `auditmon man`: made from the same types as the command line, so they can't differ from it.

use std::path::Path;
use std::process::ExitCode;

use clap::{Command, ValueEnum};
use clap_complete::aot;

use crate::cli::{Failure, print_bytes};

/// Shells that are completed.
#[derive(Clone, Copy, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Prints a shell's completions.
///
/// # Errors
/// stdout can't be written.
pub fn completions(mut command: Command, shell: Shell) -> Result<ExitCode, Failure> {
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    let mut out = Vec::new();
    aot::generate(shell, &mut command, "auditmon", &mut out);
    print_bytes(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page, or writes those of all commands into a directory.
///
/// # Errors
/// The page or the directory can't be written.
pub fn pages(command: Command, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let Some(dir) = dir else {
        let mut out = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut out)
            .map_err(Failure::plain)?;
        print_bytes(&out)?;
        return Ok(ExitCode::SUCCESS);
    };
    // Manual pages are for everybody; nothing else is written by this process.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    clap_mangen::generate_to(command, dir)
        .map_err(|error| Failure::plain(format!("{}: the manual can't be written: {error}", dir.display())))?;
    Ok(ExitCode::SUCCESS)
}
