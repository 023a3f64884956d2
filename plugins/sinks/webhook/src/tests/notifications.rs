//! Audits as immuclient posts them.

use auditmon_core::batch::Batch;
use auditmon_core::delivery::Receipt;
use auditmon_core::event::{Data, Draft, Kind};
use auditmon_core::subscription::Events;
use axum::http::StatusCode;
use serde_json::json;

use super::receiver::Receiver;
use super::support::{sink, write};

/// An audit in order, one that nothing could be said of, and a finding.
fn audits() -> Events {
    let state = |tx: u64| json!({"tx": tx, "hash": "00ff", "signature": null, "signed_by": null});
    let mut batch = Batch::detached("immudb", Kind::Immudb, "h", "immudb");
    for (name, data) in [
        (
            "immudb.audit.ok",
            json!({"database": "a", "checked": "walk", "trusted": state(1), "current": state(2)}),
        ),
        ("immudb.audit.error", json!({"database": "b", "trusted": state(1)})),
        (
            "immudb.audit.tampered",
            json!({"database": "c", "trusted": state(3), "current": state(4)}),
        ),
    ] {
        let data = data.to_string();
        let draft = Draft {
            data: Data::Raw(&data),
            ..Draft::new(name, "auditmon")
        };
        batch.push(draft).unwrap();
    }
    Events::of_batch("h/00", 0, batch)
}

async fn posted(status: u16) -> (Receipt, Vec<serde_json::Value>) {
    let status = StatusCode::from_u16(status).unwrap();
    let receiver = Receiver::new(move |_| (status, "")).await;
    let more = json!({
        "workers": 1, "format": "immuclient", "credentials": {"username": "u", "password": "note-password"},
    });
    let receipt = write(&mut sink(&receiver.url, more), &audits()).await;
    let got = receiver.got().iter().flat_map(|got| got.events()).collect();
    (receipt, got)
}

#[tokio::test]
async fn audits_are_posted_with_the_sinks_credentials_and_nothing_else_is() {
    for status in [200, 201, 202, 204] {
        let (receipt, got) = posted(status).await;
        assert_eq!(receipt, Receipt::all(), "{status}");
        let said: Vec<_> = got
            .iter()
            .map(|body| (body["db"].as_str().unwrap(), body["tampered"].as_bool().unwrap()))
            .collect();
        assert_eq!(said, [("a", false), ("c", true)]);
        let body = &got[1];
        assert_eq!(
            (&body["username"], &body["password"]),
            (&json!("u"), &json!("note-password"))
        );
        assert_eq!(
            (&body["previous_state"]["tx"], &body["current_state"]["tx"]),
            (&json!(3), &json!(4))
        );
    }
}

#[tokio::test]
async fn other_successes_are_none() {
    for status in [203, 206, 299] {
        let (receipt, got) = posted(status).await;
        assert_eq!((receipt.refused.len(), got.len()), (2, 2), "{status}");
        assert!(
            receipt.refused[0].reason.contains(&format!("answered {status}")),
            "{receipt:?}"
        );
    }
}
