//! One plugin: built, run, built again after a fault, and ended.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::delivery::Delivery;
use auditmon_core::event::Kind;
use auditmon_core::health::{HealthReporter, State};
use auditmon_core::plugin::{BuildContext, BuiltSink, Change, PluginError, RunContext, Service, Source};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::driver::{Driver, DriverEnd};
use crate::lookup::Lookup;
use crate::mounts::Routes;
use crate::parts::Parts;
use crate::plan::{Planned, Recipe};
use crate::supervisor::{self, End, Life, Tally};

/// How long a look before the start may take.
const PROBE: Duration = Duration::from_secs(10);
/// How long a plugin that did not end in time has to end where it is.
const KILLED: Duration = Duration::from_millis(500);

/// A plugin and the task that keeps it alive.
pub(crate) struct Slot {
    pub(crate) planned: Planned,
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    first: Option<oneshot::Receiver<Result<(), String>>>,
}

/// What a slot and its keeper share.
struct Shared {
    /// Ends the plugin in order: a sink delivers what is left.
    stop: CancellationToken,
    /// Ends it where it is.
    kill: CancellationToken,
    tally: Tally,
    /// How the plugin that runs now is told of new values.
    changes: Mutex<Option<mpsc::Sender<Change>>>,
    /// What it is built from the next time.
    recipe: Mutex<Recipe>,
}

