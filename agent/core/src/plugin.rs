//! The traits of source, sink and service, their contexts and the registry entry.
//!
//! A plugin's life: its configuration is parsed and validated (no I/O), it is built (I/O, but nothing is
//! spawned), it runs until it is told to stop, and it is closed. Batching, positions, restarts, metrics of
//! delivery and health belong to the runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use auditmon_journal::Gap;
use auditmon_journal::format::Position;
use axum::Router;
use prometheus::{IntGauge, Registry};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::emitter::Emitter;
use crate::health::HealthReporter;
use crate::keys::Keys;
use crate::reader::EventReader;
use crate::subscription::Events;
use crate::time::Nanos;

/// Why a plugin can't go on.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// May pass by itself: the runtime tries again.
    #[error("{0}")]
    Transient(String),
    /// Needs a person: the plugin is failed until the agent starts anew.
    #[error("{0}")]
    Permanent(String),
}

impl PluginError {
    /// A fault that may pass.
    pub fn transient(error: impl std::fmt::Display) -> Self {
        Self::Transient(error.to_string())
    }

    /// A fault that stays.
    pub fn permanent(error: impl std::fmt::Display) -> Self {
        Self::Permanent(error.to_string())
    }
}

/// What a source committed to remember, as it was when the agent started: value and expiry by key.
pub type Memory = BTreeMap<Vec<u8>, (Vec<u8>, Option<Nanos>)>;

/// What a plugin is given to be built.
pub struct BuildContext {
    /// Host name that events carry.
    pub host: Arc<str>,
    /// The agent's data directory.
    pub data_dir: PathBuf,
    /// The journal's origin.
    pub origin: Arc<str>,
    /// The registry that `/metrics` shows.
    pub metrics: Registry,
    /// API keys and sessions.
    pub keys: Arc<dyn Keys>,
    /// The store's reader, if the store is on and was built before.
    pub reader: Option<Arc<dyn EventReader>>,
    /// How the plugin tells its state.
    pub health: HealthReporter,
    /// Bytes that all request bodies and their records together may hold (`http.memory`).
    pub memory: Arc<tokio::sync::Semaphore>,
    /// Routes for the agent's listener; what a plugin leaves here is mounted.
    pub routes: Router,
    /// For sources and services: the way into the journal.
    pub emitter: Option<Emitter>,
}

/// Bytes that one permit of [`BuildContext::memory`] stands for.
pub const MEMORY_PERMIT: usize = 1024;

/// What a source or service is given to run.
pub struct RunContext {
    /// The way into the journal.
    pub emitter: Emitter,
    /// What it committed to remember.
    pub memory: Memory,
    /// Fires when it has to end; it then hands over what it still holds.
    pub stop: CancellationToken,
    /// How it tells its state.
    pub health: HealthReporter,
}

/// Brings events in.
#[async_trait]
pub trait Source: Send + 'static {
    /// Runs until `cx.stop` fires; returns once everything it held is accepted or counted as lost.
    async fn run(self: Box<Self>, cx: RunContext) -> Result<(), PluginError>;
}

/// How a sink knows where it was.
#[derive(Clone, Debug)]
pub enum Start {
    /// It keeps its position itself, together with what it wrote; `None` if it is new.
    Own(Option<Position>),
    /// The runtime keeps the position in a file.
    Cursor,
    /// It starts at the head and delays nothing.
    Live,
}

/// Takes events away.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Where it starts; called once before the first write and after each restart.
    async fn start(&mut self, origin: &str) -> Result<Start, PluginError>;
    /// Returns `Ok` only once all events are as durable as this sink promises, and its own position with them.
    async fn write(&mut self, events: &Events) -> Result<(), PluginError>;
    /// Is told that a range can't be read any more; a sink with a position of its own moves it past the range.
    async fn gap(&mut self, gap: &Gap) -> Result<(), PluginError>;
    /// Flushes and releases; called once, after the last write.
    async fn close(self: Box<Self>) -> Result<(), PluginError>;
}

/// Serves people or machines: the page, alerts.
#[async_trait]
pub trait Service: Send + 'static {
    /// Runs until `cx.stop` fires.
    async fn run(self: Box<Self>, cx: RunContext) -> Result<(), PluginError>;
}

