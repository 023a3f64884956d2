//! Order by key, and how many requests run at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auditmon_core::delivery::Receipt;
use auditmon_core::plugin::Sink as _;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::json;
use tokio::sync::Barrier;

use super::receiver::Receiver;
use super::support::{events, reason, seqs, sink, write};

/// `rounds` events of each of `users` users, in turns.
fn in_turns(users: usize, rounds: usize) -> Vec<String> {
    let names = (0..users).map(|n| format!("user{n}"));
    std::iter::repeat_n(names.collect::<Vec<_>>(), rounds)
        .flatten()
        .collect()
}

fn refs(users: &[String]) -> Vec<&str> {
    users.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_in_order_while_several_requests_run() {
    // A request waits until a second one is there: one after the other would never end.
    let (met, running, most) = (
        Arc::new(Barrier::new(2)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (first, peak) = (Arc::new(AtomicUsize::new(0)), most.clone());
    let receiver = Receiver::with(None, move |received| {
        let (met, running, most, first) = (met.clone(), running.clone(), most.clone(), first.clone());
        Box::pin(async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if first.fetch_add(1, Ordering::SeqCst) < 2 {
                met.wait().await;
            }
            // Some are answered later than others.
            for _ in 0..received.body.len() % 7 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            StatusCode::OK.into_response()
        })
    })
    .await;
    let users = in_turns(20, 20);
    let events = events(&refs(&users)).await;
    let mut sink = sink(&receiver.url, json!({"workers": 4}));
    assert_eq!(write(&mut sink, &events).await, Receipt::all());

    let mut by_user: HashMap<String, Vec<u64>> = HashMap::new();
    for event in receiver.got().iter().flat_map(|received| received.events()) {
        let user = event["username"].as_str().unwrap().to_owned();
        by_user.entry(user).or_default().push(event["seq"].as_u64().unwrap());
    }
    assert_eq!(by_user.len(), 20);
    for (user, got) in by_user {
        assert_eq!(got, seqs(&events, &user), "{user}");
    }
    let most = peak.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at once");
}

#[tokio::test]
async fn the_order_of_the_journal_is_one_after_the_other() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let receiver = Receiver::with(None, move |_| {
        let (running, most) = (running.clone(), most.clone());
        Box::pin(async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            StatusCode::OK.into_response()
        })
    })
    .await;
    let users = in_turns(10, 3);
    let events = events(&refs(&users)).await;
    let mut sink = sink(&receiver.url, json!({"workers": 8, "order": "journal"}));
    assert_eq!(write(&mut sink, &events).await, Receipt::all());
    assert_eq!(receiver.users(), users);
    assert_eq!(peak.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_key_whose_event_waits_waits_as_a_whole_and_others_go_on() {
    let receiver = Receiver::new(|received| match received.users()[0].as_str() {
        "bad" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    })
    .await;
    let events = events(&["alice", "bad", "bob", "bad", "alice", "bad", "carol"]).await;
    for workers in [1, 4] {
        let mut sink = sink(&receiver.url, json!({"workers": workers}));
        let receipt = write(&mut sink, &events).await;
        assert_eq!(receipt.pending, seqs(&events, "bad"), "{workers}");
        assert!(receipt.refused.is_empty());
        assert!(reason(&receipt).contains("answered 500"), "{receipt:?}");
    }
    let mut users = receiver.users();
    users.sort();
    // Once for each number of workers, and the second and third of the bad one never.
    let sent = ["alice", "alice", "bad", "bob", "carol"];
    let twice: Vec<_> = sent.iter().flat_map(|user| [*user, *user]).collect();
    assert_eq!(users, twice);
}

#[tokio::test]
async fn in_the_journals_order_an_event_that_waits_holds_up_all() {
    let receiver = Receiver::new(|received| match received.users()[0].as_str() {
        "bad" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    })
    .await;
    let events = events(&["alice", "bad", "bob"]).await;
    let receipt = write(&mut sink(&receiver.url, json!({"order": "journal"})), &events).await;
    assert_eq!(receipt.pending, [1, 2]);
    assert_eq!(receiver.users(), ["alice", "bad"]);
}

#[tokio::test]
async fn a_receiver_that_fails_for_everybody_is_left_alone() {
    let users = in_turns(100, 1);
    let events = events(&refs(&users)).await;
    let receiver = Receiver::new(|_| StatusCode::BAD_GATEWAY).await;
    let receipt = write(&mut sink(&receiver.url, json!({"workers": 1})), &events).await;
    assert_eq!((receipt.pending.len(), receiver.got().len()), (100, 8));

    // Who names a time, or says that it is too much, is asked once.
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
        let receiver = Receiver::new(move |_| (status, [(header::RETRY_AFTER, "3")])).await;
        let receipt = write(&mut sink(&receiver.url, json!({"workers": 1})), &events).await;
        assert_eq!((receipt.pending.len(), receiver.got().len()), (100, 1));
    }
}

#[tokio::test]
async fn failures_count_in_a_row_only() {
    let receiver = Receiver::new(|received| match received.users()[0].as_str() {
        "user1" | "user3" | "user5" | "user7" | "user9" | "user11" | "user13" | "user15" | "user17" => {
            StatusCode::BAD_GATEWAY
        }
        _ => StatusCode::OK,
    })
    .await;
    let users = in_turns(20, 1);
    let events = events(&refs(&users)).await;
    let receipt = write(&mut sink(&receiver.url, json!({"workers": 1})), &events).await;
    assert_eq!(receipt.pending, [1, 3, 5, 7, 9, 11, 13, 15, 17]);
    assert_eq!(receiver.users(), users);
}

#[tokio::test]
async fn what_was_answered_in_a_hand_over_that_was_cut_off_is_not_sent_again() {
    let (reached, go_on) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (tell, look) = (reached.clone(), go_on.clone());
    let receiver = Receiver::with(None, move |received| {
        let (tell, look) = (tell.clone(), look.clone());
        Box::pin(async move {
            match received.users()[0].as_str() {
                "bad" => StatusCode::BAD_REQUEST.into_response(),
                "slow" if look.load(Ordering::SeqCst) == 0 => {
                    tell.notify_one();
                    std::future::pending().await
                }
                _ => StatusCode::OK.into_response(),
            }
        })
    })
    .await;
    let events = events(&["alice", "bad", "slow", "bob"]).await;
    let mut sink = sink(&receiver.url, json!({"order": "journal"}));
    tokio::select! {
        _ = sink.write(&events) => panic!("the third event is never answered"),
        () = reached.notified() => {}
    }
    go_on.store(1, Ordering::SeqCst);
    sink.start("h/00").await.unwrap();
    let receipt = write(&mut sink, &events).await;
    assert_eq!(receiver.users(), ["alice", "bad", "slow", "slow", "bob"]);
    assert_eq!(receipt.pending, [0_u64; 0]);
    let refused: Vec<u64> = receipt.refused.iter().map(|refused| refused.seq).collect();
    assert_eq!(refused, [1]);

    // A hand-over that ended is forgotten: the same events are sent again if they come again.
    write(&mut sink, &events).await;
    assert_eq!(receiver.users().len(), 9);
}
