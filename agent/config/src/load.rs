//! Loading: defaults < file < matching `hosts:` entries < environment < command line.

mod assemble;
mod listeners;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auditmon_core::plugin::Entry;
use config::{Map, Value, ValueKind};

use crate::fault::{Fault, Place};
use crate::layer::Layer;
use crate::loaded::{Loaded, Warning};
use crate::shape::{Node, Shape};
use crate::tree::{GROUPS, Match, Tree, join};
use crate::walk::{self, Findings};
use crate::{ConfigErrors, environment, nearest, overlay, values, yaml};

use assemble::Assembly;

/// Where a file is looked for unless one is named.
pub const SEARCHED: [&str; 2] = ["/etc/auditmon/auditmon.yaml", "config/auditmon.yaml"];

/// Largest configuration file, and largest file that holds a secret.
const MAX_FILE: u64 = 4 << 20;

/// Reads a configured file, with whatever privilege that needs.
pub type ReadFile = Arc<dyn Fn(&Path) -> io::Result<Vec<u8>> + Send + Sync>;

/// What a configuration is made from. The same request loads it again.
#[derive(Clone)]
pub struct Request {
    /// The file that was named; else the first of [`SEARCHED`] that is there.
    pub file: Option<PathBuf>,
    /// All variables; those that don't begin with `AUDITMON_` are not looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// The machine's name, for events and `hosts:` entries unless `host` is set.
    pub machine: String,
    /// A data directory from the command line.
    pub data_dir: Option<PathBuf>,
    /// Plugins that the command line turns on or off.
    pub switches: Vec<(String, bool)>,
    /// Opens the configuration file and those that hold secrets.
    pub read: ReadFile,
}

impl Request {
    /// A request without options: the usual file, no environment, files opened as this process may.
    #[must_use]
    pub fn new(machine: impl Into<String>) -> Self {
        Self {
            file: None,
            environment: Vec::new(),
            machine: machine.into(),
            data_dir: None,
            switches: Vec::new(),
            read: Arc::new(read_file),
        }
    }
}

/// Reads a file of at most 4 MiB.
///
/// # Errors
/// It can't be read, or is larger.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
    }
    Ok(content)
}

/// Loads and validates the configuration of this host, as a start does.
///
/// # Errors
/// All faults that were found, in the order of the file, then of the environment, then of the command line.
pub fn load(request: &Request, entries: &[Entry]) -> Result<Loaded, ConfigErrors> {
    let tree = Tree::new(entries);
    let mut found = Findings::default();
    let (file, base) = read_base(request, &tree, &mut found)?;
    let mut base = base;
    let overlays = overlays(&tree, &mut base, &mut found);

    let present = instances(&tree, std::iter::once(&base).chain(overlays.iter().map(|o| &o.layer)));
    let base_only = |path: &str| values::get(&base.tree, path).cloned();
    // Which entries apply depends on the environment, and what an old name in the environment means may depend on them.
    let early = environment::layer(
        &tree,
        &request.environment,
        &present,
        &base_only,
        &mut Findings::default(),
    );
    let (host, labels) = identity(request, &base, &early);
    let (ours, others): (Vec<&Overlay>, Vec<&Overlay>) = overlays
        .iter()
        .partition(|o| overlay::matches(&o.choice, &host, &labels));
    let below = |path: &str| {
        let mut layers = ours.iter().rev().map(|o| &o.layer).chain(std::iter::once(&base));
        layers.find_map(|layer| values::get(&layer.tree, path).cloned())
    };
    let variables = environment::layer(&tree, &request.environment, &present, &below, &mut found);
    variables.settle(&tree, &mut found);
    let options = command_line(request, &tree, &present, &mut found);

    let assembly = Assembly {
        tree: &tree,
        entries,
        found: &found,
        file: file.as_deref(),
        machine: &request.machine,
    };
    let stack = |chosen: &[&Overlay]| {
        let mut layers = vec![&base];
        layers.extend(chosen.iter().map(|overlay| &overlay.layer));
        layers.extend([&variables, &options]);
        assemble::merge(&tree, entries, &layers)
    };
    let (mut loaded, mut more) = assembly.finish(stack(&ours)?, Some(&request.read));
    // What other hosts would get is validated here, too, but their files are not here.
    for other in others {
        more.extend(assembly.finish(stack(&[other])?, None).1);
    }
    let mut faults = std::mem::take(&mut found.faults);
    faults.extend(more);
    faults.sort();
    faults.dedup();
    if !faults.is_empty() {
        return Err(ConfigErrors(faults.iter().map(Fault::to_string).collect()));
    }
    loaded.overlays = ours.iter().map(|overlay| overlay.place.to_string()).collect();
    let mut warnings = found.warnings;
    warnings.append(&mut loaded.warnings);
    loaded.warnings = ordered(warnings);
    Ok(loaded)
}

