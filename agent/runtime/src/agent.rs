//! Start and end of the agent: journal, plugins, listener, one deadline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auditmon_config::{Http, Loaded};
use auditmon_core::delivery::WhenBehind;
use auditmon_core::emitter::Emitter;
use auditmon_core::event::{Data, Draft, Kind, Outcome};
use auditmon_core::health::{HealthBoard, State};
use auditmon_core::plugin::{BuildContext, Entry, MEMORY_PERMIT, Memory, RunContext};
use auditmon_core::reader::EventReader;
use auditmon_core::time;
use auditmon_journal::{DirLock, Handle, Linger, LockError, RealFs, StateMap};
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accounts::{self, AccountError, Accounts};
use crate::admin::{self, Admin, Commands, Reloaded};
use crate::driver::Driver;
use crate::hot::Hot;
use crate::lookup::Lookup;
use crate::plan::{self, Planned};
use crate::prefix::Prefix;
use crate::routes::Shared;
use crate::status::Status;
use crate::supervisor::{self, Runnable};
use crate::telemetry::{AgentCollector, Telemetry};
use crate::tls::{ReadFile, Tls, TlsFiles};
use crate::{listener, notes, routes};

/// How long an orderly end may take.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't work.
    #[error("{0}")]
    Config(String),
    /// The data directory can't be made or used.
    #[error("{path}: the data directory can't be used: {why}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Another agent has the data directory.
    #[error("{path}: held by another agent: {command}, pid {pid}")]
    Held {
        /// The directory.
        path: PathBuf,
        /// Its process id.
        pid: u32,
        /// Its command name.
        command: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<AccountError> for StartError {
    fn from(error: AccountError) -> Self {
        Self::Other(error.to_string())
    }
}

fn other(error: impl std::fmt::Display) -> StartError {
    StartError::Other(error.to_string())
}

/// What the binary hands over.
pub struct Setup {
    /// The configuration, with places for errors.
    pub loaded: Loaded,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Host name for events.
    pub host: String,
    /// The agent's version.
    pub version: &'static str,
    /// The registry.
    pub entries: Vec<Entry>,
}

/// What is printed once, on the first start in a data directory.
pub struct FirstStart {
    /// Secret of the key `default`.
    pub key: String,
    /// One-time token of the page.
    pub token: String,
}

/// What the binary prints once the agent is at work.
pub struct Started {
    /// On the first start: the secrets.
    pub first: Option<FirstStart>,
    /// Where it listens.
    pub listen: std::net::SocketAddr,
    /// Where people reach it, without a slash at its end.
    pub root_url: String,
    /// Plugins with their states.
    pub plugins: BTreeMap<&'static str, auditmon_core::health::Health>,
}

/// Makes the data directory, readable by its owner only.
///
/// # Errors
/// [`StartError::DataDir`].
pub fn make_data_dir(path: &std::path::Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let fail = |why: std::io::Error| StartError::DataDir {
        path: path.to_owned(),
        why: why.to_string(),
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fail)?;
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).map_err(|e| fail(e.into()))
}

