//! The configuration: one YAML file for a fleet, defaults below it, environment and command line above it.
//!
//! [`load`] gives the validated configuration of this host, or all faults at once, each with file, line, column, path,
//! what was expected and the nearest known key. [`changes`] tells what differs between two of them.
//!
//! | module | what it does |
//! |---|---|
//! | `settings` | the typed tree of what is not a plugin's |
//! | `shape`, `tree` | what may stand where: read from the JSON Schemas of settings and plugins |
//! | `yaml` | the file, with positions, as values of the `config` crate |
//! | `environment` | `AUDITMON_…` variables as a layer |
//! | `walk` | holds one layer against the tree: faults, old names |
//! | `layer` | what comes of that: values under their new names |
//! | `legacy`, `translate` | keys of the Go service |
//! | `overlay` | which `hosts:` entries are for this host |
//! | `load` | layers, merged by the `config` crate; secrets, validation |
//! | `changes` | what a reload takes |
//! | `print` | effective values, example file, JSON Schema |

#[cfg(test)]
extern crate self as auditmon_config;

mod changes;
mod environment;
mod fault;
mod layer;
mod legacy;
mod load;
mod loaded;
mod nearest;
mod overlay;
mod print;
mod settings;
mod shape;
mod translate;
mod tree;
mod values;
mod walk;
mod yaml;

pub use changes::{Changed, Changes, PluginChange, changes};
pub use environment::variables;
pub use load::{ReadFile, Request, SEARCHED, load, read_file};
pub use loaded::{Class, Instance, Loaded, Warning};
pub use nearest::{phrase as did_you_mean, within as within_slips};
pub use print::{effective, example, schema};
pub use settings::{Format, Http, Journal, Keep, Listener, Logging, OWN_ROUTES, Settings, Tls};

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod plugins;

/// Faults of a configuration, one a line: each names place, path and what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);
