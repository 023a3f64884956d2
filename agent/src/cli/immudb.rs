//! `auditmon immudb`: what an operator does about immudb servers.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use auditmon_core::plugin::Memory;
use auditmon_journal::format::{Kind, StateRecord, source_hash};
use auditmon_journal::{Dump, DumpError, DumpItem, GapReason, RealFs};
use auditmon_source_immudb::{ImmudbConfig, Outcome, Password, Report, ServerConfig, Unreached, whole_address};
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode, header};
use serde_json::Value;

use crate::admin;
use crate::cli::{Context, Failure, exit, print, small_runtime};

/// Longest password file, in bytes.
const MAX_PASSWORD: u64 = 4096;

/// Verbs of `auditmon immudb`.
#[derive(Subcommand)]
pub enum ImmudbVerb {
    /// Audit a server once, held to what is remembered on the data directory; remembers and changes nothing
    Check(CheckArgs),
    /// Check a file that proves that a server has signed two histories of a database; asks nobody
    Evidence(EvidenceArgs),
    /// Trust a database again after a finding; the running agent does it and tells who, when and why
    Trust(TrustArgs),
}

/// Options of `auditmon immudb check`.
#[derive(Args)]
#[command(after_help = "Examples:\n  auditmon immudb check db1\n  \
    auditmon immudb check db1.example.com:3322 --user auditor --password-file /etc/auditmon/immudb-password\n  \
    auditmon immudb check 127.0.0.1:3322 --database orders --json\n\n\
    Exit code 0 if everything is in order, 1 if something was tampered with, 2 if something could not be checked. Where\n\
    nothing is remembered of a server, what it shows is taken as it is: that is said on stderr.")]
pub struct CheckArgs {
    /// The server's name or address in `sources.immudb.servers`, whose settings count then; else HOST or HOST:PORT
    server: String,
    /// The user to log in as
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// The file with the user's password; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Only databases of this name or pattern; may be given several times
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// Speak TLS, trusting the host's authorities
    #[arg(long)]
    tls: bool,
    /// Speak TLS, trusting the authorities in this file alone
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// One JSON object a database and line: the data of the event that an auditor would write
    #[arg(long)]
    json: bool,
}

