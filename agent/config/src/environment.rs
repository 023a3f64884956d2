//! The environment: `AUDITMON_<PATH>` overrides the key at the path.
//!
//! Names are matched against the paths that are known, since both hold `_`: `AUDITMON_HTTP_MAX_CONNECTIONS` is
//! `http.max_connections`. A section, plugin or list can be given whole as YAML.

mod kubernetes;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use auditmon_core::plugin::Entry;
use config::{Map, Value, ValueKind};

use crate::fault::{Fault, Place};
use crate::layer::Layer;
use crate::loaded::Warning;
use crate::nearest;
use crate::shape::{Node, Shape, Text};
use crate::tree::{Tree, join};
use crate::walk::{self, Below, Findings};
use crate::yaml;

/// What the names of our variables begin with.
pub(crate) const PREFIX: &str = "AUDITMON_";

/// Variables that are read elsewhere: by tests, by measurements, while building.
const OTHERS: [&str; 6] = ["BIN", "LONG", "REVISION", "RUSTC", "SEED", "TRACE"];

/// What a variable is for.
struct Target<'a> {
    path: String,
    node: &'a Node,
}

/// All names but those of instances, and the plugins that have instances.
struct Names<'a> {
    known: BTreeMap<String, Target<'a>>,
    /// Of a plugin with instances: the beginning of its variables, its path, and what an instance is.
    instances: Vec<(String, String, &'a Node)>,
    /// Names that stand for more than one path.
    twice: Vec<String>,
}

fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace(['.', '-'], "_"))
}

impl<'a> Names<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut names = Self {
            known: BTreeMap::new(),
            instances: Vec::new(),
            twice: Vec::new(),
        };
        names.collect(&tree.body, "");
        for (path, old) in &tree.old {
            names.add(path, &old.node);
        }
        names
    }

    fn collect(&mut self, node: &'a Node, path: &str) {
        if !path.is_empty() {
            self.add(path, node);
        }
        match &node.shape {
            Shape::Table(fields) => {
                for (key, node) in fields {
                    self.collect(node, &join(path, key));
                }
            }
            Shape::Map { item, instances: true } => {
                self.instances
                    .push((format!("{}_", variable(path)), path.to_owned(), item));
            }
            _ => {}
        }
    }

    fn add(&mut self, path: &str, node: &'a Node) {
        let target = Target {
            path: path.to_owned(),
            node,
        };
        let name = variable(path);
        if let Some(other) = self.known.insert(name.clone(), target) {
            self.twice.push(format!("{name}: {} and {path}", other.path));
        }
    }

    /// The nearest names to one that isn't known.
    fn near(&self, name: &str) -> Vec<String> {
        let mut known: Vec<&str> = self.known.keys().map(String::as_str).collect();
        let mut instances = Self {
            known: BTreeMap::new(),
            instances: Vec::new(),
            twice: Vec::new(),
        };
        for (start, path, item) in &self.instances {
            if let Some(key) = name.strip_prefix(start.as_str()) {
                // What was left over is a key without the name of its instance.
                return vec![format!("{start}NAME_{key}")];
            }
            instances.collect(item, &format!("{path}.NAME"));
        }
        known.extend(instances.known.keys().map(String::as_str));
        // What all have in common says nothing about what is near.
        let words = known.into_iter().map(|name| &name[PREFIX.len()..]);
        let near = nearest::nearest(&name[PREFIX.len()..], words);
        near.into_iter().map(|word| format!("{PREFIX}{word}")).collect()
    }

    /// The path of a variable and what may stand there. `present` has the names of instances by their plugin's path.
    fn resolve(&self, name: &str, present: &BTreeMap<String, BTreeSet<String>>) -> Option<(String, &'a Node)> {
        if let Some(target) = self.known.get(name) {
            return Some((target.path.clone(), target.node));
        }
        let mut plugins: Vec<_> = self
            .instances
            .iter()
            .filter_map(|(start, path, item)| Some((name.strip_prefix(start.as_str())?, path, *item)))
            .collect();
        // The longest beginning is the one that says most.
        plugins.sort_by_key(|(rest, ..)| rest.len());
        plugins.into_iter().find_map(|(rest, path, item)| {
            let mut keys = Names {
                known: BTreeMap::new(),
                instances: Vec::new(),
                twice: Vec::new(),
            };
            keys.collect(item, "");
            let key = |suffix: &str| {
                let target = keys.known.get(&format!("{PREFIX}{suffix}"))?;
                Some((target.path.clone(), target.node))
            };
            let mut names: Vec<&String> = present.get(path).into_iter().flatten().collect();
            names.sort_by_key(|name| std::cmp::Reverse(name.len()));
            for instance in names {
                let start = instance.to_uppercase().replace('-', "_");
                if rest == start {
                    return Some((join(path, instance), item));
                }
                if let Some((below, node)) = rest.strip_prefix(&format!("{start}_")).and_then(key) {
                    return Some((format!("{path}.{instance}.{below}"), node));
                }
            }
            // A new instance: what is left of the longest key that is known.
            let cut = rest.match_indices('_').filter(|(at, _)| *at > 0);
            let found = cut
                .filter_map(|(at, _)| Some((&rest[..at], key(&rest[at + 1..])?)))
                .next();
            if let Some((instance, (below, node))) = found {
                return Some((format!("{path}.{}.{below}", instance.to_lowercase()), node));
            }
            (key(rest).is_none() && !rest.is_empty()).then(|| (join(path, &rest.to_lowercase()), item))
        })
    }
}

