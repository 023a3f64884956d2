//! Values, checked beside the audits against a server that changes, hides or loses them.

use std::sync::Arc;

use auditmon_testkit::eventually;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, add, plan};
use crate::proto;
use crate::trial::{Trial, section};

const WORDS: &str = "server=db1&database=orders&by=jane&reason=a%20bad%20disk";

fn with_values(fake: &Fake) -> Value {
    let mut all = section(fake);
    all["value_calls"] = json!(20);
    all
}

/// A database of 9 transactions of one key each.
async fn nine() -> Fake {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    fake
}

/// Changes the pages that carry values.
fn lie(fake: &Fake, mut change: impl FnMut(&mut proto::TxList) -> Option<&'static str> + Send + 'static) {
    fake.lie("orders", move |call, reply| match (call, reply) {
        ("TxScan", Reply::Answer(bytes)) => {
            let mut list = proto::TxList::decode(&bytes[..]).unwrap();
            let valued = |entry: &Vec<u8>| !proto::TxEntry::decode(&entry[..]).unwrap().value.is_empty();
            if !list.txs.iter().flat_map(|tx| &tx.entries).any(valued) {
                return Reply::Answer(bytes);
            }
            match change(&mut list) {
                Some(says) => Reply::Refused(2, says.to_owned()),
                None => Reply::Answer(list.encode_to_vec()),
            }
        }
        (_, reply) => reply,
    });
}

/// Changes the entries of a transaction in such a page.
fn entries_of(list: &mut proto::TxList, id: u64, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let of = |tx: &&mut proto::Tx| tx.header.as_ref().is_some_and(|header| header.id == id);
    if let Some(tx) = list.txs.iter_mut().find(of) {
        change(&mut tx.entries);
    }
}

fn edit(entry: &mut Vec<u8>, change: impl FnOnce(&mut proto::TxEntry)) {
    let mut message = proto::TxEntry::decode(&entry[..]).unwrap();
    change(&mut message);
    *entry = message.encode_to_vec();
}

fn holds(list: &proto::TxList, id: u64) -> bool {
    list.txs
        .iter()
        .any(|tx| tx.header.as_ref().is_some_and(|header| header.id == id))
}

async fn all_checked(trial: &mut Trial) -> Value {
    let wanted = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == "orders" && data["result"] == "ok" && data["values"]["unchecked"] == 0
    };
    trial.ever("all values were checked", wanted).await
}

/// The finding, whose key is that of the transaction.
async fn found(trial: &mut Trial, code: &str, reason: &str, tx: u64) -> Value {
    let event = trial.verdict("orders", "tampered", code).await;
    let data = event["event_data"].clone();
    assert_eq!((&data["tx"], &data["reason"]), (&json!(tx), &json!(reason)), "{data:#}");
    data
}

fn assert_names(data: &Value, key: &str) {
    assert_eq!(data["keys"][0]["key"], key, "{data:#}");
    assert_eq!(data["keys"].as_array().unwrap().len(), 1, "{data:#}");
    assert!(data["text"].as_str().unwrap().contains(&format!("{key:?}")), "{data:#}");
}

#[tokio::test]
async fn honest_values_are_checked_again_and_again() {
    let fake = nine().await;
    let mut trial = Trial::start(with_values(&fake)).await;
    let first = trial.first("orders").await;
    let expected = json!({"unchecked": 9, "oldest_unchecked": 1, "round_seconds": null, "not_given": 0});
    assert_eq!(first["event_data"]["values"], expected);
    let event = all_checked(&mut trial).await;
    let expected = json!({"unchecked": 0, "oldest_unchecked": null, "round_seconds": 0, "not_given": 0});
    assert_eq!(event["event_data"]["values"], expected);
    fake.change(|world| world.grow("orders", 3, 0));
    trial.walked("orders").await;
    let checked = |event: &Value| {
        let data = &event["event_data"];
        data["current"]["tx"] == 12 && data["values"]["unchecked"] == 0
    };
    trial.ever("new ones are checked, too", checked).await;
    eventually("keys are asked for", || {
        (trial.agent.metric("auditmon_immudb_keys_proven_total") >= 3.0).then_some(())
    })
    .await;
    assert_eq!(trial.agent.metric("auditmon_immudb_oldest_unchecked_tx"), 0.0);
    assert!(
        trial
            .events
            .iter()
            .all(|event| event["event_data"]["result"] != "tampered")
    );
    trial.stop().await;
}

