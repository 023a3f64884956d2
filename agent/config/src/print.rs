//! Configuration as text: effective values, the example file, the JSON Schema.

mod example;
mod scalar;
mod schema;

use std::path::Path;

use serde_json::Value as Json;

use crate::loaded::{HIDDEN, Leaf, Loaded};

pub use example::example;
use scalar::{key, text};
pub use schema::schema;

/// Effective values of all keys as YAML, which loads again; secrets stand as remarks without their values, inside of
/// lists as asterisks. With
/// `origins` each line says where its value is from. `data_dir` is the directory that is used if none is set.
#[must_use]
pub fn effective(loaded: &Loaded, data_dir: &Path, origins: bool) -> String {
    let mut out = String::new();
    let mut open: Vec<&str> = Vec::new();
    for leaf in &loaded.leaves {
        let (name, above) = match leaf.path.split_last() {
            Some((name, above)) => (name, above),
            None => continue,
        };
        let same = open.iter().zip(above).take_while(|(a, b)| *a == b).count();
        open.truncate(same);
        for section in &above[same..] {
            out += &format!("{}{}:\n", "  ".repeat(open.len()), key(section));
            open.push(section);
        }
        let shown = match leaf.path.join(".").as_str() {
            "data_dir" if leaf.value.is_null() => data_dir.display().to_string().into(),
            "host" if leaf.value.is_null() => loaded.host.clone().into(),
            _ => leaf.masked.as_ref().unwrap_or(&leaf.value).clone(),
        };
        line(&mut out, leaf, name, &shown, above.len(), origins);
    }
    out
}

fn line(out: &mut String, leaf: &Leaf, name: &str, value: &Json, depth: usize, origins: bool) {
    let indent = "  ".repeat(depth);
    let origin = if origins {
        format!("  # {}", leaf.origin)
    } else {
        String::new()
    };
    if leaf.secret && !is_empty(&leaf.value) {
        *out += &format!("{indent}# {}: {HIDDEN}{origin}\n", key(name));
        return;
    }
    write(out, &indent, &key(name), value, &origin);
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A key with its value, below it if that has parts; the remark stands on the key's line.
fn write(out: &mut String, indent: &str, key_text: &str, value: &Json, remark: &str) {
    match value {
        Json::Array(items) if !items.is_empty() => {
            *out += &format!("{indent}{key_text}:{remark}\n");
            for item in items {
                *out += &format!("{indent}  - {}\n", text(item));
            }
        }
        Json::Object(map) if !map.is_empty() => {
            *out += &format!("{indent}{key_text}:{remark}\n");
            for (name, value) in map {
                write(out, &format!("{indent}  "), &key(name), value, "");
            }
        }
        _ => *out += &format!("{indent}{key_text}: {}{remark}\n", text(value)),
    }
}
