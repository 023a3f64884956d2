//! What differs between two configurations, and what it takes to follow.

use std::collections::BTreeMap;

use crate::loaded::{Class, Instance, Leaf, Loaded};

/// The differences between two configurations.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Keys of the agent itself: `http.protect`, `journal.reserve`.
    pub agent: Vec<Changed>,
    /// Plugins by [`Instance::name`]; those that are off before and after are left out.
    pub plugins: BTreeMap<&'static str, PluginChange>,
}

/// A key whose value differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// Its full path.
    pub path: String,
    /// What following it takes.
    pub class: Class,
}

/// What became of a plugin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PluginChange {
    /// It was turned on, or is new.
    Start,
    /// It was turned off, or is gone.
    Stop,
    /// It stays on, with other values for these keys.
    Keys(Vec<Changed>),
}

impl PluginChange {
    /// The most that any of its keys takes; `None` where it starts or stops.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Start | Self::Stop => None,
            Self::Keys(keys) => keys.iter().map(|key| key.class).max(),
        }
    }
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agent.is_empty() && self.plugins.is_empty()
    }
}

/// Compares effective values: what a file says only otherwise is no change. A secret that is given as a file has
/// changed when the file's content has.
#[must_use]
pub fn changes(old: &Loaded, new: &Loaded) -> Changes {
    let mut changes = Changes {
        agent: differences(&agents(old), &agents(new)),
        plugins: BTreeMap::new(),
    };
    let on = |loaded: &Loaded, name: &str| loaded.plugin(name).is_some_and(|plugin| plugin.enabled);
    for plugin in old.plugins.iter().chain(&new.plugins) {
        let change = match (on(old, plugin.name), on(new, plugin.name)) {
            (false, false) => continue,
            (false, true) => PluginChange::Start,
            (true, false) => PluginChange::Stop,
            (true, true) => {
                let keys = differences(&plugins(old, plugin), &plugins(new, plugin));
                if keys.is_empty() {
                    continue;
                }
                PluginChange::Keys(keys)
            }
        };
        changes.plugins.insert(plugin.name, change);
    }
    changes
}

type Leaves<'a> = BTreeMap<String, &'a Leaf>;

/// Leaves that are no plugin's.
fn agents(loaded: &Loaded) -> Leaves<'_> {
    let own = |leaf: &&Leaf| !matches!(leaf.path[0].as_str(), "sources" | "sinks" | "services");
    let leaves = loaded.leaves.iter().filter(own);
    leaves.map(|leaf| (leaf.path.join("."), leaf)).collect()
}

/// Leaves of a plugin but `enabled`.
fn plugins<'a>(loaded: &'a Loaded, plugin: &Instance) -> Leaves<'a> {
    let below = format!("{}.", plugin.path);
    let enabled = format!("{below}enabled");
    let leaves = loaded.leaves.iter().map(|leaf| (leaf.path.join("."), leaf));
    leaves
        .filter(|(path, _)| path.starts_with(&below) && *path != enabled)
        .collect()
}

fn differences(old: &Leaves<'_>, new: &Leaves<'_>) -> Vec<Changed> {
    let value = |leaves: &Leaves<'_>, path: &str| leaves.get(path).map(|leaf| leaf.value.clone());
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let differ = |path: &&String| value(old, path) != value(new, path);
    let class = |path: &String| new.get(path).or_else(|| old.get(path)).map(|leaf| leaf.class);
    paths
        .into_iter()
        .filter(differ)
        .filter_map(|path| {
            Some(Changed {
                path: path.clone(),
                class: class(path)?,
            })
        })
        .collect()
}
