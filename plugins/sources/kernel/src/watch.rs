//! What the controlling thread looks at every two seconds.

use std::sync::atomic::Ordering;

use crate::control::Loaded;
use crate::error::ControlError;
use crate::heartbeat::Heartbeat;
use crate::holder::Holder;
use crate::metrics::{Metrics, raise};
use crate::reader::exact_now;
use crate::supervise::Session;

/// Rules are counted every so many looks.
const RULES_EVERY: u32 = 30;
/// A heartbeat that has been under way longer is a fault, ns.
const OVERDUE: u64 = 10_000_000_000;

impl Session {
    /// One look at everything; the most important fault.
    pub(crate) fn look(&mut self, ticks: u32) -> Option<String> {
        let metrics = self.shared.metrics.clone();
        if let Some(reader) = &self.reader {
            let stats = reader.stats();
            raise(&metrics.overruns, stats.overruns.load(Ordering::Relaxed));
            raise(&metrics.truncated, stats.truncated.load(Ordering::Relaxed));
        }
        let status = match self.control.status() {
            Ok(status) => status,
            Err(error) => return Some(error.to_string()),
        };
        metrics.status(&status, &self.status);
        self.shared.lost.store(status.lost, Ordering::Relaxed);
        self.status = status;
        if let Some(problem) = self.look_at_registration(status.pid) {
            return Some(problem);
        }
        if status.enabled == 0 {
            return self.wants_on.then(|| "auditing has been switched off".into());
        }
        let beat = self.beat();
        if beat.is_some() {
            return beat;
        }
        if ticks.is_multiple_of(RULES_EVERY) {
            return self.look_at_rules(&metrics);
        }
        None
    }

    fn look_at_registration(&mut self, pid: u32) -> Option<String> {
        if pid == std::process::id() {
            return None;
        }
        self.registered = false;
        self.shared.metrics.registered.set(0);
        if pid != 0 {
            return Some(format!("displaced by {}", Holder::find(pid)));
        }
        match self.register() {
            Ok(()) => {
                tracing::warn!("the registration was gone and has been renewed");
                None
            }
            Err(error) => Some(format!("no longer registered: {error}")),
        }
    }

    fn beat(&mut self) -> Option<String> {
        if self.mute {
            return None;
        }
        let now = exact_now();
        let (overdue, text) = {
            let mut heartbeat = self.shared.heartbeat.lock();
            (heartbeat.overdue(now), heartbeat.beat(now))
        };
        match self.control.message(Heartbeat::KIND, text.as_bytes()) {
            Ok(()) => {}
            Err(ControlError::NotPermitted { .. }) => {
                self.mute = true;
                tracing::warn!("no heartbeats without CAP_AUDIT_WRITE: a gap at the end of the stream is noticed late");
                return None;
            }
            Err(error) => return Some(error.to_string()),
        }
        overdue.filter(|late| *late > OVERDUE).map(|late| {
            let seconds = late / 1_000_000_000;
            format!("a heartbeat has not come back for {seconds} s: records are late, or a rule suppresses them")
        })
    }

    fn look_at_rules(&mut self, metrics: &Metrics) -> Option<String> {
        let loaded = match self.control.rules() {
            Ok(loaded) => loaded,
            Err(error) => return Some(error.to_string()),
        };
        metrics.rules.set(i64::try_from(loaded.len()).unwrap_or(i64::MAX));
        let ours = self.ledger.rules().iter();
        let gone = ours.filter(|ours| {
            !loaded
                .iter()
                .any(|known| matches!(known, Loaded::Rule(rule) if **rule == **ours))
        });
        let gone: Vec<String> = gone.map(ToString::to_string).collect();
        let first = gone.first()?;
        Some(format!(
            "{} of our rules are no longer loaded, the first is {first}",
            gone.len()
        ))
    }
}