impl Slot {
    /// Starts the plugin in a task of its own.
    pub(crate) fn start(parts: Arc<Parts>, planned: Planned) -> Self {
        let shared = Arc::new(Shared {
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tally: Tally::default(),
            changes: Mutex::default(),
            recipe: Mutex::new(planned.recipe.clone()),
        });
        let (tell, first) = oneshot::channel();
        let mut keeper = Keeper {
            name: planned.name,
            health: parts.health.reporter(planned.name),
            parts,
            shared: shared.clone(),
            first: Some(tell),
        };
        let task = tokio::spawn(async move {
            let (stop, tally) = (keeper.shared.stop.clone(), keeper.shared.tally.clone());
            supervisor::supervise(keeper.name, &mut keeper, &stop, &tally).await;
        });
        Self {
            planned,
            shared,
            keeper: Some(task),
            first: Some(first),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.planned.name
    }

    /// Whether it is down for good.
    pub(crate) fn given_up(&self) -> bool {
        self.shared.tally.counts().given_up
    }

    /// Whether it can be told of new values.
    pub(crate) fn listens(&self) -> bool {
        self.shared
            .changes
            .lock()
            .as_ref()
            .is_some_and(|sender| !sender.is_closed())
    }

    pub(crate) fn tally(&self) -> Tally {
        self.shared.tally.clone()
    }

    /// Waits until it was built for the first time.
    ///
    /// # Errors
    /// It could not be built: why.
    pub(crate) async fn built(&mut self) -> Result<(), String> {
        match self.first.as_mut() {
            Some(first) => {
                let result = first.await.unwrap_or_else(|_| Err("it was stopped".to_owned()));
                self.first = None;
                result
            }
            None => Ok(()),
        }
    }

    /// Hands new values over to the running plugin.
    ///
    /// # Errors
    /// It is not running or did not take them: why.
    pub(crate) async fn change(&mut self, new: Planned, patience: Duration) -> Result<(), String> {
        let sender = self.shared.changes.lock().clone();
        let sender = sender.ok_or("it is not running")?;
        let (change, answer) = Change::new(new.values());
        let told = async {
            sender.send(change).await.map_err(|_| "it is not running".to_owned())?;
            answer
                .await
                .unwrap_or_else(|_| Err("it does not take new values while it runs".to_owned()))
        };
        tokio::time::timeout(patience, told)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))?;
        *self.shared.recipe.lock() = new.recipe.clone();
        self.planned = new;
        Ok(())
    }

    /// Asks it to end in order.
    pub(crate) fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Waits until it has ended; false if it has not by `deadline`, and was then left behind where it was.
    pub(crate) async fn ended(&mut self, deadline: tokio::time::Instant) -> bool {
        let Some(keeper) = &mut self.keeper else { return true };
        if tokio::time::timeout_at(deadline, &mut *keeper).await.is_ok() {
            self.keeper = None;
            return true;
        }
        self.shared.kill.cancel();
        if tokio::time::timeout(KILLED, &mut *keeper).await.is_err() {
            // It blocks a thread: nothing can end it but the end of the process.
            keeper.abort();
        }
        self.keeper = None;
        false
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.kill.cancel();
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

/// Gives one plugin its lives.
struct Keeper {
    name: &'static str,
    parts: Arc<Parts>,
    shared: Arc<Shared>,
    health: HealthReporter,
    /// Who waits for the first building.
    first: Option<oneshot::Sender<Result<(), String>>>,
}

/// A built plugin.
enum Built {
    Source(Box<dyn Source>),
    Sink(BuiltSink, Delivery),
    Service(Box<dyn Service>),
}

/// Builds and probes; a fault that the probe finds and that may pass is told and no more.
async fn build(name: &'static str, recipe: &Recipe, cx: &mut BuildContext) -> Result<Built, PluginError> {
    let mut built = match recipe {
        Recipe::Source(_, plan) => Built::Source(plan.build(cx).await?),
        Recipe::Sink(plan) => Built::Sink(plan.plan.build(cx).await?, plan.delivery.clone()),
        Recipe::Service(plan) => Built::Service(plan.build(cx).await?),
    };
    let probe = async {
        match &mut built {
            Built::Source(source) => source.probe().await,
            Built::Sink(sink, _) => sink.sink.probe().await,
            Built::Service(service) => service.probe().await,
        }
    };
    let found = tokio::time::timeout(PROBE, probe)
        .await
        .unwrap_or_else(|_| Err(PluginError::transient("what it needs did not answer within 10 s")));
    match found {
        Ok(()) => Ok(built),
        Err(PluginError::Transient(reason)) => {
            tracing::warn!(plugin = name, "{reason}");
            cx.health.degraded(reason);
            Ok(built)
        }
        Err(error) => Err(error),
    }
}

/// What is said of a plugin whose code panicked.
const PANICKED: &str = "a fault of the program ended it; the log has more";

fn broken(name: &'static str, error: &JoinError) -> End {
    if error.is_cancelled() {
        return End::Stopped;
    }
    tracing::error!(plugin = name, %error, "a fault of the program");
    End::Broken(PANICKED.to_owned())
}

impl Keeper {
    /// Builds it in a task of its own, so that neither a panic nor a stop in the middle reaches anybody else.
    async fn build(&self, recipe: Recipe, mut cx: BuildContext) -> Result<(Built, BuildContext), End> {
        let name = self.name;
        let building = AbortOnDropHandle::new(tokio::spawn(async move {
            let built = build(name, &recipe, &mut cx).await?;
            Ok::<_, PluginError>((built, cx))
        }));
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Err(End::Stopped),
            built = building => match built {
                Ok(Ok(built)) => Ok(built),
                Ok(Err(error)) => Err(error.into()),
                Err(error) => Err(broken(name, &error)),
            },
        }
    }

    /// Waits for the end of a running plugin.
    async fn end(&self, task: JoinHandle<Result<(), End>>) -> End {
        let mut task = AbortOnDropHandle::new(task);
        let stop = &self.shared.stop;
        let end = tokio::select! {
            ended = &mut task => ended,
            () = self.shared.kill.cancelled() => return End::Stopped,
        };
        match end {
            Ok(Ok(())) if stop.is_cancelled() => End::Stopped,
            Ok(Ok(())) => End::Broken("it ended by itself".to_owned()),
            Ok(Err(end)) => end,
            Err(error) => broken(self.name, &error),
        }
    }

    async fn run(&self, built: Built, cx: BuildContext) -> End {
        let health = cx.health;
        match built {
            Built::Sink(built, delivery) => {
                let parts = &self.parts;
                let driver = Driver {
                    name: self.name,
                    delivery,
                    journal: parts.journal.clone(),
                    hot: parts.hot.clone(),
                    durable: parts.durable.clone(),
                    drain: self.shared.stop.clone(),
                    abort: self.shared.kill.clone(),
                    health,
                    telemetry: parts.telemetry.clone(),
                    state: parts.telemetry.sinks.state(self.name),
                    emitter: parts.emitter(self.name, Kind::Agent, parts.refuse.clone()),
                    host: parts.host.clone(),
                    data_dir: parts.data_dir.clone(),
                    lag: built.lag,
                };
                let task = tokio::spawn(async move {
                    match driver.run(built.sink).await {
                        DriverEnd::Stopped => Ok(()),
                        DriverEnd::Failed(error) => Err(error.into()),
                        DriverEnd::Panicked => Err(End::Broken(PANICKED.to_owned())),
                    }
                });
                // A sink that is aborted ends by itself, and closes.
                let end = {
                    let mut task = AbortOnDropHandle::new(task);
                    (&mut task).await
                };
                match end {
                    Ok(Ok(())) if self.shared.stop.is_cancelled() || self.shared.kill.is_cancelled() => End::Stopped,
                    Ok(Ok(())) => End::Broken("it ended by itself".to_owned()),
                    Ok(Err(end)) => end,
                    Err(error) => broken(self.name, &error),
                }
            }
            Built::Source(source) => {
                let Some(cx) = self.run_context(health, cx.emitter).await else {
                    return End::Stopped;
                };
                self.end(tokio::spawn(async move { source.run(cx).await.map_err(End::from) }))
                    .await
            }
            Built::Service(service) => {
                let Some(cx) = self.run_context(health, cx.emitter).await else {
                    return End::Stopped;
                };
                self.end(tokio::spawn(async move { service.run(cx).await.map_err(End::from) }))
                    .await
            }
        }
    }

    /// `None` if it is stopped meanwhile.
    async fn run_context(&self, health: HealthReporter, emitter: Option<auditmon_core::Emitter>) -> Option<RunContext> {
        let stop = &self.shared.stop;
        let memory = stop.run_until_cancelled(self.parts.recall(self.name)).await?;
        let (sender, changes) = mpsc::channel(1);
        *self.shared.changes.lock() = Some(sender);
        Some(RunContext {
            emitter: emitter?,
            memory,
            stop: stop.child_token(),
            health,
            changes,
        })
    }

    fn tell_first(&mut self, result: Result<(), String>) {
        if let Some(first) = self.first.take() {
            // Nobody may be waiting.
            let _ = first.send(result);
        }
    }
}

