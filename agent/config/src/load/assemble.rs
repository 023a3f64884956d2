//! From layers to settings, sections and leaves: merged, secrets read, validated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use auditmon_core::plugin::{Entry, Faults, Make, Section};
use config::{Config, Map, Value, ValueKind};
use serde_json::Value as Json;

use crate::fault::{Fault, Place};
use crate::layer::Layer;
use crate::loaded::{Class, Instance, Leaf, Loaded, Warning, Written, fault_of};
use crate::settings::Settings;
use crate::shape::{Node, Shape};
use crate::tree::{FILE_SUFFIX, GROUPS, Tree, join};
use crate::walk::{Findings, section};
use crate::{ConfigErrors, values};

use super::secrets::{Secrets, masked, scrubbed, secrets_below};
use super::{ReadFile, Source, listeners};

/// Stands for all sections among those that have a fault.
pub(super) const ALL: &str = "*";

/// Layers as one.
pub(super) struct Merged {
    value: Map<String, Value>,
    written: BTreeMap<String, Written>,
}

/// Merges layers through the `config` crate: maps merge, lists and scalars replace.
pub(super) fn merge(tree: &Tree, entries: &[Entry], layers: &[&Layer]) -> Result<Merged, ConfigErrors> {
    let mut trees: Vec<Map<String, Value>> = layers.iter().map(|layer| layer.tree.clone()).collect();
    let mut written = BTreeMap::new();
    for (index, layer) in layers.iter().enumerate() {
        for path in layer.written.keys().filter(|path| layer.has(path)) {
            // A secret and the file that holds it are one; the higher layer has the say.
            let Some(other) = sibling(tree, path) else { continue };
            for lower in &mut trees[..index] {
                values::remove(lower, &other);
            }
            written.remove(&other);
        }
        written.extend(layer.written.clone());
    }
    let mut builder = Config::builder().add_source(Source(defaults(tree, entries, &trees)));
    for tree in trees {
        builder = builder.add_source(Source(tree));
    }
    let merged = builder
        .build()
        .map_err(|error| ConfigErrors(vec![format!("the configuration can't be merged: {error}")]))?;
    let value = match merged.cache.kind {
        ValueKind::Table(table) => table,
        _ => Map::new(),
    };
    Ok(Merged { value, written })
}

/// The key beside a secret that names its file, or the other way round.
fn sibling(tree: &Tree, path: &str) -> Option<String> {
    let is_secret = |path: &str| tree.find(path).is_some_and(|node| node.secret);
    if path.contains('[') {
        return None;
    }
    if is_secret(path) {
        return Some(format!("{path}{FILE_SUFFIX}"));
    }
    let secret = path.strip_suffix(FILE_SUFFIX)?;
    is_secret(secret).then(|| secret.to_owned())
}

fn defaults(tree: &Tree, entries: &[Entry], layers: &[Map<String, Value>]) -> Map<String, Value> {
    let mut all = tree.defaults();
    for entry in entries.iter().filter(|entry| entry.named) {
        let path = join(entry.section(), entry.name);
        for layer in layers {
            let Some(Value {
                kind: ValueKind::Table(table),
                ..
            }) = values::get(layer, &path)
            else {
                continue;
            };
            for name in table.keys() {
                all[entry.section()][entry.name][name.as_str()] = entry.defaults();
            }
        }
    }
    match values::from_json(&all, &Place::Default).kind {
        ValueKind::Table(table) => table,
        _ => Map::new(),
    }
}

/// What all assemblies of one loading share.
pub(super) struct Assembly<'a> {
    pub(super) tree: &'a Tree,
    pub(super) entries: &'a [Entry],
    pub(super) found: &'a Findings,
    pub(super) file: Option<&'a Path>,
    pub(super) machine: &'a str,
}

