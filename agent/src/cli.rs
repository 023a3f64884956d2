//! The command line: verbs, common options, exit codes.

mod audit_mode;
mod check;
mod config;
mod dlq;
mod events;
mod immudb;
mod import;
mod journal;
mod keys;
mod manual;
mod prove;
mod run;
mod status;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use auditmon_config::{Loaded, Request};
use auditmon_core::plugin::Entry;
use auditmon_runtime::offline::Offline;
use auditmon_runtime::remembered;
use clap::{CommandFactory as _, Parser, Subcommand};

/// Exit codes that scripts rely on.
pub mod exit {
    /// Failure.
    pub const FAILURE: u8 = 1;
    /// Wrong command line, or a check that could not be made.
    pub const USAGE: u8 = 2;
    /// The data directory can't be made.
    pub const CANT_CREATE: u8 = 73;
    /// Held by another agent.
    pub const HELD: u8 = 75;
    /// Configuration error.
    pub const CONFIG: u8 = 78;
}

/// Audit agent: kernel and application events in one timeline, on disk before they are accepted.
#[derive(Parser)]
#[command(
    name = "auditmon",
    version,
    disable_help_subcommand = true,
    after_help = "Without a verb: `auditmon run`.\n\nExamples:\n  auditmon                                  start on built-in defaults: event API and page on 127.0.0.1:7984\n  auditmon -c /etc/auditmon/auditmon.yaml   start on a configuration file\n  auditmon check                            say what a start would do, and all faults of the configuration\n  auditmon keys create billing              make an API key for an application\n  auditmon events --username alice          look for events\n  auditmon journal fsck                     check the journal on disk\n  auditmon verify                           check that nothing was changed since it was written\n\n`auditmon VERB --help` has examples of each. Exit codes: 0 done or ended in order, 1 failure, 2 wrong command line or\nnot to be checked, 73 the data directory can't be made, 75 another agent has it, 78 fault of the configuration, 130 and\n143 a second signal. NO_COLOR turns colors off."
)]
struct Cli {
    /// Configuration file [default: /etc/auditmon/auditmon.yaml, then ./config/auditmon.yaml, if there]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory [default: /var/lib/auditmon as root, else ~/.local/share/auditmon]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the agent in the foreground
    #[command(after_help = "Examples:\n  \
        auditmon run\n  \
        auditmon run -c /etc/auditmon/auditmon.yaml\n  \
        auditmon run --enable stdout --disable kernel | jq .event_name\n\n\
        Ctrl-C or SIGTERM ends it in order, SIGHUP loads the configuration again.")]
    Run(run::RunArgs),
    /// Validate the configuration as a start would
    #[command(after_help = "Examples:\n  \
        auditmon check -c auditmon.yaml\n  \
        auditmon check --disable kernel\n\n\
        Exit code 0 if a start would take it, 78 with all faults otherwise. Warnings go to stderr.")]
    Check(run::RunArgs),
    /// Print the configuration in effect, an example file or the JSON Schema
    Config(config::ConfigArgs),
    /// Show what the running agent does: plugins, journal, what waits for a restart
    Status(status::StatusArgs),
    /// Let the running agent read its configuration again
    #[command(after_help = "Examples:\n  auditmon reload\n\n\
        Prints the keys that took effect and those that need a restart of the agent. Exit code 78 if the\n\
        configuration was refused; then nothing has changed.")]
    Reload,
    /// Search stored events, or follow those that come
    Events(Box<events::EventsArgs>),
    /// Make, list and revoke API keys
    Keys {
        #[command(subcommand)]
        verb: keys::KeysVerb,
    },
    /// List events that a sink refused for good, or hand them over again
    Dlq {
        #[command(subcommand)]
        verb: dlq::DlqVerb,
    },
    /// Audit an immudb server as `immuclient audit-mode` or immugw does: with their flags, variables and files
    #[command(after_help = "Examples:\n  \
        auditmon audit-mode 1m0s -a db1.example.com --audit-username auditor --audit-password-file /etc/auditmon/pw\n  \
        auditmon audit-mode --config immuclient.toml --print-config\n  \
        auditmon audit-mode --immugw --config immugw.toml\n  \
        auditmon audit-mode --single-run\n\n\
        Flags count before variables (IMMUCLIENT_IMMUDB_ADDRESS, with --immugw IMMUGW_…), these before the file that\n\
        --config names, else immuclient.toml or immugw.toml in the home directory. The agent does the rest: what this\n\
        comes to is what --print-config shows.")]
    AuditMode(Box<audit_mode::AuditModeArgs>),
    /// Audit an immudb server once, or trust a database again after a finding
    Immudb {
        #[command(subcommand)]
        verb: immudb::ImmudbVerb,
    },
    /// Make a configuration from an old file
    Import {
        #[command(subcommand)]
        verb: import::ImportVerb,
    },
    /// Check or print the journal's files; works beside a running agent
    Journal {
        #[command(subcommand)]
        verb: journal::JournalVerb,
    },
    /// Check that nothing was changed: journal, signatures, store; or a file of proofs
    Verify(verify::VerifyArgs),
    /// Print proofs of events, which `auditmon verify FILE --key VKEY` checks anywhere
    Prove(prove::ProveArgs),
    /// Print a one-time address that opens the web page
    #[command(after_help = "Examples:\n  auditmon page\n\n\
        The address is good once and for a while, the session that it opens for a day.")]
    Page,
    /// Print what completes commands in a shell
    #[command(after_help = "Examples:\n  \
        auditmon completions bash > /usr/share/bash-completion/completions/auditmon\n  \
        auditmon completions zsh > /usr/local/share/zsh/site-functions/_auditmon\n  \
        auditmon completions fish > /usr/share/fish/vendor_completions.d/auditmon.fish")]
    Completions {
        /// The shell
        shell: manual::Shell,
    },
    /// Print the manual page, or write those of all commands
    #[command(after_help = "Examples:\n  auditmon man | man -l -\n  auditmon man --dir /usr/local/share/man/man1")]
    Man {
        /// Write a page for each command into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the version
    #[command(after_help = "Examples:\n  auditmon version")]
    Version,
}

/// What every verb needs: configuration, data directory, plugins.
pub struct Context {
    /// What the configuration is made from.
    pub request: Request,
    /// The configuration.
    pub loaded: Loaded,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The registry.
    pub entries: fn() -> Vec<Entry>,
    /// What stands for a configuration file, if none does.
    pub made: Option<audit_mode::Made>,
}

impl Context {
    /// The file that the configuration is from.
    pub fn file_name(&self) -> String {
        self.loaded
            .file
            .as_ref()
            .map_or_else(|| "built-in defaults".to_owned(), |file| file.display().to_string())
    }
}

/// A failure with its exit code; the text is printed to stderr.
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// One or more lines.
    pub message: String,
}

