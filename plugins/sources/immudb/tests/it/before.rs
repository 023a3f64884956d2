//! What was there before the first contact: named, fetched beside the audits, and held to what is trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use auditmon_core::health::State;
use auditmon_testkit::eventually;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply};
use crate::lies::{answer, fork};
use crate::proto;
use crate::trial::{PLUGIN, Trial, section};

const WORDS: &str = "server=db1&database=orders&by=jane&reason=a%20bad%20disk";

/// A server whose answers hold at most so many headers, and an auditor that makes one call an interval beside its audits.
async fn start(transactions: usize, most: usize) -> (Fake, Trial, Value) {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", transactions, 0));
    fake.lie("orders", move |call, reply| match call {
        "TxScan" => answer(reply, |list: &mut proto::TxList| list.txs.truncate(most)),
        _ => reply,
    });
    let mut all = section(&fake);
    all["past_calls"] = json!(1);
    let trial = Trial::start(all.clone()).await;
    (fake, trial, all)
}

async fn left(trial: &mut Trial, left: u64) -> Value {
    let wanted = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == "orders" && data["result"] == "ok" && data["unseen"]["left"] == left
    };
    trial.ever(&format!("{left} are left"), wanted).await
}

#[tokio::test]
async fn it_is_fetched_so_many_calls_an_interval() {
    let (fake, mut trial, all) = start(45, 7).await;
    let first = trial.first("orders").await;
    assert_eq!(
        first["event_data"]["unseen"],
        json!({"first_tx": 1, "last_tx": 45, "left": 45})
    );
    left(&mut trial, 38).await;
    left(&mut trial, 0).await;
    eventually("it is counted", || {
        (trial.agent.metric("auditmon_immudb_unseen_transactions") == 0.0).then_some(())
    })
    .await;
    assert_eq!(trial.agent.metric("auditmon_immudb_first_contact_tx"), 45.0);
    // It still came before the first contact; later ones didn't.
    fake.change(|world| world.grow("orders", 5, 0));
    trial.walked("orders").await;
    let last = left(&mut trial, 0).await;
    assert_eq!(last["event_data"]["unseen"]["last_tx"], 45);

    // A restart forgets nothing of it.
    let agent = trial.stop().await;
    let calls = fake.change(|world| world.count("TxScan"));
    let mut trial = Trial::go_on(agent, all).await;
    for _ in 0..3 {
        let event = trial.verdict("orders", "ok", "").await;
        assert_eq!(event["event_data"]["unseen"]["left"], 0);
    }
    assert_eq!(fake.change(|world| world.count("TxScan")), calls);

    // And a place from before the first contact is found like any other.
    fake.db("orders", |db| fork(db, 3, 60));
    let event = trial.verdict("orders", "tampered", "proof").await;
    let location = &event["event_data"]["location"];
    assert_eq!(
        (
            &location["known_from"],
            &location["same_to"],
            &location["first_changed"]
        ),
        (&json!(1), &json!(3), &json!({"from": 4, "to": 4})),
        "{event:#}"
    );
    trial.stop().await;
}

#[tokio::test]
async fn how_far_it_has_come_is_part_of_the_state() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 60, 0));
    let (pages, open) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let opened = open.clone();
    fake.lie("orders", move |call, reply| match call {
        // What it gives at a time, one page of that, and no other until it is let on.
        "TxScan" if opened.load(Ordering::Relaxed) || pages.fetch_add(1, Ordering::Relaxed) < 2 => {
            answer(reply, |list: &mut proto::TxList| list.txs.truncate(15))
        }
        "TxScan" => Reply::Refused(14, "not now".to_owned()),
        _ => reply,
    });
    let mut all = section(&fake);
    all["past_calls"] = json!(1);
    let trial = Trial::start(all).await;
    let health = || trial.agent.health(PLUGIN).unwrap();
    let text = "looked at 15 of 60 transactions from before the first contact (25 %), in 1 database";
    eventually("it is told", || {
        (health().reason.as_deref() == Some(text)).then_some(())
    })
    .await;
    assert_eq!(health().state, State::Ok);
    open.store(true, Ordering::Relaxed);
    eventually("all is seen", || health().reason.is_none().then_some(())).await;
    assert_eq!(trial.agent.metric("auditmon_immudb_unseen_transactions"), 0.0);
    trial.stop().await;
}