fn ordered(mut warnings: Vec<Warning>) -> Vec<Warning> {
    warnings.sort_by_cached_key(|w| (Place::parse(&w.place), w.path.clone()));
    warnings.dedup();
    warnings
}

/// The file's layer, with `hosts` still in it.
fn read_base(request: &Request, tree: &Tree, found: &mut Findings) -> Result<(Option<PathBuf>, Layer), ConfigErrors> {
    let named = request.file.as_deref();
    let candidates: Vec<&Path> = named.map_or_else(|| SEARCHED.map(Path::new).to_vec(), |file| vec![file]);
    for file in candidates {
        let name = file.display().to_string();
        let content = match (request.read)(file) {
            Ok(content) => content,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let says = format!("{name}: the configuration file can't be read: {error}");
                return Err(ConfigErrors(vec![says]));
            }
        };
        let text = String::from_utf8(content).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            let column = good.iter().rev().take_while(|b| **b != b'\n').count() + 1;
            ConfigErrors(vec![format!("{name}:{line}:{column}: configuration: expected UTF-8")])
        })?;
        let (table, faults) = yaml::parse(&name, &text);
        found.faults.extend(faults);
        let layer = match table {
            Some(table) => walk::layer(tree, &tree.root, table, "", &|_| None, found),
            None => {
                // Nothing is known of what it says; what follows from that is no news.
                found.bad.insert(assemble::ALL.to_owned());
                Layer::default()
            }
        };
        return Ok((Some(file.to_owned()), layer));
    }
    Ok((None, Layer::default()))
}

/// An entry of `hosts`.
struct Overlay {
    place: Place,
    choice: Match,
    layer: Layer,
}

