//! API keys and sessions as plugins see them, and the answer to those who have none.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

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
    "agent", "ingest", "kernel", "immudb", "store", "stdout", "prometheus", "webhook", "otlp", "file", "syslog", "forward",
    "nats", "mail", "web", "witness", "alerts", "auditmon", "journal", "rules", "import",
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
        let detail = if key.is_some() { "the API key is unknown or revoked" } else { "an API key is required" };
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        let mut response = problem.into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
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

/// An error answer as `application/problem+json` (RFC 9457).
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<u64>,
    extra: Option<(&'static str, serde_json::Value)>,
}

impl Problem {
    /// A problem; `code` is the stable word for programs, `detail` the sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, extra: None }
    }

    /// Adds `Retry-After`, in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: std::time::Duration) -> Self {
        self.retry_after = Some(after.as_secs().max(1));
        self
    }

    /// Adds one further member.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: serde_json::Value) -> Self {
        self.extra = Some((name, value));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some((name, value)) = self.extra {
            body[name] = value;
        }
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
        }
        response
    }
}
