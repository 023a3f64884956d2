//! One audit for a command: held to what is remembered, and remembering nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::plugin::{Faults, Memory, PluginConfig as _, needs_of};
use auditmon_core::privileged::Control;
use auditmon_core::time;
use futures_util::stream::{self, StreamExt as _};
use prometheus::Registry;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::address::Endpoint;
use crate::client::{Fault, Listed, version};
use crate::compat::known;
use crate::config::{ImmudbConfig, ServerConfig};
use crate::history::Histories;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::note::Note;
use crate::room::Room;
use crate::server::{NONE_SELECTED, none_selected, unasked};
use crate::source::{HISTORIES, link, signing_keys};
use crate::trusted;
use crate::verdict::Verdict;

/// What an audit of one database came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// What the server shows follows from what is remembered, or nothing is.
    Ok,
    /// It doesn't.
    Tampered,
    /// Nobody knows.
    Unchecked,
}

/// One database of a server.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its name.
    pub database: String,
    /// What its audit came to.
    pub outcome: Outcome,
    /// The same in words, one line.
    pub text: String,
    /// The data of the event that an auditor would write.
    pub data: Value,
}

/// What the checks of a server came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whether anything is remembered of the server: else what it shows is taken as it is.
    pub remembered: bool,
    /// Its databases by name.
    pub databases: Vec<Checked>,
    /// Why nothing was audited; `databases` has then what an auditor would tell of that.
    pub failed: Option<Unreached>,
}

/// What of a database was there before the first contact.
fn unseen(unseen: &Value) -> String {
    match (unseen["last_tx"].as_u64(), unseen["left"].as_u64()) {
        (Some(last), Some(0)) => format!("; those up to {last} came before the first contact, their headers fit"),
        (Some(last), Some(left)) => {
            format!("; those up to {last} came before the first contact, {left} of them were never looked at")
        }
        _ => String::new(),
    }
}

/// Why a server can't be audited by now. Each but the first is a sentence that names the server, without a remedy:
/// flags and keys that would help are the caller's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unreached {
    /// A setting of the server is wrong.
    Setting {
        /// Its key.
        key: String,
        /// What is wrong.
        text: String,
    },
    /// It doesn't answer, or a file is wrong.
    Server(String),
    /// It refuses the login.
    Login(String),
    /// It asks for a login, and none is given.
    NoLogin(String),
    /// It takes no login, and one is given.
    NeedsNoLogin(String),
    /// It lists no database that is to be audited.
    NoDatabase(String),
}

impl Unreached {
    fn of(fault: &Fault, link: &Link, server: &ServerConfig) -> Self {
        let at = &link.client.endpoint;
        match fault {
            Fault::Login(_) if server.username.is_none() => Self::NoLogin(format!("{at} asks for a login")),
            Fault::Login(_) => Self::Login(format!("{at}: {fault}")),
            Fault::NoAuthentication => Self::NeedsNoLogin(format!(
                "{at} runs without authentication: it answers for `defaultdb` alone and takes no login"
            )),
            Fault::Unreachable(why) => Self::Server(format!("the server {at} can't be reached: {why}")),
            fault => Self::Server(format!("{at}: {fault}")),
        }
    }
}

/// An address in the form under which a server is remembered, with the port.
///
/// # Errors
/// What would be right.
pub fn whole_address(text: &str) -> Result<String, String> {
    Endpoint::parse(text).map(|endpoint| endpoint.to_string())
}

