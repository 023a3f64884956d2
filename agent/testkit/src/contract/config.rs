//! The contract of a configuration.

use auditmon_core::plugin::{Entry, PluginConfig, Section};
use serde_json::{Value, json};

use super::plan;

/// Checks that the defaults of `C` are written as they are read, that they can work, that they fit the schema of
/// `entry` and are those that it names, that every key is described, and that a key that is none is refused.
pub fn config<C: PluginConfig>(entry: &Entry) {
    config_that_needs::<C>(entry, &json!({}));
}

/// The same for a plugin that can't work on defaults alone: `needed` holds what a user has to say.
pub fn config_that_needs<C: PluginConfig>(entry: &Entry, needed: &Section) {
    let name = entry.name;
    let read = |section: &Section| -> C {
        serde_json::from_value(section.clone()).unwrap_or_else(|error| panic!("{name}: {section}: {error}"))
    };
    let written = serde_json::to_value(C::default()).unwrap();
    assert!(written.is_object(), "{name}: a section is a mapping, here {written}");
    for same in [&written, &json!({})] {
        let again = serde_json::to_value(read(same)).unwrap();
        assert_eq!(again, written, "{name}: read from {same}");
    }

    let mut all = entry.defaults();
    let schema = entry.schema().to_value();
    fits(&all, &schema, &schema).unwrap_or_else(|why| panic!("{name}: its schema refuses the defaults: {why}"));
    described(name, &all, &schema, &schema);

    all.as_object_mut().unwrap().remove("enabled");
    for (key, value) in needed.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    works(entry, all.clone());
    works(entry, needed.clone());
    for path in mappings(&all, String::new()) {
        let mut wrong = all.clone();
        let here = wrong.pointer_mut(&path).unwrap().as_object_mut().unwrap();
        here.insert("no_such_key".to_owned(), json!(1));
        let faults = match plan(entry, wrong.clone()) {
            Ok(_) => panic!("{name}: `{path}/no_such_key` is taken"),
            Err(faults) => faults,
        };
        let named = faults.iter().any(|fault| fault.message.contains("no_such_key"));
        assert!(named, "{name}: {faults:?}");
        assert!(
            fits(&wrong, &schema, &schema).is_err(),
            "{name}: its schema takes `{path}/no_such_key`"
        );
    }
}

fn works(entry: &Entry, section: Section) {
    if let Err(faults) = plan(entry, section) {
        panic!("{}: the defaults can't work: {faults:?}", entry.name);
    }
}

/// JSON pointers of all mappings; below one that is empty anything may stand.
fn mappings(value: &Value, at: String) -> Vec<String> {
    let Value::Object(object) = value else {
        return Vec::new();
    };
    let below = object
        .iter()
        .filter(|(_, value)| value.as_object().is_some_and(|below| !below.is_empty()));
    let mut all: Vec<_> = below
        .flat_map(|(key, value)| mappings(value, format!("{at}/{key}")))
        .collect();
    all.push(at);
    all
}

/// Behind a reference.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    match reference.and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => resolve(root.pointer(pointer).expect("the reference leads somewhere"), root),
        None => schema,
    }
}

/// Whether a value fits; of JSON Schema only what configurations use.
fn fits(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    let schema = resolve(schema, root);
    for any in ["anyOf", "oneOf"] {
        if let Some(schemas) = schema.get(any).and_then(Value::as_array) {
            let one = schemas.iter().any(|schema| fits(value, schema, root).is_ok());
            return one.then_some(()).ok_or_else(|| format!("{value} fits none of {any}"));
        }
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |name: &&str| match *name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    if !types.is_empty() && !types.iter().any(is) {
        return Err(format!("{value} is not {types:?}"));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        return Err(format!("{value} is none of {values:?}"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if let Some(number) = value.as_f64() {
        let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
        if limit("minimum").is_some_and(|min| number < min) || limit("maximum").is_some_and(|max| number > max) {
            return Err(format!("{value} is out of range"));
        }
    }
    match value {
        Value::Array(values) => {
            let items = schema.get("items").unwrap_or(&Value::Bool(true));
            values.iter().try_for_each(|value| fits(value, items, root))
        }
        Value::Object(object) => object.iter().try_for_each(|(key, value)| {
            let below = schema.get("properties").and_then(|properties| properties.get(key));
            match below.or_else(|| schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => Err(format!("there is no key `{key}`")),
                None | Some(Value::Bool(true)) => Ok(()),
                Some(below) => fits(value, below, root).map_err(|why| format!("{key}: {why}")),
            }
        }),
        _ => Ok(()),
    }
}

/// Every key has a description, and the default that the schema names is the one that counts.
fn described(at: &str, value: &Value, schema: &Value, root: &Value) {
    let (Some(object), Some(properties)) = (value.as_object(), resolve(schema, root).get("properties")) else {
        return;
    };
    for (key, value) in object {
        let below = properties
            .get(key)
            .unwrap_or_else(|| panic!("{at}.{key} is not in the schema"));
        let text = below
            .get("description")
            .or_else(|| resolve(below, root).get("description"));
        assert!(
            text.is_some(),
            "{at}.{key} has no description: give its field a doc comment"
        );
        if let Some(default) = below.get("default") {
            assert_eq!(default, value, "{at}.{key}: the schema names another default");
        }
        described(&format!("{at}.{key}"), value, below, root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checker_of_schemas_refuses() {
        let schema = json!({
            "type": "object",
            "properties": {
                "size": {"$ref": "#/$defs/Size"},
                "mode": {"anyOf": [{"type": "null"}, {"enum": ["a", "b"]}]},
                "list": {"type": "array", "items": {"type": "string"}},
            },
            "additionalProperties": false,
            "$defs": {"Size": {"type": "integer", "minimum": 1, "maximum": 9}},
        });
        for (value, good) in [
            (json!({"size": 3, "mode": null, "list": ["x"]}), true),
            (json!({"size": 0}), false),
            (json!({"size": 10}), false),
            (json!({"size": "3"}), false),
            (json!({"mode": "c"}), false),
            (json!({"list": [1]}), false),
            (json!({"other": 1}), false),
            (json!([]), false),
        ] {
            assert_eq!(fits(&value, &schema, &schema).is_ok(), good, "{value}");
        }
    }
}
