//! Settings of `sources.immudb`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::plugin::{ADMIN, BuildContext, Faults, PluginConfig, PluginError, ReadConfigured, Source};
use auditmon_core::privileged::{ConfiguredFile, Needs};
use auditmon_core::units::{Size, Span};
use immudb_verify::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::Endpoint;
use crate::compat::{CompatConfig, Known};
use crate::peers::{MAX_PEERS, PeerConfig};
use crate::source::{Auditor, signing_key};
use crate::trusted;
use crate::word::NOTHING;

/// Shortest interval.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Longest `timeout`.
const MAX_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Most servers.
const MAX_SERVERS: usize = 1_000;
/// Most databases at a time.
const MAX_CONCURRENCY: u32 = 1_000;
/// Most calls beside the audits.
const MAX_CALLS: u32 = 10_000;
/// Smallest and largest `history`.
const HISTORY: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Smallest and largest `max_message`.
const MESSAGE: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 30;

/// Audits immudb servers from outside: each database has to prove that what it shows now follows from what was seen
/// before.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImmudbConfig {
    /// The servers.
    pub servers: Vec<ServerConfig>,
    /// From one audit of a database to the next, at least 1s. One that takes longer puts off the next.
    pub interval: Span,
    /// For one call to a server, at most 5m.
    pub timeout: Span,
    /// For one audit of one database, with all its calls.
    pub deadline: Span,
    /// Most databases at a time, all servers together, 1 to 1,000.
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: u32,
    /// Up to so many new transactions are looked at one by one; of more, the server's proof is checked alone.
    pub walk: u64,
    /// Most calls to one server, each interval, for headers of transactions from before the first contact: at most 1,000 of
    /// them a call. 0 for none.
    #[schemars(range(max = 10000))]
    pub past_calls: u32,
    /// Most calls to one server, each interval, for values: those of new transactions first, then all of them again and
    /// again. 0 for none.
    #[schemars(range(max = 10000))]
    pub value_calls: u32,
    /// How long a database may be gone before that is a finding.
    pub missing_after: Span,
    /// An event for every audit, not only for changes and once an hour.
    pub every: bool,
    /// For hashes of transactions of one database, which show where a history begins to differ: 44 bytes each; beyond
    /// this every second one is left out. As much again for those from before the first contact. 64 KiB to 1 GiB, 0 for
    /// none.
    pub history: Size,
    /// Largest answer that is taken, 1 MiB to 1 GiB.
    pub max_message: Size,
    /// Other agents that audit some of the same servers: each tells the others which states it has seen.
    pub peers: Vec<PeerConfig>,
    /// Shows itself as immuclient's auditor or immugw's does, too.
    pub compat: Option<CompatConfig>,
}

impl Default for ImmudbConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            interval: Span(Duration::from_secs(60)),
            timeout: Span(Duration::from_secs(10)),
            deadline: Span(Duration::from_secs(50)),
            concurrency: 16,
            walk: 10_000,
            past_calls: 10,
            value_calls: 10,
            missing_after: Span(Duration::from_secs(60)),
            every: false,
            history: Size(16 << 20),
            // A decoded answer takes at most twelve times as much memory, that of an entry for each 36 bytes; a page of values
            // and all its entries may be two of them. Pages of headers that are larger are asked for in parts.
            max_message: Size(16 << 20),
            peers: Vec::new(),
            compat: None,
        }
    }
}

/// One server. What it has shown is remembered under its address.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// `host` or `host:port`; without a port 3322.
    pub address: String,
    /// Its name in events and metrics; otherwise its address.
    pub name: Option<String>,
    /// The user, who only needs to read. Without one it is tried without a login.
    pub username: Option<String>,
    /// The user's password; `enc:` and base64 is taken, too.
    #[schemars(extend("x-secret" = true))]
    pub password: Option<Password>,
    /// How to log in.
    pub login: Login,
    /// TLS; plain text without.
    pub tls: Option<TlsConfig>,
    /// Public keys (PEM, P-256) of which one has to sign every state. Without, the first key seen is remembered.
    #[schemars(extend("x-file" = "read"))]
    pub signing_keys: Vec<PathBuf>,
    /// Names of databases, or patterns with `*` and `?`; none of this and `prefixes` selects all.
    pub databases: Vec<String>,
    /// Beginnings of names of databases.
    pub prefixes: Vec<String>,
    /// The server's own database, too; only its administrator may read it.
    pub systemdb: bool,
    /// States that are trusted again after a finding, each once.
    pub accept: Vec<Accept>,
    /// States that another auditor trusted, to go on from.
    pub known: Vec<Known>,
}

