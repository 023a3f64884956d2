//! Servers that lie: what is found, and that nothing of it is ever trusted.

use auditmon_testkit::eventually;
use p256::ecdsa::SigningKey;
use serde_json::{Value, json};

use crate::fake::{Db, Fake, Reply, World, add, plan};
use crate::proto;
use crate::trial::{PLUGIN, Trial, section};

/// Starts in order, tampers, and gives the finding.
async fn found(all: Value, fake: &Fake, tamper: impl FnOnce(&Fake), code: &str) -> Value {
    let mut trial = Trial::start(all).await;
    trial.verdict("defaultdb", "ok", "").await;
    trial.verdict("other", "ok", "").await;
    let before = trial.trusted("defaultdb").unwrap();
    tamper(fake);
    let event = trial.verdict("defaultdb", "tampered", code).await;
    assert_eq!(event["event_name"], "immudb.audit.tampered");
    assert_eq!(
        (&event["severity"], &event["outcome"]),
        (&json!("critical"), &json!("failure"))
    );
    let data = &event["event_data"];
    assert_eq!(
        (&data["trusted"]["tx"], &data["trusted"]["hash"]),
        (&before["tx"], &before["alh"]),
        "{event:#}"
    );
    for text in ["text", "meaning", "do"] {
        assert!(data[text].as_str().unwrap().len() > 20, "{text}: {event:#}");
    }
    // It is found again and again, and what is trusted stays.
    trial.verdict("defaultdb", "tampered", "").await;
    let after = trial.trusted("defaultdb").unwrap();
    for key in ["tx", "alh", "uuid", "key"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(after["finding"]["code"], code);
    assert!(trial.agent.metric("auditmon_immudb_runs_total") > 0.0);
    trial.stop().await;
    event
}

fn world(world: &mut World) {
    world.grow("defaultdb", 9, 0);
    world.grow("other", 2, 0);
}

/// The first `keep` transactions, then others.
pub fn fork(db: &mut Db, keep: usize, more: usize) {
    let mut data = crate::naive::Database::default();
    add(&mut data, (0..keep).map(|at| plan(at, 0, 1, 0)));
    add(&mut data, (keep..keep + more).map(|at| plan(at, 1, 1, 0)));
    db.data = data;
}

async fn changed(walk: u64, tamper: impl FnOnce(&Fake), code: &str) -> Value {
    let fake = Fake::start().await;
    fake.change(world);
    let mut all = section(&fake);
    all["walk"] = json!(walk);
    found(all, &fake, tamper, code).await
}

#[tokio::test]
async fn a_rollback() {
    let event = changed(10_000, |fake| fake.db("defaultdb", |db| fork(db, 6, 0)), "rollback").await;
    let data = &event["event_data"];
    assert_eq!((&data["trusted"]["tx"], &data["current"]["tx"]), (&json!(9), &json!(6)));
    // The command to accept it is whole.
    let command = format!(
        "`auditmon immudb trust {} defaultdb --reason TEXT`",
        data["server"]["name"].as_str().unwrap()
    );
    assert!(data["do"].as_str().unwrap().contains(&command), "{event:#}");
}

#[tokio::test]
async fn an_emptied_database() {
    changed(10_000, |fake| fake.db("defaultdb", |db| *db = Db::default()), "emptied").await;
}

#[tokio::test]
async fn another_last_transaction() {
    changed(10_000, |fake| fake.db("defaultdb", |db| fork(db, 8, 1)), "fork").await;
}

#[tokio::test]
async fn another_history_beyond_the_trusted_state() {
    for (walk, keep) in [(10_000, 6), (0, 6), (10_000, 0), (0, 8)] {
        changed(
            walk,
            |fake| fake.db("defaultdb", |db| fork(db, keep, 12 - keep)),
            "proof",
        )
        .await;
    }
}

#[tokio::test]
async fn another_identity() {
    let event = changed(
        10_000,
        |fake| {
            fake.change(|world| world.uuid = Some("another".to_owned()));
            fake.db("defaultdb", |db| fork(db, 6, 6));
        },
        "identity",
    )
    .await;
    let data = &event["event_data"];
    assert_eq!(data["uuid"], "another");
    assert_eq!((&data["history"], &data["also"]), (&json!("differs"), &json!("proof")));
    assert_eq!(data["location"]["first_changed"]["to"], 9);
    assert!(
        data["text"]
            .as_str()
            .unwrap()
            .contains("its history is not the trusted one")
    );
    assert!(data["do"].as_str().unwrap().starts_with("Don't accept the state shown"));
}

/// An older copy, another last transaction, nothing: each under another name, or with another key.
#[tokio::test]
async fn another_identity_with_another_history() {
    let key = |seed: u8| Some(SigningKey::from_slice(&[seed; 32]).unwrap());
    for (keep, more, also) in [(6, 0, "rollback"), (8, 1, "fork"), (0, 0, "emptied"), (5, 9, "proof")] {
        for (renamed, walk) in [(true, 10_000), (false, 0)] {
            let fake = Fake::start().await;
            fake.change(world);
            fake.change(|world| world.key = key(7));
            let mut all = section(&fake);
            all["walk"] = json!(walk);
            let tamper = |fake: &Fake| {
                fake.change(|world| {
                    if renamed {
                        world.uuid = Some("another".to_owned());
                    }
                    world.key = key(8);
                });
                fake.db("defaultdb", |db| fork(db, keep, more));
            };
            let event = found(all, &fake, tamper, "identity").await;
            let data = &event["event_data"];
            assert_eq!(
                (&data["history"], &data["also"]),
                (&json!("differs"), &json!(also)),
                "{event:#}"
            );
        }
    }
}

/// It repeats the trusted state and has another history.
#[tokio::test]
async fn another_identity_that_repeats_the_state() {
    let tamper = |fake: &Fake| {
        fake.change(|world| world.uuid = Some("another".to_owned()));
        let hash = fake.db("defaultdb", |db| crate::fake::last(&db.data));
        fake.db("defaultdb", |db| fork(db, 6, 3));
        fake.lie("defaultdb", move |call, reply| match call {
            "CurrentState" => answer(reply, |state: &mut proto::ImmutableState| state.tx_hash = hash.to_vec()),
            _ => reply,
        });
    };
    let event = changed(10_000, tamper, "identity").await;
    let data = &event["event_data"];
    assert_eq!(
        (&data["history"], &data["also"]),
        (&json!("differs"), &json!("proof")),
        "{event:#}"
    );
}

/// What an audit says of another server that gives no further answer.
async fn of_unknown_history(trial: &mut Trial) -> Value {
    let event = trial.verdict("defaultdb", "tampered", "identity").await;
    let data = &event["event_data"];
    assert_eq!(
        (&data["history"], &data["current"]["tx"]),
        (&json!("unknown"), &json!(12)),
        "{event:#}"
    );
    assert!(data["do"].as_str().unwrap().starts_with("Wait until"), "{event:#}");
    let (status, refused) = trial.trust("server=db1&database=defaultdb&by=jane&reason=moved").await;
    assert_eq!(status, 409, "{refused}");
    event
}

/// However another server ends an audit: that it is another one is told.
#[tokio::test]
async fn another_identity_that_lets_the_audit_come_to_no_end() {
    type Change = fn(&mut World);
    let changes: [Change; 2] = [
        |world| world.uuid = Some("another".to_owned()),
        |world| world.key = Some(SigningKey::from_slice(&[8; 32]).unwrap()),
    ];
    let expired = || Reply::Refused(7, "session not found".to_owned());
    for change in changes {
        // The audit's end, that of one call, both at once, and that of the login.
        for (timeout, deadline, silent) in [
            ("1h", "500ms", true),
            ("500ms", "1h", true),
            ("500ms", "500ms", true),
            ("1h", "1h", false),
        ] {
            let fake = Fake::start().await;
            fake.change(world);
            fake.change(|world| world.key = Some(SigningKey::from_slice(&[7; 32]).unwrap()));
            let mut all = section(&fake);
            all["timeout"] = json!(timeout);
            all["deadline"] = json!(deadline);
            let mut trial = Trial::start(all).await;
            trial.verdict("defaultdb", "ok", "").await;
            fake.lie("defaultdb", move |call, reply| match call {
                "VerifiableTxById" if silent => Reply::Silence,
                "VerifiableTxById" => expired(),
                _ => reply,
            });
            fake.change(|world| {
                change(world);
                world.grow("defaultdb", 3, 0);
            });
            of_unknown_history(&mut trial).await;
            assert_eq!(trial.trusted("defaultdb").unwrap()["finding"]["code"], "identity");
            trial.stop().await;
        }
    }
}

/// Whoever ends the agent while another server keeps it waiting hides nothing.
#[tokio::test]
async fn another_identity_is_told_though_the_agent_ends() {
    let fake = Fake::start().await;
    fake.change(world);
    let mut all = section(&fake);
    all["timeout"] = json!("1h");
    all["deadline"] = json!("1h");
    let mut trial = Trial::start(all.clone()).await;
    trial.verdict("defaultdb", "ok", "").await;
    fake.lie("defaultdb", |call, reply| match call {
        "VerifiableTxById" => Reply::Silence,
        _ => reply,
    });
    let asked = || fake.change(|world| world.count("VerifiableTxById"));
    let before = asked();
    fake.change(|world| {
        world.uuid = Some("another".to_owned());
        world.grow("defaultdb", 3, 0);
    });
    auditmon_testkit::eventually("its history is asked for", || (asked() > before).then_some(())).await;
    assert_eq!(trial.trusted("defaultdb").unwrap()["finding"], Value::Null);
    let agent = trial.stop().await;
    let trial = Trial::go_on(agent, all).await;
    assert_eq!(trial.trusted("defaultdb").unwrap()["finding"]["code"], "identity");
    trial.stop().await;
}

/// A login that another server leaves unanswered is not asked anything else, and nobody waits for it.
#[tokio::test]
async fn another_identity_that_is_silent_keeps_no_login() {
    let fake = Fake::start().await;
    fake.change(world);
    let mut all = section(&fake);
    all["timeout"] = json!("300ms");
    let mut trial = Trial::start(all).await;
    trial.verdict("defaultdb", "ok", "").await;
    fake.lie("defaultdb", |call, reply| match call {
        "VerifiableTxById" => Reply::Silence,
        _ => reply,
    });
    fake.change(|world| {
        world.uuid = Some("another".to_owned());
        world.grow("defaultdb", 3, 0);
    });
    trial.verdict("defaultdb", "tampered", "identity").await;
    assert!(fake.change(|world| world.count("CloseSession")) > 0);
    trial.stop().await;
}

/// The state comes from the known server and what should prove it from another one: that state is nobody's.
#[tokio::test]
async fn another_identity_on_a_later_answer() {
    for (call, walk) in [
        ("VerifiableTxById", 0),
        ("VerifiableTxById", 10_000),
        ("TxScan", 10_000),
    ] {
        let fake = Fake::start().await;
        fake.change(world);
        let mut all = section(&fake);
        all["walk"] = json!(walk);
        let mut trial = Trial::start(all).await;
        trial.verdict("defaultdb", "ok", "").await;
        fake.change(|world| {
            world.stranger = Some(call);
            world.grow("defaultdb", 3, 0);
        });
        let event = of_unknown_history(&mut trial).await;
        assert_eq!(event["event_data"]["uuid"], "stranger", "{event:#}");
        trial.stop().await;
    }
    // The known key signs the state, another one its proof.
    let fake = Fake::start().await;
    fake.change(world);
    fake.change(|world| world.key = Some(SigningKey::from_slice(&[7; 32]).unwrap()));
    let mut all = section(&fake);
    all["walk"] = json!(0);
    let mut trial = Trial::start(all).await;
    trial.verdict("defaultdb", "ok", "").await;
    let mut data = crate::naive::Database::default();
    add(&mut data, (0..12).map(|at| plan(at, 0, 1, 0)));
    let other = SigningKey::from_slice(&[8; 32]).unwrap();
    let signature = crate::fake::sign(&other, "defaultdb", 12, &crate::fake::last(&data));
    fake.lie("defaultdb", move |call, reply| match call {
        "VerifiableTxById" => answer(reply, |message: &mut proto::VerifiableTx| {
            message.signature = Some(signature.clone());
        }),
        _ => reply,
    });
    fake.change(|world| world.grow("defaultdb", 3, 0));
    of_unknown_history(&mut trial).await;
    trial.stop().await;
}

/// An answer of two bytes for each transaction, eight million of them, is not decoded.
#[tokio::test]
async fn more_transactions_than_asked_for() {
    let tamper = |fake: &Fake| {
        fake.lie("defaultdb", |call, reply| match call {
            "TxScan" => Reply::Answer([0x0a, 0].repeat(7 << 20)),
            _ => reply,
        });
        fake.change(|world| world.grow("defaultdb", 3, 0));
    };
    let event = changed(10_000, tamper, "malformed").await;
    let text = event["event_data"]["text"].as_str().unwrap();
    assert!(text.contains("more often than was asked for"), "{text}");
}

#[tokio::test]
async fn a_deleted_database() {
    changed(
        10_000,
        |fake| fake.change(|world| drop(world.databases.remove("defaultdb"))),
        "missing",
    )
    .await;
}

#[tokio::test]
async fn keys_that_change_or_go() {
    let key = |seed: u8| Some(SigningKey::from_slice(&[seed; 32]).unwrap());
    for other in [key(8), None] {
        let fake = Fake::start().await;
        fake.change(world);
        fake.change(|world| world.key = key(7));
        found(
            section(&fake),
            &fake,
            |fake| fake.change(|world| world.key = other),
            "identity",
        )
        .await;
    }
}

#[tokio::test]
async fn states_not_signed_by_a_configured_key() {
    use p256::pkcs8::{EncodePublicKey as _, LineEnding};
    let dir = tempfile::tempdir().unwrap();
    let key = |seed: u8| SigningKey::from_slice(&[seed; 32]).unwrap();
    let file = dir.path().join("key.pem");
    std::fs::write(&file, key(7).verifying_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
    for other in [Some(key(8)), None] {
        let fake = Fake::start().await;
        fake.change(world);
        fake.change(|world| world.key = Some(key(7)));
        let mut all = section(&fake);
        all["servers"][0]["signing_keys"] = json!([file]);
        found(
            all.clone(),
            &fake,
            |fake| fake.change(|world| world.key = other),
            "signature",
        )
        .await;
        // At first contact, too: and then nothing is trusted.
        let mut trial = Trial::start(all).await;
        trial.verdict("defaultdb", "tampered", "signature").await;
        assert_eq!(trial.trusted("defaultdb"), None);
        trial.stop().await;
    }
}

/// A key of another curve can't be checked, and accuses nobody; where one of P-256 signed before, it is another server's.
#[tokio::test]
async fn states_signed_with_another_curve() {
    let curve = |call: &str, reply: Reply| match call {
        "CurrentState" => answer(reply, |state: &mut proto::ImmutableState| {
            state.signature = Some(proto::Signature {
                public_key: [&[4][..], &[7; 96]].concat(),
                signature: vec![0x30; 104],
            });
        }),
        _ => reply,
    };
    let fake = Fake::start().await;
    fake.change(world);
    fake.lie("defaultdb", curve);
    let mut trial = Trial::start(section(&fake)).await;
    let event = trial.verdict("defaultdb", "error", "curve").await;
    let text = event["event_data"]["text"].as_str().unwrap();
    assert!(text.contains("another curve than P-256"), "{text}");
    assert_eq!(trial.trusted("defaultdb"), None);
    trial.stop().await;

    let fake = Fake::start().await;
    fake.change(world);
    fake.change(|world| world.key = Some(SigningKey::from_slice(&[7; 32]).unwrap()));
    let event = found(section(&fake), &fake, |fake| fake.lie("defaultdb", curve), "identity").await;
    assert_eq!(event["event_data"]["history"], "follows");
}

/// What the server itself says of its log and values, and answers that are none.
#[tokio::test]
async fn what_a_server_says_of_itself() {
    let says = |text: &'static str| move |_: &str, _: Reply| Reply::Refused(2, text.to_owned());
    for (text, walk, code) in [
        ("tx data is corrupted: ALH mismatch at tx 7", 10_000, "corrupt-tx"),
        ("tx data is corrupted: ALH mismatch at tx 7", 0, "corrupt-tx"),
        ("data is corrupted: value length or digest mismatch", 10_000, "value"),
        (
            "illegal state: latest txID=5 is lower than specified as initial tx=9",
            0,
            "rollback",
        ),
        ("tx not found", 10_000, "rollback"),
    ] {
        let tamper = |fake: &Fake| {
            let says = says(text);
            fake.lie("defaultdb", move |call, reply| match call {
                "CurrentState" => reply,
                call => says(call, reply),
            });
            fake.change(|world| world.grow("defaultdb", 3, 0));
        };
        let event = changed(walk, tamper, code).await;
        if code == "corrupt-tx" {
            assert_eq!(event["event_data"]["tx"], 7);
        }
    }
}

/// Changes an answer that is of this type.
pub fn answer<M: prost::Message + Default>(reply: Reply, change: impl FnOnce(&mut M)) -> Reply {
    match reply {
        Reply::Answer(bytes) => {
            let mut message = M::decode(&bytes[..]).unwrap();
            change(&mut message);
            Reply::Answer(message.encode_to_vec())
        }
        other => other,
    }
}

#[tokio::test]
async fn answers_that_no_server_gives() {
    type Change = fn(&str, Reply) -> Reply;
    let changes: [(&str, Change, u64, &str); 8] = [
        (
            "another database",
            |call, reply| match call {
                "CurrentState" => answer(reply, |state: &mut proto::ImmutableState| state.db = "other".to_owned()),
                _ => reply,
            },
            10_000,
            "malformed",
        ),
        (
            "a short hash",
            |call, reply| match call {
                "CurrentState" => answer(reply, |state: &mut proto::ImmutableState| {
                    state.tx_hash.pop();
                }),
                _ => reply,
            },
            10_000,
            "malformed",
        ),
        (
            "no protobuf",
            |call, reply| match call {
                "CurrentState" => Reply::Answer(vec![0xff; 7]),
                _ => reply,
            },
            10_000,
            "malformed",
        ),
        (
            "no proof",
            |call, reply| match call {
                "VerifiableTxById" => Reply::Answer(Vec::new()),
                _ => reply,
            },
            0,
            "malformed",
        ),
        (
            "a proof without its last part",
            |call, reply| match call {
                "VerifiableTxById" => answer(reply, |tx: &mut proto::VerifiableTx| {
                    drop(tx.dual_proof.as_mut().unwrap().inclusion.pop());
                }),
                _ => reply,
            },
            0,
            "malformed",
        ),
        (
            "a proof of something else",
            |call, reply| match call {
                "VerifiableTxById" => answer(reply, |tx: &mut proto::VerifiableTx| {
                    tx.dual_proof.as_mut().unwrap().inclusion[0][0] ^= 1;
                }),
                _ => reply,
            },
            0,
            "proof",
        ),
        (
            "a header with another time",
            |call, reply| match call {
                "TxScan" => answer(reply, |list: &mut proto::TxList| {
                    list.txs[0].header.as_mut().unwrap().ts += 1;
                }),
                _ => reply,
            },
            10_000,
            "proof",
        ),
        (
            "no headers",
            |call, reply| match call {
                "TxScan" => Reply::Answer(Vec::new()),
                _ => reply,
            },
            10_000,
            "rollback",
        ),
    ];
    for (what, change, walk, code) in changes {
        let tamper = |fake: &Fake| {
            fake.lie("defaultdb", change);
            fake.change(|world| world.grow("defaultdb", 3, 0));
        };
        let event = changed(walk, tamper, code).await;
        assert_eq!(event["event_data"]["code"], code, "{what}");
    }
}

/// A new database on a known server that is suddenly another is not trusted at first sight.
#[tokio::test]
async fn a_new_database_is_held_to_the_known_identity() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("defaultdb", 2, 0));
    let mut trial = Trial::start(section(&fake)).await;
    trial.verdict("defaultdb", "ok", "").await;
    fake.change(|world| {
        world.uuid = Some("another".to_owned());
        world.grow("fresh", 2, 0);
    });
    trial.verdict("fresh", "tampered", "identity").await;
    assert_eq!(trial.trusted("fresh"), None);
    trial.stop().await;
}

