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
use auditmon_core::privileged::Control;
use auditmon_core::time;
use auditmon_journal::{DirLock, Handle, LockError, RealFs};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::accounts::{self, Accounts};
use crate::admin::{self, Admin, Commands, Reloaded};
use crate::agent::{Agent, FirstStart, Inner, Running, Setup, StartError, Started, store, tell};
use crate::erase::{self, Eraser, Erasure, Refusal};
use crate::expose::Registries;
use crate::hot::Hot;
use crate::listeners::{self, Further, Places};
use crate::mounts::{Mounts, Named};
use crate::parts::Parts;
use crate::plan::{Plans, Recipe};
use crate::plugins::Plugins;
use crate::prefix::Prefix;
use crate::prepare::Prepared;
use crate::protect::Protect;
use crate::reader::StoreReader;
use crate::remembered::Remembered;
use crate::routes::{self, Shared};
use crate::telemetry::{AgentCollector, CountRequests, Telemetry};
use crate::tls::{ReadFile, Tls, TlsFiles};
use crate::{listener, logkey, notes, remembered, rollback, scratch, teller};

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
    let Setup {
        prepared,
        privileges,
        version,
        load,
        set_logging,
    } = setup;
    let Prepared {
        loaded,
        data_dir,
        entries,
        plans,
    } = prepared;
    let control = &privileges.control;
    make_data_dir(&data_dir)?;
    let lock = lock(&data_dir)?;
    scratch::keep_in(&data_dir).await;
    let http = Arc::new(loaded.settings.http.clone());
    let (socket, listen) = listeners::bind("http.listen", http.listen, control)?;
    let tls = open_tls(tls_files("http.tls", &http.tls), control).await?;
    let further = listeners::open(&http, control).await?;
    let prefix = match &http.root_url {
        Some(url) => Prefix::parse(url).map_err(|says| StartError::Config(format!("http.root_url: {says}")))?,
        None => Prefix::default(),
    };
    let root = root_url(&http, listen);
    let admin_socket = admin::bind(&data_dir).map_err(|error| StartError::DataDir {
        path: data_dir.join(admin::SOCKET),
        why: error.to_string(),
    })?;
    let remembered = remembered::ask(&plans, &data_dir).await;
    let (journal, durable) = open_journal(&data_dir, &loaded, &plans, remembered)?;

    // After everything that may fail: a key that was made and never shown would be lost.
    let mut accounts = Accounts::open(&data_dir).await?;
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

    let telemetry = Telemetry::new(version).map_err(other)?;
    let counted = Arc::new(telemetry.clone());
    let parts = Arc::new(Parts {
        host: loaded.host.as_str().into(),
        data_dir: data_dir.clone(),
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
        privileges,
        reader: StoreReader::default(),
        memory: Arc::new(Semaphore::new(
            usize::try_from(http.memory.0).unwrap_or(usize::MAX >> 4) / MEMORY_PERMIT,
        )),
        mounts: Mounts::new(
            move |router| router.layer(CountRequests(counted.clone())),
            further.iter().map(Further::named).chain([Named::admin()]).collect(),
        ),
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
    for (part, routes) in routes::routers(&shared) {
        parts.mounts.set(part, routes).map_err(other)?;
    }
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

    let own = parts.emitter(erase::MEMORY, Kind::Agent, parts.refuse.clone());
    let begun = ("agent.start", Outcome::Success, Severity::Info);
    tell(&own, begun, &identity(version)).await;
    // Before any sink is given what was declared erased.
    let undone = Eraser::recall(&parts, &parts.recall(erase::MEMORY).await);
    let eraser = Arc::new(Eraser::new(parts.clone(), own.clone()));
    plugins.start_all(plans).await;

    let close = CancellationToken::new();
    let places = Places::new(&http);
    let service = listener::Service {
        routes: parts.mounts.shared(),
        places: places.share(http.max_connections),
        settings: http.clone(),
        tls: tls.clone(),
        prefix: prefix.clone(),
    };
    let listening = listener::serve(socket, service, close.clone());
    let telling = teller::run(
        parts.health.clone(),
        parts.telemetry.sinks.clone(),
        own.clone(),
        stopping.clone(),
    );
    let mut serving = vec![AbortOnDropHandle::new(tokio::spawn(listening))];
    let further_tls = further.iter().filter_map(Further::tls).collect();
    let begin = |further: Further| further.serve(&parts.mounts, &http, places, &prefix, close.clone());
    serving.extend(further.into_iter().map(begin));
    let completing = Arc::clone(&eraser);
    let helpers = vec![
        AbortOnDropHandle::new(tokio::spawn(async move { completing.complete(undone).await })),
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
            data_dir,
            journal: parts.journal.clone(),
            durable: parts.durable.clone(),
            keys,
            commands: Arc::new(Commander(inner.clone())),
            root_url: root,
            mounts: parts.mounts.clone(),
        };
        let commanded = admin::serve(admin_socket, admin, close.clone());
        serving.push(AbortOnDropHandle::new(tokio::spawn(commanded)));
        Inner {
            version,
            since: time::now(),
            entries,
            load,
            set_logging,
            parts,
            own,
            eraser,
            protect,
            stopping,
            view: plugins.view(),
            reloads: Mutex::default(),
            running: tokio::sync::Mutex::new(Running {
                started: loaded.clone(),
                loaded,
                plugins,
                close,
                serving,
                tls,
                further_tls,
                helpers,
                lock: Some(lock),
            }),
        }
    });
    Ok((Agent(inner), started))
}

