//! A real server, tampered with while it is stopped. `AUDITMON_TEST_IMMUDB=/path/to/immudb` names its binary, any version
//! from 1.0.5 on; without it these tests say that they are skipped.

mod disk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auditmon_proto::immudb as proto;
use auditmon_testkit::eventually;
use http::uri::PathAndQuery;
use p256::pkcs8::LineEnding;
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::trial::Trial;

const ADMIN: &str = "immudb";
/// Some versions serve metrics at a fixed port: one server at a time.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SetRequest {
    #[prost(message, repeated, tag = "1")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct NullableBool {
    #[prost(bool, tag = "1")]
    value: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Settings {
    #[prost(message, optional, tag = "30")]
    embedded_values: Option<NullableBool>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    settings: Option<Settings>,
}

/// A server is told its port before it starts.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server in directories of its own.
struct Real {
    binary: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    /// What it signs states with.
    key: Option<PathBuf>,
}

impl Real {
    /// `None` where no binary is given.
    async fn start(test: &str) -> Option<Self> {
        let Some(binary) = std::env::var_os("AUDITMON_TEST_IMMUDB") else {
            eprintln!("SKIPPED: {test}: AUDITMON_TEST_IMMUDB names no immudb");
            return None;
        };
        let mut real = Self {
            binary: binary.into(),
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
            child: None,
            key: None,
        };
        real.go_on().await;
        Some(real)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn go_on(&mut self) {
        self.start_again();
        let address = self.address();
        eventually("the server listens", || std::net::TcpStream::connect(&address).ok()).await;
    }

    /// Starts it; it may end by itself.
    fn start_again(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = Command::new(&self.binary);
        command
            .arg("--dir")
            .arg(self.data())
            .args([
                "--address",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--auth=true",
            ])
            .args(["--web-server=false", "--pgsql-server=false"])
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(key) = &self.key {
            command.arg("--signingKey").arg(key);
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// Whether it listens; else it ended by itself.
    async fn listens_or_ends(&mut self) -> bool {
        let address = self.address();
        let child = self.child.as_mut().unwrap();
        eventually("the server listens or ends", || {
            let listens = std::net::TcpStream::connect(&address).is_ok();
            let ended = child.try_wait().unwrap().is_some();
            (listens || ended).then_some(listens)
        })
        .await
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if child.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // 1.0.5 sometimes forgets to end.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn section(&self) -> Value {
        json!({
            "interval": "100ms", "every": true, "missing_after": "0s",
            "servers": [{"address": self.address(), "name": "db1", "username": ADMIN, "password": ADMIN}],
        })
    }

    async fn writer(&self) -> Writer {
        Writer::log_in(&self.address()).await
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the auditor never does: writes.
struct Writer {
    channel: Channel,
    login: MetadataMap,
    auth: MetadataMap,
    session: bool,
}

impl Writer {
    async fn log_in(address: &str) -> Self {
        let target = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut writer = Self {
            channel: target.connect_lazy(),
            login: MetadataMap::new(),
            auth: MetadataMap::new(),
            session: true,
        };
        let session = proto::OpenSessionRequest {
            username: ADMIN.into(),
            password: ADMIN.into(),
            database_name: "defaultdb".to_owned(),
        };
        let none = MetadataMap::new();
        match writer
            .call::<_, proto::OpenSessionResponse>("OpenSession", &none, session)
            .await
        {
            Ok(answer) => {
                writer.auth.insert("sessionid", answer.session_id.parse().unwrap());
            }
            Err(_) => {
                let login = proto::LoginRequest {
                    user: ADMIN.into(),
                    password: ADMIN.into(),
                };
                let answer: proto::LoginResponse = writer.call("Login", &none, login).await.unwrap();
                writer.session = false;
                writer.auth.insert("authorization", answer.token.parse().unwrap());
            }
        }
        writer.login = writer.auth.clone();
        writer
    }

    async fn call<Q, A>(&self, name: &str, auth: &MetadataMap, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path: PathAndQuery = format!("/immudb.schema.ImmuService/{name}").parse().unwrap();
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = auth.clone();
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let answer = grpc.unary(request, path, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    async fn create(&mut self, db: &str) {
        let request = proto::Database {
            database_name: db.to_owned(),
        };
        let _: proto::Empty = self.call("CreateDatabase", &self.login, request).await.unwrap();
    }

    /// With its values in a log of their own, as versions had it that don't know another way.
    async fn create_with_value_log(&mut self, db: &str) {
        let settings = Settings {
            embedded_values: Some(NullableBool { value: false }),
        };
        let request = CreateRequest {
            name: db.to_owned(),
            settings: Some(settings),
        };
        let made: Result<proto::Empty, Status> = self.call("CreateDatabaseV2", &self.login, request).await;
        match made {
            Ok(_) => {}
            Err(status) if status.code() == tonic::Code::Unimplemented => self.create(db).await,
            Err(status) => panic!("{status}"),
        }
    }

    /// One transaction a key, `k0` and so on.
    async fn write(&mut self, db: &str, keys: std::ops::Range<usize>, value: &str) {
        let request = proto::Database {
            database_name: db.to_owned(),
        };
        let answer: proto::UseDatabaseReply = self.call("UseDatabase", &self.login, request).await.unwrap();
        if !self.session {
            self.auth.insert("authorization", answer.token.parse().unwrap());
        }
        for number in keys {
            let kv = KeyValue {
                key: format!("k{number}").into_bytes(),
                value: value.as_bytes().to_vec(),
            };
            let _: proto::Empty = self
                .call("Set", &self.auth, SetRequest { kvs: vec![kv] })
                .await
                .unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Changes a byte of each of these texts in the files below `folder` whose path holds `part`; how many there were.
fn damage(folder: &Path, part: &str, text: &[u8]) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found += damage(&path, part, text);
        } else if path.to_str().unwrap().contains(part) {
            let mut bytes = fs::read(&path).unwrap();
            let mut at = 0;
            while let Some(next) = bytes[at..].windows(text.len()).position(|part| part == text) {
                at += next;
                bytes[at] ^= 1;
                at += text.len();
                found += 1;
            }
            fs::write(&path, bytes).unwrap();
        }
    }
    found
}

async fn tx(trial: &mut Trial, db: &str, result: &str) -> u64 {
    let event = trial.verdict(db, result, "").await;
    event["event_data"]["current"]["tx"].as_u64().unwrap()
}

/// Waits until a database is in order at a later transaction than this.
async fn beyond(trial: &mut Trial, db: &str, seen: u64) -> u64 {
    let wanted = |event: &Value| {
        let data = &event["event_data"];
        data["database"] == db && data["result"] == "ok" && data["current"]["tx"].as_u64() > Some(seen)
    };
    let event = trial.ever("it is followed", wanted).await;
    event["event_data"]["current"]["tx"].as_u64().unwrap()
}

#[tokio::test]
async fn an_honest_server_is_followed_through_restarts() {
    let _one = ONE.lock().await;
    let Some(mut real) = Real::start("an_honest_server").await else {
        return;
    };
    let mut writer = real.writer().await;
    writer.create("orders").await;
    writer.write("orders", 0..5, "v").await;
    let mut trial = Trial::start(real.section()).await;
    let first = trial.first("orders").await;
    let version = first["event_data"]["server"]["version"].clone();
    eprintln!("immudb {version}");
    let seen = first["event_data"]["current"]["tx"].as_u64().unwrap();
    for walk in [10_000, 0] {
        writer.write("orders", 5..20, "v").await;
        let agent = trial.stop().await;
        let mut section = real.section();
        section["walk"] = json!(walk);
        trial = Trial::go_on(agent, section).await;
        beyond(&mut trial, "orders", seen + 14).await;
    }
    real.stop();
    trial.verdict("orders", "error", "unreachable").await;
    real.go_on().await;
    let mut writer = real.writer().await;
    writer.write("orders", 20..25, "v").await;
    beyond(&mut trial, "orders", seen + 34).await;
    let bad = trial
        .events
        .iter()
        .find(|event| event["event_data"]["result"] == "tampered");
    assert_eq!(bad, None);
    trial.stop().await;
}

/// For who runs it by hand.
fn told(test: &str, event: &Value) {
    let data = &event["event_data"];
    let what = if data["code"].is_null() {
        &data["reason"]
    } else {
        &data["code"]
    };
    eprintln!(
        "{test}: {}: {what} {} ({})",
        data["server"]["version"], data["tx"], data["text"]
    );
}

/// Audits, stops the server, tampers with its directory, starts it again and waits for the finding.
///
/// Gives the event's data, and the transaction that the older copy ends with.
async fn tampered(test: &str, tamper: impl AsyncFnOnce(&mut Real, &Path), codes: &[&str]) -> Option<(Value, u64)> {
    let _one = ONE.lock().await;
    let mut real = Real::start(test).await?;
    let mut writer = real.writer().await;
    writer.create("orders").await;
    writer.create("billing").await;
    writer.write("billing", 0..30, "other").await;
    writer.write("orders", 0..10, "first").await;
    real.stop();
    let older = real.dir.path().join("older");
    copy(&real.data(), &older);
    real.go_on().await;
    let mut trial = Trial::start(real.section()).await;
    let seen = tx(&mut trial, "orders", "ok").await;
    let mut writer = real.writer().await;
    writer.write("orders", 10..20, "second").await;
    let trusted = beyond(&mut trial, "orders", seen + 9).await;
    trial.verdict("billing", "ok", "").await;
    real.stop();
    tamper(&mut real, &older).await;
    if real.child.is_none() {
        real.go_on().await;
    }
    let event = trial.verdict("orders", "tampered", "").await;
    let data = &event["event_data"];
    told(test, &event);
    assert!(codes.contains(&data["code"].as_str().unwrap()), "{event:#}");
    assert_eq!(data["trusted"]["tx"], trusted);
    trial.stop().await;
    Some((data.clone(), seen))
}

#[tokio::test]
async fn an_older_copy() {
    let put_back = async |real: &mut Real, older: &Path| copy(older, &real.data());
    if let Some((data, tx)) = tampered("an_older_copy", put_back, &["rollback"]).await {
        assert_eq!(data["location"]["same_to"], tx, "{data:#}");
        assert_eq!(data["location"]["lost"], json!({"from": tx + 1, "to": tx + 10}));
    }
}

#[tokio::test]
async fn an_older_copy_that_grew_on() {
    let grown = async |real: &mut Real, older: &Path| {
        copy(older, &real.data());
        // Audits go on meanwhile, at another port: what they see of it begins when it is back.
        let port = real.port;
        real.port = free_port();
        real.go_on().await;
        real.writer().await.write("orders", 10..25, "another").await;
        real.stop();
        real.port = port;
    };
    if let Some((data, tx)) = tampered("an_older_copy_that_grew_on", grown, &["proof"]).await {
        assert_eq!(
            (&data["location"]["same_to"], &data["tx"]),
            (&json!(tx), &json!(tx + 1)),
            "{data:#}"
        );
    }
}

#[tokio::test]
async fn another_database_in_its_place() {
    let swapped = async |real: &mut Real, _: &Path| {
        let (orders, billing) = (real.data().join("orders"), real.data().join("billing"));
        let aside = real.data().join("aside");
        fs::rename(&orders, &aside).unwrap();
        fs::rename(&billing, &orders).unwrap();
        fs::rename(&aside, &billing).unwrap();
    };
    tampered("another_database_in_its_place", swapped, &["proof"]).await;
}

#[tokio::test]
async fn another_history_under_another_identity() {
    let other = async |real: &mut Real, older: &Path| {
        copy(older, &real.data());
        fs::remove_file(real.data().join("immudb.identifier")).unwrap();
    };
    tampered("another_history_under_another_identity", other, &["identity"]).await;
}

#[tokio::test]
async fn a_database_made_anew() {
    let anew = async |real: &mut Real, _: &Path| {
        fs::remove_dir_all(real.data().join("orders")).unwrap();
        let port = real.port;
        real.port = free_port();
        real.go_on().await;
        let mut writer = real.writer().await;
        writer.create("orders").await;
        writer.write("orders", 0..40, "another").await;
        real.stop();
        real.port = port;
    };
    tampered("a_database_made_anew", anew, &["proof", "identity", "missing"]).await;
}

#[tokio::test]
async fn another_signing_key() {
    let test = "another_signing_key";
    let _one = ONE.lock().await;
    let Some(mut real) = Real::start(test).await else {
        return;
    };
    let mut writer = real.writer().await;
    writer.write("defaultdb", 0..3, "v").await;
    let key = |seed: u8| {
        let path = real.dir.path().join(format!("key{seed}.pem"));
        let key = p256::SecretKey::from_slice(&[seed; 32]).unwrap();
        fs::write(&path, key.to_sec1_pem(LineEnding::LF).unwrap()).unwrap();
        Some(path)
    };
    let (one, other) = (key(7), key(8));
    for next in [other, None] {
        real.stop();
        real.key.clone_from(&one);
        real.go_on().await;
        let mut trial = Trial::start(real.section()).await;
        let first = trial.first("defaultdb").await;
        assert!(first["event_data"]["current"]["signed_by"].is_string(), "{first:#}");
        real.stop();
        real.key = next;
        real.go_on().await;
        let event = trial.verdict("defaultdb", "tampered", "identity").await;
        told(test, &event);
        trial.stop().await;
    }
}

#[tokio::test]
async fn a_database_that_is_gone() {
    let gone = async |real: &mut Real, _: &Path| fs::remove_dir_all(real.data().join("orders")).unwrap();
    tampered("a_database_that_is_gone", gone, &["missing"]).await;
}

#[tokio::test]
async fn another_server_in_its_place() {
    let other = async |real: &mut Real, _: &Path| fs::remove_dir_all(real.data()).unwrap();
    tampered("another_server_in_its_place", other, &["identity", "missing"]).await;
}
