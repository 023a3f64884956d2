//! Held to what immuclient 1.11.1 wrote and answered: what differs is what the manual lists, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use auditmon_core::time;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use immudb_verify::{Alh, Hash, TxId};
use prometheus::Registry;
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::*;
use crate::compat::routes::tests::probe;
use crate::compat::{CompatConfig, Routes};
use crate::verdict::{Code, Finding, Good, Unchecked};

const RECORDED: &str = include_str!("../../../../../../tests/fixtures/immuclient/p15-monitoring-1.11.1.json");
const MANUAL: &str = include_str!("../../../../../../docs/immudb.md");

/// Where the recorded server was, and who.
const ADDRESS: &str = "127.0.0.1:15810";
const ID: &str = "dc0clu1ksduflchqfku0";

// What may differ: how its line in the manual begins.
const TIMES: &str = "| all | times are UTC; `m=+…` is left out |";
const PUBLISHED: &str = "| `audit notification for db D has been published at …` | not written;";
const UNTRUSTED: &str = "| the warning on untrusted keys | not written:";
const FLOATS: &str = "| floats | `1795214088.129234`, not `1.795214088129234e+09` |";
const GONE: &str = "| `go_*`, `promhttp_*`, `immudb_*`, `process_virtual_memory_max_bytes` | not there |";
const NEW: &str = "| `process_threads` | ours alone |";
const READY: &str = "| `/initz`, `/readyz` | whether the server answers; asked once a second at most; 503 with the error as gRPC has it |";
const ALIVE: &str = "| `/livez` | whether an audit or a tick has ended";
const VERSION: &str = "| `/version` | `immuclient-auditor` with our version; `buildtime` is `unknown` |";
const VARIABLES: &str = "| `/debug/vars` | `{}`:";
const NAMES: &str = "Names of headers are in lower case";

