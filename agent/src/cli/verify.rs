//! `auditmon verify`: checks a data directory, beside a running agent too, or a file of proofs; changes nothing.

use std::cell::Cell;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use auditmon_verify::{CouldNot, DatabaseFile, Progress, Request, check_proofs, verify};
use clap::Args;

use crate::cli::{Context, Failure, exit, print};

/// Longest file to compare with.
const MAX_FILE: u64 = 64 << 20;
/// How often the progress is drawn anew.
const DRAW: Duration = Duration::from_millis(100);

/// Options of `auditmon verify`.
#[derive(Args)]
#[command(
    after_help = "Exit code 0: everything holds; 1: tampered, a line for each fault; 2: could not check.\n\nExamples:\n  auditmon verify\n  auditmon verify --key \"$(cat /safe/place/log.vkey)\" --against /safe/place/checkpoint\n  auditmon verify event.auditmon-proof --key \"$(cat log.vkey)\""
)]
pub struct VerifyArgs {
    /// Proofs to check instead of the data directory, as `auditmon prove` prints them; needs --key and nothing else
    #[arg(value_name = "FILE")]
    proofs: Option<PathBuf>,
    /// The journal's verifier key, kept elsewhere [default: keys/log.vkey of the data directory]
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// An earlier checkpoint or proof, which the journal must extend
    #[arg(long, value_name = "FILE", conflicts_with = "proofs")]
    against: Option<PathBuf>,
    /// The store's database, also without a data directory [default: the configured one]
    #[arg(long, value_name = "FILE", conflicts_with = "proofs")]
    database: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    /// The file of proofs, if that is what is to be checked.
    pub fn proofs(&self) -> Option<&Path> {
        self.proofs.as_deref()
    }
}

fn could_not(error: impl std::fmt::Display) -> Failure {
    Failure {
        code: exit::USAGE,
        message: error.to_string(),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let fail = |error: &dyn std::fmt::Display| could_not(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let mut bytes = Vec::new();
    // It may be a pipe, or a device without an end.
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail(&"larger than 64 MiB: neither proofs nor checkpoints"));
    }
    String::from_utf8(bytes).map_err(|error| fail(&error.utf8_error()))
}

/// With `--json` why it could not be checked is an object, too.
fn or_json(args: &VerifyArgs, checked: Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    if let Err(failure) = &checked
        && args.json
        && failure.code == exit::USAGE
    {
        let value = serde_json::json!({"holds": null, "reason": failure.message});
        print(&format!("{value}\n"))?;
    }
    checked
}

fn verdict(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILURE)
    }
}

/// Checks a file of proofs.
pub fn proofs(args: &VerifyArgs, file: &Path) -> Result<ExitCode, Failure> {
    or_json(args, check_file(args, file))
}

fn check_file(args: &VerifyArgs, file: &Path) -> Result<ExitCode, Failure> {
    let key = args.key.as_deref().ok_or_else(|| {
        could_not("--key is missing: a proof is checked with the journal's verifier key, kept in keys/log.vkey there")
    })?;
    let text = read(file)?;
    let proven = check_proofs(&text, key).map_err(could_not)?;
    let good = proven.iter().all(|proven| proven.fault.is_none());
    if args.json {
        print(&format!("{}\n", serde_json::json!({"holds": good, "proofs": proven})))?;
        return Ok(verdict(good));
    }
    let mut out = String::new();
    for proven in &proven {
        let place = format!("{}: proof {}", file.display(), proven.number);
        match (&proven.fault, &proven.event) {
            (Some(fault), _) => out += &format!("tampered: {place}: {fault}\n"),
            (None, event) => {
                let (origin, seq) = (proven.origin.as_deref().unwrap_or_default(), proven.seq.unwrap_or(0));
                let event = event.as_deref().unwrap_or_default();
                out += &format!("holds: {place}: seq {seq} of {origin}: {event}\n");
            }
        }
    }
    print(&out)?;
    Ok(verdict(good))
}

/// Checks the data directory.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    or_json(args, check_directory(context, args))
}

fn check_directory(context: &Context, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let against = args.against.as_deref().map(read).transpose()?;
    let name = args.against.as_ref().map(|path| path.display().to_string());
    let bar = Bar::new();
    let progress = |progress: Progress| bar.draw(progress);
    let request = Request {
        data_dir: &context.data_dir,
        key: args.key.as_deref(),
        against: name.as_deref().zip(against.as_deref()),
        database: database(context, args.database.as_deref())?,
        progress: &progress,
    };
    let report = verify(&request);
    bar.clear();
    let report = report.map_err(|CouldNot { place, reason }| could_not(format!("{place}: {reason}")))?;
    if args.json {
        let mut value = serde_json::to_value(&report).map_err(Failure::plain)?;
        value["holds"] = report.holds().into();
        print(&format!("{value}\n"))?;
    } else {
        print(&report.to_string())?;
    }
    Ok(verdict(report.holds()))
}

/// The store's database: given, or as configured.
pub(super) fn database(context: &Context, given: Option<&str>) -> Result<DatabaseFile, Failure> {
    if let Some(given) = given {
        if given.starts_with("postgres:") || given.starts_with("postgresql:") {
            return Err(could_not(
                "--database: PostgreSQL comes with a later version; a file of SQLite is expected",
            ));
        }
        let path = given.strip_prefix("sqlite:").unwrap_or(given);
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(DatabaseFile::Given(PathBuf::from(path)));
    }
    let store = context.loaded.plugin("store");
    let section = store.map(|store| store.section.clone()).unwrap_or_default();
    let path = auditmon_sink_store::database_file(section, &context.data_dir).map_err(could_not)?;
    Ok(DatabaseFile::Usual(path))
}

/// How far it is, on a terminal.
struct Bar {
    on: bool,
    drawn: Cell<Option<Instant>>,
    begun: Instant,
}

impl Bar {
    const WIDTH: u64 = 40;

    fn new() -> Self {
        Self {
            on: std::io::stderr().is_terminal(),
            drawn: Cell::new(None),
            begun: Instant::now(),
        }
    }

    fn draw(&self, progress: Progress) {
        // What is over in a moment needs none.
        let last = self.drawn.get().unwrap_or(self.begun);
        if !self.on || progress.total == 0 || last.elapsed() < DRAW {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let line = line(progress);
        let mut to = std::io::stderr().lock();
        // Nobody is told if the terminal is gone.
        let _ = write!(to, "\r{line}").and_then(|()| to.flush());
    }

    fn clear(&self) {
        if self.drawn.get().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// The bar with what it stands for.
fn line(progress: Progress) -> String {
    let part = |of: u64| progress.done.min(progress.total).saturating_mul(of) / progress.total.max(1);
    let full = part(Bar::WIDTH) as usize;
    let rest = Bar::WIDTH as usize - full;
    format!(
        "[{}{}] {:3} %  {} of {} MiB",
        "#".repeat(full),
        "-".repeat(rest),
        part(100),
        progress.done >> 20,
        progress.total >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_between_nothing_and_full() {
        let at = |done, total| line(Progress { done, total });
        assert!(at(0, 10 << 20).starts_with(&format!("[{}]   0 %", "-".repeat(40))));
        assert!(at(5 << 20, 10 << 20).contains("]  50 %  5 of 10 MiB"));
        assert!(at(11, 10).starts_with(&format!("[{}] 100 %", "#".repeat(40))));
        assert!(at(0, 0).contains("0 %"));
    }
}
