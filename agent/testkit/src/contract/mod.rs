//! What every plugin keeps.
//!
//! - Its configuration: the defaults are written as they are read, fit their own schema, and a key that is none is
//!   refused. See [`config`].
//! - Its life: it can be built as often as needed from one plan; it ends when it is told to, at any moment; nothing
//!   that it has begun is left behind, wherever it is dropped. See [`Running`] and [`Sink`].

mod config;
mod running;
mod sink;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use auditmon_core::plugin::{BuildContext, BuiltSink, Entry, Fault, Make, Plan, Section, Service, Source};

pub use config::{config, config_that_needs};
pub use running::Running;
pub use sink::Sink;

use crate::{TestAgent, eventually};

/// Runs a part of a contract with surroundings of its own and looks that no task is left behind.
fn check(part: impl AsyncFnOnce(&TestAgent)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let agent = TestAgent::new();
        part(&agent).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        eventually("no task is left behind", || (tasks() == 0).then_some(())).await;
        agent.journal.close();
    });
}

/// Polls a future some times and gives it up.
async fn give_up<F: Future>(future: F, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let done = future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if done {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A plugin's plan, of any kind.
enum Planned {
    Source(std::sync::Arc<dyn Plan<Box<dyn Source>>>),
    Sink(std::sync::Arc<dyn Plan<BuiltSink>>),
    Service(std::sync::Arc<dyn Plan<Box<dyn Service>>>),
}

/// Parses and validates a section.
fn plan(entry: &Entry, section: Section) -> Result<Planned, Vec<Fault>> {
    Ok(match &entry.make {
        Make::Source(_, make) => Planned::Source(make(section)?),
        Make::Sink(make) => Planned::Sink(make(section)?.plan),
        Make::Service(make) => Planned::Service(make(section)?),
    })
}

/// The kind of the events of a source or service.
fn kind(entry: &Entry) -> Option<auditmon_core::Kind> {
    match entry.make {
        Make::Source(kind, _) => Some(kind),
        Make::Service(_) => Some(auditmon_core::Kind::Agent),
        Make::Sink(_) => None,
    }
}

fn context<P>(agent: &TestAgent, entry: &Entry, plan: &dyn Plan<P>) -> BuildContext {
    agent.build_context(entry.name, kind(entry), plan.needs())
}
