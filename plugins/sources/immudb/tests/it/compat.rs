//! The source beside what immuclient's auditor would show, and on from what that trusted.

use auditmon_testkit::eventually;
use axum::Router;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fake::{Fake, UUID, add, last, plan};
use crate::naive::Database;
use crate::trial::{PLUGIN, Trial, section};

async fn metrics(router: &Router) -> String {
    let request = Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Another history than `grow` makes.
fn forked(count: usize) -> Database {
    let mut data = Database::default();
    add(&mut data, (0..count).map(|at| plan(at, 1, 1, 0)));
    data
}

#[tokio::test]
async fn log_metrics_and_probes_are_those_of_immuclient() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 6, 0));
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut all = section(&fake);
    all["compat"] = json!({"log_file": log});
    let mut trial = Trial::start(all).await;
    let router = trial.monitoring.clone().unwrap();
    trial.first("orders").await;
    fake.change(|world| world.grow("orders", 3, 0));
    trial.walked("orders").await;
    let logged = |part: String| {
        let log = log.clone();
        async move {
            let what = format!("{part:?} in the log");
            eventually(&what, || {
                let text = std::fs::read_to_string(&log).ok()?;
                text.contains(&part).then_some(())
            })
            .await;
        }
    };
    logged(" db: orders, consistent:\ttrue previous state:\t".to_owned()).await;
    let labels = format!("{{server_address=\"{}\",server_id=\"{UUID}\"}}", fake.address);
    let text = metrics(&router).await;
    for line in [
        format!("immuclient_audit_result_per_server{labels} 1\n"),
        format!("immuclient_audit_curr_root_per_server{labels} 9\n"),
        "auditmon_immudb_audit_result{db=\"orders\",server=\"db1\"} 1\n".to_owned(),
        "# TYPE process_resident_memory_bytes gauge\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }

    fake.db("orders", |db| db.data = forked(12));
    trial.verdict("orders", "tampered", "proof").await;
    let warning = "detected possible tampering of db orders remote state (at id 12) so it will not overwrite the previous \
                   local state (at id 9)";
    logged(warning.to_owned()).await;
    assert!(
        metrics(&router)
            .await
            .contains(&format!("immuclient_audit_result_per_server{labels} 0\n"))
    );
    // Theirs shows what the last audit came to, and ours that the finding stands.
    fake.change(|world| world.stop());
    trial.verdict("orders", "error", "unreachable").await;
    let text = metrics(&router).await;
    for line in [
        format!("immuclient_audit_result_per_server{labels} -2\n"),
        "auditmon_immudb_audit_result{db=\"orders\",server=\"db1\"} 0\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    trial.stop().await;
}

/// A server that another auditor knew up to transaction 4.
async fn known() -> (Fake, Value) {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 4, 0));
    let hash = fake.db("orders", |db| hex::encode(last(&db.data)));
    let mut all = section(&fake);
    all["servers"][0]["known"] =
        json!([{"database": "orders", "tx": 4, "hash": hash, "server_id": UUID, "from": "/tmp/auditor"}]);
    (fake, all)
}

#[tokio::test]
async fn it_goes_on_from_what_another_auditor_trusted() {
    let (fake, all) = known().await;
    fake.change(|world| world.grow("orders", 3, 0));
    let mut trial = Trial::start(all.clone()).await;
    let event = trial.walked("orders").await;
    assert_eq!(event["event_data"]["trusted"]["tx"], 4);
    let import = &trial.events[0];
    assert_eq!(
        (
            &import["event_name"],
            &import["severity"],
            &import["event_data"]["from"]
        ),
        (&json!("immudb.import"), &json!("notice"), &json!("/tmp/auditor"))
    );
    assert!(
        trial
            .events
            .iter()
            .filter(|event| event["event_data"]["database"] == "orders")
            .all(|event| event["event_data"]["checked"] != "first-seen")
    );
    trial.verdict("orders", "ok", "same").await;
    // What is remembered counts before it.
    let agent = trial.stop().await;
    let mut trial = Trial::go_on(agent, all).await;
    trial.verdict("orders", "ok", "same").await;
    assert!(
        trial
            .events
            .iter()
            .all(|event| event["event_name"] == "immudb.audit.ok")
    );
    trial.stop().await;
}

