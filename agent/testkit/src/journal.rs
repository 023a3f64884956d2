//! A real journal in a temporary directory.

use std::path::Path;
use std::sync::{Arc, mpsc};

use auditmon_core::batch::push_agent_event;
use auditmon_core::emitter::SourceMetrics;
use auditmon_core::event::{Data, Draft, Kind};
use auditmon_core::plugin::Memory;
use auditmon_core::subscription::Events;
use auditmon_core::{Accepted, Emitter};
use auditmon_journal::format::{Body, source_hash};
use auditmon_journal::{AgentNote, Handle, Item, Linger, Options, RealFs, Records};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::PATIENCE;

/// Host name in events.
pub const HOST: &str = "testhost";

/// A journal to hand events to, and to take them from.
pub struct TestJournal {
    /// The journal.
    pub handle: Handle,
    /// Emitters refuse once it is cancelled.
    pub refuse: CancellationToken,
    _dir: Option<TempDir>,
}

impl Default for TestJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl TestJournal {
    /// A new one with small segments, in a directory of its own.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Self::open(dir.path(), |options| {
            options.segment_size = 1 << 20;
            options.reserve = 0;
        });
        // Events that say they are old are past retention; what the test reads is held.
        journal.handle.set_hold("test", Some(0));
        Self {
            _dir: Some(dir),
            ..journal
        }
    }

    /// The journal of this directory.
    #[must_use]
    pub fn open(dir: &Path, change: impl FnOnce(&mut Options)) -> Self {
        let note = |note: AgentNote, records: &mut Records| {
            let data = serde_json::json!({"note": format!("{note:?}")}).to_string();
            let draft = Draft {
                data: Data::Raw(&data),
                ..Draft::new("journal.note", "auditmon")
            };
            push_agent_event(records, HOST, draft).unwrap();
        };
        let mut options = Options::new(dir, HOST, Box::new(note));
        change(&mut options);
        let (writer, _) = auditmon_journal::open(RealFs, options).unwrap();
        Self {
            handle: writer.spawn(Box::new(|_| {})).unwrap(),
            refuse: CancellationToken::new(),
            _dir: None,
        }
    }

    /// A plugin's way into it.
    #[must_use]
    pub fn emitter(&self, plugin: &'static str, kind: Kind) -> Emitter {
        let metrics = SourceMetrics::new().unwrap();
        let (journal, refuse) = (self.handle.clone(), self.refuse.clone());
        Emitter::new(plugin, kind, Arc::from(HOST), journal, refuse, metrics)
    }

    /// What a plugin has committed to remember.
    #[must_use]
    pub fn memory(&self, plugin: &str) -> Memory {
        let (tell, told) = mpsc::channel();
        self.handle.states(source_hash(plugin), move |states| {
            // Nobody waits for so long.
            let _ = tell.send(states);
        });
        let states = told.recv_timeout(PATIENCE).unwrap().expect("the journal is open");
        let expiry = |ns: u64| (ns > 0).then_some(ns);
        states
            .into_iter()
            .map(|(key, state)| (key, (state.value, expiry(state.expiry_ns))))
            .collect()
    }

    /// One frame of events.
    pub async fn add(&self, kind: Kind, drafts: Vec<Draft<'_>>) -> Accepted {
        let emitter = self.emitter("ingest", kind);
        let mut batch = emitter.batch();
        for draft in drafts {
            batch.push(draft).unwrap();
        }
        emitter.emit(batch, Linger::NONE).await.unwrap()
    }

    /// One frame of `count` events that applications could have sent.
    pub async fn add_plain(&self, count: usize) -> Accepted {
        let drafts = (0..count).map(|_| Draft::new("login", "alice")).collect();
        self.add(Kind::Application, drafts).await
    }

    /// One frame without an event: a source remembers something.
    pub async fn add_state(&self, key: &[u8], value: &[u8]) {
        let emitter = self.emitter("ingest", Kind::Application);
        let mut batch = emitter.batch();
        batch.remember(key, None, value).unwrap();
        emitter.emit(batch, Linger::NONE).await.unwrap();
    }

    /// What a sink would be given from `seq` on.
    #[must_use]
    pub fn events(&self, seq: u64) -> Events {
        let mut events = Events::new(Arc::from(self.handle.origin()));
        let mut reader = self.handle.reader(seq);
        while let Some(item) = reader.next().unwrap() {
            match item {
                Item::Records(batch) => events.push(batch),
                Item::Gap(gap) => panic!("{gap:?}"),
            }
        }
        events
    }

    /// Follows it from the record `seq` on.
    #[must_use]
    pub fn follow(&self, seq: u64) -> Follower {
        Follower {
            handle: self.handle.clone(),
            seq,
        }
    }

    /// Closes it in order.
    pub fn close(&self) {
        assert!(self.handle.close(PATIENCE));
    }
}

/// Reads events of a journal as JSON.
pub struct Follower {
    handle: Handle,
    /// The next record.
    pub seq: u64,
}

impl Follower {
    /// Events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut reader = self.handle.reader(self.seq);
        while let Some(Item::Records(batch)) = reader.next().unwrap() {
            for entry in batch.iter() {
                if let Body::Whole { payload, .. } = entry.record.body
                    && entry.record.prefix.kind != Kind::State
                {
                    events.push(serde_json::from_slice(payload).unwrap());
                }
            }
        }
        self.seq = reader.seq();
        events
    }
}
