//! What the JSON Schema of a plugin's configuration tells the runtime beside types, ranges and defaults.
//!
//! Extensions are set with `#[schemars(extend("x-…" = …))]` on a field:
//!
//! | extension | value | meaning |
//! |---|---|---|
//! | [`RELOAD`] | `"live"`, `"restart-plugin"` (default in a plugin's section), `"restart-agent"` (default elsewhere) | what a change of this key takes |
//! | [`ALIASES`] | list of full paths such as `"database.backend"`, or `{"path": …, "as": …}` with a translation that `auditmon-config` has; without a dot a key beside | old names of the key |
//! | [`SECRET`] | `true` | masked wherever configuration is shown; `KEY_file` names a file that holds it |
//! | [`FILE`] | `"read"`, `"secret"` | a path that is opened again at reload; a secret one must not be readable by others |
//! | [`NO_EFFECT`] | a sentence | the key is taken and does nothing yet; `check` says so |
//!
//! The `format` of a string: `bytes` ([`Size`](crate::units::Size)), `duration` ([`Span`](crate::units::Span)),
//! `socket-address`.

use schemars::Schema;
use serde_json::{Value, json};

use crate::delivery::Delivery;
use crate::plugin::PluginConfig;

/// What a change takes.
pub const RELOAD: &str = "x-reload";
/// Old names.
pub const ALIASES: &str = "x-aliases";
/// Masked where shown.
pub const SECRET: &str = "x-secret";
/// A path that is opened at start and reload.
pub const FILE: &str = "x-file";
/// Taken without effect yet.
pub const NO_EFFECT: &str = "x-no-effect";

/// Schema of a sink's section: its own keys and those of [`Delivery`], with the sink's defaults of these.
pub(crate) fn of_sink<C: PluginConfig>() -> Schema {
    let mut schema = schemars::schema_for!(C);
    let common = schemars::schema_for!(Delivery).to_value();
    let defaults = serde_json::to_value(C::delivery()).unwrap_or_default();
    for part in ["properties", "$defs"] {
        let Some(Value::Object(more)) = common.get(part) else {
            continue;
        };
        let own = schema.ensure_object().entry(part).or_insert_with(|| json!({}));
        let Some(own) = own.as_object_mut() else { continue };
        for (key, value) in more {
            let default = defaults.get(key).filter(|_| part == "properties");
            let value = default.map(|default| with_default(value, &common, default));
            own.insert(key.clone(), value.unwrap_or_else(|| more[key].clone()));
        }
    }
    schema
}

/// The same with another default; those of a mapping's keys are part of it, so it is no reference any more.
fn with_default(schema: &Value, root: &Value, default: &Value) -> Value {
    let mut schema = schema.clone();
    let reference = schema.get("$ref").and_then(Value::as_str);
    let target = reference.and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    if let (Some(target), Some(keys)) = (target, default.as_object()) {
        let mut whole = target.clone();
        for (key, default) in keys {
            if let Some(below) = whole.pointer_mut(&format!("/properties/{key}")) {
                *below = with_default(below, root, default);
            }
        }
        // What stands beside the reference is said of this key.
        if let (Some(whole), Some(beside)) = (whole.as_object_mut(), schema.as_object()) {
            whole.extend(beside.iter().map(|(key, value)| (key.clone(), value.clone())));
            whole.remove("$ref");
        }
        schema = whole;
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("default".to_owned(), default.clone());
    }
    schema
}

/// The same with the key `enabled`, first.
pub(crate) fn with_enabled(mut schema: Schema, default: bool) -> Schema {
    let object = schema.ensure_object();
    let mut properties = serde_json::Map::new();
    properties.insert(
        "enabled".to_owned(),
        json!({"type": "boolean", "default": default, "description": "Whether it runs on this host."}),
    );
    if let Some(Value::Object(own)) = object.remove("properties") {
        properties.extend(own);
    }
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    object.insert("additionalProperties".to_owned(), json!(false));
    schema
}
