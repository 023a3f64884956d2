//! One layer is held against the tree of what may stand: every fault with its place, old names moved to new ones.

mod says;

use std::collections::{BTreeMap, BTreeSet};

use config::{Map, Value, ValueKind};

use crate::fault::{Fault, Place};
use crate::layer::Layer;
use crate::loaded::{Warning, Written};
use crate::nearest;
use crate::shape::{Node, Shape, Text};
use crate::translate::Translation;
use crate::tree::{GROUPS, Old, Tree, join};

/// What is found beside the layers.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Warning>,
    /// Paths with a fault: what else is said of their sections may follow from it.
    pub(crate) bad: BTreeSet<String>,
    /// Trees of `hosts[].set`, by the path as written.
    pub(crate) overlays: Vec<(String, Place, Map<String, Value>)>,
}

/// `http`, `sinks.store`: what is validated as one.
pub(crate) fn section(path: &str) -> String {
    let mut parts = path.split(['.', '[']);
    let first = parts.next().unwrap_or_default();
    match parts.next() {
        Some(second) if GROUPS.contains(&first) => join(first, second),
        _ => first.to_owned(),
    }
}

/// A place on the walk.
#[derive(Clone)]
struct At {
    /// Under its new name.
    path: String,
    /// As it is written.
    written: String,
    place: Place,
}

impl At {
    fn key(&self, key: &str, value: &Value) -> Self {
        Self {
            path: join(&self.path, key),
            written: join(&self.written, key),
            place: place(value),
        }
    }
}

fn place(value: &Value) -> Place {
    value.origin().map_or(Place::Default, Place::parse)
}

/// Looks a new key up in the layers below.
pub(crate) type Below<'a> = &'a dyn Fn(&str) -> Option<Value>;

struct Walk<'a> {
    tree: &'a Tree,
    below: Below<'a>,
    found: &'a mut Findings,
    written: BTreeMap<String, Written>,
    old: BTreeMap<String, Place>,
    /// Values of old names, for their new paths.
    moved: Vec<(String, Value, Written)>,
    in_list: bool,
}

/// Walks a layer. `root` is the tree's root or body; `prefix` is what stands before each path as written.
pub(crate) fn layer(
    tree: &Tree,
    root: &Node,
    table: Map<String, Value>,
    prefix: &str,
    below: Below<'_>,
    found: &mut Findings,
) -> Layer {
    let mut walk = Walk {
        tree,
        below,
        found,
        written: BTreeMap::new(),
        old: BTreeMap::new(),
        moved: Vec::new(),
        in_list: false,
    };
    let at = At {
        path: String::new(),
        written: prefix.to_owned(),
        place: Place::Default,
    };
    let table = match &root.shape {
        Shape::Table(fields) => walk.table(fields, table, &at),
        _ => Map::new(),
    };
    let (written, old, moved) = (walk.written, walk.old, walk.moved);
    let mut layer = Layer {
        tree: table,
        written,
        old,
    };
    for (path, value, written) in moved {
        layer.put(&path, value, written, found);
    }
    layer
}

