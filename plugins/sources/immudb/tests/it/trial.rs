//! The source at work on a journal of its own.

use auditmon_core::event::Kind;
use auditmon_core::plugin::{PluginConfig as _, PluginError, needs_of};
use auditmon_source_immudb::ImmudbConfig;
use auditmon_testkit::journal::Follower;
use auditmon_testkit::{TestAgent, eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, PASSWORD, USER};

pub const PLUGIN: &str = "immudb";

pub struct Trial {
    pub agent: TestAgent,
    follower: Follower,
    stop: CancellationToken,
    run: JoinHandle<Result<(), PluginError>>,
    /// All events so far.
    pub events: Vec<Value>,
}

/// A section for one server, audited all the time, with an event each time.
pub fn section(fake: &Fake) -> Value {
    json!({
        "interval": "20ms", "every": true, "missing_after": "0s",
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
        let stop = CancellationToken::new();
        let (cx, _changes) = agent.run_context(PLUGIN, Kind::Immudb, stop.clone());
        let follower = agent.journal.follow(agent.journal.handle.durable());
        Self {
            follower,
            agent,
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

    /// Ends it in order.
    pub async fn stop(self) -> TestAgent {
        self.stop.cancel();
        self.run.await.unwrap().unwrap();
        self.agent
    }
}
