//! Servers that are slow, hang or go: nothing is found, it is told, and nobody else is harmed.

use std::time::Duration;

use p256::ecdsa::SigningKey;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, World};
use crate::relay::{Relay, Way};
use crate::trial::{Trial, section};

fn quick(fake: &Fake) -> Value {
    let mut all = section(fake);
    all["timeout"] = json!("300ms");
    all["deadline"] = json!("1s");
    all
}

#[tokio::test]
async fn databases_that_never_answer_harm_no_other() {
    let fake = Fake::start().await;
    fake.change(|world| {
        for number in 0..40 {
            world.grow(&format!("db{number}"), 2, 0);
        }
    });
    let mut trial = Trial::start(quick(&fake)).await;
    trial.verdict("db7", "ok", "").await;
    for db in ["db7", "db8", "db9"] {
        fake.db(db, |db| db.silent = true);
    }
    trial.verdict("db7", "error", "").await;
    // In the same interval all others are audited, again and again.
    for number in (0..40).filter(|number| !(7..10).contains(number)) {
        fake.change(|world| world.grow(&format!("db{number}"), 1, 0));
    }
    let followed = |trial: &Trial, number: usize| {
        let name = format!("db{number}");
        trial.events.iter().any(|event| {
            let data = &event["event_data"];
            data["database"] == name.as_str() && data["current"]["tx"] == 3
        })
    };
    while (0..40).any(|number| !(7..10).contains(&number) && !followed(&trial, number)) {
        trial
            .next("the others go on", |event| event["event_data"]["result"] == "ok")
            .await;
    }
    let error = trial.verdict("db8", "error", "").await;
    assert!(error["event_data"]["age_seconds"].is_u64(), "{error}");
    assert_eq!(trial.trusted("db8").unwrap()["finding"], Value::Null);
    // And they are back as soon as they answer.
    for db in ["db7", "db8", "db9"] {
        fake.db(db, |db| db.silent = false);
    }
    trial.verdict("db8", "ok", "").await;
    trial.stop().await;
}

/// Whatever happens to one database: it is told before a third audit has begun, and the other one is audited on.
#[tokio::test]
async fn what_happens_is_told_within_two_intervals() {
    type Change = fn(&mut World);
    let changes: [(Change, &str, &str); 5] = [
        (
            |world| world.databases.get_mut("orders").unwrap().silent = true,
            "error",
            "timeout",
        ),
        (
            |world| world.databases.get_mut("orders").unwrap().unloaded = true,
            "error",
            "unloaded",
        ),
        (|world| drop(world.databases.remove("orders")), "tampered", "missing"),
        (
            |world| world.key = Some(SigningKey::from_slice(&[2; 32]).unwrap()),
            "tampered",
            "identity",
        ),
        (|world| world.key = None, "tampered", "identity"),
    ];
    for (change, result, code) in changes {
        let fake = Fake::start().await;
        fake.change(|world| {
            world.grow("orders", 2, 0);
            world.grow("other", 2, 0);
            world.key = Some(SigningKey::from_slice(&[1; 32]).unwrap());
        });
        let mut trial = Trial::start(quick(&fake)).await;
        trial.first("orders").await;
        trial.first("other").await;
        let changed = auditmon_core::time::now();
        fake.change(change);
        let is_it = |event: &Value| {
            let data = &event["event_data"];
            let code_is = data["code"] == code || data["reason"] == code;
            data["database"] == "orders" && data["result"] == result && code_is
        };
        let event = trial.ever(code, is_it).await;
        let told = auditmon_core::time::parse(event["event_time"].as_str().unwrap()).unwrap();
        let begun = fake.change(|world| {
            world
                .ticks
                .iter()
                .filter(|tick| (changed..told).contains(*tick))
                .count()
        });
        assert!(begun <= 2, "{code}: {begun} audits began before it was told");
        let other = |event: &Value| event["event_data"]["database"] == "other";
        trial.next("the other one is audited on", other).await;
        trial.stop().await;
    }
}

