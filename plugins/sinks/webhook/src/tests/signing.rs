//! Headers of Standard Webhooks, checked by a computation of our own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use auditmon_core::delivery::Receipt;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::receiver::{Received, Receiver};
use super::support::{events, file, sink, write};

/// HMAC-SHA256 as RFC 2104 has it, for keys of at most 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([pad(0x36), text.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

fn signature(key: &[u8], received: &Received) -> String {
    let head = format!(
        "{}.{}.",
        received.header("webhook-id"),
        received.header("webhook-timestamp")
    );
    format!(
        "v1,{}",
        STANDARD.encode(hmac(key, &[head.as_bytes(), &received.body].concat()))
    )
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[tokio::test]
async fn every_request_is_signed() {
    let dir = tempfile::TempDir::new().unwrap();
    let (old, new) = ([7_u8; 24], [0xfe_u8; 32]);
    let whsec = |key: &[u8]| format!("whsec_{}\n", STANDARD.encode(key));
    for (name, bytes, keys) in [
        ("raw", old.to_vec(), vec![&old[..]]),
        ("text", whsec(&new).into_bytes(), vec![&new[..]]),
        (
            "both",
            (whsec(&new) + &whsec(&old)).into_bytes(),
            vec![&new[..], &old[..]],
        ),
    ] {
        let path = file(dir.path(), name, 0o600, bytes);
        for body in ["event", "array", "ndjson"] {
            let receiver = Receiver::new(|_| StatusCode::OK).await;
            let before = now();
            let mut sink = sink(&receiver.url, json!({"secret_file": path, "body": body}));
            assert_eq!(
                write(&mut sink, &events(&["alice", "alice"]).await).await,
                Receipt::all()
            );
            for received in receiver.got() {
                let want: Vec<String> = keys.iter().map(|key| signature(key, &received)).collect();
                assert_eq!(received.header("webhook-signature"), want.join(" "));
                let timestamp: u64 = received.header("webhook-timestamp").parse().unwrap();
                assert!((before..=now()).contains(&timestamp));
            }
        }
    }
}

#[tokio::test]
async fn without_a_key_there_is_no_signature() {
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    write(&mut sink(&receiver.url, json!({})), &events(&["alice"]).await).await;
    let got = receiver.got();
    assert!(!got[0].headers.contains_key("webhook-signature"));
    assert!(got[0].headers.contains_key("webhook-timestamp"));
}

#[tokio::test]
async fn the_id_is_the_events_own_and_the_same_at_each_attempt() {
    let fail = Arc::new(AtomicBool::new(true));
    for body in ["event", "array", "ndjson"] {
        let failing = fail.clone();
        let receiver = Receiver::new(move |_| match failing.load(Ordering::SeqCst) {
            true => StatusCode::INTERNAL_SERVER_ERROR,
            false => StatusCode::OK,
        })
        .await;
        let one = events(&["alice"]).await;
        let mut sink = sink(&receiver.url, json!({"body": body}));
        fail.store(true, Ordering::SeqCst);
        assert_eq!(write(&mut sink, &one).await.pending, [0]);
        fail.store(false, Ordering::SeqCst);
        write(&mut sink, &one).await;
        let got = receiver.got();
        assert_eq!(got.len(), 2);
        for received in &got {
            assert_eq!(
                received.header("webhook-id"),
                received.events()[0]["event_id"].as_str().unwrap()
            );
        }
    }
}

#[tokio::test]
async fn the_id_of_several_names_just_these() {
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    let mut sink = sink(&receiver.url, json!({"body": "array"}));
    let (some, others) = (events(&["alice", "alice"]).await, events(&["alice", "alice"]).await);
    for events in [&some, &some, &others] {
        write(&mut sink, events).await;
    }
    let ids: Vec<String> = receiver
        .got()
        .iter()
        .map(|got| got.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    // A full stop would let the parts of the signed text run into each other.
    assert!(
        ids.iter().all(|id| id.starts_with("batch_") && !id.contains('.')),
        "{ids:?}"
    );
}
