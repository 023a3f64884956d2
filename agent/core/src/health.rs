//! The state of a plugin, as health, status and metrics show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

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
#[derive(Clone, Debug)]
pub struct HealthBoard(Arc<Board>);

#[derive(Debug)]
struct Board {
    rows: Mutex<BTreeMap<&'static str, Row>>,
    changed: watch::Sender<()>,
}

#[derive(Clone, Debug)]
struct Row {
    health: Health,
    /// Only the newest reporter writes.
    reporter: u64,
}

impl Default for HealthBoard {
    fn default() -> Self {
        Self(Arc::new(Board {
            rows: Mutex::default(),
            changed: watch::Sender::new(()),
        }))
    }
}

impl HealthBoard {
    /// The reporter of one plugin, which is then [`State::Starting`]. What older ones of it say counts no more: an
    /// instance that was left behind does not speak for the one that took its place.
    #[must_use]
    pub fn reporter(&self, plugin: &'static str) -> HealthReporter {
        let reporter = self.successor(plugin);
        reporter.set(State::Starting, None);
        reporter
    }

    /// The same for a plugin that is built again: its state stays until the new instance says something.
    #[must_use]
    pub fn successor(&self, plugin: &'static str) -> HealthReporter {
        let mut rows = self.0.rows.lock();
        let row = rows.entry(plugin).or_insert_with(|| Row {
            health: Health {
                state: State::Starting,
                reason: None,
                since: time::now(),
            },
            reporter: 0,
        });
        row.reporter += 1;
        HealthReporter {
            plugin,
            number: row.reporter,
            board: self.clone(),
        }
    }

    /// Takes a plugin off the board; older reporters of it are heard no more.
    pub fn remove(&self, plugin: &str) {
        self.0.rows.lock().remove(plugin);
        self.0.changed.send_replace(());
    }

    /// All states by plugin.
    #[must_use]
    pub fn all(&self) -> BTreeMap<&'static str, Health> {
        let rows = self.0.rows.lock();
        rows.iter().map(|(name, row)| (*name, row.health.clone())).collect()
    }

    /// The state of one plugin.
    #[must_use]
    pub fn get(&self, plugin: &str) -> Option<Health> {
        self.0.rows.lock().get(plugin).map(|row| row.health.clone())
    }

    /// Notices every change of a state or reason.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }
}

/// How a plugin tells its state.
#[derive(Clone, Debug)]
pub struct HealthReporter {
    plugin: &'static str,
    number: u64,
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
        {
            let mut rows = self.board.0.rows.lock();
            let Some(row) = rows.get_mut(self.plugin).filter(|row| row.reporter == self.number) else {
                return;
            };
            let health = &mut row.health;
            if health.state == state && health.reason == reason {
                return;
            }
            if health.state != state {
                health.since = time::now();
            }
            (health.state, health.reason) = (state, reason);
        }
        self.board.0.changed.send_replace(());
    }

    /// The present state of the plugin.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.board.get(self.plugin).map(|health| health.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_reporter_is_heard() {
        let board = HealthBoard::default();
        let old = board.reporter("kernel");
        old.failed("gone");
        let new = board.successor("kernel");
        assert_eq!(
            board.get("kernel").unwrap().state,
            State::Failed,
            "until it says something"
        );
        old.ok();
        assert_eq!(new.state(), Some(State::Failed));
        new.ok();
        assert_eq!(board.all()["kernel"].state, State::Ok);
        assert_eq!(board.all()["kernel"].reason, None);
        board.remove("kernel");
        new.ok();
        assert!(board.all().is_empty());
    }

    #[test]
    fn a_change_is_noticed_and_a_repetition_is_not() {
        let board = HealthBoard::default();
        let reporter = board.reporter("kernel");
        let mut changes = board.changes();
        reporter.degraded("slow");
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let since = board.get("kernel").unwrap().since;
        reporter.degraded("slow");
        assert!(!changes.has_changed().unwrap());
        reporter.degraded("slower");
        assert!(changes.has_changed().unwrap());
        assert_eq!(board.get("kernel").unwrap().since, since, "the same state");
    }
}
