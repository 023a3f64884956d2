//! A server that speaks immudb's protocol: HTTP/2, logins, databases of [`naive`](crate::naive). Its answers are bytes,
//! so it can also say what no server says.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::naive::{Bytes32, Database, Plan, inclusion, sha};
use crate::proto;

pub const USER: &str = "auditor";
pub const PASSWORD: &str = "Hunter2!hunter";
pub const UUID: &str = "dc0bho1ksduad8hn2ru0";

/// What a call ends with.
pub enum Reply {
    Answer(Vec<u8>),
    Refused(i32, String),
    Silence,
}

fn refused(code: i32, text: &str) -> Reply {
    Reply::Refused(code, text.to_owned())
}

/// Changes an answer; by call, database and number of the call.
pub type Lie = Box<dyn FnMut(&str, Reply) -> Reply + Send>;

/// Makes an answer from a request, where it does; by call.
pub type Made = Box<dyn FnMut(&str, &[u8]) -> Option<Reply> + Send>;

/// One database.
#[derive(Default)]
pub struct Db {
    pub data: Database,
    pub unloaded: bool,
    /// Never answers.
    pub silent: bool,
    /// Its index doesn't catch up: what waits for that never answers.
    pub stuck: bool,
    /// Gives the first value of a key, not the last.
    pub stale: bool,
    pub lie: Option<Lie>,
    /// In place of what it holds.
    pub made: Option<Made>,
}

/// All that the server knows; tests change it at will.
pub struct World {
    pub databases: BTreeMap<String, Db>,
    pub uuid: Option<String>,
    /// Another one on answers to a call.
    pub stranger: Option<&'static str>,
    pub auth: bool,
    /// Name and password of the user.
    pub user: (String, String),
    /// Has sessions and the second list.
    pub sessions: bool,
    pub key: Option<SigningKey>,
    /// Database of each session, and of each token; none of a login.
    seats: HashMap<String, Option<String>>,
    made: usize,
    pub calls: Vec<String>,
    /// When each audit of all databases began, in nanoseconds since 1970.
    pub ticks: Vec<u64>,
    /// Calls that are never answered.
    pub mute: Vec<&'static str>,
    /// How many calls were not answered.
    pub silences: usize,
    /// Takes no connection.
    down: bool,
    connections: Vec<AbortHandle>,
}

impl World {
    /// Adds transactions of one entry each; `salt` makes histories differ.
    pub fn grow(&mut self, db: &str, count: usize, salt: u8) {
        let db = self.databases.entry(db.to_owned()).or_default();
        let from = db.data.len();
        let plans = (from..from + count).map(|at| plan(at, salt, 1, 0));
        add(&mut db.data, plans);
    }

    /// Forgets logins, as a restart does.
    pub fn restart(&mut self) {
        self.seats.clear();
        self.connections.drain(..).for_each(|connection| connection.abort());
    }

    /// Ends all connections and takes no other.
    pub fn stop(&mut self) {
        self.restart();
        self.down = true;
    }

    /// Takes connections again.
    pub fn go_on(&mut self) {
        self.down = false;
    }

    pub fn count(&self, call: &str) -> usize {
        self.calls.iter().filter(|known| known.as_str() == call).count()
    }
}

pub fn plan(at: usize, salt: u8, version: i32, lag: usize) -> Plan {
    Plan {
        version,
        lag,
        ts: 1_700_000_000 + at as i64,
        truncated: 0,
        extra: Vec::new(),
        entries: vec![(format!("\0k{at}").into_bytes(), vec![0, salt])],
    }
}

pub fn add(data: &mut Database, plans: impl Iterator<Item = Plan>) {
    plans.for_each(|plan| data.add(&plan));
}

