//! Several events in a request: bodies, limits, and what is refused as a whole.

use auditmon_core::delivery::Receipt;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::receiver::{Received, Receiver};
use super::support::{events, events_of, reason, seqs, sink, write};

const USERS: [&str; 10] = ["a", "b", "c", "a", "bad", "b", "c", "a", "bad", "b"];

fn bodies(more: Value) -> Value {
    let mut section = json!({"body": "array", "workers": 1});
    section
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    section
}

#[tokio::test]
async fn bodies_are_what_the_codec_makes() {
    let events = events(&USERS).await;
    for (body, content_type, requests) in [
        ("event", "application/json", 10),
        ("array", "application/json", 1),
        ("ndjson", "application/x-ndjson", 1),
    ] {
        let receiver = Receiver::new(|_| StatusCode::OK).await;
        let mut sink = sink(&receiver.url, bodies(json!({"body": body})));
        assert_eq!(write(&mut sink, &events).await, Receipt::all());
        let got = receiver.got();
        assert_eq!(got.len(), requests, "{body}");
        assert_eq!(receiver.users(), USERS, "{body}");
        for received in &got {
            assert_eq!(received.header("content-type"), content_type);
            assert_eq!(
                received.header("user-agent"),
                concat!("auditmon/", env!("CARGO_PKG_VERSION"))
            );
            assert_eq!(received.path, "/in");
        }
        let first = got[0].events()[0].clone();
        assert_eq!((&first["seq"], &first["origin"]), (&json!(0), &json!(events.origin())));
        let (start, end) = (got[0].body[0], *got[0].body.last().unwrap());
        assert_eq!(
            (start == b'[', end == b']', end == b'\n'),
            (body == "array", body == "array", body == "ndjson")
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_for_no_events() {
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    let none = auditmon_core::subscription::Events::new("h/00".into());
    for body in ["event", "array", "ndjson"] {
        let mut sink = sink(&receiver.url, bodies(json!({"body": body})));
        assert_eq!(write(&mut sink, &none).await, Receipt::all());
    }
    assert_eq!(receiver.got().len(), 0);
}

#[tokio::test]
async fn bodies_of_several_events_have_their_limit() {
    let events = events_of(&["a"; 20], 500).await;
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    let mut sink = sink(&receiver.url, bodies(json!({"max_body": "3KiB"})));
    assert_eq!(write(&mut sink, &events).await, Receipt::all());
    let got = receiver.got();
    assert!(got.iter().all(|received| received.body.len() <= 3 << 10));
    assert!(got.iter().any(|received| received.events().len() > 1));
    assert_eq!(receiver.users().len(), 20);
}

#[tokio::test]
async fn an_event_larger_than_that_goes_alone() {
    let events = events_of(&["a", "a", "a"], 2_000).await;
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    let mut sink = sink(&receiver.url, bodies(json!({"max_body": "1KiB"})));
    assert_eq!(write(&mut sink, &events).await, Receipt::all());
    let sizes: Vec<usize> = receiver.got().iter().map(|received| received.events().len()).collect();
    assert_eq!(sizes, [1, 1, 1]);
}

#[tokio::test]
async fn only_what_is_refused_alone_goes_to_the_dead_letters() {
    let bad = |received: &Received| received.users().iter().any(|user| user == "bad");
    for status in [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ] {
        let events = events(&USERS).await;
        let receiver = Receiver::new(move |received| if bad(received) { status } else { StatusCode::OK }).await;
        let receipt = write(&mut sink(&receiver.url, bodies(json!({}))), &events).await;
        let refused: Vec<u64> = receipt.refused.iter().map(|refused| refused.seq).collect();
        assert_eq!(refused, seqs(&events, "bad"), "{status}");
        assert!(receipt.pending.is_empty());

        // Each of the others was taken once, in order.
        let taken = receiver.got().into_iter().filter(|received| !bad(received));
        let taken: Vec<u64> = taken
            .flat_map(|received| received.events())
            .map(|event| event["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(taken, [0, 1, 2, 3, 5, 6, 7, 9], "{status}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_halved_until_it_fits() {
    let events = events_of(&["a"; 16], 500).await;
    let receiver = Receiver::new(|received| match received.body.len() {
        0..2_500 => StatusCode::OK,
        _ => StatusCode::PAYLOAD_TOO_LARGE,
    })
    .await;
    assert_eq!(
        write(&mut sink(&receiver.url, bodies(json!({}))), &events).await,
        Receipt::all()
    );
    let taken: Vec<usize> = receiver.got().iter().map(|received| received.events().len()).collect();
    assert_eq!(taken, [16, 8, 4, 2, 2, 4, 2, 2, 8, 4, 2, 2, 4, 2, 2]);
}

#[tokio::test]
async fn while_halving_the_order_of_a_key_holds() {
    // `bad` is refused, and `c` waits: what follows of c must wait, although it stands in other halves.
    let receiver = Receiver::new(|received| {
        let users = received.users();
        if users.iter().any(|user| user == "bad") {
            StatusCode::BAD_REQUEST
        } else if users.iter().any(|user| user == "c") {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::OK
        }
    })
    .await;
    let events = events(&["bad", "c", "a", "c", "b", "bad"]).await;
    let receipt = write(&mut sink(&receiver.url, bodies(json!({}))), &events).await;
    let refused: Vec<u64> = receipt.refused.iter().map(|refused| refused.seq).collect();
    assert_eq!(refused, [0, 5]);
    assert_eq!(receipt.pending, [1, 3]);
    assert!(reason(&receipt).contains("answered 500"), "{receipt:?}");
    let got = receiver.got();
    let users: Vec<_> = got.iter().map(|received| received.users().join(" ")).collect();
    assert_eq!(
        users,
        [
            "bad c a c b bad",
            "bad c a",
            "bad c",
            "bad",
            "c",
            "a",
            "b bad",
            "b",
            "bad"
        ]
    );
}

#[tokio::test]
async fn workers_share_the_events_of_a_batch() {
    let users: Vec<String> = (0..40).map(|n| format!("user{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let events = events(&users).await;
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    let mut sink = sink(&receiver.url, bodies(json!({"workers": 4})));
    assert_eq!(write(&mut sink, &events).await, Receipt::all());
    assert_eq!(receiver.got().len(), 4);
    assert_eq!(receiver.users().len(), 40);
}
