//! `auditmon import`: a new configuration from an old file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::audit_mode::{self, Program};
use crate::cli::{Failure, print};

/// Verbs of `auditmon import`.
#[derive(Subcommand)]
pub enum ImportVerb {
    /// The file of immuclient's auditor or of immugw: immuclient.toml, immugw.toml
    Immuclient(ImmuclientArgs),
}

/// Options of `auditmon import immuclient`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  auditmon import immuclient /etc/immuclient/immuclient.toml --output /etc/auditmon/auditmon.yaml\n  \
    auditmon import immuclient immugw.toml --immugw > auditmon.yaml\n\n\
    The configuration holds the passwords of the file. What can't be carried over is told on stderr, a line each. What the\n\
    auditor trusted is in it, too, where its state directory is found."
)]
pub struct ImmuclientArgs {
    /// The file
    file: PathBuf,
    /// It is immugw's [default: if its name begins with `immugw`]
    #[arg(long)]
    immugw: bool,
    /// A directory `auditor` that holds what the auditor trusted
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Write it to this file, readable by its owner only; one that is there is not overwritten
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs `auditmon import`.
pub fn run(verb: ImportVerb) -> Result<ExitCode, Failure> {
    let ImportVerb::Immuclient(args) = verb;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let program = if args.immugw || name.starts_with("immugw") {
        Program::Immugw
    } else {
        Program::Immuclient
    };
    let settings = audit_mode::imported(program, args.file.clone(), args.state.as_deref())?;
    let Some(output) = args.output else {
        print(&settings.yaml())?;
        return Ok(ExitCode::SUCCESS);
    };
    if output.symlink_metadata().is_ok() {
        return Err(Failure::plain(format!(
            "{}: is there already; name another file, or remove it",
            output.display()
        )));
    }
    audit_mode::put(&output, settings.yaml().as_bytes(), 0o600).map_err(Failure::plain)?;
    eprintln!("auditmon: {} is written", output.display());
    Ok(ExitCode::SUCCESS)
}
