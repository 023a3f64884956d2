//! `sources.immudb.compat`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shows itself as the auditor that it replaces does, too: with its log lines, its metrics, and its monitoring server
/// where `http.listeners` has one of the program's name.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompatConfig {
    /// Which auditor.
    pub program: Program,
    /// Its log lines on stdout, unless `log_file` is set.
    pub log: bool,
    /// A file for its log lines, which are added at the end.
    pub log_file: Option<PathBuf>,
    /// Which of them are written.
    pub log_level: Level,
    /// What its log says the monitoring server listens on, such as `0.0.0.0:9477`.
    pub monitoring: Option<String>,
}

/// An auditor of immudb's own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// `immuclient audit-mode`.
    #[default]
    Immuclient,
    /// The auditor in immugw.
    Immugw,
}

impl Program {
    /// Its name: of its listener, of its metrics' first word, of its log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Immuclient => "immuclient",
            Self::Immugw => "immugw",
        }
    }

    /// What its log lines on stdout begin with.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Immuclient => "immuclientd ",
            Self::Immugw => "immugw ",
        }
    }
}

/// Which log lines are written: those of a level and of those before it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What can't be done.
    Error,
    /// What is suspicious.
    Warn,
    /// Everyday.
    #[default]
    Info,
    /// Everything.
    Debug,
}

impl Level {
    /// As it stands in a line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}
