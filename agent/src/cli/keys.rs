//! `auditmon keys`, `auditmon page`: they write `accounts.db`; a running agent follows within a second.

use std::process::ExitCode;

use auditmon_core::time;
use auditmon_runtime::accounts::{AccountError, Accounts};
use auditmon_runtime::admin::{LogKey, PageAddress};
use auditmon_runtime::{agent, logkey};
use clap::Subcommand;
use hyper::Method;

use crate::admin;
use crate::cli::{Context, Failure, exit, open_offline, print, small_runtime};

/// Verbs of `auditmon keys`.
#[derive(Subcommand)]
pub enum KeysVerb {
    /// Make a key; its secret is printed on stdout, once
    #[command(after_help = "Examples:\n  auditmon keys create billing\n  auditmon keys create dashboard --scopes read")]
    Create {
        /// 1–64 of a–z, 0–9, `.`, `_`, `-`; it becomes the `event_source` of the key's events
        name: String,
        /// What the key may do: write, read
        #[arg(long, value_delimiter = ',', default_value = "write")]
        scopes: Vec<String>,
    },
    /// List all keys
    #[command(after_help = "Examples:\n  auditmon keys list")]
    List,
    /// Print the verifier key of the journal's checkpoints, for those who check it
    Log {
        #[command(subcommand)]
        verb: Option<LogVerb>,
    },
    /// Revoke a key for good; its name is never used again
    #[command(after_help = "Examples:\n  auditmon keys revoke billing\n\nA running agent follows within a second.")]
    Revoke {
        /// The key's name
        name: String,
    },
}

/// Verbs of `auditmon keys log`.
#[derive(Subcommand)]
pub enum LogVerb {
    /// Make a new key; it and the former one both sign until --finish
    #[command(
        after_help = "Examples:\n  auditmon keys log rotate            then give the printed key to those who check\n  auditmon keys log rotate --finish   only the new key signs from now on"
    )]
    Rotate {
        /// Remove the former key
        #[arg(long)]
        finish: bool,
    },
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        Self::plain(error)
    }
}

fn prepare(context: &Context) -> Result<(), Failure> {
    agent::make_data_dir(&context.data_dir).map_err(|error| Failure {
        code: exit::CANT_CREATE,
        message: error.to_string(),
    })
}

/// Runs `auditmon keys`.
pub fn run(context: &Context, verb: KeysVerb) -> Result<ExitCode, Failure> {
    if let KeysVerb::Log { verb } = verb {
        return match verb {
            None => log(context),
            Some(LogVerb::Rotate { finish }) => rotate(context, finish),
        };
    }
    prepare(context)?;
    small_runtime()?.block_on(async {
        let mut accounts = Accounts::open(&context.data_dir).await?;
        match verb {
            KeysVerb::Log { .. } => {}
            KeysVerb::Create { name, scopes } => {
                if let Some(unknown) = scopes.iter().find(|scope| !matches!(scope.as_str(), "write" | "read")) {
                    let message = format!("`{unknown}` is no scope; there are write and read");
                    return Err(Failure {
                        code: exit::USAGE,
                        message,
                    });
                }
                let has = |scope: &str| scopes.iter().any(|s| s == scope);
                let secret = accounts.create(&name, has("write"), has("read")).await?;
                print(&format!("{secret}\n"))?;
            }
            KeysVerb::List => {
                let mut out = format!("{:<24} {:<12} {:<26} {}\n", "NAME", "SCOPES", "CREATED", "REVOKED");
                for key in accounts.list().await? {
                    let revoked = key.revoked.map_or_else(|| "-".to_owned(), time::format);
                    out += &format!(
                        "{:<24} {:<12} {:<26} {revoked}\n",
                        key.name,
                        key.scopes,
                        seconds(key.created)
                    );
                }
                print(&out)?;
            }
            KeysVerb::Revoke { name } => {
                accounts.revoke(&name).await?;
                eprintln!("auditmon: the key `{name}` is revoked");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The verifier key, which the first start makes.
fn log(context: &Context) -> Result<ExitCode, Failure> {
    let path = context.data_dir.join("keys/log.vkey");
    let vkey = std::fs::read_to_string(&path).map_err(|error| {
        Failure::plain(format!(
            "{}: {error}; the key is made when an agent first starts",
            path.display()
        ))
    })?;
    print(&vkey)?;
    Ok(ExitCode::SUCCESS)
}

/// By the running agent, or in its place.
fn rotate(context: &Context, finish: bool) -> Result<ExitCode, Failure> {
    let path = if finish { "/keys/log/finish" } else { "/keys/log/rotate" };
    let runtime = small_runtime()?;
    let asked = runtime.block_on(admin::ask_json::<LogKey>(&context.data_dir, Method::POST, path))?;
    let vkey = match asked {
        Some(key) => key.vkey,
        None => {
            let offline = open_offline(context, &runtime)?;
            let vkey = logkey::change(offline.journal(), finish).map_err(Failure::plain)?;
            offline
                .tell(logkey::about(finish), &logkey::data(&vkey))
                .map_err(Failure::plain)?;
            vkey
        }
    };
    print(&format!("{vkey}\n"))?;
    if !finish {
        eprintln!("auditmon: both keys sign until `auditmon keys log rotate --finish`");
    }
    Ok(ExitCode::SUCCESS)
}

fn seconds(at: time::Nanos) -> String {
    time::format(at / 1_000_000_000 * 1_000_000_000)
}

/// Runs `auditmon page`: the running agent knows best where it is reached; without one the token waits for it.
pub fn page(context: &Context) -> Result<ExitCode, Failure> {
    prepare(context)?;
    let runtime = small_runtime()?;
    let asked = runtime.block_on(admin::ask_json::<PageAddress>(&context.data_dir, Method::POST, "/page"))?;
    if let Some(address) = asked {
        print(&format!("{}\n", address.url))?;
        eprintln!("auditmon: opens the page once, within an hour");
        return Ok(ExitCode::SUCCESS);
    }
    let token = runtime.block_on(async { Accounts::open(&context.data_dir).await?.page_token().await })?;
    let root = agent::root_url(&context.loaded.settings.http, context.loaded.settings.http.listen);
    print(&format!("{root}/open?token={token}\n"))?;
    eprintln!(
        "auditmon: opens the page once, within an hour, as soon as an agent runs on {}",
        context.data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
