//! Settings of `sources.ingest`.

use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::plugin::{BuildContext, Faults, PluginConfig, PluginError, RunContext, Source};
use auditmon_core::units::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::handler;

/// Most events of one request: one frame of the journal holds no more.
const MAX_EVENTS: u32 = auditmon_journal::format::MAX_EVENTS;

/// The event API: applications post events to it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Largest body, as sent and after decompression; at most 16MiB.
    pub max_body: Size,
    /// Most events of a request; at most 10,000.
    pub max_events: u32,
    /// How long a body may make no progress.
    pub body_timeout: Span,
    /// How long a request waits for `http.memory`.
    pub memory_timeout: Span,
    /// How long an event may wait for company before it is written, at most 2ms.
    pub linger: Span,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_body: Size(16 << 20),
            max_events: MAX_EVENTS,
            body_timeout: Span(Duration::from_secs(30)),
            memory_timeout: Span(Duration::from_secs(30)),
            linger: Span(Duration::ZERO),
        }
    }
}

#[async_trait]
impl PluginConfig for IngestConfig {
    type Plugin = Box<dyn Source>;

    fn validate(&self, faults: &mut Faults) {
        if !(1..=16 << 20).contains(&self.max_body.0) {
            faults.add("max_body", format!("expected 1 byte to 16MiB, found {}", self.max_body));
        }
        if !(1..=MAX_EVENTS).contains(&self.max_events) {
            faults.add(
                "max_events",
                format!("expected 1 to {MAX_EVENTS}, found {}", self.max_events),
            );
        }
        if self.linger.0 > Duration::from_millis(2) {
            faults.add("linger", format!("expected 0s to 2ms, found {}", self.linger));
        }
    }

    async fn build(self, cx: &mut BuildContext) -> Result<Self::Plugin, PluginError> {
        cx.routes = handler::routes(self, cx)?;
        Ok(Box::new(Ingest))
    }
}

/// The source itself has nothing to do: requests come through the agent's listener.
struct Ingest;

#[async_trait]
impl Source for Ingest {
    async fn run(self: Box<Self>, cx: RunContext) -> Result<(), PluginError> {
        cx.health.ok();
        cx.stop.cancelled().await;
        Ok(())
    }
}
