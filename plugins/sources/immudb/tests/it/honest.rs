//! Servers that do what they should: no false alarm.

use std::path::{Path, PathBuf};

use p256::ecdsa::SigningKey;
use serde_json::{Value, json};

use crate::fake::{Fake, PASSWORD, UUID, add, plan};
use crate::trial::{Trial, section};

fn hash(fake: &Fake, db: &str) -> String {
    fake.db(db, |db| hex::encode(crate::fake::last(&db.data)))
}

#[tokio::test]
async fn a_database_is_seen_and_followed_and_known_after_a_restart() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("defaultdb", 5, 0));
    let mut trial = Trial::start(section(&fake)).await;
    let first = trial.first("defaultdb").await;
    assert_eq!(first["event_name"], "immudb.audit.ok");
    assert_eq!(first["kind"], "immudb");
    assert_eq!(first["severity"], "info");
    assert_eq!(first["resource"], format!("immudb://{}/defaultdb", fake.address));
    let data = &first["event_data"];
    assert_eq!(data["unseen"], json!({"first_tx": 1, "last_tx": 5, "left": 5}));
    assert_eq!(data["current"]["hash"], hash(&fake, "defaultdb"));
    assert_eq!(data["current"]["uuid"], UUID);
    assert_eq!(data["server"]["version"], "1.11.1-fake");
    trial.verdict("defaultdb", "ok", "same").await;

    fake.change(|world| world.grow("defaultdb", 7, 0));
    let next = trial.walked("defaultdb").await;
    assert_eq!(next["event_data"]["new_transactions"], 7);
    assert_eq!(next["event_data"]["trusted"]["tx"], 5);
    trial.verdict("defaultdb", "ok", "same").await;
    let remembered = trial.trusted("defaultdb").unwrap();
    assert_eq!(
        (&remembered["tx"], &remembered["alh"]),
        (&json!(12), &json!(hash(&fake, "defaultdb")))
    );

    // It goes on from what is trusted, and looks whether that is still there.
    let agent = trial.stop().await;
    let mut trial = Trial::go_on(agent, section(&fake)).await;
    trial.verdict("defaultdb", "ok", "same").await;
    let first = &trial.events[0]["event_data"];
    assert_eq!(
        (&first["database"], &first["checked"]),
        (&json!("defaultdb"), &json!("held"))
    );
    trial.stop().await;
}

#[tokio::test]
async fn one_login_serves_many_intervals() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("defaultdb", 1, 0));
    let mut trial = Trial::start(section(&fake)).await;
    for _ in 0..5 {
        trial.verdict("defaultdb", "ok", "").await;
    }
    trial.stop().await;
    fake.change(|world| assert_eq!((world.count("OpenSession"), world.count("Logout")), (1, 0)));
}

#[tokio::test]
async fn a_session_is_given_back_at_the_end() {
    let fake = Fake::start().await;
    let mut all = section(&fake);
    // One audit, so that it is over when it ends.
    all["interval"] = json!("1h");
    let mut trial = Trial::start(all).await;
    trial.first("defaultdb").await;
    trial.stop().await;
    fake.change(|world| assert_eq!(world.count("CloseSession"), 1));
}

#[tokio::test]
async fn many_new_transactions_are_proven() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("defaultdb", 5, 0));
    let mut all = section(&fake);
    all["walk"] = json!(3);
    let mut trial = Trial::start(all).await;
    trial.first("defaultdb").await;
    fake.change(|world| world.grow("defaultdb", 40, 0));
    let next = trial
        .ever("it is proven", |event| event["event_data"]["checked"] == "proof")
        .await;
    assert_eq!(next["event_data"]["new_transactions"], 40);
    trial.stop().await;
}

#[tokio::test]
async fn an_empty_database_is_followed_from_its_first_transaction() {
    let fake = Fake::start().await;
    let mut trial = Trial::start(section(&fake)).await;
    trial.first("defaultdb").await;
    trial.verdict("defaultdb", "ok", "same").await;
    fake.change(|world| world.grow("defaultdb", 3, 0));
    trial.walked("defaultdb").await;
    trial.stop().await;
}

/// Histories of 1.0.5 to 1.2.4, whose trees lag, and that change to version 1 on the way.
#[tokio::test]
async fn lagging_histories_are_no_finding() {
    for walk in [10_000, 0] {
        let fake = Fake::start().await;
        let lags = [0, 1, 2, 0, 3, 4, 4, 2, 0, 0, 1, 5, 6, 7, 0, 1];
        let grow = |from: usize, to: usize| {
            fake.db("defaultdb", |db| {
                let plans = (from..to).map(|at| plan(at, 0, i32::from(at > 7), lags[at].min(at)));
                add(&mut db.data, plans);
            });
        };
        grow(0, 4);
        let mut all = section(&fake);
        all["walk"] = json!(walk);
        let mut trial = Trial::start(all).await;
        for to in 5..=lags.len() {
            trial.verdict("defaultdb", "ok", "").await;
            grow(to - 1, to);
            let at = |event: &Value| {
                let data = &event["event_data"];
                assert_ne!(data["result"], "tampered", "{event:#}");
                data["result"] == "ok" && data["current"]["tx"] == to
            };
            trial.ever("it is followed", at).await;
        }
        trial.stop().await;
    }
}

