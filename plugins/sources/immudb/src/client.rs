//! A client of one immudb server: calls with deadlines, logins that are kept.
//!
//! | module | what it holds |
//! |---|---|
//! | `bound` | how much an answer may hold |
//! | `connect` | the connection, TLS |
//! | `fault` | what an error of a server means |
//! | `seat` | a login, and the database it is on |
//! | `wire` | answers as the verifier takes them |

pub(crate) mod bound;
pub(crate) mod connect;
pub(crate) mod fault;
pub(crate) mod seat;
pub(crate) mod wire;

use std::time::Duration;

use auditmon_proto::immudb as proto;
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use prost::Message;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint as Target};

use crate::address::Endpoint;
use crate::config::Login;
use crate::secret::Credentials;

use bound::{Answered, Bounded, MANY};

pub(crate) use fault::Fault;
pub(crate) use seat::Seat;

/// The header in which a server names itself.
const UUID: &str = "immudb-uuid";
/// Longest name of a server that is kept; they have 20 characters.
const MAX_UUID: usize = 64;
/// Longest version of a server that is kept.
const MAX_VERSION: usize = 64;
/// Most headers of one answer: servers up to 1.5 give no more.
pub(crate) const PAGE: u32 = 1_000;
/// Entries with values as they are stored, since 1.2.3.
const RAW_VALUE: i32 = 2;
/// Most databases of one server; further ones that are new are not looked at.
pub(crate) const MAX_DATABASES: usize = 10_000;

macro_rules! rpc {
    ($name:literal) => {
        http::uri::PathAndQuery::from_static(concat!("/immudb.schema.ImmuService/", $name))
    };
}

pub(crate) use rpc;

/// An answer and the server's name on it.
pub(crate) struct Answer<T> {
    pub(crate) message: T,
    pub(crate) uuid: Option<String>,
}

/// A database that a server lists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Whether it can be read; older servers don't say.
    pub(crate) loaded: bool,
}

/// Which value of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// The one that this transaction set.
    Tx(u64),
    /// The last one; the index has to have reached a transaction.
    Now {
        /// That transaction.
        since: u64,
    },
}

/// One server.
pub(crate) struct Client {
    pub(crate) endpoint: Endpoint,
    target: Target,
    /// Made by the first call.
    channel: Mutex<Option<Channel>>,
    credentials: Option<Credentials>,
    login: Login,
    timeout: Duration,
    max_message: usize,
}

impl Client {
    pub(crate) fn new(
        endpoint: Endpoint,
        target: Target,
        credentials: Option<Credentials>,
        login: Login,
        timeout: Duration,
        max_message: usize,
    ) -> Self {
        Self {
            channel: Mutex::default(),
            endpoint,
            target,
            credentials,
            login,
            timeout,
            max_message,
        }
    }