/// Only keys that are asked for as users do need the index; audits and values don't.
#[tokio::test]
async fn an_index_that_never_catches_up_holds_nothing_up() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 9, 0));
    fake.db("orders", |db| db.stuck = true);
    let mut all = section(&fake);
    // Audits end long before; what asks for keys doesn't.
    all["timeout"] = json!("2s");
    all["deadline"] = json!("10s");
    all["past_calls"] = json!(10);
    all["value_calls"] = json!(10);
    let mut trial = Trial::start(all).await;
    trial.first("orders").await;
    auditmon_testkit::eventually("a key is asked for", || {
        fake.change(|world| world.count("VerifiableGet") > 0).then_some(())
    })
    .await;
    fake.change(|world| world.grow("orders", 3, 0));
    trial.walked("orders").await;
    let all_seen = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == "orders" && data["values"]["unchecked"] == 0 && data["unseen"]["left"] == 0
    };
    trial.ever("values and headers are checked", all_seen).await;
    // Rounds go on, and it is left alone with that question for a minute.
    let scans = || fake.change(|world| world.count("TxScan"));
    let before = scans();
    auditmon_testkit::eventually("rounds go on", || (scans() > before + 5).then_some(())).await;
    assert_eq!(fake.change(|world| world.count("VerifiableGet")), 1);
    let held_up = |event: &&Value| event["event_data"]["result"] != "ok";
    let held_up: Vec<_> = trial.events.iter().filter(held_up).collect();
    assert!(held_up.is_empty(), "{held_up:#?}");
    trial.stop().await;
}

/// All others are audited as often as those, and each of the three says that nothing is known of it.
#[tokio::test]
async fn of_a_thousand_databases_three_never_answer() {
    const ALL: usize = 1_000;
    let silent = ["db007", "db500", "db999"];
    let fake = Fake::start().await;
    fake.change(|world| {
        world.databases.clear();
        for number in 0..ALL {
            world.grow(&format!("db{number:03}"), 1, 0);
        }
    });
    let mut all = section(&fake);
    all["every"] = json!(false);
    all["timeout"] = json!("2s");
    all["deadline"] = json!("2s");
    // Long enough that no audit is late, but on a host that is very busy.
    all["interval"] = json!("4s");
    let mut trial = Trial::start(all).await;
    let runs = |trial: &Trial, result: &str| {
        let runs = trial
            .agent
            .metric_of("auditmon_immudb_runs_total", &[("result", result)]);
        runs as usize
    };
    auditmon_testkit::eventually("all were seen", || (runs(&trial, "ok") >= ALL).then_some(())).await;
    fake.change(|world| {
        for db in silent {
            world.databases.get_mut(db).unwrap().silent = true;
        }
    });
    for db in silent {
        let wanted =
            |event: &Value| event["event_data"]["database"] == db && event["event_data"]["reason"] == "timeout";
        let event = trial.ever("it is told", wanted).await;
        assert!(event["event_data"]["age_seconds"].is_u64(), "{event}");
    }
    let (errors, good) = (runs(&trial, "error"), runs(&trial, "ok"));
    let rounds = 2;
    let begun = || fake.change(|world| world.ticks.len());
    let before = begun();
    // A round ends before the next one begins.
    auditmon_testkit::eventually("they are tried again and again", || {
        (begun() > before + rounds).then_some(())
    })
    .await;
    let (errors, good) = (runs(&trial, "error") - errors, runs(&trial, "ok") - good);
    assert!(errors >= rounds * silent.len(), "{errors}");
    assert!(good >= rounds * (ALL - silent.len()), "{good}");
    fake.change(|world| {
        for number in 0..ALL {
            world.grow(&format!("db{number:03}"), 1, 0);
        }
    });
    let followed = |trial: &Trial| {
        let trusted = trial.agent.metric("auditmon_immudb_curr_tx") as usize;
        (trusted >= 2 * ALL - silent.len()).then_some(())
    };
    auditmon_testkit::eventually("all others are followed", || followed(&trial)).await;
    // 1 in order, -1 not checked.
    let sum = (ALL - 2 * silent.len()) as f64;
    let result = |trial: &Trial| trial.agent.metric("auditmon_immudb_audit_result");
    auditmon_testkit::eventually("all others are in order", || (result(&trial) == sum).then_some(())).await;
    trial.stop().await;
}

