//! How a sink is given what was accepted.

use auditmon_journal::format::{Kind, Position, leaf_hash};
use auditmon_journal::{Batch as RawBatch, Gap};
use uuid::Uuid;

use crate::time::Nanos;

/// Accepted events in order, some of the journal's frames at once. Nothing is in here before it is on disk.
pub struct Events {
    origin: std::sync::Arc<str>,
    batches: Vec<RawBatch>,
    events: usize,
    bytes: usize,
}

/// One accepted event.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// Its place in the journal.
    pub seq: u64,
    /// Its id.
    pub id: Uuid,
    /// When it was received.
    pub received: Nanos,
    /// Its kind.
    pub kind: Kind,
    /// The salt of its commitment.
    pub salt: [u8; 16],
    /// Its canonical bytes.
    pub canonical: &'a [u8],
}

impl Events {
    /// Made by the runtime.
    #[must_use]
    pub fn new(origin: std::sync::Arc<str>) -> Self {
        Self {
            origin,
            batches: Vec::new(),
            events: 0,
            bytes: 0,
        }
    }

    /// Adds what follows.
    pub fn push(&mut self, batch: RawBatch) {
        for entry in batch.iter() {
            if let Some(payload) = entry
                .record
                .payload()
                .filter(|_| entry.record.prefix.kind != Kind::State)
            {
                self.events += 1;
                self.bytes += payload.len();
            }
        }
        self.batches.push(batch);
    }

    /// The journal that they are from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events
    }

    /// Whether there are none; state records alone still move the position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Canonical bytes of all events together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is not even a state record.
    #[must_use]
    pub fn has_no_records(&self) -> bool {
        self.batches.is_empty()
    }

    /// The events in order; state and erased records are passed by.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        self.batches.iter().flat_map(RawBatch::iter).filter_map(|entry| {
            use auditmon_journal::format::Body;
            let prefix = entry.record.prefix;
            match entry.record.body {
                Body::Whole { salt, payload } if prefix.kind != Kind::State => Some(Event {
                    seq: entry.seq,
                    id: Uuid::from_bytes(prefix.event_id),
                    received: prefix.received_ns,
                    kind: prefix.kind,
                    salt,
                    canonical: payload,
                }),
                _ => None,
            }
        })
    }

    /// The position of a sink that has delivered all of this.
    #[must_use]
    pub fn end(&self) -> Option<Position> {
        let last = self.batches.last()?.iter().last()?;
        Some(Position {
            origin: self.origin.to_string(),
            seq: last.seq + 1,
            leaf_hash: leaf_hash(&last.record.leaf()),
        })
    }
}

/// What a sink is given next.
pub enum Delivery {
    /// Events to write.
    Events(Events),
    /// A range that can't be read any more: damaged or past retention.
    Gap(Gap),
}