/// Options of `auditmon immudb evidence`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  auditmon immudb evidence split-view-0123456789abcdef.json --key server.pub.pem\n\n\
    Exit code 0 if it is proven, 1 if not, and why. Without --key nobody knows whose key it is: compare it."
)]
pub struct EvidenceArgs {
    /// The file, which the finding `split-view` names
    file: PathBuf,
    /// The server's public key (PEM), known from elsewhere
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Options of `auditmon immudb trust`.
#[derive(Args)]
#[command(after_help = "Examples:\n  auditmon immudb trust db1 orders --reason restored\n  \
    auditmon immudb trust db1 orders --reason deleted --tx 0\n\n\
    Without --tx the state is trusted that the server showed last; it is printed. If another server\n\
    than before shows what doesn't follow from the trusted history, the state has to be named. The event `immudb.trust`\n\
    has both states, the reason, the name and the user id of who ran this. Exit code 1 if nothing has changed, and why.")]
pub struct TrustArgs {
    /// The server's name in `sources.immudb.servers`, or its address
    server: String,
    /// The database
    database: String,
    /// Why it is well
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so [default: the user who ran sudo, or who runs this]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// The transaction to trust, with its --hash; 0 begins anew
    #[arg(long, value_name = "TX")]
    tx: Option<u64>,
    /// The transaction's hash, 64 hexadecimal digits
    #[arg(long, value_name = "HASH", requires = "tx")]
    hash: Option<String>,
}

/// Runs `auditmon immudb`.
pub fn run(context: &Context, verb: ImmudbVerb) -> Result<ExitCode, Failure> {
    match verb {
        ImmudbVerb::Check(args) => check(context, args),
        ImmudbVerb::Evidence(args) => evidence(&args),
        ImmudbVerb::Trust(args) => trust(context, args),
    }
}

/// What needs neither a configuration nor a data directory: who is given a file may have neither.
pub fn without_configuration(verb: &ImmudbVerb) -> Option<Result<ExitCode, Failure>> {
    match verb {
        ImmudbVerb::Evidence(args) => Some(evidence(args)),
        _ => None,
    }
}

/// Checks a file of evidence.
fn evidence(args: &EvidenceArgs) -> Result<ExitCode, Failure> {
    let key = match &args.key {
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| could_not(format!("{}: {error}", path.display()));
            let bytes = auditmon_config::read_file(path).map_err(|error| wrong(&error))?;
            Some(String::from_utf8(bytes).map_err(|_| wrong(&"is no public key in PEM form"))?)
        }
        None => None,
    };
    let proven = auditmon_source_immudb::verify_evidence(&args.file, key.as_deref())
        .map_err(|why| Failure::plain(format!("{}: {why}", args.file.display())))?;
    let [(older, theirs), (newer, ours)] = &proven.states;
    let mut out = format!(
        "The key {} has signed two histories of `{}`:\n",
        proven.public_key, proven.database
    );
    // Writing to a string can't fail.
    let _ = writeln!(out, "  in one, transaction {older} has the hash {theirs};");
    let _ = writeln!(
        out,
        "  in the other, up to transaction {newer} with the hash {ours}, it has another one."
    );
    if key.is_none() {
        out += "Compare the key with the server's: without --key it may be anybody's.\n";
    }
    print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn could_not(error: impl std::fmt::Display) -> Failure {
    Failure {
        code: exit::USAGE,
        message: error.to_string(),
    }
}

/// `sources.immudb` as it is configured.
fn configured(context: &Context) -> Result<ImmudbConfig, Failure> {
    let section = context.loaded.plugin("immudb").map(|plugin| plugin.section.clone());
    match section {
        Some(section) if !section.is_null() => serde_json::from_value(section).map_err(could_not),
        _ => Ok(ImmudbConfig::default()),
    }
}

/// A command's flags, for what is said of settings that are missing or wrong.
pub struct Flags {
    /// For the user's name.
    pub user: &'static str,
    /// For the password's file.
    pub password: &'static str,
    /// What gives a user where none should be given.
    pub given: &'static str,
}

impl Flags {
    /// Why a server can't be audited, and what would help.
    pub fn words(&self, why: &Unreached) -> String {
        let Self { user, password, given } = self;
        match why {
            Unreached::Setting { key, text } => match key.as_str() {
                "username" => format!("{user}: {text}"),
                "password" => format!("{password}: {text}"),
                "databases" => format!("--database: {text}"),
                key => format!("{key}: {text}"),
            },
            Unreached::NoLogin(says) => format!("{says}; give {user} and {password}"),
            Unreached::NeedsNoLogin(says) => format!("{says}; leave out {given} to audit that"),
            Unreached::Server(says) | Unreached::Login(says) | Unreached::NoDatabase(says) => says.clone(),
        }
    }
}

/// Audits a server once, held to what is remembered.
fn audit(context: &Context, config: &ImmudbConfig, server: &ServerConfig, flags: &Flags) -> Result<Report, Failure> {
    let memory = memory(context)?;
    let report = small_runtime()?
        .block_on(auditmon_source_immudb::check(
            config,
            server,
            &memory,
            &context.data_dir,
        ))
        .map_err(|why| could_not(flags.words(&why)))?;
    if !report.remembered && report.failed.is_none() {
        let dir = context.data_dir.display();
        eprintln!("auditmon: nothing is remembered of this server on {dir}: what it shows is taken as it is");
    }
    Ok(report)
}

/// Waits for a few seconds until the first configured server answers and takes the login.
///
/// # Errors
/// Why it can't be audited now.
pub fn reach_first(context: &Context, times: u32) -> Result<Result<(), Unreached>, Failure> {
    let config = configured(context)?;
    let server = config.servers.first();
    let server = server.ok_or_else(|| could_not("no server is configured"))?;
    Ok(small_runtime()?.block_on(auditmon_source_immudb::reach(&config, server, times)))
}

/// Audits the first configured server once.
pub fn check_first(context: &Context, flags: &Flags) -> Result<Report, Failure> {
    let config = configured(context)?;
    let server = config
        .servers
        .first()
        .ok_or_else(|| could_not("no server is configured"))?;
    audit(context, &config, server, flags)
}

fn check(context: &Context, args: CheckArgs) -> Result<ExitCode, Failure> {
    let config = configured(context)?;
    let flags = Flags {
        user: "--user",
        password: "--password-file",
        given: match args.user {
            Some(_) => "--user",
            None => "`username` and `password` of its settings",
        },
    };
    let json = args.json;
    let (server, note) = server(&config, args)?;
    // Said where the name may be why it fails.
    let noted = |failure: Failure| Failure {
        message: note.iter().map(|note| format!("{note}\n")).collect::<String>() + &failure.message,
        ..failure
    };
    let report = audit(context, &config, &server, &flags).map_err(&noted)?;
    let failed = report.failed.as_ref().map(|why| could_not(flags.words(why)));
    let mut out = String::new();
    for checked in &report.databases {
        // Texts have one line; writing to a string can't fail.
        let _ = if json {
            writeln!(out, "{}", checked.data)
        } else if failed.is_none() {
            writeln!(out, "{}: {}", checked.database, checked.text)
        } else {
            Ok(())
        };
    }
    print(&out)?;
    failed.map_or_else(|| Ok(ExitCode::from(code(&report))), |failure| Err(noted(failure)))
}

/// The exit code that tells what an audit came to.
pub fn code(report: &Report) -> u8 {
    let any = |outcome| report.databases.iter().any(|checked| checked.outcome == outcome);
    if any(Outcome::Tampered) {
        exit::FAILURE
    } else if any(Outcome::Unchecked) {
        exit::USAGE
    } else {
        0
    }
}

/// The configured server, or one of that address, with what the options say; and what to know of how it was taken.
fn server(config: &ImmudbConfig, args: CheckArgs) -> Result<(ServerConfig, Option<String>), Failure> {
    let (mut server, note) = match config.server(&args.server) {
        Some(server) => (server.clone(), None),
        None => named(&args.server)?,
    };
    if let (Some(user), Some(file)) = (args.user, args.password_file) {
        let text = if file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin().take(MAX_PASSWORD))
        } else {
            std::fs::File::open(&file).and_then(|file| std::io::read_to_string(file.take(MAX_PASSWORD)))
        };
        let text = text.map_err(|error| could_not(format!("{}: {error}", file.display())))?;
        server.username = Some(user);
        server.password = Some(Password::new(text));
    }
    if !args.database.is_empty() {
        server.databases = args.database;
        server.prefixes.clear();
    }
    if let Some(file) = args.ca_file {
        let file = std::path::absolute(&file).map_err(could_not)?;
        server.tls.get_or_insert_default().ca_file = Some(file);
    } else if args.tls {
        server.tls.get_or_insert_default();
    }
    Ok((server, note))
}

