//! Reads a request's body within time, size and memory.
//!
//! Memory has two pools, and a request takes its whole need of each at once: first for the body that it sends,
//! then for what is made of it. Whoever holds a place in the second waits for nothing but the disk, so requests
//! never wait for each other in a circle.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::http::Problem;
use auditmon_core::memory;
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

/// What an event gains in the journal: members that were not sent, head, salt, hash.
const EVENT_OVERHEAD: usize = 600;

/// The share of memory that bodies have, in eighths; the rest is for what is made of them.
const BODY_SHARE: usize = 3;

/// How bodies are read.
pub(crate) struct Limits {
    pub(crate) max_body: usize,
    pub(crate) progress: Duration,
    /// For bodies as they are sent.
    bodies: Pool,
    /// For decompressed bodies and records.
    work: Pool,
}

/// Bytes that requests share.
struct Pool {
    permits: Arc<Semaphore>,
    bytes: usize,
    wait: Duration,
}

/// Bytes taken out of a pool; given back on drop.
pub(crate) struct Place {
    _permits: OwnedSemaphorePermit,
}

impl Pool {
    fn new(bytes: usize, wait: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(bytes / MEMORY_PERMIT)),
            bytes,
            wait,
        }
    }

    /// Takes a place, or answers 413 where none is ever large enough, 503 when none becomes free in time.
    async fn take(&self, bytes: usize) -> Result<Place, Response> {
        if bytes > self.bytes {
            let detail = "http.memory is too small for a body of this size; send several";
            return Err(close(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                detail,
            )));
        }
        let permits = u32::try_from(bytes / MEMORY_PERMIT).unwrap_or(u32::MAX);
        let acquired = tokio::time::timeout(self.wait, self.permits.clone().acquire_many_owned(permits)).await;
        match acquired {
            Ok(Ok(permits)) => Ok(Place { _permits: permits }),
            _ => Err(busy()),
        }
    }
}

fn busy() -> Response {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "other requests take all of http.memory",
    );
    close(problem.retry_after(Duration::from_secs(1)))
}

/// A body as it came.
pub(crate) struct Sent {
    bytes: Vec<u8>,
    gzip: bool,
    _place: Place,
}

/// A body that can be read, with the place that covers it and its records until these are stored.
pub(crate) struct Ready {
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: (Place, Option<Place>),
}

impl Limits {
    /// `memory` in bytes is what all requests share; a request waits for its part for `wait` at most.
    pub(crate) fn new(max_body: usize, progress: Duration, memory: usize, wait: Duration) -> Self {
        let bodies = memory / 8 * BODY_SHARE;
        Self {
            max_body: max_body.min(bodies),
            progress,
            bodies: Pool::new(bodies, wait),
            work: Pool::new(memory - bodies, wait),
        }
    }