/// Differences that were met.
#[derive(Default)]
struct Met(BTreeSet<&'static str>);

impl Met {
    fn meet(&mut self, difference: &'static str) {
        self.0.insert(difference);
    }

    /// All of them were met, and the manual lists them.
    fn end(self, all: &[&'static str]) {
        assert_eq!(self.0, all.iter().copied().collect());
        for row in all {
            assert!(
                MANUAL.lines().any(|line| line.starts_with(row)),
                "the manual lacks {row}"
            );
        }
    }
}

fn face(compat: &Arc<Compat>) -> Face {
    Face::new(compat.clone(), &Endpoint::parse(ADDRESS).unwrap(), Some(ID))
}

fn compat(log: Option<&Path>) -> (Arc<Compat>, Registry) {
    let registry = Registry::new();
    let config = CompatConfig {
        log_file: log.map(Path::to_owned),
        ..CompatConfig::default()
    };
    let compat = Compat::new(&config, Duration::from_secs(60), &registry).unwrap();
    (compat, registry)
}

fn state(tx: u64, hash: Vec<u8>) -> State {
    let hash: [u8; 32] = hash.try_into().unwrap();
    State {
        tx: TxId(tx),
        alh: Alh(Hash::from(hash)),
    }
}

/// What an audit came to.
fn verdict(tampered: bool, current: State) -> Verdict {
    if tampered {
        let mut finding = Finding::new(Code::Proof, "proof", "another history");
        finding.shown = Some(current);
        return Verdict::Tampered(finding);
    }
    Verdict::Ok(Good {
        state: current,
        signature: None,
        uuid: None,
        key: None,
        how: How::Walk,
        seen: Vec::new(),
    })
}

/// A line without what no two runs have in common: when it was written, and how long something took.
fn plain(line: &str) -> String {
    let Some(rest) = line.strip_prefix("immuclientd") else {
        return line.to_owned();
    };
    // On stdout a blank is behind the name.
    let (stamp, rest) = rest.trim_start().split_at(19);
    let digits = stamp.bytes().all(|b| b.is_ascii_digit() || b"/: ".contains(&b));
    assert!(digits, "{line}");
    match rest.split_once(" finished in ") {
        Some((before, after)) => {
            let (_, at) = after.split_once(" @ ").unwrap();
            format!("{before} finished @ {at}")
        }
        None => rest.to_owned(),
    }
}

/// `HASH at tx: N`.
fn shown(text: &str) -> State {
    let (hash, tx) = text.split_once(" at tx: ").unwrap();
    state(tx.parse().unwrap(), hex::decode(hash).unwrap())
}

/// The same audits, told by us.
fn tell(face: &mut Face, lines: &[&str]) {
    for (at, line) in lines.iter().enumerate() {
        if let Some((before, begun)) = line.split_once(" started @ ") {
            let (_, number) = before.split_once("audit #").unwrap();
            face.number = number.parse::<u64>().unwrap() - 1;
            let (begun, _) = begun.split_once(" +0000 UTC").unwrap();
            face.begin(time::parse(&format!("{}Z", begun.replace(' ', "T"))).unwrap());
        } else if let Some((_, names)) = line.split_once(" database(s) found: [") {
            face.list(names.trim_end_matches(']').split(' '));
        } else if let Some(rest) = line.strip_prefix(" db: ") {
            let (database, rest) = rest.split_once(", consistent:\t").unwrap();
            let (consistent, previous) = rest.split_once(" previous state:\t").unwrap();
            let current = shown(lines[at + 1].strip_prefix("  current state:\t").unwrap());
            let verdict = verdict(consistent == "false", current);
            face.verdict(database, &verdict, Some(shown(previous)), time::now());
        } else if let Some((_, end)) = line.split_once(" finished in ") {
            let (_, end) = end.split_once(" @ ").unwrap();
            face.end(time::parse(end).unwrap());
        }
    }
}

fn from_a_begin(text: &str) -> Vec<&str> {
    text.lines().skip_while(|line| !line.contains(" started @ ")).collect()
}

#[test]
fn log_lines_differ_in_what_the_manual_lists() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    // It is the end of a log: its first tick is not there from its begin.
    let lines = from_a_begin(recorded["log_text"].as_str().unwrap());
    assert!(lines.len() > 60, "{}", lines.len());
    let mut met = Met::default();
    let mut theirs = Vec::new();
    for line in &lines {
        if line.contains(" has been published at http") {
            met.meet(PUBLISHED);
        } else if line.contains(" verified using untrusted public key") {
            met.meet(UNTRUSTED);
        } else if let Some((before, _)) = line.split_once(" m=+") {
            met.meet(TIMES);
            theirs.push(plain(before));
        } else {
            theirs.push(plain(line));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (compat, _) = compat(Some(&path));
    compat.start();
    tell(&mut face(&compat), &lines);
    // The thread writes on its own.
    let begun = Instant::now();
    let ours = loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let ours: Vec<String> = from_a_begin(&text).into_iter().map(plain).collect();
        if ours.len() >= theirs.len() && text.ends_with('\n') {
            break ours;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
        std::thread::yield_now();
    };
    assert_eq!(ours, theirs);
    met.end(&[TIMES, PUBLISHED, UNTRUSTED]);
}

/// A server that says that it is well for as long as the tasks are kept.
async fn well() -> (SocketAddr, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|_| async {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                // A message of two bytes: status is true.
                let message = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
                let body = message.with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
                let response = Response::builder().header("content-type", "application/grpc");
                Ok::<_, Infallible>(response.body(body).unwrap())
            });
            connections.spawn(async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // A client that goes away is no fault.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, tasks)
}

/// An answer: what of it is neither the connection's nor the body's length.
struct Answer {
    status: u64,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn recorded(one: &Value, met: &mut Met) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let headers = one["headers"].as_array().unwrap().iter().map(|header| {
            let name = text(&header[0]);
            if name != name.to_lowercase() {
                met.meet(NAMES);
            }
            (name.to_lowercase(), text(&header[1]))
        });
        let others = |name: &str| !["date", "connection", "content-length", "transfer-encoding"].contains(&name);
        Self {
            status: one["status"].as_u64().unwrap(),
            headers: headers.filter(|(name, _)| others(name)).collect(),
            body: match &one["body_hex"] {
                Value::String(hex) => hex::decode(hex).unwrap(),
                _ => text(&one["body_text"]).into_bytes(),
            },
        }
    }

    async fn of(router: &Router, one: &Value) -> Self {
        let [method, path] = ["method", "path"].map(|key| one[key].as_str().unwrap());
        let mut request = Request::builder().method(method).uri(path);
        if one["note"] == "gzip" {
            request = request.header("accept-encoding", "gzip");
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Self {
            status: response.status().as_u16().into(),
            headers: headers.filter(|(name, _)| name != "content-length").collect(),
            body: match method {
                // The listener leaves it out.
                "HEAD" => Vec::new(),
                _ => axum::body::to_bytes(response.into_body(), 1 << 20)
                    .await
                    .unwrap()
                    .into(),
            },
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if self.headers.contains_key("content-encoding") {
            let mut packed = flate2::read::GzDecoder::new(&self.body[..]);
            packed.read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(self.body.clone()).unwrap();
        }
        text
    }
}

/// Lines of metrics, by the name of their family.
fn families(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            name = help.split(' ').next().unwrap();
        }
        all.entry(name).or_default().push(line);
    }
    all
}

/// Name with labels, and value.
fn sample(line: &str) -> (&str, &str) {
    line.rsplit_once(' ').unwrap()
}

fn same_metrics(ours: &str, theirs: &str, met: &mut Met) {
    let (ours, theirs) = (families(ours), families(theirs));
    for (name, theirs) in &theirs {
        let gone = ["go_", "promhttp_", "immudb_"]
            .iter()
            .any(|begin| name.starts_with(begin));
        let Some(ours) = ours.get(name) else {
            assert!(
                gone || *name == "process_virtual_memory_max_bytes",
                "{name} is not there"
            );
            met.meet(GONE);
            continue;
        };
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            if theirs.starts_with('#') {
                assert_eq!(ours, theirs);
                continue;
            }
            let ((of, our), (their_of, their)) = (sample(ours), sample(theirs));
            assert_eq!(of, their_of);
            if name.starts_with("process_") {
                // Another process has other values.
                our.parse::<f64>().unwrap();
            } else if their.contains("e+") {
                met.meet(FLOATS);
                let [our, their] = [our, their].map(|text| text.parse::<f64>().unwrap());
                assert!((our - their).abs() < 1e-3, "{ours} {theirs}");
            } else {
                assert_eq!(our, their, "{of}");
            }
        }
    }
    for name in ours.keys() {
        if *name == "process_threads" {
            met.meet(NEW);
        } else {
            // Those of the plugin are not registered here.
            assert!(theirs.contains_key(name), "{name} is new");
        }
    }
}

fn same_answer(path: &str, phase: &str, mut ours: Answer, theirs: Answer, met: &mut Met) {
    let what = format!("{path}, {phase}");
    let (our, their) = (ours.text(), theirs.text());
    match path {
        "/livez" if theirs.status == 503 => {
            met.meet(ALIVE);
            assert_eq!((ours.status, our.as_str()), (200, "{\"immudb\":\"OK\"}\n"));
            ours.status = 503;
        }
        "/readyz" | "/initz" if theirs.status == 503 => {
            met.meet(READY);
            let begin = "{\"immudb\":\"rpc error: code = Unavailable desc = ";
            for text in [&our, &their] {
                assert!(text.starts_with(begin) && text.ends_with("\"}\n"), "{text}");
            }
        }
        "/version" if !their.is_empty() => {
            met.meet(VERSION);
            let [theirs, unknown] = [&their, &our].map(|text| serde_json::from_str::<Value>(text).unwrap());
            assert_eq!(unknown["buildtime"], "unknown");
            let text = |key: &str| theirs[key].as_str().unwrap();
            let wanted = their.replace(text("version"), env!("CARGO_PKG_VERSION"));
            assert_eq!(our, wanted.replace(text("buildtime"), "unknown"));
        }
        "/debug/vars" => {
            met.meet(VARIABLES);
            assert_eq!(our, "{}\n");
        }
        _ if their.starts_with("# HELP") => same_metrics(&our, &their, met),
        _ => assert_eq!(our, their, "{what}"),
    }
    assert_eq!(ours.status, theirs.status, "{what}");
    assert_eq!(ours.headers, theirs.headers, "{what}");
}

/// When the audit ended that is shown; in nanoseconds.
fn run_at(metrics: &str) -> Option<Nanos> {
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with("immuclient_audit_run_at_per_server{"))?;
    Some((sample(line).1.parse::<f64>().unwrap() * 1e9) as Nanos)
}

