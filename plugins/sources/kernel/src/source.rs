//! The source as the runtime sees it: configuration → plugin → one thread
//! that controls, which starts the two that receive and work.

use async_trait::async_trait;
use auditmon_core::plugin::{BuildContext, Faults, PluginConfig, PluginError, RunContext, Source};
use auditmon_core::privileged::{Control, Needs};

use crate::config::KernelConfig;
use crate::load::Wanted;
use crate::metrics::Metrics;
use crate::privileges::NEEDS;
use crate::supervise::{self, Parts, Stop};
use crate::users;

/// The built source: rules parsed, nothing opened yet.
pub struct KernelSource {
    config: KernelConfig,
    wanted: Wanted,
    metrics: Metrics,
    control: Control,
}

#[async_trait]
impl PluginConfig for KernelConfig {
    type Plugin = Box<dyn Source>;

    fn validate(&self, faults: &mut Faults) {
        self.check(faults);
    }

    fn needs(&self, needs: &mut Needs) {
        needs.capabilities.extend(NEEDS);
        for path in users::FILES {
            needs.file(path);
        }
    }

    async fn build(self, cx: &mut BuildContext) -> Result<Self::Plugin, PluginError> {
        let (config, control) = (self.clone(), cx.control.clone());
        let wanted = tokio::task::spawn_blocking(move || config.wanted(&control));
        let wanted = wanted.await.map_err(PluginError::transient)?;
        let wanted = wanted.map_err(|faults| PluginError::permanent(faults.join("\n")))?;
        let metrics = Metrics::register(&cx.metrics).map_err(PluginError::permanent)?;
        Ok(Box::new(KernelSource {
            config: self,
            wanted,
            metrics,
            control: cx.control.clone(),
        }))
    }
}

#[async_trait]
impl Source for KernelSource {
    async fn run(self: Box<Self>, cx: RunContext) -> Result<(), PluginError> {
        let stop = Stop::default();
        let parts = Parts {
            config: self.config,
            privileged: self.control,
            wanted: self.wanted,
            metrics: self.metrics,
            emitter: cx.emitter,
            memory: cx.memory,
            health: cx.health,
            stop: stop.clone(),
        };
        let (tell, mut ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("kernel-control".into())
            .spawn(move || {
                // The other end waits until this is told.
                let _ = tell.send(supervise::run(parts));
            })
            .map_err(PluginError::transient)?;
        // Whoever drops this future stops the thread too.
        let _stop_on_drop = stop.on_drop();
        let result = tokio::select! {
            result = &mut ended => result,
            () = cx.stop.cancelled() => {
                stop.set();
                ended.await
            }
        };
        result.unwrap_or_else(|_| Err(PluginError::transient("the control thread has died")))
    }
}