#[tokio::test]
async fn selected_databases_and_no_others() {
    let fake = Fake::start().await;
    fake.change(|world| {
        for db in ["orders", "orders2", "log_a", "pay1", "systemdb"] {
            world.grow(db, 2, 0);
        }
    });
    let mut all = section(&fake);
    all["servers"][0]["databases"] = json!(["ORDERS", "log_*"]);
    all["servers"][0]["prefixes"] = json!(["pay"]);
    all["servers"][0]["systemdb"] = json!(true);
    let mut trial = Trial::start(all).await;
    for db in ["orders", "log_a", "pay1", "systemdb"] {
        trial.first(db).await;
    }
    let others = ["orders2", "defaultdb"];
    let other = trial
        .events
        .iter()
        .find(|event| others.iter().any(|db| event["event_data"]["database"] == *db));
    assert_eq!(other, None);
    trial.stop().await;
}

#[tokio::test]
async fn servers_without_sessions_are_asked_with_tokens() {
    let fake = Fake::start().await;
    fake.change(|world| {
        world.sessions = false;
        world.grow("orders", 2, 0);
    });
    let mut trial = Trial::start(section(&fake)).await;
    trial.verdict("orders", "ok", "").await;
    trial.verdict("defaultdb", "ok", "").await;
    // A restart forgets tokens, too.
    fake.change(|world| {
        world.restart();
        world.grow("orders", 2, 0);
    });
    trial
        .ever("it goes on", |event| event["event_data"]["current"]["tx"] == 4)
        .await;
    trial.stop().await;
    fake.change(|world| assert_eq!(world.count("Logout"), 0));
}

#[tokio::test]
async fn a_restarted_server_is_followed_on() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("defaultdb", 2, 0));
    let mut trial = Trial::start(section(&fake)).await;
    trial.verdict("defaultdb", "ok", "").await;
    fake.change(|world| {
        world.restart();
        world.grow("defaultdb", 3, 0);
    });
    let next = trial
        .ever("it goes on", |event| event["event_data"]["current"]["tx"] == 5)
        .await;
    assert_eq!(next["event_data"]["result"], "ok");
    trial.stop().await;
}

#[tokio::test]
async fn a_server_without_authentication_is_audited_without_a_login() {
    let fake = Fake::start().await;
    fake.change(|world| {
        world.auth = false;
        world.grow("defaultdb", 2, 0);
    });
    let mut all = section(&fake);
    let mut trial = Trial::start(all.clone()).await;
    let event = trial.verdict("", "error", "no-authentication").await;
    assert!(
        event["event_data"]["text"]
            .as_str()
            .unwrap()
            .contains("remove `username`"),
        "{event}"
    );
    trial.stop().await;
    for key in ["username", "password"] {
        all["servers"][0].as_object_mut().unwrap().remove(key);
    }
    let mut trial = Trial::start(all).await;
    trial.first("defaultdb").await;
    trial.stop().await;
}

#[tokio::test]
async fn no_password_is_guessed_and_none_is_shown() {
    let fake = Fake::start().await;
    let mut all = section(&fake);
    for key in ["username", "password"] {
        all["servers"][0].as_object_mut().unwrap().remove(key);
    }
    let mut trial = Trial::start(all).await;
    let event = trial.verdict("", "error", "login").await;
    assert_eq!(event["event_name"], "immudb.audit.error");
    assert_eq!(event["severity"], "warning");
    trial.stop().await;
    fake.change(|world| assert_eq!(world.count("OpenSession") + world.count("Login"), 0));

    // The server's text repeats the password.
    let mut all = section(&fake);
    all["servers"][0]["username"] = json!("someone");
    let mut trial = Trial::start(all).await;
    let event = trial.verdict("", "error", "login").await;
    assert!(!event.to_string().contains(PASSWORD), "{event}");
    trial.verdict("", "error", "login").await;
    let agent = trial.stop().await;
    assert!(!format!("{:?}", agent.health("immudb")).contains(PASSWORD));
    fake.change(|world| assert_eq!(world.count("OpenSession"), 1, "refused once, it waits"));
}

