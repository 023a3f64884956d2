//! How commands speak to the running agent: HTTP over the socket in its data directory.

use std::io;
use std::path::Path;

use auditmon_runtime::admin;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::cli::{Failure, exit};

/// Largest answer that is read whole.
const MAX_ANSWER: usize = 4 << 20;

/// Asks the agent that runs on `data_dir`; `None` if none does.
///
/// # Errors
/// It belongs to another user, or went away.
pub async fn ask(data_dir: &Path, method: Method, path: &str) -> Result<Option<Response<Incoming>>, Failure> {
    let stream = match admin::connect(data_dir).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(Failure::plain(format!(
                "{}: the agent can't be spoken to: {error}; only root and its own user may",
                data_dir.join(admin::SOCKET).display()
            )));
        }
    };
    let gone = |error: hyper::Error| {
        Failure::plain(format!(
            "the agent on {} broke off: {error}; only root and its own user are answered",
            data_dir.display()
        ))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
    // Its end is seen by the request.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent")
        .body(Empty::<Bytes>::new())
        .map_err(Failure::plain)?;
    sender.send_request(request).await.map(Some).map_err(gone)
}

/// The same, with an answer in JSON.
///
/// # Errors
/// As [`ask`], or the agent said no.
pub async fn ask_json<T: DeserializeOwned>(data_dir: &Path, method: Method, path: &str) -> Result<Option<T>, Failure> {
    match ask(data_dir, method, path).await? {
        None => Ok(None),
        Some(answer) => {
            let body = whole(answer).await?;
            serde_json::from_slice(&body).map(Some).map_err(Failure::plain)
        }
    }
}

/// The body of a good answer; the sentence of a bad one becomes the failure.
///
/// # Errors
/// The agent said no.
pub async fn whole(answer: Response<Incoming>) -> Result<Bytes, Failure> {
    let good = answer.status().is_success();
    let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(Failure::plain)?
        .to_bytes();
    if good {
        return Ok(body);
    }
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("the agent refused");
    Err(Failure::plain(detail))
}

/// What is said where only a running agent can help.
pub fn none_runs(data_dir: &Path) -> Failure {
    Failure {
        code: exit::FAILURE,
        message: format!(
            "no agent runs on {}; start one, or name its --data-dir",
            data_dir.display()
        ),
    }
}

/// A query string; everything but letters, digits and `-._` is escaped.
#[must_use]
pub fn encode_query(pairs: &[(&'static str, String)]) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                out.push(byte.into());
            } else {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_escaped() {
        let pairs = [("username", "a b&c=ü".to_owned()), ("from", "7".to_owned())];
        assert_eq!(super::encode_query(&pairs), "username=a%20b%26c%3D%C3%BC&from=7");
    }
}
