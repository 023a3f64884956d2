//! The source at work on a journal of its own.

use auditmon_core::event::Kind;
use auditmon_core::http::LocalUser;
use auditmon_core::plugin::{ADMIN, PluginConfig as _, PluginError, needs_of};
use auditmon_source_immudb::ImmudbConfig;
use auditmon_testkit::journal::Follower;
use auditmon_testkit::{TestAgent, eventually};
use axum::Router;
use axum::http::Request;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::fake::{Fake, PASSWORD, USER};

pub const PLUGIN: &str = "immudb";

pub struct Trial {
    pub agent: TestAgent,
    /// What commands reach.
    admin: Router,
    /// On the agent's listener.
    pub shared: Router,
    /// The monitoring server of the auditor that is replaced.
    pub monitoring: Option<Router>,
    follower: Follower,
    stop: CancellationToken,
    run: JoinHandle<Result<(), PluginError>>,
    /// All events so far.
    pub events: Vec<Value>,
}

/// A section for one server, audited all the time, with an event each time, and nothing beside the audits.
pub fn section(fake: &Fake) -> Value {
    json!({
        "interval": "20ms", "every": true, "missing_after": "0s", "past_calls": 0,
        "value_calls": 0,
        "servers": [{"address": fake.address.to_string(), "name": "db1", "username": USER, "password": PASSWORD}],
    })
}

impl Trial {
    pub async fn start(section: Value) -> Self {
        Self::go_on(TestAgent::new(), section).await
    }

    /// On the journal of another life.
    pub async fn go_on(agent: TestAgent, section: Value) -> Self {
        let config: ImmudbConfig = serde_json::from_value(section).unwrap();
        // Not validated: tests have shorter intervals than users.
        let mut cx = agent.build_context(PLUGIN, Some(Kind::Immudb), needs_of(&config));
        let source = config.build(&mut cx).await.unwrap();
        let admin = cx.named_routes.remove(ADMIN).unwrap();
        let shared = std::mem::take(&mut cx.routes);
        let monitoring = cx.named_routes.remove("immuclient");
        let stop = CancellationToken::new();
        let (cx, _changes) = agent.run_context(PLUGIN, Kind::Immudb, stop.clone());
        let follower = agent.journal.follow(agent.journal.handle.durable());
        Self {
            follower,
            agent,
            admin,
            shared,
            monitoring,
            stop,
            run: tokio::spawn(source.run(cx)),
            events: Vec::new(),
        }
    }

    /// The next event that is as wanted, and comes after this call.
    pub async fn next(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (follower, events) = (&mut self.follower, &mut self.events);
        events.extend(follower.events());
        let from = events.len();
        eventually(what, || {
            events.extend(follower.events());
            events[from..].iter().find(|event| wanted(event)).cloned()
        })
        .await
    }

    /// An event of this life, whenever it comes.
    pub async fn ever(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (follower, events) = (&mut self.follower, &mut self.events);
        eventually(what, || {
            events.extend(follower.events());
            events.iter().find(|event| wanted(event)).cloned()
        })
        .await
    }

    /// The first verdict on a database.
    pub async fn first(&mut self, db: &str) -> Value {
        self.checked(db, "first-seen").await
    }

    /// The verdict of a walk on a database.
    pub async fn walked(&mut self, db: &str) -> Value {
        self.checked(db, "walk").await
    }

    async fn checked(&mut self, db: &str, how: &str) -> Value {
        let wanted = |event: &Value| {
            let data = &event["event_data"];
            data["database"] == db && data["checked"] == how
        };
        self.ever(&format!("{db}: {how}"), wanted).await
    }

    /// The next verdict on a database.
    pub async fn verdict(&mut self, db: &str, result: &str, code: &str) -> Value {
        let wanted = |event: &Value| {
            let data = &event["event_data"];
            let code_is = [&data["code"], &data["reason"], &data["checked"]].contains(&&json!(code));
            data["database"] == db && data["result"] == result && (code.is_empty() || code_is)
        };
        self.next(&format!("{db} is {result} {code}"), wanted).await
    }

    /// What is remembered of a database.
    pub fn trusted(&self, db: &str) -> Option<Value> {
        let memory = self.agent.journal.memory(PLUGIN);
        let end = format!("/{db}");
        let mut found = memory.iter().filter(|(key, _)| key.ends_with(end.as_bytes()));
        found
            .next()
            .map(|(_, (value, _))| serde_json::from_slice(value).unwrap())
    }

    /// Says that a database is trusted again; status and answer.
    pub async fn trust(&self, query: &str) -> (u16, Value) {
        let request = Request::post(format!("/immudb/trust?{query}"));
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(LocalUser(1234));
        let response = self.admin.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Ends it in order.
    pub async fn stop(self) -> TestAgent {
        self.stop.cancel();
        self.run.await.unwrap().unwrap();
        self.agent
    }
}