    /// The same server on a connection of its own, for calls without a login. It knows the password so that no text of
    /// the server's that repeats it is shown.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            channel: Mutex::default(),
            endpoint: self.endpoint.clone(),
            target: self.target.clone(),
            credentials: self.credentials.clone(),
            login: self.login,
            timeout: self.timeout,
            max_message: self.max_message,
        }
    }

    /// Takes a new connection from now on; for one that no longer answers.
    pub(crate) fn reconnect(&self) {
        *self.channel.lock() = None;
    }

    async fn call<Q, A>(&self, path: PathAndQuery, auth: &MetadataMap, message: Q) -> Result<Answer<A>, Fault>
    where
        Q: Message + 'static,
        A: Answered,
    {
        self.call_for(path, auth, message, MANY).await
    }

    /// A call whose answer has at most so many elements.
    async fn call_for<Q, A>(
        &self,
        path: PathAndQuery,
        auth: &MetadataMap,
        message: Q,
        most: usize,
    ) -> Result<Answer<A>, Fault>
    where
        Q: Message + 'static,
        A: Answered,
    {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = auth.clone();
        let channel = {
            let mut channel = self.channel.lock();
            channel.get_or_insert_with(|| self.target.connect_lazy()).clone()
        };
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(self.max_message);
        let answered = tokio::time::timeout(self.timeout, async {
            let ready = grpc.ready().await;
            ready.map_err(|error| Fault::Unreachable(connect::explain(&error)))?;
            let answer = grpc.unary(request, path, Bounded::new(most)).await;
            answer.map_err(|status| fault::of(&status, self.credentials.as_ref()))
        });
        let answer = answered.await.map_err(|_| Fault::Timeout(self.timeout))??;
        let uuid = answer.metadata().get(UUID).and_then(|uuid| uuid.to_str().ok());
        Ok(Answer {
            uuid: uuid.filter(|uuid| !uuid.is_empty()).map(named),
            message: answer.into_inner(),
        })
    }

    /// Version and name, without a login.
    pub(crate) async fn health(&self) -> Result<Answer<proto::HealthResponse>, Fault> {
        self.call(rpc!("Health"), &MetadataMap::new(), proto::Empty {}).await
    }

    /// All databases that the login may read.
    pub(crate) async fn list(&self, seat: &Seat) -> Result<Vec<Listed>, Fault> {
        let v2 = self.call(rpc!("DatabaseListV2"), seat.auth(), proto::Empty {}).await;
        let mut listed: Vec<Listed> = match v2 {
            Ok(Answer { message, .. }) => {
                let message: proto::DatabaseListResponseV2 = message;
                let databases = message.databases.into_iter();
                databases
                    .map(|database| Listed {
                        name: database.name,
                        loaded: database.loaded,
                    })
                    .collect()
            }
            Err(Fault::Unimplemented) => {
                let v1 = self.call(rpc!("DatabaseList"), seat.auth(), proto::Empty {}).await?;
                let message: proto::DatabaseListResponse = v1.message;
                let databases = message.databases.into_iter();
                databases
                    .map(|database| Listed {
                        name: database.database_name,
                        loaded: true,
                    })
                    .collect()
            }
            Err(fault) => return Err(fault),
        };
        listed.retain(|database| is_name(&database.name));
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed.dedup_by(|a, b| a.name == b.name);
        Ok(listed)
    }

    /// The state of the database that the seat is on.
    pub(crate) async fn state(&self, seat: &Seat) -> Result<Answer<proto::ImmutableState>, Fault> {
        self.call(rpc!("CurrentState"), seat.auth(), proto::Empty {}).await
    }

    /// A proof between two transactions.
    pub(crate) async fn proof(&self, seat: &Seat, tx: u64, since: u64) -> Result<Answer<proto::VerifiableTx>, Fault> {
        let request = proto::VerifiableTxRequest {
            tx,
            prove_since_tx: since,
            entries_spec: Some(proto::EntriesSpec::default()),
            keep_references_unresolved: true,
        };
        self.call(rpc!("VerifiableTxById"), seat.auth(), request).await
    }

    /// Headers from a transaction on; at most so many as one answer holds.
    pub(crate) async fn headers(&self, seat: &Seat, from: u64, most: u64) -> Result<Answer<proto::TxList>, Fault> {
        let limit = limit(most);
        let request = proto::TxScanRequest {
            initial_tx: from,
            limit,
            entries_spec: Some(proto::EntriesSpec::default()),
            since_tx: 1,
        };
        self.call_for(rpc!("TxScan"), seat.auth(), request, limit as usize)
            .await
    }

    /// The same with all entries; or with those entries whose values the server gives, and the values.
    pub(crate) async fn entries(
        &self,
        seat: &Seat,
        from: u64,
        most: u64,
        values: bool,
    ) -> Result<Answer<proto::FullTxList>, Fault> {
        let with = Some(proto::EntryTypeSpec { action: RAW_VALUE });
        let spec = proto::EntriesSpec {
            kv_entries_spec: with,
            z_entries_spec: with,
            sql_entries_spec: with,
        };
        let limit = limit(most);
        let request = proto::TxScanRequest {
            initial_tx: from,
            limit,
            entries_spec: values.then_some(spec),
            since_tx: 1,
        };
        self.call_for(rpc!("TxScan"), seat.auth(), request, limit as usize)
            .await
    }

    /// What a key is set to, with a proof: at one transaction, or now, as the index has it that has reached another.
    pub(crate) async fn get(
        &self,
        seat: &Seat,
        key: &[u8],
        at: At,
        prove_since_tx: u64,
    ) -> Result<Answer<proto::VerifiableEntry>, Fault> {
        let (at_tx, since_tx) = match at {
            At::Tx(tx) => (tx, 0),
            At::Now { since } => (0, since),
        };
        let request = proto::VerifiableGetRequest {
            key_request: Some(proto::KeyRequest {
                key: key.to_vec(),
                at_tx,
                since_tx,
            }),
            prove_since_tx,
        };
        self.call(rpc!("VerifiableGet"), seat.auth(), request).await
    }
}

/// How many transactions to ask for.
fn limit(most: u64) -> u32 {
    u32::try_from(most).unwrap_or(PAGE).clamp(1, PAGE)
}

/// What a server says of its version, as far as that is kept.
pub(crate) fn version(health: &proto::HealthResponse) -> String {
    auditmon_core::event::cut(&health.version, MAX_VERSION).to_owned()
}

pub(crate) fn named(uuid: &str) -> String {
    auditmon_core::event::cut(uuid, MAX_UUID).to_owned()
}

/// Whether a database can have this name; others are not looked at, so that none ends up in another's place.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))
}

/// A credential as a header carries it; never shown.
fn header(text: &str) -> Result<AsciiMetadataValue, Fault> {
    let mut value = AsciiMetadataValue::try_from(text)
        .map_err(|_| Fault::Malformed("a token or session that no header can carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
