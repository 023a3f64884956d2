//! What every plugin is built with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use auditmon_core::emitter::Emitter;
use auditmon_core::event::Kind;
use auditmon_core::health::{HealthBoard, HealthReporter};
use auditmon_core::keys::Keys;
use auditmon_core::plugin::{BuildContext, Memory};
use auditmon_journal::Handle;
use auditmon_journal::format::source_hash;
use axum::Router;
use prometheus::Registry;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::expose::Registries;
use crate::hot::Hot;
use crate::mounts::Mounts;
use crate::privileges::Privileges;
use crate::reader::StoreReader;
use crate::telemetry::Telemetry;

/// Shared by all plugins.
pub(crate) struct Parts {
    pub(crate) host: Arc<str>,
    pub(crate) data_dir: PathBuf,
    pub(crate) origin: Arc<str>,
    pub(crate) journal: Handle,
    pub(crate) hot: Arc<Hot>,
    /// Everything below is on disk.
    pub(crate) durable: watch::Receiver<u64>,
    pub(crate) telemetry: Telemetry,
    pub(crate) registries: Registries,
    pub(crate) health: HealthBoard,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) privileges: Privileges,
    pub(crate) reader: StoreReader,
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) mounts: Mounts,
    /// Emitters refuse from here on.
    pub(crate) refuse: CancellationToken,
}

impl Parts {
    /// The way into the journal until `refuse` fires.
    pub(crate) fn emitter(&self, plugin: &'static str, kind: Kind, refuse: CancellationToken) -> Emitter {
        let (host, journal) = (self.host.clone(), self.journal.clone());
        Emitter::new(plugin, kind, host, journal, refuse, self.telemetry.sources.clone())
    }

    pub(crate) fn build_context(&self, health: HealthReporter, emitter: Option<Emitter>) -> BuildContext {
        BuildContext {
            host: self.host.clone(),
            data_dir: self.data_dir.clone(),
            origin: self.origin.clone(),
            metrics: Registry::new(),
            keys: self.keys.clone(),
            control: self.privileges.control.clone(),
            reader: self.reader.while_on(),
            health,
            memory: self.memory.clone(),
            routes: Router::new(),
            named_routes: BTreeMap::new(),
            emitter,
        }
    }

    /// What a source has committed to remember; nothing once the journal is closed.
    pub(crate) async fn recall(&self, plugin: &str) -> Memory {
        let (tell, told) = oneshot::channel();
        self.journal.states(source_hash(plugin), move |states| {
            // Who asked may have been stopped.
            let _ = tell.send(states);
        });
        let states = told.await.ok().flatten().unwrap_or_default();
        states
            .into_iter()
            .map(|(key, state)| (key, (state.value, (state.expiry_ns > 0).then_some(state.expiry_ns))))
            .collect()
    }
}
