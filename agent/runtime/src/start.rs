//! The start: lock, listener's socket, journal, accounts, plugins, routes.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auditmon_config::{Http, Loaded};
use auditmon_core::delivery::WhenBehind;
use auditmon_core::event::{Kind, Outcome, Severity};
use auditmon_core::health::{HealthBoard, State};
use auditmon_core::plugin::MEMORY_PERMIT;
use auditmon_core::time;
use auditmon_journal::{DirLock, Handle, LockError, RealFs};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::accounts::{self, Accounts};
use crate::admin::{self, Admin, Commands, Reloaded};
use crate::agent::{Agent, FirstStart, Inner, Running, Setup, StartError, Started, tell};
use crate::expose::Registries;
use crate::hot::Hot;
use crate::mounts::Mounts;
use crate::parts::Parts;
use crate::plan::{self, Plans, Recipe};
use crate::plugins::Plugins;
use crate::prefix::Prefix;
use crate::protect::Protect;
use crate::reader::StoreReader;
use crate::routes::{self, Shared};
use crate::telemetry::{self, AgentCollector, Telemetry};
use crate::tls::{ReadFile, Tls, TlsFiles};
use crate::{listener, logkey, notes, rollback, teller};

/// How long the start waits for plugins to say that they are at work, or why not, before it tells of them.
const SETTLE: Duration = Duration::from_millis(500);
/// Largest share of a volume that the journal takes unless told.
const VOLUME_SHARE: f64 = 0.8;
/// Largest journal unless told.
const DEFAULT_MAX: u64 = 10 << 30;

pub(crate) fn other(error: impl std::fmt::Display) -> StartError {
    StartError::Other(error.to_string())
}

