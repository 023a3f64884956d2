//! What each answer leads to.

use std::time::{Duration, SystemTime};

use auditmon_core::delivery::Receipt;
use auditmon_core::plugin::{PluginError, Sink as _};
use axum::http::{HeaderName, StatusCode, header};
use serde_json::json;

use super::receiver::Receiver;
use super::support::{events, reason, sink, write};

/// Receipt for an event of alice and one of bob from one worker, and how many requests were made.
async fn receipt(status: u16, headers: &'static [(HeaderName, &'static str)], text: &'static str) -> (Receipt, usize) {
    let status = StatusCode::from_u16(status).unwrap();
    let receiver = Receiver::new(move |_| {
        let headers = headers.to_vec();
        (status, axum::response::AppendHeaders(headers), text)
    })
    .await;
    let events = events(&["alice", "bob"]).await;
    let receipt = write(&mut sink(&receiver.url, json!({"workers": 1})), &events).await;
    (receipt, receiver.got().len())
}

#[tokio::test]
async fn any_success_is_delivered() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(receipt(status, &[], "").await, (Receipt::all(), 2), "{status}");
    }
}

#[tokio::test]
async fn what_the_events_are_to_blame_for_goes_to_the_dead_letters() {
    for status in [400, 409, 413, 422] {
        let (receipt, requests) = receipt(status, &[], "no such\nmember").await;
        assert_eq!((requests, receipt.pending.len()), (2, 0), "{status}");
        let refused: Vec<u64> = receipt.refused.iter().map(|refused| refused.seq).collect();
        assert_eq!(refused, [0, 1], "{status}");
        let reason = &receipt.refused[0].reason;
        assert!(reason.contains(&format!("answered {status} ")), "{reason}");
        assert!(reason.ends_with(": no such member"), "{reason}");
    }
}

#[tokio::test]
async fn what_is_the_same_for_all_events_is_asked_once() {
    for status in [401, 403, 404, 405, 415, 429] {
        let (receipt, requests) = receipt(status, &[], "").await;
        assert_eq!((requests, receipt.refused.len()), (1, 0), "{status}");
        assert_eq!(receipt.pending, [0, 1], "{status}");
        assert!(reason(&receipt).contains(&format!("answered {status} ")), "{receipt:?}");
    }
}

#[tokio::test]
async fn what_may_be_due_to_an_event_leaves_others_alone() {
    for status in [408, 425, 500, 502, 503, 504, 599] {
        let (receipt, requests) = receipt(status, &[], "").await;
        assert_eq!((requests, receipt.refused.len()), (2, 0), "{status}");
        assert_eq!(receipt.pending, [0, 1], "{status}");
        assert_eq!(receipt.retry.as_ref().unwrap().after, None, "{status}");
        assert!(reason(&receipt).contains(&format!("answered {status}")), "{receipt:?}");
    }
}

#[tokio::test]
async fn retry_after_in_seconds_and_as_a_date() {
    for status in [429, 503] {
        let (receipt, _) = receipt(status, &[(header::RETRY_AFTER, "7")], "").await;
        assert_eq!(receipt.retry.unwrap().after, Some(Duration::from_secs(7)), "{status}");
    }
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(1_000));
    let receiver =
        Receiver::new(move |_| (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, date.clone())])).await;
    let receipt = write(&mut sink(&receiver.url, json!({})), &events(&["alice"]).await).await;
    let after = receipt.retry.unwrap().after.unwrap();
    assert!((1..=1_000).contains(&after.as_secs()), "{after:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_host_is_named() {
    let target = Receiver::new(|_| StatusCode::OK).await;
    for status in [301, 302, 303, 307, 308] {
        let location = target.url.replace("/in", "/t0k3n-in-the-path");
        let receiver = Receiver::new(move |_| {
            (
                StatusCode::from_u16(status).unwrap(),
                [(header::LOCATION, location.clone())],
            )
        })
        .await;
        let receipt = write(&mut sink(&receiver.url, json!({})), &events(&["alice"]).await).await;
        assert_eq!(receipt.pending, [0], "{status}");
        let (reason, host) = (reason(&receipt), target.url.strip_suffix("/in").unwrap());
        assert!(reason.contains(&format!("answered {status} ")), "{reason}");
        assert!(reason.contains(&format!("points to {host};")), "{reason}");
        assert!(!reason.contains("t0k3n"), "{reason}");
    }
    assert_eq!(target.got().len(), 0);
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_told_as_such() {
    for (location, says) in [
        (None, "nowhere"),
        (Some("mailto:a@b"), "no web address"),
        (Some("/else"), "localhost"),
    ] {
        let receiver = Receiver::new(move |_| {
            let mut response = axum::response::Response::new(axum::body::Body::empty());
            *response.status_mut() = StatusCode::FOUND;
            if let Some(location) = location {
                response
                    .headers_mut()
                    .insert(header::LOCATION, location.parse().unwrap());
            }
            response
        })
        .await;
        let receipt = write(&mut sink(&receiver.url, json!({})), &events(&["alice"]).await).await;
        assert!(reason(&receipt).contains(says), "{receipt:?}");
    }
}

#[tokio::test]
async fn gone_is_the_end_and_says_so() {
    let receiver = Receiver::new(|_| (StatusCode::GONE, "moved away")).await;
    let events = events(&["alice", "alice"]).await;
    let Err(PluginError::Permanent(reason)) = sink(&receiver.url, json!({})).write(&events).await else {
        panic!("410 ends the sink")
    };
    assert!(reason.contains("answered 410 Gone: moved away"), "{reason}");
    assert!(reason.contains("nothing is sent until `url` is changed"), "{reason}");
    assert_eq!(receiver.got().len(), 1);
}
