//! The configuration: one YAML file, defaults below it, environment above it.
//!
//! [`yaml`] parses the file once, keeping positions; [`load`] merges the layers through the `config` crate;
//! [`settings`] holds the typed tree. Plugins get their sections untyped and deserialise them themselves.

mod load;
mod settings;
mod yaml;

pub use load::{Loaded, load};
pub use settings::{Format, Http, Journal, Keep, Logging, Settings, Tls};

/// Faults of a configuration, one a line: each names place, path and what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);