/// A server that the configuration doesn't have, and how its name was taken where that is not said by itself.
fn named(name: &str) -> Result<(ServerConfig, Option<String>), Failure> {
    let address = whole_address(name).map_err(could_not)?;
    let note = (!address.eq_ignore_ascii_case(name.trim()))
        .then(|| format!("`{name}` is no server of the configuration and was taken as {address}"));
    let server = ServerConfig {
        address: name.to_owned(),
        ..ServerConfig::default()
    };
    Ok((server, note))
}

/// What the auditor remembers on the data directory; nothing where there is no journal.
fn memory(context: &Context) -> Result<Memory, Failure> {
    let dir = context.data_dir.display();
    let fail = |error: &dyn std::fmt::Display| could_not(format!("{dir}: the journal can't be read: {error}"));
    let mut memory = Memory::new();
    let running = !matches!(auditmon_journal::holder(&context.data_dir), Ok(None));
    let mut dump = match Dump::new(RealFs, &context.data_dir, running) {
        Err(DumpError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(memory),
        other => other.map_err(|error| fail(&error))?,
    };
    let source = source_hash("immudb");
    while let Some(item) = dump.next().map_err(|error| fail(&error))? {
        match item {
            DumpItem::Gap(gap) if gap.reason != GapReason::Expired => {
                let text = format!(
                    "seq {} to {} are damaged, so what is remembered may be older",
                    gap.first, gap.last
                );
                return Err(fail(&text));
            }
            DumpItem::Records(batch) => {
                for entry in batch.iter() {
                    let prefix = &entry.record.prefix;
                    if prefix.kind != Kind::State || prefix.source != source {
                        continue;
                    }
                    if let Some(Ok(state)) = entry.record.payload().map(StateRecord::parse) {
                        // None of the auditor's states expires.
                        memory.insert(state.key.to_vec(), (state.value.to_vec(), None));
                    }
                }
            }
            DumpItem::Origin(_) | DumpItem::Gap(_) => {}
        }
    }
    memory.retain(|_, (value, _)| !value.is_empty());
    Ok(memory)
}

/// A claim only: the event has the user id, too, which the kernel tells the agent.
fn user() -> String {
    let named = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(named);
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn trust(context: &Context, args: TrustArgs) -> Result<ExitCode, Failure> {
    let TrustArgs { server, database, .. } = &args;
    if args.reason.trim().is_empty() {
        return Err(could_not("--reason: is empty; say why the database is trusted again"));
    }
    let name = format!("{server}/{database}");
    let mut pairs = vec![
        ("server", server.clone()),
        ("database", database.clone()),
        ("reason", args.reason),
        ("by", args.by.unwrap_or_else(user)),
    ];
    pairs.extend(args.tx.map(|tx| ("tx", tx.to_string())));
    pairs.extend(args.hash.map(|hash| ("hash", hash)));
    let path = format!("/immudb/trust?{}", admin::encode_query(&pairs));
    let trusted: Value = small_runtime()?.block_on(async {
        let answer = admin::ask(&context.data_dir, Method::POST, &path).await?;
        let answer = answer.ok_or_else(|| admin::none_runs(&context.data_dir))?;
        // A refusal of its own says why.
        let says_nothing = answer.headers().get(header::CONTENT_TYPE).is_none();
        if answer.status() == StatusCode::NOT_FOUND && says_nothing {
            return Err(Failure {
                code: exit::FAILURE,
                message: "the agent audits no immudb servers: `sources.immudb` is off, or has not started yet"
                    .to_owned(),
            });
        }
        let body = admin::whole(answer).await?;
        serde_json::from_slice(&body).map_err(Failure::plain)
    })?;
    let state = |state: &Value| match (state["tx"].as_u64(), state["hash"].as_str()) {
        (Some(0), _) => "nothing".to_owned(),
        (Some(tx), Some(hash)) => format!("transaction {tx}, hash {hash}"),
        _ => "nothing that can be read".to_owned(),
    };
    print(&format!(
        "{name}: trusted from now on: {}\nbefore: {}\n",
        state(&trusted["new"]),
        state(&trusted["old"])
    ))?;
    Ok(ExitCode::SUCCESS)
}