/// Makes the data directory, readable by its owner only.
///
/// # Errors
/// [`StartError::DataDir`].
pub fn make_data_dir(path: &Path) -> Result<(), StartError> {
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

/// See [`Agent::start`].
pub(crate) async fn start(setup: Setup) -> Result<(Agent, Started), StartError> {
    let loaded = Arc::new(setup.loaded);
    let plans = plan::all(&loaded, &setup.entries).map_err(|errors| StartError::Config(errors.join("\n")))?;
    make_data_dir(&setup.data_dir)?;
    let lock = lock(&setup.data_dir)?;
    let http = Arc::new(loaded.settings.http.clone());
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
    let (journal, durable) = open_journal(&setup.data_dir, &setup.host, &loaded, &plans)?;

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

    let telemetry = Telemetry::new(setup.version).map_err(other)?;
    let counted = Arc::new(telemetry.clone());
    let parts = Arc::new(Parts {
        host: setup.host.as_str().into(),
        data_dir: setup.data_dir.clone(),
        origin: journal.origin().into(),
        hot: Arc::new(Hot::new(
            journal.clone(),
            usize::try_from(loaded.settings.journal.hot.0).unwrap_or(usize::MAX),
        )),
        journal: journal.clone(),
        durable,
        registries: Registries::new(telemetry.registry.clone()),
        telemetry,
        health: HealthBoard::default(),
        keys: keys.clone(),
        reader: StoreReader::default(),
        memory: Arc::new(Semaphore::new(
            usize::try_from(http.memory.0).unwrap_or(usize::MAX >> 4) / MEMORY_PERMIT,
        )),
        mounts: Mounts::new(move |router| {
            let count = axum::middleware::from_fn_with_state(counted.clone(), telemetry::count_requests);
            router.layer(count)
        }),
        refuse: CancellationToken::new(),
    });
    let stopping = CancellationToken::new();
    let protect = Arc::new(Protect::new(&http));
    let shared = Shared {
        parts: parts.clone(),
        stopping: stopping.clone(),
        protect: protect.clone(),
    };
    // First, so that no plugin can take their place.
    parts.mounts.set("", routes::router(shared)).map_err(other)?;
    let mut plugins = Plugins::new(parts.clone());
    let collector = AgentCollector::new(
        journal,
        parts.health.clone(),
        plugins.view(),
        parts.telemetry.sinks.clone(),
    )
    .map_err(other)?;
    let registry = &parts.telemetry.registry;
    registry.register(Box::new(collector)).map_err(other)?;

    let own = parts.emitter("auditmon", Kind::Agent, parts.refuse.clone());
    let begun = ("agent.start", Outcome::Success, Severity::Info);
    tell(&own, begun, &identity(setup.version)).await;
    plugins.start_all(plans).await;

    let close = CancellationToken::new();
    let service = listener::Service {
        router: parts.mounts.router(),
        settings: http,
        tls: tls.clone(),
        prefix,
    };
    let listening = listener::serve(socket, service, close.clone());
    let telling = teller::run(
        parts.health.clone(),
        parts.telemetry.sinks.clone(),
        own.clone(),
        stopping.clone(),
    );
    let listening = AbortOnDropHandle::new(tokio::spawn(listening));
    let helpers = vec![
        AbortOnDropHandle::new(tokio::spawn(follow)),
        AbortOnDropHandle::new(tokio::spawn(telling)),
    ];
    settle(&parts.health).await;
    let started = Started {
        first,
        listen,
        root_url: root.clone(),
        plugins: parts.health.all(),
    };
    let inner = Arc::new_cyclic(|inner| {
        let admin = Admin {
            data_dir: setup.data_dir,
            journal: parts.journal.clone(),
            durable: parts.durable.clone(),
            keys,
            commands: Arc::new(Control(inner.clone())),
            root_url: root,
        };
        let commanded = admin::serve(admin_socket, admin, close.clone());
        Inner {
            version: setup.version,
            since: time::now(),
            entries: setup.entries,
            load: setup.load,
            set_logging: setup.set_logging,
            parts,
            own,
            protect,
            stopping,
            view: plugins.view(),
            reloads: Mutex::default(),
            running: tokio::sync::Mutex::new(Running {
                started: loaded.clone(),
                loaded,
                plugins,
                close,
                serving: vec![listening, AbortOnDropHandle::new(tokio::spawn(commanded))],
                tls,
                helpers,
                lock: Some(lock),
            }),
        }
    });
    Ok((Agent(inner), started))
}

/// What commands may ask for through the admin socket.
struct Control(Weak<Inner>);

#[async_trait]
impl Commands for Control {
    fn status(&self) -> serde_json::Value {
        let status = self.0.upgrade().map(|inner| Agent(inner).status());
        serde_json::to_value(status).unwrap_or_default()
    }

    async fn reload(&self) -> Reloaded {
        match self.0.upgrade() {
            Some(inner) => Agent(inner).reload("auditmon reload").await.into(),
            None => Reloaded::default(),
        }
    }

    async fn replay(&self, sink: &str) -> Result<(), String> {
        let poked = self
            .0
            .upgrade()
            .is_some_and(|inner| inner.parts.telemetry.sinks.poke(sink));
        if poked {
            Ok(())
        } else {
            Err(format!("there is no sink `{sink}` at work"))
        }
    }

    async fn accept_rollback(&self, reason: &str) -> Result<(), String> {
        let Some(inner) = self.0.upgrade() else {
            return Err("the agent ends".to_owned());
        };
        rollback::check(reason)?;
        let about = rollback::data(inner.parts.journal.origin(), reason);
        let (journal, reason) = (inner.parts.journal.clone(), reason.to_owned());
        let accepted = tokio::task::spawn_blocking(move || rollback::accept(&journal, &reason)).await;
        accepted.map_err(|error| error.to_string())??;
        inner.tell(rollback::ACCEPTED, &about).await;
        // Starts those that were given up.
        Agent(inner).reload("auditmon journal accept-rollback").await;
        Ok(())
    }

    async fn rotate_log_key(&self, finish: bool) -> Result<String, String> {
        let Some(inner) = self.0.upgrade() else {
            return Err("the agent ends".to_owned());
        };
        let journal = inner.parts.journal.clone();
        let changed = tokio::task::spawn_blocking(move || logkey::change(&journal, finish)).await;
        let vkey = changed.map_err(|error| error.to_string())??;
        inner.tell(logkey::about(finish), &logkey::data(&vkey)).await;
        Ok(vkey)
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

/// Certificate and key, if there are to be any.
pub(crate) fn tls_files(http: &Http) -> Option<TlsFiles> {
    let (cert, key) = http.tls.files()?;
    Some(TlsFiles {
        cert: cert.to_owned(),
        key: key.to_owned(),
        client_ca: http.tls.client_ca_file.clone(),
    })
}

/// Reads certificate and key, if there are to be any.
async fn open_tls(http: &Http) -> Result<Option<Arc<Tls>>, StartError> {
    let Some(files) = tls_files(http) else { return Ok(None) };
    let read: ReadFile = Arc::new(|path| std::fs::read(path));
    let tls = tokio::task::spawn_blocking(move || Tls::load(files, read))
        .await
        .map_err(other)?;
    tls.map(|tls| Some(Arc::new(tls)))
        .map_err(|error| StartError::Config(error.to_string()))
}

/// What the events of start and end say.
pub(crate) fn identity(version: &str) -> serde_json::Value {
    serde_json::json!({"version": version, "pid": std::process::id()})
}

async fn settle(health: &HealthBoard) {
    let mut changes = health.changes();
    let settled = async {
        while health.all().values().any(|plugin| plugin.state == State::Starting) {
            if changes.changed().await.is_err() {
                break;
            }
        }
    };
    // Who has said nothing by then is starting.
    let _ = tokio::time::timeout(SETTLE, settled).await;
}

pub(crate) fn lock(data_dir: &Path) -> Result<DirLock, StartError> {
    DirLock::acquire(data_dir).map_err(|error| match error {
        LockError::Held { pid, command } => StartError::Held {
            path: data_dir.to_owned(),
            pid,
            command,
        },
        LockError::Io(error) => StartError::DataDir {
            path: data_dir.to_owned(),
            why: error.to_string(),
        },
    })
}

/// What the configuration says about the journal.
pub(crate) fn journal_options(data_dir: &Path, host: &str, loaded: &Loaded) -> auditmon_journal::Options {
    let settings = &loaded.settings.journal;
    let mut options = auditmon_journal::Options::new(data_dir, host, notes::writer(host.to_owned()));
    options.segment_size = settings.segment_size.0;
    options.reserve = settings.reserve.0;
    options.keep_age = settings.keep.age.0;
    options.keep_size = settings.keep.size.0;
    options.checkpoint_interval = settings.checkpoint_interval.0;
    options.max_size = settings.max_size.map_or_else(
        || {
            let volume = rustix::fs::statvfs(data_dir).map_or(u64::MAX, |v| v.f_blocks.saturating_mul(v.f_frsize));
            DEFAULT_MAX.min((volume as f64 * VOLUME_SHARE) as u64)
        },
        |size| size.0,
    );
    options
}

fn open_journal(
    data_dir: &Path,
    host: &str,
    loaded: &Loaded,
    plans: &Plans,
) -> Result<(Handle, watch::Receiver<u64>), StartError> {
    let options = journal_options(data_dir, host, loaded);
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
    for planned in &plans.on {
        if let Recipe::Sink(plan) = &planned.recipe {
            match plan.delivery.when_behind {
                WhenBehind::Block => writer.set_hold(planned.name, 0),
                WhenBehind::Skip => writer.set_yielding_hold(planned.name, 0),
            }
        }
    }
    let (tell, durable) = watch::channel(opened.next_seq);
    let handle = writer
        .spawn(Box::new(move |seq| {
            tell.send_replace(seq);
        }))
        .map_err(|error| other(format!("journal: its thread can't be started: {error}")))?;
    Ok((handle, durable))
}
