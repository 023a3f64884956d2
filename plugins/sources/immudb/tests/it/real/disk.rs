//! Bytes changed or cut off in the files of a server that is stopped, and a database that it doesn't load.

use std::fs;

use auditmon_proto::immudb as proto;
use serde_json::{Value, json};
use tonic::Status;

use super::{ONE, Real, damage, told, tx};
use crate::trial::Trial;

/// Audits, writes what nobody has looked at yet, stops the server, tampers with that, starts it again and waits for the
/// finding.
async fn tampered_unseen(test: &str, texts: impl FnOnce(&Value) -> Vec<u8>) {
    let _one = ONE.lock().await;
    let Some(mut real) = Real::start(test).await else {
        return;
    };
    let mut writer = real.writer().await;
    writer.create("orders").await;
    writer.write("orders", 0..10, "first").await;
    let mut trial = Trial::start(real.section()).await;
    let first = trial.first("orders").await;
    let agent = trial.stop().await;
    writer.write("orders", 10..20, "second").await;
    real.stop();
    let current = &first["event_data"]["current"];
    assert!(damage(&real.data().join("orders"), "/tx/", &texts(current)) > 0);
    real.go_on().await;
    let mut trial = Trial::go_on(agent, real.section()).await;
    let event = trial.verdict("orders", "tampered", "").await;
    told(test, &event);
    let data = &event["event_data"];
    assert!(
        ["corrupt-tx", "proof"].contains(&data["code"].as_str().unwrap()),
        "{event:#}"
    );
    assert_eq!(data["trusted"]["hash"], current["hash"]);
    trial.stop().await;
}

#[tokio::test]
async fn a_key_changed_in_the_log() {
    tampered_unseen("a_key_changed_in_the_log", |_| b"k15".to_vec()).await;
}

#[tokio::test]
async fn a_header_changed_in_the_log() {
    let link = |current: &Value| hex::decode(current["hash"].as_str().unwrap()).unwrap();
    tampered_unseen("a_header_changed_in_the_log", link).await;
}

/// Values that were checked once, one of which a disk or a hand changes. Servers before 1.2.3 give none to readers.
#[tokio::test]
async fn a_value_changed_on_disk() {
    let test = "a_value_changed_on_disk";
    let _one = ONE.lock().await;
    let Some(mut real) = Real::start(test).await else {
        return;
    };
    let mut writer = real.writer().await;
    writer.create("orders").await;
    writer.write("orders", 0..10, "a value").await;
    writer.write("orders", 10..11, "to be changed").await;
    writer.write("orders", 11..20, "a value").await;
    let mut trial = Trial::start(real.section()).await;
    let checked = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == "orders" && data["values"]["unchecked"] == 0
    };
    let event = trial.ever("all values are checked", checked).await;
    assert_eq!(event["event_data"]["result"], "ok");
    let given = event["event_data"]["values"]["not_given"] == 0;
    real.stop();
    assert!(damage(&real.data().join("orders"), "", b"to be changed") > 0);
    real.go_on().await;
    if given {
        let event = trial.verdict("orders", "tampered", "value").await;
        told(test, &event);
        assert_eq!(event["event_data"]["keys"][0]["key"], "k10", "{event:#}");
    }
    trial.stop().await;
}

/// Unloaded on purpose, which versions from 1.2 on can do: nothing is known of it meanwhile, and the other one is audited on.
#[tokio::test]
async fn an_unloaded_database() {
    let test = "an_unloaded_database";
    let _one = ONE.lock().await;
    let Some(real) = Real::start(test).await else {
        return;
    };
    let mut writer = real.writer().await;
    for db in ["orders", "billing"] {
        writer.create(db).await;
        writer.write(db, 0..5, "v").await;
    }
    let mut trial = Trial::start(real.section()).await;
    let seen = tx(&mut trial, "orders", "ok").await;
    trial.verdict("billing", "ok", "").await;
    let request = |name: &str| proto::Database {
        database_name: name.to_owned(),
    };
    let unloaded: Result<proto::Empty, Status> = writer.call("UnloadDatabase", &writer.login, request("orders")).await;
    match unloaded {
        Ok(_) => {}
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            eprintln!("{test}: this version unloads none");
            trial.stop().await;
            return;
        }
        Err(status) => panic!("{status}"),
    }
    let event = trial.verdict("orders", "error", "unloaded").await;
    told(test, &event);
    writer.write("billing", 5..8, "v").await;
    trial.verdict("billing", "ok", "").await;
    assert_eq!(trial.trusted("orders").unwrap()["finding"], Value::Null);
    let _: proto::Empty = writer
        .call("LoadDatabase", &writer.login, request("orders"))
        .await
        .unwrap();
    let event = trial.verdict("orders", "ok", "").await;
    assert_eq!(event["event_data"]["trusted"]["tx"], seen);
    trial.stop().await;
}