#[tokio::test]
async fn an_unloaded_database_is_not_checked_and_no_finding() {
    let fake = Fake::start().await;
    fake.change(|world| {
        world.grow("orders", 2, 0);
        world.grow("other", 2, 0);
    });
    let mut trial = Trial::start(section(&fake)).await;
    trial.verdict("orders", "ok", "").await;
    fake.db("orders", |db| db.unloaded = true);
    trial.verdict("orders", "error", "unloaded").await;
    trial.verdict("other", "ok", "").await;
    fake.db("orders", |db| db.unloaded = false);
    trial.verdict("orders", "ok", "").await;
    trial.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_is_told_and_followed_on_when_it_is_back() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    for fake in [&fake, &other] {
        fake.change(|world| world.grow("orders", 2, 0));
    }
    let mut all = quick(&fake);
    let mut second = all["servers"][0].clone();
    second["name"] = json!("db2");
    second["address"] = json!(other.address.to_string());
    all["servers"].as_array_mut().unwrap().push(second);
    let mut trial = Trial::start(all).await;
    trial.verdict("orders", "ok", "").await;
    fake.change(|world| world.stop());
    let gone = trial.verdict("orders", "error", "").await;
    assert_eq!(gone["event_data"]["server"]["name"], "db1");
    other.change(|world| world.grow("orders", 1, 0));
    let next = trial
        .ever("the other goes on", |event| event["event_data"]["current"]["tx"] == 3)
        .await;
    assert_eq!(next["event_data"]["server"]["name"], "db2");
    fake.change(|world| world.go_on());
    let back = |event: &Value| {
        let data = &event["event_data"];
        data["server"]["name"] == "db1" && data["database"] == "orders" && data["result"] == "ok"
    };
    trial.next("it is back", back).await;
    trial.stop().await;
}

/// Answers that come byte by byte, or not to their end: nothing is found, it is told, and all is well with the next whole
/// answer.
#[tokio::test]
async fn slow_and_broken_answers_are_no_finding() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 2, 0));
    let relay = Relay::to(fake.address).await;
    let mut all = quick(&fake);
    all["servers"][0]["address"] = json!(relay.address.to_string());
    let mut trial = Trial::start(all).await;
    trial.first("orders").await;
    // In the middle of the connection's begin, of a head, of a short answer, of a long one.
    let cuts = [1, 20, 60, 100, 150, 250, 500, 20_000].map(Way::Cut);
    let mut last = 2;
    for way in std::iter::once(Way::Slow).chain(cuts) {
        relay.go(way);
        // One answer has the headers of all of them.
        fake.change(|world| world.grow("orders", 300, 0));
        last += 300;
        let reason = match way {
            Way::Slow => "timeout",
            Way::Cut(_) | Way::Pass => "unreachable",
        };
        let could_not = |event: &Value| {
            let data = &event["event_data"];
            assert_ne!(data["result"], "tampered", "{event:#}");
            data["result"] == "error" && data["reason"] == reason
        };
        trial.next("it could not be checked", could_not).await;
        relay.go(Way::Pass);
        let followed = |event: &Value| {
            let data = &event["event_data"];
            assert_ne!(data["result"], "tampered", "{event:#}");
            data["result"] == "ok" && data["database"] == "orders" && data["current"]["tx"] == last
        };
        trial.ever("it is followed on", followed).await;
    }
    assert_eq!(trial.trusted("orders").unwrap()["finding"], Value::Null);
    trial.stop().await;
}

