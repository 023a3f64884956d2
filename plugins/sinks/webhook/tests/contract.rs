//! What every plugin keeps, against a receiver on this host.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;

use auditmon_core::plugin::Entry;
use auditmon_sink_webhook::WebhookConfig;
use auditmon_testkit::contract;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Places of the events that were posted, in the order of their arrival.
type Taken = Arc<Mutex<Vec<u64>>>;

/// A receiver in a thread of its own: each check has a runtime of its own.
fn receiver() -> (SocketAddr, Taken) {
    let taken = Taken::default();
    let shared = taken.clone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let router = Router::new().route("/", post(take)).with_state(shared);
            axum::serve(listener, router).await.unwrap();
        });
    });
    (address, taken)
}

async fn take(State(taken): State<Taken>, body: axum::body::Bytes) -> StatusCode {
    let events: Value = serde_json::from_slice(&body).unwrap();
    let seqs = events.as_array().unwrap().iter().map(|event| event["seq"].as_u64());
    taken.lock().extend(seqs.map(Option::unwrap));
    StatusCode::NO_CONTENT
}

#[test]
fn the_configuration_keeps_the_contract() {
    let entry = Entry::sinks::<WebhookConfig>("webhook");
    contract::config_that_needs::<WebhookConfig>(&entry, &json!({"url": "https://siem.example/in"}));
}

#[test]
fn the_sink_keeps_the_contract() {
    let entry = Entry::sinks::<WebhookConfig>("webhook");
    let (address, taken) = receiver();
    // One worker: events come in the order of the journal.
    let section =
        move |_: &std::path::Path| json!({"url": format!("http://{address}/"), "body": "array", "workers": 1});
    contract::Sink::new(&entry, section)
        // Each check has a journal of its own.
        .taken(move |_| std::mem::take(&mut *taken.lock()))
        .keeps();
}
