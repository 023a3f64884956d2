//! The traits of source, sink and service, their contexts and the registry entry.
//!
//! A plugin's life: its configuration is parsed and validated (no I/O), it is built (I/O, but nothing is
//! spawned), probed, it runs until it is told to stop, drains and is closed. After a fault, or when its
//! configuration changes, it is built anew from the same [`Plan`]. Batching, positions, restarts, metrics of
//! delivery and health belong to the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use auditmon_journal::Gap;
use auditmon_journal::format::Position;
use axum::Router;
use parking_lot::Mutex;
use prometheus::{IntGauge, Registry};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::delivery::{Delivery, Receipt};
use crate::emitter::Emitter;
use crate::health::HealthReporter;
use crate::keys::Keys;
use crate::privileged::{ConfiguredFile, Control, FileError, Needs, files_of};
use crate::reader::EventReader;
use crate::subscription::Events;
use crate::time::Nanos;

/// Why a plugin can't go on.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// May pass by itself, even if a person has to do something elsewhere: the plugin is built and run again, after
    /// pauses of up to a minute.
    #[error("{0}")]
    Transient(String),
    /// Needs a change here: the plugin is failed until the configuration is loaded again or the agent starts anew.
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

/// What a source has committed to remember: value and expiry by key.
pub type Memory = BTreeMap<Vec<u8>, (Vec<u8>, Option<Nanos>)>;

/// What a plugin is given to be built.
pub struct BuildContext {
    /// Host name that events carry.
    pub host: Arc<str>,
    /// The agent's data directory.
    pub data_dir: PathBuf,
    /// The journal's origin.
    pub origin: Arc<str>,
    /// A registry of this plugin's own, shown by `/metrics` until the plugin is built again or turned off; each
    /// building gets a new one.
    pub metrics: Registry,
    /// API keys and sessions.
    pub keys: Arc<dyn Keys>,
    /// The one thread that has privileges, as far as [`PluginConfig::needs`] named them.
    pub control: Control,
    /// The store's reader, if the store is on; it stays good when the store is built anew.
    pub reader: Option<Arc<dyn EventReader>>,
    /// How the plugin tells its state.
    pub health: HealthReporter,
    /// Bytes that all request bodies and their records together may hold (`http.memory`).
    pub memory: Arc<tokio::sync::Semaphore>,
    /// Routes for the agent's listener; what a plugin leaves here is mounted.
    pub routes: Router,
    /// Routes apart from those, by listener: mounted where `http.listeners` has one of that name, and nowhere else;
    /// [`ADMIN`] is always there.
    pub named_routes: BTreeMap<&'static str, Router>,
    /// For sources and services: the way into the journal. It refuses once this instance has failed.
    pub emitter: Option<Emitter>,
}

/// The name in [`BuildContext::named_routes`] for what commands reach through the admin socket, where only root and the
/// agent's own user are answered. Each request has a [`LocalUser`](crate::http::LocalUser).
pub const ADMIN: &str = "admin.sock";

/// Bytes that one permit of [`BuildContext::memory`] stands for.
pub const MEMORY_PERMIT: usize = 1024;

/// What a source or service is given to run.
pub struct RunContext {
    /// The way into the journal.
    pub emitter: Emitter,
    /// What it has committed to remember by now.
    pub memory: Memory,
    /// Fires when it has to end; it then hands over what it still holds.
    pub stop: CancellationToken,
    /// How it tells its state.
    pub health: HealthReporter,
    /// New values of its *live* keys; a plugin without such keys never looks.
    pub changes: mpsc::Receiver<Change>,
}

/// New configuration for a running plugin, of which only *live* keys differ from what it has. Dropped without an
/// answer, it counts as refused.
pub struct Change {
    section: Section,
    done: oneshot::Sender<Result<(), String>>,
}

