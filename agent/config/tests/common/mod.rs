//! Plugins that never run, with configurations of every shape, and loading without a disk.
#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "test support; not every test uses all of it"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditmon_config::{ConfigErrors, Loaded, Request, load};
use auditmon_core::event::Kind;
use auditmon_core::plugin::{BuildContext, BuiltSink, Entry, Faults, PluginConfig, PluginError, Service, Source};
use auditmon_core::units::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! plugin {
    ($name:ident, $plugin:ty, |$self:ident, $faults:ident, $warnings:ident| $validate:block, $warn:block) => {
        #[async_trait]
        impl PluginConfig for $name {
            type Plugin = $plugin;
            #[allow(unused_variables, reason = "not every plugin has something to say")]
            fn validate(&$self, $faults: &mut Faults) $validate
            #[allow(unused_variables, reason = "as above")]
            fn warn(&$self, $warnings: &mut Faults) $warn
            async fn build(self, _: &mut BuildContext) -> Result<Self::Plugin, PluginError> {
                Err(PluginError::Permanent("never runs".to_owned()))
            }
        }
    };
}

/// A source of events.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Largest body.
    pub max_body: Size,
    /// Most events of a request.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_events: u32,
    /// How long an event may wait.
    #[schemars(extend("x-reload" = "live"))]
    pub linger: Span,
    /// Nothing yet.
    #[schemars(extend("x-no-effect" = "has no effect yet: nothing is compressed"))]
    pub compress: Option<bool>,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            max_body: Size(16 << 20),
            max_events: 10_000,
            linger: Span(Duration::ZERO),
            compress: None,
        }
    }
}

plugin!(
    Ingest,
    Box<dyn Source>,
    |self, faults, warnings| {
        if self.linger.0 > Duration::from_millis(2) {
            faults.add("linger", format!("expected at most 2ms, found {}", self.linger));
        }
    },
    {
        if self.max_events == 1 {
            warnings.add("max_events", "one event a request is slow");
        }
    }
);

/// A source with parts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// The rules; programs that start unless given.
    pub rules: Option<Rules>,
    /// Servers, each with its secret.
    pub servers: Vec<Server>,
}

/// Rules.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Whose they are.
    pub policy: Policy,
    /// Rules.
    pub list: Vec<String>,
}

/// Whose rules are.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Ours and others'.
    #[default]
    Additive,
    /// Ours.
    Exclusive,
}

/// A server.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it is.
    pub address: String,
    /// Its password.
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    pub password: Option<String>,
}

plugin!(
    Kernel,
    Box<dyn Source>,
    |self, faults, warnings| {
        for (index, rule) in self.rules.iter().flat_map(|rules| &rules.list).enumerate() {
            if !rule.starts_with('-') {
                faults.add(
                    format!("rules.list[{index}]"),
                    format!("expected an option, found `{rule}`"),
                );
            }
        }
    },
    {
        for (index, server) in self.servers.iter().enumerate() {
            if server.address.starts_with("127.") {
                warnings.add(
                    format!("servers[{index}].address"),
                    "is this host: who can change it can change what audits it",
                );
            }
        }
    }
);

/// A sink with old names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Which database.
    #[schemars(extend("x-aliases" = [{"path": "database.backend", "as": "backend"}]))]
    pub backend: Backend,
    /// The file.
    #[schemars(extend("x-aliases" = [{"path": "database.file", "as": "beside-v2"}]))]
    pub file: Option<PathBuf>,
    /// Where the database is.
    #[schemars(extend("x-secret" = true))]
    pub url: Option<String>,
    /// Age.
    #[schemars(extend("x-aliases" = [{"path": "settings.retention_days", "as": "days"}, "keep"]))]
    pub retention: Option<Span>,
}

/// Which database.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    #[default]
    Sqlite,
    Postgres,
}

plugin!(
    Store,
    BuiltSink,
    |self, faults, warnings| {
        if let Some(url) = &self.url
            && !url.starts_with("postgres://")
        {
            // As a careless author would.
            faults.add("url", format!("expected postgres://…, found {url}"));
        }
    },
    {}
);

/// A sink of which there are many.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Where to.
    pub url: Option<String>,
    /// The token.
    #[schemars(extend("x-secret" = true))]
    pub token: Option<String>,
    /// Further headers.
    #[schemars(extend("x-secret" = true))]
    pub headers: BTreeMap<String, String>,
    /// How events look.
    pub format: Format,
}

/// How events look.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub enum Format {
    /// By name.
    Name(Known),
    /// A template.
    Template {
        /// Its text.
        template: String,
    },
}

/// Known formats.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    Json,
    Ecs,
}

impl Default for Format {
    fn default() -> Self {
        Self::Name(Known::Json)
    }
}

plugin!(
    Webhook,
    BuiltSink,
    |self, faults, warnings| {
        if self.url.is_none() {
            faults.add("url", "expected an address, found nothing");
        }
    },
    {}
);

/// A service with one key.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// What stands above the page.
    pub title: Option<String>,
}

plugin!(Web, Box<dyn Service>, |self, faults, warnings| {}, {});

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::source::<Ingest>("ingest", Kind::Application),
        Entry::source::<Kernel>("kernel", Kind::Kernel),
        Entry::sink::<Store>("store"),
        Entry::sinks::<Webhook>("webhook"),
        Entry::service::<Web>("web").off_by_default(),
    ]
}

/// What a configuration is tried with.
#[derive(Clone, Default)]
pub struct Trial {
    pub yaml: String,
    pub environment: Vec<(String, String)>,
    pub switches: Vec<(String, bool)>,
    pub data_dir: Option<PathBuf>,
    /// Files beside the configuration.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Trial {
    pub fn of(yaml: &str) -> Self {
        Self {
            yaml: yaml.to_owned(),
            ..Self::default()
        }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn switch(mut self, name: &str, on: bool) -> Self {
        self.switches.push((name.to_owned(), on));
        self
    }

    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(PathBuf::from(path), content.as_bytes().to_vec());
        self
    }

    /// Loads it on the host `web-1`, under the name `auditmon.yaml`.
    pub fn load(self) -> Result<Loaded, ConfigErrors> {
        let mut files = self.files;
        files.insert(PathBuf::from("auditmon.yaml"), self.yaml.into_bytes());
        let environment = self.environment.into_iter();
        let request = Request {
            file: Some(PathBuf::from("auditmon.yaml")),
            environment: environment
                .map(|(k, v)| (OsString::from(k), OsString::from(v)))
                .collect(),
            machine: "web-1".to_owned(),
            data_dir: self.data_dir,
            switches: self.switches,
            read: Arc::new(move |path: &Path| {
                files
                    .get(path)
                    .cloned()
                    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
            }),
        };
        load(&request, &entries())
    }

    pub fn errors(self) -> Vec<String> {
        match self.load() {
            Ok(_) => panic!("there should be faults"),
            Err(errors) => errors.0,
        }
    }

    pub fn good(self) -> Loaded {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }
}

pub fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}
