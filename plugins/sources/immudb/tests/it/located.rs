//! A finding says which transaction is the first that differs, as far as audits have seen them.

use serde_json::{Value, json};

use crate::fake::{Db, Fake, Reply};
use crate::lies::fork;
use crate::trial::{Trial, section};

/// Sees 5 transactions at first and follows the database to so many, in steps.
async fn followed(walk: u64, steps: &[usize]) -> (Fake, Trial, Value) {
    let fake = Fake::start().await;
    fake.change(|world| world.grow("orders", 5, 0));
    let mut all = section(&fake);
    all["walk"] = json!(walk);
    let mut trial = Trial::start(all.clone()).await;
    trial.first("orders").await;
    let mut tx = 5;
    for step in steps {
        fake.change(|world| world.grow("orders", *step, 0));
        tx += step;
        trial
            .ever("it is followed", |event| event["event_data"]["current"]["tx"] == tx)
            .await;
    }
    (fake, trial, all)
}

async fn found(trial: &mut Trial, code: &str) -> Value {
    trial.verdict("orders", "tampered", code).await["event_data"].clone()
}

fn location(known_from: u64, same_to: u64, changed: Option<(u64, u64)>, lost: Option<(u64, u64)>) -> Value {
    let range = |(from, to)| json!({"from": from, "to": to});
    json!({"known_from": known_from, "same_to": same_to, "first_changed": changed.map(range), "lost": lost.map(range)})
}

fn without_calls(data: &Value) -> Value {
    let mut location = data["location"].clone();
    location.as_object_mut().unwrap().remove("calls").unwrap();
    location
}

#[tokio::test]
async fn another_identity_hides_no_place() {
    let (fake, mut trial, _) = followed(10_000, &[10, 1, 29]).await;
    fake.change(|world| world.uuid = Some("another".to_owned()));
    fake.db("orders", |db| fork(db, 30, 20));
    let data = found(&mut trial, "identity").await;
    assert_eq!(without_calls(&data), location(5, 30, Some((31, 31)), None), "{data:#}");
    assert_eq!((&data["also"], &data["tx"]), (&json!("proof"), &json!(31)));
    assert_eq!(data["keys"][0]["key"], "k30", "{data:#}");
    trial.stop().await;
}

#[tokio::test]
async fn the_first_transaction_that_differs() {
    // History up to `keep` is as before, then there are `more` others.
    for (keep, more, code, expected) in [
        (30, 20, "proof", location(5, 30, Some((31, 31)), None)),
        (40, 1, "rollback", location(5, 40, Some((41, 41)), Some((42, 45)))),
        (44, 1, "fork", location(5, 44, Some((45, 45)), None)),
        (30, 15, "fork", location(5, 30, Some((31, 31)), None)),
        (5, 50, "proof", location(5, 5, Some((6, 6)), None)),
        (3, 60, "proof", location(5, 0, Some((1, 5)), None)),
        (33, 0, "rollback", location(5, 33, None, Some((34, 45)))),
        (2, 0, "rollback", location(5, 0, None, Some((3, 45)))),
    ] {
        let (fake, mut trial, _) = followed(10_000, &[10, 1, 29]).await;
        fake.db("orders", |db| fork(db, keep, more));
        let data = found(&mut trial, code).await;
        assert_eq!(without_calls(&data), expected, "{keep} {more}: {data:#}");
        let calls = data["location"]["calls"].as_u64().unwrap();
        assert!(calls <= 6, "{calls} calls over 41 transactions");
        let text = data["text"].as_str().unwrap();
        match (&expected["first_changed"], expected["first_changed"]["from"].as_u64()) {
            (changed, Some(tx)) if changed["to"] == tx => {
                assert_eq!(data["tx"], tx);
                // What it holds now, as far as the server tells.
                let key = format!("k{}", tx - 1);
                assert_eq!(data["keys"][0]["key"], key.as_str(), "{data:#}");
                assert!(text.contains(&format!("now it holds key {key:?}")), "{text}");
                assert!(
                    text.contains(&format!("transaction {tx} is the first that differs")),
                    "{text}"
                );
            }
            _ => assert_eq!(data["tx"], Value::Null),
        }
        if let Some(to) = expected["lost"]["to"].as_u64() {
            let from = expected["lost"]["from"].as_u64().unwrap();
            let words = format!("{} transactions are gone, {from} to {to}", to - from + 1);
            assert!(text.contains(&words), "{text}");
        }
        trial.stop().await;
    }
}

