//! Two agents audit what says to be one immudb server, and tell each other what they have seen.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/tests/it/fake.rs"]
mod fake;
#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/verify/tests/it/naive.rs"]
mod naive;
#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/verify/tests/it/proto.rs"]
mod proto;

use auditmon_e2e::{Agent, PATIENCE, eventually};
use p256::ecdsa::SigningKey;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::Value;

use crate::fake::{Fake, PASSWORD, USER, add, plan};

fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

fn config(server: &Fake, peers: &str) -> String {
    format!(
        "sources:\n  immudb:\n    enabled: true\n    interval: 1s\n{peers}    servers:\n      - {{name: db1, address: \"{}\", username: {USER}, \
         password: \"{PASSWORD}\"}}\n",
        server.address
    )
}

/// This agent, as another one names it.
fn peer(agent: &Agent) -> String {
    let key = agent.run(&["keys", "log"]).expect(0).stdout;
    format!(
        "    peers: [{{address: \"http://{}\", log_key: \"{}\"}}]\n",
        agent.listen(),
        key.trim()
    )
}

fn found(agent: &Agent) -> Value {
    eventually("the finding", PATIENCE, || {
        let events = agent
            .get("/api/v1/events?event_name=immudb.audit.tampered&limit=100")
            .json();
        let all = events["events"].as_array()?.clone();
        all.into_iter()
            .find(|event| event["event_data"]["reason"] == "split-view")
    })
}

#[test]
fn two_histories_are_found_and_proven_to_anybody() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (one, two) = runtime.block_on(async { (Fake::start().await, Fake::start().await) });
    for (fake, salt, count) in [(&one, 0, 9), (&two, 1, 12)] {
        fake.change(|world| {
            world.grow("orders", 4, 0);
            world.key = Some(key(1));
        });
        fake.db("orders", |db| {
            add(&mut db.data, (4..count).map(|at| plan(at, salt, 1, 0)))
        });
    }
    let mut first = Agent::builder().config(&config(&one, "")).start();
    let mut second = Agent::builder().config(&config(&two, &peer(&first))).start();
    // The one that was there before learns of the other one while it runs.
    std::fs::write(first.dir().join("auditmon.yaml"), config(&one, &peer(&second))).unwrap();
    let _ = first.run(&["reload"]).expect(0);

    // Who has seen more.
    let event = found(&second);
    assert_eq!(event["severity"], "critical");
    let text = event["event_data"]["text"].as_str().unwrap();
    let folder = second.data_dir().join("immudb/evidence");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    assert!(text.contains(&file.display().to_string()), "{text}");

    let dir = tempfile::tempdir().unwrap();
    let pem = |byte: u8| {
        let path = dir.path().join(format!("{byte}.pem"));
        let text = key(byte).verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let file = file.display().to_string();
    // Anybody: of this agent's configuration nothing is needed.
    std::fs::write(first.dir().join("auditmon.yaml"), "no: configuration\n").unwrap();
    let proven = first.run(&["immudb", "evidence", &file, "--key", &pem(1)]).expect(0);
    let hash = one.db("orders", |db| hex(&db.data.alhs[8]));
    assert!(
        proven.stdout.contains("`orders`") && proven.stdout.contains(&hash),
        "{}",
        proven.stdout
    );
    let other = first.run(&["immudb", "evidence", &file, "--key", &pem(2)]).expect(1);
    assert!(other.stderr.contains("another key"), "{}", other.stderr);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&hash, &"00".repeat(32))).unwrap();
    let _ = first.run(&["immudb", "evidence", &file]).expect(1);
    assert_eq!((first.stop(), second.stop()), (0, 0));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
