//! The typed tree of everything that is not a plugin's.
//!
//! Doc comments of fields are what users read in the example file and in the schema.

mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use auditmon_core::units::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The agent's settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where everything is kept. Default: `/var/lib/auditmon` as root, else `auditmon` in the user's data directory.
    pub data_dir: Option<PathBuf>,
    /// Host name in events, and first half of the journal's origin. Default: the machine's name.
    pub host: Option<String>,
    /// Words about this host that `hosts:` entries can ask for, such as `role: db`; also AUDITMON_LABELS=k=v,k=v.
    pub labels: BTreeMap<String, String>,
    /// User that the agent works as when it is started as root. Default: the data directory's owner, or, if that is
    /// root, the user `auditmon` where there is one.
    pub run_as: Option<String>,
    /// The HTTP listener: page, event API, probes, metrics.
    pub http: Http,
    /// The journal: where events are on disk before they are accepted.
    pub journal: Journal,
    /// What the agent says about itself, on stderr.
    pub logging: Logging,
}

/// The HTTP listener and its limits.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port. Beyond loopback needs `tls`, or `insecure: true`.
    #[schemars(with = "String", extend("format" = "socket-address", "x-aliases" = [{"path": "server.port", "as": "port"}]))]
    pub listen: SocketAddr,
    /// Allows plain HTTP beyond loopback, where keys and events can be read on the way.
    pub insecure: bool,
    /// Where people and applications reach the agent, if not at `listen`, such as
    /// `https://audit.example.org/auditmon`.
    #[schemars(extend("x-aliases" = ["server.root_url"]))]
    pub root_url: Option<String>,
    /// TLS of the listener; off without files.
    pub tls: Tls,
    /// Further listeners, by name: other addresses for some of what `listen` serves, or for what a plugin serves
    /// apart from it.
    pub listeners: BTreeMap<String, Listener>,
    /// Further paths that need a key with the scope `read`.
    #[schemars(with = "Vec<Protected>", extend("x-reload" = "live"))]
    pub protect: Vec<String>,
    /// What all request bodies and their records together may hold, at least 1 MiB.
    pub memory: Size,
    /// Most connections at once; beyond it 503. Fewer where the limit of open files is lower.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: usize,
    /// How long a request's head may take.
    pub head_timeout: Span,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Span,
    /// How long a client may take no byte of its answer.
    pub body_timeout: Span,
}

/// A further listener. Time limits, `protect` and `memory` are those of `http`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Address and port; required. Beyond loopback needs `tls`, or `insecure: true`.
    #[schemars(with = "Option<String>", extend("format" = "socket-address"))]
    pub listen: Option<SocketAddr>,
    /// Allows plain HTTP beyond loopback, where keys and events can be read on the way.
    pub insecure: bool,
    /// TLS of this listener; off without files.
    pub tls: Tls,
    /// What it serves: `probes`, `metrics`, `events` (reading), `tlog`, and plugins by name, such as `ingest` and `web`.
    /// What a plugin has for a listener of this name comes besides.
    pub serve: Vec<String>,
    /// Most connections at once, beside those of `http.max_connections`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: usize,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            listen: None,
            insecure: false,
            tls: Tls::default(),
            serve: Vec::new(),
            max_connections: 1024,
        }
    }
}

/// What the agent itself serves, beside plugins: the words of `http.listeners.NAME.serve` for it.
pub const OWN_ROUTES: [&str; 4] = ["probes", "metrics", "events", "tlog"];

/// Paths that can be protected.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum Protected {
    /// `/metrics`.
    Metrics,
    /// `/tlog/`.
    Tlog,
}

/// Files of a listener's TLS, in PEM form. They are followed: a renewed certificate needs no restart.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate with its chain, the server's own first.
    #[schemars(extend("x-file" = "read", "x-reload" = "live"))]
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key; readable by its owner only.
    #[schemars(extend("x-file" = "secret", "x-reload" = "live"))]
    pub key_file: Option<PathBuf>,
    /// Authorities of clients' certificates; with it, clients without such a certificate are refused.
    #[schemars(extend("x-file" = "read", "x-reload" = "live"))]
    pub client_ca_file: Option<PathBuf>,
}

impl Tls {
    /// Certificate and key, if TLS is on.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        Some((self.cert_file.as_deref()?, self.key_file.as_deref()?))
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7984)),
            insecure: false,
            root_url: None,
            tls: Tls::default(),
            listeners: BTreeMap::new(),
            protect: Vec::new(),
            memory: Size(64 << 20),
            max_connections: 4096,
            head_timeout: Span(Duration::from_secs(5)),
            idle_timeout: Span(Duration::from_secs(60)),
            body_timeout: Span(Duration::from_secs(30)),
        }
    }
}

/// The journal's sizes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of a segment file, 64KiB to 1GiB.
    pub segment_size: Size,
    /// A file that is given up when the disk is full, so that the agent can say so and go on.
    pub reserve: Size,
    /// Largest journal, at least four segments. Default: 10GiB or 80 % of the volume, whichever is less.
    pub max_size: Option<Size>,
    /// How long payloads stay once every durable sink has them: age or size, whichever keeps less.
    pub keep: Keep,
    /// How much of the newest records is kept in memory for sinks that are near the end, at most 1GiB.
    pub hot: Size,
    /// Within this time after a new record a signed checkpoint covers it, 100ms to 1m.
    pub checkpoint_interval: Span,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            segment_size: Size(64 << 20),
            reserve: Size(64 << 20),
            max_size: None,
            keep: Keep::default(),
            hot: Size(8 << 20),
            checkpoint_interval: Span(Duration::from_secs(1)),
        }
    }
}

/// How long payloads stay: age or size, whichever keeps less.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// At most this old.
    pub age: Span,
    /// At most this much.
    pub size: Size,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            age: Span(Duration::from_secs(24 * 3600)),
            size: Size(2 << 30),
        }
    }
}

/// What the agent says about itself, on stderr.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug` or `trace`; or directives such as `info,auditmon_journal=debug`. Default:
    /// `info`.
    #[schemars(extend("x-reload" = "live"))]
    pub level: Option<String>,
    /// Lines for people or for machines. Default: `text` where stderr is a terminal, else `json`.
    #[schemars(extend("x-reload" = "live"))]
    pub format: Option<Format>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
