//! The admin socket: how commands speak to the running agent.
//!
//! A unix socket `admin.sock` in the data directory, HTTP/1.1, for root and for the user that the agent runs as; the
//! peer's uid is asked of the kernel, so no key is needed.

mod follow;

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::http::{LocalUser, Problem};
use auditmon_core::plugin::ADMIN;
use auditmon_journal::Handle;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, http::header};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::accounts::{Accounts, KeyRing};
use crate::erase::{Erasure, Refusal};
use crate::mounts::Mounts;
use crate::routes::parameters;

/// The socket's name in the data directory.
pub const SOCKET: &str = ADMIN;
/// Most commands at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// How long a command may take to say what it wants.
const HEAD: Duration = Duration::from_secs(5);

/// What the agent does when it is asked to.
#[async_trait]
pub trait Commands: Send + Sync + 'static {
    /// What `auditmon status` shows. May wait for the disk.
    fn status(&self) -> serde_json::Value;
    /// Reads the configuration again.
    async fn reload(&self) -> Reloaded;
    /// Hands a sink's dead letters over again.
    ///
    /// # Errors
    /// A sentence: there is no such sink, or it is not at work.
    async fn replay(&self, sink: &str) -> Result<(), String>;
    /// Makes a new key for checkpoints, or with `finish` drops the former one; returns the verifier key.
    ///
    /// # Errors
    /// A sentence: it is not the time for it, or a file can't be written.
    async fn rotate_log_key(&self, finish: bool) -> Result<String, String>;
    /// Accepts that the journal goes on as a new generation, and starts the sinks that wait for it.
    ///
    /// # Errors
    /// A sentence: there is nothing to accept, or it can't be written.
    async fn accept_rollback(&self, reason: &str) -> Result<(), String>;
    /// Erases one event.
    ///
    /// # Errors
    /// There is no such event, or it can't be erased.
    async fn erase(&self, event_id: &str, reason: &str) -> Result<Erasure, Refusal>;
}

/// How a reload went.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reloaded {
    /// Whether the new configuration is at work, except for what is pending.
    pub ok: bool,
    /// Paths of keys that took effect.
    pub changed: Vec<String>,
    /// Paths of keys that need a restart of the agent.
    pub pending: Vec<String>,
    /// Faults, a line each; with any, nothing has changed unless `changed` says so.
    pub errors: Vec<String>,
}

/// Where the page is opened.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PageAddress {
    /// Opens it once.
    pub url: String,
}

/// The key that signs checkpoints.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LogKey {
    /// Its verifier key.
    pub vkey: String,
}

/// What the socket needs.
pub(crate) struct Admin {
    pub(crate) data_dir: PathBuf,
    pub(crate) journal: Handle,
    pub(crate) durable: watch::Receiver<u64>,
    pub(crate) commands: Arc<dyn Commands>,
    pub(crate) keys: Arc<KeyRing>,
    /// Where people reach the page, without a slash at its end.
    pub(crate) root_url: String,
    /// Routes of plugins for commands of theirs.
    pub(crate) mounts: Mounts,
}

