//! What comes of loading: settings, plugins' sections, and where each value is from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use auditmon_core::plugin::Section;
use serde_json::Value as Json;

use crate::fault::{Fault, Place};
use crate::settings::Settings;

/// What stands for a secret where values are shown.
pub(crate) const HIDDEN: &str = "********";

/// The configuration of this host: validated, with the origin of each value.
#[derive(Clone)]
pub struct Loaded {
    /// Everything that is not a plugin's.
    pub settings: Settings,
    /// Host name for events: `host`, else the machine's.
    pub host: String,
    /// All plugins, on or off: sinks, then sources, then services, each group in the registry's order.
    pub plugins: Vec<Instance>,
    /// The file it is from, if any.
    pub file: Option<PathBuf>,
    /// Files that loading opened, and opens again when it is repeated: `file`, and those of secrets that are given as
    /// files.
    pub opened: Vec<PathBuf>,
    /// Places of the `hosts:` entries that apply to this host, in order.
    pub overlays: Vec<String>,
    /// What works and may still surprise; a line each.
    pub warnings: Vec<Warning>,
    /// Every leaf in the order of the schema.
    pub(crate) leaves: Vec<Leaf>,
    /// Paths of secrets that stand in the file, as written there.
    pub(crate) secrets_in_file: Vec<String>,
    /// Of each path that was given: where, and as what.
    pub(crate) written: BTreeMap<String, Written>,
}

/// A plugin as the configuration has it: one entry of the registry, or one instance of a named one.
#[derive(Clone)]
pub struct Instance {
    /// Name of its line in the registry: `webhook`.
    pub entry: &'static str,
    /// Name in health, metrics and on the command line: `webhook.siem`; without instances the same as `entry`.
    pub name: &'static str,
    /// Path of its section: `sinks.webhook.siem`.
    pub path: String,
    /// Whether it runs.
    pub enabled: bool,
    /// Who says so: `default`, a place of the file, a variable, an option.
    pub enabled_by: String,
    /// What was given of its section, without `enabled`; secrets are in it.
    pub section: Section,
}

/// A value that works and may still surprise. Its text is one line: place, path and what to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// `auditmon.yaml:3:5`, `environment AUDITMON_…`, or empty.
    pub place: String,
    /// The key as it is written there, or empty.
    pub path: String,
    /// What to know.
    pub text: String,
    /// It says that a key does nothing (yet).
    pub no_effect: bool,
}

/// What a change of a key takes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Works at once.
    Live,
    /// The plugin is drained and built anew.
    RestartPlugin,
    /// Works after the agent's next start.
    RestartAgent,
}

/// A key with its effective value.
#[derive(Clone)]
pub(crate) struct Leaf {
    /// Keys from the top.
    pub(crate) path: Vec<String>,
    pub(crate) value: Json,
    pub(crate) origin: String,
    pub(crate) class: Class,
    /// The whole value is one.
    pub(crate) secret: bool,
    /// The value without the secrets that are inside of it, if there are any.
    pub(crate) masked: Option<Json>,
    /// All secrets that are in it.
    pub(crate) secrets: Vec<String>,
}

/// Where a path was given, and as what: an old name, or below a `hosts:` entry.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) place: Place,
    pub(crate) path: String,
}

impl Loaded {
    /// The plugin of this name, such as `store` or `webhook.siem`.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<&Instance> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }

    /// All values of a plugin's section, defaults too, without `enabled`; secrets are in it.
    #[must_use]
    pub fn values(&self, plugin: &Instance) -> Section {
        let mut all = Section::Object(serde_json::Map::new());
        let depth = plugin.path.split('.').count();
        let below = |leaf: &&Leaf| leaf.path.len() > depth && leaf.path[..depth].join(".") == plugin.path;
        for leaf in self
            .leaves
            .iter()
            .filter(below)
            .filter(|leaf| leaf.path[depth..] != ["enabled"])
        {
            let mut here = &mut all;
            for key in &leaf.path[depth..] {
                here = &mut here[key.as_str()];
            }
            *here = leaf.value.clone();
        }
        all
    }

    /// The place of a fault that a section's own reading found: the key that its message names in backticks, else
    /// the section, else what is above it.
    #[must_use]
    pub fn place(&self, section: &str, message: &str) -> String {
        nearest_written(&self.written, section, message)
            .map_or_else(|| Place::Default.to_string(), |(written, _)| written.place.to_string())
    }

    /// Paths of secrets that stand in the file itself, as they are written there.
    #[must_use]
    pub fn secrets_in_file(&self) -> Vec<String> {
        self.secrets_in_file.clone()
    }

    /// A fault of the key at `path`, in the form of all others: place, path as it is written there, text.
    #[must_use]
    pub fn fault(&self, path: &str, message: &str) -> String {
        fault_of(&self.written, path, message).to_string()
    }
}

/// The nearest path at or above `path` that was given, with what is left of `path` below it.
fn nearest_written<'a>(
    written: &'a BTreeMap<String, Written>,
    path: &str,
    message: &str,
) -> Option<(&'a Written, String)> {
    let named = message.split('`').nth(1).and_then(|name| {
        let direct = format!("{path}.{name}");
        written.get(&direct)
    });
    if let Some(found) = named {
        return Some((found, String::new()));
    }
    let mut above = path;
    loop {
        if let Some(found) = written.get(above) {
            return Some((found, path[above.len()..].to_owned()));
        }
        above = &above[..above.rfind(['.', '['])?];
    }
}

/// A fault found after the layers were merged, at its place.
pub(crate) fn fault_of(written: &BTreeMap<String, Written>, path: &str, message: &str) -> Fault {
    match nearest_written(written, path, message) {
        Some((found, below)) => Fault::new(&found.place, format!("{}{below}", found.path), message),
        None => Fault::new(&Place::Default, path, message),
    }
}

impl fmt::Debug for Loaded {
    /// Without sections and leaves, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("settings", &self.settings)
            .field("host", &self.host)
            .field("plugins", &self.plugins)
            .field("file", &self.file)
            .field("opened", &self.opened)
            .field("overlays", &self.overlays)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Instance {
    /// Without the section, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("enabled", &self.enabled)
            .field("enabled_by", &self.enabled_by)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.path] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.text.replace('\n', "; "))
    }
}
