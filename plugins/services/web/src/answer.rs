//! Headers that every answer has.

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

/// Nothing is loaded but our style sheet, nothing is sent elsewhere, nobody frames the page.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Adds them to whatever our routes answer, refusals of the HTTP layer included; only the style sheet may be kept.
pub(crate) async fn secure(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A page.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => answer(status, "text/html; charset=utf-8", html.into()),
        Err(error) => {
            tracing::error!(%error, "the page could not be made");
            answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain; charset=utf-8",
                "the page could not be made\n".into(),
            )
        }
    }
}

/// To the newest events, with a new session.
pub(crate) fn to_events(base: &str, cookie: Option<HeaderValue>) -> Response {
    let place = format!("{base}/");
    let text = format!("see {place}\n");
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", text.into());
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// The style sheet, which a browser may keep: its name changes with its text.
pub(crate) fn style(text: &'static str) -> Response {
    let mut response = answer(StatusCode::OK, "text/css; charset=utf-8", text.into());
    let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, keep);
    response
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response {
    answer(status, "text/plain; charset=utf-8", Body::empty())
}
