//! A journal in a temporary directory, as the runtime would give it to a source.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::emitter::SourceMetrics;
use auditmon_core::health::HealthBoard;
use auditmon_core::keys::{Caller, Keys};
use auditmon_core::plugin::{BuildContext, Faults, Memory, PluginConfig, PluginError, RunContext};
use auditmon_core::privileged::{Control, files_of};
use auditmon_core::{Data, Draft, Emitter, Kind};
use auditmon_journal::format::Body;
use auditmon_journal::{AgentNote, Handle, Item, Options, RealFs, Records};
use auditmon_source_kernel::KernelConfig;
use prometheus::Registry;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub struct Agent {
    pub handle: Handle,
    pub memory: Memory,
    pub registry: Registry,
    pub board: HealthBoard,
    pub drain: CancellationToken,
}

impl Agent {
    pub fn open(dir: &Path) -> Agent {
        Agent::open_with(dir, |_| {})
    }

    pub fn open_with(dir: &Path, change: impl FnOnce(&mut Options)) -> Agent {
        let note = |note: AgentNote, records: &mut Records| {
            let data = serde_json::json!({"note": format!("{note:?}")}).to_string();
            let draft = Draft {
                data: Data::Raw(&data),
                ..Draft::new("journal.note", "auditmon")
            };
            auditmon_core::batch::push_agent_event(records, "testhost", draft).unwrap();
        };
        let mut options = Options::new(dir, "testhost", Box::new(note));
        change(&mut options);
        let (writer, opened) = auditmon_journal::open(RealFs, options).unwrap();
        let memory = opened
            .states
            .get(&auditmon_journal::format::source_hash("kernel"))
            .map(|states| {
                let states = states.iter();
                states
                    .map(|(key, state)| (key.clone(), (state.value.clone(), None)))
                    .collect()
            })
            .unwrap_or_default();
        let handle = writer.spawn(Box::new(|_| {})).unwrap();
        Agent {
            handle,
            memory,
            registry: Registry::new(),
            board: HealthBoard::default(),
            drain: CancellationToken::new(),
        }
    }

    pub fn emitter(&self) -> Emitter {
        Emitter::new(
            "kernel",
            Kind::Kernel,
            Arc::from("testhost"),
            self.handle.clone(),
            self.drain.clone(),
            SourceMetrics::new().unwrap(),
        )
    }

    /// Builds and runs the source until `stop`.
    pub async fn run(&self, config: KernelConfig, stop: CancellationToken) -> Result<(), PluginError> {
        let health = self.board.reporter("kernel");
        let mut cx = BuildContext {
            host: Arc::from("testhost"),
            data_dir: "/nonexistent".into(),
            origin: Arc::from("test/1"),
            metrics: self.registry.clone(),
            keys: Arc::new(NoKeys),
            control: Control::of_caller(files_of(&config)).unwrap(),
            reader: None,
            health: health.clone(),
            memory: Arc::new(tokio::sync::Semaphore::new(1)),
            routes: Default::default(),
            emitter: None,
        };
        let mut faults = Faults::default();
        config.validate(&mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        let source = config.build(&mut cx).await?;
        let cx = RunContext {
            emitter: self.emitter(),
            memory: self.memory.clone(),
            stop,
            health,
            changes: tokio::sync::mpsc::channel(1).1,
        };
        source.run(cx).await
    }

    /// Reads the journal from its beginning.
    pub fn watcher(&self) -> Watcher {
        Watcher {
            handle: self.handle.clone(),
            seen: 1,
        }
    }

    pub fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric().to_vec()).unwrap_or_default();
        metrics
            .iter()
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    pub fn close(self) {
        assert!(self.handle.close(Duration::from_secs(5)));
    }
}

/// Reads events of the journal.
pub struct Watcher {
    handle: Handle,
    pub seen: u64,
}

impl Watcher {
    /// Events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut reader = self.handle.reader(self.seen);
        while let Some(Item::Records(batch)) = reader.next().unwrap() {
            for entry in batch.iter() {
                if let Body::Whole { payload, .. } = entry.record.body
                    && entry.record.prefix.kind != Kind::State
                {
                    events.push(serde_json::from_slice(payload).unwrap());
                }
            }
        }
        self.seen = reader.seq();
        events
    }
}

struct NoKeys;

impl Keys for NoKeys {
    fn check(&self, _: &str) -> Option<Caller> {
        None
    }
    fn session(&self, _: &str) -> Option<Caller> {
        None
    }
    fn open_session(&self, _: &str) -> Option<String> {
        None
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
