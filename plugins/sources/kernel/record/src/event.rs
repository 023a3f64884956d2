//! A reassembled event: its records in one buffer.

use crate::execve::{Argv, Joiner};
use crate::header;
use crate::header::Stamp;
use crate::kind::RecordType;

/// The records of one event in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Time of entry and serial; all zero if [`Event::unstamped`].
    pub stamp: Stamp,
    /// Arrival of the first record, monotonic nanoseconds.
    pub first_arrival: u64,
    /// Arrival of the last record, monotonic nanoseconds.
    pub last_arrival: u64,
    /// Records are known or feared to be missing: no EOE, no SYSCALL, or pushed out early.
    pub incomplete: bool,
    /// These records came after their event had been completed.
    pub late: bool,
    /// The only record has no readable head; its text is kept whole as the body.
    pub unstamped: bool,
    /// Set if not all records are kept.
    pub truncated: Option<Truncated>,
    pub(crate) argv: Option<Box<Argv>>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) index: Vec<Entry>,
}

/// What all records were, when only some are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Number of records that arrived.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// One record of an event, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its type.
    pub kind: RecordType,
    /// All bytes as the kernel sent them: `audit(…): …`.
    pub payload: &'a [u8],
    /// What follows the head.
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: RecordType,
    pub(crate) start: u32,
    pub(crate) body: u32,
    pub(crate) end: u32,
}

impl Event {
    /// Makes an event of records that are known to belong together, without reassembly; the
    /// stamp is the first readable one. For tests and for tools that read files.
    pub fn of_records<'a>(records: impl IntoIterator<Item = (RecordType, &'a [u8])>) -> Self {
        let mut event = Self {
            unstamped: true,
            ..Self::default()
        };
        for (kind, payload) in records {
            let body = match header::parse_at(payload) {
                Ok((stamp, body)) => {
                    if std::mem::take(&mut event.unstamped) {
                        event.stamp = stamp;
                    }
                    body
                }
                Err(_) => 0,
            };
            event.store(kind, payload, body);
        }
        event
    }

    /// The kept records in order of arrival.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> + Clone {
        self.index.iter().map(|entry| self.resolve(entry))
    }

    /// Number of kept records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Tells whether no record is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The record at a place, counted from 0.
    #[must_use]
    pub fn record(&self, at: usize) -> Option<Record<'_>> {
        self.index.get(at).map(|entry| self.resolve(entry))
    }

    /// Joins the arguments of an exec; `None` if the event has no EXECVE record.
    ///
    /// `joiner` lends its memory. Arguments whose records were too long to keep have been
    /// joined as they came.
    pub fn argv<'a>(&'a self, joiner: &'a mut Joiner) -> Option<&'a Argv> {
        if let Some(argv) = &self.argv {
            return Some(argv);
        }
        let mut bodies = self
            .records()
            .filter(|record| record.kind == RecordType::EXECVE)
            .map(|record| record.body)
            .peekable();
        bodies.peek()?;
        Some(joiner.join(bodies))
    }

    pub(crate) fn store(&mut self, kind: RecordType, payload: &[u8], body: usize) {
        // The reassembler keeps the buffer far below 4 GiB; of_records cuts there.
        let start = self.bytes.len();
        let Ok(end) = u32::try_from(start + payload.len()) else {
            return;
        };
        self.bytes.extend_from_slice(payload);
        let start = start as u32;
        self.index.push(Entry {
            kind,
            start,
            body: start + body as u32,
            end,
        });
    }

    /// Empties the event, keeping its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
        let (bytes, index) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.index));
        *self = Self {
            bytes,
            index,
            ..Self::default()
        };
    }

    fn resolve(&self, entry: &Entry) -> Record<'_> {
        let slice = |from: u32| self.bytes.get(from as usize..entry.end as usize).unwrap_or_default();
        Record {
            kind: entry.kind,
            payload: slice(entry.start),
            body: slice(entry.body),
        }
    }
}