/// Runs the agent until `stop` fires; `started` is told once it is at work.
///
/// # Errors
/// The agent could not start. An orderly end is `Ok`.
pub async fn run(setup: Setup, stop: CancellationToken, started: impl FnOnce(Started)) -> Result<(), StartError> {
    let health = HealthBoard::default();
    let plans = plan::all(&setup.loaded, &setup.entries, &health)?;
    make_data_dir(&setup.data_dir)?;
    let _lock = lock(&setup)?;
    let settings = &setup.loaded.settings;
    let http = Arc::new(settings.http.clone());
    let socket = TcpListener::bind(http.listen)
        .await
        .map_err(|error| other(format!("http.listen: {} can't be listened on: {error}", http.listen)))?;
    let listen = socket.local_addr().map_err(other)?;
    let tls = open_tls(&http).await?;
    let prefix = match &http.root_url {
        Some(url) => Prefix::parse(url).map_err(|says| StartError::Config(format!("http.root_url: {says}")))?,
        None => Prefix::default(),
    };

    let root = root_url(&http, listen);
    let admin_socket = admin::bind(&setup.data_dir).map_err(|error| StartError::DataDir {
        path: setup.data_dir.join(admin::SOCKET),
        why: error.to_string(),
    })?;

    let (journal, states, durable) = open_journal(&setup, &plans)?;

    // After everything that may fail: a key that was made and never shown would be lost.
    let mut accounts = Accounts::open(&setup.data_dir).await?;
    let first = if accounts.is_empty().await? {
        let key = accounts.create("default", true, true).await?;
        Some(FirstStart {
            key,
            token: accounts.page_token().await?,
        })
    } else {
        None
    };
    let (keys, follow) = accounts::follow(accounts).await?;
    let following = tokio::spawn(follow);
    let telemetry = Telemetry::new(setup.version).map_err(other)?;
    let collector = AgentCollector::new(journal.clone(), health.clone(), telemetry.sinks.clone()).map_err(other)?;
    telemetry.registry.register(Box::new(collector)).map_err(other)?;

    let mut parts = Parts {
        host: setup.host.as_str().into(),
        data_dir: setup.data_dir.clone(),
        origin: journal.origin().into(),
        hot: Arc::new(Hot::new(
            journal.clone(),
            usize::try_from(settings.journal.hot.0).unwrap_or(usize::MAX),
        )),
        journal: journal.clone(),
        states,
        durable,
        telemetry: telemetry.clone(),
        health: health.clone(),
        keys: keys.clone(),
        reader: None,
        memory: Arc::new(Semaphore::new(
            usize::try_from(http.memory.0).unwrap_or(usize::MAX >> 4) / MEMORY_PERMIT,
        )),
        refuse: CancellationToken::new(),
        stop: CancellationToken::new(),
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
        router: Router::new(),
        sources: JoinSet::new(),
        services: JoinSet::new(),
        sinks: JoinSet::new(),
    };
    let own = parts.emitter("auditmon", Kind::Agent);
    agent_event(&own, "agent.start", setup.version).await;
    for plan in plans {
        parts.start(plan).await;
    }

    let stopping = Arc::new(AtomicBool::new(false));
    let shared = Shared {
        journal: journal.clone(),
        health: health.clone(),
        registry: telemetry.registry.clone(),
        keys,
        reader: parts.reader.clone(),
        stopping: stopping.clone(),
        protect_metrics: http.protect.iter().any(|word| word == "metrics"),
    };
    let router = routes::router(shared).merge(std::mem::take(&mut parts.router));
    let router = router.layer(axum::middleware::from_fn_with_state(
        Arc::new(telemetry),
        crate::telemetry::count_requests,
    ));
    let close = CancellationToken::new();
    let service = listener::Service {
        router,
        settings: http,
        tls,
        prefix,
    };
    let serving = tokio::spawn(listener::serve(socket, service, close.clone()));
    let admin = Admin {
        data_dir: setup.data_dir.clone(),
        journal: journal.clone(),
        durable: parts.durable.clone(),
        keys: parts.keys.clone(),
        commands: Arc::new(Control(Status {
            version: setup.version,
            since: time::now(),
            journal: journal.clone(),
            health: health.clone(),
        })),
        root_url: root.clone(),
    };
    let commanded = tokio::spawn(admin::serve(admin_socket, admin, close.clone()));
    settle(&health).await;
    started(Started {
        first,
        listen,
        root_url: root,
        plugins: health.all(),
    });

    stop.cancelled().await;
    stopping.store(true, Ordering::Relaxed);
    parts.end(&own, &journal, setup.version).await;
    close.cancel();
    // The listener ends by itself within its grace.
    let _ = serving.await;
    let _ = commanded.await;
    following.abort();
    tracing::info!("stopped");
    Ok(())
}

/// What the admin socket may ask for.
struct Control(Status);

#[async_trait]
impl Commands for Control {
    fn status(&self) -> serde_json::Value {
        self.0.json()
    }

    async fn reload(&self) -> Reloaded {
        Reloaded {
            errors: vec!["this version can't reload; restart the agent".to_owned()],
            ..Reloaded::default()
        }
    }

    async fn replay(&self, sink: &str) -> Result<(), String> {
        Err(format!("there is no sink `{sink}`"))
    }
}

/// Where people reach the agent, without a slash at its end.
#[must_use]
pub fn root_url(http: &Http, listen: std::net::SocketAddr) -> String {
    match &http.root_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None if http.tls.cert_file.is_some() => format!("https://{listen}"),
        None => format!("http://{listen}"),
    }
}

/// Reads certificate and key, if there are to be any.
async fn open_tls(http: &Http) -> Result<Option<Arc<Tls>>, StartError> {
    let (Some(cert), Some(key)) = (&http.tls.cert_file, &http.tls.key_file) else {
        return Ok(None);
    };
    let files = TlsFiles {
        cert: cert.clone(),
        key: key.clone(),
        client_ca: http.tls.client_ca_file.clone(),
    };
    let read: ReadFile = Arc::new(|path| std::fs::read(path));
    let tls = tokio::task::spawn_blocking(move || Tls::load(files, read))
        .await
        .map_err(other)?;
    tls.map(|tls| Some(Arc::new(tls)))
        .map_err(|error| StartError::Config(error.to_string()))
}

/// How long the start waits for plugins to say that they are at work, or why not, before it tells of them.
const SETTLE: Duration = Duration::from_millis(500);

