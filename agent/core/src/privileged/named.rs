//! Files that a configuration names, found by its schema.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::ConfiguredFile;
use crate::schema::FILE;

/// Deeper is no configuration.
const MAX_DEPTH: usize = 32;

/// The files of all keys that carry the extension [`FILE`].
#[must_use]
pub fn files_of<C: JsonSchema + Serialize>(config: &C) -> Vec<ConfiguredFile> {
    let schema = schemars::schema_for!(C).to_value();
    // What can't be written as JSON was never read from a file.
    let value = serde_json::to_value(config).unwrap_or_default();
    let mut files = Vec::new();
    walk(&schema, &schema, &value, &mut files, 0);
    files
}

fn walk(schema: &Value, root: &Value, value: &Value, files: &mut Vec<ConfiguredFile>, depth: usize) {
    if depth > MAX_DEPTH || value.is_null() {
        return;
    }
    if let Some(use_of) = schema.get(FILE).and_then(Value::as_str) {
        let secret = use_of == "secret";
        let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        files.extend(all.iter().filter_map(Value::as_str).map(|path| ConfiguredFile {
            path: path.into(),
            secret,
        }));
        return;
    }
    let mut go = |schema: &Value, value: &Value| walk(schema, root, value, files, depth + 1);
    if let Some(pointer) = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|name| name.strip_prefix('#'))
        && let Some(found) = root.pointer(pointer)
    {
        go(found, value);
    }
    for many in ["allOf", "anyOf", "oneOf"] {
        for one in schema.get(many).and_then(Value::as_array).into_iter().flatten() {
            go(one, value);
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let own = schema.get("properties").and_then(|properties| properties.get(key));
        if let Some(below) = own.or_else(|| schema.get("additionalProperties")) {
            go(below, value);
        }
    }
    if let Some(items) = schema.get("items") {
        for value in value.as_array().into_iter().flatten() {
            go(items, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    #[derive(Default, JsonSchema, Serialize)]
    struct Top {
        #[schemars(extend("x-file" = "read"))]
        list: Vec<PathBuf>,
        other: PathBuf,
        tls: Option<Tls>,
        named: BTreeMap<String, Tls>,
        several: Vec<Tls>,
    }

    #[derive(Default, JsonSchema, Serialize)]
    struct Tls {
        #[schemars(extend("x-file" = "secret"))]
        key_file: Option<PathBuf>,
    }

    #[test]
    fn files_are_found_wherever_they_stand() {
        assert_eq!(files_of(&Top::default()), []);
        let tls = |path: &str| Tls {
            key_file: Some(path.into()),
        };
        let top = Top {
            list: vec!["/a".into(), "/b".into()],
            other: "/no".into(),
            tls: Some(tls("/c")),
            named: BTreeMap::from([("x".to_owned(), tls("/d")), ("y".to_owned(), Tls::default())]),
            several: vec![tls("/e")],
        };
        let mut found: Vec<_> = files_of(&top)
            .into_iter()
            .map(|file| (file.path.display().to_string(), file.secret))
            .collect();
        found.sort();
        let expected = [("/a", false), ("/b", false), ("/c", true), ("/d", true), ("/e", true)];
        assert_eq!(found, expected.map(|(path, secret)| (path.to_owned(), secret)));
    }
}