    fn too_large(&self) -> Response {
        let detail = format!(
            "a body has at most {} bytes, as sent and after decompression",
            self.max_body
        );
        close(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail))
    }

    /// Reads the whole body.
    pub(crate) async fn receive(&self, headers: &HeaderMap, mut body: Body) -> Result<Sent, Response> {
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
                let detail = "Content-Encoding is gzip or nothing";
                let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail);
                return Err(close(problem));
            }
        };
        let first = announced.unwrap_or(HEAD_START).min(HEAD_START);
        let mut place = self.bodies.take(first).await?;
        let mut bytes = Vec::with_capacity(first);
        let mut whole = false;
        while let Some(data) = self.next(&mut body).await? {
            if bytes.len() + data.len() > self.max_body {
                return Err(self.too_large());
            }
            if !whole && bytes.len() + data.len() > HEAD_START {
                whole = true;
                // The small place is given back first: nobody holds one while waiting for the other.
                drop(place);
                let room = announced.unwrap_or(self.max_body);
                place = self.bodies.take(room).await?;
                let begin = std::mem::replace(&mut bytes, memory::buffer(room));
                bytes.extend_from_slice(&begin);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Sent {
            bytes,
            gzip,
            _place: place,
        })
    }

    /// What comes next of a body; `None` at its end.
    async fn next(&self, body: &mut Body) -> Result<Option<axum::body::Bytes>, Response> {
        loop {
            match tokio::time::timeout(self.progress, body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(error))) => {
                    let detail = format!("the body ended early: {error}");
                    return Err(close(Problem::new(StatusCode::BAD_REQUEST, "body_cut", detail)));
                }
                Err(_) => {
                    let detail = format!("no byte of the body came for {} s", self.progress.as_secs());
                    return Err(close(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)));
                }
            }
        }
    }

    /// Decompresses a body where it is compressed, and takes the place for its records. `at_most` tells how many
    /// events a body holds at most.
    pub(crate) async fn prepare(&self, sent: Sent, at_most: impl Fn(&[u8]) -> usize) -> Result<Ready, Response> {
        if !sent.gzip {
            let records = records(sent.bytes.len(), at_most(&sent.bytes));
            let place = self.work.take(records).await?;
            return Ok(Ready {
                bytes: sent.bytes,
                places: (place, Some(sent._place)),
            });
        }
        // The trailer names the size of a body of one member, which is what programs send; only one of several
        // members, or one that lies, needs the place of the largest.
        let named = sent
            .bytes
            .last_chunk::<4>()
            .map_or(0, |size| u32::from_le_bytes(*size) as usize);
        let mut room = named.min(self.max_body);
        let bytes = loop {
            let unpacked = self.work.take(room + HEAD_START).await?;
            if let Some(bytes) = self.decompress(&sent.bytes, room)? {
                break bytes;
            }
            drop(unpacked);
            if room == self.max_body {
                return Err(self.too_large());
            }
            room = self.max_body;
        };
        let records = records(bytes.len(), at_most(&bytes));
        // One place for all that is left, so that nobody holds a part while waiting for the rest.
        drop(sent);
        let place = self.work.take(bytes.len() + records).await?;
        Ok(Ready {
            bytes,
            places: (place, None),
        })
    }

    /// `None` if there is more than `room`.
    fn decompress(&self, packed: &[u8], room: usize) -> Result<Option<Vec<u8>>, Response> {
        let mut out = memory::buffer(room);
        let mut decoder = MultiGzDecoder::new(packed);
        let mut chunk = vec![0; 16 << 10];
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => return Ok(Some(out)),
                Ok(read) if out.len() + read > room => return Ok(None),
                Ok(read) => out.extend_from_slice(&chunk[..read]),
                Err(error) => {
                    let detail = format!("the body is not valid gzip: {error}");
                    return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_gzip", detail).into_response());
                }
            }
        }
    }
}

/// Bytes that the records of a body take at most, by and large.
pub(crate) fn records(bytes: usize, events: usize) -> usize {
    bytes + events * EVENT_OVERHEAD
}

/// An answer before the body was read to its end: the connection can't be used any more.
fn close(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response
        .headers_mut()
        .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn limits(memory: usize) -> Limits {
        Limits::new(16 << 20, Duration::from_secs(1), memory, Duration::from_millis(50))
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    async fn status(limits: &Limits, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Vec<u8>, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let sent = limits
            .receive(&map, Body::from(body))
            .await
            .map_err(|r| r.status().as_u16())?;
        limits
            .prepare(sent, |_| 1)
            .await
            .map(|ready| ready.bytes)
            .map_err(|r| r.status().as_u16())
    }

    #[tokio::test]
    async fn bodies_come_whole_compressed_or_not() {
        let limits = limits(64 << 20);
        let text = b"x".repeat(100_000);
        assert_eq!(status(&limits, &[], text.clone()).await, Ok(text.clone()));
        let packed = gzip(&text);
        assert_eq!(
            status(&limits, &[("content-encoding", "gzip")], packed.clone()).await,
            Ok(text)
        );
        assert_eq!(
            status(&limits, &[("content-encoding", "br")], packed.clone()).await,
            Err(415)
        );
        assert_eq!(
            status(&limits, &[("content-encoding", "gzip")], packed[..20].to_vec()).await,
            Err(400)
        );
    }

    #[tokio::test]
    async fn sizes_are_bounded() {
        let limits = limits(64 << 20);
        assert_eq!(status(&limits, &[], vec![b'x'; (16 << 20) + 1]).await, Err(413));
        let bomb = gzip(&vec![b' '; (16 << 20) + 1]);
        assert_eq!(status(&limits, &[("content-encoding", "gzip")], bomb).await, Err(413));
        assert!(status(&limits, &[], vec![b'x'; 16 << 20]).await.is_ok());
        let small = self::limits(1 << 20);
        assert_eq!(
            status(&small, &[("content-length", "1000000")], vec![b'x'; 1_000_000]).await,
            Err(413)
        );
    }

    #[tokio::test]
    async fn who_finds_no_memory_is_told_to_come_back() {
        let limits = limits(8 << 20);
        let held = limits.work.take(5 << 20).await.unwrap();
        assert_eq!(status(&limits, &[], vec![b'x'; 100_000]).await, Err(503));
        drop(held);
        assert!(status(&limits, &[], vec![b'x'; 100_000]).await.is_ok());
    }
}