/// The running server.
pub struct Fake {
    pub address: SocketAddr,
    pub world: Arc<Mutex<World>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// With one empty database, sessions and a user.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    pub async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World {
            databases: BTreeMap::from([("defaultdb".to_owned(), Db::default())]),
            uuid: Some(UUID.to_owned()),
            stranger: None,
            auth: true,
            user: (USER.to_owned(), PASSWORD.to_owned()),
            sessions: true,
            key: None,
            seats: HashMap::new(),
            made: 0,
            calls: Vec::new(),
            ticks: Vec::new(),
            mute: Vec::new(),
            silences: 0,
            down: false,
            connections: Vec::new(),
        }));
        let mut tasks = JoinSet::new();
        let shared = world.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if shared.lock().down {
                    continue;
                }
                let (world, tls) = (shared.clone(), tls.clone());
                let handle = connections.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, world).await;
                            }
                        }
                        None => serve(stream, world).await,
                    }
                });
                shared.lock().connections.push(handle);
            }
        });
        Self {
            address,
            world,
            _tasks: tasks,
        }
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.world.lock())
    }

    pub fn db<T>(&self, name: &str, change: impl FnOnce(&mut Db) -> T) -> T {
        change(self.world.lock().databases.get_mut(name).unwrap())
    }

    /// Answers of one call to one database are changed.
    pub fn lie(&self, name: &str, mut lie: impl FnMut(&str, Reply) -> Reply + Send + 'static) {
        self.db(name, |db| db.lie = Some(Box::new(move |call, reply| lie(call, reply))));
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, world: Arc<Mutex<World>>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let world = world.clone();
        async move { Ok::<_, Infallible>(answer(request, &world).await) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A client that goes away is no fault.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, world: &Mutex<World>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let call = parts.uri.path().rsplit('/').next().unwrap().to_owned();
    let (reply, uuid) = {
        let mut world = world.lock();
        world.calls.push(call.clone());
        let uuid = match world.stranger {
            Some(of) if of == call => Some("stranger".to_owned()),
            _ => world.uuid.clone(),
        };
        (world.call(&call, &parts.headers, &body[5..]), uuid)
    };
    let mut response = Response::builder().header("content-type", "application/grpc");
    if let Some(uuid) = uuid {
        response = response.header("immudb-uuid", uuid);
    }
    match reply {
        Reply::Answer(message) => {
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(message.len() as u32);
            framed.put_slice(&message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(framed.freeze()).with_trailers(async move { Some(Ok(trailers)) });
            response.body(body.boxed_unsync()).unwrap()
        }
        Reply::Refused(code, text) => response
            .header("grpc-status", code)
            .header("grpc-message", text)
            .body(Full::default().boxed_unsync())
            .unwrap(),
        Reply::Silence => std::future::pending().await,
    }
}

impl World {
    fn call(&mut self, call: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        if self.mute.contains(&call) {
            self.silences += 1;
            return Reply::Silence;
        }
        let seat = header("sessionid").or_else(|| header("authorization"));
        match call {
            "Health" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                self.ticks.push(now.unwrap().as_nanos() as u64);
                return Reply::Answer(health());
            }
            "OpenSession" | "KeepAlive" | "CloseSession" | "DatabaseListV2" if !self.sessions => {
                return refused(12, "unknown method");
            }
            "OpenSession" | "Login" => return self.login(call, body),
            _ => {}
        }
        if !self.auth {
            return match call {
                "CurrentState" | "VerifiableTxById" | "TxScan" | "VerifiableGet" => self.data("defaultdb", call, body),
                _ => refused(2, "this command is available only with authentication on"),
            };
        }
        let Some(seat) = seat else {
            return refused(2, "no session auth data provided");
        };
        let Some(database) = self.seats.get(&seat).cloned() else {
            let session = self.sessions && headers.contains_key("sessionid");
            return if session {
                refused(7, "session not found")
            } else {
                refused(2, "not logged in")
            };
        };
        match call {
            "KeepAlive" => Reply::Answer(Vec::new()),
            "CloseSession" => {
                self.seats.remove(&seat);
                Reply::Answer(Vec::new())
            }
            "DatabaseList" | "DatabaseListV2" => Reply::Answer(self.list(call)),
            "UseDatabase" => {
                let name = text(body, 1);
                match self.databases.get(&name) {
                    None => refused(5, &format!("'{name}' does not exist")),
                    Some(db) if db.unloaded => refused(2, "already closed"),
                    Some(_) if headers.contains_key("sessionid") => {
                        self.seats.insert(seat, Some(name));
                        Reply::Answer(field(1, b""))
                    }
                    Some(_) => Reply::Answer(field(1, self.seat(Some(name)).as_bytes())),
                }
            }
            _ => match database {
                Some(name) => self.data(&name, call, body),
                None => refused(2, "please select a database first"),
            },
        }
    }

    fn seat(&mut self, database: Option<String>) -> String {
        self.made += 1;
        let name = format!("seat{}", self.made);
        self.seats.insert(name.clone(), database);
        name
    }

    fn login(&mut self, call: &str, body: &[u8]) -> Reply {
        if !self.auth {
            return refused(
                2,
                "server is running with authentication disabled, please enable authentication to login",
            );
        }
        if (text(body, 1), text(body, 2)) != self.user {
            return refused(2, &format!("invalid user name or password {}", text(body, 2)));
        }
        if call == "Login" {
            return Reply::Answer(field(1, self.seat(None).as_bytes()));
        }
        let name = text(body, 3);
        if !self.databases.contains_key(&name) {
            return refused(2, "database does not exist");
        }
        let seat = self.seat(Some(name));
        Reply::Answer(field(1, seat.as_bytes()))
    }

    fn list(&self, call: &str) -> Vec<u8> {
        let databases = self.databases.iter().map(|(name, db)| {
            let mut info = field(1, name.as_bytes());
            if call == "DatabaseListV2" && !db.unloaded {
                info.extend([0x18, 1]);
            }
            field(1, &info)
        });
        databases.flatten().collect()
    }

    fn data(&mut self, name: &str, call: &str, body: &[u8]) -> Reply {
        let key = self.key.clone();
        let Some(db) = self.databases.get_mut(name) else {
            return refused(5, &format!("'{name}' does not exist"));
        };
        if db.unloaded {
            return refused(2, "already closed");
        }
        if db.silent || (db.stuck && waits(call, body)) {
            self.silences += 1;
            return Reply::Silence;
        }
        if let Some(made) = &mut db.made
            && let Some(reply) = made(call, body)
        {
            return reply;
        }
        let reply = match call {
            "CurrentState" => {
                let tx = db.data.len();
                let hash = last(&db.data);
                let state = proto::ImmutableState {
                    db: name.to_owned(),
                    tx_id: tx as u64,
                    tx_hash: hash.to_vec(),
                    signature: key.map(|key| sign(&key, name, tx as u64, &hash)),
                    ..proto::ImmutableState::default()
                };
                Reply::Answer(state.encode_to_vec())
            }
            "VerifiableTxById" => verifiable(&db.data, name, key.as_ref(), body),
            "TxScan" => {
                let request = auditmon_proto::immudb::TxScanRequest::decode(body).unwrap();
                let from = request.initial_tx as usize - 1;
                let to = db.data.len().min(from + request.limit as usize);
                let txs = (from..to).map(|at| proto::Tx {
                    header: Some(db.data.headers[at].clone()),
                    entries: entries(&db.data, at, request.entries_spec.as_ref()),
                });
                Reply::Answer(proto::TxList { txs: txs.collect() }.encode_to_vec())
            }
            "VerifiableGet" => get(&db.data, db.stale, body),
            other => refused(12, &format!("unknown method {other}")),
        };
        match &mut db.lie {
            Some(lie) => lie(call, reply),
            None => reply,
        }
    }
}

/// Whether a call waits for the index.
fn waits(call: &str, body: &[u8]) -> bool {
    use auditmon_proto::immudb::{TxScanRequest, VerifiableTxRequest};
    match call {
        "VerifiableTxById" => !VerifiableTxRequest::decode(body).unwrap().keep_references_unresolved,
        "TxScan" => TxScanRequest::decode(body).unwrap().since_tx == 0,
        "VerifiableGet" => true,
        _ => false,
    }
}

/// The entries of a transaction that are asked for, as bytes.
fn entries(data: &Database, at: usize, spec: Option<&auditmon_proto::immudb::EntriesSpec>) -> Vec<Vec<u8>> {
    let all = data.entries[at].iter().zip(&data.values[at]);
    let asked = all.filter_map(|(entry, value)| {
        let Some(spec) = spec else {
            return Some(entry.clone());
        };
        let kinds = [&spec.kv_entries_spec, &spec.z_entries_spec, &spec.sql_entries_spec];
        let kind = kinds.get(usize::from(entry.key[0])).copied()?.as_ref()?;
        assert_eq!(kind.action, 2, "nothing else is asked for");
        let value = value.clone();
        Some(proto::TxEntry { value, ..entry.clone() })
    });
    asked.map(|entry| entry.encode_to_vec()).collect()
}

/// A key's value at one transaction or the last one, with its proof; keys are stored as users' keys, values as plain ones.
fn get(data: &Database, stale: bool, body: &[u8]) -> Reply {
    let request = auditmon_proto::immudb::VerifiableGetRequest::decode(body).unwrap();
    let since = request.prove_since_tx as usize;
    let wanted = request.key_request.unwrap();
    let stored = [&[0], &wanted.key[..]].concat();
    let mut found = (0..data.len()).flat_map(|at| {
        let entries = data.entries[at].iter().enumerate();
        let same = entries.filter(|(_, entry)| entry.key == stored);
        same.map(move |(leaf, _)| (at, leaf)).collect::<Vec<_>>()
    });
    let set = match (wanted.at_tx as usize, stale) {
        (0, false) => found.last(),
        (0, true) => found.next(),
        (tx, _) => found.find(|(at, _)| at + 1 == tx),
    };
    let Some((at, leaf)) = set else {
        return refused(2, "tbtree: key not found");
    };
    let (tx, digests) = (at + 1, &data.digests[at]);
    let (s, t) = (tx.min(since), tx.max(since));
    if t > data.len() {
        return refused(2, "illegal state");
    }
    let Some(dual_proof) = data.dual_proof(s, t) else {
        return refused(2, "tx data is corrupted");
    };
    let answer = proto::VerifiableEntry {
        entry: Some(proto::Entry {
            tx: tx as u64,
            key: wanted.key,
            value: data.values[at][leaf][1..].to_vec(),
            ..proto::Entry::default()
        }),
        verifiable_tx: Some(proto::VerifiableTx {
            tx: Some(proto::Tx {
                header: Some(data.headers[at].clone()),
                entries: entries(data, at, None),
            }),
            dual_proof: Some(dual_proof),
            ..proto::VerifiableTx::default()
        }),
        inclusion: Some(proto::InclusionProof {
            leaf: leaf as i32,
            width: digests.len() as i32,
            terms: inclusion(digests, leaf).iter().map(|hash| hash.to_vec()).collect(),
        }),
    };
    Reply::Answer(answer.encode_to_vec())
}

/// Hash of the last transaction, or of nothing.
pub fn last(data: &Database) -> Bytes32 {
    data.alhs.last().copied().unwrap_or_else(|| sha(&[]))
}

pub fn verifiable(data: &Database, name: &str, key: Option<&SigningKey>, body: &[u8]) -> Reply {
    let request = auditmon_proto::immudb::VerifiableTxRequest::decode(body).unwrap();
    let (tx, since) = (request.tx as usize, request.prove_since_tx as usize);
    let (s, t) = (tx.min(since), tx.max(since));
    if t > data.len() {
        let latest = data.len();
        return refused(
            2,
            &format!("illegal state: latest txID={latest} is lower than specified as initial tx={t}"),
        );
    }
    let Some(proof) = data.dual_proof(s, t) else {
        return refused(2, "tx data is corrupted");
    };
    let answer = proto::VerifiableTx {
        dual_proof: Some(proof),
        signature: key.map(|key| sign(key, name, t as u64, &data.alhs[t - 1])),
        ..proto::VerifiableTx::default()
    };
    Reply::Answer(answer.encode_to_vec())
}

pub fn sign(key: &SigningKey, db: &str, tx: u64, hash: &Bytes32) -> proto::Signature {
    let length = (db.len() as u32).to_be_bytes();
    let bytes = [&length[..], db.as_bytes(), &tx.to_be_bytes(), hash].concat();
    let signature: Signature = key.sign(&bytes);
    proto::Signature {
        public_key: key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        signature: signature.to_der().as_bytes().to_vec(),
    }
}

fn health() -> Vec<u8> {
    [&[8, 1][..], &field(2, b"1.11.1-fake")].concat()
}

/// A field of bytes.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

/// A field of bytes of a message of such fields.
fn text(mut message: &[u8], wanted: u8) -> String {
    while let [tag, rest @ ..] = message {
        let mut rest = rest;
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        if *tag == wanted << 3 | 2 {
            return String::from_utf8(rest[..length].to_vec()).unwrap();
        }
        message = &rest[length..];
    }
    String::new()
}
