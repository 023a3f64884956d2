//! The schema says of a file what the agent says of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use config::Map as Table;
use regex_automata::dfa::Automaton as _;
use regex_automata::dfa::dense::DFA;
use regex_automata::{Anchored, Input};
use serde_json::{Value as Json, json};

use super::{INSTANCE, SIZE, SOCKET_ADDRESS, SPAN, schema};
use crate::fault::Place;
use crate::plugins::entries;
use crate::print::example;
use crate::tree::Tree;
use crate::walk::{self, Findings};
use crate::{values, yaml};

/// Whether a value fits a schema, by the keywords of JSON Schema 2020-12 that ours uses; another one fails the test.
fn fits(root: &Json, schema: &Json, value: &Json) -> bool {
    let Some(keywords) = schema.as_object() else {
        return schema.as_bool().unwrap();
    };
    keywords.iter().all(|(keyword, wanted)| match keyword.as_str() {
        "$schema" | "title" | "description" | "default" | "deprecated" => true,
        annotation if annotation.starts_with("x-") => true,
        "$ref" => {
            assert_eq!(wanted, "#");
            fits(root, root, value)
        }
        "type" => {
            let types: Vec<&str> = match wanted {
                Json::String(one) => vec![one],
                several => several
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|t| t.as_str().unwrap())
                    .collect(),
            };
            types.iter().any(|name| match *name {
                "null" => value.is_null(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                "string" => value.is_string(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                other => panic!("{other}"),
            })
        }
        "const" => value == wanted,
        "enum" => wanted.as_array().unwrap().contains(value),
        "anyOf" => wanted.as_array().unwrap().iter().any(|one| fits(root, one, value)),
        "minimum" => value.as_f64().is_none_or(|n| n >= wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|n| n <= wanted.as_f64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| found(wanted.as_str().unwrap(), text)),
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|item| fits(root, wanted, item))),
        "properties" => value.as_object().is_none_or(|object| {
            let known = wanted.as_object().unwrap();
            object
                .iter()
                .all(|(key, value)| known.get(key).is_none_or(|schema| fits(root, schema, value)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let known = schema["properties"].as_object();
            let more = object
                .iter()
                .filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
            more.into_iter().all(|(_, value)| fits(root, wanted, value))
        }),
        "propertyNames" => value
            .as_object()
            .is_none_or(|object| object.keys().all(|key| fits(root, wanted, &Json::String(key.clone())))),
        "required" => value.as_object().is_none_or(|object| {
            let keys = wanted.as_array().unwrap();
            keys.iter().all(|key| object.contains_key(key.as_str().unwrap()))
        }),
        other => panic!("unknown keyword {other}"),
    })
}

fn found(pattern: &str, text: &str) -> bool {
    type Pattern = (&'static str, DFA<Vec<u32>>);
    static KNOWN: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
        let patterns = [SIZE, SPAN, INSTANCE, SOCKET_ADDRESS];
        patterns.map(|pattern| (pattern, DFA::new(pattern).unwrap())).to_vec()
    });
    let (_, dfa) = KNOWN.iter().find(|(known, _)| *known == pattern).unwrap();
    let input = Input::new(text).anchored(Anchored::No);
    dfa.try_search_fwd(&input).unwrap().is_some()
}

/// Whether the agent finds no fault in what stands in a file, short of what only plugins know.
fn accepted(tree: &Tree, file: &Json) -> bool {
    let place = Place::File(1, 1, "f".to_owned());
    let table = match values::from_json(file, &place).kind {
        config::ValueKind::Table(table) => table,
        _ => Table::new(),
    };
    let mut found = Findings::default();
    walk::layer(tree, &tree.root, table, "", &|_| None, &mut found);
    for (written, _, table) in std::mem::take(&mut found.overlays) {
        walk::layer(tree, &tree.body, table, &written, &|_| None, &mut found);
    }
    found.faults.is_empty()
}

/// Paths of everything in a value.
fn places(value: &Json, path: &str, out: &mut BTreeSet<String>) {
    out.insert(path.to_owned());
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                places(value, &format!("{path}/{key}"), out);
            }
        }
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{path}/{index}"), out);
            }
        }
        _ => {}
    }
}

/// A file that has everything.
fn whole() -> Json {
    let text = example(&entries());
    let (table, faults) = yaml::parse("f", &text);
    assert_eq!(faults, []);
    let mut file = values::to_json(&config::Value::new(None, config::ValueKind::Table(table.unwrap())));
    file["labels"] = json!({"role": "db"});
    file["http"]["protect"] = json!(["metrics"]);
    file["sinks"]["webhook"]["siem"] =
        json!({"url": "u", "token": "t", "headers": {"a": "b"}, "format": "ecs", "batch": {"events": 5}});
    file["sinks"]["webhook"]["other"] = json!({"format": {"template": "x"}});
    file["sources"]["kernel"]["rules"] = json!({"policy": "additive", "list": ["-D"]});
    file["sources"]["kernel"]["servers"] = json!([{"address": "a", "password": "p"}]);
    file["hosts"] = json!([{"match": {"name": "a*", "labels": {"role": "x"}}, "set": {"http": {"memory": "1MiB"}}}]);
    file["security"] = json!({"session_max_seconds": 5, "initial_user": "a"});
    file["metrics"] = json!({"send_influx": true});
    file
}

#[test]
fn the_schema_and_the_agent_agree() {
    let (tree, schema, file) = (Tree::new(&entries()), schema(&entries()), whole());
    assert!(accepted(&tree, &file) && fits(&schema, &schema, &file));
    let mut all = BTreeSet::new();
    places(&file, "", &mut all);
    all.remove("");
    let values = json!([
        null, true, "true", 0, -1, 1, 70_000, 20_000_000_000_i64, 1.5, "", "x", "64MiB", "64 MiB", "64mib", "10s",
        "1h30m", "10", "127.0.0.1:1", "text", "ecs", "sqlite", "exclusive", "block", [], ["metrics"], ["x"], [1], [{}],
        {}, {"a": 1}, {"a": "b"}, {"a": {}}, {"A b": {}}, {"enabled": true}, {"hosts": []}, {"template": "x"}
    ]);
    let (mut good, mut bad) = (0, 0);
    for path in &all {
        for value in values.as_array().unwrap() {
            let mut file = file.clone();
            *file.pointer_mut(path).unwrap() = value.clone();
            let agent = accepted(&tree, &file);
            assert_eq!(fits(&schema, &schema, &file), agent, "{path}: {value}");
            if agent {
                good += 1;
            } else {
                bad += 1;
            }
        }
        // A key that isn't known, and one that is missing.
        let mut more = file.clone();
        if let Some(object) = more.pointer_mut(path).and_then(Json::as_object_mut) {
            object.insert("colour".to_owned(), "x".into());
            assert_eq!(fits(&schema, &schema, &more), accepted(&tree, &more), "{path}");
        }
        let mut less = file.clone();
        let (above, key) = path.rsplit_once('/').unwrap();
        if let Some(object) = less.pointer_mut(above).and_then(Json::as_object_mut) {
            object.remove(key);
            assert_eq!(fits(&schema, &schema, &less), accepted(&tree, &less), "without {path}");
        }
    }
    assert!(good > 300 && bad > 1_000, "{good} {bad}");
}
