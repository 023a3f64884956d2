//! What the runtime would give a plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use auditmon_core::event::Kind;
use auditmon_core::health::{Health, HealthBoard};
use auditmon_core::keys::{Caller, Keys};
use auditmon_core::plugin::{BuildContext, Change, Faults, PluginConfig, PluginError, RunContext, Source, needs_of};
use auditmon_core::privileged::{Control, Needs};
use auditmon_journal::Options;
use axum::Router;
use prometheus::Registry;
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::journal::{HOST, TestJournal};

/// Secret of the only key there is, which may write and read.
pub const KEY: &str = "am_test";

/// The surroundings of a plugin: a journal, a data directory, keys, health, metrics.
pub struct TestAgent {
    /// The journal.
    pub journal: TestJournal,
    /// States of plugins.
    pub board: HealthBoard,
    /// Metrics of the plugin that was built last.
    registry: Mutex<Registry>,
    data_dir: PathBuf,
    _dir: Option<TempDir>,
}

impl Default for TestAgent {
    fn default() -> Self {
        Self::new()
    }
}

impl TestAgent {
    /// A new one, in a directory of its own.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            journal: TestJournal::new(),
            board: HealthBoard::default(),
            registry: Mutex::default(),
            data_dir: dir.path().to_owned(),
            _dir: Some(dir),
        }
    }

    /// One on this directory, with the journal that it holds.
    #[must_use]
    pub fn open(dir: &Path, change: impl FnOnce(&mut Options)) -> Self {
        Self {
            journal: TestJournal::open(dir, change),
            board: HealthBoard::default(),
            registry: Mutex::default(),
            data_dir: dir.to_owned(),
            _dir: None,
        }
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What a plugin with these needs is built with; `kind` of the events of a source or service.
    #[must_use]
    pub fn build_context(&self, plugin: &'static str, kind: Option<Kind>, needs: Needs) -> BuildContext {
        let metrics = Registry::new();
        *self.registry.lock().unwrap() = metrics.clone();
        BuildContext {
            host: Arc::from(HOST),
            data_dir: self.data_dir.clone(),
            origin: Arc::from(self.journal.handle.origin()),
            metrics,
            keys: Arc::new(OneKey),
            control: Control::of_caller(needs.files).unwrap(),
            reader: None,
            health: self.board.reporter(plugin),
            memory: Arc::new(Semaphore::new(64 << 10)),
            routes: Router::new(),
            named_routes: BTreeMap::new(),
            emitter: kind.map(|kind| self.journal.emitter(plugin, kind)),
        }
    }

    /// What a source or service is given to run, and how it is told of new values.
    #[must_use]
    pub fn run_context(
        &self,
        plugin: &'static str,
        kind: Kind,
        stop: CancellationToken,
    ) -> (RunContext, mpsc::Sender<Change>) {
        let (sender, changes) = mpsc::channel(1);
        let cx = RunContext {
            emitter: self.journal.emitter(plugin, kind),
            memory: self.journal.memory(plugin),
            stop,
            health: self.board.successor(plugin),
            changes,
        };
        (cx, sender)
    }

    /// Builds a source and runs it until `stop`.
    ///
    /// # Errors
    /// The source's.
    pub async fn run<C: PluginConfig<Plugin = Box<dyn Source>>>(
        &self,
        plugin: &'static str,
        kind: Kind,
        config: C,
        stop: CancellationToken,
    ) -> Result<(), PluginError> {
        let mut faults = Faults::default();
        config.validate(&mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        let needs = needs_of(&config);
        let source = config.build(&mut self.build_context(plugin, Some(kind), needs)).await?;
        let (cx, _sender) = self.run_context(plugin, kind, stop);
        source.run(cx).await
    }

    /// The state that a plugin has reported.
    #[must_use]
    pub fn health(&self, plugin: &str) -> Option<Health> {
        self.board.get(plugin)
    }

    /// A counter or gauge of the plugin that was built last: the sum over all labels.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_of(name, &[])
    }

    /// The same, over those that have all of these labels.
    #[must_use]
    pub fn metric_of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.lock().unwrap().gather();
        let of_name = families.iter().filter(|family| family.name() == name);
        let has = |metric: &prometheus::proto::Metric, (name, value): &(&str, &str)| {
            let mut all = metric.get_label().iter();
            all.any(|label| label.name() == *name && label.value() == *value)
        };
        of_name
            .flat_map(|family| family.get_metric())
            .filter(|metric| labels.iter().all(|label| has(metric, label)))
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }
}

/// Knows [`KEY`].
struct OneKey;

impl Keys for OneKey {
    fn check(&self, secret: &str) -> Option<Caller> {
        (secret == KEY).then(|| Caller {
            name: Arc::from("test"),
            write: true,
            read: true,
        })
    }

    fn session(&self, _: &str) -> Option<Caller> {
        None
    }

    fn open_session(&self, _: &str) -> Option<String> {
        None
    }
}
