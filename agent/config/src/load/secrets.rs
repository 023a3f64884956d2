//! Secrets: those that stand in files of their own are read, and none of them gets into a message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use super::ReadFile;
use crate::fault::Fault;
use crate::loaded::{HIDDEN, Leaf, Written, fault_of};
use crate::shape::{Node, Shape};
use crate::tree::join;

/// Puts the content of files into the secrets that they stand for.
pub(super) struct Secrets<'a> {
    pub(super) read: Option<&'a ReadFile>,
    pub(super) written: &'a BTreeMap<String, Written>,
    /// Files that were read.
    pub(super) opened: Vec<PathBuf>,
    /// Paths with a fault already.
    pub(super) bad: &'a BTreeSet<String>,
    pub(super) faults: &'a mut Vec<Fault>,
    /// Paths of secrets whose files can't be read: they are missing for that reason alone.
    pub(super) missing: BTreeSet<String>,
}

impl Secrets<'_> {
    pub(super) fn table(&mut self, node: &Node, table: &mut Map<String, Value>, path: &str) {
        match &node.shape {
            Shape::Table(fields) => {
                for (key, node) in fields {
                    if let Some(secret) = &node.stands_for {
                        self.take(table, key, secret, path);
                    } else if let Some(value) = table.get_mut(key) {
                        self.value(node, value, &join(path, key));
                    }
                }
            }
            Shape::Map { item, .. } => {
                for (key, value) in table.iter_mut() {
                    self.value(item, value, &join(path, key));
                }
            }
            _ => {}
        }
    }

    fn value(&mut self, node: &Node, value: &mut Value, path: &str) {
        match (&node.shape, &mut value.kind) {
            (_, ValueKind::Table(table)) => self.table(node, table, path),
            (Shape::List(item), ValueKind::Array(items)) => {
                for (index, value) in items.iter_mut().enumerate() {
                    self.value(item, value, &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, table: &mut Map<String, Value>, key: &str, secret: &str, path: &str) {
        let Some(Value {
            kind: ValueKind::String(file),
            ..
        }) = table.remove(key)
        else {
            return;
        };
        let (path, of) = (join(path, key), join(path, secret));
        if self.bad.contains(&path) {
            return;
        }
        let content = match self.read {
            None => Ok("secret".to_owned()),
            Some(read) => content(read, Path::new(&file)),
        };
        match content {
            Ok(content) => {
                self.opened.push(PathBuf::from(&file));
                let at = fault_of(self.written, &path, "");
                let origin = format!("{}, file {file}", at.place);
                table.insert(secret.to_owned(), Value::new(Some(&origin), ValueKind::String(content)));
            }
            Err(why) => {
                let text = format!("expected a file that holds a secret, but {file} {why}");
                self.faults.push(fault_of(self.written, &path, &text));
                self.missing.insert(of);
            }
        }
    }
}

/// A secret's file without the end of its last line.
fn content(read: &ReadFile, file: &Path) -> Result<String, String> {
    let bytes = read(file).map_err(|error| format!("can't be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn secrets_below<'a>(leaves: &'a [Leaf], path: &str) -> Vec<&'a str> {
    let below = format!("{path}.");
    leaves
        .iter()
        .filter(|leaf| !leaf.secrets.is_empty() && leaf.path.join(".").starts_with(&below))
        .flat_map(|leaf| leaf.secrets.iter().map(String::as_str))
        .collect()
}

/// The value with something in place of each secret; these are collected.
pub(super) fn masked(node: &Node, value: &Json, secrets: &mut Vec<String>) -> Json {
    if node.secret {
        let before = secrets.len();
        texts(value, secrets);
        return if secrets.len() > before {
            HIDDEN.into()
        } else {
            value.clone()
        };
    }
    match (&node.shape, value) {
        (Shape::List(item), Json::Array(items)) => items.iter().map(|value| masked(item, value, secrets)).collect(),
        (Shape::Table(_) | Shape::Map { .. }, Json::Object(map)) => {
            let one = |(key, value): (&String, &Json)| {
                let value = match node.field(key) {
                    Some(node) => masked(node, value, secrets),
                    None => value.clone(),
                };
                (key.clone(), value)
            };
            Json::Object(map.iter().map(one).collect())
        }
        // Which of the shapes it is was seen on the walk; one that holds a secret is enough.
        (Shape::Union(nodes), _) => nodes
            .iter()
            .fold(value.clone(), |value, node| masked(node, &value, secrets)),
        _ => value.clone(),
    }
}

fn texts(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::String(text) if !text.is_empty() => found.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Json::Object(map) => map.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// A message of others, in which no secret may stand.
pub(super) fn scrubbed(message: String, secrets: &[&str]) -> String {
    secrets
        .iter()
        .fold(message, |message, secret| message.replace(secret, "***"))
}