impl Change {
    /// A change, and where its answer arrives.
    #[must_use]
    pub fn new(section: Section) -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (done, answer) = oneshot::channel();
        (Self { section, done }, answer)
    }

    /// The whole section, which was validated before.
    ///
    /// # Errors
    /// It is of another plugin.
    pub fn read<C: PluginConfig>(&self) -> Result<C, PluginError> {
        serde_json::from_value(self.section.clone()).map_err(PluginError::permanent)
    }

    /// It is at work now, or why not; then the old values go on.
    pub fn answer(self, result: Result<(), String>) {
        // Who asked may have given up.
        let _ = self.done.send(result);
    }
}

/// Brings events in.
#[async_trait]
pub trait Source: Send + 'static {
    /// Looks whether it could work; an error is told as `degraded`, and it runs all the same unless it is permanent.
    async fn probe(&mut self) -> Result<(), PluginError> {
        Ok(())
    }
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
    /// As [`Source::probe`].
    async fn probe(&mut self) -> Result<(), PluginError> {
        Ok(())
    }
    /// Where it starts; called before the first write and after each fault. A sink that keeps its position itself may be
    /// asked for several origins before it is given anything: the last one counts.
    async fn start(&mut self, origin: &str) -> Result<Start, PluginError>;
    /// Tells what became of each event. What the receipt does not name is as durable as this sink promises, and so
    /// is its own position, if it keeps one. An error says that nothing is known of any of them.
    async fn write(&mut self, events: &Events) -> Result<Receipt, PluginError>;
    /// Is told that a range can't be read any more; a sink with a position of its own moves it past the range.
    async fn gap(&mut self, gap: &Gap) -> Result<(), PluginError>;
    /// Flushes and releases; called once, after the last write.
    async fn close(self: Box<Self>) -> Result<(), PluginError>;
}

/// Serves people or machines: the page, alerts.
#[async_trait]
pub trait Service: Send + 'static {
    /// As [`Source::probe`].
    async fn probe(&mut self) -> Result<(), PluginError> {
        Ok(())
    }
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
///
/// Its JSON Schema is what the file is checked against, and carries what else the runtime has to know of a key, as
/// extensions: see [`crate::schema`].
#[async_trait]
pub trait PluginConfig: Clone + Default + DeserializeOwned + JsonSchema + Send + Serialize + Sync + 'static {
    /// What it builds.
    type Plugin: Send;
    /// Finds impossible settings; pure.
    fn validate(&self, faults: &mut Faults);
    /// Finds settings that work and may still surprise, for `auditmon check` and the log at start; pure.
    fn warn(&self, _warnings: &mut Faults) {}
    /// Names what it needs beyond an ordinary process: capabilities, directories outside the data directory, files
    /// that no key with [`FILE`](crate::schema::FILE) names. What is not named is gone before the plugin is built. Pure.
    fn needs(&self, needs: &mut Needs) {
        let _ = needs;
    }
    /// Finds named files that are of no use and stay so until somebody mends them, for `auditmon check`, a start and a
    /// reload; reads them, and does nothing else.
    fn inspect(&self, _read: ReadConfigured<'_>, _faults: &mut Faults) {}
    /// Opens what the plugin needs; may do I/O, must not spawn.
    async fn build(self, cx: &mut BuildContext) -> Result<Self::Plugin, PluginError>;
    /// For sinks: how the runtime hands over unless the section says otherwise.
    fn delivery() -> Delivery {
        Delivery::default()
    }
    /// For sinks: whether what is built can be read ([`BuiltSink::reader`]).
    fn readable() -> bool {
        false
    }
    /// For sinks that keep their position themselves: all that they remember, of any origin. Asked before the journal
    /// is opened and before anything is built, since a journal that was put back must not sign anything again.
    /// Changes nothing.
    async fn remembered(&self, data_dir: &Path) -> Result<Vec<Position>, PluginError> {
        let _ = data_dir;
        Ok(Vec::new())
    }
}

/// Reads a configured file, with whatever privilege that needs.
pub type ReadConfigured<'a> = &'a dyn Fn(&ConfiguredFile) -> Result<Vec<u8>, FileError>;

/// Impossible settings, each with its path below the section.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

