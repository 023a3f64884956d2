//! The loop around a source or service: it runs until told to stop, and no fault of it reaches another.

use auditmon_core::health::State;
use auditmon_core::plugin::{PluginError, RunContext, Service, Source};

/// What is run; both kinds have one life.
pub(crate) enum Runnable {
    Source(Box<dyn Source>),
    Service(Box<dyn Service>),
}

/// Runs a plugin to its end and reports how that was.
pub(crate) async fn run(name: &'static str, plugin: Runnable, cx: RunContext) {
    let (health, stop) = (cx.health.clone(), cx.stop.clone());
    let task = tokio::spawn(async move {
        match plugin {
            Runnable::Source(source) => source.run(cx).await,
            Runnable::Service(service) => service.run(cx).await,
        }
    });
    match task.await {
        Ok(Ok(())) if stop.is_cancelled() => health.set(State::Stopped, None),
        Ok(Ok(())) => health.failed("ended by itself"),
        Ok(Err(PluginError::Transient(reason) | PluginError::Permanent(reason))) => {
            tracing::error!(plugin = name, "{reason}");
            health.failed(reason);
        }
        Err(panic) => {
            tracing::error!(plugin = name, %panic, "a fault of the program ended the plugin");
            health.failed("a fault of the program ended the plugin; the log has more");
        }
    }
}
