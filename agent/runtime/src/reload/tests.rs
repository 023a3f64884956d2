use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use auditmon_config::{Loaded, Request};
use auditmon_core::schema::RELOAD;
use serde_json::Value;

use super::*;
use crate::agent::{Agent, Setup};
use crate::prepare::prepare;
use crate::privileges::Privileges;

fn live_keys(schema: &Value, root: &Value, path: &str, out: &mut BTreeSet<String>) {
    if schema.get(RELOAD).is_some_and(|class| class == "live") {
        out.insert(path.to_owned());
    }
    let target = schema
        .get("$ref")
        .and_then(|reference| root.pointer(&reference.as_str()?[1..]));
    let properties = target.unwrap_or(schema).get("properties").and_then(Value::as_object);
    for (key, below) in properties.into_iter().flatten() {
        live_keys(below, root, &format!("{path}.{key}"), out);
    }
}

#[test]
fn every_key_that_is_called_live_is() {
    let schema = auditmon_config::schema(&[]);
    let mut keys = BTreeSet::new();
    live_keys(&schema, &schema, "", &mut keys);
    keys.retain(|path| !path.starts_with(".hosts"));
    let known: BTreeSet<String> = LIVE.iter().map(|path| format!(".{path}")).collect();
    let (tls, others): (BTreeSet<_>, BTreeSet<_>) = keys.into_iter().partition(|path| is_tls(&path[1..]));
    assert_eq!(others, known);
    assert_eq!(tls.len(), 3);
}

fn request(dir: &Path) -> Request {
    Request {
        file: Some(dir.join("config.yaml")),
        environment: Vec::new(),
        machine: "h".to_owned(),
        data_dir: Some(dir.join("data")),
        switches: Vec::new(),
        read: Arc::new(|path: &Path| std::fs::read(path)),
    }
}

fn load(request: &Request) -> Loaded {
    auditmon_config::load(request, &[]).unwrap()
}

/// Else one that read the older file could be the last to put it to work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_the_second_reads_after_the_first_is_done() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.yaml"), "http: {listen: \"127.0.0.1:0\"}\n").unwrap();
    let request = request(dir.path());
    let prepared = prepare(load(&request), dir.path().join("data"), Vec::new()).unwrap();
    let (reading, together) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (reads, most) = (Arc::clone(&reading), Arc::clone(&together));
    let setup = Setup {
        privileges: Privileges::of_caller(&prepared.wanted()),
        prepared,
        version: "0",
        load: Box::new(move |_| {
            most.fetch_max(reads.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for another one that does not wait to come.
            std::thread::sleep(Duration::from_millis(200));
            let loaded = load(&request);
            reads.fetch_sub(1, Ordering::SeqCst);
            Ok(loaded)
        }),
        set_logging: Box::new(|_| Ok(())),
    };
    let (agent, _) = Agent::start(setup).await.unwrap();
    let (one, other) = tokio::join!(agent.reload("one"), agent.reload("other"));
    assert_eq!((one.error, other.error), (None, None));
    assert_eq!(together.load(Ordering::SeqCst), 1, "they read together");
    agent.stop().await;
}
