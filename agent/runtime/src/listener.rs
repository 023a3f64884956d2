//! Connections: limits, time-outs, shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use auditmon_config::Http;
use auditmon_core::http::{NoAnswer, Secure};
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::guard::{Guarded, Patience, Phase};
use crate::mounts::Served;
use crate::prefix::Prefix;
use crate::request_id;
use crate::rest::Rest;
use crate::tls::Tls;

/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most header lines of a request.
const MAX_HEADERS: usize = 100;
/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// File descriptors that are not for connections.
const OWN_DESCRIPTORS: u64 = 256;
/// How long open connections may take to end once the agent has stopped.
const GRACE: Duration = Duration::from_secs(1);

const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The client's address, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Raises the soft limit of descriptors to what the connections need; gives how many connections fit.
pub(crate) fn fit_descriptors(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let need = wanted as u64 + OWN_DESCRIPTORS;
    let has = limit.current.unwrap_or(u64::MAX);
    if has >= need {
        return wanted;
    }
    let raised = need.min(limit.maximum.unwrap_or(u64::MAX));
    let has = match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(raised),
            maximum: limit.maximum,
        },
    ) {
        Ok(()) => raised,
        Err(_) => has,
    };
    let fits = usize::try_from(has.saturating_sub(OWN_DESCRIPTORS))
        .unwrap_or(wanted)
        .clamp(1, wanted);
    if fits < wanted {
        tracing::warn!(
            wanted,
            fits,
            "the limit of open files (ulimit -n) allows fewer connections than `max_connections` of the listeners"
        );
    }
    fits
}

/// What a listener serves, and how.
pub(crate) struct Service {
    pub(crate) routes: Served,
    pub(crate) settings: Arc<Http>,
    /// Most connections at once.
    pub(crate) places: usize,
    /// Without it: plain HTTP.
    pub(crate) tls: Option<Arc<Tls>>,
    /// The path of `http.root_url`.
    pub(crate) prefix: Prefix,
}

/// Serves until `stop` fires, then lets open requests end.
pub(crate) async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let settings = &service.settings;
    let places = Arc::new(Semaphore::new(service.places));
    let http = protocol(settings);
    let patience = Patience {
        head: settings.head_timeout.0,
        idle: settings.idle_timeout.0,
        answer: settings.body_timeout.0,
    };
    let following = service
        .tls
        .as_ref()
        .map(|tls| tokio::spawn(Arc::clone(tls).follow(stop.clone())));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tokio::spawn(turn_away(stream, service.tls.is_some()));
            continue;
        };
        // Small answers go out at once; a platform that can't do that still works.
        let _ = stream.set_nodelay(true);
        let requests = Requests {
            routes: service.routes.clone(),
            prefix: service.prefix.clone(),
            phase: Phase::new(),
            patience: patience.answer,
            peer,
            secure: service.tls.is_some() || service.prefix.is_https(),
        };
        let watcher = graceful.watcher();
        let http = http.clone();
        match &service.tls {
            None => {
                let guarded = Guarded::new(stream, requests.phase.clone(), patience);
                tokio::spawn(connection(guarded, requests, http, watcher, place));
            }
            Some(tls) => {
                let acceptor = tls.acceptor();
                tokio::spawn(async move {
                    // A head's time begins with the connection: what the handshake takes is not given again.
                    let shaken = tokio::time::timeout(patience.head, acceptor.accept(stream)).await;
                    if let Ok(Ok(stream)) = shaken {
                        let guarded = Guarded::new(stream, requests.phase.clone(), patience);
                        connection(guarded, requests, http, watcher, place).await;
                    }
                });
            }
        }
    }
    drop(listener);
    // What has not ended by then is closed.
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    if let Some(following) = following {
        following.abort();
    }
}

fn protocol(settings: &Http) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // Two time-outs of our own take its place: see `guard`.
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(Some(settings.idle_timeout.0))
        .keep_alive_timeout(settings.body_timeout.0);
    builder
}

/// The requests of one connection.
struct Requests {
    routes: Served,
    prefix: Prefix,
    phase: Phase,
    /// For a body that nobody reads.
    patience: Duration,
    peer: SocketAddr,
    secure: bool,
}

async fn connection<S>(
    stream: Guarded<S>,
    requests: Requests,
    http: auto::Builder<TokioExecutor>,
    watcher: Watcher,
    place: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let work = requests.phase.request();
        let routes = requests.routes.clone();
        let mut request = match request.version() {
            Version::HTTP_2 => {
                let work = requests.phase.request();
                request.map(|body| Body::new(Rest::new(body, work, requests.patience)))
            }
            _ => request.map(Body::new),
        };
        requests.prefix.strip(request.uri_mut());
        request.extensions_mut().insert(Peer(requests.peer));
        if requests.secure {
            request.extensions_mut().insert(Secure);
        }
        if let Some(base) = requests.prefix.base() {
            request.extensions_mut().insert(base);
        }
        let id = request_id::of(request.headers());
        let answered = async move {
            let response = routes.answer(request).await;
            drop(work);
            if response.extensions().get::<NoAnswer>().is_some() {
                return Err(io::Error::other("no answer"));
            }
            Ok(response)
        };
        request_id::around(id, answered)
    });
    let connection = watcher.watch(http.serve_connection(TokioIo::new(stream), service).into_owned());
    // How a connection ends is the client's business: time-outs and resets are no faults of ours.
    let _ = connection.await;
    drop(place);
}

/// Waits a little where the system has no descriptors left; other faults concern one client only.
async fn refused(error: &io::Error) {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    if error
        .raw_os_error()
        .is_some_and(|code| exhausted.iter().any(|e| e.raw_os_error() == code))
    {
        tracing::warn!(%error, "connections can't be accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn turn_away(mut stream: TcpStream, tls: bool) {
    // An answer would cost the handshake that there is no place for.
    if tls {
        return;
    }
    // The client may be gone already.
    let _ = tokio::time::timeout(GRACE, stream.write_all(TOO_MANY)).await;
}
