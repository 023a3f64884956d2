//! The plugin: its servers, each in a task of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use auditmon_core::Emitter;
use auditmon_core::health::{HealthReporter, State};
use auditmon_core::plugin::{PluginError, RunContext, Source};
use auditmon_core::privileged::{Control, FileError};
use axum::Router;
use immudb_verify::PublicKey;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::address::Endpoint;
use crate::behind::Behind;
use crate::chore::Budget;
use crate::client::{Client, connect};
use crate::compat::{Compat, Face, Probe, Routes};
use crate::config::{ImmudbConfig, ServerConfig};
use crate::desk::{Desk, Orders};
use crate::history::Histories;
use crate::ledger::{Ledger, Past, Summary};
use crate::link::{Link, SEATS};
use crate::metrics::Metrics;
use crate::peers::{self, Hub, Meeting};
use crate::room::Room;
use crate::secret::Credentials;
use crate::select::Selection;
use crate::server::Server;

/// Where hashes of transactions are kept, below the data directory.
pub(crate) const HISTORIES: &str = "immudb";
/// Where what proves that a server shows two histories is kept, below that.
const EVIDENCE: &str = "evidence";
/// Most databases that the plugin's state names.
const NAMED: usize = 5;

/// How all servers are, for the plugin's state.
#[derive(Default)]
pub(crate) struct Board(Mutex<BTreeMap<String, Summary>>);

impl Board {
    /// Takes how one server is, and tells how all are.
    pub(crate) fn show(&self, server: &str, summary: Summary, health: &HealthReporter) {
        let mut all = self.0.lock();
        all.insert(server.to_owned(), summary);
        let count: usize = all.values().map(|summary| summary.all).sum();
        let list = |what: &str, of: fn(&Summary) -> &Vec<String>| {
            let names: Vec<&str> = all.values().flat_map(of).map(String::as_str).collect();
            let more = names.len().saturating_sub(NAMED);
            let mut text = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            if more > 0 {
                text.push_str(&format!(" and {more} more"));
            }
            (!names.is_empty()).then(|| format!("{what} {} of {count} databases: {text}", names.len()))
        };
        let parts = [
            list("TAMPERED", |summary| &summary.tampered),
            list("could not check", |summary| &summary.unchecked),
        ];
        let mut text: Vec<String> = parts.into_iter().flatten().collect();
        if all.values().any(|summary| summary.full) {
            text.push("not all that was seen is remembered: the journal takes 8 MiB for all servers".to_owned());
        }
        let left: usize = all.values().map(|summary| summary.left).sum();
        if left > 0 {
            let most = crate::client::MAX_DATABASES;
            text.push(format!(
                "{left} databases that servers list are not audited: at most {most} of a server are"
            ));
        }
        if !text.is_empty() {
            return health.degraded(text.join("; "));
        }
        let mut past = Past::default();
        all.values().for_each(|summary| past.add(summary.past));
        health.set(State::Ok, progress(past));
    }
}

/// How far it has come with what was there before the first contact; `None` where nothing is left.
fn progress(past: Past) -> Option<String> {
    let Past { databases, all, left } = past;
    (left > 0).then(|| {
        let seen = all.saturating_sub(left);
        let percent = u128::from(seen) * 100 / u128::from(all.max(1));
        let of = if databases == 1 {
            "1 database"
        } else {
            &format!("{databases} databases")
        };
        format!("looked at {seen} of {all} transactions from before the first contact ({percent} %), in {of}")
    })
}

/// `sources.immudb`, ready to run.
pub(crate) struct Auditor {
    config: ImmudbConfig,
    servers: Vec<(Link, Option<Orders>)>,
    metrics: Metrics,
    compat: Option<Arc<Compat>>,
    hub: Option<Arc<Hub>>,
}

impl Auditor {
    /// Reads all files; waits for the disk and the control thread.
    ///
    /// # Errors
    /// Which server and file, and what is wrong with it: a signing key that is none stays so, a file may come, or be
    /// mended, while the agent runs.
    pub(crate) fn open(
        config: ImmudbConfig,
        data_dir: &Path,
        registry: &Registry,
        control: &Control,
        journal: Option<(Arc<str>, Emitter)>,
    ) -> Result<Self, PluginError> {
        let metrics = Metrics::new(registry).map_err(PluginError::transient)?;
        let compat = config
            .compat
            .as_ref()
            .map(|compat| Compat::new(compat, config.interval.0, registry));
        let compat = compat.transpose().map_err(PluginError::transient)?;
        let histories = Histories::new(data_dir.join(HISTORIES), config.history.0);
        let limit = Arc::new(Semaphore::new(config.concurrency as usize));
        let hub = match journal.filter(|_| !config.peers.is_empty()) {
            Some(journal) => {
                let evidence = data_dir.join(HISTORIES).join(EVIDENCE);
                let hub = Hub::new(&config.peers, journal, evidence, registry, control);
                let wrong = |error| PluginError::transient(format!("peers: {error}"));
                Some(Arc::new(hub.map_err(wrong)?))
            }
            None => None,
        };
        let open = |server: &ServerConfig| {
            let keys = signing_keys(control, server)?;
            let link = link(&config, server, keys, (&limit, &histories), &metrics, control);
            let link = link.map_err(|error| PluginError::transient(format!("{}: {error}", server.label())))?;
            Ok((link, None))
        };
        let servers: Result<Vec<_>, PluginError> = config.servers.iter().map(open).collect();
        Ok(Self {
            servers: servers?,
            metrics,
            compat,
            hub,
            config,
        })
    }