/// Nothing is known of its databases, so nothing else would show it.
#[tokio::test]
async fn a_server_that_never_answered_is_seen() {
    let fake = Fake::start().await;
    fake.change(|world| world.stop());
    let mut trial = Trial::start(quick(&fake)).await;
    trial.verdict("", "error", "").await;
    let up = |trial: &Trial| trial.agent.metric("auditmon_immudb_up");
    assert_eq!(up(&trial), 0.0);
    let state = auditmon_testkit::eventually("its state is told", || {
        let health = trial.agent.health(crate::trial::PLUGIN)?;
        health.reason.filter(|reason| reason.contains("could not check"))
    })
    .await;
    assert!(state.contains(": db1 ("), "{state}");
    fake.change(|world| world.go_on());
    trial.verdict("defaultdb", "ok", "").await;
    assert_eq!(up(&trial), 1.0);
    // An empty database hides nothing.
    let first = trial.first("defaultdb").await;
    assert_eq!(first["event_data"]["unseen"], Value::Null);
    fake.change(|world| world.stop());
    trial.verdict("defaultdb", "error", "").await;
    assert_eq!(up(&trial), 0.0);
    trial.stop().await;
}

/// Whenever a connection breaks, it is the server that is gone; not one that says that it is busy.
#[tokio::test]
async fn connections_that_are_closed_at_once_are_no_answers() {
    let fake = Fake::start().await;
    fake.change(|world| world.stop());
    let mut trial = Trial::start(quick(&fake)).await;
    for _ in 0..150 {
        let event = trial.verdict("", "error", "").await;
        assert_eq!(event["event_data"]["reason"], "unreachable", "{event:#}");
    }
    trial.stop().await;
}

#[tokio::test]
async fn an_audit_without_end_is_told_and_not_begun_again() {
    let fake = Fake::start().await;
    fake.change(|world| {
        world.grow("orders", 2, 0);
        world.grow("other", 2, 0);
    });
    let mut all = section(&fake);
    all["timeout"] = json!("20s");
    all["deadline"] = json!("20s");
    let mut trial = Trial::start(all).await;
    trial.verdict("orders", "ok", "").await;
    fake.db("orders", |db| db.silent = true);
    trial
        .ever("it is told", |event| event["event_data"]["reason"] == "late")
        .await;
    assert_eq!(fake.change(|world| world.silences), 1, "one tick at a time");
    trial.stop().await;
}

/// Nobody waits for a call to end: it is told before, also in another life.
#[tokio::test]
async fn a_server_that_hangs_is_told_before_its_calls_end() {
    for call in ["Health", "DatabaseListV2"] {
        let fake = Fake::start().await;
        fake.change(|world| world.grow("orders", 2, 0));
        let mut all = section(&fake);
        all["timeout"] = json!("1h");
        all["deadline"] = json!("1h");
        let mut trial = Trial::start(all.clone()).await;
        trial.verdict("orders", "ok", "").await;
        fake.change(|world| world.mute = vec![call]);
        for db in ["orders", "defaultdb"] {
            let late = |event: &Value| event["event_data"]["database"] == db && event["event_data"]["reason"] == "late";
            trial.ever("it is told", late).await;
        }
        assert!(fake.change(|world| world.silences) > 0);
        let agent = trial.stop().await;
        let mut trial = Trial::go_on(agent, all).await;
        trial.verdict("orders", "error", "late").await;
        assert_eq!(
            trial
                .agent
                .metric_of("auditmon_immudb_audit_result", &[("db", "orders")]),
            -1.0
        );
        trial.stop().await;
    }
}

/// However many there are, of each it is told before the first call ends.
#[tokio::test]
async fn all_databases_that_hang_are_told() {
    const ALL: usize = 1_000;
    let fake = Fake::start().await;
    let name = |number: usize| format!("db{number:03}");
    fake.change(|world| {
        world.databases.clear();
        (0..ALL).for_each(|number| world.grow(&name(number), 1, 0));
    });
    let mut all = section(&fake);
    all["every"] = json!(false);
    all["timeout"] = json!("1h");
    all["deadline"] = json!("1h");
    // Long enough that no audit is late.
    all["interval"] = json!("3s");
    let mut trial = Trial::start(all).await;
    let runs = |trial: &Trial| trial.agent.metric_of("auditmon_immudb_runs_total", &[("result", "ok")]);
    auditmon_testkit::eventually("all were seen", || (runs(&trial) >= ALL as f64).then_some(())).await;
    fake.change(|world| world.databases.values_mut().for_each(|db| db.silent = true));
    let result = |trial: &Trial| trial.agent.metric("auditmon_immudb_audit_result");
    auditmon_testkit::eventually("all are not checked", || {
        (result(&trial) == -(ALL as f64)).then_some(())
    })
    .await;
    for number in 0..ALL {
        let late = |event: &Value| {
            event["event_data"]["database"] == name(number).as_str() && event["event_data"]["reason"] == "late"
        };
        trial.ever("it is told", late).await;
    }
    trial.stop().await;
}

