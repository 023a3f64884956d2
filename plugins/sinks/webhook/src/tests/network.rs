//! Servers that are not there, slow, broken or endless.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auditmon_core::delivery::Receipt;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::support::{events, reason, sink, write};

/// A server that reads each request to its end, and then does what a test says with the connection.
async fn raw<F>(then: impl Fn(TcpStream) -> F + Send + 'static) -> (String, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            while !request.ends_with(b"\"}") {
                if stream.read_buf(&mut request).await.unwrap() == 0 {
                    break;
                }
            }
            tokio::spawn(then(stream));
        }
    });
    (url, requests)
}

/// Receipt for one event after an answer of these bytes, whereafter the connection is closed.
async fn after(answer: &'static [u8]) -> Receipt {
    let (url, _) = raw(move |mut stream| async move {
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    write(
        &mut sink(&url, json!({"request_timeout": "60s"})),
        &events(&["alice"]).await,
    )
    .await
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    drop(listener);
    let users: Vec<String> = (0..50).map(|n| format!("user{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let receipt = write(&mut sink(&url, json!({})), &events(&users).await).await;
    assert_eq!(receipt.pending.len(), 50);
    let reason = reason(&receipt);
    assert!(reason.contains("can't be reached: Connection refused"), "{reason}");
    assert!(reason.starts_with(url.strip_suffix("/in").unwrap()), "{reason}");
}

#[tokio::test]
async fn a_connection_that_ends_early_leaves_the_events_waiting() {
    for answer in [
        &b""[..],
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
    ] {
        let receipt = after(answer).await;
        assert_eq!(receipt.pending, [0]);
        let reason = reason(&receipt);
        assert!(reason.contains("the connection failed before an answer"), "{reason}");
    }
}

#[tokio::test]
async fn the_status_counts_although_the_body_is_cut() {
    assert_eq!(
        after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123").await,
        Receipt::all()
    );
    let receipt = after(b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 9\r\n\r\nbad").await;
    assert!(
        receipt.refused[0].reason.ends_with("422 Unprocessable Entity: bad"),
        "{receipt:?}"
    );
}

#[tokio::test]
async fn a_silent_server_is_waited_for_no_longer_than_the_timeout() {
    let (url, requests) = raw(async |_stream| std::future::pending().await).await;
    // Long enough for the connection, however busy the host is.
    let mut sink = sink(&url, json!({"request_timeout": "2s"}));
    let receipt = write(&mut sink, &events(&["alice", "alice"]).await).await;
    assert_eq!(receipt.pending, [0, 1]);
    assert!(reason(&receipt).ends_with("no answer within 2s"), "{receipt:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_of_its_answer() {
    for (answer, pending) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], vec![0_u64]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", vec![]),
    ] {
        let (url, _) = raw(move |mut stream| async move {
            stream.write_all(answer).await.unwrap();
            std::future::pending().await
        })
        .await;
        let mut sink = sink(&url, json!({"request_timeout": "2s"}));
        assert_eq!(write(&mut sink, &events(&["alice"]).await).await.pending, pending);
    }
}

#[tokio::test]
async fn an_endless_body_is_read_to_4_kib_only() {
    const LIMIT: usize = 64 << 20;
    for status in ["200 OK", "422 Unprocessable Content"] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let (url, _) = raw(move |mut stream| {
            let count = count.clone();
            async move {
                let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(1 << 16));
                // Ends when the other side closes. One that reads on is stopped here, or the test would have no end.
                while count.load(Ordering::SeqCst) < LIMIT && stream.write_all(chunk.as_bytes()).await.is_ok() {
                    count.fetch_add(chunk.len(), Ordering::SeqCst);
                }
            }
        })
        .await;
        let mut sink = sink(&url, json!({"request_timeout": "60s"}));
        let receipt = write(&mut sink, &events(&["alice"]).await).await;
        // What the kernel's buffers hold was sent, and no more.
        assert!(sent.load(Ordering::SeqCst) < LIMIT, "{status}");
        assert_eq!(receipt.refused.is_empty(), status.starts_with("200"));
        assert!(receipt.refused.iter().all(|refused| refused.reason.len() < 400));
    }
}

#[tokio::test]
async fn an_endless_head_is_given_up() {
    let (url, _) = raw(async |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream
            .write_all(b"X-More: of the same and never an end to it\r\n")
            .await
            .is_ok()
        {}
    })
    .await;
    let mut sink = sink(&url, json!({"request_timeout": "60s"}));
    let receipt = write(&mut sink, &events(&["alice"]).await).await;
    assert!(
        reason(&receipt).contains("the connection failed before an answer"),
        "{receipt:?}"
    );
}