fn overlays(tree: &Tree, base: &mut Layer, found: &mut Findings) -> Vec<Overlay> {
    base.settle(tree, found);
    let entries = match base.tree.remove("hosts").map(|value| value.kind) {
        Some(ValueKind::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let mut choices = entries.iter().map(|entry| {
        let choice = match &entry.kind {
            ValueKind::Table(table) => table.get("match").map(values::to_json),
            _ => None,
        };
        serde_json::from_value(choice.unwrap_or_default()).unwrap_or_default()
    });
    let mut overlays = Vec::new();
    for (written, place, table) in std::mem::take(&mut found.overlays) {
        let choice: Match = choices.next().unwrap_or_default();
        let entry = written.trim_end_matches(".set");
        let asks = format!("{entry}.match");
        if choice.name.is_none()
            && choice.labels.is_empty()
            && !found.bad.iter().any(|bad| bad.starts_with(&asks))
            && let Some(at) = base.written.get(&asks)
        {
            let text = "expected `name` or `labels` or both, found none: give `name: \"*\"` for every host";
            found.faults.push(Fault::new(&at.place, asks, text));
        }
        let below = |path: &str| values::get(&base.tree, path).cloned();
        let layer = walk::layer(tree, &tree.body, table, &written, &below, found);
        layer.settle(tree, found);
        let place = base.written.get(entry).map_or(place, |written| written.place.clone());
        overlays.push(Overlay { place, choice, layer });
    }
    overlays
}

/// Host name and labels by which entries of `hosts` are chosen.
fn identity(request: &Request, base: &Layer, variables: &Layer) -> (String, BTreeMap<String, String>) {
    let mut host = request.machine.clone();
    let mut labels = BTreeMap::new();
    for layer in [base, variables] {
        if let Some(ValueKind::String(name)) = layer.tree.get("host").map(|value| &value.kind) {
            host.clone_from(name);
        }
        if let Some(ValueKind::Table(table)) = layer.tree.get("labels").map(|value| &value.kind) {
            for (key, value) in table {
                if let ValueKind::String(text) = &value.kind {
                    labels.insert(key.clone(), text.clone());
                }
            }
        }
    }
    (host, labels)
}

/// Names of instances in these layers, by their plugin's path.
fn instances<'a>(tree: &Tree, layers: impl Iterator<Item = &'a Layer>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let plugins = named_plugins(tree);
    for layer in layers {
        for path in &plugins {
            if let Some(Value {
                kind: ValueKind::Table(table),
                ..
            }) = values::get(&layer.tree, path)
            {
                all.entry(path.clone()).or_default().extend(table.keys().cloned());
            }
        }
    }
    all
}

/// Paths of plugins that have instances.
fn named_plugins(tree: &Tree) -> Vec<String> {
    let fields = |node: &Node| match &node.shape {
        Shape::Table(fields) => fields.clone(),
        _ => Vec::new(),
    };
    let of_group = |group: &&str| {
        let section = tree.body.field(group).map(fields).unwrap_or_default();
        let named = section
            .into_iter()
            .filter(|(_, node)| matches!(node.shape, Shape::Map { instances: true, .. }));
        named.map(|(name, _)| join(group, &name)).collect::<Vec<_>>()
    };
    GROUPS.iter().flat_map(of_group).collect()
}

/// The layer of the command line.
fn command_line(
    request: &Request,
    tree: &Tree,
    present: &BTreeMap<String, BTreeSet<String>>,
    found: &mut Findings,
) -> Layer {
    let mut layer = Layer::default();
    if let Some(dir) = &request.data_dir {
        let place = Place::CommandLine("--data-dir".to_owned());
        let value = Value::new(
            Some(&place.to_string()),
            ValueKind::String(dir.to_string_lossy().into_owned()),
        );
        let table = environment::nested("data_dir", value, &place);
        let one = walk::layer(tree, &tree.body, table, "", &|_| None, found);
        layer.add(tree, one, found);
    }
    let paths = plugin_paths(tree, present);
    for (name, on) in &request.switches {
        let option = if *on { "--enable" } else { "--disable" };
        let place = Place::CommandLine(format!("{option} {}", nearest::shown(name)));
        let Some(path) = paths.get(name) else {
            let known: Vec<&str> = paths.keys().map(String::as_str).collect();
            let near = nearest::phrase(name, known.iter().copied());
            let text = format!("expected a plugin: {}{near}", nearest::listed(&known));
            found.faults.push(Fault::new(&place, nearest::shown(name), text));
            continue;
        };
        if request.switches.contains(&(name.clone(), !on)) {
            if *on {
                let text = "expected either --enable or --disable, found both";
                found.faults.push(Fault::new(&place, name, text));
            }
            continue;
        }
        let value = Value::new(Some(&place.to_string()), ValueKind::Boolean(*on));
        let table = environment::nested(&format!("{path}.enabled"), value, &place);
        let one = walk::layer(tree, &tree.body, table, "", &|_| None, found);
        if !layer.has(&format!("{path}.enabled")) {
            layer.add(tree, one, found);
        }
    }
    layer
}

/// Paths of all plugins and instances by their names.
fn plugin_paths(tree: &Tree, present: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, String> {
    let mut paths = BTreeMap::new();
    for group in GROUPS {
        let Some(Shape::Table(fields)) = tree.body.field(group).map(|node| &node.shape) else {
            continue;
        };
        for (name, node) in fields {
            let path = join(group, name);
            if !matches!(node.shape, Shape::Map { instances: true, .. }) {
                paths.insert(name.clone(), path);
                continue;
            }
            for instance in present.get(&path).into_iter().flatten() {
                paths.insert(format!("{name}.{instance}"), join(&path, instance));
            }
        }
    }
    paths
}

/// One layer for the `config` crate.
#[derive(Clone, Debug)]
struct Source(Map<String, Value>);

impl config::Source for Source {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}