/// An operator's word that a state is to be trusted after a finding. It is applied once; a second time takes other words.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accept {
    /// The database.
    pub database: String,
    /// The transaction that the finding shows; 0 to begin anew: the database was deleted or emptied on purpose.
    pub tx: u64,
    /// Its hash, 64 hexadecimal digits; none with transaction 0.
    pub hash: Option<String>,
    /// Who accepts it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Accept {
    /// The state, if there is one.
    pub(crate) fn state(&self) -> Option<State> {
        match (&self.hash, self.tx) {
            (None, 0) => Some(NOTHING),
            (Some(hash), tx) if tx > 0 => trusted::state(tx, hash),
            _ => None,
        }
    }

    /// # Errors
    /// What is expected where something is missing, too long or no state.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.state().is_none() {
            return Err("expected `tx` with `hash` of 64 hexadecimal digits, or `tx: 0` without");
        }
        let texts = [(&self.database, 128), (&self.by, 256), (&self.reason, 1024)];
        if texts.iter().any(|(text, most)| text.is_empty() || text.len() > *most) {
            return Err("expected `database`, `by` and `reason`, with at most 128, 256 and 1024 bytes");
        }
        Ok(())
    }

    /// What tells it from others, in few characters.
    pub(crate) fn mark(&self) -> String {
        let hash = self.hash.as_deref().unwrap_or_default();
        let words = format!("{}/{hash}/{}/{}", self.tx, self.by, self.reason);
        hex::encode(auditmon_journal::format::source_hash(&words))
    }
}

/// A text that is never shown.
#[derive(Clone, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Password(pub(crate) String);

impl Password {
    /// A password as it stands in a file.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How to log in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// By sessions where the server has them (1.2.0 and later), else by tokens.
    #[default]
    Auto,
    /// By sessions.
    Session,
    /// By tokens.
    Token,
}

/// TLS to a server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The authorities that its certificate may come from, in PEM form, instead of the host's.
    #[schemars(extend("x-file" = "read"))]
    pub ca_file: Option<PathBuf>,
    /// Our certificate, in PEM form, for servers that ask for one.
    #[schemars(extend("x-file" = "read"))]
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    #[schemars(extend("x-file" = "secret"))]
    pub key_file: Option<PathBuf>,
    /// The name that its certificate has to be for, if it isn't the address.
    pub server_name: Option<String>,
}

impl ImmudbConfig {
    /// The configured server of this name or address.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&ServerConfig> {
        let endpoint = Endpoint::parse(name).ok();
        let of_name = self.servers.iter().find(|server| server.label() == name);
        let same = |server: &&ServerConfig| endpoint.is_some() && Endpoint::parse(&server.address).ok() == endpoint;
        of_name.or_else(|| self.servers.iter().find(same))
    }
}

impl ServerConfig {
    fn validate(&self, at: &str, faults: &mut Faults) {
        let mut fault = |key: &str, text: String| faults.add(format!("{at}.{key}"), text);
        if let Err(error) = Endpoint::parse(&self.address) {
            fault("address", error);
        }
        if self
            .name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > 128)
        {
            fault("name", "has 1 to 128 bytes".to_owned());
        }
        if self.password.is_some() && self.username.is_none() {
            fault("username", "is missing beside `password`".to_owned());
        }
        if self.username.is_some() && self.password.is_none() {
            fault(
                "password",
                "is missing beside `username`; or `password_file`".to_owned(),
            );
        }
        if self
            .username
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > 63)
        {
            fault("username", "has 1 to 63 bytes".to_owned());
        }
        if let Some(password) = &self.password
            && let Err(error) = crate::secret::decode(&password.0)
        {
            fault("password", error.to_owned());
        }
        for (key, list) in [("databases", &self.databases), ("prefixes", &self.prefixes)] {
            if list.iter().any(|name| name.is_empty() || name.len() > 128) {
                fault(key, "names have 1 to 128 bytes".to_owned());
            }
        }
        let files = self.signing_keys.iter().map(|file| ("signing_keys", file));
        let tls = self.tls.iter().flat_map(|tls| {
            let files = [
                ("tls.ca_file", &tls.ca_file),
                ("tls.cert_file", &tls.cert_file),
                ("tls.key_file", &tls.key_file),
            ];
            files.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)))
        });
        for (key, file) in files.chain(tls) {
            if !file.is_absolute() {
                fault(key, format!("has to be an absolute path, here {}", file.display()));
            }
        }
        for accept in &self.accept {
            if let Err(says) = accept.check() {
                fault("accept", says.to_owned());
            }
        }
        for known in &self.known {
            if let Err(says) = known.check() {
                fault("known", says.to_owned());
            }
        }
        match &self.tls {
            Some(tls) if tls.cert_file.is_some() != tls.key_file.is_some() => {
                fault(
                    "tls",
                    "a certificate is of no use without its key: expected `cert_file` and `key_file`".to_owned(),
                );
            }
            _ => {}
        }
    }

    /// Its name in events and metrics.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }
}

#[async_trait]
impl PluginConfig for ImmudbConfig {
    type Plugin = Box<dyn Source>;