/// States of several servers, and this one says to be none of them: that is told before anything is trusted, and once.
#[tokio::test]
async fn states_of_other_servers_alone_are_told() {
    let (fake, mut all) = known().await;
    let mut other = all["servers"][0]["known"][0].clone();
    other["server_id"] = json!("dc0bho1ksduad8hn2rv2");
    all["servers"][0]["known"].as_array_mut().unwrap().push(other);
    fake.change(|world| world.uuid = Some("dc0bho1ksduad8hn2rv1".to_owned()));
    let mut trial = Trial::start(all.clone()).await;
    trial.first("orders").await;
    let event = &trial.events[0];
    assert_eq!(
        (&event["event_name"], &event["severity"], &event["outcome"]),
        (&json!("immudb.import.refused"), &json!("critical"), &json!("failure"))
    );
    let text = event["event_data"]["text"].as_str().unwrap();
    assert!(text.contains("none of the 2 servers"), "{text}");
    let agent = trial.stop().await;
    let mut trial = Trial::go_on(agent, all).await;
    trial.verdict("orders", "ok", "same").await;
    assert!(
        trial
            .events
            .iter()
            .all(|event| event["event_name"] != "immudb.import.refused")
    );
    trial.stop().await;
}

#[tokio::test]
async fn what_doesnt_follow_from_it_is_a_finding() {
    let (fake, all) = known().await;
    fake.db("orders", |db| db.data = forked(7));
    let mut trial = Trial::start(all.clone()).await;
    let finding = |event: &Value| event["event_data"]["code"] == "proof";
    let event = trial.ever("a finding", finding).await;
    assert_eq!(event["event_data"]["trusted"]["tx"], 4);
    trial.stop().await;

    // Another identity than the one that it was kept under.
    let (fake, all) = known().await;
    fake.change(|world| world.uuid = Some("dc0bho1ksduad8hn2rv1".to_owned()));
    let mut trial = Trial::start(all).await;
    trial
        .ever("a finding", |event| event["event_data"]["code"] == "identity")
        .await;
    trial.stop().await;
}

/// Known states of these databases, as they are now.
fn known_states(fake: &Fake, names: &[&str]) -> Value {
    let of = |name: &&str| {
        let (tx, hash) = fake.db(name, |db| (db.data.len(), hex::encode(last(&db.data))));
        json!({"database": name, "tx": tx, "hash": hash, "server_id": UUID, "from": "/tmp/auditor"})
    };
    names.iter().map(of).collect()
}

/// How many states were told to be taken.
fn imports(trial: &Trial) -> usize {
    let events = trial.events.iter();
    events.filter(|event| event["event_name"] == "immudb.import").count()
}

/// Each of several is remembered with its event: the next life needs no auditor's directory.
#[tokio::test]
async fn all_databases_of_another_auditor_are_remembered() {
    const NAMES: [&str; 3] = ["billing", "defaultdb", "orders"];
    let fake = Fake::start().await;
    NAMES
        .iter()
        .for_each(|name| fake.change(|world| world.grow(name, 4, 0)));
    let bare = section(&fake);
    let mut all = bare.clone();
    all["servers"][0]["known"] = known_states(&fake, &NAMES);
    let mut trial = Trial::start(all).await;
    for name in NAMES {
        trial.verdict(name, "ok", "same").await;
    }
    assert_eq!(imports(&trial), NAMES.len());
    for name in NAMES {
        assert_eq!(trial.trusted(name).unwrap()["tx"], 4, "{name}");
    }
    let agent = trial.stop().await;
    for name in NAMES {
        fake.db(name, |db| db.data = Database::default());
        fake.change(|world| world.grow(name, 3, 0));
    }
    let mut trial = Trial::go_on(agent, bare).await;
    for name in NAMES {
        trial.verdict(name, "tampered", "rollback").await;
    }
    trial.stop().await;
}

/// More than fit one frame of the journal.
#[tokio::test]
async fn more_databases_than_fit_a_frame_are_remembered() {
    const ALL: usize = 1_100;
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 4, 0));
    let mut all = section(&fake);
    all["servers"][0]["databases"] = json!(["orders"]);
    let mut known = known_states(&fake, &["orders"]);
    let one = known[0].clone();
    for number in 1..ALL {
        let mut other = one.clone();
        other["database"] = json!(format!("gone{number}"));
        known.as_array_mut().unwrap().push(other);
    }
    all["servers"][0]["known"] = known;
    let mut trial = Trial::start(all).await;
    trial.verdict("orders", "ok", "same").await;
    assert_eq!(imports(&trial), ALL);
    assert_eq!(trial.agent.journal.memory(PLUGIN).len(), ALL);
    trial.stop().await;
}
