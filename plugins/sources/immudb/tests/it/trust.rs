//! Operators' words that commands bring.

use auditmon_core::health::State;
use auditmon_testkit::eventually;
use serde_json::{Value, json};

use crate::fake::{Db, Fake, UUID};
use crate::lies::fork;
use crate::trial::{PLUGIN, Trial, section};

const WORDS: &str = "server=db1&database=orders&by=jane&reason=restored%2C%20ticket%207";

async fn start(more: impl FnOnce(&mut Value)) -> (Fake, Trial) {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    let mut all = section(&fake);
    more(&mut all);
    let mut trial = Trial::start(all).await;
    trial.verdict("orders", "ok", "").await;
    (fake, trial)
}

#[tokio::test]
async fn a_finding_is_accepted_by_a_word() {
    let (fake, mut trial) = start(|_| {}).await;
    let (status, refused) = trial.trust(WORDS).await;
    assert_eq!(status, 409, "{refused}");
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("nothing was found on db1/orders")
    );

    fake.db("orders", |db| fork(db, 5, 2));
    trial.verdict("orders", "tampered", "rollback").await;
    let (status, data) = trial.trust(WORDS).await;
    assert_eq!(status, 200, "{data}");
    let event = trial
        .ever("the word is told", |event| event["event_name"] == "immudb.trust")
        .await;
    assert_eq!(event["event_data"], data);
    assert_eq!(
        (&event["username"], &event["severity"]),
        (&json!("jane"), &json!("warning"))
    );
    let hash = fake.db("orders", |db| hex::encode(db.data.alhs[6]));
    let expected = json!({
        "server": {"name": "db1", "address": fake.address.to_string()},
        "database": "orders",
        "by": "jane",
        "uid": 1234,
        "reason": "restored, ticket 7",
        "finding": "rollback",
        "old": data["old"],
        "new": {"tx": 7, "hash": hash},
    });
    assert_eq!(data, expected);
    assert_eq!(data["old"]["tx"], 9);
    trial.verdict("orders", "ok", "").await;
    // Nothing is taken ahead: what comes next is a finding again.
    fake.db("orders", |db| fork(db, 4, 8));
    trial.verdict("orders", "tampered", "proof").await;
    trial.stop().await;
}

/// What is remembered is what the word says, also if the server shows something else by now.
#[tokio::test]
async fn a_word_may_name_the_state() {
    let (fake, mut trial) = start(|_| {}).await;
    fake.db("orders", |db| fork(db, 5, 0));
    trial.verdict("orders", "tampered", "rollback").await;
    let hash = fake.db("orders", |db| hex::encode(db.data.alhs[3]));
    let (status, data) = trial.trust(&format!("{WORDS}&tx=4&hash={hash}")).await;
    assert_eq!((status, &data["new"]["tx"]), (200, &json!(4)), "{data}");
    trial.walked("orders").await;
    trial.stop().await;
}

#[tokio::test]
async fn a_database_that_was_deleted_on_purpose() {
    let (fake, mut trial) = start(|_| {}).await;
    fake.change(|world| drop(world.databases.remove("orders")));
    trial.verdict("orders", "tampered", "missing").await;
    let (status, data) = trial.trust(WORDS).await;
    assert_eq!((status, &data["new"]["tx"]), (200, &json!(0)), "{data}");
    // It is spoken of no more.
    let runs = |db: &str| trial.agent.metric_of("auditmon_immudb_runs_total", &[("db", db)]);
    eventually("it is not audited", || (runs("orders") == 0.0).then_some(())).await;
    eventually("all is well", || {
        (trial.agent.health(PLUGIN).unwrap().state == State::Ok).then_some(())
    })
    .await;
    let before = runs("defaultdb");
    eventually("the other one is audited on", || {
        (runs("defaultdb") > before + 2.0).then_some(())
    })
    .await;
    assert_eq!(runs("orders"), 0.0);
    assert_eq!(trial.trusted("orders").unwrap()["tx"], 0);
    // Made anew, it is seen for the first time.
    fake.change(|world| {
        world.databases.insert("orders".to_owned(), Db::default());
        world.grow("orders", 2, 3);
    });
    trial.walked("orders").await;
    trial.stop().await;
}

/// A finding on the server's name shows its state, too: it can be accepted without looking for it elsewhere.
#[tokio::test]
async fn another_identity_is_accepted_with_its_state() {
    let (fake, mut trial) = start(|_| {}).await;
    fake.change(|world| world.uuid = Some("another".to_owned()));
    let event = trial.verdict("orders", "tampered", "identity").await;
    let data = &event["event_data"];
    assert_eq!(
        (&data["current"]["tx"], &data["history"]),
        (&json!(9), &json!("follows"))
    );
    assert_eq!(data["also"], Value::Null);
    let (status, data) = trial.trust(WORDS).await;
    assert_eq!((status, &data["new"]["tx"]), (200, &json!(9)), "{data}");
    let event = trial.verdict("orders", "ok", "").await;
    assert_eq!(event["event_data"]["current"]["uuid"], "another");
    trial.stop().await;
}