/// A built sink, with the reader that it offers, if any.
pub struct BuiltSink {
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// Reads what the sink stored.
    pub reader: Option<Arc<dyn EventReader>>,
    /// A gauge of the sink's own that the runtime keeps at the records still to be delivered.
    pub lag: Option<IntGauge>,
}

/// A plugin's configuration: its subtree of the file, typed.
#[async_trait]
pub trait PluginConfig: DeserializeOwned + Default + Send + 'static {
    /// What it builds.
    type Plugin: Send;
    /// Rejects impossible settings; pure.
    ///
    /// # Errors
    /// Path below the plugin's section, and a sentence that says what would be right.
    fn validate(&self) -> Result<(), (String, String)>;
    /// Opens what the plugin needs; may do I/O, must not spawn.
    async fn build(self, cx: &mut BuildContext) -> Result<Self::Plugin, PluginError>;
}

/// A validated configuration, ready to be built.
#[async_trait]
pub trait Plan<P>: Send {
    /// Builds the plugin.
    async fn build(self: Box<Self>, cx: &mut BuildContext) -> Result<P, PluginError>;
}

struct Planned<C>(C);

#[async_trait]
impl<C: PluginConfig> Plan<C::Plugin> for Planned<C> {
    async fn build(self: Box<Self>, cx: &mut BuildContext) -> Result<C::Plugin, PluginError> {
        self.0.build(cx).await
    }
}

/// Why a section of the configuration is not usable.
#[derive(Debug)]
pub struct SectionError {
    /// Path below the section; empty for the section itself.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A plugin's section, as the configuration hands it over.
pub type Section = serde_json::Value;

fn plan<C: PluginConfig>(section: Section) -> Result<Box<dyn Plan<C::Plugin>>, SectionError>
where
    C::Plugin: 'static,
{
    let config: C = serde_json::from_value(section).map_err(|error| SectionError {
        path: String::new(),
        message: error.to_string(),
    })?;
    config
        .validate()
        .map_err(|(path, message)| SectionError { path, message })?;
    Ok(Box::new(Planned(config)))
}

type PlanFn<P> = fn(Section) -> Result<Box<dyn Plan<P>>, SectionError>;

/// What kind of plugin an entry is, with the way from its section to a plan.
pub enum Make {
    /// Brings events in, of the kind given.
    Source(crate::event::Kind, PlanFn<Box<dyn Source>>),
    /// Takes events away.
    Sink(PlanFn<BuiltSink>),
    /// Serves.
    Service(PlanFn<Box<dyn Service>>),
}

/// One line of the agent's registry.
pub struct Entry {
    /// Name in configuration, health, metrics; lower case.
    pub name: &'static str,
    /// On without a configuration file.
    pub default_on: bool,
    /// How to make it.
    pub make: Make,
}

impl Entry {
    /// A source.
    #[must_use]
    pub fn source<C: PluginConfig<Plugin = Box<dyn Source>>>(name: &'static str, kind: crate::event::Kind) -> Self {
        Self {
            name,
            default_on: true,
            make: Make::Source(kind, plan::<C>),
        }
    }

    /// A sink.
    #[must_use]
    pub fn sink<C: PluginConfig<Plugin = BuiltSink>>(name: &'static str) -> Self {
        Self {
            name,
            default_on: true,
            make: Make::Sink(plan::<C>),
        }
    }

    /// A service.
    #[must_use]
    pub fn service<C: PluginConfig<Plugin = Box<dyn Service>>>(name: &'static str) -> Self {
        Self {
            name,
            default_on: true,
            make: Make::Service(plan::<C>),
        }
    }

    /// The same, off unless the configuration turns it on.
    #[must_use]
    pub fn off_by_default(mut self) -> Self {
        self.default_on = false;
        self
    }

    /// The section of the configuration file that holds it.
    #[must_use]
    pub const fn section(&self) -> &'static str {
        match self.make {
            Make::Source(..) => "sources",
            Make::Sink(_) => "sinks",
            Make::Service(_) => "services",
        }
    }
}
