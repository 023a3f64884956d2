//! Everything that may stand in a configuration: the agent's own settings and those of the plugins it has.

use std::collections::BTreeMap;

use auditmon_core::plugin::Entry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::legacy;
use crate::settings::Settings;
use crate::shape::{Node, Shape, Text};
use crate::translate::Translation;

/// Sections of plugins, in the order in which plugins are started.
pub(crate) const GROUPS: [&str; 3] = ["sinks", "sources", "services"];
/// What is appended to a secret's key for the file that holds it.
pub(crate) const FILE_SUFFIX: &str = "_file";

/// What may stand where, and the old names.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The whole file.
    pub(crate) root: Node,
    /// The same without `hosts`: what `hosts[].set` and the environment may give.
    pub(crate) body: Node,
    /// Old names by full path.
    pub(crate) old: BTreeMap<String, Old>,
}

/// An old name.
#[derive(Debug)]
pub(crate) struct Old {
    /// What may stand there.
    pub(crate) node: Node,
    /// The key that it is now, unless it has no effect.
    pub(crate) now: Option<(String, Translation)>,
}

/// Which hosts an entry of `hosts` is for; all that is given has to hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Match {
    /// Pattern for the host's name: `*` stands for any letters, `?` for one.
    pub(crate) name: Option<String>,
    /// Patterns for labels by name.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Tree {
    pub(crate) fn new(entries: &[Entry]) -> Self {
        let mut body = Node::of_schema(schemars::schema_for!(Settings).as_value());
        let mut defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
        if let Shape::Table(fields) = &mut body.shape {
            // Sources, sinks, services: the way of the data.
            for group in ["sources", "sinks", "services"] {
                let (node, default) = section(group, entries);
                fields.push((group.to_owned(), node));
                defaults[group] = default;
            }
        }
        body.spread_default(&defaults);
        add_secret_files(&mut body);
        let mut root = body.clone();
        if let Shape::Table(fields) = &mut root.shape {
            fields.push(("hosts".to_owned(), hosts()));
        }
        let mut old = BTreeMap::new();
        collect_old(&body, "", &mut old);
        for (path, node) in legacy::keys() {
            if node.secret {
                let mut file = file_of(path, &node);
                file.no_effect = node.no_effect.clone();
                old.insert(format!("{path}{FILE_SUFFIX}"), Old { node: file, now: None });
            }
            old.insert(path.to_owned(), Old { node, now: None });
        }
        Self { root, body, old }
    }

    /// The node at a path, with or without indices of lists.
    pub(crate) fn find(&self, path: &str) -> Option<&Node> {
        let mut node = &self.root;
        for part in path.split('.') {
            let (key, indices) = part.split_once('[').map_or((part, ""), |(key, rest)| (key, rest));
            node = node.field(key)?;
            for _ in 0..indices.matches(']').count() {
                let Shape::List(item) = &node.shape else { return None };
                node = item;
            }
        }
        Some(node)
    }

    /// Defaults of all keys but those of instances.
    pub(crate) fn defaults(&self) -> Json {
        self.body.default.clone().unwrap_or_else(|| json!({}))
    }

    /// Paths of all keys of this name that are not in a list or an instance.
    pub(crate) fn named(&self, key: &str) -> Vec<String> {
        let mut found = Vec::new();
        collect_named(&self.root, "", key, &mut found);
        found
    }
}

pub(crate) fn join(above: &str, key: &str) -> String {
    if above.is_empty() {
        key.to_owned()
    } else {
        format!("{above}.{key}")
    }
}

fn section(group: &str, entries: &[Entry]) -> (Node, Json) {
    let mut fields = Vec::new();
    let mut defaults = serde_json::Map::new();
    for entry in entries.iter().filter(|entry| entry.section() == group) {
        let mut node = Node::of_schema(entry.schema().as_value());
        node.default = None;
        let own = entry.defaults();
        node.spread_default(&own);
        let node = if entry.named {
            let text = format!("By name, any number of them: `{}.NAME`.", entry.name);
            let shape = Shape::Map {
                item: Box::new(node),
                instances: true,
            };
            defaults.insert(entry.name.to_owned(), json!({}));
            Node::new(shape, &text)
        } else {
            defaults.insert(entry.name.to_owned(), own);
            node
        };
        fields.push((entry.name.to_owned(), node));
    }
    let description = match group {
        "sources" => "Where events come from.",
        "sinks" => "Where events go.",
        _ => "Who serves people and machines.",
    };
    (Node::new(Shape::Table(fields), description), Json::Object(defaults))
}

/// The key beside a secret that names a file.
fn file_of(key: &str, secret: &Node) -> Node {
    let mut node = Node::new(
        Shape::Text(Text::Plain),
        &format!("A file that holds `{}` instead.", key.rsplit('.').next().unwrap_or(key)),
    );
    node.nullable = true;
    node.default = Some(Json::Null);
    node.file = Some("secret".to_owned());
    node.reload = secret.reload;
    node.stands_for = Some(key.to_owned());
    node
}

fn add_secret_files(node: &mut Node) {
    match &mut node.shape {
        Shape::Table(fields) => {
            let mut index = 0;
            while index < fields.len() {
                let (key, node) = &mut fields[index];
                add_secret_files(node);
                let name = format!("{key}{FILE_SUFFIX}");
                if node.secret && matches!(node.shape, Shape::Text(_)) {
                    let file = file_of(key, node);
                    // A plugin may have such a key of its own, and then reads the file itself.
                    if !fields.iter().any(|(key, _)| *key == name) {
                        index += 1;
                        fields.insert(index, (name, file));
                    }
                }
                index += 1;
            }
        }
        Shape::List(item) | Shape::Map { item, .. } => add_secret_files(item),
        Shape::Union(nodes) => nodes.iter_mut().for_each(add_secret_files),
        _ => {}
    }
}

fn hosts() -> Node {
    let mut choice = Node::of_schema(schemars::schema_for!(Match).as_value());
    choice.required = true;
    let mut set = Node::new(
        Shape::Overlay,
        "What these hosts have otherwise: the same keys as above.",
    );
    set.required = true;
    let entry = Node::new(
        Shape::Table(vec![("match".to_owned(), choice), ("set".to_owned(), set)]),
        "",
    );
    let mut node = Node::new(
        Shape::List(Box::new(entry)),
        "Settings for some hosts of a fleet, in order: maps merge, lists replace. All entries are checked on every host.",
    );
    node.default = Some(json!([]));
    node
}

fn collect_old(node: &Node, path: &str, old: &mut BTreeMap<String, Old>) {
    for alias in &node.aliases {
        if alias.path.contains('.') {
            let mut before = alias.translation.node(node);
            before.aliases = Vec::new();
            let now = Some((path.to_owned(), alias.translation));
            if before.secret {
                let file = Old {
                    node: file_of(&alias.path, &before),
                    now: Some((format!("{path}{FILE_SUFFIX}"), Translation::None)),
                };
                old.insert(format!("{}{FILE_SUFFIX}", alias.path), file);
            }
            old.insert(alias.path.clone(), Old { node: before, now });
        }
    }
    if let Shape::Table(fields) = &node.shape {
        for (key, node) in fields {
            collect_old(node, &join(path, key), old);
        }
    }
}

fn collect_named(node: &Node, path: &str, key: &str, found: &mut Vec<String>) {
    if let Shape::Table(fields) = &node.shape {
        for (name, node) in fields {
            let path = join(path, name);
            if name == key {
                found.push(path.clone());
            }
            collect_named(node, &path, key, found);
        }
    }
}