/// Where a proof stood for many transactions the answer is a range, and says so.
#[tokio::test]
async fn transactions_that_were_not_looked_at_make_a_range() {
    let (fake, mut trial, _) = followed(2, &[2, 20, 20]).await;
    fake.db("orders", |db| fork(db, 30, 30));
    let data = found(&mut trial, "proof").await;
    assert_eq!(without_calls(&data), location(5, 27, Some((28, 47)), None));
    let text = data["text"].as_str().unwrap();
    assert!(
        text.contains("the first that differs is one of the transactions 28 to 47"),
        "{text}"
    );
    assert_eq!(data["tx"], Value::Null);
    trial.stop().await;
}

/// A restart forgets nothing; one look is enough while the server shows the same, and another state is looked at anew.
#[tokio::test]
async fn it_is_said_after_a_restart_and_asked_once_for_each_state() {
    let (fake, trial, all) = followed(10_000, &[10, 30]).await;
    let agent = trial.stop().await;
    fake.db("orders", |db| fork(db, 30, 0));
    let mut trial = Trial::go_on(agent, all).await;
    let data = found(&mut trial, "rollback").await;
    assert_eq!(without_calls(&data), location(5, 30, None, Some((31, 45))));
    let calls = fake.change(|world| world.count("TxScan"));
    for _ in 0..3 {
        let again = found(&mut trial, "rollback").await;
        assert_eq!(without_calls(&again), without_calls(&data));
    }
    assert_eq!(fake.change(|world| world.count("TxScan")), calls);
    fake.db("orders", |db| fork(db, 20, 15));
    let other = |event: &Value| event["event_data"]["current"]["tx"] == 35;
    let event = trial.next("it is looked at anew", other).await;
    assert_eq!(event["event_data"]["location"]["same_to"], 20);
    trial.stop().await;
}

/// What is behind an accepted state is forgotten with it, and what is before it is still known.
#[tokio::test]
async fn an_accepted_state_is_gone_on_from() {
    let (fake, mut trial, _) = followed(10_000, &[10, 30]).await;
    fake.db("orders", |db| fork(db, 30, 0));
    found(&mut trial, "rollback").await;
    let words = "server=db1&database=orders&by=jane&reason=restored";
    assert_eq!(trial.trust(words).await.0, 200);
    fake.db("orders", |db| fork(db, 30, 8));
    let followed = |event: &Value| event["event_data"]["result"] == "ok" && event["event_data"]["current"]["tx"] == 38;
    trial.ever("it is followed", followed).await;
    fake.db("orders", |db| fork(db, 33, 0));
    let data = found(&mut trial, "rollback").await;
    // Of the accepted copy: 31 to 33 differ from it again.
    assert_eq!(without_calls(&data), location(5, 30, Some((31, 31)), Some((34, 38))));
    trial.stop().await;
}

/// The file is a help and no witness: without it, or with another, verdicts are the same.
#[tokio::test]
async fn no_verdict_depends_on_it() {
    type Spoil = fn(&std::path::Path);
    let spoils: [Spoil; 2] = [
        |file| std::fs::remove_file(file).unwrap(),
        |file| std::fs::write(file, [7; 400]).unwrap(),
    ];
    for spoil in spoils {
        let (fake, trial, all) = followed(10_000, &[10]).await;
        let agent = trial.stop().await;
        let dir = std::fs::read_dir(agent.data_dir().join("immudb")).unwrap();
        dir.for_each(|entry| spoil(&entry.unwrap().path()));
        let mut trial = Trial::go_on(agent, all).await;
        trial.verdict("orders", "ok", "").await;
        fake.db("orders", |db| fork(db, 9, 0));
        let data = found(&mut trial, "rollback").await;
        // What is trusted is known from the journal.
        assert_eq!(without_calls(&data), location(15, 0, None, Some((10, 15))), "{data:#}");
        trial.stop().await;
    }
}

/// A server that doesn't answer that question is found all the same.
#[tokio::test]
async fn a_finding_does_not_wait_for_its_place() {
    let (fake, trial, mut all) = followed(10_000, &[10]).await;
    let agent = trial.stop().await;
    all["timeout"] = json!("200ms");
    all["deadline"] = json!("400ms");
    fake.db("orders", |db| fork(db, 9, 0));
    fake.lie("orders", |call, reply| match call {
        "TxScan" => Reply::Silence,
        _ => reply,
    });
    let mut trial = Trial::go_on(agent, all).await;
    let data = found(&mut trial, "rollback").await;
    assert_eq!(data["location"], Value::Null);
    assert!(
        data["text"].as_str().unwrap().contains("could not be found: no answer"),
        "{data:#}"
    );
    fake.db("orders", |db| *db = Db::default());
    found(&mut trial, "emptied").await;
    trial.stop().await;
}