impl Assembly<'_> {
    /// Reads secrets (without `read` something stands for each), types and validates everything.
    pub(super) fn finish(&self, merged: Merged, read: Option<&ReadFile>) -> (Loaded, Vec<Fault>) {
        let Merged { mut value, written } = merged;
        let mut faults = Vec::new();
        let mut secrets = Secrets {
            read,
            written: &written,
            opened: self.file.map(Path::to_owned).into_iter().collect(),
            bad: &self.found.bad,
            faults: &mut faults,
            missing: BTreeSet::new(),
        };
        secrets.table(&self.tree.body, &mut value, "");
        let (opened, missing) = (secrets.opened, secrets.missing);
        let settings = self.settings(&value, &written, &mut faults);
        let mut warnings = listeners::open(&settings, &written);
        let leaves = self.leaves(&value, &written);
        let plugins = self.plugins(&value, (&written, &missing), &leaves, &mut faults, &mut warnings);
        let in_file = written.iter().filter(|(path, written)| {
            matches!(written.place, Place::File(..))
                && self.tree.find(path).is_some_and(|node| node.secret)
                && values::get(&value, path).is_some_and(|value| value.kind != ValueKind::Nil)
        });
        let secrets_in_file = in_file.map(|(_, written)| written.path.clone()).collect();
        let loaded = Loaded {
            secrets_in_file,
            opened,
            host: settings.host.clone().unwrap_or_else(|| self.machine.to_owned()),
            settings,
            plugins,
            file: self.file.map(Path::to_owned),
            overlays: Vec::new(),
            warnings,
            leaves,
            written,
        };
        (loaded, faults)
    }

    /// Whether a fault of validation may be a mere consequence of those that the walk found in the same section: it
    /// is about a key that is missing, or names one that is faulty.
    fn follows(&self, written: &BTreeMap<String, Written>, path: &str, message: &str) -> bool {
        let bad = &self.found.bad;
        if bad.contains(ALL) {
            return true;
        }
        let own = section(path);
        let mut bad = bad.iter().filter(|bad| section(bad) == own).peekable();
        bad.peek().is_some()
            && (!written.contains_key(path)
                || bad.any(|bad| {
                    let key = bad.rsplit('.').next().unwrap_or(bad);
                    bad.starts_with(path) || message.contains(key)
                }))
    }

    fn settings(
        &self,
        merged: &Map<String, Value>,
        written: &BTreeMap<String, Written>,
        faults: &mut Vec<Fault>,
    ) -> Settings {
        let own = merged.iter().filter(|(key, _)| !GROUPS.contains(&key.as_str()));
        let json = own.map(|(key, value)| (key.clone(), values::to_json(value))).collect();
        let settings: Settings = match serde_json::from_value(Json::Object(json)) {
            Ok(settings) => settings,
            Err(error) => {
                // The walk lets nothing through that can't be typed.
                faults.push(fault_of(written, "configuration", &error.to_string()));
                return Settings::default();
            }
        };
        let mut wrong = Faults::default();
        settings.validate(&mut wrong);
        listeners::served(self.entries, &settings, &mut wrong);
        for fault in wrong.into_vec() {
            if !self.follows(written, &fault.path, &fault.message) {
                faults.push(fault_of(written, &fault.path, &fault.message));
            }
        }
        settings
    }

    fn plugins(
        &self,
        merged: &Map<String, Value>,
        (written, missing): (&BTreeMap<String, Written>, &BTreeSet<String>),
        leaves: &[Leaf],
        faults: &mut Vec<Fault>,
        warnings: &mut Vec<Warning>,
    ) -> Vec<Instance> {
        let mut plugins = Vec::new();
        for group in GROUPS {
            for entry in self.entries.iter().filter(|entry| entry.section() == group) {
                let path = join(group, entry.name);
                let value = values::get(merged, &path);
                let Some(ValueKind::Table(table)) = value.map(|value| &value.kind) else {
                    continue;
                };
                let found: Vec<(&'static str, String, &Map<String, Value>)> = if entry.named {
                    let mut instances: Vec<_> = table.iter().collect();
                    instances.sort_by_key(|(name, _)| *name);
                    instances
                        .into_iter()
                        .filter_map(|(name, value)| match &value.kind {
                            // Names were looked at on the walk.
                            ValueKind::Table(table) => Some((entry.instance(name).ok()?, join(&path, name), table)),
                            _ => None,
                        })
                        .collect()
                } else {
                    vec![(entry.name, path, table)]
                };
                for (name, path, table) in found {
                    let instance = instance(entry, name, path, table, written);
                    let hidden = secrets_below(leaves, &instance.path);
                    let at = |fault: auditmon_core::plugin::Fault| {
                        let path = if fault.path.is_empty() {
                            instance.path.clone()
                        } else {
                            join(&instance.path, &fault.path)
                        };
                        let message = scrubbed(fault.message, &hidden);
                        // A secret whose file can't be read is told as that.
                        let follows = missing.contains(&path) || self.follows(written, &path, &message);
                        (!follows).then(|| fault_of(written, &path, &message))
                    };
                    faults.extend(judge(entry, instance.section.clone()).into_iter().filter_map(at));
                    if instance.enabled {
                        let more = entry.warnings(instance.section.clone()).into_iter().filter_map(at);
                        warnings.extend(more.map(|fault| Warning {
                            place: fault.place.to_string(),
                            path: fault.path,
                            text: fault.text,
                            no_effect: false,
                        }));
                    } else {
                        warnings.extend(forgotten(&instance.path, written));
                    }
                    plugins.push(instance);
                }
            }
        }
        plugins
    }

    /// Every leaf in the order of the schema.
    fn leaves(&self, merged: &Map<String, Value>, written: &BTreeMap<String, Written>) -> Vec<Leaf> {
        let mut leaves = Leaves {
            written,
            out: Vec::new(),
            path: Vec::new(),
        };
        if let Shape::Table(fields) = &self.tree.body.shape {
            for (key, node) in fields {
                let class = if GROUPS.contains(&key.as_str()) {
                    Class::RestartPlugin
                } else {
                    Class::RestartAgent
                };
                leaves.collect(key, node, merged.get(key), class);
            }
        }
        leaves.out
    }
}

