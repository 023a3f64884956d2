//! The monitoring server: paths, codes and bodies of the replaced auditors, on the listener of the program's name.
//! Nothing of the command line or the configuration is shown, where upstream shows all of its arguments.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use auditmon_core::process::ProcessCollector;
use auditmon_core::time;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::{Encoder as _, Registry, TEXT_FORMAT, TextEncoder};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::{Compat, Program};
use crate::client::{Client, Fault};

/// A server that was asked so short a time ago isn't asked again.
const FRESH: Duration = Duration::from_secs(1);
/// So many intervals without the end of a tick, and the auditor counts as dead.
const DEAD_AFTER: u32 = 3;
/// Headers that upstream allows scripts of other pages to send.
const HEADERS: &str = "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, \
                       Access-Control-Allow-Origin, Access-Control-Allow-Methods, Access-Control-Allow-Credentials";

/// Asks a server how it is, on a connection of its own.
pub(crate) struct Probe {
    client: Client,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Probe {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            last: Mutex::default(),
        }
    }

    /// However many ask, the server is asked once a second at most.
    async fn ask(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = match self.client.health().await {
            Ok(answer) if answer.message.status => Ok(()),
            Ok(_) => Err("unhealthy".to_owned()),
            Err(fault) => {
                if matches!(fault, Fault::Unreachable(_) | Fault::Timeout(_)) {
                    // A connection that is dead without saying so would not come back by itself.
                    self.client.reconnect();
                }
                Err(error(&fault))
            }
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// An error as gRPC's library for Go writes it.
fn error(fault: &Fault) -> String {
    let code = match fault {
        Fault::Unreachable(_) | Fault::Busy(_) => "Unavailable",
        Fault::Timeout(_) => "DeadlineExceeded",
        Fault::Unimplemented => "Unimplemented",
        _ => "Unknown",
    };
    format!("rpc error: code = {code} desc = {fault}")
}

/// What the routes look at.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Inner>);

struct Inner {
    compat: Arc<Compat>,
    probes: Vec<Probe>,
    /// Of the plugin.
    metrics: Registry,
    /// Of the process.
    process: Registry,
}

/// What `/version` says. Fields that upstream leaves out when they are empty are left out.
#[derive(Serialize)]
struct Version {
    component: &'static str,
    version: &'static str,
    buildtime: &'static str,
    #[serde(rename = "static")]
    linked: bool,
    fips: bool,
}

impl Routes {
    /// # Errors
    /// None that a caller could cause: names are constants.
    pub(crate) fn new(compat: Arc<Compat>, probes: Vec<Probe>, metrics: Registry) -> Result<Self, prometheus::Error> {
        let process = Registry::new();
        process.register(Box::new(ProcessCollector::new()?))?;
        Ok(Self(Arc::new(Inner {
            compat,
            probes,
            metrics,
            process,
        })))
    }

    /// The routes, for the listener of the program's name.
    pub(crate) fn router(self) -> Router {
        match self.0.compat.config.program {
            Program::Immuclient => Router::new()
                .route("/initz", any(ready))
                .route("/readyz", any(ready))
                .route("/livez", any(alive))
                .route("/version", any(version))
                .route("/debug/vars", any(variables))
                // As upstream has it, metrics are what every other path shows.
                .fallback(metrics)
                .layer(from_fn(for_all))
                .with_state(self),
            Program::Immugw => Router::new()
                .route("/metrics", any(metrics))
                .route("/debug/vars", any(variables))
                .route("/lastaudit", any(last_audit))
                .with_state(self),
        }
    }
}

/// Pages of others may read it, and every method but OPTIONS is GET.
async fn for_all(request: Request, next: Next) -> Response {
    let is_variables = request.uri().path() == "/debug/vars";
    let mut response = if *request.method() == Method::OPTIONS && !is_variables {
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        ];
        (StatusCode::NO_CONTENT, allowed).into_response()
    } else {
        next.run(request).await
    };
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

/// A line of JSON.
fn line(status: StatusCode, value: &impl Serialize) -> Response {
    // Texts and numbers: nothing that can't be written.
    let text = serde_json::to_string(value).unwrap_or_default();
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{text}\n"),
    )
        .into_response()
}

fn said(answer: Result<(), String>) -> Response {
    match answer {
        Ok(()) => line(StatusCode::OK, &json!({"immudb": "OK"})),
        Err(why) => line(StatusCode::SERVICE_UNAVAILABLE, &json!({"immudb": why})),
    }
}

/// Whether all servers answer.
async fn ready(State(routes): State<Routes>) -> Response {
    for probe in &routes.0.probes {
        if let Err(why) = probe.ask().await {
            return said(Err(why));
        }
    }
    said(Ok(()))
}

/// Whether this auditor works; a server that is down is no reason to start it anew.
async fn alive(State(routes): State<Routes>) -> Response {
    let compat = &routes.0.compat;
    let since = time::now().saturating_sub(compat.ended.load(Ordering::Relaxed));
    let most = compat.interval.saturating_mul(DEAD_AFTER).max(Duration::from_secs(60));
    if u128::from(since) <= most.as_nanos() {
        return said(Ok(()));
    }
    said(Err(format!("no audit has ended for {} s", since / 1_000_000_000)))
}

async fn version() -> Response {
    let version = Version {
        component: "immuclient-auditor",
        version: env!("CARGO_PKG_VERSION"),
        // Builds can be repeated, so none has a time.
        buildtime: "unknown",
        linked: cfg!(target_feature = "crt-static"),
        fips: false,
    };
    line(StatusCode::OK, &version)
}

async fn variables() -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], "{}\n").into_response()
}

async fn last_audit(State(routes): State<Routes>) -> Response {
    let last = routes.0.compat.last.lock().clone();
    line(StatusCode::OK, &last)
}

/// Whether a client takes gzip, as Go's library for metrics reads its wishes.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let wishes = headers.get_all(header::ACCEPT_ENCODING).iter();
    let wishes = wishes
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','));
    wishes
        .map(|wish| wish.trim().split_once(';').unwrap_or((wish.trim(), "")))
        .any(|(name, more)| {
            let weight = more
                .trim()
                .strip_prefix("q=")
                .map(|weight| weight.trim().parse::<f32>());
            name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight, Some(Ok(0.0)))
        })
}

/// The same, compressed.
fn gzip(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(text)?;
    out.finish()
}

async fn metrics(State(routes): State<Routes>, headers: HeaderMap) -> Response {
    let mut families = routes.0.metrics.gather();
    families.extend(routes.0.process.gather());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = Vec::new();
    match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => {
            let kind = format!("{TEXT_FORMAT}; charset=utf-8");
            let packed = takes_gzip(&headers).then(|| gzip(&text).ok()).flatten();
            let kind = [(header::CONTENT_TYPE, kind)];
            match packed {
                Some(packed) => (kind, [(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
                None => (kind, text).into_response(),
            }
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
pub(super) mod tests;