    fn validate(&self, faults: &mut Faults) {
        if self.servers.len() > MAX_SERVERS {
            faults.add("servers", format!("at most {MAX_SERVERS}, here {}", self.servers.len()));
        }
        let (mut endpoints, mut labels) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        for (number, server) in self.servers.iter().enumerate() {
            let at = format!("servers[{number}]");
            server.validate(&at, faults);
            if let Ok(endpoint) = Endpoint::parse(&server.address)
                && !endpoints.insert(endpoint.to_string())
            {
                faults.add(format!("{at}.address"), format!("{endpoint} stands twice"));
            }
            if !labels.insert(server.label()) {
                faults.add(format!("{at}.name"), format!("`{}` stands twice", server.label()));
            }
        }
        if self.peers.len() > MAX_PEERS {
            faults.add("peers", format!("at most {MAX_PEERS}, here {}", self.peers.len()));
        }
        let mut journals = Vec::new();
        for (number, peer) in self.peers.iter().enumerate() {
            let at = format!("peers[{number}]");
            peer.validate(&at, faults);
            if let Ok(identity) = peer.identity() {
                if journals.contains(&identity) {
                    faults.add(format!("{at}.log_key"), format!("{} stands twice", identity.name()));
                }
                journals.push(identity);
            }
        }
        if self.interval.0 < MIN_INTERVAL {
            faults.add("interval", format!("at least 1s, here {}", self.interval));
        }
        for (key, span) in [("timeout", self.timeout), ("deadline", self.deadline)] {
            if span.0.is_zero() {
                faults.add(key, "more than 0s");
            }
        }
        if self.timeout.0 > MAX_TIMEOUT {
            faults.add("timeout", format!("at most 5m, here {}", self.timeout));
        }
        if self.deadline.0 < self.timeout.0 {
            faults.add(
                "deadline",
                format!("at least `timeout` ({}), here {}", self.timeout, self.deadline),
            );
        }
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            faults.add(
                "concurrency",
                format!("1 to {MAX_CONCURRENCY}, here {}", self.concurrency),
            );
        }
        for (key, calls) in [("past_calls", self.past_calls), ("value_calls", self.value_calls)] {
            if calls > MAX_CALLS {
                faults.add(key, format!("at most {MAX_CALLS}, here {calls}"));
            }
        }
        if self.history.0 != 0 && !HISTORY.contains(&self.history.0) {
            faults.add("history", format!("64KiB to 1GiB, or 0, here {}", self.history));
        }
        if !MESSAGE.contains(&self.max_message.0) {
            faults.add("max_message", format!("1MiB to 1GiB, here {}", self.max_message));
        }
        let log_file = self.compat.as_ref().and_then(|compat| compat.log_file.as_ref());
        if let Some(file) = log_file
            && !file.is_absolute()
        {
            let text = format!("has to be an absolute path, here {}", file.display());
            faults.add("compat.log_file", text);
        }
    }

    fn warn(&self, warnings: &mut Faults) {
        if self.servers.is_empty() {
            warnings.add("servers", "is empty: nothing is audited");
        }
        for (number, peer) in self.peers.iter().enumerate() {
            peer.warn(&format!("peers[{number}]"), warnings);
        }
        for (number, server) in self.servers.iter().enumerate() {
            let local = Endpoint::parse(&server.address).is_ok_and(|endpoint| endpoint.is_here());
            if server.tls.is_none() && server.password.is_some() && !local {
                warnings.add(
                    format!("servers[{number}].tls"),
                    "is not set: the password crosses the network in plain text",
                );
            }
            if local {
                warnings.add(
                    format!("servers[{number}].address"),
                    "is this host: who can change the server's data here can change what the auditor remembers",
                );
            }
        }
    }

    fn needs(&self, needs: &mut Needs) {
        let log_file = self.compat.as_ref().and_then(|compat| compat.log_file.as_deref());
        if let Some(beside) = log_file.and_then(Path::parent) {
            needs.directory(beside);
        }
    }

    fn inspect(&self, read: ReadConfigured<'_>, faults: &mut Faults) {
        for (number, server) in self.servers.iter().enumerate() {
            for path in &server.signing_keys {
                let file = ConfiguredFile {
                    path: path.clone(),
                    secret: false,
                };
                let bytes = read(&file).map_err(|error| error.to_string());
                if let Err(says) = bytes.and_then(|bytes| signing_key(path, bytes)) {
                    faults.add(format!("servers[{number}].signing_keys"), says);
                }
            }
        }
    }

    async fn build(self, cx: &mut BuildContext) -> Result<Self::Plugin, PluginError> {
        let (metrics, control, dir) = (cx.metrics.clone(), cx.control.clone(), cx.data_dir.clone());
        let journal = cx.emitter.clone().map(|emitter| (cx.origin.clone(), emitter));
        let mut auditor = tokio::task::spawn_blocking(move || Auditor::open(self, &dir, &metrics, &control, journal))
            .await
            .map_err(PluginError::transient)??;
        cx.named_routes.insert(ADMIN, auditor.desk().routes());
        if let Some(routes) = auditor.exchange() {
            cx.routes = routes;
        }
        if let Some((listener, routes)) = auditor.monitoring(&cx.metrics).map_err(PluginError::permanent)? {
            cx.named_routes.insert(listener, routes);
        }
        Ok(Box::new(auditor))
    }
}
