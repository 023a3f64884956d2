//! From the configuration to what can be built: a plan for each plugin that is on.

use std::sync::Arc;

use auditmon_config::{Instance, Loaded};
use auditmon_core::event::Kind;
use auditmon_core::plugin::{Entry, Fault, Make, Plan, ReadConfigured, Section, Service, SinkPlan, Source};
use auditmon_core::privileged::Needs;

use crate::files::{Files, Look};

/// How a plugin is made.
#[derive(Clone)]
pub(crate) enum Recipe {
    Source(Kind, Arc<dyn Plan<Box<dyn Source>>>),
    Sink(Arc<SinkPlan>),
    Service(Arc<dyn Plan<Box<dyn Service>>>),
}

impl Recipe {
    /// Whether it offers a reader.
    pub(crate) fn is_readable(&self) -> bool {
        matches!(self, Self::Sink(plan) if plan.readable)
    }

    /// Files that it names and that are of no use.
    fn inspect(&self, read: ReadConfigured<'_>) -> Vec<Fault> {
        match self {
            Self::Source(_, plan) => plan.inspect(read),
            Self::Sink(plan) => plan.plan.inspect(read),
            Self::Service(plan) => plan.inspect(read),
        }
    }

    /// The word for what it makes.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Source(..) => "source",
            Self::Sink(_) => "sink",
            Self::Service(_) => "service",
        }
    }
}

/// A plugin that is to run.
#[derive(Clone)]
pub(crate) struct Planned {
    /// Its name everywhere but in the file: `store`, `webhook.siem`.
    pub(crate) name: &'static str,
    /// Its section's path in the file.
    pub(crate) path: String,
    /// The configuration that it is from.
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) recipe: Recipe,
    /// The files that its section names, as they are now.
    pub(crate) files: Files,
}

impl Planned {
    /// All keys of its section but `enabled`, with defaults; secrets are in it.
    pub(crate) fn values(&self) -> Section {
        let instance = self.loaded.plugin(self.name);
        instance
            .map(|instance| self.loaded.values(instance))
            .unwrap_or_default()
    }

    /// Its name, and what it needs beyond an ordinary process.
    pub(crate) fn needs(&self) -> (&'static str, Needs) {
        let needs = match &self.recipe {
            Recipe::Source(_, plan) => plan.needs(),
            Recipe::Sink(plan) => plan.plan.needs(),
            Recipe::Service(plan) => plan.needs(),
        };
        (self.name, needs)
    }
}

/// What is to run and what is not.
#[derive(Clone, Default)]
pub(crate) struct Plans {
    /// Sinks first, then sources, then services.
    pub(crate) on: Vec<Planned>,
    pub(crate) off: Vec<&'static str>,
}

impl Plans {
    /// Whether there is a sink that can be read.
    pub(crate) fn is_readable(&self) -> bool {
        self.on.iter().any(|planned| planned.recipe.is_readable())
    }

    /// What those that are on need beyond an ordinary process.
    pub(crate) fn needs(&self) -> Vec<(&'static str, Needs)> {
        self.on.iter().map(Planned::needs).collect()
    }
}

/// Plans of all plugins that are on; `look` looks at the files that they name, `read` reads them.
///
/// # Errors
/// All faults, a line each.
pub(crate) fn all(
    loaded: &Arc<Loaded>,
    entries: &[Entry],
    look: &Look<'_>,
    read: ReadConfigured<'_>,
) -> Result<Plans, Vec<String>> {
    let mut plans = Plans::default();
    let mut errors = Vec::new();
    for instance in &loaded.plugins {
        if !instance.enabled {
            plans.off.push(instance.name);
            continue;
        }
        match one(loaded, instance, entries, (look, read)) {
            Ok(planned) => plans.on.push(planned),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(plans) } else { Err(errors) }
}

/// The plan of one plugin. Loading has validated its section, so that only files are to be looked at here.
fn one(
    loaded: &Arc<Loaded>,
    instance: &Instance,
    entries: &[Entry],
    (look, read): (&Look<'_>, ReadConfigured<'_>),
) -> Result<Planned, Vec<String>> {
    let Some(entry) = entries.iter().find(|entry| entry.name == instance.entry) else {
        return Err(vec![loaded.fault(&instance.path, "unknown plugin")]);
    };
    let section = instance.section.clone();
    let recipe = match &entry.make {
        Make::Source(kind, make) => make(section).map(|plan| Recipe::Source(*kind, plan)),
        Make::Sink(make) => make(section).map(|plan| Recipe::Sink(Arc::new(plan))),
        Make::Service(make) => make(section).map(Recipe::Service),
    };
    let lines = |faults: Vec<Fault>| {
        let line = |fault: Fault| {
            let path = if fault.path.is_empty() {
                instance.path.clone()
            } else {
                format!("{}.{}", instance.path, fault.path)
            };
            loaded.fault(&path, &fault.message)
        };
        faults.into_iter().map(line).collect::<Vec<_>>()
    };
    let recipe = recipe.map_err(lines)?;
    let unusable = recipe.inspect(read);
    if !unusable.is_empty() {
        return Err(lines(unusable));
    }
    let schema = entry.schema().to_value();
    Ok(Planned {
        name: instance.name,
        path: instance.path.clone(),
        files: Files::named(&schema, &loaded.values(instance), &instance.path, look),
        loaded: loaded.clone(),
        recipe,
    })
}
