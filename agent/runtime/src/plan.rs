//! From the configuration to what can be built: a plan for each plugin that is on.

use std::sync::Arc;

use auditmon_config::{Instance, Loaded};
use auditmon_core::event::Kind;
use auditmon_core::health::{HealthBoard, State};
use auditmon_core::plugin::{Entry, Make, Plan, Service, SinkPlan, Source};
use auditmon_core::privileged::Needs;

use crate::agent::StartError;

/// A plugin that can be built, under its name: `store`, `webhook.siem`.
pub(crate) enum Planned {
    Source(&'static str, Kind, Arc<dyn Plan<Box<dyn Source>>>),
    Sink(&'static str, SinkPlan),
    Service(&'static str, Arc<dyn Plan<Box<dyn Service>>>),
}

impl Planned {
    /// Its name, and what it needs beyond an ordinary process.
    pub(crate) fn needs(&self) -> (&'static str, Needs) {
        match self {
            Self::Source(name, _, plan) => (name, plan.needs()),
            Self::Sink(name, plan) => (name, plan.plan.needs()),
            Self::Service(name, plan) => (name, plan.needs()),
        }
    }
}

/// Plans of all plugins that are on, in the order in which they are started: sinks first, since the store's reader has
/// to be there when the services are built. The others are told to be disabled. No I/O.
pub(crate) fn all(loaded: &Loaded, entries: &[Entry], health: &HealthBoard) -> Result<Vec<Planned>, StartError> {
    let mut planned = Vec::new();
    let mut errors = Vec::new();
    for instance in &loaded.plugins {
        if !instance.enabled {
            health.reporter(instance.name).set(State::Disabled, None);
            continue;
        }
        match one(loaded, instance, entries) {
            Ok(plan) => planned.push(plan),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() {
        Ok(planned)
    } else {
        Err(StartError::Config(errors.join("\n")))
    }
}

/// The plan of one plugin. Loading has validated its section, so that faults are hardly to be expected here.
///
/// # Errors
/// Its faults, a line each, in the form of the configuration's other ones.
pub(crate) fn one(loaded: &Loaded, instance: &Instance, entries: &[Entry]) -> Result<Planned, Vec<String>> {
    let Some(entry) = entries.iter().find(|entry| entry.name == instance.entry) else {
        return Err(vec![loaded.fault(&instance.path, "unknown plugin")]);
    };
    let section = instance.section.clone();
    let result = match &entry.make {
        Make::Source(kind, make) => make(section).map(|plan| Planned::Source(instance.name, *kind, plan)),
        Make::Sink(make) => make(section).map(|plan| Planned::Sink(instance.name, plan)),
        Make::Service(make) => make(section).map(|plan| Planned::Service(instance.name, plan)),
    };
    result.map_err(|faults| {
        let line = |fault: auditmon_core::plugin::Fault| {
            let path = if fault.path.is_empty() {
                instance.path.clone()
            } else {
                format!("{}.{}", instance.path, fault.path)
            };
            loaded.fault(&path, &fault.message)
        };
        faults.into_iter().map(line).collect()
    })
}