/// Nor does the journal: whoever ends the agent meanwhile, or makes it wait, hides nothing.
#[tokio::test]
async fn a_finding_is_told_though_its_place_is_never_found() {
    let (fake, trial, mut all) = followed(10_000, &[10]).await;
    let agent = trial.stop().await;
    all["timeout"] = json!("1h");
    all["deadline"] = json!("1h");
    fake.db("orders", |db| fork(db, 9, 0));
    fake.lie("orders", |call, reply| match call {
        "TxScan" => Reply::Silence,
        _ => reply,
    });
    let scans = |fake: &Fake| fake.change(|world| world.count("TxScan"));
    let before = scans(&fake);
    let trial = Trial::go_on(agent, all.clone()).await;
    auditmon_testkit::eventually("its place is looked for", || (scans(&fake) > before).then_some(())).await;
    assert_eq!(trial.trusted("orders").unwrap()["finding"], Value::Null);
    let agent = trial.stop().await;
    // By then the server shows what it should.
    fake.change(|world| {
        world.databases.insert("orders".to_owned(), Db::default());
        world.grow("orders", 15, 0);
    });
    let mut trial = Trial::go_on(agent, all).await;
    assert_eq!(trial.trusted("orders").unwrap()["finding"]["code"], "rollback");
    trial.verdict("orders", "tampered", "not-accepted").await;
    trial.stop().await;
}

/// While a place is looked for, others are audited: also where there are more servers than databases at a time.
#[tokio::test]
async fn a_place_that_is_never_found_holds_up_no_other_server() {
    let (fake, trial, mut all) = followed(10_000, &[10]).await;
    let agent = trial.stop().await;
    fake.db("orders", |db| fork(db, 9, 0));
    fake.lie("orders", |call, reply| match call {
        "TxScan" => Reply::Silence,
        _ => reply,
    });
    let other = Fake::start().await;
    other.change(|world| world.grow("accounts", 2, 0));
    let mut second = all["servers"][0].clone();
    second["name"] = json!("db2");
    second["address"] = json!(other.address.to_string());
    all["servers"].as_array_mut().unwrap().push(second);
    all["timeout"] = json!("1h");
    all["deadline"] = json!("1h");
    all["concurrency"] = json!(1);
    let before = fake.change(|world| world.count("TxScan"));
    let mut trial = Trial::go_on(agent, all).await;
    auditmon_testkit::eventually("its place is looked for", || {
        fake.change(|world| world.count("TxScan") > before).then_some(())
    })
    .await;
    other.change(|world| world.grow("accounts", 1, 0));
    let followed =
        |event: &Value| event["event_data"]["database"] == "accounts" && event["event_data"]["current"]["tx"] == 3;
    trial.ever("the other one is followed", followed).await;
    trial.stop().await;
}

/// A history of a million transactions, with `AUDITMON_LONG=1` of ten, and others that are the same up to a place: each
/// header is made when it is asked for. What was seen of the first one lies in the file that the auditor keeps.
mod among_millions {
    use std::fs::File;
    use std::io::{BufWriter, Write as _};
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;
    use std::sync::{Arc, LazyLock};

    use auditmon_testkit::TestAgent;
    use immudb_verify::{Alh, Hash, TxId};
    use prost::Message as _;

    use super::*;
    use crate::fake::UUID;
    use crate::naive::{Bytes32, sha};
    use crate::proto;

    /// Ten million take 440 MB of disk.
    static ALL: LazyLock<u64> = LazyLock::new(|| {
        let long = std::env::var_os("AUDITMON_LONG").is_some_and(|value| value == "1");
        if long { 10_000_000 } else { 1_000_000 }
    });
    const TS: i64 = 1_700_000_000;
    /// Bytes of a record: transaction, Alh, CRC-32C.
    const RECORD: u64 = 44;

    fn header(tx: u64, prev: Bytes32) -> proto::TxHeader {
        proto::TxHeader {
            id: tx,
            prev_alh: prev.to_vec(),
            ts: TS,
            nentries: 1,
            eh: vec![7; 32],
            bl_root: vec![0; 32],
            version: 1,
            ..proto::TxHeader::default()
        }
    }