/// Asks a server how it is, so many times a second apart, and logs in once where there is a login.
///
/// # Errors
/// It doesn't answer, or refuses the login.
pub async fn reach(config: &ImmudbConfig, server: &ServerConfig, times: u32) -> Result<(), Unreached> {
    let metrics = Metrics::new(&Registry::new()).map_err(|error| Unreached::Server(error.to_string()))?;
    let link = open(config, server, Path::new("/"), &metrics)?;
    let mut left = times;
    while let Err(fault) = link.client.health().await {
        left = left.saturating_sub(1);
        if left == 0 {
            return Err(Unreached::of(&fault, &link, server));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        link.client.reconnect();
    }
    if server.username.is_none() {
        return Ok(());
    }
    let listed = link.list().await;
    link.goodbye().await;
    match listed {
        Err(fault @ Fault::Login(_)) => Err(Unreached::of(&fault, &link, server)),
        // What else goes wrong is for the audits to tell.
        _ => Ok(()),
    }
}

/// The way to a server, with files of what was seen of it below `data_dir`, which are read and never written.
fn open(config: &ImmudbConfig, server: &ServerConfig, data_dir: &Path, metrics: &Metrics) -> Result<Link, Unreached> {
    let config = ImmudbConfig {
        servers: vec![server.clone()],
        ..config.clone()
    };
    let mut faults = Faults::default();
    config.validate(&mut faults);
    if let Some(fault) = faults.into_vec().into_iter().next() {
        // There is no list of servers for whoever names one.
        let key = fault.path.strip_prefix("servers[0].").unwrap_or(&fault.path).to_owned();
        let text = fault.message;
        return Err(Unreached::Setting { key, text });
    }
    let failed = |error: &dyn std::fmt::Display| Unreached::Server(error.to_string());
    let control = Control::of_caller(needs_of(&config).files).map_err(|error| failed(&error))?;
    let limit = Arc::new(Semaphore::new(config.concurrency as usize));
    let histories = Histories::new(data_dir.join(HISTORIES), 0);
    let keys = signing_keys(&control, server).map_err(|error| failed(&error))?;
    link(&config, server, keys, (&limit, &histories), metrics, &control).map_err(Unreached::Server)
}

/// Audits the selected databases of one server once. Of `config` its times and limits count; below `data_dir` an auditor
/// may have kept what helps to say where a history differs.
///
/// # Errors
/// A setting or a file is wrong: an auditor would not start.
pub async fn check(
    config: &ImmudbConfig,
    server: &ServerConfig,
    memory: &Memory,
    data_dir: &Path,
) -> Result<Report, Unreached> {
    let metrics = Metrics::new(&Registry::new()).map_err(|error| Unreached::Server(error.to_string()))?;
    let link = open(config, server, data_dir, &metrics)?;
    let names = (link.client.endpoint.clone(), link.label.clone());
    let health = link.client.health().await;
    let mut memory = memory.clone();
    if let Ok(health) = &health {
        let of = (&names.0, names.1.as_str());
        let (imports, _) = known::of_server(&link.known, of, health.uuid.as_deref(), &link.keys, time::now());
        for import in imports {
            let key = trusted::key(&names.0, &import.database);
            memory.entry(key).or_insert_with(|| (import.record.encode(), None));
        }
    }
    let remembered = !trusted::of_server(&memory, &names.0).is_empty();
    let room = Room::new(&memory, [&names.0]);
    let mut ledger = Ledger::new(names, (&memory, room), metrics, config.interval.0, Duration::ZERO, true);
    let listed = match health {
        Ok(health) => {
            ledger.version = version(&health.message);
            link.list().await
        }
        Err(fault) => Err(fault),
    };
    let (verdicts, failed) = match listed {
        Ok(listed) => audit(&link, &ledger, &listed).await,
        // From 1.9.3 to 1.11.0 one unloaded database hides the list.
        Err(Fault::Unloaded) => audit(&link, &ledger, &[]).await,
        Err(fault) => {
            let mut names: Vec<String> = link.jobs(&ledger, &[]).0.into_iter().map(|job| job.name).collect();
            if names.is_empty() {
                names.push(String::new());
            }
            let verdicts = names.into_iter().map(|name| (name, unasked(&fault)));
            (verdicts.collect(), Some(Unreached::of(&fault, &link, server)))
        }
    };
    link.goodbye().await;
    Ok(Report {
        remembered,
        databases: told(&mut ledger, verdicts),
        failed,
    })
}

/// Audits the selected databases of those that are listed; says so where there is none.
async fn audit(link: &Link, ledger: &Ledger, listed: &[Listed]) -> (Vec<(String, Verdict)>, Option<Unreached>) {
    let jobs = link.jobs(ledger, listed).0;
    if jobs.is_empty() {
        let failed = Unreached::NoDatabase(NONE_SELECTED.to_owned());
        return (vec![(String::new(), none_selected())], Some(failed));
    }
    let audits = stream::iter(jobs).map(|job| async move {
        let verdict = link.one(&job).await.verdict;
        (job.name, verdict)
    });
    (audits.buffer_unordered(link.width).collect().await, None)
}

/// What an auditor would tell of these verdicts, by database.
fn told(ledger: &mut Ledger, mut verdicts: Vec<(String, Verdict)>) -> Vec<Checked> {
    verdicts.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut note, now) = (Note::default(), time::now());
    for (name, verdict) in verdicts {
        ledger.settle(&name, verdict, &mut note, now);
    }
    let databases = note.told.into_iter().map(|told| {
        let (outcome, text) = match &told.verdict {
            Verdict::Ok(good) => {
                let (how, tx) = (good.how.as_str(), good.state.tx);
                let text = format!("in order ({how}), transaction {tx}{}", unseen(&told.data["unseen"]));
                (Outcome::Ok, text)
            }
            Verdict::Tampered(finding) => {
                let text = format!("TAMPERED ({}): {}", finding.code.as_str(), finding.text);
                (Outcome::Tampered, text)
            }
            Verdict::Unchecked(why) => {
                let text = format!("could not check ({}): {}", why.reason, why.text);
                (Outcome::Unchecked, text)
            }
        };
        Checked {
            database: told.database,
            outcome,
            text,
            data: told.data,
        }
    });
    databases.collect()
}
