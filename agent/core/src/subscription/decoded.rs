//! A part of the journal as all sinks share it.

use std::sync::OnceLock;

use auditmon_journal::Batch as RawBatch;
use auditmon_journal::format::{Body, Kind, leaf_hash, parse_record};
use uuid::Uuid;

use super::Event;
use crate::members::Places;

/// Records that follow each other, decoded once: where each event begins, and, as soon as one sink asks for them, where
/// its members are.
pub struct Decoded {
    batch: RawBatch,
    index: Box<[Slot]>,
    /// Where the last record begins.
    last: usize,
    pub(super) places: OnceLock<Box<[Option<Places>]>>,
}

/// An event's place in the journal and in the bytes.
struct Slot {
    seq: u64,
    at: u32,
    /// Of its canonical form.
    bytes: u32,
}

impl Decoded {
    /// Finds the events of a batch.
    #[must_use]
    pub fn new(batch: RawBatch) -> Self {
        let (mut at, mut last) = (0, 0);
        let mut index = Vec::new();
        let mut seq = batch.first_seq();
        // They were checked when they were read: an error can't come.
        while let Some(Ok((record, length))) = batch.as_bytes().get(at..).map(parse_record) {
            if let (true, Some(payload)) = (record.prefix.kind != Kind::State, record.payload())
                && let (Ok(at), Ok(bytes)) = (u32::try_from(at), u32::try_from(payload.len()))
            {
                index.push(Slot { seq, at, bytes });
            }
            last = at;
            at += length;
            seq += 1;
        }
        Self {
            batch,
            index: index.into(),
            last,
            places: OnceLock::new(),
        }
    }

    /// Seq of the first record.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.batch.first_seq()
    }

    /// Seq behind the last record.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.batch.next_seq()
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it has no events, only what sources remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of memory that it takes at most, the members' places included.
    #[must_use]
    pub fn memory(&self) -> usize {
        let event = size_of::<Slot>() + size_of::<Option<Places>>();
        size_of::<Self>() + self.batch.bytes() + self.index.len() * event
    }

    /// When the first of its events was received.
    #[must_use]
    pub fn oldest(&self) -> Option<crate::time::Nanos> {
        self.event(0).map(|event| event.received)
    }

    pub(super) fn event(&self, index: usize) -> Option<Event<'_>> {
        let slot = self.index.get(index)?;
        let (record, _) = parse_record(self.batch.as_bytes().get(slot.at as usize..)?).ok()?;
        let Body::Whole { salt, payload } = record.body else {
            return None;
        };
        Some(Event {
            seq: slot.seq,
            id: Uuid::from_bytes(record.prefix.event_id),
            received: record.prefix.received_ns,
            kind: record.prefix.kind,
            salt,
            canonical: payload,
            decoded: self,
            index,
        })
    }

    pub(super) fn places(&self, index: usize) -> Option<&Places> {
        let places = self.places.get_or_init(|| {
            let find = |index| Places::find(self.event(index)?.canonical);
            (0..self.index.len()).map(find).collect()
        });
        places.get(index)?.as_ref()
    }

    /// Index of the first event at or behind `seq`.
    pub(super) fn first_at(&self, seq: u64) -> usize {
        self.index.partition_point(|slot| slot.seq < seq)
    }

    /// Index of the event at `seq`.
    pub(super) fn find(&self, seq: u64) -> Option<usize> {
        self.index.binary_search_by_key(&seq, |slot| slot.seq).ok()
    }

    /// Place and canonical bytes of an event.
    pub(super) fn size_of(&self, index: usize) -> Option<(u64, usize)> {
        self.index.get(index).map(|slot| (slot.seq, slot.bytes as usize))
    }

    /// Leaf hash of the record before `seq`, if that is an event of this part or its last record.
    pub(super) fn leaf_hash_before(&self, seq: u64) -> Option<[u8; 32]> {
        let at = if seq == self.next_seq() {
            self.last
        } else {
            let index = self.find(seq.checked_sub(1)?)?;
            self.index.get(index)?.at as usize
        };
        let (record, _) = parse_record(self.batch.as_bytes().get(at..)?).ok()?;
        Some(leaf_hash(&record.leaf()))
    }
}
