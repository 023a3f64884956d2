//! The source: it counts.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::event::{Data, Draft};
use auditmon_core::plugin::{BuildContext, Change, Faults, PluginConfig, PluginError, RunContext, Source};
use auditmon_core::units::Span;
use auditmon_journal::Linger;
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fault, Trouble};

/// Key of its memory.
const COUNT: &[u8] = b"count";

/// `sources.demosource`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemoSourceConfig {
    /// Time between two events.
    pub every: Span,
    /// `username` of the events.
    #[schemars(extend("x-reload" = "live"))]
    pub username: String,
    /// What goes wrong.
    pub fault: Fault,
    /// Only while this file exists.
    #[serde(rename = "while")]
    pub file: Option<PathBuf>,
    /// After so many events of a run.
    pub after: u64,
}

impl Default for DemoSourceConfig {
    fn default() -> Self {
        Self {
            every: Span(Duration::from_millis(10)),
            username: "demo".to_owned(),
            fault: Fault::None,
            file: None,
            after: 0,
        }
    }
}

#[async_trait]
impl PluginConfig for DemoSourceConfig {
    type Plugin = Box<dyn Source>;

    fn validate(&self, faults: &mut Faults) {
        if self.every.0.is_zero() {
            faults.add("every", "more than 0s");
        }
        if self.username.is_empty() {
            faults.add("username", "is empty");
        }
    }

    async fn build(self, cx: &mut BuildContext) -> Result<Self::Plugin, PluginError> {
        let trouble = Trouble {
            fault: self.fault,
            file: self.file.clone(),
        };
        trouble.at_build()?;
        let ticks =
            IntCounter::new("demo_ticks_total", "Events since it was built.").map_err(PluginError::permanent)?;
        cx.metrics
            .register(Box::new(ticks.clone()))
            .map_err(PluginError::permanent)?;
        let route = axum::Router::new().route("/demo", axum::routing::get(|| async { "a demonstration\n" }));
        cx.named_routes.insert("demo", route);
        Ok(Box::new(DemoSource {
            config: self,
            trouble,
            ticks,
        }))
    }
}

struct DemoSource {
    config: DemoSourceConfig,
    trouble: Trouble,
    ticks: IntCounter,
}

#[async_trait]
impl Source for DemoSource {
    async fn run(mut self: Box<Self>, mut cx: RunContext) -> Result<(), PluginError> {
        let remembered = cx
            .memory
            .get(COUNT)
            .and_then(|(value, _)| value.as_slice().try_into().ok());
        let mut count = remembered.map_or(0, u64::from_be_bytes);
        let begin = count;
        let mut tick = tokio::time::interval(self.config.every.0);
        // Before it says that it is at work.
        if self.config.after == 0 && self.trouble.is(Fault::Permanent) {
            return Err(PluginError::permanent("demo: a fault that stays"));
        }
        cx.health.ok();
        loop {
            if count - begin >= self.config.after
                && let Some(end) = self.trouble.at_work().await
            {
                return end;
            }
            tokio::select! {
                () = cx.stop.cancelled() => return Ok(()),
                Some(change) = cx.changes.recv() => self.change(change),
                _ = tick.tick() => {
                    // The event and the count are in one frame.
                    if self.emit(&cx, count + 1).await {
                        count += 1;
                    }
                }
            }
        }
    }
}

impl DemoSource {
    fn change(&mut self, change: Change) {
        let read = change.read::<DemoSourceConfig>();
        let answer = match read {
            Ok(new) if new.username == "nobody" => Err("`nobody` is no username for a demo".to_owned()),
            Ok(new) => {
                self.config = new;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        change.answer(answer);
    }

    async fn emit(&self, cx: &RunContext, count: u64) -> bool {
        let mut batch = cx.emitter.batch();
        let pushed = {
            let data = format!("{{\"count\":{count}}}");
            let draft = Draft {
                data: Data::Raw(&data),
                ..Draft::new("demo.tick", &self.config.username)
            };
            batch.push(draft).is_ok() && batch.remember(COUNT, None, &count.to_be_bytes()).is_ok()
        };
        if !pushed || cx.emitter.emit(batch, Linger::NONE).await.is_err() {
            return false;
        }
        self.ticks.inc();
        true
    }
}
