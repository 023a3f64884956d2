//! The loop around a sink: batching, deadlines, retries, positions, gaps, dead letters.
//!
//! | module | what it holds |
//! |---|---|
//! | [`life`] | the loop, from start to close |
//! | [`batching`] | what is handed over next |
//! | [`place`] | how far the sink is, and where that is remembered |
//! | [`receipt`] | whether its answer fits what it was given |
//! | [`backoff`] | pauses between attempts |
//! | [`state`] | what outlives a restart, with the metrics made of it |
//! | [`notes`] | log lines and events about the sink |
//!
//! Each sink has a thread of its own, on which its code and the loop around it run: one that computes for long or blocks
//! against the rules holds up itself and nobody else. Whatever it starts with `tokio::spawn`, and all timers and
//! sockets, live in the agent's runtime.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auditmon_core::delivery::Delivery;
use auditmon_core::emitter::Emitter;
use auditmon_core::health::{HealthReporter, State};
use auditmon_core::plugin::{PluginError, Sink};
use auditmon_journal::Handle;
use prometheus::IntGauge;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hot::Hot;
use crate::telemetry::Telemetry;

mod backoff;
mod batching;
mod life;
mod missing;
mod notes;
mod place;
mod receipt;
mod state;

use life::Life;
use notes::Fault;
pub(crate) use notes::gap_word;
pub(crate) use state::{SinkState, Sinks};

/// How long after its deadline a sink may take to come back before its thread counts as lost.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 5_000 });
/// How often it is looked whether a sink should be back.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 10_000 });
/// How long a sink may take to end after it was told to end where it is.
const ABORT_GRACE: Duration = Duration::from_millis(500);
/// Threads that one sink may take with it before it is not built again.
const MAX_LOST: u32 = 3;

/// What a driver needs; it can be used for as many lives of its sink as there are.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) name: &'static str,
    pub(crate) delivery: Delivery,
    pub(crate) journal: Handle,
    pub(crate) hot: Arc<Hot>,
    /// Everything below is on disk.
    pub(crate) durable: watch::Receiver<u64>,
    /// Fires when the journal is closed or the sink is built anew: it then delivers what is there and ends.
    pub(crate) drain: CancellationToken,
    /// Fires at the deadline: the sink ends where it is.
    pub(crate) abort: CancellationToken,
    pub(crate) health: HealthReporter,
    pub(crate) telemetry: Telemetry,
    pub(crate) state: Arc<SinkState>,
    /// For events about the sink.
    pub(crate) emitter: Emitter,
    /// The same, for those that the journal takes without one.
    pub(crate) host: Arc<str>,
    pub(crate) data_dir: PathBuf,
    /// A gauge of the sink's own.
    pub(crate) lag: Option<IntGauge>,
}

/// How a sink's life ended. Health, log and events have been told.
#[derive(Debug)]
pub(crate) enum DriverEnd {
    /// Drained, or ended where it was.
    Stopped,
    /// It can't go on. A transient fault means that it may be built again: it did not give its thread back.
    Failed(PluginError),
    /// Its code panicked: it may be built again.
    Panicked,
}

impl Driver {
    /// Runs until drained, aborted, or failed for good.
    pub(crate) async fn run(self, sink: Box<dyn Sink>) -> DriverEnd {
        self.telemetry.sink(self.name);
        let end = self.watch(sink).await;
        let told = match &end {
            DriverEnd::Stopped => {
                self.health.set(State::Stopped, None);
                return end;
            }
            DriverEnd::Failed(error) => {
                let fault = match error {
                    PluginError::Permanent(_) => Fault::Final,
                    PluginError::Transient(_) => Fault::Broken,
                };
                (error.to_string(), fault)
            }
            DriverEnd::Panicked => (
                "a fault of the program ended the sink; the log has more".to_owned(),
                Fault::Broken,
            ),
        };
        // A sink that will never deliver must not fill the disk in silence: it goes on holding its payloads as
        // `when_behind` says, and health, metrics and an event tell of it.
        self.state.unattended();
        self.state.notes.fault(&told.0, told.1);
        self.state.notes.tell(&self.emitter);
        self.health.failed(told.0);
        end
    }

    /// Runs the sink on its thread, and looks whether it comes back.
    async fn watch(&self, sink: Box<dyn Sink>) -> DriverEnd {
        let (tell, mut ended) = oneshot::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let (driver, left, runtime) = (self.clone(), Arc::clone(&abandoned), tokio::runtime::Handle::current());
        let spawned = std::thread::Builder::new()
            .name(format!("sink-{}", self.name))
            .spawn(move || {
                // Nobody waits for a sink that was given up.
                let _ = tell.send(live(driver, sink, left, &runtime));
            });
        if let Err(error) = spawned {
            return DriverEnd::Failed(PluginError::transient(format!("its thread can't be started: {error}")));
        }
        loop {
            let now = Instant::now();
            let due = self.state.call().map(|until| until + GRACE);
            if due.is_some_and(|due| due <= now) {
                abandoned.store(true, Ordering::Release);
                self.state.leave();
                return DriverEnd::Failed(self.lost());
            }
            let look = now + LOOK;
            tokio::select! {
                end = &mut ended => return end.unwrap_or(DriverEnd::Panicked),
                () = tokio::time::sleep_until(due.map_or(look, |due| due.min(look))) => {}
                () = self.abort.cancelled() => break,
            }
        }
        match tokio::time::timeout(ABORT_GRACE, &mut ended).await {
            Ok(end) => end.unwrap_or(DriverEnd::Panicked),
            Err(_) => {
                abandoned.store(true, Ordering::Release);
                DriverEnd::Stopped
            }
        }
    }

    fn lost(&self) -> PluginError {
        let reason = format!(
            "the sink blocks its thread: it was not back {} after its deadline",
            humane(GRACE)
        );
        if self.state.lost_threads.fetch_add(1, Ordering::Relaxed) + 1 < MAX_LOST {
            PluginError::Transient(reason)
        } else {
            PluginError::Permanent(format!("{reason}, for the {MAX_LOST}rd time"))
        }
    }
}

/// A span for people.
fn humane(span: Duration) -> auditmon_core::units::Span {
    auditmon_core::units::Span(span)
}

/// One life of a sink, on its own thread.
fn live(
    driver: Driver,
    sink: Box<dyn Sink>,
    abandoned: Arc<AtomicBool>,
    runtime: &tokio::runtime::Handle,
) -> DriverEnd {
    let name = driver.name;
    let mut life = Life::new(driver, sink, abandoned);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let result = life.run().await;
            life.end().await;
            result
        })
    }));
    let end = match lived {
        Ok(Ok(())) => DriverEnd::Stopped,
        Ok(Err(error)) => DriverEnd::Failed(error),
        Err(panic) => {
            tracing::error!(sink = name, panic = panic_text(&*panic), "the sink panicked");
            life.panicked();
            DriverEnd::Panicked
        }
    };
    // What is left of a sink that panicked may do so again.
    let _ = catch_unwind(AssertUnwindSafe(move || {
        let _runtime = runtime.enter();
        drop(life);
    }));
    end
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

#[cfg(test)]
mod tests;