/// All variables that are known for these plugins, with the path of each, and names that stand for more than one path
/// (there must be none). Variables of instances stand as `AUDITMON_SINKS_WEBHOOK_NAME_…`.
#[must_use]
pub fn variables(entries: &[Entry]) -> (BTreeMap<String, String>, Vec<String>) {
    let tree = Tree::new(entries);
    let mut names = Names::of(&tree);
    for (_, path, item) in std::mem::take(&mut names.instances) {
        names.collect(item, &format!("{path}.NAME"));
    }
    let known = names.known.into_iter().map(|(name, target)| (name, target.path));
    (known.collect(), names.twice)
}

/// The layer of the environment. `present` has the names of instances in the layers below, by their plugin's path.
pub(crate) fn layer(
    tree: &Tree,
    environment: &[(OsString, OsString)],
    present: &BTreeMap<String, BTreeSet<String>>,
    below: Below<'_>,
    found: &mut Findings,
) -> Layer {
    let names = Names::of(tree);
    let mut ours: Vec<(&str, &OsString)> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value)))
        .filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty())
        .collect();
    ours.sort_unstable();
    let mut layer = Layer::default();
    for (name, value) in ours {
        let place = Place::Environment(name.to_owned());
        let target = names.resolve(name, present);
        let text = value.to_string_lossy();
        if kubernetes::injected(name, &text, target.is_some()) {
            continue;
        }
        let Some((path, node)) = target else {
            found.warnings.extend(unknown(&names, name, &place));
            continue;
        };
        let Some(text) = value.to_str() else {
            found.faults.push(Fault::new(&place, path, "expected UTF-8"));
            continue;
        };
        match typed(node, name, text) {
            Err(texts) => found
                .faults
                .extend(texts.into_iter().map(|text| Fault::new(&place, &path, text))),
            Ok(value) => {
                let table = nested(&path, crate::values::placed(value, &place), &place);
                let one = walk::layer(tree, &tree.body, table, "", below, found);
                layer.add(tree, one, found);
            }
        }
    }
    layer
}

fn unknown(names: &Names<'_>, name: &str, place: &Place) -> Option<Warning> {
    let word = &name[PREFIX.len()..];
    if OTHERS.contains(&word) || word.starts_with("TEST_") {
        return None;
    }
    let text = match word {
        "CONFIG" => "unknown variable: the configuration file is named by -c or --config".to_owned(),
        "HOSTS" => "unknown variable: `hosts` stands in the configuration file only".to_owned(),
        _ => format!("unknown variable, it has no effect{}", nearest::ask(&names.near(name))),
    };
    Some(Warning {
        place: place.to_string(),
        path: String::new(),
        text,
        no_effect: false,
    })
}

/// A text as the value that its node asks for; whether it fits is seen later.
fn typed(node: &Node, name: &str, text: &str) -> Result<Value, Vec<String>> {
    let plain = |kind| Ok(Value::new(None, kind));
    let text = text.trim_end_matches(['\n', '\r']);
    if node.nullable && matches!(text, "null" | "~") {
        return plain(ValueKind::Nil);
    }
    match &node.shape {
        Shape::Bool | Shape::Integer { .. } | Shape::Number => plain(yaml::plain_scalar(text)),
        Shape::Text(Text::Size) if text.bytes().all(|b| b.is_ascii_digit()) => plain(yaml::plain_scalar(text)),
        Shape::Text(_) | Shape::Choice(_) => plain(ValueKind::String(text.to_owned())),
        Shape::Map { instances: false, .. } if is_pairs(text) => pairs(text),
        Shape::List(_) | Shape::Table(_) | Shape::Map { .. } | Shape::Union(_) | Shape::Overlay | Shape::Any => {
            yaml::parse_value(name, text).map_err(|faults| {
                let say = |fault: Fault| match fault.place {
                    Place::File(line, column, _) => {
                        format!("line {line}, column {column} of the value: {}", fault.text)
                    }
                    _ => fault.text,
                };
                faults.into_iter().map(say).collect()
            })
        }
    }
}

/// Whether a mapping of texts is written as `a=b,c=d`.
fn is_pairs(text: &str) -> bool {
    !text.trim_start().starts_with('{') && !text.contains('\n') && !text.contains(": ")
}

fn pairs(text: &str) -> Result<Value, Vec<String>> {
    let mut table = Map::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| vec!["expected pairs such as `role=db,site=berlin`".to_owned()])?;
        let value = Value::new(None, ValueKind::String(value.trim().to_owned()));
        if table.insert(key.trim().to_owned(), value).is_some() {
            return Err(vec![format!(
                "expected each name once, found `{}` twice",
                nearest::shown(key)
            )]);
        }
    }
    Ok(Value::new(None, ValueKind::Table(table)))
}

/// The value below the keys of its path.
pub(crate) fn nested(path: &str, value: Value, place: &Place) -> Map<String, Value> {
    let origin = place.to_string();
    let mut keys: Vec<&str> = path.split('.').collect();
    let Some(first) = (!keys.is_empty()).then(|| keys.remove(0)) else {
        return Map::new();
    };
    let mut value = value;
    for key in keys.into_iter().rev() {
        value = Value::new(
            Some(&origin),
            ValueKind::Table(Map::from_iter([(key.to_owned(), value)])),
        );
    }
    Map::from_iter([(first.to_owned(), value)])
}
