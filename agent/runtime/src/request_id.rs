//! What a request is called in the log, and in its answer: `X-Request-Id`.
//!
//! The id is local to the request's task, where the log finds it. A span of tracing would do the same and took 20 MB
//! more where 2,000 requests waited for their bodies.

use std::future::Future;

use auditmon_core::time;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use rand::Rng as _;
use uuid::{Builder, Uuid};

/// The header, in requests and answers.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
tokio::task_local! {
    static PRESENT: HeaderValue;
}

/// The id of the request that is worked on here, if one is: for the log.
#[must_use]
pub fn present() -> Option<HeaderValue> {
    PRESENT.try_with(HeaderValue::clone).ok()
}

/// Answers a request under this id.
pub(crate) async fn around<E>(
    id: HeaderValue,
    answer: impl Future<Output = Result<Response, E>>,
) -> Result<Response, E> {
    let mut response = PRESENT.scope(id.clone(), answer).await?;
    response.headers_mut().insert(HEADER, id);
    Ok(response)
}

/// Longest id that is taken over, in bytes.
const MAX: usize = 128;

/// The id that the client or a proxy gave, if it is one of up to 128 printable ASCII characters without blanks; else a
/// new one.
pub(crate) fn of(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(HEADER).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if is_good(id.as_bytes()) => id.clone(),
        _ => made(),
    }
}

fn is_good(id: &[u8]) -> bool {
    (1..=MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn made() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    // `Uuid::now_v7` asks the kernel for each, and takes a lock.
    let mut random = [0; 10];
    rand::rng().fill_bytes(&mut random);
    let id = Builder::from_unix_timestamp_millis(time::now() / 1_000_000, &random).into_uuid();
    let text = id.as_hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_values(values: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        of(&headers).to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn the_id_is_there_while_the_request_is_worked_on() {
        let id = HeaderValue::from_static("x");
        let inside = async {
            tokio::task::yield_now().await;
            assert_eq!(present(), Some(HeaderValue::from_static("x")));
            Ok::<_, ()>(Response::default())
        };
        let response = around(id, inside).await.unwrap();
        assert_eq!(response.headers()[HEADER], "x");
        assert_eq!(present(), None);
    }

    #[test]
    fn a_plain_id_is_taken_over_and_any_other_replaced() {
        let long = [b'x'; MAX + 1];
        assert_eq!(of_values(&[b"req-1/{\"a\"}"]), "req-1/{\"a\"}");
        assert_eq!(of_values(&[&long[..MAX]]), "x".repeat(MAX));
        let bad: [&[&[u8]]; 6] = [&[], &[b""], &[b"a b"], &[b"\xff"], &[&long], &[b"a", b"b"]];
        for values in bad {
            assert!(Uuid::try_parse(&of_values(values)).is_ok(), "{values:?}");
        }
        assert_ne!(of_values(&[]), of_values(&[]));
    }
}
