//! From a section of the configuration to a sink, as the runtime goes.

use std::sync::Arc;

use auditmon_core::health::HealthBoard;
use auditmon_core::keys::{Caller, Keys};
use auditmon_core::plugin::{BuildContext, BuiltSink, Entry, Make, PluginError, Start};
use auditmon_core::privileged::Control;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::receiver::Receiver;
use super::support::{events, file};
use crate::WebhookConfig;

struct NoKeys;

impl Keys for NoKeys {
    fn check(&self, _: &str) -> Option<Caller> {
        None
    }
    fn session(&self, _: &str) -> Option<Caller> {
        None
    }
    fn open_session(&self, _: &str) -> Option<String> {
        None
    }
}

async fn build(section: Value) -> Result<BuiltSink, PluginError> {
    let Make::Sink(plan) = Entry::sinks::<WebhookConfig>("webhook").make else {
        panic!("a sink")
    };
    let plan = plan(section).ok().unwrap().plan;
    let mut context = BuildContext {
        host: "h".into(),
        data_dir: "/".into(),
        origin: "h/00".into(),
        metrics: prometheus::Registry::new(),
        keys: Arc::new(NoKeys),
        control: Control::of_caller(plan.needs().files).unwrap(),
        reader: None,
        health: HealthBoard::default().reporter("webhook.test"),
        memory: Arc::new(tokio::sync::Semaphore::new(0)),
        routes: axum::Router::new(),
        named_routes: Default::default(),
        emitter: None,
    };
    plan.build(&mut context).await
}

#[tokio::test]
async fn a_built_sink_delivers_and_keeps_its_place_in_a_file() {
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    let mut sink = build(json!({"url": receiver.url})).await.unwrap().sink;
    sink.probe().await.unwrap();
    assert!(matches!(sink.start("h/00").await, Ok(Start::Cursor)));
    assert!(sink.write(&events(&["alice"]).await).await.unwrap().is_all());
    sink.close().await.unwrap();
    assert_eq!(receiver.users(), ["alice"]);
}

/// The file may be there at the next attempt.
#[tokio::test]
async fn a_file_that_is_not_there_may_come() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("token");
    let section = json!({"url": "http://localhost/", "bearer_file": path});
    let Err(PluginError::Transient(reason)) = build(section.clone()).await else {
        panic!("there is no file")
    };
    assert!(reason.contains("token: No such file"), "{reason}");
    file(dir.path(), "token", 0o600, "t0ken");
    assert!(build(section).await.is_ok());
}
