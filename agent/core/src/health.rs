//! The state of a plugin, as health, status and metrics show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::time::{self, Nanos};

/// What a plugin is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Off by configuration.
    Disabled,
    /// Not yet at work.
    Starting,
    /// At work.
    Ok,
    /// At work with a fault that it is trying to mend.
    Degraded,
    /// Not at work.
    Failed,
    /// Ended in order.
    Stopped,
}

impl State {
    /// All states, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Disabled,
        Self::Starting,
        Self::Ok,
        Self::Degraded,
        Self::Failed,
        Self::Stopped,
    ];

    /// The word of a state.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A plugin's state with its reason.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// What it is doing.
    pub state: State,
    /// Why, in a sentence; `None` where all is well.
    pub reason: Option<String>,
    /// Since when, RFC 3339.
    #[serde(serialize_with = "serialize_time")]
    pub since: Nanos,
}

fn serialize_time<S: serde::Serializer>(at: &Nanos, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&time::format(*at))
}

/// The states of all plugins.
#[derive(Clone, Debug, Default)]
pub struct HealthBoard(Arc<Mutex<BTreeMap<&'static str, Health>>>);

impl HealthBoard {
    /// The reporter of one plugin; it starts as [`State::Starting`].
    #[must_use]
    pub fn reporter(&self, plugin: &'static str) -> HealthReporter {
        let reporter = HealthReporter {
            plugin,
            board: self.clone(),
        };
        reporter.set(State::Starting, None);
        reporter
    }

    /// All states by plugin.
    #[must_use]
    pub fn all(&self) -> BTreeMap<&'static str, Health> {
        self.0.lock().clone()
    }
}

/// How a plugin tells its state.
#[derive(Clone, Debug)]
pub struct HealthReporter {
    plugin: &'static str,
    board: HealthBoard,
}

impl HealthReporter {
    /// All is well.
    pub fn ok(&self) {
        self.set(State::Ok, None);
    }

    /// At work, but something is wrong.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(State::Degraded, Some(reason.into()));
    }

    /// Not at work.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(State::Failed, Some(reason.into()));
    }

    /// Any state; `since` moves only when the state changes.
    pub fn set(&self, state: State, reason: Option<String>) {
        let mut board = self.board.0.lock();
        let since = board
            .get(self.plugin)
            .filter(|h| h.state == state)
            .map_or_else(time::now, |h| h.since);
        board.insert(self.plugin, Health { state, reason, since });
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.board.0.lock().get(self.plugin).map(|h| h.state)
    }
}