impl Walk<'_> {
    fn fault(&mut self, at: &At, text: impl Into<String>) {
        self.found.bad.insert(at.path.clone());
        self.found.faults.push(Fault::new(&at.place, &at.written, text));
    }

    fn warn(&mut self, at: &At, text: &str, no_effect: bool) {
        self.found.warnings.push(Warning {
            no_effect,
            place: at.place.to_string(),
            path: at.written.clone(),
            text: text.to_owned(),
        });
    }

    fn table(&mut self, fields: &[(String, Node)], table: Map<String, Value>, at: &At) -> Map<String, Value> {
        let present: BTreeSet<String> = table.keys().cloned().collect();
        let mut out = Map::new();
        for (key, value) in table {
            let here = at.key(&key, &value);
            if let Some((_, node)) = fields.iter().find(|(name, _)| *name == key) {
                if let Some(value) = self.value(node, value, &here) {
                    out.insert(key, value);
                }
                continue;
            }
            let beside = fields
                .iter()
                .find(|(_, node)| node.aliases.iter().any(|alias| alias.path == key));
            if let Some((name, node)) = beside {
                self.renamed(name, node, &present, value, &here, &mut out);
            } else if !self.old(&here, value) {
                let text = self.unknown(fields, &key, &present, &here);
                let shown = At {
                    written: join(&at.written, &nearest::shown_key(&key)),
                    ..here
                };
                self.fault(&shown, text);
            }
        }
        if self.in_list {
            let missing = fields
                .iter()
                .filter(|(key, node)| node.required && !present.contains(key));
            for (key, node) in missing {
                let here = At {
                    path: join(&at.path, key),
                    written: join(&at.written, key),
                    place: at.place.clone(),
                };
                self.fault(&here, format!("expected {}, found nothing", says::expected(node)));
            }
        }
        out
    }

    /// A key under the old name that a field declares for its own place.
    fn renamed(
        &mut self,
        name: &str,
        node: &Node,
        present: &BTreeSet<String>,
        value: Value,
        at: &At,
        out: &mut Map<String, Value>,
    ) {
        if present.contains(name) {
            self.fault(at, format!("expected once, but `{name}` beside it is the same key"));
            return;
        }
        let above = at.path.rfind('.').map_or("", |end| &at.path[..end]);
        let now = At {
            path: join(above, name),
            ..at.clone()
        };
        if let Some(value) = self.value(node, value, &now) {
            out.insert(name.to_owned(), value);
        }
    }

    /// Takes a key or section of old names; false if there is none.
    fn old(&mut self, at: &At, value: Value) -> bool {
        let tree = self.tree;
        if let Some(old) = tree.old.get(&at.path) {
            self.old_key(old, value, at);
            return true;
        }
        let below = format!("{}.", at.path);
        let known: Vec<&str> = tree.old.keys().filter_map(|path| path.strip_prefix(&below)).collect();
        if known.is_empty() {
            return false;
        }
        match value.kind {
            ValueKind::Nil => {}
            ValueKind::Table(table) => {
                let present: BTreeSet<String> = table.keys().cloned().collect();
                for (key, value) in table {
                    let here = at.key(&key, &value);
                    if !self.old(&here, value) {
                        let free = known.iter().copied().filter(|key| !present.contains(*key));
                        let text = says::unknown_key(&key, free, &known);
                        let shown = At {
                            written: join(&at.written, &nearest::shown_key(&key)),
                            ..here
                        };
                        self.fault(&shown, text);
                    }
                }
            }
            _ => self.fault(at, "expected a mapping such as `key: value`"),
        }
        true
    }

    fn old_key(&mut self, old: &Old, value: Value, at: &At) {
        // Its place among the known keys is the new one's.
        let origin = value.origin().map(str::to_owned);
        let Some((path, translation)) = &old.now else {
            self.old.insert(at.path.clone(), at.place.clone());
            if self.value(&old.node, value, at).is_some() {
                self.warn(at, old.node.no_effect.as_deref().unwrap_or("has no effect"), true);
            }
            return;
        };
        let Some(value) = self.value(&old.node, value, at) else {
            return;
        };
        self.written.remove(&at.path);
        match translation.apply(value.kind, (self.below)(path).as_ref()) {
            Err(text) => self.fault(at, text),
            Ok(kind) => {
                match (translation, &kind) {
                    (Translation::BesideV2, ValueKind::String(file)) => self.warn(
                        at,
                        &format!("this database is left as it is; events are stored beside it, in {file}"),
                        false,
                    ),
                    (Translation::Port, ValueKind::String(listen)) => self.warn(
                        at,
                        &format!(
                            "only the port is taken over, which makes {listen}; `http.listen` sets the address, too"
                        ),
                        false,
                    ),
                    _ => {}
                }
                let written = Written {
                    place: at.place.clone(),
                    path: at.written.clone(),
                };
                self.moved
                    .push((path.clone(), Value::new(origin.as_ref(), kind), written));
            }
        }
    }

    /// Holds a value against its node; nothing is left of a faulty one.
    fn value(&mut self, node: &Node, value: Value, at: &At) -> Option<Value> {
        self.written.insert(
            at.path.clone(),
            Written {
                place: at.place.clone(),
                path: at.written.clone(),
            },
        );
        // `null` is the same as leaving the key out.
        if let Some(why) = &node.no_effect
            && !matches!(value.kind, ValueKind::Nil)
            && !self.tree.old.contains_key(&at.path)
        {
            self.warn(at, why, true);
        }
        let origin = value.origin().map(str::to_owned);
        let rebuilt = |kind| Some(Value::new(origin.as_ref(), kind));
        match (&node.shape, value.kind) {
            (_, ValueKind::Nil) if node.nullable => rebuilt(ValueKind::Nil),
            // A section without a value stands for its defaults.
            (Shape::Table(_) | Shape::Map { .. }, ValueKind::Nil) => rebuilt(ValueKind::Table(Map::new())),
            (Shape::Table(fields), ValueKind::Table(table)) => {
                let table = self.table(fields, table, at);
                rebuilt(ValueKind::Table(table))
            }
            (Shape::Map { item, instances }, ValueKind::Table(table)) => {
                let mut out = Map::new();
                for (key, value) in table {
                    let here = at.key(&key, &value);
                    if *instances && let Err(text) = says::instance(&key, item, &at.written, &value) {
                        let shown = At {
                            written: join(&at.written, &nearest::shown_key(&key)),
                            ..here
                        };
                        self.fault(&shown, text);
                    } else if let Some(value) = self.value(item, value, &here) {
                        out.insert(key, value);
                    }
                }
                rebuilt(ValueKind::Table(out))
            }
            (Shape::List(item), ValueKind::Array(items)) => {
                let outer = std::mem::replace(&mut self.in_list, true);
                let mut out = Vec::new();
                for (index, value) in items.into_iter().enumerate() {
                    let here = At {
                        path: format!("{}[{index}]", at.path),
                        written: format!("{}[{index}]", at.written),
                        place: place(&value),
                    };
                    out.extend(self.value(item, value, &here));
                }
                self.in_list = outer;
                rebuilt(ValueKind::Array(out))
            }
            (Shape::Overlay, kind @ (ValueKind::Table(_) | ValueKind::Nil)) => {
                let table = match kind {
                    ValueKind::Table(table) => table,
                    _ => Map::new(),
                };
                let found = (at.written.clone(), at.place.clone(), table);
                self.found.overlays.push(found);
                None
            }
            (Shape::Union(nodes), kind) => self.union(node, nodes, Value::new(origin.as_ref(), kind), at),
            (Shape::Any, kind) => rebuilt(kind),
            (_, kind) => match scalar(node, &kind) {
                Ok(()) => rebuilt(kind),
                Err(text) => {
                    self.fault(at, text);
                    None
                }
            },
        }
    }

    /// The alternative that the value fits best.
    fn union(&mut self, node: &Node, nodes: &[Node], value: Value, at: &At) -> Option<Value> {
        let same_kind = |node: &&Node| {
            matches!(
                (&node.shape, &value.kind),
                (Shape::Table(_) | Shape::Map { .. }, ValueKind::Table(_))
                    | (Shape::List(_), ValueKind::Array(_))
                    | (Shape::Any | Shape::Union(_), _)
            ) || scalar_kind(&node.shape, &value.kind)
        };
        let mut best: Option<(Vec<Fault>, Option<Value>)> = None;
        let bad = self.found.bad.clone();
        for candidate in nodes.iter().filter(same_kind) {
            let mark = self.found.faults.len();
            let result = self.value(candidate, value.clone(), at);
            let faults = self.found.faults.split_off(mark);
            self.found.bad.clone_from(&bad);
            if best.as_ref().is_none_or(|(fewest, _)| faults.len() < fewest.len()) {
                best = Some((faults, result));
            }
        }
        match best {
            None => {
                self.fault(at, says::wrong(node, &value.kind));
                None
            }
            Some((faults, result)) => {
                if !faults.is_empty() {
                    self.found.bad.insert(at.path.clone());
                }
                self.found.faults.extend(faults);
                result
            }
        }
    }

    fn unknown(&self, fields: &[(String, Node)], key: &str, present: &BTreeSet<String>, at: &At) -> String {
        let known: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        // The right key is missing where a wrong one stands.
        let free = known.iter().copied().filter(|name| !present.contains(*name));
        if key == "hosts" && at.path == key {
            return "unknown key here, expected at the top of the file only".to_owned();
        }
        let text = says::unknown_key(key, free, &known);
        if text.contains("did you mean") || self.in_list {
            return text;
        }
        // Perhaps it stands in the wrong section.
        let elsewhere: Vec<String> = self
            .tree
            .named(key)
            .into_iter()
            .filter(|path| *path != at.path)
            .take(3)
            .collect();
        if elsewhere.is_empty() {
            text
        } else {
            format!("unknown key here{}", nearest::ask(&elsewhere))
        }
    }
}

