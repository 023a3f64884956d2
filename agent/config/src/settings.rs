//! The typed tree of everything that is not a plugin's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use auditmon_core::plugin::Section;
use auditmon_core::units::{Size, Span};
use serde::Deserialize;

/// The agent's settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where everything is kept; `None` is the default place.
    pub data_dir: Option<PathBuf>,
    /// Host name in events; `None` is the machine's.
    pub host: Option<String>,
    /// The HTTP listener.
    pub http: Http,
    /// The journal.
    pub journal: Journal,
    /// What the agent says about itself.
    pub logging: Logging,
    /// Sections of sources by name.
    pub sources: BTreeMap<String, Section>,
    /// Sections of sinks by name.
    pub sinks: BTreeMap<String, Section>,
    /// Sections of services by name.
    pub services: BTreeMap<String, Section>,
}

/// The HTTP listener and its limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// Allows plain HTTP beyond loopback.
    pub insecure: bool,
    /// Certificates.
    pub tls: Tls,
    /// Where people and applications reach the agent, if not at `listen`: `https://audit.example.org/auditmon`.
    pub root_url: Option<String>,
    /// Further paths that need a key with the scope `read`: `metrics`.
    pub protect: Vec<String>,
    /// What all request bodies and their records together may hold.
    pub memory: Size,
    /// Most connections at once.
    pub max_connections: usize,
    /// For a request's head.
    pub head_timeout: Span,
    /// Between requests.
    pub idle_timeout: Span,
    /// Without a byte of an answer taken.
    pub body_timeout: Span,
}

/// Certificate and key, in PEM files that are followed while the agent runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate with its chain, leaf first.
    pub cert_file: Option<PathBuf>,
    /// Its private key, not readable by others.
    pub key_file: Option<PathBuf>,
    /// Authorities of clients' certificates: who has none is refused.
    pub client_ca_file: Option<PathBuf>,
}

fn listen<'de, D: serde::Deserializer<'de>>(d: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(d)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "listen: {text:?} is no address with a port such as 127.0.0.1:7984"
        ))
    })
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7984)),
            insecure: false,
            tls: Tls::default(),
            root_url: None,
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
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of a segment.
    pub segment_size: Size,
    /// Kept free for a full disk.
    pub reserve: Size,
    /// Largest journal; `None` is 10 GiB or 80 % of the volume, whichever is less.
    pub max_size: Option<Size>,
    /// How long payloads stay once every durable sink has them.
    pub keep: Keep,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            segment_size: Size(64 << 20),
            reserve: Size(64 << 20),
            max_size: None,
            keep: Keep::default(),
        }
    }
}

/// How long payloads stay: age or size, whichever is less.
#[derive(Clone, Debug, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// error, warn, info, debug, trace; or `tracing` directives such as `info,auditmon_journal=debug`.
    pub level: Option<String>,
    /// Lines for people or for machines; `None` looks whether stderr is a terminal.
    pub format: Option<Format>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
