//! The contract of sources and services.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::health::State;
use auditmon_core::plugin::{Change, Entry, Plan, PluginError, RunContext, Section, Service, Source};
use auditmon_core::schema::RELOAD;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Planned, check, context, give_up, kind, plan};
use crate::{PATIENCE, TestAgent, eventually};

/// A source or service whose contract is checked.
pub struct Running<'a> {
    entry: &'a Entry,
    section: Section,
}

/// A built one.
enum Built {
    Source(Box<dyn Source>),
    Service(Box<dyn Service>),
}

impl Built {
    async fn probe(&mut self) -> Result<(), PluginError> {
        match self {
            Self::Source(source) => source.probe().await,
            Self::Service(service) => service.probe().await,
        }
    }

    async fn run(self, cx: RunContext) -> Result<(), PluginError> {
        match self {
            Self::Source(source) => source.run(cx).await,
            Self::Service(service) => service.run(cx).await,
        }
    }
}

/// A plan of either kind.
#[derive(Clone)]
enum Either {
    Source(Arc<dyn Plan<Box<dyn Source>>>),
    Service(Arc<dyn Plan<Box<dyn Service>>>),
}

impl<'a> Running<'a> {
    /// With a section that works in the surroundings of the test.
    #[must_use]
    pub fn new(entry: &'a Entry, section: Section) -> Self {
        Self { entry, section }
    }

    fn plan(&self) -> Either {
        match plan(self.entry, self.section.clone()) {
            Ok(Planned::Source(plan)) => Either::Source(plan),
            Ok(Planned::Service(plan)) => Either::Service(plan),
            Ok(Planned::Sink(_)) => panic!("{} is a sink", self.entry.name),
            Err(faults) => panic!("{}: {faults:?}", self.entry.name),
        }
    }

    async fn build(&self, plan: &Either, agent: &TestAgent) -> Built {
        let built = match plan {
            Either::Source(plan) => {
                let mut cx = context(agent, self.entry, &**plan);
                plan.build(&mut cx).await.map(Built::Source)
            }
            Either::Service(plan) => {
                let mut cx = context(agent, self.entry, &**plan);
                plan.build(&mut cx).await.map(Built::Service)
            }
        };
        built.unwrap_or_else(|error| panic!("{}: {error}", self.entry.name))
    }

    fn context(&self, agent: &TestAgent, stop: CancellationToken) -> (RunContext, mpsc::Sender<Change>) {
        agent.run_context(self.entry.name, kind(self.entry).unwrap(), stop)
    }

    /// Built and running; stopped with the token.
    async fn start(&self, agent: &TestAgent) -> (JoinHandle<Result<(), PluginError>>, Run) {
        let built = self.build(&self.plan(), agent).await;
        let stop = CancellationToken::new();
        let (cx, changes) = self.context(agent, stop.clone());
        (tokio::spawn(built.run(cx)), Run { stop, changes })
    }

    /// Waits until it says how it is.
    async fn says(&self, agent: &TestAgent) -> State {
        let said = || {
            let state = agent.health(self.entry.name)?.state;
            (state != State::Starting).then_some(state)
        };
        eventually("it says how it is", said).await
    }

    /// Checks all of it; needs what the section names.
    pub fn keeps(&self) {
        check(async |agent| self.is_built_twice(agent).await);
        check(async |agent| self.ends_when_told(agent).await);
        check(async |agent| self.ends_when_told_before_it_runs(agent).await);
        check(async |agent| self.can_be_dropped(agent).await);
        check(async |agent| self.ends_though_the_journal_takes_nothing(agent).await);
        if has_live_keys(&self.entry.schema().to_value()) {
            check(async |agent| self.takes_new_values(agent).await);
        }
    }

    async fn is_built_twice(&self, agent: &TestAgent) {
        let plan = self.plan();
        drop(self.build(&plan, agent).await);
        let mut again = self.build(&plan, agent).await;
        // What it finds is its own business.
        let _ = tokio::time::timeout(PATIENCE, again.probe())
            .await
            .expect("the probe ends");
    }

    async fn ends_when_told(&self, agent: &TestAgent) {
        // The second run is given what the first has committed to remember.
        for _ in 0..2 {
            let (run, told) = self.start(agent).await;
            let state = self.says(agent).await;
            assert!(
                matches!(state, State::Ok | State::Degraded),
                "{:?}",
                agent.health(self.entry.name)
            );
            told.stop.cancel();
            ended(run)
                .await
                .unwrap_or_else(|error| panic!("told to stop it ended with: {error}"));
        }
    }

    async fn ends_when_told_before_it_runs(&self, agent: &TestAgent) {
        let built = self.build(&self.plan(), agent).await;
        let stop = CancellationToken::new();
        stop.cancel();
        let (cx, _changes) = self.context(agent, stop);
        ended(tokio::spawn(built.run(cx))).await.expect("it ends in order");
    }

    async fn can_be_dropped(&self, agent: &TestAgent) {
        for polls in [0, 1, 2, 20] {
            let built = self.build(&self.plan(), agent).await;
            let (cx, _changes) = self.context(agent, CancellationToken::new());
            give_up(built.run(cx), polls).await;
        }
        // And it runs after that.
        let (run, told) = self.start(agent).await;
        self.says(agent).await;
        told.stop.cancel();
        ended(run).await.expect("it ends in order");
    }

    async fn ends_though_the_journal_takes_nothing(&self, agent: &TestAgent) {
        agent.journal.refuse.cancel();
        let (run, told) = self.start(agent).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        told.stop.cancel();
        // What it could not hand over it has counted; that it says so by an error is its own business.
        let _ = ended(run).await;
    }

    async fn takes_new_values(&self, agent: &TestAgent) {
        let (run, told) = self.start(agent).await;
        self.says(agent).await;
        let mut section = self.entry.defaults();
        section.as_object_mut().unwrap().remove("enabled");
        for (key, value) in self.section.as_object().unwrap() {
            section[key] = value.clone();
        }
        let (change, answer) = Change::new(section);
        told.changes.send(change).await.expect("it listens");
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it answers");
        assert_eq!(answer, Ok(Ok(())), "the values that it has");
        told.stop.cancel();
        ended(run).await.expect("it ends in order");
    }
}

/// How a running one is told something.
struct Run {
    stop: CancellationToken,
    changes: mpsc::Sender<Change>,
}

async fn ended(run: JoinHandle<Result<(), PluginError>>) -> Result<(), PluginError> {
    let ended = tokio::time::timeout(PATIENCE, run).await;
    ended.expect("told to stop, it ends").expect("it does not panic")
}

fn has_live_keys(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => {
            object.get(RELOAD).and_then(Value::as_str) == Some("live") || object.values().any(has_live_keys)
        }
        Value::Array(list) => list.iter().any(has_live_keys),
        _ => false,
    }
}
