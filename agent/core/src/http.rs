//! Answers that all routes give in one form.

use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Marks a response that must not be sent: the listener closes the connection instead, since nobody knows the
/// right answer.
#[derive(Clone, Copy, Debug)]
pub struct NoAnswer;

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether a request came over TLS, here or at the proxy that `http.root_url` tells of; an extension of
/// those requests that did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Secure;

/// The path under which people reach the routes, without a slash at its end; an extension of each
/// request if `http.root_url` has one; links, forms, redirects and cookies begin with it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BasePath(pub Arc<str>);

/// Who sent a request through the admin socket: the user id that the kernel tells; an extension of each request there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalUser(pub u32);

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
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
            extra: None,
        }
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
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            body.to_string(),
        )
            .into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
        }
        response
    }
}
