//! Addresses, sessions, answers.

use std::convert::Infallible;
use std::sync::Arc;

use auditmon_core::event::EventView;
use auditmon_core::http::{BasePath, Secure};
use auditmon_core::keys::{Keys, SESSION_COOKIE, session_cookie};
use auditmon_core::reader::{EventReader, Found, ReadError};
use axum::Router;
use axum::extract::{FromRequestParts, Path, Query as Parameters, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use uuid::Uuid;

use crate::answer::{empty, page, secure, style, to_events};
use crate::assets::{STYLE, STYLE_NAME};
use crate::form::Form;
use crate::view::{EventPage, EventsPage, List, Message};

/// How long a browser keeps the cookie, in seconds. The agent decides when the session ends, and no later.
const COOKIE_AGE: u32 = 24 * 60 * 60;

/// What the routes need.
pub(crate) struct Page {
    pub(crate) host: Arc<str>,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) reader: Option<Arc<dyn EventReader>>,
}

/// Where browsers find the page, by what the listener says of a request.
struct Place {
    /// Before every path; empty at the root.
    base: Arc<str>,
    secure: bool,
}

impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let BasePath(base) = parts.extensions.get().cloned().unwrap_or_default();
        let secure = parts.extensions.get() == Some(&Secure);
        Ok(Self { base, secure })
    }
}

type Pairs = Vec<(String, String)>;

pub(crate) fn router(state: Page) -> Router {
    Router::new()
        .route("/", get(events))
        .route("/events/{id}", get(event))
        .route("/open", get(open))
        .route("/static/{name}", get(asset))
        .layer(map_response(secure))
        .with_state(Arc::new(state))
}

impl Page {
    fn message(&self, place: &Place, status: StatusCode, title: &str, paragraph: &str, back: bool) -> Response {
        let message = Message {
            base: &place.base,
            host: &self.host,
            title,
            paragraph,
            command: None,
            back,
        };
        page(status, &message)
    }

    /// For those who are not signed in: they don't learn where they are.
    fn sign_in(place: &Place, title: &str, paragraph: &str) -> Response {
        let message = Message {
            base: &place.base,
            host: "",
            title,
            paragraph,
            command: Some("auditmon page"),
            back: false,
        };
        let mut answer = page(StatusCode::UNAUTHORIZED, &message);
        let scheme = HeaderValue::from_static("Bearer");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        answer
    }

    /// The reader, for those who may read; else the answer.
    fn reader(&self, place: &Place, headers: &HeaderMap) -> Result<&dyn EventReader, Response> {
        let Some(caller) = session_cookie(headers).and_then(|cookie| self.keys.session(cookie)) else {
            return Err(Self::sign_in(
                place,
                "You are not signed in",
                "This page opens with a one-time address, which the agent printed when it first started. A session lasts \
                 for a day; on the agent's host, this prints a new address:",
            ));
        };
        if !caller.read {
            let why = format!("`{}` lacks the scope `read`.", caller.name);
            return Err(self.message(place, StatusCode::FORBIDDEN, "You may not read events", &why, false));
        }
        self.reader.as_deref().ok_or_else(|| {
            let why = "Events are accepted into the journal and delivered to the other sinks, but nothing can be looked \
                up. To change that, set sinks.store.enabled to true in the configuration and restart the agent.";
            self.message(place, StatusCode::SERVICE_UNAVAILABLE, "The store is off", why, false)
        })
    }
}

/// `GET /`
async fn events(
    State(state): State<Arc<Page>>,
    place: Place,
    Parameters(pairs): Parameters<Pairs>,
    headers: HeaderMap,
) -> Response {
    let reader = match state.reader(&place, &headers) {
        Ok(reader) => reader,
        Err(answer) => return answer,
    };
    let form = Form::new(pairs);
    let query = match form.query() {
        Ok(query) => query,
        Err(problem) => return wrong(&state, &place, &form, StatusCode::BAD_REQUEST, problem),
    };
    let found = match reader.query(&query).await {
        Ok(found) => found,
        Err(error @ ReadError::Cursor) => {
            return wrong(&state, &place, &form, StatusCode::BAD_REQUEST, error.to_string());
        }
        Err(error) => {
            return wrong(
                &state,
                &place,
                &form,
                StatusCode::SERVICE_UNAVAILABLE,
                error.to_string(),
            );
        }
    };
    let views: Result<Vec<_>, _> = found
        .events
        .iter()
        .map(|stored| EventView::parse(&stored.canonical))
        .collect();
    match views {
        Ok(views) => {
            let list = List::new(&found, &views, &form, curl(&place, &headers));
            page(
                StatusCode::OK,
                &EventsPage {
                    base: &place.base,
                    host: &state.host,
                    form: &form,
                    problem: None,
                    list: Some(list),
                },
            )
        }
        Err(error) => damaged(&state, &place, &error),
    }
}

