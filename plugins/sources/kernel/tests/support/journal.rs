//! The source in the surroundings that the test kit makes.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use auditmon_core::Kind;
use auditmon_core::plugin::{Memory, PluginError};
use auditmon_journal::{Handle, Options};
use auditmon_source_kernel::KernelConfig;
use auditmon_testkit::TestAgent;
pub use auditmon_testkit::journal::Follower as Watcher;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub struct Agent {
    agent: TestAgent,
    pub handle: Handle,
    /// As it was when the journal was opened.
    pub memory: Memory,
}

impl Deref for Agent {
    type Target = TestAgent;

    fn deref(&self) -> &TestAgent {
        &self.agent
    }
}

impl Agent {
    pub fn open(dir: &Path) -> Agent {
        Agent::open_with(dir, |_| {})
    }

    pub fn open_with(dir: &Path, change: impl FnOnce(&mut Options)) -> Agent {
        let agent = TestAgent::open(dir, change);
        Agent {
            handle: agent.journal.handle.clone(),
            memory: agent.journal.memory("kernel"),
            agent,
        }
    }

    /// Builds and runs the source until `stop`.
    pub async fn run(&self, config: KernelConfig, stop: CancellationToken) -> Result<(), PluginError> {
        self.agent.run("kernel", Kind::Kernel, config, stop).await
    }

    /// Reads the journal from its beginning.
    pub fn watcher(&self) -> Watcher {
        self.journal.follow(0)
    }

    pub fn close(self) {
        self.journal.close();
    }
}

pub fn count(events: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts
            .entry(event["event_name"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    counts
}
