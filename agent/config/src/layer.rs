//! One layer after its walk: values under their new names, and what of them may be given once only.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use crate::fault::{Fault, Place};
use crate::loaded::Written;
use crate::shape::Node;
use crate::tree::{FILE_SUFFIX, Tree};
use crate::walk::Findings;
use crate::{legacy, values};

/// A layer under its new names, without what is faulty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    pub(crate) tree: Map<String, Value>,
    /// Of every key: where and as what it was given.
    pub(crate) written: BTreeMap<String, Written>,
    /// Old keys without effect.
    pub(crate) old: BTreeMap<String, Place>,
}

impl Layer {
    /// Adds a value at a path, unless it is there under another name.
    pub(crate) fn put(&mut self, path: &str, value: Value, written: Written, found: &mut Findings) {
        if let Some(first) = self.written.get(path) {
            let (first, second) = if first.place <= written.place {
                (first, &written)
            } else {
                (&written, first)
            };
            let text = format!("expected once, but `{}` at {} is the same key", first.path, first.place);
            found.bad.insert(path.to_owned());
            found.faults.push(Fault::new(&second.place, &second.path, text));
            return;
        }
        let mut parts: Vec<&str> = path.split('.').collect();
        let Some(last) = parts.pop() else { return };
        let mut table = &mut self.tree;
        for part in parts {
            let entry = table
                .entry(part.to_owned())
                .or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            if !matches!(entry.kind, ValueKind::Table(_)) {
                entry.kind = ValueKind::Table(Map::new());
            }
            let ValueKind::Table(inner) = &mut entry.kind else {
                return;
            };
            table = inner;
        }
        table.insert(last.to_owned(), value);
        self.written.insert(path.to_owned(), written);
    }

    /// Takes over another layer of the same rank; what both give is a fault.
    pub(crate) fn add(&mut self, tree: &Tree, other: Layer, found: &mut Findings) {
        for (path, written) in &other.written {
            let leaf = values::get(&other.tree, path).filter(|value| {
                let table = matches!(value.kind, ValueKind::Table(_));
                !table || tree.find(path).is_some_and(Node::is_leaf)
            });
            match leaf {
                Some(value) => {
                    let below_leaf = written_above(&other.written, tree, path);
                    if !below_leaf {
                        self.put(path, value.clone(), written.clone(), found);
                    }
                }
                None => {
                    self.written.entry(path.clone()).or_insert_with(|| written.clone());
                }
            }
        }
        self.old.extend(other.old);
    }

    /// Finds keys of which only one may be given.
    pub(crate) fn settle(&self, tree: &Tree, found: &mut Findings) {
        for (one, other) in legacy::TWINS {
            if let (Some(first), Some(second)) = (self.old.get(one), self.old.get(other)) {
                let ((first, one), (second, other)) = if first <= second {
                    ((first, one), (second, other))
                } else {
                    ((second, other), (first, one))
                };
                let text = format!("expected once, but `{one}` at {first} is the same key");
                found.faults.push(Fault::new(second, other, text));
            }
        }
        for (path, file) in &self.written {
            let Some(secret) = path.strip_suffix(FILE_SUFFIX) else {
                continue;
            };
            let Some(plain) = self.written.get(secret) else {
                continue;
            };
            if tree.find(secret).is_some_and(|node| node.secret) && self.has(secret) && self.has(path) {
                let (first, second) = if plain.place <= file.place {
                    (plain, file)
                } else {
                    (file, plain)
                };
                let text = format!(
                    "expected either the secret or a file that holds it, but `{}` is at {}",
                    first.path, first.place
                );
                found.bad.insert(path.to_owned());
                found.faults.push(Fault::new(&second.place, &second.path, text));
            }
        }
    }

    /// Whether something is given at a path.
    pub(crate) fn has(&self, path: &str) -> bool {
        values::get(&self.tree, path).is_some_and(|value| !matches!(value.kind, ValueKind::Nil))
    }
}

/// Whether a leaf above the path was given as a whole.
fn written_above(written: &BTreeMap<String, Written>, tree: &Tree, path: &str) -> bool {
    let mut above = path;
    while let Some(end) = above.rfind(['.', '[']) {
        above = &above[..end];
        if written.contains_key(above) && tree.find(above).is_some_and(Node::is_leaf) {
            return true;
        }
    }
    false
}
