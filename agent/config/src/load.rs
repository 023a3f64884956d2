//! Layers: defaults < file < environment < command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use auditmon_core::plugin::Section;
use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;

use crate::settings::{Http, Journal, Logging, Settings};
use crate::{ConfigErrors, yaml};

/// Settings, and where each key came from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file they are from, if any.
    pub file: Option<PathBuf>,
    /// Place of each key by its path: `http.listen` → `auditmon.yaml:3:3`.
    pub places: BTreeMap<String, String>,
}

impl Loaded {
    /// The place of a fault that a section's own reading found: the key that its message names, else the section.
    #[must_use]
    pub fn place(&self, section: &str, message: &str) -> String {
        place(&self.places, section, message)
    }
}

/// Variables that override a leaf.
const ENVIRONMENT: [(&str, &[&str]); 2] = [
    ("AUDITMON_DATA_DIR", &["data_dir"]),
    ("AUDITMON_HTTP_LISTEN", &["http", "listen"]),
];

/// Keys at the top of the file.
const TOP: [&str; 8] = [
    "data_dir", "host", "http", "journal", "logging", "sources", "sinks", "services",
];

/// One layer for the `config` crate.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Reads `file`, or the first of `/etc/auditmon/auditmon.yaml` and `./config/auditmon.yaml` that is there,
/// and puts `environment` above it.
///
/// # Errors
/// All faults that were found.
pub fn load(file: Option<&Path>, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ConfigErrors> {
    let file = match file {
        Some(file) => Some(file.to_owned()),
        None => ["/etc/auditmon/auditmon.yaml", "config/auditmon.yaml"]
            .map(PathBuf::from)
            .into_iter()
            .find(|p| p.exists()),
    };
    let mut builder = Config::builder();
    // Merged tables lose their origin, so each layer's places are kept beside.
    let mut places = BTreeMap::new();
    if let Some(file) = &file {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigErrors(vec![format!("{name}: the configuration file can't be read: {error}")]))?;
        let tree = yaml::parse(&name, &text).map_err(ConfigErrors)?;
        remember_places(&tree, "", &mut places);
        builder = builder.add_source(Layer(tree));
    }
    let tree = from_environment(environment);
    remember_places(&tree, "", &mut places);
    builder = builder.add_source(Layer(tree));
    let merged = builder.build().map_err(|error| ConfigErrors(vec![error.to_string()]))?;
    let ValueKind::Table(tree) = merged.cache.kind else {
        return Err(ConfigErrors(vec!["the configuration is no mapping".to_owned()]));
    };
    let settings = typed(tree, &places).map_err(ConfigErrors)?;
    Ok(Loaded { settings, file, places })
}

fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Map<String, Value> {
    let mut tree = Map::new();
    for (variable, path) in ENVIRONMENT {
        let Some(text) = environment(variable).filter(|text| !text.is_empty()) else {
            continue;
        };
        let origin = format!("environment {variable}");
        let mut value = Value::new(Some(&origin), ValueKind::String(text));
        for key in path[1..].iter().rev() {
            value = Value::new(Some(&origin), ValueKind::Table(Map::from([((*key).to_owned(), value)])));
        }
        tree.insert(path[0].to_owned(), value);
    }
    tree
}

fn remember_places(tree: &Map<String, Value>, above: &str, places: &mut BTreeMap<String, String>) {
    for (key, value) in tree {
        let path = if above.is_empty() {
            key.clone()
        } else {
            format!("{above}.{key}")
        };
        if let ValueKind::Table(inner) = &value.kind {
            remember_places(inner, &path, places);
        }
        if let Some(origin) = value.origin() {
            places.insert(path, origin.to_owned());
        }
    }
}

