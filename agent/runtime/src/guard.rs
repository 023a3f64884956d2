//! The time-outs of one connection: for a request's head, between requests, and for a client that doesn't
//! take its answer.
//!
//! The HTTP library knows one time-out for both; clients need two: a head that trickles in is closed
//! after seconds, an idle connection that a client keeps open may wait for a minute.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What a connection is doing; the low bits of [`Phase`]'s word.
const HEAD: u64 = 0;
const BUSY: u64 = 1;
const IDLE: u64 = 2;

/// Shared by the connection's stream and its service: what it is doing, and since when.
#[derive(Clone)]
pub(crate) struct Phase {
    /// Milliseconds since `epoch`, shifted by two, and the phase.
    word: Arc<AtomicU64>,
    /// Requests in work; HTTP/2 has several at once.
    requests: Arc<AtomicU64>,
    /// The connection's task, if it went to sleep while a request was in work: the HTTP library does not read
    /// again by itself once the answer is out, so nobody would watch the idle time.
    sleeper: Arc<Mutex<Option<Waker>>>,
    epoch: Instant,
}

impl Phase {
    pub(crate) fn new() -> Self {
        Self {
            word: Arc::new(AtomicU64::new(HEAD)),
            requests: Arc::new(AtomicU64::new(0)),
            sleeper: Arc::default(),
            epoch: Instant::now(),
        }
    }

    fn set(&self, phase: u64) {
        let millis = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.word.store((millis << 2) | phase, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, Duration) {
        let word = self.word.load(Ordering::Relaxed);
        (word & 3, Duration::from_millis(word >> 2))
    }

    /// A request's head is complete; the guard ends with its answer.
    pub(crate) fn request(&self) -> InWork {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.set(BUSY);
        InWork(self.clone())
    }
}

/// A request in work.
pub(crate) struct InWork(Phase);

impl Drop for InWork {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.set(IDLE);
            let sleeper = self.0.sleeper.lock().take();
            if let Some(sleeper) = sleeper {
                sleeper.wake();
            }
        }
    }
}

/// How long a connection may stay in each phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a request's head.
    pub(crate) head: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// For the client to take some of its answer.
    pub(crate) answer: Duration,
}

/// A stream that fails when its phase has lasted too long.
pub(crate) struct Guarded<S> {
    inner: S,
    phase: Phase,
    patience: Patience,
    timer: Pin<Box<Sleep>>,
    /// Runs while the client takes nothing of its answer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(inner: S, phase: Phase, patience: Patience) -> Self {
        let timer = Box::pin(tokio::time::sleep(patience.head));
        Self {
            inner,
            phase,
            patience,
            timer,
            stalled: None,
        }
    }

    /// How long the present phase may still last; `None` while a request is in work.
    fn left(&self) -> Option<Duration> {
        let (phase, since) = self.phase.get();
        let allowed = match phase {
            HEAD => self.patience.head,
            IDLE => self.patience.idle,
            _ => return None,
        };
        Some((since + allowed).saturating_sub(self.phase.epoch.elapsed()))
    }

    /// Passes a write's result on; fails it once the client has taken nothing for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            if self.phase.get().0 == IDLE {
                // A long answer is still going out: idleness begins behind it.
                self.phase.set(IDLE);
            }
            return result;
        }
        let allowed = self.patience.answer;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.inner).poll_read(cx, buf) {
            if buf.filled().len() > before && this.phase.get().0 == IDLE {
                this.phase.set(HEAD);
            }
            return Poll::Ready(result);
        }
        loop {
            let Some(left) = this.left() else {
                *this.phase.sleeper.lock() = Some(cx.waker().clone());
                // The request may have ended just now, before there was anybody to wake.
                if this.left().is_none() {
                    return Poll::Pending;
                }
                continue;
            };
            if left.is_zero() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            this.timer.as_mut().reset(tokio::time::Instant::now() + left);
            ready!(this.timer.as_mut().poll(cx));
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const HEAD_LIMIT: Duration = Duration::from_millis(60);
    const IDLE_LIMIT: Duration = Duration::from_millis(600);
    const PATIENCE: Patience = Patience {
        head: HEAD_LIMIT,
        idle: IDLE_LIMIT,
        answer: HEAD_LIMIT,
    };

    fn pair() -> (tokio::io::DuplexStream, Guarded<tokio::io::DuplexStream>, Phase) {
        let (client, server) = tokio::io::duplex(64);
        let phase = Phase::new();
        (client, Guarded::new(server, phase.clone(), PATIENCE), phase)
    }

    #[tokio::test]
    async fn a_head_that_never_comes_ends_the_connection() {
        let (_client, mut server, _) = pair();
        let start = Instant::now();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= HEAD_LIMIT);
    }

    #[tokio::test]
    async fn a_trickling_head_gains_no_time() {
        let (mut client, mut server, _) = pair();
        let trickle = tokio::spawn(async move {
            while client.write_u8(b'x').await.is_ok() {
                tokio::time::sleep(HEAD_LIMIT / 6).await;
            }
        });
        let start = Instant::now();
        while server.read_u8().await.is_ok() {}
        assert!(start.elapsed() < HEAD_LIMIT * 20);
        drop(server);
        trickle.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_in_work_has_no_limit_and_idleness_its_own() {
        let (_client, mut server, phase) = pair();
        let work = phase.request();
        let none = tokio::time::timeout(HEAD_LIMIT * 3, server.read_u8()).await;
        assert!(none.is_err(), "still open");
        drop(work);
        let start = Instant::now();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= IDLE_LIMIT - Duration::from_millis(5));
    }
    #[tokio::test]
    async fn a_reader_that_sleeps_through_the_answer_still_sees_the_idle_time_end() {
        let (_client, mut server, phase) = pair();
        let work = phase.request();
        // The HTTP library reads once while the request is in work, and is not polled again after its answer.
        let reading = tokio::spawn(async move { server.read_u8().await });
        tokio::time::sleep(HEAD_LIMIT).await;
        drop(work);
        let ended = tokio::time::timeout(IDLE_LIMIT * 20, reading).await;
        assert_eq!(ended.unwrap().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
        let (_client, mut server, phase) = pair();
        let _work = phase.request();
        let start = Instant::now();
        assert_eq!(
            server.write_all(&[0; 65]).await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert!(start.elapsed() >= HEAD_LIMIT);
    }
}
