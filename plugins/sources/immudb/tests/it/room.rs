//! More than the journal remembers for one source.

use auditmon_core::event::Kind;
use auditmon_core::health::State;
use auditmon_journal::Linger;
use auditmon_testkit::{TestAgent, eventually};
use serde_json::{Value, json};

use crate::fake::{Fake, UUID, last};
use crate::lies::fork;
use crate::trial::{PLUGIN, Trial, section};

/// Remembers so much else that no byte more has room; of another server, which is gone.
async fn fill(agent: &TestAgent) {
    let emitter = agent.journal.emitter(PLUGIN, Kind::Immudb);
    let remember = async |number: usize, size: usize| {
        let mut batch = emitter.batch();
        let key = format!("state/gone:1/{number:04}");
        batch.remember(key.as_bytes(), None, &vec![b'x'; size]).unwrap();
        emitter.emit(batch, Linger::NONE).await.is_ok()
    };
    let mut number = 0;
    for size in [60_000, 1_000, 50] {
        while remember(number, size).await {
            number += 1;
        }
    }
    // The last one takes what is left.
    let mut size = 50;
    while remember(number - 1, size + 1).await {
        size += 1;
    }
}

#[tokio::test]
async fn a_database_without_room_is_told_and_not_taken() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    let agent = TestAgent::new();
    fill(&agent).await;
    let mut trial = Trial::go_on(agent, section(&fake)).await;
    for _ in 0..2 {
        trial.verdict("orders", "error", "too-many").await;
    }
    assert_eq!(trial.trusted("orders"), None);
    // Nor does it take room on the disk: others may come in its place for ever.
    assert!(!trial.agent.data_dir().join("immudb").exists());
    assert_eq!(trial.agent.health(PLUGIN).unwrap().state, State::Degraded);
    // One that is gone is spoken of no more.
    fake.change(|world| world.databases.remove("orders"));
    eventually("it is forgotten", || {
        let reason = trial.agent.health(PLUGIN).unwrap().reason.unwrap();
        reason.contains("of 1 databases").then_some(())
    })
    .await;
    trial.stop().await;
}

/// As many as are audited, and more, don't hide one that is remembered.
#[tokio::test]
async fn databases_that_are_listed_displace_none_that_is_remembered() {
    let fake = Fake::start().await;
    fake.change(|world| {
        world.databases.clear();
        world.grow("orders", 9, 0);
        world.grow("others", 9, 0);
    });
    let mut all = section(&fake);
    all["every"] = json!(false);
    all["servers"][0]["databases"] = json!(["*", "zebra"]);
    let mut trial = Trial::start(all).await;
    trial.first("orders").await;
    trial.first("others").await;
    let missing = |event: &Value| event["event_data"]["reason"] == "missing";
    trial.ever("zebra is missing", missing).await;
    fake.change(|world| {
        for number in 0..10_000 {
            let db = crate::fake::Db {
                unloaded: true,
                ..crate::fake::Db::default()
            };
            world.databases.insert(format!("{number:04}"), db);
        }
    });
    eventually("what is left out is told", || {
        let reason = trial.agent.health(PLUGIN).unwrap().reason?;
        reason
            .contains("; 3 databases that servers list are not audited")
            .then_some(())
    })
    .await;
    fake.change(|world| world.grow("zebra", 2, 0));
    fake.db("orders", |db| fork(db, 3, 20));
    trial.verdict("orders", "tampered", "proof").await;
    trial.first("zebra").await;
    fake.change(|world| drop(world.databases.remove("others")));
    trial.verdict("others", "tampered", "missing").await;
    trial.stop().await;
}

#[tokio::test]
async fn a_full_memory_ends_neither_audits_nor_findings() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    let mut trial = Trial::start(section(&fake)).await;
    trial.first("orders").await;
    trial.verdict("orders", "ok", "").await;
    let before = trial.trusted("orders").unwrap()["tx"].clone();
    assert_eq!(before, 9);
    fill(&trial.agent).await;
    // One digit more.
    fake.change(|world| world.grow("orders", 100, 0));
    trial.walked("orders").await;
    let full = |event: &Value| event["event_name"] == "immudb.memory.full";
    let event = trial.ever("it is told", full).await;
    assert_eq!(
        (&event["severity"], &event["event_data"]["databases"]),
        (&json!("critical"), &json!(1))
    );
    eventually("the state says so", || {
        let health = trial.agent.health(PLUGIN).unwrap();
        (health.state == State::Degraded && health.reason.unwrap().contains("not all")).then_some(())
    })
    .await;
    assert_eq!(trial.trusted("orders").unwrap()["tx"], before);
    fake.change(|world| world.uuid = Some("another".to_owned()));
    trial.verdict("orders", "tampered", "identity").await;
    fake.change(|world| world.uuid = Some(UUID.to_owned()));
    fake.db("orders", |db| fork(db, 3, 200));
    for _ in 0..2 {
        trial.verdict("orders", "tampered", "").await;
    }
    assert_eq!(trial.events.iter().filter(|event| full(event)).count(), 1);
    trial.stop().await;
}

/// What another auditor trusted and the journal has no room for: it is told, and the server is held to it all the same.
#[tokio::test]
async fn an_import_without_room_is_told_and_holds() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    let hash = fake.db("orders", |db| hex::encode(last(&db.data)));
    let mut all = section(&fake);
    all["servers"][0]["known"] =
        json!([{"database": "orders", "tx": 9, "hash": hash, "server_id": UUID, "from": "/tmp/auditor"}]);
    // Nothing is imported before it answers.
    fake.change(|world| world.stop());
    let mut trial = Trial::start(all).await;
    fill(&trial.agent).await;
    fake.db("orders", |db| fork(db, 3, 20));
    fake.change(|world| world.go_on());
    let full = |event: &Value| event["event_name"] == "immudb.memory.full";
    trial.ever("it is told", full).await;
    let found = trial.verdict("orders", "tampered", "proof").await;
    assert_eq!(found["event_data"]["trusted"]["tx"], 9);
    let import = |event: &Value| event["event_name"] == "immudb.import";
    assert!(!trial.events.iter().any(import), "it is not stored");
    trial.stop().await;
}