/// Every digest of the tree over all transactions that the server keeps: what it proves from then on is not what it was.
#[tokio::test]
async fn the_tree_over_all_transactions_changed_on_disk() {
    let test = "the_tree_over_all_transactions_changed_on_disk";
    let _one = ONE.lock().await;
    let Some(mut real) = Real::start(test).await else {
        return;
    };
    let mut writer = real.writer().await;
    writer.create("orders").await;
    writer.write("orders", 0..20, "v").await;
    let mut section = real.section();
    // Proofs of the server, not headers one by one.
    section["walk"] = json!(0);
    let mut trial = Trial::start(section).await;
    trial.first("orders").await;
    real.stop();
    let tree = real.data().join("orders/aht/tree/00000000.sha");
    let mut bytes = fs::read(&tree).unwrap();
    // Behind what describes the file; digests end it.
    let from = bytes.len() - 25 * 32;
    bytes[from..].iter_mut().step_by(32).for_each(|byte| *byte ^= 1);
    fs::write(&tree, bytes).unwrap();
    real.start_again();
    let runs = real.listens_or_ends().await;
    if runs {
        let mut writer = real.writer().await;
        writer.write("orders", 20..25, "v").await;
    }
    let wanted = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == "orders" && data["result"] != "ok" && (data["reason"] == "unreachable") != runs
    };
    let event = trial.next("it is not in order", wanted).await;
    told(test, &event);
    assert!(!runs || event["event_data"]["code"] == "proof", "{event:#}");
    trial.stop().await;
}

/// The values' log ends before its last values; nobody has truncated the database.
#[tokio::test]
async fn values_cut_off_on_disk() {
    let test = "values_cut_off_on_disk";
    let _one = ONE.lock().await;
    let Some(mut real) = Real::start(test).await else {
        return;
    };
    let mut writer = real.writer().await;
    writer.create_with_value_log("orders").await;
    writer.write("orders", 0..10, "a value").await;
    writer.write("orders", 10..11, "to be cut off").await;
    let mut trial = Trial::start(real.section()).await;
    let checked = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == "orders" && data["values"]["unchecked"] == 0
    };
    let event = trial.ever("all values are checked", checked).await;
    let given = event["event_data"]["values"]["not_given"] == 0;
    real.stop();
    let log = real.data().join("orders/val_0/00000000.val");
    let bytes = fs::read(&log).unwrap();
    let text = b"to be cut off";
    let at = bytes.windows(text.len()).position(|part| part == text).unwrap();
    fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(at as u64)
        .unwrap();
    real.start_again();
    let runs = real.listens_or_ends().await;
    if given || !runs {
        let wanted = |event: &Value| {
            let data = &event["event_data"];
            data["database"] == "orders" && data["result"] != "ok" && (data["reason"] == "unreachable") != runs
        };
        let event = trial.next("it is not in order", wanted).await;
        told(test, &event);
        assert!(!runs || event["event_data"]["code"] == "value", "{event:#}");
    }
    trial.stop().await;
}

/// A server may not open a database then: nothing is known of it, and that is told.
#[tokio::test]
async fn the_last_transaction_changed_in_the_log() {
    let test = "the_last_transaction_changed_in_the_log";
    let _one = ONE.lock().await;
    let Some(mut real) = Real::start(test).await else {
        return;
    };
    let mut writer = real.writer().await;
    writer.create("orders").await;
    writer.write("orders", 0..10, "first").await;
    let mut trial = Trial::start(real.section()).await;
    trial.first("orders").await;
    real.stop();
    assert!(damage(&real.data().join("orders"), "/tx/", b"k9") > 0);
    real.start_again();
    let runs = real.listens_or_ends().await;
    let wanted = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == "orders" && (data["reason"] == "unreachable") != runs
    };
    let event = trial.next("it is not in order", wanted).await;
    told(test, &event);
    assert_ne!(event["event_data"]["result"], "ok");
    trial.stop().await;
}
