//! API keys and sessions as plugins see them, and the answer to those who have none.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::Problem;

/// What a key may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Hand events in.
    Write,
    /// Read events.
    Read,
}

impl Scope {
    /// The word of a scope.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// Who a request comes from.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key's name; it becomes `event_source`.
    pub name: Arc<str>,
    /// May hand events in.
    pub write: bool,
    /// May read events.
    pub read: bool,
}

/// Checks keys and sessions in memory, so that events are accepted while a database is down.
pub trait Keys: Send + Sync + 'static {
    /// The owner of a key, unless unknown or revoked.
    fn check(&self, secret: &str) -> Option<Caller>;
    /// The owner of a page session, unless unknown or expired.
    fn session(&self, cookie: &str) -> Option<Caller>;
    /// Opens a page session for a one-time token; `None` if it is unknown, used or expired.
    fn open_session(&self, token: &str) -> Option<String>;
}

/// Name of the page's cookie.
pub const SESSION_COOKIE: &str = "auditmon_session";

/// Names that no API key may have, since events of plugins carry them: plugins present and planned, and the agent.
pub const RESERVED: [&str; 21] = [
    "agent",
    "ingest",
    "kernel",
    "immudb",
    "store",
    "stdout",
    "prometheus",
    "webhook",
    "otlp",
    "file",
    "syslog",
    "forward",
    "nats",
    "mail",
    "web",
    "witness",
    "alerts",
    "auditmon",
    "journal",
    "rules",
    "import",
];

/// Finds the caller of a request by key, or, for reading, by the page's session.
///
/// # Errors
/// The answer: 401 without a good key, 403 without the scope.
pub fn authorize(headers: &HeaderMap, keys: &dyn Keys, scope: Scope) -> Result<Caller, Response> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    let key = bearer.or_else(|| headers.get("x-api-key").and_then(|v| v.to_str().ok()));
    let caller = match key {
        Some(key) => keys.check(key),
        None if scope == Scope::Read => session_cookie(headers).and_then(|cookie| keys.session(cookie)),
        None => None,
    };
    let Some(caller) = caller else {
        let detail = if key.is_some() {
            "the API key is unknown or revoked"
        } else {
            "an API key is required"
        };
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        let mut response = problem.into_response();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return Err(response);
    };
    let allowed = match scope {
        Scope::Write => caller.write,
        Scope::Read => caller.read,
    };
    if allowed {
        return Ok(caller);
    }
    let detail = format!("the key `{}` lacks the scope `{}`", caller.name, scope.as_str());
    Err(Problem::new(StatusCode::FORBIDDEN, "missing_scope", detail).into_response())
}

/// The page's session cookie.
#[must_use]
pub fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, value)| value)
}
