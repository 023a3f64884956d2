//! An open event: what has been seen of it, and where it waits.

use super::key::Key;
use super::{Limits, MAX_RECORD, NONE, joiner_of, memory, store_cut};
use crate::event::Event;
use crate::execve::Joiner;
use crate::kind::{Class, RecordType};

/// What an open event waits for; one list each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// Companions of a record that is usually alone.
    Short,
    /// EOE after PROCTITLE.
    Grace,
    /// Anything.
    Timeout,
}

impl Delay {
    pub(super) const ALL: [Self; 3] = [Self::Short, Self::Grace, Self::Timeout];
}

/// A doubly linked list of slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };
}

/// An open event.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) event: Event,
    pub(super) is_open: bool,
    pub(super) list: Option<Delay>,
    pub(super) previous: u32,
    pub(super) next: u32,
    /// Records and bytes that arrived, kept or not.
    records: u64,
    bytes: u64,
    /// Payload bytes of kept EXECVE records.
    execve_bytes: usize,
    dropped: bool,
    has_head: bool,
    has_title: bool,
    has_end: bool,
    needs_head: bool,
    is_call: bool,
    /// Joins arguments while they arrive, once their records are no longer kept.
    joiner: Option<Box<Joiner>>,
}

impl Slot {
    pub(super) fn new(key: Key, event: Event) -> Self {
        Self {
            key,
            event,
            is_open: true,
            list: None,
            previous: NONE,
            next: NONE,
            records: 0,
            bytes: 0,
            execve_bytes: 0,
            dropped: false,
            has_head: false,
            has_title: false,
            has_end: false,
            needs_head: false,
            is_call: false,
            joiner: None,
        }
    }

    /// Takes a record.
    pub(super) fn take(&mut self, kind: RecordType, payload: &[u8], body: usize, limits: &Limits) {
        self.records += 1;
        self.bytes += payload.len() as u64;
        self.has_head |= matches!(kind, RecordType::SYSCALL | RecordType::URINGOP);
        self.has_title |= kind == RecordType::PROCTITLE;
        self.has_end |= kind == RecordType::EOE;
        self.needs_head |= kind.needs_syscall();
        self.is_call |= kind.class() == Class::Syscall;
        let is_execve = kind == RecordType::EXECVE;
        if is_execve && let Some(joiner) = &mut self.joiner {
            joiner.push(payload.get(body..).unwrap_or_default());
        }
        let length = payload.len().min(MAX_RECORD);
        // Arguments may fill three quarters; paths and directories come after them.
        let fits = self.event.bytes.len() + length <= limits.max_event_bytes
            && self.event.len() < limits.max_event_records
            && (!is_execve || self.execve_bytes + length <= limits.max_event_bytes / 4 * 3);
        if is_execve && !fits && self.joiner.is_none() {
            let mut joiner = joiner_of(&self.event);
            joiner.push(payload.get(body..).unwrap_or_default());
            self.joiner = Some(joiner);
        }
        if fits {
            store_cut(&mut self.event, kind, payload, body);
            self.execve_bytes += if is_execve { length } else { 0 };
        } else {
            self.dropped = true;
        }
    }

    /// Memory that counts against the limit.
    pub(super) fn memory(&self) -> usize {
        let joiner = self.joiner.as_ref().map_or(0, |joiner| joiner.memory());
        memory(&self.event) + joiner
    }

    /// What to wait for after the records so far.
    pub(super) const fn delay(&self) -> Delay {
        if self.event.late || !self.is_call {
            Delay::Short
        } else if self.has_title {
            Delay::Grace
        } else {
            Delay::Timeout
        }
    }

    /// Ends the event and gives it out.
    pub(super) fn close(&mut self, expect_eoe: bool) -> Event {
        self.is_open = false;
        let mut event = std::mem::take(&mut self.event);
        if self.dropped || event.truncated.is_some() {
            let truncated = event.truncated.get_or_insert_default();
            (truncated.records, truncated.bytes) = (self.records, self.bytes);
        }
        event.argv = self.joiner.take().map(|joiner| Box::new(joiner.finish()));
        event.incomplete = !event.late
            && if self.has_head {
                expect_eoe && !self.has_end
            } else {
                self.needs_head
            };
        event
    }
}