#[tokio::test]
async fn a_stop_on_the_way_loses_nothing() {
    let (_fake, mut trial, all) = start(60, 7).await;
    left(&mut trial, 53).await;
    let agent = trial.stop().await;
    let mut trial = Trial::go_on(agent, all).await;
    let first = trial.verdict("orders", "ok", "").await;
    assert!(
        first["event_data"]["unseen"]["left"].as_u64().unwrap() <= 53,
        "{first:#}"
    );
    left(&mut trial, 0).await;
    trial.stop().await;
}

#[tokio::test]
async fn without_calls_none_is_made() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    let mut trial = Trial::start(section(&fake)).await;
    for _ in 0..5 {
        let event = trial.verdict("orders", "ok", "").await;
        assert_eq!(event["event_data"]["unseen"]["left"], 9);
    }
    trial.stop().await;
    fake.change(|world| assert_eq!(world.count("TxScan"), 0));
}

/// The server proves what it shows now, and gives headers that don't lead there.
#[tokio::test]
async fn headers_that_do_not_fit_are_a_finding() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    fake.lie("orders", |call, reply| match call {
        "TxScan" => answer(reply, |list: &mut proto::TxList| {
            let headers = list.txs.iter_mut().filter_map(|tx| tx.header.as_mut());
            headers
                .filter(|header| header.id == 4)
                .for_each(|header| header.ts += 1);
        }),
        _ => reply,
    });
    let mut all = section(&fake);
    all["past_calls"] = json!(5);
    let mut trial = Trial::start(all).await;
    let event = trial.verdict("orders", "tampered", "proof").await;
    let data = &event["event_data"];
    assert_eq!(
        (&data["tx"], &data["reason"]),
        (&json!(4), &json!("walk-hash")),
        "{event:#}"
    );
    assert_eq!(data["current"]["tx"], 9);
    assert_eq!(trial.trusted("orders").unwrap()["finding"]["tx"], 4);
    // Accepted, it is not found again; what is before it can't be held to anything.
    assert_eq!(trial.trust(WORDS).await.0, 200);
    left(&mut trial, 4).await;
    for _ in 0..3 {
        trial.verdict("orders", "ok", "").await;
    }
    trial.stop().await;
}

/// What can't be passed, and was accepted, ends the way back.
#[tokio::test]
async fn a_damaged_transaction_is_named_and_passed_over_once_it_is_accepted() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    fake.lie("orders", |call, reply| match (call, reply) {
        ("TxScan", Reply::Answer(bytes)) => {
            let list: proto::TxList = prost::Message::decode(&bytes[..]).unwrap();
            let damaged = |tx: &proto::Tx| tx.header.as_ref().is_some_and(|header| header.id == 3);
            if list.txs.iter().any(damaged) {
                Reply::Refused(2, "tx data is corrupted: ALH mismatch at tx 3".to_owned())
            } else {
                Reply::Answer(bytes)
            }
        }
        (_, reply) => reply,
    });
    let mut all = section(&fake);
    all["past_calls"] = json!(5);
    let mut trial = Trial::start(all).await;
    let event = trial.verdict("orders", "tampered", "corrupt-tx").await;
    assert_eq!(event["event_data"]["tx"], 3);
    assert_eq!(trial.trust(WORDS).await.0, 200);
    left(&mut trial, 3).await;
    for _ in 0..3 {
        trial.verdict("orders", "ok", "").await;
    }
    trial.stop().await;
}

/// A history that is another one by now is told as that, not by what the work beside the audits sees of it.
#[tokio::test]
async fn an_audit_tells_more_than_the_work_beside_it() {
    for _ in 0..3 {
        let (fake, mut trial, _) = start(60, 7).await;
        left(&mut trial, 53).await;
        fake.db("orders", |db| fork(db, 2, 0));
        let tampered = |event: &Value| event["event_data"]["result"] == "tampered";
        let event = trial.ever("it is found", tampered).await;
        assert_eq!(event["event_data"]["code"], "rollback", "{event:#}");
        trial.stop().await;
    }
}
