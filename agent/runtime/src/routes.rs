//! The agent's own routes: probes, metrics, reading events. They depend on no plugin.

use std::sync::Arc;
use std::time::Duration;

use auditmon_config::OWN_ROUTES;
use auditmon_core::http::Problem;
use auditmon_core::keys::{Scope, authorize};
use auditmon_core::reader::{EventReader, Found, Query, ReadError};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::notes::pause_word;
use crate::parts::Parts;
use crate::protect::Protect;
use crate::{openmetrics, status, tlog};

/// What the routes look at.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) parts: Arc<Parts>,
    pub(crate) stopping: CancellationToken,
    pub(crate) protect: Arc<Protect>,
}

/// A batch that waits longer than this for the disk makes the agent not ready.
const STUCK: Duration = Duration::from_secs(5);

/// The routes by the words that listeners have for them.
pub(crate) fn routers(shared: &Shared) -> [(&'static str, Router); 4] {
    let [probes_word, metrics_word, events_word, tlog_word] = OWN_ROUTES;
    let probes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/healthz", get(health))
        .route("/api/v1/healthz", get(|| async { "OK" }));
    let reading = Router::new()
        .route("/api/v1/events", get(events))
        .route("/api/v1/events/{id}", get(event));
    [
        (probes_word, probes.with_state(shared.clone())),
        (
            metrics_word,
            Router::new().route("/metrics", get(metrics)).with_state(shared.clone()),
        ),
        (events_word, reading.with_state(shared.clone())),
        (tlog_word, tlog::router(shared.clone())),
    ]
}

async fn ready(State(shared): State<Shared>) -> Response {
    let status = shared.parts.journal.status();
    let why = if shared.stopping.is_cancelled() {
        Some("stopping".to_owned())
    } else if let Some(reason) = status.paused {
        Some(format!("paused: {}", pause_word(reason)))
    } else {
        status
            .oldest_wait
            .filter(|wait| *wait > STUCK)
            .map(|wait| format!("a batch waits for the disk since {} s", wait.as_secs()))
    };
    match why {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn health(State(shared): State<Shared>) -> Response {
    Json(serde_json::json!({
        "plugins": shared.parts.health.all(),
        "journal": status::journal(&shared.parts.journal),
    }))
    .into_response()
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if shared.protect.metrics()
        && let Err(refused) = authorize(&headers, &*shared.parts.keys, Scope::Read)
    {
        return refused;
    }
    let shown = |kind, text| ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text).into_response();
    let registries = &shared.parts.registries;
    if openmetrics::is_wanted(&headers) {
        return shown(
            openmetrics::CONTENT_TYPE,
            openmetrics::encode(&registries.gather()).into_bytes(),
        );
    }
    match registries.text() {
        Ok(text) => shown("text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", error.to_string()).into_response(),
    }
}

fn reader(shared: &Shared, headers: &HeaderMap) -> Result<Arc<dyn EventReader>, Response> {
    authorize(headers, &*shared.parts.keys, Scope::Read)?;
    shared.parts.reader.while_on().ok_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_store",
            "the store is off: set `sinks.store.enabled: true` to read events",
        )
        .into_response()
    })
}

fn failed(error: &ReadError) -> Response {
    match error {
        ReadError::Cursor => {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", error.to_string()).into_response()
        }
        ReadError::Store(_) => {
            tracing::warn!(%error, "reading events failed");
            later("store_failed", error)
        }
        ReadError::Journal(_) => {
            tracing::warn!(%error, "reading an event failed");
            later("journal_failed", error)
        }
        ReadError::Busy(_) => later("busy", error),
    }
}

fn later(code: &'static str, error: &ReadError) -> Response {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
        .retry_after(Duration::from_secs(1))
        .into_response()
}

async fn events(State(shared): State<Shared>, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let reader = match reader(&shared, &headers) {
        Ok(reader) => reader,
        Err(refused) => return refused,
    };
    let pairs = match parameters(raw.as_deref().unwrap_or_default()) {
        Ok(pairs) => pairs,
        Err(problem) => return problem.into_response(),
    };
    let query = match Query::parse(pairs) {
        Ok(query) => query,
        Err(says) => return Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", says).into_response(),
    };
    let page = match reader.query(&query).await {
        Ok(page) => page,
        Err(error) => return failed(&error),
    };
    let mut out = Vec::with_capacity(page.events.iter().map(|e| e.canonical.len() + 128).sum::<usize>() + 64);
    out.extend_from_slice(b"{\"events\":[");
    for (at, event) in page.events.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        event.write(&mut out);
    }
    out.extend_from_slice(b"],\"next\":");
    match &page.next {
        Some(cursor) => auditmon_core::json::write_str(cursor, &mut out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}\n");
    json(out)
}

fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The decoded pairs of a query string.
pub(crate) fn parameters(raw: &str) -> Result<Vec<(String, String)>, Problem> {
    let uri = axum::http::Uri::builder().path_and_query(format!("/?{raw}")).build();
    let pairs = uri.ok().and_then(|uri| {
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .ok()
            .map(|q| q.0)
    });
    pairs.ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_parameter",
            "the query string is not readable",
        )
    })
}

async fn event(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let reader = match reader(&shared, &headers) {
        Ok(reader) => reader,
        Err(refused) => return refused,
    };
    let missing = || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no event with this id").into_response();
    let Ok(id) = Uuid::try_parse(&id) else { return missing() };
    match reader.get(id).await {
        Ok(Found::Event(event)) => {
            let mut out = Vec::with_capacity(event.canonical.len() + 128);
            event.write(&mut out);
            out.push(b'\n');
            json(out)
        }
        Ok(Found::Gone) => Problem::new(
            StatusCode::GONE,
            "gone",
            "the event was deleted by retention or erased; only its place in the journal is left",
        )
        .into_response(),
        Ok(Found::Missing) => missing(),
        Err(error) => failed(&error),
    }
}