#[tokio::test]
async fn a_finding_stands_until_a_state_is_accepted_once() {
    let fake = Fake::start().await;
    fake.change(world);
    let mut trial = Trial::start(section(&fake)).await;
    trial.verdict("defaultdb", "ok", "").await;
    fake.db("defaultdb", |db| fork(db, 6, 0));
    trial.verdict("defaultdb", "tampered", "rollback").await;
    // The old copy is back, and goes on: still nobody has said that it is well.
    fake.db("defaultdb", |db| fork(db, 10, 0));
    trial.verdict("defaultdb", "tampered", "not-accepted").await;
    assert_eq!(trial.trusted("defaultdb").unwrap()["tx"], 9);
    // A restart changes nothing.
    let agent = trial.stop().await;
    let mut trial = Trial::go_on(agent, section(&fake)).await;
    trial.verdict("defaultdb", "tampered", "not-accepted").await;
    let agent = trial.stop().await;

    fake.db("defaultdb", |db| fork(db, 5, 6));
    let hash = fake.db("defaultdb", |db| hex::encode(db.data.alhs[7]));
    let mut all = section(&fake);
    all["servers"][0]["accept"] =
        json!([{"database": "defaultdb", "tx": 8, "hash": hash, "by": "ops", "reason": "restored, ticket 7"}]);
    let mut trial = Trial::go_on(agent, all.clone()).await;
    let event = trial
        .ever("it is accepted", |event| event["event_name"] == "immudb.trust")
        .await;
    assert_eq!(
        (&event["username"], &event["severity"]),
        (&json!("ops"), &json!("warning"))
    );
    let data = &event["event_data"];
    assert_eq!(
        (&data["old"]["tx"], &data["new"]["tx"], &data["finding"]),
        (&json!(9), &json!(8), &json!("rollback"))
    );
    trial.walked("defaultdb").await;
    // The same words don't accept the next finding.
    fake.db("defaultdb", |db| fork(db, 4, 9));
    trial.verdict("defaultdb", "tampered", "proof").await;
    let agent = trial.stop().await;
    let mut trial = Trial::go_on(agent, all.clone()).await;
    trial.verdict("defaultdb", "tampered", "proof").await;
    assert!(trial.events.iter().all(|event| event["event_name"] != "immudb.trust"));
    let agent = trial.stop().await;

    // Other words do, and leave the old ones as used up as they were.
    let hash = fake.db("defaultdb", |db| hex::encode(db.data.alhs[8]));
    let second = json!({"database": "defaultdb", "tx": 9, "hash": hash, "by": "ops", "reason": "again, ticket 8"});
    all["servers"][0]["accept"].as_array_mut().unwrap().push(second);
    let mut trial = Trial::go_on(agent, all.clone()).await;
    trial
        .ever("it is accepted", |event| event["event_name"] == "immudb.trust")
        .await;
    trial.walked("defaultdb").await;
    fake.db("defaultdb", |db| fork(db, 3, 11));
    trial.verdict("defaultdb", "tampered", "proof").await;
    let agent = trial.stop().await;
    let mut trial = Trial::go_on(agent, all).await;
    trial.verdict("defaultdb", "tampered", "proof").await;
    assert!(trial.events.iter().all(|event| event["event_name"] != "immudb.trust"));
    trial.stop().await;
}