/// A signing key of a server, and the file with its public half.
fn signing_key(dir: &Path, seed: u8) -> (SigningKey, PathBuf) {
    let key = SigningKey::from_slice(&[seed; 32]).unwrap();
    let pem = p256::pkcs8::EncodePublicKey::to_public_key_pem(key.verifying_key(), p256::pkcs8::LineEnding::LF);
    let file = dir.join(format!("{seed}.pem"));
    std::fs::write(&file, pem.unwrap()).unwrap();
    (key, file)
}

/// What events name it by.
fn point(key: &SigningKey) -> String {
    hex::encode(key.verifying_key().to_sec1_point(false).as_bytes())
}

#[tokio::test]
async fn a_key_is_replaced_by_another_one_that_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let [(old, old_file), (new, new_file), (third, _)] = [7, 8, 9].map(|seed| signing_key(dir.path(), seed));
    // Few new transactions are walked, many are proven: proofs are signed, too.
    for walk in [10_000, 0] {
        let fake = Fake::start().await;
        fake.change(|world| {
            world.key = Some(old.clone());
            world.grow("defaultdb", 2, 0);
        });
        let mut all = section(&fake);
        all["walk"] = json!(walk);
        all["servers"][0]["signing_keys"] = json!([old_file, new_file]);
        let mut trial = Trial::start(all).await;
        let first = trial.first("defaultdb").await;
        assert_eq!(first["event_data"]["current"]["signed_by"], point(&old));
        // Also back again, and at rest as well as with new transactions.
        for (tx, key) in [(2, &new), (4, &new), (6, &old), (8, &new)] {
            fake.change(|world| {
                world.key = Some(key.clone());
                world.grow("defaultdb", tx - world.databases["defaultdb"].data.len(), 0);
            });
            let signed = |event: &Value| {
                let data = &event["event_data"];
                assert_eq!(data["result"], "ok", "{event:#}");
                data["current"]["tx"] == tx && data["current"]["signed_by"] == point(key)
            };
            trial.ever("it is followed on", signed).await;
        }
        fake.change(|world| world.key = Some(third.clone()));
        trial.verdict("defaultdb", "tampered", "signature").await;
        // The new key was taken, and is known after a restart.
        assert_eq!(trial.trusted("defaultdb").unwrap()["tx"], 8);
        trial.stop().await;
    }
}

/// It may have been replaced by an intruder: somebody has to say so.
#[tokio::test]
async fn a_key_that_is_configured_after_a_finding_clears_it_with_a_word_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [(old, old_file), (new, new_file)] = [7, 8].map(|seed| signing_key(dir.path(), seed));
    for (configured, code) in [(true, "signature"), (false, "identity")] {
        let fake = Fake::start().await;
        fake.change(|world| {
            world.key = Some(old.clone());
            world.grow("defaultdb", 2, 0);
        });
        let mut all = section(&fake);
        if configured {
            all["servers"][0]["signing_keys"] = json!([old_file]);
        }
        let mut trial = Trial::start(all.clone()).await;
        trial.first("defaultdb").await;
        fake.change(|world| world.key = Some(new.clone()));
        let found = trial.verdict("defaultdb", "tampered", code).await;
        let advice = found["event_data"]["do"].as_str().unwrap().to_owned();
        assert!(
            advice
                .contains("in `signing_keys` where that is set, and then accept the new state: `auditmon immudb trust"),
            "{advice}"
        );
        let agent = trial.stop().await;
        all["servers"][0]["signing_keys"] = json!([old_file, new_file]);
        let mut trial = Trial::go_on(agent, all).await;
        let stands = |event: &Value| {
            let data = &event["event_data"];
            assert_ne!(data["result"], "ok", "{event:#}");
            data["text"]
                .as_str()
                .is_some_and(|text| text.contains("stands until an operator accepts"))
        };
        trial.ever("the finding stands", stands).await;
        let (status, answer) = trial
            .trust("server=db1&database=defaultdb&by=jane&reason=new%20key")
            .await;
        assert_eq!(status, 200, "{answer}");
        trial.verdict("defaultdb", "ok", "").await;
        trial.stop().await;
    }
}

#[tokio::test]
async fn signed_states() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = signing_key(dir.path(), 7);
    fake.change(|world| {
        world.key = Some(key);
        world.grow("defaultdb", 2, 0);
    });
    let mut all = section(&fake);
    all["servers"][0]["signing_keys"] = json!([file]);
    for section in [section(&fake), all] {
        let mut trial = Trial::start(section).await;
        let event = trial.first("defaultdb").await;
        assert_eq!(event["event_data"]["current"]["signed_by"].as_str().unwrap().len(), 130);
        fake.change(|world| world.grow("defaultdb", 2, 0));
        trial.walked("defaultdb").await;
        trial.stop().await;
    }
}
