//! Two agents that audit one server, or what says to be one: each tells the other what it has seen.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auditmon_proto::immudb::VerifiableTxRequest;
use auditmon_source_immudb::verify_evidence;
use auditmon_testkit::{TestAgent, eventually};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use p256::ecdsa::SigningKey;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::fake::{Fake, Reply, UUID, last, sign};
use crate::lies::fork;
use crate::tls::Authority;
use crate::trial::{Trial, section};

/// Two agents, each with its own way to the server.
struct Pair {
    trials: [Trial; 2],
    _dirs: [tempfile::TempDir; 2],
    served: Vec<(SocketAddr, JoinHandle<()>)>,
}

/// Answers on a listener; who ends this ends the connections, too.
async fn serve(listener: TcpListener, routes: Router, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (routes, tls) = (TowerToHyperService::new(routes.clone()), tls.clone());
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            // Who doesn't trust the certificate, or goes away, is no fault here.
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = builder.serve_connection(TokioIo::new(stream), routes).await;
                    }
                }
                None => drop(builder.serve_connection(TokioIo::new(stream), routes).await),
            }
        });
    }
}

/// Whether it is asked what leads from one transaction to another; an audit that finds nothing new doesn't.
fn is_between(call: &str, body: &[u8]) -> bool {
    let between = |asked: VerifiableTxRequest| asked.tx != asked.prove_since_tx;
    call == "VerifiableTxById" && between(VerifiableTxRequest::decode(body).unwrap())
}

fn busy() -> Reply {
    Reply::Refused(2, "read tx pool exhausted".to_owned())
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

fn pem(key: &SigningKey) -> String {
    key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
}

/// A server with so many transactions, whose states are signed.
async fn server(transactions: usize) -> Fake {
    let fake = Fake::start().await;
    fake.change(|world| {
        world.grow("orders", transactions, 0);
        world.key = Some(key(1));
    });
    fake
}

impl Pair {
    async fn start(fakes: [&Fake; 2]) -> Self {
        Self::start_over(fakes, None).await
    }

    /// Over TLS: the authority of the certificates, and the one that is trusted.
    async fn start_over(fakes: [&Fake; 2], tls: Option<[&Authority; 2]>) -> Self {
        Self::start_with(fakes, tls, |_| {}).await
    }

    /// With other settings.
    async fn start_with(fakes: [&Fake; 2], tls: Option<[&Authority; 2]>, change: impl Fn(&mut Value)) -> Self {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let agents = dirs.each_ref().map(|dir| {
            TestAgent::open(dir.path(), |options| {
                options.segment_size = 1 << 20;
                options.reserve = 0;
                options.checkpoint_interval = Duration::from_millis(10);
            })
        });
        let keys = dirs
            .each_ref()
            .map(|dir| std::fs::read_to_string(dir.path().join("keys/log.vkey")).unwrap());
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let (mut trials, mut served) = (Vec::new(), Vec::new());
        for (at, (agent, listener)) in agents.into_iter().zip(listeners).enumerate() {
            let mut all = section(fakes[at]);
            let mut peer = json!({"address": format!("http://{}", addresses[1 - at]), "log_key": keys[1 - at]});
            let acceptor = tls.map(|[authority, trusted]| {
                let file = dirs[at].path().join("ca.pem");
                std::fs::write(&file, &trusted.pem).unwrap();
                peer["address"] = json!(format!("https://{}", addresses[1 - at]));
                peer["ca_file"] = json!(file);
                TlsAcceptor::from(Arc::new(authority.listener("127.0.0.1")))
            });
            all["peers"] = json!([peer]);
            change(&mut all);
            let trial = Trial::go_on(agent, all).await;
            let task = tokio::spawn(serve(listener, trial.shared.clone(), acceptor));
            served.push((addresses[at], task));
            trials.push(trial);
        }
        let Ok(trials) = <[Trial; 2]>::try_from(trials) else {
            unreachable!("there are two")
        };
        Self {
            trials,
            _dirs: dirs,
            served,
        }
    }

    /// Ends an agent's listener and all connections to it; gives its address.
    async fn hang_up(&mut self, at: usize) -> SocketAddr {
        let (address, task) = self.served.remove(at);
        task.abort();
        let _ = task.await;
        address
    }

    /// Listens for an agent again.
    async fn answer(&mut self, at: usize, address: SocketAddr) {
        let listener = TcpListener::bind(address).await.unwrap();
        let task = tokio::spawn(serve(listener, self.trials[at].shared.clone(), None));
        self.served.insert(at, (address, task));
    }

    /// Waits until both have asked each other some times more.
    async fn exchanged(&self) {
        for trial in &self.trials {
            let done = || trial.agent.metric("auditmon_immudb_peer_timestamp_seconds");
            for _ in 0..3 {
                let before = done();
                eventually("an exchange", || (done() > before).then_some(())).await;
            }
        }
    }

    async fn stop(self) {
        self.served.iter().for_each(|(_, task)| task.abort());
        for trial in self.trials {
            trial.stop().await;
        }
    }
}

/// Files of evidence of an agent.
fn evidence(trial: &Trial) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(trial.agent.data_dir().join("immudb/evidence"));
    dir.map_or_else(|_| Vec::new(), |dir| dir.map(|entry| entry.unwrap().path()).collect())
}