    /// The hash over what all these headers have in common.
    fn inner() -> Hash {
        let (version, entries) = ([0, 1], 1_u32.to_be_bytes());
        let bytes = sha(&[
            &TS.to_be_bytes(),
            &version,
            &[0, 0],
            &entries,
            &[7; 32],
            &[0; 8],
            &[0; 32],
        ]);
        Hash::from(bytes)
    }

    fn write(path: &Path) {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
        let (mut alh, inner) = (Alh::FIRST, inner());
        for tx in 1..=*ALL {
            alh = alh.then(TxId(tx), &inner);
            let mut record = tx.to_be_bytes().to_vec();
            record.extend(alh.0.as_ref());
            record.extend(crc32c::crc32c(&record).to_be_bytes());
            file.write_all(&record).unwrap();
        }
        file.flush().unwrap();
    }

    /// The Alh of a transaction, as it was seen.
    fn seen(file: &File, tx: u64) -> Bytes32 {
        let mut alh = sha(&[]);
        if let Some(before) = tx.checked_sub(1) {
            file.read_exact_at(&mut alh, before * RECORD + 8).unwrap();
        }
        alh
    }

    /// What a server shows that begins to differ at a transaction.
    fn answer(file: &File, first: u64, call: &str, body: &[u8]) -> Option<Reply> {
        let other = |mut alh: Bytes32| {
            alh[0] ^= 1;
            alh
        };
        match call {
            "CurrentState" => {
                let state = proto::ImmutableState {
                    db: format!("from{first}"),
                    tx_id: *ALL,
                    tx_hash: other(seen(file, *ALL)).to_vec(),
                    ..proto::ImmutableState::default()
                };
                Some(Reply::Answer(state.encode_to_vec()))
            }
            "TxScan" => {
                let tx = auditmon_proto::immudb::TxScanRequest::decode(body).unwrap().initial_tx;
                let prev = seen(file, tx - 1);
                let header = header(tx, if tx < first { prev } else { other(prev) });
                let tx = proto::Tx {
                    header: Some(header),
                    ..proto::Tx::default()
                };
                Some(Reply::Answer(proto::TxList { txs: vec![tx] }.encode_to_vec()))
            }
            _ => None,
        }
    }

    #[tokio::test]
    async fn the_first_one_that_differs_is_named_in_as_many_calls_as_it_takes_to_halve_them() {
        let agent = TestAgent::new();
        let dir = agent.data_dir().join("immudb");
        std::fs::create_dir(&dir).unwrap();
        let whole = dir.join("whole");
        write(&whole);
        let file = Arc::new(File::open(&whole).unwrap());
        let fake = Fake::start().await;
        let mut all = section(&fake);
        let mut known = Vec::new();
        let firsts = [1, 2, *ALL / 9 * 7, *ALL - 1, *ALL];
        for first in firsts {
            let name = format!("from{first}");
            let hash = hex::encode(seen(&file, *ALL));
            let (file, db) = (file.clone(), name.clone());
            fake.change(|world| {
                let made = Box::new(move |call: &str, body: &[u8]| answer(&file, first, call, body));
                world.databases.entry(db).or_default().made = Some(made);
            });
            let of = auditmon_journal::format::source_hash(&format!("{}/{name}", fake.address));
            std::fs::hard_link(&whole, dir.join(format!("{}.alh", hex::encode(of)))).unwrap();
            known.push(json!({"database": name, "tx": *ALL, "hash": hash, "server_id": UUID, "from": "a test"}));
        }
        all["servers"][0]["known"] = json!(known);
        let mut trial = Trial::go_on(agent, all).await;
        for first in firsts {
            let name = format!("from{first}");
            let found = |event: &Value| {
                event["event_data"]["database"] == name.as_str() && !event["event_data"]["location"].is_null()
            };
            let event = trial.ever("it is found", found).await;
            let data = &event["event_data"];
            assert_eq!(
                (&data["code"], &data["tx"]),
                (&json!("fork"), &json!(first)),
                "{data:#}"
            );
            assert_eq!(without_calls(data), location(1, first - 1, Some((first, first)), None));
            let calls = data["location"]["calls"].as_u64().unwrap();
            // 24 among ten million.
            let most = u64::from(ALL.next_power_of_two().ilog2());
            assert!((1..=most).contains(&calls), "{calls} calls");
        }
        trial.stop().await;
    }
}
