//! What is left of an HTTP/2 request's body once its handler has let go of it.
//!
//! A handler may answer before it has read the body: a key is wrong, a length too large. The HTTP library then resets
//! the stream right behind the answer, with `NO_ERROR`, as RFC 9113 (8.1) allows; and clients must not lose the answer
//! by that. Some do, if they are sending at that moment: curl 7.88, which is Debian 12's, tells of a stream error even
//! where the body is one byte long. So what a client is about to send is taken and thrown away, within limits; then
//! the stream ends without a reset.
//!
//! HTTP/1.1 has no resets; there the library reads what has come, or closes the connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Buf, Frame, SizeHint};
use tokio::runtime::Handle;

use crate::guard::InWork;

/// Most bytes that are thrown away: what a client sends without being asked for more, by the library's window.
const MOST: usize = 1 << 20;

/// A body of which the rest is thrown away when it is dropped.
pub(crate) struct Rest<B: Body + Send + Unpin + 'static> {
    inner: Option<B>,
    /// The connection is not idle meanwhile.
    work: Option<InWork>,
    patience: Duration,
}

impl<B: Body + Send + Unpin + 'static> Rest<B> {
    /// Throwing away ends after `patience` at the latest.
    pub(crate) fn new(inner: B, work: InWork, patience: Duration) -> Self {
        Self {
            inner: Some(inner),
            work: Some(work),
            patience,
        }
    }
}

impl<B: Body + Send + Unpin + 'static> Body for Rest<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body + Send + Unpin + 'static> Drop for Rest<B> {
    fn drop(&mut self) {
        let (Some(inner), work, patience) = (self.inner.take(), self.work.take(), self.patience) else {
            return;
        };
        if inner.is_end_stream() {
            return;
        }
        // Where there is no runtime any more, nothing is answered either.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // What comes later is the client's loss.
                let _ = tokio::time::timeout(patience, discard(inner)).await;
                drop(work);
            });
        }
    }
}

/// Reads to the end, a fault, or [`MOST`] bytes.
async fn discard<B: Body + Unpin>(mut body: B) {
    let mut left = MOST;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let bytes = frame.data_ref().map_or(0, Buf::remaining);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Phase;
    use hyper::body::Bytes;
    use tokio::sync::mpsc;

    /// Frames as a client sends them.
    struct Sent(mpsc::Receiver<Bytes>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
            self.0.poll_recv(cx).map(|bytes| bytes.map(Frame::data).map(Ok))
        }
    }

    fn body(patience: Duration) -> (mpsc::Sender<Bytes>, Rest<Sent>) {
        let (client, sent) = mpsc::channel(1);
        (client, Rest::new(Sent(sent), Phase::new().request(), patience))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn what_comes_after_the_answer_is_taken() {
        let (client, body) = body(LONG);
        drop(body);
        for _ in 0..100 {
            client.send(Bytes::from_static(&[0; 1000])).await.unwrap();
        }
    }

    #[tokio::test]
    async fn but_no_more_than_the_limit() {
        let (client, body) = body(LONG);
        drop(body);
        let mut taken = 0;
        while client.send(Bytes::from_static(&[0; 1000])).await.is_ok() {
            taken += 1000;
        }
        assert!((MOST..MOST + 3000).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn and_not_for_ever() {
        let (client, body) = body(Duration::from_millis(20));
        drop(body);
        client.closed().await;
    }

    #[tokio::test]
    async fn who_reads_it_has_it() {
        let (client, mut body) = body(LONG);
        client.send(Bytes::from_static(b"x")).await.unwrap();
        drop(client);
        let mut next = async || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert_eq!(next().await.unwrap().unwrap().into_data().unwrap(), "x");
        assert!(next().await.is_none());
    }
}
