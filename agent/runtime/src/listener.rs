//! Connections: limits, time-outs, shutdown.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use auditmon_config::Http;
use auditmon_core::http::NoAnswer;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::guard::{Guarded, Patience, Phase};
use crate::rest::Rest;

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
pub struct Peer(#[allow(dead_code, reason = "for request logs")] pub SocketAddr);

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
            "the limit of open files (ulimit -n) allows fewer connections than http.max_connections"
        );
    }
    fits
}

/// Serves until `stop` fires, then lets open requests end.
pub(crate) async fn serve(listener: TcpListener, router: Router, settings: Arc<Http>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(fit_descriptors(settings.max_connections)));
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
    let patience = Patience {
        head: settings.head_timeout.0,
        idle: settings.idle_timeout.0,
        answer: settings.body_timeout.0,
    };
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
            tokio::spawn(turn_away(stream));
            continue;
        };
        // Small answers go out at once; a platform that can't do that still works.
        let _ = stream.set_nodelay(true);
        let phase = Phase::new();
        let guarded = Guarded::new(stream, phase.clone(), patience);
        let router = router.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let work = phase.request();
            let mut request = match request.version() {
                Version::HTTP_2 => request.map(|body| Body::new(Rest::new(body, phase.request(), patience.answer))),
                _ => request.map(Body::new),
            };
            let router = router.clone();
            async move {
                request.extensions_mut().insert(Peer(peer));
                let Ok(response) = router
                    .oneshot(request)
                    .await
                    .map_err(|never: Infallible| match never {});
                drop(work);
                if response.extensions().get::<NoAnswer>().is_some() {
                    return Err(io::Error::other("no answer"));
                }
                Ok(response)
            }
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(guarded), service).into_owned());
        tokio::spawn(async move {
            // How a connection ends is the client's business: time-outs and resets are no faults of ours.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    // What has not ended by then is closed.
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
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

async fn turn_away(mut stream: TcpStream) {
    // The client may be gone already.
    let _ = tokio::time::timeout(GRACE, stream.write_all(TOO_MANY)).await;
}
