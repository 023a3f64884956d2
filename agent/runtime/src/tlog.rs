//! `/tlog/`: the journal as a transparency log, for whoever checks it from
//! outside. Checkpoints and hash tiles; what events say is not served.
//!
//! Source: C2SP tlog-tiles, "Parameters", "Checkpoints" and "Merkle Tree".

use auditmon_core::http::Problem;
use auditmon_core::keys::{Scope, authorize};
use auditmon_merkle::TileId;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::routes::Shared;

/// A tile never changes, nor does a partial one of the same width.
const FOR_EVER: &str = "max-age=31536000, immutable";

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/tlog/checkpoint", get(checkpoint))
        .route("/tlog/tile/{*path}", get(tile))
        .with_state(shared)
}

async fn checkpoint(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Some(refused) = refused(&shared, &headers) {
        return refused;
    }
    match shared.parts.journal.checkpoint() {
        Some(newest) => (
            [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::CACHE_CONTROL, "no-cache"),
            ],
            newest.note.clone(),
        )
            .into_response(),
        None => not_found("no checkpoint was signed yet"),
    }
}

async fn tile(State(shared): State<Shared>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refused) = refused(&shared, &headers) {
        return refused;
    }
    let Ok(tile) = format!("tile/{path}").parse::<TileId>() else {
        return not_found("no tile has this path; entries are not served");
    };
    let journal = shared.parts.journal.clone();
    let again = journal.clone();
    let read = tokio::task::spawn_blocking(move || journal.tile(tile)).await;
    match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(Some(bytes)) => {
            let cached = match shared.protect.tlog() {
                true => HeaderValue::from_static("private, no-cache"),
                false => HeaderValue::from_static(FOR_EVER),
            };
            let kind = HeaderValue::from_static("application/octet-stream");
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cached)], bytes).into_response()
        }
        Ok(None) if again.is_collapsed(tile) => missing(
            StatusCode::GONE,
            "gone",
            "its records were collapsed to make room: inclusion of them is no longer provable, and no other proof needs this tile",
        ),
        Ok(None) => not_found("the newest checkpoint covers no such tile"),
        Err(error) => {
            tracing::warn!(%error, %tile, "a tile of the journal can't be read");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "journal_failed", error.to_string())
                .retry_after(std::time::Duration::from_secs(1))
                .into_response()
        }
    }
}

fn refused(shared: &Shared, headers: &HeaderMap) -> Option<Response> {
    if !shared.protect.tlog() {
        return None;
    }
    authorize(headers, &*shared.parts.keys, Scope::Read).err()
}

fn not_found(says: &'static str) -> Response {
    missing(StatusCode::NOT_FOUND, "not_found", says)
}

/// It may be there soon, or go; so nobody keeps the answer.
fn missing(status: StatusCode, code: &'static str, says: &'static str) -> Response {
    let mut response = Problem::new(status, code, says).into_response();
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
    response
}
