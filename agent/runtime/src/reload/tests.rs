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

/// An agent without plugins, configured by this file in `dir`; `around` is told before and after each time it is read
/// again.
async fn started(dir: &Path, config: &str, around: impl Fn(bool) + Send + Sync + 'static) -> Agent {
    write(dir, config);
    let request = request(dir);
    let prepared = prepare(load(&request), dir.join("data"), Vec::new()).unwrap();
    let setup = Setup {
        privileges: Privileges::of_caller(&prepared.wanted()),
        prepared,
        version: "0",
        load: Box::new(move |_| {
            around(true);
            let loaded = load(&request);
            around(false);
            Ok(loaded)
        }),
        set_logging: Box::new(|_| Ok(())),
    };
    Agent::start(setup).await.unwrap().0
}

fn write(dir: &Path, config: &str) {
    std::fs::write(dir.join("config.yaml"), config).unwrap();
}

/// Else one that read the older file could be the last to put it to work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_the_second_reads_after_the_first_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (reading, together) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let most = Arc::clone(&together);
    let around = move |begins| {
        if begins {
            most.fetch_max(reading.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for another one that does not wait to come.
            std::thread::sleep(Duration::from_millis(200));
        } else {
            reading.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let agent = started(dir.path(), "http: {listen: \"127.0.0.1:0\"}\n", around).await;
    let (one, other) = tokio::join!(agent.reload("one"), agent.reload("other"));
    assert_eq!((one.error, other.error), (None, None));
    assert_eq!(together.load(Ordering::SeqCst), 1, "they read together");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_longer_configured_is_opened_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    for name in ["old", "new"] {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(file(&format!("{name}.crt")), made.cert.pem()).unwrap();
        std::fs::write(file(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file(&format!("{name}.key")), owner_only).unwrap();
    }
    let config = |name: &str| {
        let (cert, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
        let (cert, key) = (cert.display(), key.display());
        format!("http: {{listen: \"127.0.0.1:0\", tls: {{cert_file: {cert}, key_file: {key}}}}}\n")
    };
    let agent = started(dir.path(), &config("old"), |_| ()).await;
    let control = agent.0.parts.privileges.control.clone();
    assert!(control.read_file(&file("old.key")).is_ok());
    assert!(control.read_file(&file("new.key")).is_err());
    write(dir.path(), &config("new"));
    assert_eq!(agent.reload("test").await.error, None);
    assert!(control.read_file(&file("new.key")).is_ok());
    assert!(control.read_file(&file("old.key")).is_err());
    // One that can't work changes nothing.
    write(dir.path(), &config("gone"));
    assert!(agent.reload("test").await.error.is_some());
    assert!(control.read_file(&file("new.key")).is_ok());
    assert!(control.read_file(&file("gone.key")).is_err());
    agent.stop().await;
}
