//! Events that wait to be accepted.
//!
//! A batch that the journal refuses is gone, and the kernel cannot be asked
//! again: so events are kept here, and a batch is made of them as often as
//! it takes.

use std::ops::Range;
use std::time::Instant;

use auditmon_core::time::Nanos;
use auditmon_core::{Batch, Data, Draft, Emitter, Outcome, Severity};

/// Events in one batch at most; a frame of the journal holds 10,000.
pub(crate) const MAX_EVENTS: usize = 9_000;

/// One event, its texts in the arena.
#[derive(Debug)]
struct Event {
    agent: bool,
    time: Nanos,
    name: Range<usize>,
    username: Range<usize>,
    resource: Option<Range<usize>>,
    outcome: Outcome,
    severity: Severity,
    data: Range<usize>,
    serial: Option<u32>,
}

/// What [`Pending::push`] takes besides the data.
pub(crate) struct Head<'a> {
    /// Of kind agent: about this source itself.
    pub(crate) agent: bool,
    pub(crate) time: Nanos,
    pub(crate) name: &'a str,
    pub(crate) username: &'a str,
    pub(crate) resource: Option<&'a str>,
    pub(crate) outcome: Outcome,
    pub(crate) severity: Severity,
    /// The kernel's serial, if it is an event of the kernel.
    pub(crate) serial: Option<u32>,
}

/// Events in order, in one arena that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    arena: Vec<u8>,
    events: Vec<Event>,
    since: Option<Instant>,
    /// What goes into the same frame: keys and values.
    states: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pending {
    /// Adds an event; `data` appends one JSON object.
    pub(crate) fn push(&mut self, head: &Head<'_>, data: impl FnOnce(&mut Vec<u8>)) {
        let name = self.text(head.name);
        let username = self.text(head.username);
        let resource = head.resource.map(|resource| self.text(resource));
        let start = self.arena.len();
        data(&mut self.arena);
        let data = start..self.arena.len();
        self.since.get_or_insert_with(Instant::now);
        self.events.push(Event {
            agent: head.agent,
            time: head.time,
            name,
            username,
            resource,
            outcome: head.outcome,
            severity: head.severity,
            data,
            serial: head.serial,
        });
    }

    fn text(&mut self, text: &str) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(text.as_bytes());
        start..self.arena.len()
    }

    /// Adds what goes into the same frame.
    pub(crate) fn add_state(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.states.push((key, value));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.arena.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// When the oldest event came in.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Forgets everything, keeps the memory unless it has grown large.
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.arena.shrink_to(1 << 20);
        self.events.clear();
        self.states.clear();
        self.since = None;
    }

    /// Serials of the kernel's events.
    pub(crate) fn serials(&self) -> impl Iterator<Item = u32> + '_ {
        self.events.iter().filter_map(|event| event.serial)
    }

    /// Makes a batch. Events that do not fit the journal's limits are left
    /// out and their serials given to `impossible`: none, as long as the
    /// limits here and in audit-record hold.
    pub(crate) fn batch(&mut self, emitter: &Emitter, impossible: &mut Vec<u32>) -> Batch {
        let mut batch = emitter.batch();
        let mut refused = Vec::new();
        for (index, event) in self.events.iter().enumerate() {
            let draft = Draft {
                time: event.time,
                name: self.slice(&event.name),
                username: self.slice(&event.username),
                resource: event.resource.as_ref().map(|range| self.slice(range)),
                address: None,
                request_id: None,
                read_only: false,
                outcome: event.outcome,
                severity: event.severity,
                data: Data::Raw(self.slice(&event.data)),
            };
            let pushed = if event.agent {
                batch.push_agent(draft)
            } else {
                batch.push(draft)
            };
            if pushed.is_err() {
                refused.push(index);
            }
        }
        // Told once, not at every retry.
        for index in refused.into_iter().rev() {
            impossible.extend(self.events.remove(index).serial);
        }
        for (key, value) in &self.states {
            if let Err(error) = batch.remember(key, None, value) {
                tracing::error!(%error, "the kernel source's memory does not fit the journal");
            }
        }
        batch
    }

    fn slice(&self, range: &Range<usize>) -> &str {
        let bytes = self.arena.get(range.clone()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or("null")
    }
}
