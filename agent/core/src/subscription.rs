//! How a sink is given what was accepted.
//!
//! [`Events`] are what one hand-over holds: references to [`Decoded`] parts of the journal, which all sinks near its
//! head share. Nothing is in them before it is on disk.

use std::sync::Arc;

use auditmon_journal::Batch as RawBatch;
use auditmon_journal::format::{Kind, Position};
use uuid::Uuid;

use crate::Batch;
use crate::members::Members;
use crate::time::Nanos;

mod decoded;

pub use decoded::Decoded;

/// Accepted events in order, each once. In a first attempt they follow each other without a gap; after a partial
/// receipt they are what is still pending, and then what follows.
#[derive(Clone)]
pub struct Events {
    origin: Arc<str>,
    parts: Vec<Part>,
    events: usize,
    bytes: usize,
    /// Where they end, with the part that has the record before.
    end: Option<(Arc<Decoded>, u64)>,
}

/// Some events of one decoded part.
#[derive(Clone)]
struct Part {
    decoded: Arc<Decoded>,
    picked: Picked,
}

/// Indices into a decoded part's events, ascending.
#[derive(Clone)]
enum Picked {
    Range { first: usize, end: usize },
    Some(Arc<[u32]>),
}

impl Part {
    fn len(&self) -> usize {
        match &self.picked {
            Picked::Range { first, end } => end - first,
            Picked::Some(list) => list.len(),
        }
    }

    fn index(&self, n: usize) -> usize {
        match &self.picked {
            Picked::Range { first, .. } => first + n,
            Picked::Some(list) => list.get(n).map_or(usize::MAX, |index| *index as usize),
        }
    }

    /// Whether the event at this index is one of them.
    fn has(&self, index: usize) -> bool {
        match &self.picked {
            Picked::Range { first, end } => (*first..*end).contains(&index),
            Picked::Some(list) => list.binary_search_by(|picked| (*picked as usize).cmp(&index)).is_ok(),
        }
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = Event<'_>> {
        (0..self.len()).filter_map(|n| self.decoded.event(self.index(n)))
    }
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
    decoded: &'a Decoded,
    index: usize,
}

impl<'a> Event<'a> {
    /// The members around `event_data`, without a parser. They are found once for all events near this one and all
    /// sinks; a sink that only passes the canonical bytes on does not ask. `None` if the bytes are not canonical, which
    /// those of an intact journal always are.
    #[must_use]
    pub fn members(&self) -> Option<Members<'a>> {
        let places = self.decoded.places(self.index)?;
        Some(Members::new(self.canonical, places))
    }
}

impl Events {
    /// None yet. Made by the runtime, and by tests and tools that [`push`](Self::push) what a reader of the journal
    /// gave; a test without a journal begins with [`of_batch`](Self::of_batch).
    #[must_use]
    pub fn new(origin: Arc<str>) -> Self {
        Self {
            origin,
            parts: Vec::new(),
            events: 0,
            bytes: 0,
            end: None,
        }
    }

    /// The events of a batch as if they had been accepted with the numbers from `first_seq` on: what the test of a sink
    /// needs. See [`Batch::detached`].
    #[must_use]
    pub fn of_batch(origin: &str, first_seq: u64, batch: Batch) -> Self {
        let mut events = Self::new(Arc::from(origin));
        events.push(RawBatch::from_records(first_seq, &batch.into_records()));
        events
    }

    /// Adds what follows.
    pub fn push(&mut self, batch: RawBatch) {
        let decoded = Arc::new(Decoded::new(batch));
        self.take(&decoded, 0, usize::MAX, usize::MAX);
    }

    /// For the runtime: adds what follows, the events of `decoded` from the record `from` on, until there are
    /// `max_events` or one more would make more than `max_bytes`; at least one if there is none yet. Returns the record
    /// with which to go on, `decoded.next_seq()` if all fit.
    pub fn take(&mut self, decoded: &Arc<Decoded>, from: u64, max_events: usize, max_bytes: usize) -> u64 {
        let first = decoded.first_at(from);
        let (mut end, mut next) = (first, from);
        while let Some((seq, bytes)) = decoded.size_of(end) {
            let fits = self.events < max_events && self.bytes.saturating_add(bytes) <= max_bytes;
            if !fits && self.events > 0 {
                break;
            }
            self.events += 1;
            self.bytes += bytes;
            next = seq + 1;
            end += 1;
        }
        if end == decoded.len() {
            // What sources remember, behind the last event, takes numbers too.
            next = decoded.next_seq().max(from);
        }
        if end > first {
            self.parts.push(Part {
                decoded: Arc::clone(decoded),
                picked: Picked::Range { first, end },
            });
        }
        if next > from {
            self.end = Some((Arc::clone(decoded), next));
        }
        next
    }

    /// For the runtime: only these of the events, by ascending places; those that are not here are left out.
    #[must_use]
    pub fn select(&self, seqs: &[u64]) -> Self {
        let mut selected = Self::new(Arc::clone(&self.origin));
        selected.end = self.end.clone();
        for part in &self.parts {
            let picked: Vec<u32> = (0..part.len())
                .map(|n| part.index(n))
                .filter_map(|index| {
                    let (seq, bytes) = part.decoded.size_of(index)?;
                    seqs.binary_search(&seq).ok()?;
                    selected.events += 1;
                    selected.bytes += bytes;
                    u32::try_from(index).ok()
                })
                .collect();
            if !picked.is_empty() {
                selected.parts.push(Part {
                    decoded: Arc::clone(&part.decoded),
                    picked: Picked::Some(picked.into()),
                });
            }
        }
        selected
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
        self.end.is_none()
    }

    /// The events in order; state and erased records are passed by.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Event<'_>> {
        self.parts.iter().flat_map(Part::iter)
    }

    /// The event at this place, if it is one of them.
    #[must_use]
    pub fn get(&self, seq: u64) -> Option<Event<'_>> {
        self.parts.iter().find_map(|part| {
            let index = part.decoded.find(seq)?;
            part.has(index).then(|| part.decoded.event(index)).flatten()
        })
    }

    /// The position of a sink that has delivered all of this.
    #[must_use]
    pub fn end(&self) -> Option<Position> {
        let (decoded, seq) = self.end.as_ref()?;
        Some(Position {
            origin: self.origin.to_string(),
            seq: *seq,
            leaf_hash: decoded.leaf_hash_before(*seq)?,
        })
    }

    /// The record behind the last of them, as in [`end`](Self::end), without its hash.
    #[must_use]
    pub fn end_seq(&self) -> Option<u64> {
        self.end.as_ref().map(|(_, seq)| *seq)
    }
}

#[cfg(test)]
mod tests;