async fn settle(health: &HealthBoard) {
    let deadline = Instant::now() + SETTLE;
    while health.all().values().any(|plugin| plugin.state == State::Starting) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lock(setup: &Setup) -> Result<DirLock, StartError> {
    DirLock::acquire(&setup.data_dir).map_err(|error| match error {
        LockError::Held { pid, command } => StartError::Held {
            path: setup.data_dir.clone(),
            pid,
            command,
        },
        LockError::Io(error) => StartError::DataDir {
            path: setup.data_dir.clone(),
            why: error.to_string(),
        },
    })
}

/// Largest share of a volume that the journal takes unless told.
const VOLUME_SHARE: f64 = 0.8;
/// Largest journal unless told.
const DEFAULT_MAX: u64 = 10 << 30;

fn open_journal(setup: &Setup, plans: &[Planned]) -> Result<(Handle, StateMap, watch::Receiver<u64>), StartError> {
    let settings = &setup.loaded.settings.journal;
    let mut options =
        auditmon_journal::Options::new(&setup.data_dir, setup.host.clone(), notes::writer(setup.host.clone()));
    options.segment_size = settings.segment_size.0;
    options.reserve = settings.reserve.0;
    options.keep_age = settings.keep.age.0;
    options.keep_size = settings.keep.size.0;
    options.max_size = settings.max_size.map_or_else(
        || {
            let volume =
                rustix::fs::statvfs(&setup.data_dir).map_or(u64::MAX, |v| v.f_blocks.saturating_mul(v.f_frsize));
            DEFAULT_MAX.min((volume as f64 * VOLUME_SHARE) as u64)
        },
        |size| size.0,
    );
    let begin = Instant::now();
    let (writer, opened) =
        auditmon_journal::open(RealFs, options).map_err(|error| other(format!("journal: {error}")))?;
    tracing::info!(
        origin = opened.origin,
        entries = opened.next_seq,
        clean = opened.clean_stop,
        ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        "journal is open"
    );
    // Retention may run before a sink has said where it goes on: until then it holds everything.
    for plan in plans {
        if let Planned::Sink(name, plan) = plan {
            match plan.delivery.when_behind {
                WhenBehind::Block => writer.set_hold(name, 0),
                WhenBehind::Skip => writer.set_yielding_hold(name, 0),
            }
        }
    }
    let (tell, durable) = watch::channel(opened.next_seq);
    let handle = writer
        .spawn(Box::new(move |seq| {
            tell.send_replace(seq);
        }))
        .map_err(|error| other(format!("journal: its thread can't be started: {error}")))?;
    Ok((handle, opened.states, durable))
}

/// Everything that is started and ended together.
struct Parts {
    host: Arc<str>,
    data_dir: PathBuf,
    origin: Arc<str>,
    journal: Handle,
    hot: Arc<Hot>,
    states: StateMap,
    durable: watch::Receiver<u64>,
    telemetry: Telemetry,
    health: HealthBoard,
    keys: Arc<accounts::KeyRing>,
    reader: Option<Arc<dyn EventReader>>,
    memory: Arc<Semaphore>,
    /// Emitters refuse from here on.
    refuse: CancellationToken,
    /// Sources and services end.
    stop: CancellationToken,
    /// Sinks deliver what is left and end.
    drain: CancellationToken,
    /// Sinks end where they are.
    abort: CancellationToken,
    router: Router,
    sources: JoinSet<()>,
    services: JoinSet<()>,
    sinks: JoinSet<()>,
}

impl Parts {
    fn emitter(&self, plugin: &'static str, kind: Kind) -> Emitter {
        let (journal, refuse) = (self.journal.clone(), self.refuse.clone());
        Emitter::new(
            plugin,
            kind,
            self.host.clone(),
            journal,
            refuse,
            self.telemetry.sources.clone(),
        )
    }

    fn build_context(&self, name: &'static str, emitter: Option<Emitter>) -> BuildContext {
        BuildContext {
            host: self.host.clone(),
            data_dir: self.data_dir.clone(),
            origin: self.origin.clone(),
            metrics: self.telemetry.registry.clone(),
            keys: self.keys.clone(),
            reader: self.reader.clone(),
            health: self.health.reporter(name),
            memory: self.memory.clone(),
            routes: Router::new(),
            emitter,
        }
    }

    fn run_context(&self, name: &'static str, emitter: Emitter) -> RunContext {
        let states = self.states.get(&auditmon_journal::format::source_hash(name));
        let memory: Memory = states
            .into_iter()
            .flatten()
            .map(|(key, state)| {
                (
                    key.clone(),
                    (state.value.clone(), (state.expiry_ns > 0).then_some(state.expiry_ns)),
                )
            })
            .collect();
        RunContext {
            emitter,
            memory,
            stop: self.stop.clone(),
            health: self.health.reporter(name),
            changes: tokio::sync::mpsc::channel(1).1,
        }
    }

    /// Builds and starts a plugin; one that fails is reported, and the others go on.
    async fn start(&mut self, plan: Planned) {
        match plan {
            Planned::Sink(name, plan) => {
                let mut cx = self.build_context(name, None);
                if let Some(built) = self.built(name, plan.plan.build(&mut cx).await) {
                    self.router = std::mem::take(&mut self.router).merge(cx.routes);
                    if let Some(store) = built.reader {
                        self.reader = Some(Arc::new(Lookup::new(store, self.journal.clone())));
                    }
                    let driver = Driver {
                        name,
                        delivery: plan.delivery.clone(),
                        journal: self.journal.clone(),
                        hot: self.hot.clone(),
                        durable: self.durable.clone(),
                        drain: self.drain.clone(),
                        abort: self.abort.clone(),
                        health: cx.health,
                        telemetry: self.telemetry.clone(),
                        state: self.telemetry.sinks.state(name),
                        emitter: self.emitter(name, Kind::Agent),
                        data_dir: self.data_dir.clone(),
                        lag: built.lag,
                    };
                    self.sinks.spawn(async move {
                        driver.run(built.sink).await;
                    });
                }
            }
            Planned::Source(name, kind, plan) => {
                let emitter = self.emitter(name, kind);
                let mut cx = self.build_context(name, Some(emitter.clone()));
                if let Some(source) = self.built(name, plan.build(&mut cx).await) {
                    self.router = std::mem::take(&mut self.router).merge(cx.routes);
                    let run = self.run_context(name, emitter);
                    self.sources.spawn(supervisor::run(name, Runnable::Source(source), run));
                }
            }
            Planned::Service(name, plan) => {
                let emitter = self.emitter(name, Kind::Agent);
                let mut cx = self.build_context(name, Some(emitter.clone()));
                if let Some(service) = self.built(name, plan.build(&mut cx).await) {
                    self.router = std::mem::take(&mut self.router).merge(cx.routes);
                    let run = self.run_context(name, emitter);
                    self.services
                        .spawn(supervisor::run(name, Runnable::Service(service), run));
                }
            }
        }
    }

    fn built<P>(&self, name: &'static str, result: Result<P, auditmon_core::plugin::PluginError>) -> Option<P> {
        match result {
            Ok(plugin) => Some(plugin),
            Err(error) => {
                tracing::error!(plugin = name, "{error}");
                self.health.reporter(name).failed(error.to_string());
                None
            }
        }
    }

    /// Sources first, then the journal, then the sinks, under one deadline.
    async fn end(&mut self, own: &Emitter, journal: &Handle, version: &'static str) {
        let deadline = tokio::time::Instant::now() + STOP_DEADLINE;
        tracing::info!("stopping: sources hand over what they hold");
        self.stop.cancel();
        for group in [&mut self.sources, &mut self.services] {
            let joined = async { while group.join_next().await.is_some() {} };
            if tokio::time::timeout_at(deadline, joined).await.is_err() {
                tracing::warn!("a source or service did not end in time and is left behind");
                group.abort_all();
            }
        }
        agent_event(own, "agent.stop", version).await;
        self.refuse.cancel();
        tracing::info!("stopping: the journal is closed");
        let (handle, left) = (
            journal.clone(),
            deadline.saturating_duration_since(tokio::time::Instant::now()),
        );
        let closed = tokio::task::spawn_blocking(move || handle.close(left)).await;
        if !closed.unwrap_or(false) {
            tracing::warn!("the journal could not be closed in time; the next start recovers it");
        }
        tracing::info!("stopping: sinks deliver what is left");
        self.drain.cancel();
        let drained = async { while self.sinks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, drained).await.is_err() {
            tracing::warn!("a sink did not deliver everything in time; it goes on at the next start");
            self.abort.cancel();
            let ended = async { while self.sinks.join_next().await.is_some() {} };
            // One that hangs even now ends with the process.
            let _ = tokio::time::timeout(Duration::from_secs(1), ended).await;
        }
    }
}

/// One event of the agent about itself; that it can't be stored is logged, nothing more.
async fn agent_event(emitter: &Emitter, name: &str, version: &str) {
    let mut batch = emitter.agent_batch();
    let data = serde_json::json!({"version": version, "pid": std::process::id()}).to_string();
    let draft = Draft {
        outcome: Outcome::Success,
        data: Data::Raw(&data),
        ..Draft::new(name, "auditmon")
    };
    if batch.push(draft).is_err() {
        return;
    }
    let linger = Linger {
        max_wait: Duration::ZERO,
        max_bytes: 0,
    };
    let stored = tokio::time::timeout(Duration::from_secs(2), emitter.emit(batch, linger)).await;
    if !matches!(stored, Ok(Ok(_))) {
        tracing::warn!("the event {name} could not be stored");
    }
}
