//! Events that were erased since the start, or are about to be: what of them is in memory is handed over to no sink
//! any more, and becomes no dead letter.

use std::collections::BTreeMap;

use auditmon_core::subscription::Events;
use parking_lot::RwLock;
use uuid::Uuid;

/// Their places in the journal, with their ids.
pub(crate) struct ErasedEvents {
    origin: String,
    events: RwLock<BTreeMap<u64, Uuid>>,
}

impl ErasedEvents {
    /// None of this journal yet.
    pub(crate) fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            events: RwLock::default(),
        }
    }

    pub(crate) fn add(&self, seq: u64, id: Uuid) {
        self.events.write().insert(seq, id);
    }

    /// Whether the event of this journal at this place is one of them.
    pub(crate) fn has(&self, origin: &str, seq: u64) -> bool {
        let events = self.events.read();
        !events.is_empty() && origin == self.origin && events.contains_key(&seq)
    }

    /// Whether a line has the id of one of them.
    pub(crate) fn is_named_in(&self, line: &[u8]) -> bool {
        self.events.read().values().any(|id| names(line, id))
    }

    /// Without those that were erased; `None` if none was.
    pub(crate) fn without(&self, events: &Events) -> Option<Events> {
        let erased = self.events.read();
        if erased.is_empty() || events.origin() != self.origin || !events.iter().any(|e| erased.contains_key(&e.seq)) {
            return None;
        }
        let places = events.iter().map(|event| event.seq);
        let left: Vec<u64> = places.filter(|seq| !erased.contains_key(seq)).collect();
        Some(events.select(&left))
    }
}

/// Whether an id stands in a line.
pub(crate) fn names(line: &[u8], id: &Uuid) -> bool {
    let mut buffer = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut buffer).as_bytes();
    line.windows(text.len()).any(|window| window == text)
}