#[async_trait]
impl Life for Keeper {
    async fn live(&mut self) -> End {
        let recipe = self.shared.recipe.lock().clone();
        self.health = self.parts.health.successor(self.name);
        // This instance's own: what it leaves behind must not speak for it once it has failed.
        let refuse = self.parts.refuse.child_token();
        let refused = refuse.clone().drop_guard();
        let kind = match &recipe {
            Recipe::Source(kind, _) => Some(*kind),
            Recipe::Service(_) => Some(Kind::Agent),
            Recipe::Sink(_) => None,
        };
        let emitter = kind.map(|kind| self.parts.emitter(self.name, kind, refuse));
        let cx = self.parts.build_context(self.health.clone(), emitter);
        let (built, mut cx) = match self.build(recipe, cx).await {
            Ok(built) => built,
            Err(end) => {
                self.tell_first(Err(end.reason().to_owned()));
                return end;
            }
        };
        let routes = Routes {
            shared: std::mem::take(&mut cx.routes),
            named: std::mem::take(&mut cx.named_routes),
        };
        let has_routes = routes.shared.has_routes() || !routes.named.is_empty();
        for listener in routes.named.keys().filter(|name| !self.parts.mounts.has_listener(name)) {
            tracing::warn!(
                plugin = self.name,
                "has routes for the listener `{listener}`, which there is not: http.listeners.{listener}"
            );
        }
        if let Err(overlap) = self.parts.mounts.set(self.name, routes) {
            let end = End::Permanent(overlap.to_string());
            self.tell_first(Err(end.reason().to_owned()));
            return end;
        }
        self.parts.registries.set(self.name, cx.metrics.clone());
        if let Built::Sink(
            BuiltSink {
                reader: Some(reader), ..
            },
            _,
        ) = &built
        {
            let lookup = Lookup::new(reader.clone(), self.parts.journal.clone());
            self.parts.reader.set(self.name, Arc::new(lookup));
        }
        self.tell_first(Ok(()));
        let end = self.run(built, cx).await;
        *self.shared.changes.lock() = None;
        self.parts.reader.clear(self.name);
        // Requests that are in work may end on the routes of a plugin that ended in order.
        if end == End::Stopped && has_routes {
            refused.disarm();
        }
        end
    }

    fn down(&mut self, reason: &str) {
        self.health.failed(reason);
    }

    fn over(&mut self) {
        self.tell_first(Err("it was stopped".to_owned()));
        // One that has failed stays so to the end.
        if self.health.state() != Some(State::Failed) {
            self.health.set(State::Stopped, None);
        }
    }
}
