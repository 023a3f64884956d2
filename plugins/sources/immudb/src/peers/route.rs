//! Answers peers: who shows a checkpoint of a known journal tells what it has seen, and is told what was seen here of the
//! same databases.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::http::Problem;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

use super::hub::{Hub, Way};
use super::message::Message;
use super::{CHECKPOINT, MAX_BODY, PATH, identity};

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The route on the agent's listener.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new().route(PATH, post(exchange)).with_state(hub)
}

/// Nothing of a body is read before it is known whom it is from.
async fn exchange(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    let problem = |status, code, text: &str| Problem::new(status, code, text).into_response();
    let note = request.headers().get(CHECKPOINT);
    let note = note.and_then(|header| identity::note(header.as_bytes()));
    let Some(peer) = note.and_then(|note| hub.peer(&note)) else {
        let text = "expected the header auditmon-checkpoint with a checkpoint of a journal in `sources.immudb.peers`";
        return problem(StatusCode::FORBIDDEN, "unknown_peer", text);
    };
    let Ok(_turn) = hub.peers[peer].turn.try_acquire() else {
        let text = "another exchange with this peer is under way";
        return problem(StatusCode::TOO_MANY_REQUESTS, "busy", text);
    };
    let Some(checkpoint) = hub.checkpoint() else {
        let text = "this journal has no checkpoint yet to show who answers";
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no_checkpoint", text);
    };
    let body = match tokio::time::timeout(PATIENCE, to_bytes(request.into_body(), MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "expected a body of at most 8 MiB",
            );
        }
        Err(_) => {
            return problem(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "the body didn't come within 30 s",
            );
        }
    };
    let message = match Message::read(&body) {
        Ok(message) => message,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "invalid", &error),
    };
    let answer = hub.about(&message);
    hub.take((peer, Way::Request), &message);
    // Numbers and texts: nothing that can't be written.
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static(CHECKPOINT), checkpoint);
    response
}
