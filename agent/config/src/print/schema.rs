//! The JSON Schema of the file, made from the same tree that the file is held against.

use auditmon_core::plugin::Entry;
use auditmon_core::schema::{FILE, NO_EFFECT, RELOAD, SECRET};
use serde_json::{Map, Value as Json, json};

use crate::loaded::Class;
use crate::shape::{Node, Shape, Text};
use crate::tree::Tree;

/// What [`Size`](auditmon_core::units::Size) reads.
const SIZE: &str = "^[0-9]+ *(|B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$";
/// What [`Span`](auditmon_core::units::Span) reads.
const SPAN: &str = "^([0-9]+(ms|s|m|h|d))+$";
/// The end of an address with a port; the rest has too many forms.
const SOCKET_ADDRESS: &str = ":[0-9]{1,5}$";
/// A name of an instance.
const INSTANCE: &str = "^[a-z0-9_-]{1,40}$";

/// JSON Schema (2020-12) of a configuration file with these plugins, for editors.
#[must_use]
pub fn schema(entries: &[Entry]) -> Json {
    let tree = Tree::new(entries);
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Auditmon configuration",
    });
    extend(&mut root, of(&tree.root, false));
    if let Some(root) = root.as_object_mut() {
        root.remove("default");
    }
    for (path, old) in &tree.old {
        let mut schema = of(&old.node, false);
        let text = match &old.now {
            Some((now, _)) => format!("Of the Go service; now `{now}`."),
            None => format!(
                "Of the Go service; {}.",
                old.node.no_effect.as_deref().unwrap_or_default()
            ),
        };
        schema["description"] = text.into();
        schema["deprecated"] = true.into();
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("default");
            schema.remove(NO_EFFECT);
        }
        place(&mut root, path, schema);
    }
    root
}

fn extend(under: &mut Json, over: Json) {
    if let (Some(under), Json::Object(over)) = (under.as_object_mut(), over) {
        under.extend(over);
    }
}

/// Puts a property at a path, with the objects above it.
fn place(root: &mut Json, path: &str, schema: Json) {
    let mut parts: Vec<&str> = path.split('.').collect();
    let Some(last) = parts.pop() else { return };
    let mut here = root;
    for part in parts {
        let Some(properties) = here["properties"].as_object_mut() else {
            return;
        };
        here = properties.entry(part).or_insert_with(
            || json!({"type": ["object", "null"], "deprecated": true, "properties": {}, "additionalProperties": false}),
        );
    }
    here["properties"][last] = schema;
}

/// The schema of a node; in lists, what has to be there is required.
fn of(node: &Node, in_list: bool) -> Json {
    let mut out = shape(node, in_list);
    if node.nullable {
        out = nullable(out);
    }
    let mut more = Map::new();
    if !node.description.is_empty() {
        more.insert("description".to_owned(), node.description.clone().into());
    }
    if let Some(default) = &node.default
        && node.is_leaf()
        && !node.secret
    {
        more.insert("default".to_owned(), default.clone());
    }
    if let Some(class) = node.reload {
        let word = match class {
            Class::Live => "live",
            Class::RestartPlugin => "restart-plugin",
            Class::RestartAgent => "restart-agent",
        };
        more.insert(RELOAD.to_owned(), word.into());
    }
    if node.secret {
        more.insert(SECRET.to_owned(), true.into());
    }
    if let Some(file) = &node.file {
        more.insert(FILE.to_owned(), file.as_str().into());
    }
    if let Some(why) = &node.no_effect {
        more.insert(NO_EFFECT.to_owned(), why.as_str().into());
    }
    extend(&mut out, Json::Object(more));
    out
}

fn nullable(mut schema: Json) -> Json {
    match schema.get("type").cloned() {
        Some(Json::String(one)) => schema["type"] = json!([one, "null"]),
        Some(Json::Array(mut several)) => {
            if !several.contains(&"null".into()) {
                several.push("null".into());
                schema["type"] = several.into();
            }
        }
        _ => {
            if let Some(words) = schema.get_mut("enum").and_then(Json::as_array_mut) {
                words.push(Json::Null);
            } else {
                return json!({"anyOf": [schema, {"type": "null"}]});
            }
        }
    }
    schema
}

fn shape(node: &Node, in_list: bool) -> Json {
    match &node.shape {
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Integer { min, max } => {
            let mut out = json!({"type": "integer"});
            let limit = |n: &i128| i64::try_from(*n).ok();
            if let Some(min) = min.as_ref().and_then(limit) {
                out["minimum"] = min.into();
            }
            if let Some(max) = max.as_ref().and_then(limit) {
                out["maximum"] = max.into();
            }
            out
        }
        Shape::Number => json!({"type": "number"}),
        Shape::Text(Text::Plain) => json!({"type": "string"}),
        Shape::Text(Text::Size) => json!({"type": ["string", "integer"], "pattern": SIZE, "minimum": 0}),
        Shape::Text(Text::Span) => json!({"type": "string", "pattern": SPAN}),
        Shape::Text(Text::SocketAddress) => json!({"type": "string", "pattern": SOCKET_ADDRESS}),
        Shape::Choice(words) if words.iter().all(|(_, meaning)| meaning.is_empty()) => {
            json!({"enum": words.iter().map(|(word, _)| word).collect::<Vec<_>>()})
        }
        Shape::Choice(words) => {
            let one = |(word, meaning): &(String, String)| json!({"const": word, "description": meaning});
            json!({"anyOf": words.iter().map(one).collect::<Vec<_>>()})
        }
        Shape::List(item) => json!({"type": "array", "items": of(item, true)}),
        Shape::Table(fields) => {
            let properties: Map<String, Json> = fields
                .iter()
                .map(|(name, node)| (name.clone(), of(node, in_list)))
                .collect();
            // A section without a value stands for its defaults.
            let mut out = json!({"type": ["object", "null"], "properties": properties, "additionalProperties": false});
            let required: Vec<&String> = fields
                .iter()
                .filter(|(_, node)| in_list && node.required)
                .map(|(name, _)| name)
                .collect();
            if !required.is_empty() {
                out["required"] = json!(required);
            }
            out
        }
        Shape::Map { item, instances } => {
            let mut out = json!({"type": ["object", "null"], "additionalProperties": of(item, in_list)});
            if *instances {
                out["propertyNames"] = json!({"pattern": INSTANCE});
            }
            out
        }
        Shape::Union(nodes) => {
            let one = |node: &Node| {
                let mut schema = of(node, in_list);
                if matches!(node.shape, Shape::Table(_) | Shape::Map { .. }) && !node.nullable {
                    schema["type"] = "object".into();
                }
                schema
            };
            json!({"anyOf": nodes.iter().map(one).collect::<Vec<_>>()})
        }
        Shape::Overlay => json!({"$ref": "#", "properties": {"hosts": false}}),
        Shape::Any => json!({}),
    }
}

#[cfg(test)]
mod tests;