/// Who was caught gains nothing by silence: the finding stands beside what can't be checked, in another life, too.
#[tokio::test]
async fn a_finding_stands_while_nothing_can_be_checked() {
    let fake = Fake::start().await;
    fake.change(world);
    let mut trial = Trial::start(section(&fake)).await;
    trial.verdict("other", "ok", "").await;
    trial.verdict("defaultdb", "ok", "").await;
    fake.db("defaultdb", |db| fork(db, 6, 0));
    trial.verdict("defaultdb", "tampered", "rollback").await;
    fake.change(|world| world.stop());
    for life in 0..2 {
        let event = trial.verdict("defaultdb", "error", "unreachable").await;
        let data = &event["event_data"];
        assert_eq!(event["event_name"], "immudb.audit.error");
        assert_eq!(data["finding"], "rollback", "{event:#}");
        let text = data["text"].as_str().unwrap();
        assert!(text.contains("the finding rollback of "), "{text}");
        let metric = |name: &str, db: &str| {
            let name = format!("auditmon_immudb_{name}");
            trial.agent.metric_of(&name, &[("db", db)])
        };
        assert_eq!(
            (metric("audit_result", "defaultdb"), metric("audit_result", "other")),
            (0.0, -1.0)
        );
        // How old the last verdict is stays to be seen.
        assert_eq!(metric("checked_timestamp_seconds", "defaultdb") > 0.0, life == 0);
        let status = "TAMPERED 1 of 2 databases: db1/defaultdb (rollback); could not check 2 of 2 databases: \
                      db1/defaultdb (unreachable), db1/other (unreachable)";
        eventually("the status says so", || {
            let reason = trial.agent.health(PLUGIN).unwrap().reason;
            (reason.as_deref() == Some(status)).then_some(())
        })
        .await;
        let event = trial.verdict("other", "error", "unreachable").await;
        assert_eq!(event["event_data"]["finding"], Value::Null, "{event:#}");
        let agent = trial.stop().await;
        trial = Trial::go_on(agent, section(&fake)).await;
    }
    trial.stop().await;
}

#[tokio::test]
async fn a_record_that_is_broken_is_a_finding() {
    let fake = Fake::start().await;
    fake.change(world);
    let mut trial = Trial::start(section(&fake)).await;
    trial.verdict("defaultdb", "ok", "").await;
    let agent = trial.stop().await;
    let key = format!("state/{}/defaultdb", fake.address);
    let emitter = agent.journal.emitter("immudb", auditmon_core::event::Kind::Immudb);
    let mut batch = emitter.batch();
    batch.remember(key.as_bytes(), None, b"{}").unwrap();
    emitter.emit(batch, auditmon_journal::Linger::NONE).await.unwrap();
    let mut trial = Trial::go_on(agent, section(&fake)).await;
    trial.verdict("defaultdb", "tampered", "state-lost").await;
    trial.verdict("other", "ok", "").await;
    trial.stop().await;
}