#[tokio::test]
async fn one_history_of_two_sizes_is_in_order_and_looked_at_once() {
    let (more, less) = (server(9).await, server(5).await);
    let mut pair = Pair::start([&more, &less]).await;
    for trial in &mut pair.trials {
        trial.first("orders").await;
    }
    // At first contact, and for what the other one has seen.
    let proofs = || more.change(|world| world.count("VerifiableTxById"));
    eventually("the smaller one is looked at", || (proofs() >= 2).then_some(())).await;
    pair.exchanged().await;
    assert_eq!(proofs(), 2);
    // What it has seen itself it needs no server for.
    less.change(|world| world.grow("orders", 8, 0));
    pair.trials[1].walked("orders").await;
    more.change(|world| world.grow("orders", 3, 0));
    pair.trials[0].walked("orders").await;
    pair.exchanged().await;
    for trial in &pair.trials {
        let bad = |event: &&Value| event["event_data"]["result"] != "ok";
        let bad: Vec<_> = trial
            .events
            .iter()
            .filter(|event| event["event_data"]["database"] == "orders")
            .filter(bad)
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(evidence(trial).is_empty());
    }
    // First contact and one walk.
    assert_eq!(less.change(|world| world.count("VerifiableTxById")), 2);
    pair.stop().await;
}

/// Who has seen more says so, and can prove it.
#[tokio::test]
async fn two_histories_that_are_signed_are_a_finding_with_evidence() {
    for (here, there) in [(12, 9), (9, 9)] {
        let (one, two) = (server(0).await, server(there).await);
        one.db("orders", |db| fork(db, 3, here - 3));
        let mut pair = Pair::start([&one, &two]).await;
        let found = |event: &Value| event["event_data"]["reason"] == "split-view";
        let event = pair.trials[0].ever("it is found", found).await;
        let data = &event["event_data"];
        assert_eq!(
            (&data["tx"], &data["current"]["tx"]),
            (&json!(9), &json!(here)),
            "{event:#}"
        );
        let files = evidence(&pair.trials[0]);
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(
            data["text"].as_str().unwrap().contains(&files[0].display().to_string()),
            "{event:#}"
        );
        let proven = verify_evidence(&files[0], Some(&pem(&key(1)))).unwrap();
        let hash = |fake: &Fake, tx: usize| fake.db("orders", |db| hex::encode(db.data.alhs[tx - 1]));
        assert_eq!(proven.states, [(9, hash(&two, 9)), (here as u64, hash(&one, here))]);
        assert!(
            verify_evidence(&files[0], Some(&pem(&key(2))))
                .unwrap_err()
                .contains("another key")
        );
        // What the proof says is part of it.
        let mut text: Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
        if here > there {
            text["proof"] = Value::Null;
            let other = files[0].with_extension("other");
            std::fs::write(&other, text.to_string()).unwrap();
            assert!(
                verify_evidence(&other, None)
                    .unwrap_err()
                    .contains("no proof is about both")
            );
        } else {
            // Both see it by themselves.
            pair.trials[1]
                .ever("the other one, too", |event| {
                    event["event_data"]["code"] == "split-view"
                })
                .await;
        }
        // It stands until somebody accepts it, as any finding.
        assert_eq!(
            pair.trials[0].trusted("orders").unwrap()["finding"]["code"],
            "split-view"
        );
        pair.stop().await;
    }
}

