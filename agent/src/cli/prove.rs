//! `auditmon prove`: proofs of events, for whoever has the journal's verifier key; changes nothing.

use std::process::ExitCode;
use std::time::Duration;

use auditmon_merkle::event_proof;
use auditmon_verify::{DatabaseFile, ProveError, ProveRequest, parse_uuid, prove};
use clap::Args;

use crate::cli::verify::database;
use crate::cli::{Context, Failure, exit, print};

/// How long an event that no checkpoint covers yet is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Options of `auditmon prove`.
#[derive(Args)]
#[command(
    after_help = "Exit code 0: all are proved; 1: one isn't there, was deleted or isn't signed; 2: could not look.\n\nExamples:\n  auditmon prove 019b76da-a800-7000-8000-000000000001 > event.auditmon-proof\n\n`auditmon verify event.auditmon-proof --key VKEY` checks it anywhere."
)]
pub struct ProveArgs {
    /// Ids of the events; several proofs are one file
    #[arg(required = true, value_name = "EVENT_ID")]
    events: Vec<String>,
}

/// Prints proofs.
pub fn run(context: &Context, args: &ProveArgs) -> Result<ExitCode, Failure> {
    let usage = |message: String| Failure {
        code: exit::USAGE,
        message,
    };
    let ids = args.events.iter().map(|text| {
        parse_uuid(text).ok_or_else(|| usage(format!("`{text}` is no event id: a UUID with hyphens is expected")))
    });
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    let database = match database(context, None)? {
        DatabaseFile::Usual(path) | DatabaseFile::Given(path) => path,
    };
    let mut proofs = Vec::with_capacity(ids.len());
    for event_id in ids {
        let request = ProveRequest {
            data_dir: &context.data_dir,
            database: Some(&database),
            event_id,
            patience: PATIENCE,
        };
        let proof = prove(&request).map_err(|error| match error {
            ProveError::CouldNot(error) => usage(error.to_string()),
            other => Failure::plain(other),
        })?;
        proofs.push(proof);
    }
    print(&event_proof::join(&proofs))?;
    Ok(ExitCode::SUCCESS)
}
