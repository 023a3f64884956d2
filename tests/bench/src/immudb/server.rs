//! A server that answers as immudb does, as quickly as it can: many databases of one transaction each, or one whose history
//! begins to differ somewhere from what was seen.

use std::convert::Infallible;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use auditmon_proto::immudb as messages;
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::runtime::Runtime;

use super::history::{History, alh};
use super::located;
use super::proto;
use crate::Fault;

/// Who it says it is.
pub const UUID: &str = "dc0bho1ksduad8hn2ru0";
/// Longest wait for a tick.
const PATIENCE: Duration = Duration::from_secs(120);

/// The name of a database.
pub fn name(number: usize) -> String {
    format!("db{number:04}")
}

/// A history that is another one from a transaction on.
pub struct Other {
    /// Records of what was seen.
    pub seen: File,
    /// The first transaction that differs.
    pub first: u64,
}

/// The running server; ends when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    _runtime: Runtime,
}

struct State {
    list: Vec<u8>,
    first: Vec<u8>,
    hash: Vec<u8>,
    other: Option<Other>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Database of each session.
    sessions: Vec<String>,
    /// When a tick began, and when the last state was given since.
    tick: Option<(Instant, Option<Instant>)>,
    /// Seconds of the ticks that are over.
    ticks: Vec<f64>,
    /// When headers were asked for.
    headers: Vec<Instant>,
}

impl Server {
    /// Starts it with so many databases.
    pub fn start(databases: usize, other: Option<Other>) -> Result<Self, Fault> {
        let one = History::new(1);
        let header = &one.headers()[0];
        let proof = proto::DualProof {
            source: Some(header.clone()),
            target: Some(header.clone()),
            target_bl_tx_alh: vec![0; 32],
            linear: Some(proto::LinearProof {
                source_tx_id: 1,
                target_tx_id: 1,
                terms: vec![alh(header).to_vec()],
            }),
            ..proto::DualProof::default()
        };
        let first = proto::VerifiableTx {
            dual_proof: Some(proof),
            ..proto::VerifiableTx::default()
        };
        let info = |number| messages::DatabaseInfo {
            name: name(number),
            loaded: true,
        };
        let list = messages::DatabaseListResponseV2 {
            databases: (0..databases).map(info).collect(),
        };
        let state = Arc::new(State {
            list: list.encode_to_vec(),
            first: first.encode_to_vec(),
            hash: alh(header).to_vec(),
            other,
            known: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (tell, told) = mpsc::channel();
        let shared = state.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let Ok(listener) = listener else { return };
            if let Ok(address) = listener.local_addr() {
                // Who started it waits.
                let _ = tell.send(address);
            }
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let state = shared.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| answer(request, state.clone()));
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // A client that goes away is no fault.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self {
            address: told.recv_timeout(PATIENCE)?,
            state,
            _runtime: runtime,
        })
    }

    /// Seconds of all ticks that are over: from the first call to the last database's state.
    pub fn ticks(&self) -> Vec<f64> {
        self.state.known.lock().ticks.clone()
    }

    /// Waits until so many ticks are over.
    pub fn wait_for(&self, ticks: usize) -> Result<(), Fault> {
        let mut until = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            let now = self.state.known.lock().ticks.len();
            if now >= ticks {
                return Ok(());
            }
            if now > seen {
                seen = now;
                until = Instant::now() + PATIENCE;
            }
            if Instant::now() > until {
                return Err("the auditor did not audit in time".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Seconds from the first to the last time that headers were asked for, and how often.
    pub fn headers(&self) -> (f64, usize) {
        let known = self.state.known.lock();
        let times = known.headers.first().zip(known.headers.last());
        let seconds = times.map_or(0.0, |(first, last)| last.duration_since(*first).as_secs_f64());
        (seconds, known.headers.len())
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let call = parts.uri.path().rsplit('/').next().unwrap_or_default();
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("immudb-uuid", UUID);
    let message = body.get(5..).unwrap_or_default();
    let response = match state.answer(call, &parts.headers, message) {
        Some(message) => {
            let mut framed = BytesMut::with_capacity(5 + message.len());
            framed.put_u8(0);
            framed.put_u32(message.len() as u32);
            framed.put_slice(&message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(framed.freeze()).with_trailers(async move { Some(Ok(trailers)) });
            response.body(body.boxed_unsync())
        }
        None => response
            .header("grpc-status", "12")
            .header("grpc-message", "unknown method")
            .body(Full::default().boxed_unsync()),
    };
    // Of constants alone.
    Ok(response.unwrap_or_default())
}

impl State {
    /// The answer's message; none where the call or what it says isn't known.
    fn answer(&self, call: &str, headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
        let session = headers
            .get("sessionid")
            .and_then(|id| id.to_str().ok()?.parse::<usize>().ok());
        match call {
            "Health" => {
                self.known.lock().begin();
                let version = "1.11.1-bench".to_owned();
                Some(messages::HealthResponse { status: true, version }.encode_to_vec())
            }
            "OpenSession" => {
                let request = messages::OpenSessionRequest::decode(body).ok()?;
                let mut known = self.known.lock();
                known.sessions.push(request.database_name);
                let answer = messages::OpenSessionResponse {
                    session_id: (known.sessions.len() - 1).to_string(),
                    server_uuid: UUID.to_owned(),
                };
                Some(answer.encode_to_vec())
            }
            "KeepAlive" | "CloseSession" => Some(Vec::new()),
            "DatabaseListV2" => Some(self.list.clone()),
            "UseDatabase" => {
                let request = messages::Database::decode(body).ok()?;
                *self.known.lock().sessions.get_mut(session?)? = request.database_name;
                Some(messages::UseDatabaseReply::default().encode_to_vec())
            }
            "CurrentState" => {
                let mut known = self.known.lock();
                let db = known.sessions.get(session?)?.clone();
                if let Some((_, last)) = &mut known.tick {
                    *last = Some(Instant::now());
                }
                let (tx_id, tx_hash) = match &self.other {
                    Some(other) => located::state(other),
                    None => (1, self.hash.clone()),
                };
                let state = messages::ImmutableState {
                    db,
                    tx_id,
                    tx_hash,
                    signature: None,
                };
                Some(state.encode_to_vec())
            }
            "VerifiableTxById" => Some(self.first.clone()),
            "TxScan" => {
                self.known.lock().headers.push(Instant::now());
                let request = messages::TxScanRequest::decode(body).ok()?;
                let tx = proto::Tx {
                    header: Some(located::header(self.other.as_ref()?, request.initial_tx)?),
                    ..proto::Tx::default()
                };
                Some(proto::TxList { txs: vec![tx] }.encode_to_vec())
            }
            _ => None,
        }
    }
}

impl Known {
    /// The former tick is over, and the next one begins.
    fn begin(&mut self) {
        if let Some((begin, Some(end))) = self.tick.replace((Instant::now(), None)) {
            self.ticks.push(end.duration_since(begin).as_secs_f64());
        }
    }
}