fn typed(tree: Map<String, Value>, places: &BTreeMap<String, String>) -> Result<Settings, Vec<String>> {
    let mut errors = Vec::new();
    let mut settings = Settings::default();
    for (key, value) in tree {
        let json = to_json(value);
        let known = match key.as_str() {
            "data_dir" => read(&key, json, places, &mut errors).map(|v| settings.data_dir = v),
            "host" => read(&key, json, places, &mut errors).map(|v| settings.host = v),
            "http" => read::<Http>(&key, json, places, &mut errors).map(|v| settings.http = v),
            "journal" => read::<Journal>(&key, json, places, &mut errors).map(|v| settings.journal = v),
            "logging" => read::<Logging>(&key, json, places, &mut errors).map(|v| settings.logging = v),
            "sources" => {
                read::<BTreeMap<String, Section>>(&key, json, places, &mut errors).map(|v| settings.sources = v)
            }
            "sinks" => read::<BTreeMap<String, Section>>(&key, json, places, &mut errors).map(|v| settings.sinks = v),
            "services" => {
                read::<BTreeMap<String, Section>>(&key, json, places, &mut errors).map(|v| settings.services = v)
            }
            _ => {
                let near = TOP
                    .into_iter()
                    .min_by_key(|top| strsim::damerau_levenshtein(top, &key))
                    .unwrap_or("http");
                let place = places.get(&key).map_or("configuration", String::as_str);
                errors.push(format!("{place}: {key}: unknown key, did you mean `{near}`?"));
                None
            }
        };
        // Either it was taken over, or its fault is in the list.
        let _: Option<()> = known;
    }
    errors.extend(impossible(&settings, places));
    errors.sort_by_key(|error| {
        error
            .split(':')
            .nth(1)
            .and_then(|line| line.parse::<u32>().ok())
            .unwrap_or(u32::MAX)
    });
    if errors.is_empty() { Ok(settings) } else { Err(errors) }
}

/// Settings that have the right types and still can't work.
fn impossible(settings: &Settings, places: &BTreeMap<String, String>) -> Vec<String> {
    let mut errors = Vec::new();
    let mut refuse = |path: &str, says: String| {
        errors.push(format!(
            "{}: {path}: {says}",
            places.get(path).map_or("configuration", String::as_str)
        ));
    };
    let http = &settings.http;
    if !http.listen.ip().is_loopback() && !http.insecure && http.tls.cert_file.is_none() {
        let says = format!(
            "`{}` is reachable from other machines without TLS; set `http.tls`, listen on 127.0.0.1, or set `http.insecure: true` to allow it",
            http.listen
        );
        refuse("http.listen", says);
    }
    if http.tls.cert_file.is_some() != http.tls.key_file.is_some() {
        refuse("http.tls", "`cert_file` and `key_file` belong together".to_owned());
    } else if http.tls.client_ca_file.is_some() && http.tls.cert_file.is_none() {
        refuse("http.tls.client_ca_file", "needs `cert_file` and `key_file`".to_owned());
    }
    for word in &http.protect {
        if word != "metrics" {
            refuse(
                "http.protect",
                format!("`{word}` can't be protected; known is `metrics`"),
            );
        }
    }
    if http.memory.0 < 1 << 20 {
        refuse("http.memory", "at least 1MiB is needed".to_owned());
    }
    if http.max_connections == 0 {
        refuse("http.max_connections", "at least 1 is needed".to_owned());
    }
    if settings.journal.segment_size.0 < 64 << 10 || settings.journal.segment_size.0 > 1 << 30 {
        refuse("journal.segment_size", "64KiB to 1GiB".to_owned());
    }
    if let Some(host) = &settings.host
        && (host.is_empty()
            || host.len() > 253
            || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '+'))
    {
        refuse(
            "host",
            "a host name of 1–253 characters without blanks, `/` or `+`".to_owned(),
        );
    }
    errors
}

fn read<T: DeserializeOwned>(
    key: &str,
    json: serde_json::Value,
    places: &BTreeMap<String, String>,
    errors: &mut Vec<String>,
) -> Option<T> {
    // A key without a value stands for its defaults.
    let json = if json.is_null() {
        serde_json::Value::Object(serde_json::Map::new())
    } else {
        json
    };
    match serde_json::from_value(json) {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            errors.push(format!("{}: {key}: {message}", place(places, key, &message)));
            None
        }
    }
}