/// Who has seen both needs no answer of the server that is accused.
#[tokio::test]
async fn a_server_that_gives_no_proof_is_found_out_by_what_was_seen() {
    for deadline in [None, Some("50ms")] {
        let (one, two) = (server(0).await, server(9).await);
        // What it never says it can't be held to.
        let refuse = move |call: &str, body: &[u8]| match deadline {
            None => is_between(call, body).then(busy),
            Some(_) => is_between(call, body).then_some(Reply::Silence),
        };
        one.db("orders", |db| db.made = Some(Box::new(refuse)));
        let mut pair = Pair::start_with([&one, &two], None, |section| {
            section["walk"] = json!(1_000);
            if let Some(deadline) = deadline {
                section["deadline"] = json!(deadline);
            }
        })
        .await;
        pair.trials[0].first("orders").await;
        one.db("orders", |db| fork(db, 3, 9));
        pair.trials[0].walked("orders").await;
        let found = |event: &Value| event["event_data"]["reason"] == "split-view";
        let event = pair.trials[0].ever("it is found", found).await;
        let text = event["event_data"]["text"].as_str().unwrap();
        assert!(text.contains("no file could be made"), "{event:#}");
        assert!(evidence(&pair.trials[0]).is_empty());
        pair.stop().await;
    }
}

/// What was not seen here, and the server doesn't prove, stays unknown; that is told, and that it goes on answering audits.
#[tokio::test]
async fn a_signed_state_that_is_never_proven_is_told() {
    let (one, two) = (server(12).await, server(9).await);
    one.db("orders", |db| {
        db.made = Some(Box::new(|call, body| is_between(call, body).then(busy)));
    });
    let mut pair = Pair::start([&one, &two]).await;
    let event = pair.trials[0].ever("it is told", named("immudb.peer.unproven")).await;
    let data = &event["event_data"];
    assert_eq!(event["severity"], "warning");
    assert_eq!(
        (&data["theirs"]["tx"], &data["ours"]),
        (&json!(9), &Value::Null),
        "{event:#}"
    );
    let text = data["text"].as_str().unwrap();
    assert!(text.contains("doesn't prove") && text.contains("busy"), "{event:#}");
    pair.exchanged().await;
    pair.trials[0].verdict("orders", "ok", "").await;
    let told = pair.trials[0]
        .events
        .iter()
        .filter(|event| named("immudb.peer.unproven")(event));
    assert_eq!(told.count(), 1);
    pair.stop().await;
}

/// A server that is found out and answers nothing from then on.
#[tokio::test]
async fn a_finding_needs_no_further_answer() {
    let (one, two) = (server(0).await, server(9).await);
    one.db("orders", |db| fork(db, 3, 9));
    let hash = one.db("orders", |db| last(&db.data));
    let mut asked = false;
    one.db("orders", |db| {
        db.made = Some(Box::new(move |call, body| {
            let now = is_between(call, body);
            asked |= now;
            (asked && !now).then(busy)
        }));
    });
    let mut pair = Pair::start([&one, &two]).await;
    let found = |event: &Value| event["event_data"]["reason"] == "split-view";
    let event = pair.trials[0].ever("it is told", found).await;
    assert_eq!(event["event_data"]["current"]["hash"], hex::encode(hash), "{event:#}");
    let trusted = pair.trials[0].trusted("orders").unwrap();
    assert_eq!(trusted["finding"]["code"], "split-view");
    let event = pair.trials[0].verdict("orders", "error", "busy").await;
    assert_eq!(event["event_data"]["finding"], "split-view", "{event:#}");
    let agent = &pair.trials[0].agent;
    let result = agent.metric_of("auditmon_immudb_audit_result", &[("db", "orders")]);
    assert_eq!(result, 0.0);
    pair.stop().await;
}

/// A peer may tell of a history for as long as nobody there has accepted the other one.
#[tokio::test]
async fn a_history_that_was_given_up_is_no_new_finding() {
    let (one, two) = (server(0).await, server(9).await);
    one.db("orders", |db| fork(db, 3, 9));
    let mut pair = Pair::start([&one, &two]).await;
    let found = |event: &Value| event["event_data"]["reason"] == "split-view";
    pair.trials[0].ever("it is found", found).await;
    pair.trials[0].verdict("orders", "tampered", "not-accepted").await;
    let (status, answer) = pair.trials[0]
        .trust("server=db1&database=orders&by=jane&reason=restored")
        .await;
    assert_eq!(status, 200, "{answer}");
    let event = pair.trials[0].ever("it is told", named("immudb.peer.differs")).await;
    assert!(
        event["event_data"]["text"].as_str().unwrap().contains("given up"),
        "{event:#}"
    );
    pair.exchanged().await;
    pair.trials[0].verdict("orders", "ok", "").await;
    assert_eq!(pair.trials[0].events.iter().filter(|event| found(event)).count(), 1);
    pair.stop().await;
}

