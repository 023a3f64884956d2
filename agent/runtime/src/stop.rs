//! The end: sources and services, the journal, the sinks, the listener, under one deadline.

use std::time::Duration;

use auditmon_core::event::{Outcome, Severity};
use tokio::time::Instant;

use crate::agent::Inner;
use crate::start::identity;

/// How long an orderly end may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// By when each stage has to be over, counted from the beginning of the end: who hangs must not take the time of
/// those behind. The listener has the last second.
const SOURCES: Duration = Duration::from_millis(6_500);
const JOURNAL: Duration = Duration::from_millis(8_000);
const SINKS: Duration = Duration::from_millis(8_500);

/// See [`Agent::stop`](crate::agent::Agent::stop).
pub(crate) async fn stop(agent: &Inner) {
    let begin = Instant::now();
    agent.stopping.cancel();
    // A reload that is under way gives up.
    let mut running = agent.running.lock().await;
    if running.lock.is_none() {
        return;
    }
    let plugins = &mut running.plugins;
    tracing::info!("stopping: sources hand over what they hold");
    for name in plugins.end_all(false, begin + SOURCES).await {
        tracing::warn!(plugin = name, "did not end in time and is left behind");
    }
    let ended = ("agent.stop", Outcome::Success, Severity::Info);
    agent.tell(ended, &identity(agent.version)).await;
    agent.parts.refuse.cancel();

    tracing::info!("stopping: the journal is closed");
    let journal = agent.parts.journal.clone();
    let left = (begin + JOURNAL).saturating_duration_since(Instant::now());
    let closed = tokio::task::spawn_blocking(move || journal.close(left)).await;
    if !closed.unwrap_or(false) {
        tracing::warn!("the journal could not be closed in time; the next start recovers it");
    }

    tracing::info!("stopping: sinks deliver what is left");
    for name in plugins.end_all(true, begin + SINKS).await {
        tracing::warn!(
            sink = name,
            "did not deliver everything in time; it goes on at the next start"
        );
    }

    running.close.cancel();
    for serving in std::mem::take(&mut running.serving) {
        // They end by themselves, the listener within its grace.
        let _ = serving.await;
    }
    running.helpers.clear();
    running.lock = None;
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(ms, "stopped");
}