/// The recorded audits, as their notifications tell them, up to a time.
fn audit<'a>(face: &mut Face, audits: &mut impl Iterator<Item = &'a Value>, phase: &str, until: Nanos) {
    if phase == "server stopped" {
        let unchecked = Unchecked::new("unreachable", "nobody is there");
        face.begin(until);
        face.verdict("", &Verdict::Unchecked(unchecked), None, until);
        return face.end(until);
    }
    for audit in audits {
        let body: Value = serde_json::from_str(audit["body_text"].as_str().unwrap()).unwrap();
        let of = |key: &str| {
            use base64::Engine as _;
            let hash = body[key]["hash"].as_str().unwrap();
            let hash = base64::prelude::BASE64_STANDARD.decode(hash).unwrap();
            state(body[key]["tx"].as_u64().unwrap(), hash)
        };
        face.begin(until);
        face.list(["defaultdb", "db", "mydb"].into_iter());
        let verdict = verdict(body["tampered"] == true, of("current_state"));
        face.verdict(
            body["db"].as_str().unwrap(),
            &verdict,
            Some(of("previous_state")),
            until,
        );
        face.end(until);
    }
}

#[tokio::test]
async fn answers_differ_in_what_the_manual_lists() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let (answers, audits) = (&recorded["endpoints"], recorded["notifications"].as_array().unwrap());
    let (compat, registry) = compat(None);
    let mut face = face(&compat);
    let (mut address, mut server) = well().await;
    let mut met = Met::default();
    let (mut done, mut shown) = (0, 0);
    for one in answers.as_array().unwrap() {
        let [path, phase] = ["path", "phase"].map(|key| one[key].as_str().unwrap());
        let theirs = Answer::recorded(one, &mut met);
        if let Some(until) = run_at(&theirs.text())
            && until != shown
        {
            let told = |audit: &&Value| {
                let body: Value = serde_json::from_str(audit["body_text"].as_str().unwrap()).unwrap();
                time::parse(body["run_at"].as_str().unwrap()).unwrap() <= until
            };
            let mut next = audits[done..].iter().take_while(told);
            let before = next.clone().count();
            audit(&mut face, &mut next, phase, until);
            (done, shown) = (done + before, until);
        }
        if phase == "server stopped" {
            server.shutdown().await;
        } else if server.is_empty() {
            (address, server) = well().await;
        }
        let endpoint = Endpoint::parse(&address.to_string()).unwrap();
        // What was recorded ended long ago.
        compat.ended.store(time::now(), Ordering::Relaxed);
        // A probe of its own: another one remembers its answer for a second.
        let routes = Routes::new(compat.clone(), vec![probe(&endpoint)], registry.clone()).unwrap();
        let ours = Answer::of(&routes.router(), one).await;
        same_answer(path, phase, ours, theirs, &mut met);
    }
    assert!(done > 15, "{done} audits");
    met.end(&[FLOATS, GONE, NEW, READY, ALIVE, VERSION, VARIABLES, NAMES]);
}