impl Failure {
    /// A failure without a code of its own.
    pub fn plain(message: impl std::fmt::Display) -> Self {
        Self {
            code: exit::FAILURE,
            message: message.to_string(),
        }
    }
}

/// The command line, for those who show it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line.
pub fn main(entries: fn() -> Vec<Entry>) -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli, entries) {
        Ok(code) => code,
        Err(failure) => {
            for line in failure.message.lines() {
                eprintln!("auditmon: {line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(cli: Cli, entries: fn() -> Vec<Entry>) -> Result<ExitCode, Failure> {
    // What needs no configuration works where it is broken.
    match &cli.verb {
        Some(Verb::Version) => {
            print(&format!("auditmon {}\n", env!("CARGO_PKG_VERSION")))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Verb::Completions { shell }) => return manual::completions(Cli::command(), *shell),
        Some(Verb::Man { dir }) => return manual::pages(Cli::command(), dir.as_deref()),
        _ => {}
    }
    if let Some(Verb::Config(args)) = &cli.verb
        && let Some(text) = args.made(&entries())
    {
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Verb::Verify(args)) = &cli.verb
        && let Some(file) = args.proofs()
    {
        return verify::proofs(args, file);
    }
    if let Some(Verb::Immudb { verb }) = &cli.verb
        && let Some(done) = immudb::without_configuration(verb)
    {
        return done;
    }
    let verb = match cli.verb {
        Some(Verb::Import { verb }) => return import::run(verb),
        Some(Verb::AuditMode(args)) => return audit_mode::run(*args, cli.config, cli.data_dir, entries),
        verb => verb.unwrap_or_else(|| Verb::Run(run::RunArgs::default())),
    };
    let switches = match &verb {
        Verb::Run(args) | Verb::Check(args) => args.switches(),
        Verb::Config(args) => args.run.switches(),
        _ => Vec::new(),
    };
    let request = Request {
        file: cli.config.clone(),
        environment: std::env::vars_os().collect(),
        data_dir: cli.data_dir,
        switches,
        read: auditmon_runtime::privileges::reader(cli.config.as_deref()),
        ..Request::new(host_name())
    };
    let loaded = auditmon_config::load(&request, &entries()).map_err(|errors| Failure {
        code: exit::CONFIG,
        message: errors.to_string(),
    })?;
    let data_dir = match loaded.settings.data_dir.clone() {
        Some(dir) => dir,
        None => default_data_dir()?,
    };
    let context = Context {
        request,
        loaded,
        data_dir,
        entries,
        made: None,
    };
    match verb {
        Verb::Run(_) => run::run(context),
        Verb::Check(_) => check::check(&context),
        Verb::Config(args) => config::run(&context, &args),
        Verb::Status(args) => status::status(&context, &args),
        Verb::Reload => status::reload(&context),
        Verb::Events(args) => events::run(&context, *args),
        Verb::Keys { verb } => keys::run(&context, verb),
        Verb::Dlq { verb } => dlq::run(&context, verb),
        Verb::Immudb { verb } => immudb::run(&context, verb),
        Verb::Journal { verb } => journal::run(&context, verb),
        Verb::Verify(args) => verify::run(&context, &args),
        Verb::Prove(args) => prove::run(&context, &args),
        Verb::Page => keys::page(&context),
        // Done above.
        Verb::AuditMode(_) | Verb::Import { .. } | Verb::Completions { .. } | Verb::Man { .. } | Verb::Version => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The machine's name; what can't stand in an origin is replaced.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let good: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && c != '/' && c != '+' {
                c
            } else {
                '-'
            }
        })
        .collect();
    if good.is_empty() { "localhost".to_owned() } else { good }
}

fn default_data_dir() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/auditmon"));
    }
    let home = || {
        std::env::var_os("HOME")
            .filter(|v| !v.is_empty())
            .map(|home| PathBuf::from(home).join(".local/share"))
    };
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home);
    base.map(|base| base.join("auditmon")).ok_or_else(|| Failure {
        code: exit::CANT_CREATE,
        message: "there is no home directory to keep data in; give one with --data-dir".to_owned(),
    })
}

/// Writes to stdout; a reader that went away is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(Failure::plain),
    }
}

/// The journal, in the place of the agent that doesn't run.
pub fn open_offline(context: &Context, runtime: &tokio::runtime::Runtime) -> Result<Offline, Failure> {
    let (loaded, data_dir) = (&context.loaded, &context.data_dir);
    let remembered = runtime.block_on(remembered::by(loaded, data_dir, (context.entries)()));
    Offline::open(data_dir, loaded, remembered).map_err(Failure::plain)
}

/// A runtime for commands that look something up.
pub fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::plain)
}

#[cfg(test)]
mod tests;