/// One impossible setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Path below the section; empty for the section itself.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Faults {
    /// Adds one.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault {
            path: path.into(),
            message: message.into(),
        });
    }

    /// All of them.
    #[must_use]
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A validated configuration, from which the plugin can be built as often as needed.
#[async_trait]
pub trait Plan<P>: Send + Sync {
    /// What the plugin needs beyond an ordinary process.
    fn needs(&self) -> Needs;
    /// See [`PluginConfig::inspect`].
    fn inspect(&self, read: ReadConfigured<'_>) -> Vec<Fault>;
    /// Builds the plugin.
    async fn build(&self, cx: &mut BuildContext) -> Result<P, PluginError>;
    /// See [`PluginConfig::remembered`].
    async fn remembered(&self, data_dir: &Path) -> Result<Vec<Position>, PluginError>;
}

/// What a plugin with this configuration needs: files of its keys, and what it names itself.
#[must_use]
pub fn needs_of<C: PluginConfig>(config: &C) -> Needs {
    let mut needs = Needs {
        files: files_of(config),
        ..Needs::default()
    };
    config.needs(&mut needs);
    needs
}

struct Planned<C>(C);

#[async_trait]
impl<C: PluginConfig> Plan<C::Plugin> for Planned<C> {
    fn needs(&self) -> Needs {
        needs_of(&self.0)
    }

    fn inspect(&self, read: ReadConfigured<'_>) -> Vec<Fault> {
        let mut faults = Faults::default();
        self.0.inspect(read, &mut faults);
        faults.into_vec()
    }

    async fn build(&self, cx: &mut BuildContext) -> Result<C::Plugin, PluginError> {
        self.0.clone().build(cx).await
    }

