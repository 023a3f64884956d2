//! Events from a real journal, and sinks from a section of the configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auditmon_core::Emitter;
use auditmon_core::batch::push_agent_event;
use auditmon_core::delivery::Receipt;
use auditmon_core::emitter::SourceMetrics;
use auditmon_core::event::{Data, Draft, EventView, Kind};
use auditmon_core::plugin::{Faults, PluginConfig as _, Sink as _, needs_of};
use auditmon_core::privileged::Control;
use auditmon_core::subscription::Events;
use auditmon_journal::{Item, Linger, Options, RealFs};
use serde_json::{Value, json};

use crate::config::WebhookConfig;
use crate::sink::Webhook;

/// One event by each user of the list, with `bytes` of data each.
pub async fn events_of(users: &[&str], bytes: usize) -> Events {
    let dir = tempfile::TempDir::new().unwrap();
    let note = |_, records: &mut _| {
        push_agent_event(records, "h", Draft::new("journal", "agent")).unwrap();
    };
    let options = Options {
        segment_size: 4 << 20,
        reserve: 0,
        ..Options::new(dir.path(), "h", Box::new(note))
    };
    let (writer, _) = auditmon_journal::open(RealFs, options).unwrap();
    let journal = writer.spawn(Box::new(|_| ())).unwrap();
    let emitter = Emitter::new(
        "ingest",
        Kind::Application,
        Arc::from("h"),
        journal.clone(),
        tokio_util::sync::CancellationToken::new(),
        SourceMetrics::new().unwrap(),
    );
    let data = format!(r#"{{"fill":"{}"}}"#, "x".repeat(bytes));
    let mut batch = emitter.batch();
    for user in users {
        let draft = Draft {
            data: Data::Raw(&data),
            ..Draft::new("did", user)
        };
        batch.push(draft).unwrap();
    }
    emitter.emit(batch, Linger::NONE).await.unwrap();
    let mut events = Events::new(Arc::from(journal.origin()));
    let Some(Item::Records(batch)) = journal.reader(0).next().unwrap() else {
        panic!("the journal has nothing")
    };
    events.push(batch);
    assert_eq!(events.len(), users.len());
    events
}

/// Small ones.
pub async fn events(users: &[&str]) -> Events {
    events_of(users, 0).await
}

/// Places of the events of one user.
pub fn seqs(events: &Events, user: &str) -> Vec<u64> {
    events
        .iter()
        .filter(|event| EventView::parse(event.canonical).unwrap().username == user)
        .map(|event| event.seq)
        .collect()
}

/// A configuration; keys of `more` come to the URL.
pub fn config(url: &str, more: Value) -> WebhookConfig {
    let mut section = json!({"url": url});
    section
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let config: WebhookConfig = serde_json::from_value(section).unwrap();
    let mut faults = Faults::default();
    config.validate(&mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    config
}

/// A sink.
pub fn sink(url: &str, more: Value) -> Webhook {
    open(config(url, more)).unwrap()
}

/// Builds it as the runtime does.
pub fn open(config: WebhookConfig) -> Result<Webhook, String> {
    let control = Control::of_caller(needs_of(&config).files).unwrap();
    config.open(&control)
}

/// Hands over, and expects that the sink goes on.
pub async fn write(sink: &mut Webhook, events: &Events) -> Receipt {
    let receipt = sink.write(events).await.unwrap();
    assert_eq!(receipt.retry.is_some(), !receipt.pending.is_empty(), "{receipt:?}");
    assert!(receipt.pending.is_sorted(), "{receipt:?}");
    receipt
}

/// The reason for another attempt.
pub fn reason(receipt: &Receipt) -> &str {
    &receipt.retry.as_ref().unwrap().reason
}

/// A file with a mode.
pub fn file(dir: &Path, name: &str, mode: u32, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}
