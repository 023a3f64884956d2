//! A journal to take events from, and a store to put them into.

use std::path::PathBuf;

use auditmon_core::event::{Draft, Kind};
use auditmon_core::plugin::{PluginError, Sink as _};
use auditmon_core::reader::{EventReader, Page, Query};
use auditmon_core::time::Nanos;
use auditmon_journal::Linger;
use auditmon_testkit::TestJournal;
use prometheus::Registry;
use tempfile::TempDir;

use crate::config::Retention;
use crate::sink::Store;

/// 2026-01-01T00:00:00Z
pub(super) const T0: Nanos = 1_767_225_600_000_000_000;
pub(super) const SECOND: Nanos = 1_000_000_000;

pub(super) struct Journal(TestJournal);

impl std::ops::Deref for Journal {
    type Target = TestJournal;

    fn deref(&self) -> &TestJournal {
        &self.0
    }
}

impl Journal {
    pub(super) fn new() -> Self {
        Self(TestJournal::new())
    }

    /// One frame of events, all received at once.
    pub(super) async fn add(&self, kind: Kind, received: Nanos, drafts: Vec<Draft<'_>>) {
        self.add_from("billing", kind, received, drafts).await;
    }

    pub(super) async fn add_from(&self, source: &str, kind: Kind, received: Nanos, drafts: Vec<Draft<'_>>) {
        let emitter = self.emitter("ingest", kind);
        let mut batch = emitter.batch_from(source);
        batch.received_at(received);
        for draft in drafts {
            batch.push(draft).unwrap();
        }
        emitter.emit(batch, Linger::NONE).await.unwrap();
    }

    /// `n` plain events of kind application.
    pub(super) async fn add_plain(&self, n: usize) {
        let drafts = (0..n).map(|_| Draft::new("login", "alice")).collect();
        self.add(Kind::Application, T0, drafts).await;
    }
}

pub(super) struct Place {
    dir: TempDir,
    pub(super) registry: Registry,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            registry: Registry::new(),
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.path().join("events.db")
    }

    pub(super) async fn build(&self) -> Result<Store, PluginError> {
        Store::build(self.file(), Retention::default(), &self.registry).await
    }

    /// A store with everything that these journals hold.
    pub(super) async fn with(&self, journals: &[&Journal]) -> Store {
        let mut store = self.build().await.unwrap();
        for journal in journals {
            store.start(journal.handle.origin()).await.unwrap();
            store.write(&journal.events(0)).await.unwrap();
        }
        store
    }

    /// The file as sqlite3 sees it.
    pub(super) fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }

    pub(super) fn number(&self, sql: &str) -> i64 {
        self.sqlite().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub(super) fn metric(&self, name: &str, label: Option<&str>) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let with = |metric: &&prometheus::proto::Metric| {
            label.is_none_or(|label| metric.get_label().iter().any(|pair| pair.value() == label))
        };
        let metric = family.get_metric().iter().find(with).unwrap();
        metric.get_gauge().get_value()
            + metric.get_counter().get_value()
            + metric.get_histogram().get_sample_count() as f64
    }
}

pub(super) async fn ask(reader: &dyn EventReader, pairs: &[(&str, &str)]) -> Page {
    reader
        .query(&Query::parse(pairs.iter().copied()).unwrap())
        .await
        .unwrap()
}

pub(super) fn seqs(page: &Page) -> Vec<u64> {
    page.events.iter().map(|event| event.seq).collect()
}