/// Servers that answer nothing of their databases take nothing from another one, whether there are fewer seats than
/// servers or more.
#[tokio::test]
async fn servers_that_hang_harm_no_other() {
    const ALL: usize = 40;
    // One that waited for the others' calls would take longer where they end, and for ever where they don't.
    const MOST: Duration = Duration::from_secs(20);
    for (concurrency, timeout) in [(6, "1h"), (1, "600ms")] {
        let fakes = [Fake::start().await, Fake::start().await, Fake::start().await];
        let mut all = section(&fakes[0]);
        all["interval"] = json!("1s");
        all["timeout"] = json!(timeout);
        all["deadline"] = json!(timeout);
        all["concurrency"] = json!(concurrency);
        all["servers"] = json!(vec![all["servers"][0].clone(); fakes.len()]);
        for (number, fake) in fakes.iter().enumerate() {
            fake.change(|world| {
                world.databases.clear();
                (0..ALL).for_each(|db| world.grow(&format!("db{db}"), 1, 0));
            });
            all["servers"][number]["name"] = json!(format!("server{number}"));
            all["servers"][number]["address"] = json!(fake.address.to_string());
        }
        let mut trial = Trial::start(all).await;
        let result = |trial: &Trial| trial.agent.metric("auditmon_immudb_audit_result");
        let seen = 3.0 * ALL as f64;
        auditmon_testkit::eventually("all were seen", || (result(&trial) == seen).then_some(())).await;
        for fake in &fakes[..2] {
            fake.change(|world| world.databases.values_mut().for_each(|db| db.silent = true));
        }
        auditmon_testkit::eventually("both hang", || {
            let hangs = |fake: &Fake| fake.change(|world| world.silences) > 0;
            fakes[..2].iter().all(hangs).then_some(())
        })
        .await;
        let changed = auditmon_core::time::now();
        fakes[2].change(|world| (0..ALL).for_each(|db| world.grow(&format!("db{db}"), 1, 0)));
        let mut last = 0;
        for db in 0..ALL {
            let followed = |event: &Value| {
                let data = &event["event_data"];
                let of = (&data["server"]["name"], &data["database"], &data["current"]["tx"]);
                of == (&json!("server2"), &json!(format!("db{db}")), &json!(2))
            };
            let event = trial.ever("the third one is audited on", followed).await;
            last = last.max(auditmon_core::time::parse(event["event_time"].as_str().unwrap()).unwrap());
        }
        let took = Duration::from_nanos(last - changed);
        assert!(took <= MOST, "it took {took:?} until all were followed");
        trial.stop().await;
    }
}

/// However short the interval is, a server that answers again is asked for all at once.
#[tokio::test]
async fn all_databases_of_a_server_that_recovers_are_back_at_once() {
    const ALL: usize = 400;
    let fake = Fake::start().await;
    fake.change(|world| {
        world.databases.clear();
        (0..ALL).for_each(|number| world.grow(&format!("db{number:03}"), 1, 0));
        world.databases.values_mut().for_each(|db| db.silent = true);
    });
    let mut all = section(&fake);
    all["every"] = json!(false);
    all["interval"] = json!("200ms");
    all["timeout"] = json!("200ms");
    all["deadline"] = json!("200ms");
    let trial = Trial::start(all).await;
    let silences = || fake.change(|world| world.silences);
    auditmon_testkit::eventually("each was silent", || (silences() >= ALL).then_some(())).await;
    let ticks = fake.change(|world| {
        world.databases.values_mut().for_each(|db| db.silent = false);
        world.ticks.len()
    });
    let result = || trial.agent.metric("auditmon_immudb_audit_result");
    auditmon_testkit::eventually("all are in order", || (result() == ALL as f64).then_some(())).await;
    // It takes a few; eight at a time would take fifty, and that many more where audits are late on a busy machine.
    let begun = fake.change(|world| world.ticks.len()) - ticks;
    assert!(begun < ALL / 8, "{begun} audits began before all were back");
    trial.stop().await;
}