/// Whether a scalar is of the shape's kind, whatever its value.
fn scalar_kind(shape: &Shape, kind: &ValueKind) -> bool {
    matches!(
        (shape, kind),
        (Shape::Bool, ValueKind::Boolean(_))
            | (Shape::Integer { .. }, ValueKind::I64(_))
            | (Shape::Number, ValueKind::I64(_) | ValueKind::Float(_))
            | (Shape::Text(_) | Shape::Choice(_), ValueKind::String(_))
            | (Shape::Text(Text::Size), ValueKind::I64(_))
    )
}

/// Holds a scalar against its shape.
fn scalar(node: &Node, kind: &ValueKind) -> Result<(), String> {
    let good = match (&node.shape, kind) {
        (Shape::Bool, ValueKind::Boolean(_))
        | (Shape::Number, ValueKind::I64(_) | ValueKind::Float(_))
        | (Shape::Text(Text::Plain), ValueKind::String(_)) => true,
        (Shape::Integer { min, max }, ValueKind::I64(n)) => {
            let n = i128::from(*n);
            min.is_none_or(|min| n >= min) && max.is_none_or(|max| n <= max)
        }
        (Shape::Text(Text::Size), ValueKind::I64(n)) => *n >= 0,
        (Shape::Text(text), ValueKind::String(word)) => says::is_text(*text, word),
        (Shape::Choice(words), ValueKind::String(word)) => words.iter().any(|(known, _)| known == word),
        _ => false,
    };
    if good { Ok(()) } else { Err(says::wrong(node, kind)) }
}
