//! `auditmon config`: what is in effect, and what can be set.

use std::process::ExitCode;

use auditmon_core::plugin::Entry;
use clap::Args;

use crate::cli::run::RunArgs;
use crate::cli::{Context, Failure, check, print};

/// Options of `auditmon config`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  auditmon config --origin                      what is in effect, and where it comes from\n  auditmon config --example > auditmon.yaml     begin with every key and its default\n  auditmon config --schema > schema.json        completion in editors"
)]
pub struct ConfigArgs {
    /// Say at each key where its value comes from
    #[arg(long)]
    origin: bool,
    /// Print the JSON Schema of the file instead
    #[arg(long, conflicts_with = "origin")]
    schema: bool,
    /// Print a file with every key and its default instead
    #[arg(long, conflicts_with_all = ["origin", "schema"])]
    example: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

impl ConfigArgs {
    /// What needs no configuration, and so helps where it is broken.
    pub fn made(&self, entries: &[Entry]) -> Option<String> {
        if self.schema {
            return Some(schema(entries));
        }
        self.example.then(|| auditmon_config::example(entries))
    }
}

fn schema(entries: &[Entry]) -> String {
    format!("{:#}\n", auditmon_config::schema(entries))
}

/// Prints effective values.
pub fn run(context: &Context, args: &ConfigArgs) -> Result<ExitCode, Failure> {
    check::warn(context);
    print(&auditmon_config::effective(
        &context.loaded,
        &context.data_dir,
        args.origin,
    ))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
