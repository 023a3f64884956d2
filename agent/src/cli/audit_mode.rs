//! `auditmon audit-mode`: the flags, variables and files of immuclient's auditor and of immugw's, as a configuration of
//! ours.
//!
//! | module | what it does |
//! |---|---|
//! | `keys` | every key, a row each |
//! | `flat`, `given` | files; flags before variables before files |
//! | `duration` | durations as Go writes them |
//! | `translate`, `settings` | from keys to our configuration, each line with where it comes from |
//! | `states` | what the replaced auditor trusted |
//! | `pid` | a file with the process' number |
//! | `service` | as a service of systemd |
//! | `made` | a configuration that no file holds |

mod duration;
mod flat;
mod given;
mod keys;
mod made;
mod pid;
mod service;
mod settings;
mod states;
mod translate;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use auditmon_config::{Loaded, Request};
use auditmon_core::plugin::Entry;
use auditmon_source_immudb::{Outcome, Unreached};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::cli::{Context, Failure, default_data_dir, exit, host_name, immudb, print, run};

pub use given::{Flags, Given, Sources};
pub use keys::Program;
pub use made::Made;
use pid::PidFile;
pub use service::put;
pub use settings::{NAME, Settings};
pub use translate::Around;

/// Words that immuclient knows behind `audit-mode`.
const WORDS: [&str; 7] = ["start", "install", "uninstall", "restart", "stop", "status", "help"];

/// How often a server is asked at the start, a second apart, before that counts as no answer; upstream's figure.
const HEALTH_CHECKS: u32 = 6;

/// Options of `auditmon audit-mode`.
pub struct AuditModeArgs {
    /// An interval, or what to do with the service.
    word: Option<String>,
    immugw: bool,
    single_run: bool,
    print_config: bool,
    flags: Flags,
}