/// A plugin that was given values and is off because nobody turned it on, or off.
fn forgotten(path: &str, written: &BTreeMap<String, Written>) -> Option<Warning> {
    let switch = join(path, "enabled");
    if written.contains_key(&switch) {
        return None;
    }
    let below = join(path, "");
    let (_, first) = written.iter().find(|(key, _)| key.starts_with(&below))?;
    Some(Warning {
        place: first.place.to_string(),
        path: first.path.clone(),
        text: format!("`{path}` is off; `{switch}: true` turns it on"),
        no_effect: false,
    })
}

fn instance(
    entry: &Entry,
    name: &'static str,
    path: String,
    table: &Map<String, Value>,
    written: &BTreeMap<String, Written>,
) -> Instance {
    let enabled = table.get("enabled");
    let own: Map<String, Value> = table
        .iter()
        .filter(|(key, _)| *key != "enabled")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let section = values::given(&Value::new(None, ValueKind::Table(own)), &path, &|path| {
        written.contains_key(path)
    });
    Instance {
        entry: entry.name,
        name,
        path,
        enabled: matches!(enabled.map(|value| &value.kind), Some(ValueKind::Boolean(true))),
        enabled_by: enabled.and_then(Value::origin).unwrap_or("default").to_owned(),
        section: section.unwrap_or_else(|| Section::Object(serde_json::Map::new())),
    }
}

/// What the plugin itself finds wrong.
fn judge(entry: &Entry, section: Section) -> Vec<auditmon_core::plugin::Fault> {
    match &entry.make {
        Make::Source(_, make) => make(section).err(),
        Make::Sink(make) => make(section).err(),
        Make::Service(make) => make(section).err(),
    }
    .unwrap_or_default()
}

struct Leaves<'a> {
    written: &'a BTreeMap<String, Written>,
    out: Vec<Leaf>,
    path: Vec<String>,
}

impl Leaves<'_> {
    fn collect(&mut self, key: &str, node: &Node, value: Option<&Value>, class: Class) {
        let class = node.reload.unwrap_or(class);
        let Some(value) = value else { return };
        self.path.push(key.to_owned());
        match (&node.shape, &value.kind) {
            (Shape::Table(fields), ValueKind::Table(table)) => {
                for (key, node) in fields {
                    self.collect(key, node, table.get(key), class);
                }
            }
            (Shape::Map { item, instances: true }, ValueKind::Table(table)) => {
                let mut names: Vec<&String> = table.keys().collect();
                names.sort_unstable();
                for name in names {
                    self.collect(name, item, table.get(name), class);
                }
            }
            _ => {
                let path = self.path.join(".");
                let written = self.written.get(&path);
                let mut origin = value
                    .origin()
                    .map(str::to_owned)
                    .or_else(|| written.map(|written| written.place.to_string()))
                    .unwrap_or_else(|| Place::Default.to_string());
                if let Some(written) = written.filter(|written| written.path != path) {
                    origin = format!("{origin} ({})", written.path);
                }
                let value = values::to_json(value);
                let mut secrets = Vec::new();
                let masked = masked(node, &value, &mut secrets);
                self.out.push(Leaf {
                    path: self.path.clone(),
                    masked: (masked != value).then_some(masked),
                    value,
                    origin,
                    class,
                    secret: node.secret,
                    secrets,
                });
            }
        }
        self.path.pop();
    }
}