/// What commands may ask for through the admin socket.
struct Commander(Weak<Inner>);

#[async_trait]
impl Commands for Commander {
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
        let (journal, own, reason) = (inner.parts.journal.clone(), inner.own.clone(), reason.to_owned());
        let runtime = tokio::runtime::Handle::current();
        let accepted = tokio::task::spawn_blocking(move || {
            rollback::accept(&journal, &reason, |about, data| {
                runtime.block_on(store(&own, about, data))
            })
        });
        accepted.await.map_err(|error| error.to_string())??;
        // Starts those that were given up.
        Agent(inner).reload("auditmon journal accept-rollback").await;
        Ok(())
    }

    async fn erase(&self, event_id: &str, reason: &str) -> Result<Erasure, Refusal> {
        match self.0.upgrade() {
            Some(inner) => inner.eraser.erase(event_id, reason).await,
            None => Err(Refusal::Conflict("the agent ends".to_owned())),
        }
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
pub(crate) fn tls_files(section: &str, tls: &auditmon_config::Tls) -> Option<TlsFiles> {
    let (cert, key) = tls.files()?;
    Some(TlsFiles {
        section: section.to_owned(),
        cert: cert.to_owned(),
        key: key.to_owned(),
        client_ca: tls.client_ca_file.clone(),
    })
}

/// Reads certificate and key, if there are to be any.
pub(crate) async fn open_tls(files: Option<TlsFiles>, control: &Control) -> Result<Option<Arc<Tls>>, StartError> {
    let Some(files) = files else { return Ok(None) };
    // They may be root's alone, and are read again while the agent runs.
    let control = control.clone();
    let read: ReadFile = Arc::new(move |path| Ok(control.read_file(path)?));
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
pub(crate) fn journal_options(data_dir: &Path, loaded: &Loaded) -> auditmon_journal::Options {
    let settings = &loaded.settings.journal;
    let mut options = auditmon_journal::Options::new(data_dir, &loaded.host, notes::writer(loaded.host.clone()));
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
    loaded: &Loaded,
    plans: &Plans,
    remembered: Remembered,
) -> Result<(Handle, watch::Receiver<u64>), StartError> {
    let mut options = journal_options(data_dir, loaded);
    options.remembered = remembered;
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