    async fn remembered(&self, data_dir: &Path) -> Result<Vec<Position>, PluginError> {
        self.0.remembered(data_dir).await
    }
}

/// A plugin's section, as the configuration hands it over.
pub type Section = serde_json::Value;

fn read<T: DeserializeOwned>(section: Section) -> Result<T, Vec<Fault>> {
    serde_json::from_value(section).map_err(|error| {
        vec![Fault {
            path: String::new(),
            message: error.to_string(),
        }]
    })
}

fn plan<C: PluginConfig>(section: Section) -> Result<Arc<dyn Plan<C::Plugin>>, Vec<Fault>>
where
    C::Plugin: 'static,
{
    let config: C = read(section)?;
    let mut faults = Faults::default();
    config.validate(&mut faults);
    if faults.is_empty() {
        Ok(Arc::new(Planned(config)))
    } else {
        Err(faults.into_vec())
    }
}

/// What surprises in a section that was validated.
fn warnings<C: PluginConfig>(mut section: Section) -> Vec<Fault> {
    let mut warnings = Faults::default();
    // A sink's section has more keys than its own type; a source's may have keys of the same names.
    let config: Option<C> = serde_json::from_value(section.clone()).ok().or_else(|| {
        Delivery::take(&mut section);
        serde_json::from_value(section).ok()
    });
    if let Some(config) = config {
        config.warn(&mut warnings);
    }
    warnings.into_vec()
}

/// A sink's plan, and how it is handed events.
pub struct SinkPlan {
    /// How the runtime hands over.
    pub delivery: Delivery,
    /// Whether what is built can be read.
    pub readable: bool,
    /// Builds the sink.
    pub plan: Arc<dyn Plan<BuiltSink>>,
}

fn plan_sink<C: PluginConfig<Plugin = BuiltSink>>(mut section: Section) -> Result<SinkPlan, Vec<Fault>> {
    let mut common = serde_json::to_value(C::delivery()).unwrap_or_default();
    merge(&mut common, Delivery::take(&mut section));
    let delivery: Delivery = read(common)?;
    let mut faults = Faults::default();
    delivery.validate(&mut faults);
    match plan::<C>(section) {
        Ok(plan) if faults.is_empty() => Ok(SinkPlan {
            delivery,
            readable: C::readable(),
            plan,
        }),
        Ok(_) => Err(faults.into_vec()),
        Err(more) => Err(faults.into_vec().into_iter().chain(more).collect()),
    }
}

/// Mappings merge, everything else is replaced.
fn merge(under: &mut Section, over: Section) {
    match (under, over) {
        (Section::Object(under), Section::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Section::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

type PlanFn<P> = fn(Section) -> Result<Arc<dyn Plan<P>>, Vec<Fault>>;

/// What kind of plugin an entry is, with the way from its section to a plan.
pub enum Make {
    /// Brings events in, of the kind given.
    Source(crate::event::Kind, PlanFn<Box<dyn Source>>),
    /// Takes events away.
    Sink(fn(Section) -> Result<SinkPlan, Vec<Fault>>),
    /// Serves.
    Service(PlanFn<Box<dyn Service>>),
}

/// One line of the agent's registry.
pub struct Entry {
    /// Name in configuration, health, metrics; lower case.
    pub name: &'static str,
    /// On without a configuration file.
    pub default_on: bool,
    /// Any number of them, by name: the section maps names to sections of their own.
    pub named: bool,
    /// How to make it.
    pub make: Make,
    schema: fn() -> schemars::Schema,
    defaults: fn() -> Section,
    warnings: fn(Section) -> Vec<Fault>,
}

impl Entry {
    fn new<C: PluginConfig>(name: &'static str, make: Make) -> Self {
        Self {
            name,
            default_on: true,
            named: false,
            make,
            schema: || schemars::schema_for!(C),
            defaults: || serde_json::to_value(C::default()).unwrap_or_default(),
            warnings: warnings::<C>,
        }
    }

    /// A source.
    #[must_use]
    pub fn source<C: PluginConfig<Plugin = Box<dyn Source>>>(name: &'static str, kind: crate::event::Kind) -> Self {
        Self::new::<C>(name, Make::Source(kind, plan::<C>))
    }

    /// A sink.
    #[must_use]
    pub fn sink<C: PluginConfig<Plugin = BuiltSink>>(name: &'static str) -> Self {
        Self {
            schema: || crate::schema::of_sink::<C>(),
            defaults: || {
                let mut all = serde_json::to_value(C::default()).unwrap_or_default();
                merge(&mut all, serde_json::to_value(C::delivery()).unwrap_or_default());
                all
            },
            ..Self::new::<C>(name, Make::Sink(plan_sink::<C>))
        }
    }

    /// Any number of sinks of one type, by name; none without a configuration file.
    #[must_use]
    pub fn sinks<C: PluginConfig<Plugin = BuiltSink>>(name: &'static str) -> Self {
        Self {
            named: true,
            ..Self::sink::<C>(name)
        }
    }

    /// A service.
    #[must_use]
    pub fn service<C: PluginConfig<Plugin = Box<dyn Service>>>(name: &'static str) -> Self {
        Self::new::<C>(name, Make::Service(plan::<C>))
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

    /// JSON Schema of one section (of a [named](Self::named) one: of each instance), with `enabled`.
    #[must_use]
    pub fn schema(&self) -> schemars::Schema {
        crate::schema::with_enabled((self.schema)(), self.default_on || self.named)
    }

    /// All keys of one section with their defaults, with `enabled`.
    #[must_use]
    pub fn defaults(&self) -> Section {
        let mut all = serde_json::json!({"enabled": self.default_on || self.named});
        merge(&mut all, (self.defaults)());
        all
    }

    /// What works in a section without faults and may still surprise.
    #[must_use]
    pub fn warnings(&self, section: Section) -> Vec<Fault> {
        (self.warnings)(section)
    }

    /// The name of an instance of a [named](Self::named) plugin everywhere but in the file: `webhook.siem`.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn instance(&self, name: &str) -> Result<&'static str, String> {
        let good = (1..=40).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        if good {
            Ok(intern(&format!("{}.{name}", self.name)))
        } else {
            Err(format!("`{name}` is no name: 1–40 of a–z, 0–9, `-` and `_`"))
        }
    }
}

/// A text that lives as long as the process; each is kept once. Only for names that the configuration gives.
fn intern(text: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock();
    if let Some(known) = names.get(text) {
        return known;
    }
    let name: &'static str = Box::leak(text.to_owned().into_boxed_str());
    names.insert(name);
    name
}