/// The form again, with what is wrong.
fn wrong(state: &Page, place: &Place, form: &Form, status: StatusCode, problem: String) -> Response {
    page(
        status,
        &EventsPage {
            base: &place.base,
            host: &state.host,
            form,
            problem: Some(problem),
            list: None,
        },
    )
}

fn damaged(state: &Page, place: &Place, error: &serde_json::Error) -> Response {
    let why = format!("A row of the store is not the event that was accepted: {error}.");
    state.message(
        place,
        StatusCode::INTERNAL_SERVER_ERROR,
        "The store is damaged",
        &why,
        true,
    )
}

/// `GET /events/{id}`
async fn event(State(state): State<Arc<Page>>, place: Place, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let reader = match state.reader(&place, &headers) {
        Ok(reader) => reader,
        Err(answer) => return answer,
    };
    let found = match Uuid::try_parse(&id) {
        Ok(id) => reader.get(id).await,
        Err(_) => Ok(Found::Missing),
    };
    let message = |status, title, why: &str| state.message(&place, status, title, why, true);
    match found {
        Ok(Found::Event(stored)) => match EventView::parse(&stored.canonical) {
            Ok(view) => page(
                StatusCode::OK,
                &EventPage::new(&place.base, &state.host, &stored, &view),
            ),
            Err(error) => damaged(&state, &place, &error),
        },
        Ok(Found::Gone) => {
            let why = "It was deleted by retention or erased; its place in the journal is left, and stays provable.";
            message(StatusCode::GONE, "Only this event's place is left", why)
        }
        Ok(Found::Missing) => {
            let why = "Neither the store nor this agent's journal knows an event with this id.";
            message(StatusCode::NOT_FOUND, "No such event", why)
        }
        Err(error) => message(
            StatusCode::SERVICE_UNAVAILABLE,
            "The event can't be read",
            &error.to_string(),
        ),
    }
}

/// `GET /open?token=…`
async fn open(
    State(state): State<Arc<Page>>,
    place: Place,
    method: Method,
    Parameters(pairs): Parameters<Pairs>,
    headers: HeaderMap,
) -> Response {
    // Only following the address uses it up.
    if method == Method::HEAD {
        return empty(StatusCode::OK);
    }
    let token = pairs
        .iter()
        .find(|(name, _)| name == "token")
        .map_or("", |(_, token)| token);
    let session = state.keys.open_session(token);
    let cookie = session.and_then(|session| {
        // Without a slash at its end the path covers the page's own address, too.
        let path = if place.base.is_empty() { "/" } else { &*place.base };
        let secure = if place.secure { "; Secure" } else { "" };
        let text =
            format!("{SESSION_COOKIE}={session}; Path={path}; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(text).ok()
    });
    // Who comes by the same address again is signed in already.
    let signed_in = || session_cookie(&headers).is_some_and(|cookie| state.keys.session(cookie).is_some());
    if cookie.is_some() || signed_in() {
        return to_events(&place.base, cookie);
    }
    Page::sign_in(
        &place,
        "This address is used up or expired",
        "Each address opens the page once, and only for a while. On the agent's host, this prints a new one:",
    )
}

/// `GET /static/{name}`
async fn asset(Path(name): Path<String>) -> Response {
    if name == *STYLE_NAME {
        return style(STYLE);
    }
    empty(StatusCode::NOT_FOUND)
}

/// How to send the first event, to where the page was asked for.
fn curl(place: &Place, headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        // It is meant to be pasted into a shell.
        .filter(|host| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:[]-".contains(&b)))
        .unwrap_or("127.0.0.1:7984");
    let scheme = if place.secure { "https" } else { "http" };
    format!(
        "curl -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \\\n  \
         -d '{{\"event_name\": \"hello\", \"username\": \"me\"}}' {scheme}://{host}{base}/api/v1/events",
        base = place.base,
    )
}

#[cfg(test)]
mod tests;
