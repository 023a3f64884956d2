//! All plugins: started, ended and changed one by one or together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::health::State;
use auditmon_core::privileged::Needs;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::parts::Parts;
use crate::plan::{Planned, Plans, Recipe};
use crate::slot::Slot;
use crate::supervisor::Tally;

/// How long the start waits for plugins to be built; one that takes longer goes on by itself.
const BUILD: Duration = Duration::from_secs(10);

/// A plugin as those see it who only look.
#[derive(Clone)]
pub(crate) struct Seen {
    /// Source, sink or service.
    pub(crate) kind: &'static str,
    pub(crate) tally: Tally,
}

/// Plugins that are on, for those who only look.
pub(crate) type View = Arc<Mutex<BTreeMap<&'static str, Seen>>>;

/// The plugins that are on.
pub(crate) struct Plugins {
    pub(crate) parts: Arc<Parts>,
    pub(crate) slots: BTreeMap<&'static str, Slot>,
    view: View,
}

impl Plugins {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self {
            parts,
            slots: BTreeMap::new(),
            view: View::default(),
        }
    }

    pub(crate) fn view(&self) -> View {
        self.view.clone()
    }

    /// Starts them: sinks, then sources and services.
    pub(crate) async fn start_all(&mut self, plans: Plans) {
        self.parts.reader.turn(plans.is_readable());
        for name in plans.off {
            self.parts.health.reporter(name).set(State::Disabled, None);
        }
        let (sinks, others): (Vec<_>, Vec<_>) = plans
            .on
            .into_iter()
            .partition(|planned| matches!(planned.recipe, Recipe::Sink(_)));
        for group in [sinks, others] {
            let names: Vec<_> = group.iter().map(|planned| planned.name).collect();
            for planned in group {
                self.start(planned);
            }
            let deadline = Instant::now() + BUILD;
            for name in names {
                let Some(slot) = self.slots.get_mut(name) else { continue };
                // Why one could not be built is told by its supervisor.
                if tokio::time::timeout_at(deadline, slot.built()).await.is_err() {
                    tracing::warn!(plugin = name, "is still being built; the start goes on without it");
                }
            }
        }
    }

    /// Starts one.
    pub(crate) fn start(&mut self, planned: Planned) {
        let (name, kind) = (planned.name, planned.recipe.kind());
        let slot = Slot::start(self.parts.clone(), planned);
        let tally = slot.tally();
        self.view.lock().insert(name, Seen { kind, tally });
        self.slots.insert(name, slot);
    }

    /// Ends one and gives what it was; if it does not end within this time it is left behind. A call that is given up
    /// leaves the plugin ending.
    pub(crate) async fn end(&mut self, name: &str, within: Duration) -> Option<Planned> {
        let slot = self.slots.get_mut(name)?;
        slot.stop();
        if !slot.ended(Instant::now() + within).await {
            tracing::warn!(plugin = slot.name(), "did not end in time and is left behind");
        }
        self.slots.remove(name).map(|slot| slot.planned.clone())
    }

    /// What those that are on need beyond an ordinary process.
    pub(crate) fn needs(&self) -> Vec<(&'static str, Needs)> {
        self.slots.values().map(|slot| slot.planned.needs()).collect()
    }

    /// One that was ended is off now.
    pub(crate) fn forget(&mut self, name: &'static str) {
        self.parts.mounts.remove(name);
        self.parts.registries.remove(name);
        self.parts.telemetry.sinks.forget(name);
        // It goes on at its position when it is on again, and holds nothing back meanwhile.
        self.parts.journal.set_hold(name, None);
        self.view.lock().remove(name);
    }

    /// Ends all sinks, or all others, and names those that did not end in time.
    pub(crate) async fn end_all(&mut self, sinks: bool, deadline: Instant) -> Vec<&'static str> {
        let is_meant = |slot: &Slot| matches!(slot.planned.recipe, Recipe::Sink(_)) == sinks;
        for slot in self.slots.values().filter(|slot| is_meant(slot)) {
            slot.stop();
        }
        let mut ending = tokio::task::JoinSet::new();
        let names: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| is_meant(slot))
            .map(|(name, _)| *name)
            .collect();
        for name in names {
            let Some(mut slot) = self.slots.remove(name) else {
                continue;
            };
            ending.spawn(async move { (!slot.ended(deadline).await).then_some(name) });
        }
        let mut left: Vec<_> = ending.join_all().await.into_iter().flatten().collect();
        left.sort_unstable();
        left
    }
}
