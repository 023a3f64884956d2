//! The route: from request to answer.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::emitter::{Emitter, Refused};
use auditmon_core::http::{NoAnswer, Problem};
use auditmon_core::keys::{Keys, Scope, authorize};
use auditmon_core::plugin::{BuildContext, MEMORY_PERMIT, PluginError};
use auditmon_journal::Linger;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use prometheus::{IntCounterVec, Opts};
use serde::Serialize;

use crate::body::{self, Limits, Ready};
use crate::config::IngestConfig;
use crate::events::{self, BodyFault, Form, Outcome};

/// An answer lists ids up to this many events, unless it is asked for all.
const IDS_LISTED: usize = 100;
/// A group of waiting requests is written at this size without waiting on.
const LINGER_BYTES: usize = 256 << 10;

struct Api {
    emitter: Emitter,
    keys: Arc<dyn Keys>,
    limits: Limits,
    max_events: u32,
    linger: Duration,
    events: IntCounterVec,
}

pub(crate) fn routes(config: IngestConfig, cx: &BuildContext) -> Result<Router, PluginError> {
    let emitter = cx
        .emitter
        .clone()
        .ok_or_else(|| PluginError::permanent("a source needs an emitter"))?;
    let events = IntCounterVec::new(
        Opts::new(
            "auditmon_ingest_events_total",
            "Events sent to the event API, by key and result.",
        ),
        &["key", "result"],
    )
    .map_err(PluginError::permanent)?;
    cx.metrics
        .register(Box::new(events.clone()))
        .map_err(PluginError::permanent)?;
    let api = Api {
        emitter,
        keys: cx.keys.clone(),
        limits: Limits::new(
            usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
            config.body_timeout.0,
            cx.memory.available_permits() * MEMORY_PERMIT,
            config.memory_timeout.0,
        ),
        max_events: config.max_events,
        linger: config.linger.0,
        events,
    };
    Ok(Router::new()
        .route("/api/v1/events", post(receive))
        .with_state(Arc::new(api)))
}

/// `?atomic=true`, `?ids=true`.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    atomic: bool,
    ids: bool,
}

fn wishes(raw: Option<&str>) -> Result<Wishes, String> {
    let mut wishes = Wishes::default();
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = match value {
            "true" => true,
            "false" => false,
            _ => return Err(format!("`{}` is true or false", shown(name))),
        };
        match name {
            "atomic" => wishes.atomic = value,
            "ids" => wishes.ids = value,
            _ => {
                return Err(format!(
                    "`{}` is no parameter; there are `atomic` and `ids`",
                    shown(name)
                ));
            }
        }
    }
    Ok(wishes)
}

fn shown(text: &str) -> &str {
    auditmon_core::event::cut(text, 64)
}

fn form(headers: &HeaderMap) -> Option<Form> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "application/json" => Some(Form::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Form::Ndjson),
        _ => None,
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    accepted: u32,
    first_seq: u64,
    last_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<&'a [events::uuid_text::Id]>,
    /// Replays of known idempotency keys: none yet, but clients may rely on the member.
    duplicates: [(); 0],
    rejected: &'a [events::Refused],
}

async fn receive(State(api): State<Arc<Api>>, RawQuery(query): RawQuery, request: Request) -> Response {
    match api.receive(query.as_deref(), request).await {
        Ok(response) | Err(response) => response,
    }
}

impl Api {
    async fn receive(&self, query: Option<&str>, request: Request<Body>) -> Result<Response, Response> {
        let (head, body) = request.into_parts();
        let caller = authorize(&head.headers, &*self.keys, Scope::Write)?;
        let wishes = wishes(query)
            .map_err(|says| Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", says).into_response())?;
        let Some(form) = form(&head.headers) else {
            let detail = "Content-Type is application/json or application/x-ndjson";
            return Err(
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail).into_response(),
            );
        };
        let sent = self.limits.receive(&head.headers, body).await?;
        let at_most = |body: &[u8]| events::at_most(body, form, self.max_events);
        let Ready { bytes, places } = self.limits.prepare(sent, at_most).await?;
        let mut batch = self
            .emitter
            .batch_sized(&caller.name, body::records(bytes.len(), at_most(&bytes)));
        let outcome = events::read(&bytes, form, self.max_events, &mut batch)
            .map_err(|fault| self.body_fault(&caller.name, fault))?;
        drop(bytes);
        self.count(&caller.name, "rejected", outcome.bad);
        if outcome.ids.is_empty() || (outcome.bad > 0 && (wishes.atomic || outcome.single)) {
            return Err(unprocessable(&outcome, wishes));
        }
        let linger = Linger {
            max_wait: self.linger,
            max_bytes: LINGER_BYTES,
        };
        let accepted = match self.emitter.emit(batch, linger).await {
            Ok(accepted) => accepted,
            Err(refused) => return Err(refusal(refused)),
        };
        drop(places);
        let count = u32::try_from(outcome.ids.len()).unwrap_or(u32::MAX);
        self.count(&caller.name, "accepted", count);
        let answer = Answer {
            accepted: count,
            first_seq: accepted.first_seq,
            last_seq: accepted.last_seq,
            ids: (wishes.ids || outcome.ids.len() <= IDS_LISTED).then_some(&outcome.ids),
            duplicates: [],
            rejected: &outcome.rejected,
        };
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        Ok((StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], body).into_response())
    }

    fn count(&self, key: &str, result: &str, events: u32) {
        self.events.with_label_values(&[key, result]).inc_by(events.into());
    }

    fn body_fault(&self, key: &str, fault: BodyFault) -> Response {
        self.count(key, "rejected", 1);
        let (status, code, detail) = match fault {
            BodyFault::Malformed(says) => (StatusCode::BAD_REQUEST, "malformed", says),
            BodyFault::TooMany(max) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_many_events",
                format!("a request has at most {max} events; send several"),
            ),
            BodyFault::FrameFull => {
                let detail = "the events of one request are stored together and have at most 24 MiB; send several";
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail.to_owned())
            }
        };
        Problem::new(status, code, detail).into_response()
    }
}

fn unprocessable(outcome: &Outcome, wishes: Wishes) -> Response {
    use auditmon_core::inbound::Code;
    let alone = outcome.single && outcome.rejected.iter().any(|r| r.rejection.code == Code::TooLarge);
    let status = if alone {
        StatusCode::PAYLOAD_TOO_LARGE
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let detail = if wishes.atomic && !outcome.ids.is_empty() {
        format!(
            "{} events were rejected, and the request asked for all or nothing; nothing was stored",
            outcome.bad
        )
    } else {
        "no event was accepted".to_owned()
    };
    let rejected = serde_json::to_value(&outcome.rejected).unwrap_or_default();
    Problem::new(status, "rejected", detail)
        .with("rejected", rejected)
        .into_response()
}

fn refusal(refused: Refused) -> Response {
    let (status, code) = match refused {
        Refused::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
        Refused::SizeLimit => (StatusCode::SERVICE_UNAVAILABLE, "size_limit"),
        Refused::SyncFailed => (StatusCode::SERVICE_UNAVAILABLE, "sync_failed"),
        Refused::Draining => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        Refused::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        // Nobody knows whether it is stored: an answer would be a lie, so the connection just ends.
        Refused::Unknown => return NoAnswer.into_response(),
    };
    let problem = Problem::new(status, code, format!("{refused}; nothing was stored"));
    let problem = if status == StatusCode::PAYLOAD_TOO_LARGE {
        problem
    } else {
        problem.retry_after(refused.retry_after())
    };
    problem.into_response()
}