/// Without the server's signature it is one agent's word against another's server.
#[tokio::test]
async fn a_peer_frames_nobody() {
    for other in [None, Some(key(2))] {
        let (one, two) = (server(0).await, server(9).await);
        one.db("orders", |db| fork(db, 3, 9));
        two.change(|world| world.key = other);
        let mut pair = Pair::start([&one, &two]).await;
        let told = |event: &Value| event["event_name"] == "immudb.peer.differs";
        let event = pair.trials[0].ever("it is told", told).await;
        let data = &event["event_data"];
        assert_eq!(event["severity"], "warning");
        assert_eq!(
            (&data["theirs"]["tx"], &data["ours"]["tx"]),
            (&json!(9), &json!(9)),
            "{event:#}"
        );
        assert_ne!(data["theirs"]["hash"], data["ours"]["hash"]);
        pair.exchanged().await;
        pair.trials[0].verdict("orders", "ok", "").await;
        let events = &pair.trials[0].events;
        assert_eq!(events.iter().filter(|event| told(event)).count(), 1);
        assert!(events.iter().all(|event| event["event_data"]["result"] != "tampered"));
        assert!(evidence(&pair.trials[0]).is_empty());
        pair.stop().await;
    }
}

/// A request as a peer sends it; status, and whether the answer shows a checkpoint, and the answer.
async fn post(trial: &Trial, checkpoint: Option<&str>, body: String) -> (u16, bool, Value) {
    let mut request = Request::post("/api/v1/immudb/states");
    if let Some(note) = checkpoint {
        request = request.header("auditmon-checkpoint", BASE64_STANDARD.encode(note));
    }
    let response = trial
        .shared
        .clone()
        .oneshot(request.body(Body::from(body)).unwrap())
        .await
        .unwrap();
    let shown = response.headers().contains_key("auditmon-checkpoint");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, shown, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn only_peers_are_answered_and_told_what_they_name() {
    let (one, two) = (server(9).await, server(9).await);
    one.change(|world| world.grow("other", 2, 0));
    let mut pair = Pair::start([&one, &two]).await;
    for trial in &mut pair.trials {
        trial.first("orders").await;
    }
    pair.exchanged().await;
    let [asked, peer] = &pair.trials;
    let note = |trial: &Trial| trial.agent.journal.handle.checkpoint().unwrap().note.clone();
    let seen = |uuid: &str| {
        let state = json!({"database": "orders", "tx": 1, "hash": "00".repeat(32)});
        json!({"servers": [{"address": "a:1", "uuid": uuid, "states": [state]}]}).to_string()
    };
    let stranger = TestAgent::new();
    stranger.journal.add_plain(1).await;
    let foreign = eventually("a checkpoint", || stranger.journal.handle.checkpoint()).await;
    for note in [None, Some(foreign.note.as_str()), Some("x"), Some(note(asked).as_str())] {
        let (status, shown, answer) = post(asked, note, seen(UUID)).await;
        assert_eq!((status, shown), (403, false), "{answer}");
    }
    // Its own exchange may be under way.
    let known = note(peer);
    let mut answered = Vec::new();
    for (body, wanted) in [(seen(UUID), 200), (seen("u2"), 200), ("{}".to_owned(), 400)] {
        let (status, shown, answer) = loop {
            let (status, shown, answer) = post(asked, Some(&known), body.clone()).await;
            if status != 429 {
                break (status, shown, answer);
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((status, shown), (wanted, wanted == 200), "{answer}");
        answered.push(answer);
    }
    let states = &answered[0]["servers"][0]["states"];
    assert_eq!(
        (&states[0]["database"], &states[0]["tx"]),
        (&json!("orders"), &json!(9))
    );
    assert_eq!(states.as_array().unwrap().len(), 1, "{states}");
    assert_eq!(answered[1]["servers"], json!([]));
    pair.stop().await;
}

/// Posts until no other exchange is under way.
async fn told(trial: &Trial, checkpoint: &str, body: &str) -> Value {
    loop {
        let (status, _, answer) = post(trial, Some(checkpoint), body.to_owned()).await;
        if status != 429 {
            assert_eq!(status, 200, "{answer}");
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

/// Two servers may have one key, such as one that was copied: they are not held to each other's history.
#[tokio::test]
async fn a_server_with_another_identity_is_another_one() {
    for (uuid, name, code) in [
        (Some("another"), "immudb.peer.differs", Value::Null),
        (None, "immudb.audit.tampered", json!("split-view")),
    ] {
        let one = server(9).await;
        // Not one that every host means itself by.
        let address = format!("0.0.0.0:{}", one.address.port());
        let mut pair = Pair::start_with([&one, &one], None, |section| {
            section["servers"][0]["address"] = json!(address);
        })
        .await;
        pair.trials[0].first("orders").await;
        pair.exchanged().await;
        let hash = [7; 32];
        let signed = sign(&key(1), "orders", 5, &hash);
        let state = json!({
            "database": "orders", "tx": 5, "hash": hex::encode(hash),
            "signature": hex::encode(signed.signature), "signed_by": hex::encode(signed.public_key),
        });
        let body = json!({"servers": [{"address": address, "uuid": uuid, "states": [state]}]}).to_string();
        let note = pair.trials[1].agent.journal.handle.checkpoint().unwrap().note.clone();
        told(&pair.trials[0], &note, &body).await;
        let about = |event: &Value| event["event_name"] == name;
        let event = pair.trials[0].ever("it is told", about).await;
        assert_eq!(event["event_data"]["code"], code, "{event:#}");
        let text = event["event_data"]["text"].as_str().unwrap();
        assert!(
            uuid.is_none_or(|uuid| text.contains(uuid) && text.contains(UUID)),
            "{text}"
        );
        assert_eq!(evidence(&pair.trials[0]).len(), usize::from(uuid.is_none()));
        pair.stop().await;
    }
}

/// What a server has shown of one transaction, as somebody tells it who has heard of it.
fn seen(fake: &Fake, tx: usize) -> String {
    let hash = fake.db("orders", |db| db.data.alhs[tx - 1]);
    let signed = sign(&key(1), "orders", tx as u64, &hash);
    let state = json!({
        "database": "orders", "tx": tx, "hash": hex::encode(hash),
        "signature": hex::encode(signed.signature), "signed_by": hex::encode(signed.public_key),
    });
    json!({"servers": [{"address": "a:1", "uuid": UUID, "states": [state]}]}).to_string()
}

/// States of the peer that came to this at an agent.
fn states(trial: &Trial, result: &str) -> f64 {
    let labels = [("result", result)];
    trial.agent.metric_of("auditmon_immudb_peer_states_total", &labels)
}

/// Who has a peer's checkpoint can't make it tell the same again and again.
#[tokio::test]
async fn what_differs_is_told_once_an_hour_whoever_agrees() {
    let (one, two) = (server(0).await, server(9).await);
    one.db("orders", |db| fork(db, 3, 9));
    two.change(|world| world.key = None);
    let mut pair = Pair::start([&one, &two]).await;
    pair.trials[0].ever("it is told", named("immudb.peer.differs")).await;
    let note = pair.trials[1].agent.journal.handle.checkpoint().unwrap().note.clone();
    for tx in [10, 11] {
        let before = states(&pair.trials[0], "same");
        told(&pair.trials[0], &note, &seen(&one, tx)).await;
        let trial = &pair.trials[0];
        eventually("it is looked at", || (states(trial, "same") > before).then_some(())).await;
        let before = states(trial, "differs");
        eventually("it differs on", || {
            (states(trial, "differs") > before + 2.0).then_some(())
        })
        .await;
    }
    pair.trials[0].verdict("orders", "ok", "").await;
    let events = pair.trials[0].events.iter();
    assert_eq!(events.filter(|event| named("immudb.peer.differs")(event)).count(), 1);
    pair.stop().await;
}

/// Nor can he hide that a server doesn't prove what the peer has seen, by states that it does.
#[tokio::test]
async fn what_is_unproven_is_told_whoever_agrees() {
    let (one, two) = (server(9).await, server(5).await);
    let mut pair = Pair::start([&one, &two]).await;
    pair.trials[0].first("orders").await;
    // What the agent has seen itself needs no proof.
    one.change(|world| world.grow("orders", 6, 0));
    pair.trials[0].walked("orders").await;
    pair.exchanged().await;
    let busy = |call: &str, body: &[u8]| is_between(call, body).then(busy);
    one.db("orders", |db| db.made = Some(Box::new(busy)));
    let note = pair.trials[1].agent.journal.handle.checkpoint().unwrap().note.clone();
    // What the peer itself brings would be told beside that.
    pair.hang_up(0).await;
    two.change(|world| world.grow("orders", 1, 0));
    let trial = &mut pair.trials[0];
    for tx in (10..15).cycle() {
        told(trial, &note, &seen(&one, tx)).await;
        trial.verdict("orders", "ok", "").await;
        if trial.events.iter().any(named("immudb.peer.unproven")) {
            break;
        }
        let unknown = states(trial, "unknown");
        assert!(unknown < 30.0, "{unknown} looks, and nothing is told");
    }
    pair.stop().await;
}

/// It takes the server's own key, and the peer's own answers.
#[tokio::test]
async fn nothing_else_is_unproven() {
    for answers in [true, false] {
        let (one, two) = (server(9).await, server(5).await);
        if answers {
            two.change(|world| world.key = Some(key(2)));
        }
        let mut pair = Pair::start([&one, &two]).await;
        for trial in &mut pair.trials {
            trial.first("orders").await;
        }
        pair.exchanged().await;
        if !answers {
            pair.hang_up(1).await;
        }
        let busy = |call: &str, body: &[u8]| is_between(call, body).then(busy);
        one.db("orders", |db| db.made = Some(Box::new(busy)));
        two.change(|world| world.grow("orders", 1, 0));
        let trial = &mut pair.trials[0];
        eventually("it is looked at", || (states(trial, "unknown") > 9.0).then_some(())).await;
        trial.verdict("orders", "ok", "").await;
        let unproven = trial.events.iter().find(|event| named("immudb.peer.unproven")(event));
        assert_eq!(unproven, None);
        pair.stop().await;
    }
}

fn named(name: &str) -> impl Fn(&Value) -> bool {
    move |event| event["event_name"] == name
}

#[tokio::test]
async fn over_tls_the_authority_that_is_named_counts() {
    let (ours, other) = (Authority::new(), Authority::new());
    for (trusted, works) in [(&ours, true), (&other, false)] {
        let (one, two) = (server(9).await, server(9).await);
        let mut pair = Pair::start_over([&one, &two], Some([&ours, trusted])).await;
        if works {
            pair.exchanged().await;
        } else {
            let event = pair.trials[0].ever("it is told", named("immudb.peer.silent")).await;
            let text = event["event_data"]["text"].as_str().unwrap();
            assert!(text.to_lowercase().contains("certificate"), "{event:#}");
            assert_eq!(event["event_data"]["last_answer"], Value::Null);
            let last = pair.trials[0].agent.metric("auditmon_immudb_peer_timestamp_seconds");
            assert_eq!(last, 0.0);
        }
        pair.stop().await;
    }
}

#[tokio::test]
async fn a_peer_that_is_silent_is_told_once_and_when_it_is_back() {
    let (one, two) = (server(9).await, server(9).await);
    let mut pair = Pair::start([&one, &two]).await;
    pair.exchanged().await;
    let count = |pair: &Pair, name: &str| pair.trials[0].events.iter().filter(|event| named(name)(event)).count();
    // It may not have had a checkpoint to show at first.
    pair.trials[0].verdict("orders", "ok", "").await;
    while count(&pair, "immudb.peer.silent") > count(&pair, "immudb.peer.back") {
        pair.trials[0].next("it answers", named("immudb.peer.back")).await;
    }
    let before = count(&pair, "immudb.peer.silent");

    let address = pair.hang_up(1).await;
    let event = pair.trials[0].next("it is told", named("immudb.peer.silent")).await;
    let data = &event["event_data"];
    assert_eq!(event["severity"], "warning");
    assert!(data["last_answer"].is_string() && data["text"].is_string(), "{event:#}");
    assert_eq!(data["address"], format!("http://{address}/api/v1/immudb/states"));
    let failed = |pair: &Pair| {
        let agent = &pair.trials[0].agent;
        agent.metric_of("auditmon_immudb_peer_exchanges_total", &[("result", "error")])
    };
    let so_far = failed(&pair);
    eventually("it is asked on", || (failed(&pair) > so_far + 10.0).then_some(())).await;
    pair.answer(1, address).await;
    let event = pair.trials[0].next("it is back", named("immudb.peer.back")).await;
    assert_eq!(event["severity"], "info");
    pair.exchanged().await;
    pair.trials[0].verdict("orders", "ok", "").await;
    for name in ["immudb.peer.silent", "immudb.peer.back"] {
        assert_eq!(count(&pair, name), before + 1, "{name}");
    }
    pair.stop().await;
}