/// With another history behind another name a state has to be named.
#[tokio::test]
async fn another_identity_with_another_history_is_not_accepted_unseen() {
    let (fake, mut trial) = start(|_| {}).await;
    fake.change(|world| world.uuid = Some("another".to_owned()));
    fake.db("orders", |db| fork(db, 6, 6));
    trial.verdict("orders", "tampered", "identity").await;
    let (status, refused) = trial.trust(WORDS).await;
    assert_eq!(status, 409, "{refused}");
    let says = refused["detail"].as_str().unwrap();
    assert!(says.contains("doesn't follow from the trusted history"), "{says}");
    let hash = fake.db("orders", |db| hex::encode(db.data.alhs[11]));
    let (status, data) = trial.trust(&format!("{WORDS}&tx=12&hash={hash}")).await;
    assert_eq!((status, &data["new"]["tx"]), (200, &json!(12)), "{data}");
    trial.verdict("orders", "ok", "").await;
    // The old history is given up, as after a fork.
    assert_eq!(trial.trusted("orders").unwrap()["given_up"], 9);
    trial.stop().await;
}

/// A standby, or the server itself, that lags and then has all of it: its state is accepted, and no history is given up with
/// that.
#[tokio::test]
async fn a_server_that_has_caught_up_gives_nothing_up() {
    for (first, then) in [("another", "another"), ("another", UUID), (UUID, UUID)] {
        let (fake, mut trial) = start(|_| {}).await;
        let become_one = |uuid: &str, transactions| {
            fake.change(|world| {
                world.uuid = Some(uuid.to_owned());
                fork(world.databases.get_mut("orders").unwrap(), transactions, 0);
            });
        };
        become_one(first, 6);
        let code = if first == UUID { "rollback" } else { "identity" };
        let event = trial.verdict("orders", "tampered", code).await;
        if first != UUID {
            assert_eq!(event["event_data"]["also"], "rollback", "{event:#}");
        }
        become_one(then, 12);
        let caught_up = |event: &Value| {
            let data = &event["event_data"];
            let reason = if then == UUID {
                &data["reason"]
            } else {
                &data["history"]
            };
            data["database"] == "orders" && [json!("follows"), json!("not-accepted")].contains(reason)
        };
        trial.next("it has caught up", caught_up).await;
        let finding = &trial.trusted("orders").unwrap()["finding"];
        assert!(
            [&finding["code"], &finding["also"]].contains(&&json!("rollback")),
            "{finding}"
        );
        let (status, data) = trial.trust(WORDS).await;
        assert_eq!((status, &data["new"]["tx"]), (200, &json!(12)), "{data}");
        assert_eq!(trial.trusted("orders").unwrap()["given_up"], Value::Null);
        trial.verdict("orders", "ok", "").await;
        trial.stop().await;
    }
}

/// A server made anew, and none of its databases selected that was seen before: a word on a new one settles who it is.
#[tokio::test]
async fn a_finding_at_first_contact_is_accepted() {
    let (fake, trial) = start(|all| all["servers"][0]["databases"] = json!(["orders"])).await;
    let agent = trial.stop().await;
    fake.change(|world| {
        world.uuid = Some("another".to_owned());
        world.grow("fresh", 4, 0);
        world.grow("more", 2, 0);
    });
    let mut all = section(&fake);
    all["servers"][0]["databases"] = json!(["fresh", "more"]);
    let mut trial = Trial::go_on(agent, all).await;
    trial.verdict("fresh", "tampered", "identity").await;
    assert_eq!(trial.trusted("fresh"), None);
    let words = WORDS.replace("orders", "fresh");
    let (status, data) = trial.trust(&words).await;
    assert_eq!(status, 200, "{data}");
    assert_eq!(
        (&data["finding"], &data["old"], &data["new"]["tx"]),
        (&json!("identity"), &Value::Null, &json!(4))
    );
    let event = trial.verdict("fresh", "ok", "").await;
    assert_eq!(event["event_data"]["current"]["uuid"], "another");
    trial.verdict("more", "ok", "").await;
    // Nothing is found on it any more.
    assert_eq!(trial.trust(&words).await.0, 409);
    trial.stop().await;
}

#[tokio::test]
async fn words_that_are_not_taken() {
    let (fake, mut trial) = start(|_| {}).await;
    fake.db("orders", |db| fork(db, 5, 0));
    trial.verdict("orders", "tampered", "rollback").await;
    let before = trial.trusted("orders");
    let hash = "ab".repeat(32);
    for (query, status) in [
        (WORDS.replace("db1", "db2"), 404),
        (WORDS.replace("orders", "other"), 409),
        (WORDS.replace("restored%2C%20ticket%207", ""), 400),
        (WORDS.replace("jane", ""), 400),
        (format!("{WORDS}&tx=4"), 400),
        (format!("{WORDS}&hash={hash}"), 400),
        (format!("{WORDS}&tx=4&hash=ab"), 400),
    ] {
        let (found, answer) = trial.trust(&query).await;
        assert_eq!(found, status, "{query}: {answer}");
        assert!(answer["detail"].as_str().unwrap().len() > 20, "{answer}");
    }
    assert_eq!(trial.trusted("orders"), before);
    assert!(trial.events.iter().all(|event| event["event_name"] != "immudb.trust"));
    // Its address is a name, too.
    let (status, _) = trial.trust(&WORDS.replace("db1", &fake.address.to_string())).await;
    assert_eq!(status, 200);
    trial.stop().await;
}
