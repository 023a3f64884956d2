//! Where commands bring operators' words to: a route of the admin socket, and from there a channel to the task of the server
//! that the word is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use auditmon_core::http::{LocalUser, Problem};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::address::Endpoint;
use crate::config::Accept;
use crate::word::Order;

/// Most words that wait for one server.
const WAITING: usize = 8;

/// A word, and where its answer goes: what is trusted now, or why nothing has changed.
pub(crate) struct Request {
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Result<Value, String>>,
}

/// The words on one server, taken between its ticks.
pub(crate) type Orders = mpsc::Receiver<Request>;

/// The servers' channels, by name and by address.
#[derive(Default)]
pub(crate) struct Desk(BTreeMap<String, mpsc::Sender<Request>>);

impl Desk {
    /// A server's channel.
    pub(crate) fn open(&mut self, label: &str, endpoint: &Endpoint) -> Orders {
        let (sender, orders) = mpsc::channel(WAITING);
        // A name counts before another server's address.
        self.0.entry(endpoint.to_string()).or_insert_with(|| sender.clone());
        self.0.insert(label.to_owned(), sender);
        orders
    }

    fn server(&self, name: &str) -> Option<&mpsc::Sender<Request>> {
        let address = || Endpoint::parse(name).ok().map(|endpoint| endpoint.to_string());
        self.0.get(name).or_else(|| self.0.get(&address()?))
    }

    /// The routes at the admin socket.
    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/immudb/trust", post(trust))
            .with_state(Arc::new(self))
    }
}

/// The parameters of a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    server: String,
    database: String,
    reason: String,
    by: String,
    tx: Option<u64>,
    hash: Option<String>,
}

impl Asked {
    fn order(self, uid: u32) -> Result<Order, &'static str> {
        let named = self.tx.is_some() || self.hash.is_some();
        let accept = Accept {
            database: self.database,
            tx: self.tx.unwrap_or_default(),
            hash: self.hash,
            by: self.by,
            reason: self.reason,
        };
        accept.check()?;
        Ok(Order {
            database: accept.database.to_lowercase(),
            state: accept.state().filter(|_| named),
            by: accept.by,
            uid: Some(uid),
            reason: accept.reason,
            mark: None,
        })
    }
}

async fn trust(
    State(desk): State<Arc<Desk>>,
    Extension(LocalUser(uid)): Extension<LocalUser>,
    Query(asked): Query<Asked>,
) -> Response {
    let problem = |status, code, text: String| Problem::new(status, code, text).into_response();
    let Some(server) = desk.server(&asked.server).cloned() else {
        let text = format!("`sources.immudb` has no server {:?}", asked.server);
        return problem(StatusCode::NOT_FOUND, "not_found", text);
    };
    let order = match asked.order(uid) {
        Ok(order) => order,
        Err(says) => return problem(StatusCode::BAD_REQUEST, "invalid", says.to_owned()),
    };
    let down = || {
        let text = "the auditor of this server is not at work, or has many words to take; try again";
        problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text.to_owned())
    };
    let (answer, answered) = oneshot::channel();
    if server.try_send(Request { order, answer }).is_err() {
        return down();
    }
    // Should the command go away before its turn comes, nothing is done.
    match answered.await {
        Ok(Ok(trusted)) => Json(trusted).into_response(),
        Ok(Err(why)) => problem(StatusCode::CONFLICT, "refused", why),
        Err(_) => down(),
    }
}