/// The socket's path as a short one: a data directory may lie deeper than the 108 bytes that a socket's address has.
fn through_directory(data_dir: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    let directory = std::fs::File::open(data_dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
    Ok((directory, path))
}

/// Makes the socket; who has the data directory's lock may take the place of one that was left behind.
///
/// # Errors
/// The directory can't be written.
pub(crate) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let (_directory, path) = through_directory(data_dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the agent that runs on this data directory.
///
/// # Errors
/// None runs there, or it belongs to somebody else.
pub async fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let (_directory, path) = through_directory(data_dir)?;
    UnixStream::connect(path).await
}

/// Serves until `stop`, then takes the socket away.
pub(crate) async fn serve(listener: UnixListener, admin: Admin, stop: CancellationToken) {
    let data_dir = admin.data_dir.clone();
    let router = router(admin, stop.clone());
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let own = rustix::process::geteuid().as_raw();
    loop {
        // Never closed.
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin socket can't accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let allowed = stream.peer_cred().ok().filter(|peer| [0, own].contains(&peer.uid()));
        let Some(peer) = allowed else {
            tracing::warn!("a command of another user was turned away from the admin socket");
            continue;
        };
        let router = router.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(LocalUser(peer.uid()));
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let stop = stop.clone();
        tokio::spawn(async move {
            // A command that goes away is no fault of ours; one that follows events ends with the agent.
            let _ = stop.run_until_cancelled(connection).await;
            drop(place);
        });
    }
    if let Ok((_directory, path)) = through_directory(&data_dir) {
        // The next start would take its place anyhow.
        let _ = std::fs::remove_file(path);
    }
}

fn router(admin: Admin, stop: CancellationToken) -> Router {
    let of_plugins = admin.mounts.named(ADMIN).into_router();
    let admin = Arc::new(admin);
    Router::new()
        .route("/status", get(status))
        .route("/reload", post(reload))
        .route("/page", post(page))
        .route("/dlq/{sink}/replay", post(replay))
        .route("/journal/accept-rollback", post(accept_rollback))
        .route("/journal/erase", post(erase))
        .route("/keys/log/rotate", post(|admin| rotate(admin, false)))
        .route("/keys/log/finish", post(|admin| rotate(admin, true)))
        .with_state(Arc::clone(&admin))
        .route("/events", get(move |query| follow::follow(admin, stop, query)))
        .fallback_service(of_plugins)
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let commands = Arc::clone(&admin.commands);
    match tokio::task::spawn_blocking(move || commands.status()).await {
        Ok(status) => Json(status).into_response(),
        Err(error) => failed(error),
    }
}

async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    let commands = Arc::clone(&admin.commands);
    // It goes on when the command is interrupted: half a reload is worse than one.
    match tokio::spawn(async move { commands.reload().await }).await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(error) => failed(error),
    }
}

async fn replay(State(admin): State<Arc<Admin>>, axum::extract::Path(sink): axum::extract::Path<String>) -> Response {
    match admin.commands.replay(&sink).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => Problem::new(StatusCode::NOT_FOUND, "not_found", why).into_response(),
    }
}

async fn rotate(State(admin): State<Arc<Admin>>, finish: bool) -> Response {
    match admin.commands.rotate_log_key(finish).await {
        Ok(vkey) => Json(LogKey { vkey }).into_response(),
        Err(why) => Problem::new(StatusCode::CONFLICT, "refused", why).into_response(),
    }
}

async fn accept_rollback(State(admin): State<Arc<Admin>>, RawQuery(raw): RawQuery) -> Response {
    let pairs = match parameters(raw.as_deref().unwrap_or_default()) {
        Ok(pairs) => pairs,
        Err(problem) => return problem.into_response(),
    };
    let reason = pairs
        .into_iter()
        .find_map(|(name, value)| (name == "reason").then_some(value));
    let commands = Arc::clone(&admin.commands);
    // It goes on when the command is interrupted.
    let accepted = tokio::spawn(async move { commands.accept_rollback(&reason.unwrap_or_default()).await });
    match accepted.await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(why)) => Problem::new(StatusCode::CONFLICT, "refused", why).into_response(),
        Err(error) => failed(error),
    }
}

async fn erase(State(admin): State<Arc<Admin>>, RawQuery(raw): RawQuery) -> Response {
    let pairs = match parameters(raw.as_deref().unwrap_or_default()) {
        Ok(pairs) => pairs,
        Err(problem) => return problem.into_response(),
    };
    let value = |name: &str| {
        let found = pairs.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (event_id, reason) = (value("event_id"), value("reason"));
    let commands = Arc::clone(&admin.commands);
    // It goes on when the command is interrupted.
    match tokio::spawn(async move { commands.erase(&event_id, &reason).await }).await {
        Ok(Ok(erasure)) => Json(erasure).into_response(),
        Ok(Err(refusal)) => {
            let (status, code, why) = match refusal {
                Refusal::Wrong(why) => (StatusCode::BAD_REQUEST, "invalid_parameter", why),
                Refusal::Unknown(why) => (StatusCode::NOT_FOUND, "not_found", why),
                Refusal::Conflict(why) => (StatusCode::CONFLICT, "refused", why),
            };
            Problem::new(status, code, why).into_response()
        }
        Err(error) => failed(error),
    }
}

async fn page(State(admin): State<Arc<Admin>>) -> Response {
    let token = async { Accounts::open(&admin.data_dir).await?.page_token().await };
    match token.await {
        Ok(token) => {
            // The address is good once it is printed.
            admin.keys.look().await;
            let url = format!("{}/open?token={token}", admin.root_url);
            ([(header::CACHE_CONTROL, "no-store")], Json(PageAddress { url })).into_response()
        }
        Err(error) => failed(error),
    }
}

fn failed(error: impl std::fmt::Display) -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", error.to_string()).into_response()
}