impl clap::FromArgMatches for AuditModeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            word: matches.get_one::<String>("word").cloned(),
            immugw: matches.get_flag("immugw"),
            single_run: matches.get_flag("single-run"),
            print_config: matches.get_flag("print-config"),
            flags: Flags::of(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for AuditModeArgs {
    fn augment_args(command: Command) -> Command {
        let switch =
            |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
        let word = Arg::new("word")
            .value_name("INTERVAL|COMMAND")
            .help("An interval such as 1m0s; or install, start, stop, restart, status, uninstall: as a service");
        let command = command
            .arg(word)
            .arg(switch(
                "immugw",
                "Be immugw's auditor: its variables, file, defaults and port",
            ))
            .arg(switch(
                "single-run",
                "Audit once, held to what is remembered; remembers nothing. Exit code 0, 1 tampered, 2 could not check",
            ))
            .arg(switch(
                "print-config",
                "Print the configuration that this comes to, and do nothing",
            ));
        keys::add_to(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What the word behind `audit-mode` says.
enum Word {
    /// Nothing, or an interval.
    Audit(Option<String>),
    /// What to do with the service.
    Service(service::Verb),
    /// Help.
    Help,
}

/// Reads the word.
fn word(word: Option<&str>) -> Result<Word, Failure> {
    if let Some(verb) = word.and_then(service::Verb::parse) {
        return Ok(Word::Service(verb));
    }
    match word {
        None => Ok(Word::Audit(None)),
        Some("help") => Ok(Word::Help),
        Some(word) if duration::parse(word).is_some() => Ok(Word::Audit(Some(word.to_owned()))),
        Some(word) => Err(Failure::plain(format!(
            "ERROR: {} is not matching with any valid arguments.\nexpected an interval such as 1m0s, or one of {}",
            duration::shown(word),
            WORDS.join(", ")
        ))),
    }
}

/// Runs `auditmon audit-mode`; `file` is immuclient's or immugw's.
pub fn run(
    args: AuditModeArgs,
    file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    entries: fn() -> Vec<Entry>,
) -> Result<ExitCode, Failure> {
    let (interval, install) = match word(args.word.as_deref())? {
        Word::Audit(interval) => (interval, false),
        Word::Service(service::Verb::Install) => (None, true),
        Word::Service(verb) => return control(verb),
        Word::Help => return help(),
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let (mut given, mut settings) = translated(&args, interval.as_deref(), &environment, file);
    if install {
        given.warnings.extend(service::left_out(&given, &environment));
    }
    told(&given)?;
    if let Some(dir) = &data_dir {
        settings.data_dir(dir, "--data-dir");
    }
    if args.print_config {
        // What no start would take is not worth printing.
        load(&settings, environment, data_dir, entries)?;
        print(&settings.shown())?;
        return Ok(ExitCode::SUCCESS);
    }
    let context = context(&settings, environment, data_dir, entries)?;
    if install {
        return self::install(&context, settings);
    }
    if args.single_run {
        return once(&context);
    }
    if !args.immugw {
        begin(&context)?;
    }
    // Removed at the end.
    let _pid = match given.get("pidfile") {
        Some(file) => {
            let written = PidFile::write(Path::new(file.text.trim()));
            Some(written.map_err(|error| Failure::plain(format!("{}: {error}", file.origin)))?)
        }
        None => None,
    };
    let made = context.made.clone();
    run::run(context).map_err(|failure| Failure {
        message: made.map_or_else(|| failure.message.clone(), |made| made.blame(&failure.message)),
        ..failure
    })
}

/// What was given, and the configuration that it comes to.
fn translated(
    args: &AuditModeArgs,
    interval: Option<&str>,
    environment: &[(OsString, OsString)],
    file: Option<PathBuf>,
) -> (Given, Settings) {
    let program = if args.immugw {
        Program::Immugw
    } else {
        Program::Immuclient
    };
    let sources = Sources {
        program,
        flags: &args.flags,
        environment,
        file,
    };
    let mut given = sources.gather();
    let found = states::look(program, &given, environment);
    given.warnings.extend(found.warnings);
    let level = given::variable(environment, "LOG_LEVEL").and_then(|level| level.to_str());
    let around = Around {
        program,
        interval,
        level: level.map(str::to_owned),
        known: found.known,
    };
    let settings = around.translate(&mut given);
    (given, settings)
}

/// Warnings to stderr; faults end it.
fn told(given: &Given) -> Result<(), Failure> {
    for warning in &given.warnings {
        eprintln!("auditmon: warning: {warning}");
    }
    if given.faults.is_empty() {
        return Ok(());
    }
    Err(Failure {
        code: exit::CONFIG,
        message: given.faults.join("\n"),
    })
}

fn help() -> Result<ExitCode, Failure> {
    let mut command = crate::cli::command();
    command.build();
    let text = command
        .find_subcommand_mut("audit-mode")
        .map(|command| command.render_long_help().to_string());
    print(&text.unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration, loaded as any other.
fn context(
    settings: &Settings,
    environment: Vec<(OsString, OsString)>,
    data_dir: Option<PathBuf>,
    entries: fn() -> Vec<Entry>,
) -> Result<Context, Failure> {
    let (request, loaded, made) = load(settings, environment, data_dir, entries)?;
    let data_dir = match loaded.settings.data_dir.clone() {
        Some(dir) => dir,
        None => default_data_dir()?,
    };
    Ok(Context {
        request,
        loaded,
        data_dir,
        entries,
        made: Some(made),
    })
}

/// The same without a data directory.
fn load(
    settings: &Settings,
    environment: Vec<(OsString, OsString)>,
    data_dir: Option<PathBuf>,
    entries: fn() -> Vec<Entry>,
) -> Result<(Request, Loaded, Made), Failure> {
    let made = Made::new(settings.clone());
    let name = PathBuf::from(NAME);
    let request = Request {
        file: Some(name.clone()),
        environment,
        data_dir,
        read: made.over(auditmon_runtime::privileges::reader(Some(&name))),
        ..Request::new(host_name())
    };
    let loaded = made
        .own(auditmon_config::load(&request, &entries()))
        .map_err(|errors| Failure {
            code: exit::CONFIG,
            message: errors.to_string(),
        })?;
    Ok((request, loaded, made))
}

/// As upstream has it, a start without a server, or with a login that it refuses, ends with 1; later nothing does.
/// immugw's auditor begins in any case.
fn begin(context: &Context) -> Result<(), Failure> {
    immudb::reach_first(context, HEALTH_CHECKS)?.map_err(|why| {
        let did = match why {
            Unreached::Login(_) => "Invalid login operation",
            _ => "Initialization failed",
        };
        Failure::plain(format!("{did}: {}", FLAGS.words(&why)))
    })
}

/// What is said of a login.
const FLAGS: immudb::Flags = immudb::Flags {
    user: "--audit-username",
    password: "--audit-password-file",
    given: "--audit-username",
};

/// One audit of all databases; says what it came to.
fn once(context: &Context) -> Result<ExitCode, Failure> {
    let report = immudb::check_first(context, &FLAGS)?;
    if let Some(why) = &report.failed {
        return Err(could_not(why));
    }
    let mut out = String::new();
    for checked in &report.databases {
        out += &format!("{}: {}\n", checked.database, checked.text);
    }
    print(&out)?;
    Ok(ExitCode::from(immudb::code(&report)))
}

fn could_not(why: &Unreached) -> Failure {
    Failure {
        code: exit::USAGE,
        message: FLAGS.words(why),
    }
}

fn root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Failure::plain("services are root's: run it with sudo"))
    }
}

/// Installs the service, once the server was seen to answer with these settings.
fn install(context: &Context, mut settings: Settings) -> Result<ExitCode, Failure> {
    root()?;
    // What was remembered here, and what this was held to, is what the service goes on from.
    settings.data_dir(&context.data_dir, "this command");
    let initial = |failure: Failure| Failure::plain(format!("Initialization failed: {}", failure.message));
    let report = immudb::check_first(context, &FLAGS).map_err(initial)?;
    match &report.failed {
        None => {
            for checked in report.databases.iter().filter(|checked| checked.outcome != Outcome::Ok) {
                eprintln!("auditmon: warning: {}: {}", checked.database, checked.text);
            }
        }
        // It may come.
        Some(why @ Unreached::NoDatabase(_)) => eprintln!("auditmon: warning: {}", FLAGS.words(why)),
        Some(why) => return Err(initial(could_not(why))),
    }
    let service = service::Service::of_host().map_err(Failure::plain)?;
    // Parents of the files are for everybody to look into; the files have modes of their own.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    print(&service.install(&settings.yaml()).map_err(Failure::plain)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Does something with the installed service.
fn control(verb: service::Verb) -> Result<ExitCode, Failure> {
    let service = service::Service::of_host().map_err(Failure::plain)?;
    if verb != service::Verb::Status {
        root()?;
    }
    let said = match verb {
        service::Verb::Status => {
            let runs = service.runs().map_err(Failure::plain)?;
            let word = if runs { "is running" } else { "is stopped" };
            print(&format!("{} {word}\n", service::UNIT))?;
            return Ok(ExitCode::from(u8::from(!runs)));
        }
        service::Verb::Start => service.start(),
        service::Verb::Stop => service.stop(),
        service::Verb::Restart => service.restart(),
        service::Verb::Uninstall => service.uninstall(),
        // Needs settings, and is done with them.
        service::Verb::Install => Err("install is done with settings alone".to_owned()),
    };
    print(&said.map_err(Failure::plain)?)?;
    Ok(ExitCode::SUCCESS)
}

/// What a file of theirs comes to, with what its auditor trusted.
pub fn imported(program: Program, file: PathBuf, state: Option<&Path>) -> Result<Settings, Failure> {
    let sources = Sources {
        program,
        flags: &Flags::default(),
        environment: &[],
        file: Some(file),
    };
    let mut given = sources.gather();
    let mut found = states::look(program, &given, &[]);
    if let Some(auditor) = state {
        states::read(auditor, &mut found);
    }
    given.warnings.append(&mut found.warnings);
    let around = Around {
        program,
        interval: None,
        level: None,
        known: found.known,
    };
    let settings = around.translate(&mut given);
    told(&given)?;
    Ok(settings)
}

#[cfg(test)]
mod tests;
