//! Reads a request's body within time, size and memory.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::http::Problem;
use auditmon_core::plugin::MEMORY_PERMIT;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a body that are taken before the whole of it has a place in memory: a client that only
/// announces a large body holds no more than this.
const HEAD_START: usize = 16 << 10;

/// How bodies are read.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) max_body: usize,
    pub(crate) progress: Duration,
    pub(crate) memory: Arc<Semaphore>,
    /// All of `http.memory`, in bytes.
    pub(crate) memory_total: usize,
    pub(crate) memory_wait: Duration,
}

/// A body with its place in memory, which covers its records, too: it is kept until these are stored.
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    pub(crate) place: Place,
}

/// Bytes taken out of `http.memory`; given back on drop.
pub(crate) struct Place {
    permits: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Limits {
    /// Makes the place at least `bytes` large, or answers 503 when none becomes free in time.
    async fn grow(&self, place: &mut Place, bytes: usize) -> Result<(), Response> {
        if bytes <= place.bytes {
            return Ok(());
        }
        if bytes > self.memory_total {
            let detail = "http.memory is too small for a body of this size; send several";
            return Err(close(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                detail,
            )));
        }
        let permits = u32::try_from((bytes - place.bytes).div_ceil(MEMORY_PERMIT)).unwrap_or(u32::MAX);
        let acquired = tokio::time::timeout(self.memory_wait, self.memory.clone().acquire_many_owned(permits)).await;
        let Ok(Ok(more)) = acquired else {
            let problem = Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "other requests take all of http.memory",
            );
            return Err(close(problem.retry_after(Duration::from_secs(1))));
        };
        match &mut place.permits {
            Some(has) => has.merge(more),
            none => *none = Some(more),
        }
        place.bytes += permits as usize * MEMORY_PERMIT;
        Ok(())
    }

    fn too_large(&self) -> Response {
        let detail = format!(
            "a body has at most {} bytes, as sent and after decompression",
            self.max_body
        );
        close(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail))
    }

    /// What a body of this size needs: itself, and its records in canonical form.
    pub(crate) fn need(bytes: usize) -> usize {
        2 * bytes + 1024
    }

    /// Reads the whole body and decompresses it.
    pub(crate) async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Read, Response> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > self.max_body) {
            return Err(self.too_large());
        }
        let gzip = match headers.get(header::CONTENT_ENCODING).map(|v| v.as_bytes()) {
            None | Some(b"identity") => false,
            Some(encoding) if encoding.eq_ignore_ascii_case(b"gzip") => true,
            Some(_) => {
                let problem = Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported_encoding",
                    "Content-Encoding is gzip or nothing",
                );
                return Err(close(problem));
            }
        };
        let mut place = Place {
            permits: None,
            bytes: 0,
        };
        let first = announced.unwrap_or(HEAD_START).min(HEAD_START);
        self.grow(&mut place, Self::need(first)).await?;
        let mut bytes = Vec::with_capacity(first);
        let mut whole = false;
        loop {
            let frame = match tokio::time::timeout(self.progress, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(close(Problem::new(
                        StatusCode::BAD_REQUEST,
                        "body_cut",
                        format!("the body ended early: {error}"),
                    )));
                }
                Err(_) => {
                    let detail = format!("no byte of the body came for {} s", self.progress.as_secs());
                    return Err(close(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.max_body {
                return Err(self.too_large());
            }
            if !whole && bytes.len() + data.len() > HEAD_START {
                // From here on the body has its whole place, so that two half-read ones never wait for each other.
                whole = true;
                let size = announced.unwrap_or(self.max_body);
                self.grow(&mut place, Self::need(size)).await?;
                bytes.reserve(announced.unwrap_or(0).saturating_sub(bytes.len()));
            }
            bytes.extend_from_slice(&data);
        }
        if gzip {
            bytes = self.decompress(&bytes, &mut place).await?;
        }
        Ok(Read { bytes, place })
    }

    async fn decompress(&self, packed: &[u8], place: &mut Place) -> Result<Vec<u8>, Response> {
        // The trailer names the size; if it lies, or there are several members, the place grows with the output.
        let named = packed
            .last_chunk::<4>()
            .map_or(0, |size| u32::from_le_bytes(*size) as usize)
            .min(self.max_body);
        self.grow(place, packed.len() + Self::need(named)).await?;
        let mut out = Vec::with_capacity(named);
        let mut decoder = MultiGzDecoder::new(packed);
        let mut chunk = vec![0; 64 << 10];
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => return Ok(out),
                Ok(read) if out.len() + read > self.max_body => return Err(self.too_large()),
                Ok(read) => {
                    self.grow(place, packed.len() + Self::need(out.len() + read)).await?;
                    out.extend_from_slice(&chunk[..read]);
                }
                Err(error) => {
                    let problem = Problem::new(
                        StatusCode::BAD_REQUEST,
                        "invalid_gzip",
                        format!("the body is not valid gzip: {error}"),
                    );
                    return Err(problem.into_response());
                }
            }
        }
    }
}

/// An answer before the body was read to its end: the connection can't be used any more.
fn close(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response
        .headers_mut()
        .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}