#[tokio::test]
async fn all_forms_of_entries_are_in_order() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 1, 0));
    fake.db("orders", |db| {
        let mut many = plan(1, 0, 1, 0);
        // A set, SQL, a document, whose value is never given, and an empty value.
        many.entries = vec![
            (b"\x01set".to_vec(), Vec::new()),
            (b"\x02row".to_vec(), vec![7; 40]),
            (b"\x03document".to_vec(), vec![8; 40]),
            (b"\0empty".to_vec(), vec![0]),
        ];
        let old = plan(2, 0, 0, 0);
        let mut none = plan(3, 0, 1, 0);
        none.entries.clear();
        none.extra = vec![1];
        add(&mut db.data, [many, old, none].into_iter());
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let event = all_checked(&mut trial).await;
    // That of the document.
    assert_eq!(event["event_data"]["values"]["not_given"], 1);
    trial.stop().await;
}

#[tokio::test]
async fn a_changed_value_is_found_with_its_key() {
    let fake = nine().await;
    lie(&fake, |list| {
        entries_of(list, 4, |entries| edit(&mut entries[0], |entry| entry.value[1] ^= 1));
        None
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let data = found(&mut trial, "value", "value-hash", 4).await;
    assert_names(&data, "k3");
    // Accepted, it is passed over, and the others are checked.
    assert_eq!(trial.trust(WORDS).await.0, 200);
    all_checked(&mut trial).await;
    for _ in 0..5 {
        trial.verdict("orders", "ok", "").await;
    }
    trial.stop().await;
}

#[tokio::test]
async fn a_value_that_is_left_out_is_found() {
    let fake = nine().await;
    lie(&fake, |list| {
        entries_of(list, 4, Vec::clear);
        None
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let data = found(&mut trial, "value", "value-withheld", 4).await;
    assert_names(&data, "k3");
    trial.stop().await;
}

#[tokio::test]
async fn another_key_is_found() {
    let fake = nine().await;
    lie(&fake, |list| {
        entries_of(list, 4, |entries| {
            edit(&mut entries[0], |entry| entry.key = b"\0other".to_vec())
        });
        None
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    found(&mut trial, "proof", "entries", 4).await;
    trial.stop().await;
}

/// The server finds the damage itself, and doesn't say where.
#[tokio::test]
async fn a_value_that_the_server_can_not_read_is_found_with_its_key() {
    let fake = nine().await;
    let says = "data is corrupted: value length or digest mismatch";
    fake.lie("orders", move |call, reply| {
        let bytes = match reply {
            Reply::Answer(bytes) => bytes,
            other => return other,
        };
        let damaged = match call {
            "VerifiableGet" => {
                let answer = proto::VerifiableEntry::decode(&bytes[..]).unwrap();
                answer.entry.unwrap().key == b"k3"
            }
            "TxScan" => {
                let list = proto::TxList::decode(&bytes[..]).unwrap();
                let valued = |entry: &Vec<u8>| !proto::TxEntry::decode(&entry[..]).unwrap().value.is_empty();
                holds(&list, 4) && list.txs.iter().flat_map(|tx| &tx.entries).any(valued)
            }
            _ => false,
        };
        if damaged {
            Reply::Refused(2, says.to_owned())
        } else {
            Reply::Answer(bytes)
        }
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let data = found(&mut trial, "value", "value", 4).await;
    assert_names(&data, "k3");
    trial.stop().await;
}

#[tokio::test]
async fn new_transactions_are_checked_first() {
    let fake = nine().await;
    let mut all = with_values(&fake);
    all["value_calls"] = json!(1);
    let mut trial = Trial::start(all).await;
    all_checked(&mut trial).await;
    lie(&fake, |list| {
        entries_of(list, 11, |entries| edit(&mut entries[0], |entry| entry.value.push(1)));
        None
    });
    fake.change(|world| world.grow("orders", 3, 0));
    let data = found(&mut trial, "value", "value-hash", 11).await;
    assert_names(&data, "k10");
    trial.stop().await;
}

/// A server that always gives one transaction less is asked for half as many each time: no page takes many calls.
#[tokio::test]
async fn a_page_that_shrinks_takes_few_calls() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 90, 0));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    lie(&fake, move |list| {
        seen.lock().push(list.txs.len());
        let most = list.txs.len().saturating_sub(1).max(1);
        list.txs.truncate(most);
        None
    });
    let mut all = with_values(&fake);
    all["value_calls"] = json!(1);
    let trial = Trial::start(all).await;
    let first = eventually("a page is brought to its end", || {
        let asked = asked.lock();
        (asked.len() >= 7).then(|| asked[..7].to_vec())
    })
    .await;
    assert_eq!(first, [90, 45, 22, 11, 5, 2, 1]);
    trial.stop().await;
}

/// Values that a later transaction says were truncated may be gone; others may not.
#[tokio::test]
async fn values_that_are_gone() {
    for truncated in [4, 0] {
        let fake = Fake::start().await;
        fake.change(|world| world.grow("orders", 5, 0));
        fake.db("orders", |db| {
            let plans = (5..9).map(|at| {
                let mut plan = plan(at, 0, 1, 0);
                if at == 6 {
                    plan.truncated = truncated;
                }
                plan
            });
            add(&mut db.data, plans);
        });
        lie(&fake, |list| (1..4).any(|id| holds(list, id)).then_some("EOF"));
        let mut trial = Trial::start(with_values(&fake)).await;
        if truncated == 0 {
            found(&mut trial, "value", "values-gone", 3).await;
        } else {
            let event = all_checked(&mut trial).await;
            assert_eq!(event["event_data"]["values"]["not_given"], 3);
            for _ in 0..5 {
                trial.verdict("orders", "ok", "").await;
            }
        }
        trial.stop().await;
    }
}

/// Servers before 1.2.3 give entries and no values: that is told, and no finding.
#[tokio::test]
async fn a_server_that_gives_no_values() {
    let fake = nine().await;
    lie(&fake, |list| {
        let entries = list.txs.iter_mut().flat_map(|tx| &mut tx.entries);
        entries.for_each(|entry| edit(entry, |entry| entry.value.clear()));
        None
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let event = all_checked(&mut trial).await;
    assert_eq!(event["event_data"]["values"]["not_given"], 9);
    trial.stop().await;
}

/// It gave values before: then none is blank.
#[tokio::test]
async fn a_value_that_is_blanked_is_found() {
    let fake = nine().await;
    let mut trial = Trial::start(with_values(&fake)).await;
    all_checked(&mut trial).await;
    // That alone: a round that is at work may come by the others before.
    lie(&fake, |list| {
        entries_of(list, 10, |entries| edit(&mut entries[0], |entry| entry.value.clear()));
        None
    });
    fake.change(|world| world.grow("orders", 1, 0));
    let data = found(&mut trial, "value", "value-hash", 10).await;
    assert_names(&data, "k9");
    trial.stop().await;
}

/// The server can't read the last value of a key, and a page is checked that an earlier one is in: no transaction is named
/// that may be in order.
#[tokio::test]
async fn a_damaged_current_value_names_no_other_transaction() {
    let fake = nine().await;
    fake.db("orders", |db| {
        let mut again = plan(9, 1, 1, 0);
        again.entries[0].0 = b"\0k1".to_vec();
        add(&mut db.data, std::iter::once(again));
    });
    fake.lie("orders", |call, reply| match (call, reply) {
        ("VerifiableGet", Reply::Answer(bytes)) => {
            let answer = proto::VerifiableEntry::decode(&bytes[..]).unwrap();
            if answer.entry.unwrap().key == b"k1" {
                Reply::Refused(2, "data is corrupted: value length or digest mismatch".to_owned())
            } else {
                Reply::Answer(bytes)
            }
        }
        (_, reply) => reply,
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let event = trial.verdict("orders", "tampered", "value").await;
    let data = &event["event_data"];
    assert_eq!(data["tx"], Value::Null, "{event:#}");
    assert_names(data, "k1");
    let (status, answer) = trial.trust(WORDS).await;
    assert_eq!(status, 200, "{answer}");
    trial.verdict("orders", "ok", "").await;
    // All values are looked at again, those of the key's transactions, too.
    assert_eq!(trial.trusted("orders").unwrap()["damaged"], json!([]));
    trial.stop().await;
}

/// The index shows what a key was, not what it is.
#[tokio::test]
async fn an_older_value_of_a_key_is_found() {
    let fake = nine().await;
    fake.db("orders", |db| {
        let plans = (9..20).map(|at| {
            let mut plan = plan(at, 0, 1, 0);
            plan.entries[0].0 = b"\0k1".to_vec();
            plan
        });
        add(&mut db.data, plans);
        db.stale = true;
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let event = trial.verdict("orders", "tampered", "value").await;
    let data = &event["event_data"];
    assert_eq!(data["reason"], "stale-key", "{event:#}");
    assert_names(data, "k1");
    trial.stop().await;
}

/// A value that is proven and is not what the transaction set.
#[tokio::test]
async fn an_answer_about_a_key_that_does_not_hold_is_found() {
    let fake = nine().await;
    fake.lie("orders", |call, reply| match call {
        "VerifiableGet" => crate::lies::answer(reply, |entry: &mut proto::VerifiableEntry| {
            entry.entry.as_mut().unwrap().value = b"other".to_vec();
        }),
        _ => reply,
    });
    let mut trial = Trial::start(with_values(&fake)).await;
    let event = trial.verdict("orders", "tampered", "proof").await;
    assert_eq!(event["event_data"]["reason"], "entry-inclusion", "{event:#}");
    assert_eq!(event["event_data"]["keys"].as_array().unwrap().len(), 1);
    trial.stop().await;
}

/// A key that was asked for is not asked for again for long: what its answer was is told though no audit follows, and
/// though the agent ends.
#[tokio::test]
async fn a_wrong_answer_about_a_key_is_not_forgotten() {
    let says = "data is corrupted: value length or digest mismatch";
    let other = |reply| {
        crate::lies::answer(reply, |entry: &mut proto::VerifiableEntry| {
            entry.entry.as_mut().unwrap().value = b"other".to_vec();
        })
    };
    for (reason, at_once) in [("stale-key", true), ("value", true), ("entry-inclusion", false)] {
        let fake = Fake::start().await;
        fake.change(|world| world.grow("orders", 0, 0));
        fake.db("orders", |db| {
            // More than a page holds, so that the key was set before each of the first page.
            let plans = (0..150).map(|at| {
                let mut plan = plan(at, 0, 1, 0);
                plan.entries[0].0 = b"\0k".to_vec();
                plan
            });
            add(&mut db.data, plans);
            db.stale = reason == "stale-key";
        });
        fake.lie("orders", move |call, reply| match (call, reason) {
            ("VerifiableGet", "value") => Reply::Refused(2, says.to_owned()),
            ("VerifiableGet", "entry-inclusion") => other(reply),
            (_, _) => reply,
        });
        let mut all = with_values(&fake);
        // One audit of each life.
        all["interval"] = json!("1h");
        let mut trial = Trial::start(all.clone()).await;
        trial.first("orders").await;
        if at_once {
            let found = |event: &Value| event["event_data"]["reason"] == reason;
            let event = trial.ever("it is told", found).await;
            assert_eq!(event["event_data"]["current"]["tx"], 150, "{event:#}");
        }
        let begun = || {
            trial
                .trusted("orders")
                .filter(|record| !record["values"]["round"].is_null())
        };
        eventually("the page counts as checked", begun).await;
        let agent = trial.stop().await;
        let trial = Trial::go_on(agent, all).await;
        let finding = trial.trusted("orders").unwrap()["finding"].clone();
        let code = if reason == "entry-inclusion" { "proof" } else { "value" };
        assert_eq!(finding["code"], code, "{reason}");
        trial.stop().await;
    }
}

/// What stands by itself is told before work on the next database begins, which may come to no end.
#[tokio::test]
async fn a_wrong_answer_about_a_key_waits_for_no_other_database() {
    let fake = nine().await;
    fake.change(|world| world.grow("other", 9, 0));
    fake.db("orders", |db| {
        let plans = (9..150).map(|at| {
            let mut plan = plan(at, 0, 1, 0);
            plan.entries[0].0 = b"\0k1".to_vec();
            plan
        });
        add(&mut db.data, plans);
        db.stale = true;
    });
    fake.db("other", |db| db.stuck = true);
    let mut all = with_values(&fake);
    // One audit, and calls that never end.
    for time in ["interval", "timeout", "deadline"] {
        all[time] = json!("1h");
    }
    let mut trial = Trial::start(all).await;
    let found = |event: &Value| event["event_data"]["reason"] == "stale-key";
    trial.ever("it is told", found).await;
    trial.stop().await;
}
