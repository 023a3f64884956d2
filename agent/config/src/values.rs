//! Trees of the `config` crate's values: places in them, and JSON of them.

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use crate::fault::Place;

/// The value at a path, which may have indices of lists.
pub(crate) fn get<'a>(table: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let mut value = step(table, parts.next()?)?;
    for part in parts {
        let ValueKind::Table(table) = &value.kind else {
            return None;
        };
        value = step(table, part)?;
    }
    Some(value)
}

fn step<'a>(table: &'a Map<String, Value>, part: &str) -> Option<&'a Value> {
    let mut pieces = part.split('[');
    let mut value = table.get(pieces.next()?)?;
    for piece in pieces {
        let ValueKind::Array(items) = &value.kind else {
            return None;
        };
        value = items.get(piece.strip_suffix(']')?.parse::<usize>().ok()?)?;
    }
    Some(value)
}

/// Takes a key away, wherever it is below.
pub(crate) fn remove(table: &mut Map<String, Value>, path: &str) {
    match path.split_once('.') {
        None => {
            table.remove(path);
        }
        Some((first, rest)) => {
            if let Some(Value {
                kind: ValueKind::Table(inner),
                ..
            }) = table.get_mut(first)
            {
                remove(inner, rest);
            }
        }
    }
}

/// JSON of a value.
pub(crate) fn to_json(value: &Value) -> Json {
    match &value.kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(b) => (*b).into(),
        ValueKind::I64(n) => (*n).into(),
        ValueKind::U64(n) => (*n).into(),
        ValueKind::I128(n) => n.to_string().into(),
        ValueKind::U128(n) => n.to_string().into(),
        ValueKind::Float(n) => (*n).into(),
        ValueKind::String(s) => s.as_str().into(),
        ValueKind::Table(t) => Json::Object(sorted(t).map(|(k, v)| (k.clone(), to_json(v))).collect()),
        ValueKind::Array(a) => Json::Array(a.iter().map(to_json).collect()),
    }
}

/// Tables of the `config` crate have no order; what is shown has to have one.
fn sorted(table: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_unstable_by_key(|(key, _)| *key);
    pairs.into_iter()
}

/// JSON of what somebody gave: without what comes from defaults. `None` if that is everything. `is_written` knows the
/// paths that were given, since a merged table does not know where it is from.
pub(crate) fn given(value: &Value, path: &str, is_written: &dyn Fn(&str) -> bool) -> Option<Json> {
    if let ValueKind::Table(table) = &value.kind {
        let inner: serde_json::Map<String, Json> = sorted(table)
            .filter_map(|(key, value)| Some((key.clone(), given(value, &format!("{path}.{key}"), is_written)?)))
            .collect();
        let empty = table.is_empty() && is_written(path);
        return (empty || !inner.is_empty()).then_some(Json::Object(inner));
    }
    let default = Place::Default.to_string();
    (value.origin() != Some(&default)).then(|| to_json(value))
}

/// A value of JSON, all of it from one place.
pub(crate) fn from_json(json: &Json, place: &Place) -> Value {
    let origin = place.to_string();
    let kind = match json {
        Json::Null => ValueKind::Nil,
        Json::Bool(b) => ValueKind::Boolean(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => ValueKind::I64(n),
            (None, n) => ValueKind::Float(n.unwrap_or_default()),
        },
        Json::String(s) => ValueKind::String(s.clone()),
        Json::Array(a) => ValueKind::Array(a.iter().map(|v| from_json(v, place)).collect()),
        Json::Object(o) => ValueKind::Table(o.iter().map(|(k, v)| (k.clone(), from_json(v, place))).collect()),
    };
    Value::new(Some(&origin), kind)
}

/// The same, all of it from one place.
pub(crate) fn placed(value: Value, place: &Place) -> Value {
    let kind = match value.kind {
        ValueKind::Table(t) => ValueKind::Table(t.into_iter().map(|(k, v)| (k, placed(v, place))).collect()),
        ValueKind::Array(a) => ValueKind::Array(a.into_iter().map(|v| placed(v, place)).collect()),
        kind => kind,
    };
    Value::new(Some(&place.to_string()), kind)
}