/// Audits need no such answers: that values are checked no more is told all the same, and not each time.
#[tokio::test]
async fn values_that_can_not_be_checked_are_told() {
    type Change = fn(&mut World);
    let changes: [(Change, &str); 2] = [
        (|world| world.stranger = Some("TxScan"), "another server's identity"),
        (
            |world| {
                let refuse = |call: &str, reply| match call {
                    "TxScan" => Reply::Refused(2, "not today".to_owned()),
                    _ => reply,
                };
                world.databases.get_mut("orders").unwrap().lie = Some(Box::new(refuse));
            },
            "not today",
        ),
    ];
    for (change, says) in changes {
        let fake = Fake::start().await;
        fake.change(|world| world.grow("orders", 9, 0));
        let mut all = section(&fake);
        all["value_calls"] = json!(10);
        let mut trial = Trial::start(all).await;
        trial.first("orders").await;
        let scans = || fake.change(|world| world.count("TxScan"));
        auditmon_testkit::eventually("values are checked", || (scans() > 3).then_some(())).await;
        fake.change(change);
        let stuck = |event: &Value| event["event_name"] == "immudb.values.stuck";
        let event = trial.ever("it is told", stuck).await;
        let data = &event["event_data"];
        assert_eq!(
            (&event["severity"], &data["database"]),
            (&json!("warning"), &json!("orders"))
        );
        assert!(data["text"].as_str().unwrap().contains(says), "{data:#}");
        assert!(data["age_seconds"].is_u64(), "{data:#}");
        let before = scans();
        auditmon_testkit::eventually("it is tried again", || (scans() > before + 9).then_some(())).await;
        let ok = |event: &Value| event["event_data"]["database"] == "orders" && event["event_data"]["result"] == "ok";
        trial.next("it is audited on", ok).await;
        assert_eq!(trial.events.iter().filter(|event| stuck(event)).count(), 1);
        let other = |event: &&Value| !stuck(event) && event["event_data"]["result"] != "ok";
        assert_eq!(trial.events.iter().find(other), None);
        trial.stop().await;
    }
}

#[tokio::test]
async fn one_event_for_each_change() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("defaultdb", 2, 0));
    let mut all = section(&fake);
    all["every"] = json!(false);
    // Long enough that no audit is late.
    all["interval"] = json!("1s");
    let mut trial = Trial::start(all).await;
    trial.first("defaultdb").await;
    for (unloaded, key, value) in [(true, "reason", "unloaded"), (false, "checked", "same")] {
        let before = trial.agent.metric("auditmon_immudb_runs_total");
        auditmon_testkit::eventually("some intervals pass", || {
            (trial.agent.metric("auditmon_immudb_runs_total") > before + 1.0).then_some(())
        })
        .await;
        fake.db("defaultdb", |db| db.unloaded = unloaded);
        trial
            .ever("the change is told", |event| event["event_data"][key] == value)
            .await;
    }
    let of_it = trial
        .events
        .iter()
        .filter(|event| event["event_data"]["database"] == "defaultdb");
    assert_eq!(of_it.count(), 3, "{:#?}", trial.events);
    trial.stop().await;
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused() {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("defaultdb", 2, 0));
    let mut all = section(&fake);
    all["max_message"] = json!("1MiB");
    let mut trial = Trial::start(all).await;
    trial.verdict("defaultdb", "ok", "").await;
    fake.lie("defaultdb", |_, _| {
        Reply::Answer(crate::fake::field(15, &vec![0; 2 << 20]))
    });
    trial.verdict("defaultdb", "error", "too-large").await;
    trial.stop().await;
}