    /// The monitoring server of the auditor that it replaces: its listener's name, its routes.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub(crate) fn monitoring(&self, registry: &Registry) -> Result<Option<(&'static str, Router)>, prometheus::Error> {
        let (Some(compat), Some(config)) = (&self.compat, &self.config.compat) else {
            return Ok(None);
        };
        let probes = self.servers.iter().map(|(link, _)| Probe::new(link.client.sibling()));
        let routes = Routes::new(compat.clone(), probes.collect(), registry.clone())?;
        Ok(Some((config.program.name(), routes.router())))
    }

    /// Where peers reach it.
    pub(crate) fn exchange(&self) -> Option<Router> {
        self.hub.clone().map(peers::route::router)
    }

    /// Where commands reach its servers.
    pub(crate) fn desk(&mut self) -> Desk {
        let mut desk = Desk::default();
        for (link, orders) in &mut self.servers {
            *orders = Some(desk.open(&link.label, &link.client.endpoint));
        }
        desk
    }
}

/// All that is needed to ask a server, beside its keys; reads its other files.
///
/// # Errors
/// Which file, and what is wrong with it.
pub(crate) fn link(
    config: &ImmudbConfig,
    server: &ServerConfig,
    keys: Vec<PublicKey>,
    (limit, histories): (&Arc<Semaphore>, &Histories),
    metrics: &Metrics,
    control: &Control,
) -> Result<Link, String> {
    let endpoint = Endpoint::parse(&server.address)?;
    let target = connect::target(&endpoint, server.tls.as_ref(), config.timeout.0, control)?;
    let credentials = match (&server.username, &server.password) {
        (Some(username), Some(password)) => Some(Credentials::new(username, &password.0)?),
        _ => None,
    };
    let max_message = usize::try_from(config.max_message.0).unwrap_or(usize::MAX);
    Ok(Link {
        label: server.label().to_owned(),
        client: Client::new(
            endpoint,
            target,
            credentials,
            server.login,
            config.timeout.0,
            max_message,
        ),
        selection: Selection::new(&server.databases, &server.prefixes, server.systemdb),
        keys,
        accept: server.accept.clone(),
        known: server.known.clone(),
        walk: config.walk,
        budget: Budget {
            past: config.past_calls,
            values: config.value_calls,
        },
        interval: config.interval.0,
        timeout: config.timeout.0,
        deadline: config.deadline.0,
        limit: limit.clone(),
        // One that gives no answer takes nothing from the others.
        width: (config.concurrency as usize / config.servers.len().max(1)).clamp(1, SEATS),
        silences: AtomicUsize::new(0),
        seats: Mutex::default(),
        findings: Mutex::default(),
        behind: Behind::default(),
        histories: histories.clone(),
        metrics: metrics.clone(),
    })
}

/// The keys of which one has to sign every state of a server.
///
/// # Errors
/// Which server and file, and what is wrong with it: a key that is none stays so, a file that can't be read may come back.
pub(crate) fn signing_keys(control: &Control, server: &ServerConfig) -> Result<Vec<PublicKey>, PluginError> {
    let of_server = |error: &dyn std::fmt::Display| format!("{}: {error}", server.label());
    let key = |path: &PathBuf| {
        let bytes = control.read_file(path).map_err(|error| match error {
            FileError::Control(_) | FileError::Io { .. } => PluginError::transient(of_server(&error)),
            _ => PluginError::permanent(of_server(&error)),
        })?;
        signing_key(path, bytes).map_err(|error| PluginError::permanent(of_server(&error)))
    };
    server.signing_keys.iter().map(key).collect()
}

/// A key, as a file has it.
///
/// # Errors
/// The file, and what is wrong with it.
pub(crate) fn signing_key(path: &Path, bytes: Vec<u8>) -> Result<PublicKey, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"is no public key in PEM form"))?;
    PublicKey::from_pem(&text).map_err(|error| wrong(&error))
}

#[async_trait]
impl Source for Auditor {
    async fn run(self: Box<Self>, cx: RunContext) -> Result<(), PluginError> {
        let board = Arc::new(Board::default());
        let mut tasks = JoinSet::new();
        cx.health.ok();
        if let Some(compat) = &self.compat {
            compat.start();
        }
        let room = Room::new(&cx.memory, self.servers.iter().map(|(link, _)| &link.client.endpoint));
        for (mut link, orders) in self.servers {
            let (accept, known) = (std::mem::take(&mut link.accept), std::mem::take(&mut link.known));
            let mut ledger = Ledger::new(
                (link.client.endpoint.clone(), link.label.clone()),
                (&cx.memory, room.clone()),
                self.metrics.clone(),
                self.config.interval.0,
                self.config.missing_after.0,
                self.config.every,
            );
            if let Some(compat) = &self.compat {
                let face = Face::new(compat.clone(), &ledger.endpoint, ledger.identity().0);
                ledger.face = Some(face);
            }
            let server = Server {
                link: Arc::new(link),
                ledger,
                accept,
                known,
                listed: Vec::new(),
                refused: None,
                emitter: cx.emitter.clone(),
                health: cx.health.clone(),
                board: board.clone(),
                orders,
                chores: JoinSet::new(),
                worked: String::new(),
                found: BTreeMap::new(),
                meeting: self.hub.clone().map(Meeting::new),
            };
            tasks.spawn(server.run(cx.stop.clone()));
        }
        let hub = self.hub.iter();
        for (hub, peer) in hub.flat_map(|hub| (0..hub.peers.len()).map(move |peer| (hub, peer))) {
            let interval = self.config.interval.0;
            tasks.spawn(peers::caller::run(hub.clone(), peer, interval, cx.stop.clone()));
        }
        tokio::select! {
            () = cx.stop.cancelled() => {}
            // Before it is told to, a server's task ends by a panic alone.
            Some(ended) = tasks.join_next() => ended.map_err(PluginError::transient)?,
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(PluginError::transient)?;
        }
        Ok(())
    }
}