/// The place of the key that a message names in backticks, else of the path, else of what is above it.
fn place(places: &BTreeMap<String, String>, path: &str, message: &str) -> String {
    let named = message.split('`').nth(1).and_then(|name| {
        let direct = format!("{path}.{name}");
        let nested = format!(".{name}");
        places.get(&direct).or_else(|| {
            places
                .iter()
                .find(|(known, _)| known.starts_with(path) && known.ends_with(&nested))
                .map(|(_, place)| place)
        })
    });
    let mut above = Some(path);
    let nearest = std::iter::from_fn(|| {
        let here = above?;
        above = here.rsplit_once('.').map(|(parent, _)| parent);
        Some(here)
    })
    .find_map(|path| places.get(path));
    named.or(nearest).cloned().unwrap_or_else(|| "configuration".to_owned())
}

fn to_json(value: Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value.kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(b) => b.into(),
        ValueKind::I64(n) => n.into(),
        ValueKind::U64(n) => n.into(),
        ValueKind::I128(n) => n.to_string().into(),
        ValueKind::U128(n) => n.to_string().into(),
        ValueKind::Float(n) => n.into(),
        ValueKind::String(s) => s.into(),
        ValueKind::Table(t) => Json::Object(t.into_iter().map(|(k, v)| (k, to_json(v))).collect()),
        ValueKind::Array(a) => Json::Array(a.into_iter().map(to_json).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
        let dir = std::env::temp_dir().join(format!("auditmon-config-{}-{:p}", std::process::id(), text));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("auditmon.yaml");
        std::fs::write(&file, text).unwrap();
        let environment: BTreeMap<String, String> = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let loaded = load(Some(&file), &|name| environment.get(name).cloned());
        std::fs::remove_dir_all(&dir).unwrap();
        loaded.map_err(|e| e.to_string().replace(&format!("{}/", dir.display()), ""))
    }

    #[test]
    fn environment_wins_over_the_file() {
        let loaded = load_text(
            "data_dir: /a\nhttp:\n  listen: 127.0.0.1:1\n  memory: 32MiB\n",
            &[("AUDITMON_HTTP_LISTEN", "127.0.0.1:2")],
        )
        .unwrap();
        assert_eq!(loaded.settings.http.listen.port(), 2);
        assert_eq!(loaded.settings.http.memory.0, 32 << 20);
        assert_eq!(loaded.settings.data_dir, Some(PathBuf::from("/a")));
        assert_eq!(loaded.places["http.listen"], "environment AUDITMON_HTTP_LISTEN");
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let error = load_text("htp: {}\njournal:\n  segmentsize: 1\nlogging:\n  format: xml\n", &[]).unwrap_err();
        assert!(
            error.contains("auditmon.yaml:1:1: htp: unknown key, did you mean `http`?"),
            "{error}"
        );
        assert!(
            error.contains("auditmon.yaml:3:3: journal: unknown field `segmentsize`"),
            "{error}"
        );
        assert!(error.contains("logging: unknown variant `xml`"), "{error}");
        let error = load_text("", &[("AUDITMON_HTTP_LISTEN", "here")]).unwrap_err();
        assert!(error.contains("environment AUDITMON_HTTP_LISTEN"), "{error}");
    }

    #[test]
    fn beyond_loopback_only_when_allowed() {
        let error = load_text("http: {listen: \"0.0.0.0:7984\"}\n", &[]).unwrap_err();
        assert!(
            error.contains("auditmon.yaml:1:8: http.listen: `0.0.0.0:7984` is reachable"),
            "{error}"
        );
        assert!(load_text("http: {listen: \"0.0.0.0:7984\", insecure: true}\n", &[]).is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Some(Path::new("/nonexistent/a.yaml")), &|_| None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/nonexistent/a.yaml: the configuration file can't be read"),
            "{error}"
        );
    }
}
