//! Events that were erased since the start, or are about to be: what of them is in memory is handed over to no sink
//! any more, and becomes no dead letter.

use std::collections::{BTreeMap, BTreeSet};

use auditmon_core::subscription::{Event, Events};
use parking_lot::RwLock;
use uuid::Uuid;

/// Who they are.
pub(crate) struct ErasedEvents {
    origin: String,
    events: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// Places in this journal, with their ids.
    places: BTreeMap<u64, Uuid>,
    /// Of other journals, or of which only dead letters know.
    ids: BTreeSet<Uuid>,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.ids.is_empty()
    }

    fn has(&self, own: bool, event: &Event<'_>) -> bool {
        own && self.places.contains_key(&event.seq) || self.ids.contains(&event.id)
    }
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
        self.events.write().places.insert(seq, id);
    }

    /// One whose place in this journal isn't known, or that has none; whether it is new.
    pub(crate) fn add_id(&self, id: Uuid) -> bool {
        self.events.write().ids.insert(id)
    }

    /// It isn't erased after all.
    pub(crate) fn remove_id(&self, id: Uuid) {
        self.events.write().ids.remove(&id);
    }

    /// Whether the event at this place is one of them.
    pub(crate) fn has(&self, events: &Events, seq: u64) -> bool {
        let erased = self.events.read();
        let own = events.origin() == self.origin;
        !erased.is_empty() && events.get(seq).is_some_and(|event| erased.has(own, &event))
    }

    /// Whether a line has the id of one of them.
    pub(crate) fn is_named_in(&self, line: &[u8]) -> bool {
        let erased = self.events.read();
        let mut ids = erased.places.values().chain(&erased.ids);
        ids.any(|id| names(line, id))
    }

    /// Without those that were erased; `None` if none was.
    pub(crate) fn without(&self, events: &Events) -> Option<Events> {
        let erased = self.events.read();
        let own = events.origin() == self.origin;
        if erased.is_empty() || !events.iter().any(|event| erased.has(own, &event)) {
            return None;
        }
        let left = events.iter().filter(|event| !erased.has(own, event));
        let left: Vec<u64> = left.map(|event| event.seq).collect();
        Some(events.select(&left))
    }
}

/// Whether an id stands in a line.
pub(crate) fn names(line: &[u8], id: &Uuid) -> bool {
    let mut buffer = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut buffer).as_bytes();
    line.windows(text.len()).any(|window| window == text)
}
