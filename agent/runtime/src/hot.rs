//! Decoded parts near the journal's head, shared by all sinks: what one of them reads there, the others are given from
//! memory. The first, too, is given what was written a moment ago from memory, if it keeps up.
//!
//! The ring follows whoever is furthest. A sink that is behind it reads the disk by itself until it has caught up, and
//! leaves the ring as it is. What every sink has passed is dropped at once; the limit counts only while they are
//! apart.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use auditmon_core::subscription::Decoded;
use auditmon_journal::{Gap, Handle, Item, Reader};
use parking_lot::Mutex;

use crate::erased::ErasedEvents;

/// `journal.hot` unless set.
#[cfg(test)]
pub(crate) const DEFAULT_LIMIT: usize = 8 << 20;

/// What a sink reads next.
pub(crate) enum Next {
    /// Holds the record that was asked for.
    Part(Arc<Decoded>),
    /// Begins with the record that was asked for.
    Gap(Gap),
    /// All that is on disk has been read.
    Nothing,
}

/// The ring. Its methods may wait for the disk.
pub(crate) struct Hot {
    journal: Handle,
    limit: usize,
    /// Whoever reads at the head holds it; the others wait and then find the part in the ring. Locked before `ring`.
    head: Mutex<Reader>,
    ring: Mutex<Ring>,
    /// What may still be in memory and is handed over no more.
    pub(crate) erased: ErasedEvents,
    #[cfg(test)]
    made: Mutex<Vec<std::sync::Weak<Decoded>>>,
}

#[derive(Default)]
struct Ring {
    parts: VecDeque<Arc<Decoded>>,
    bytes: usize,
    /// The record behind the last part.
    end: u64,
    /// The record that each sink reads next.
    places: BTreeMap<&'static str, u64>,
}

impl Hot {
    /// A ring of at most `limit` bytes, or of one part that alone is larger.
    pub(crate) fn new(journal: Handle, limit: usize) -> Self {
        journal.keep_recent(limit);
        Self {
            head: Mutex::new(journal.reader(0)),
            erased: ErasedEvents::new(journal.origin()),
            journal,
            limit,
            ring: Mutex::default(),
            #[cfg(test)]
            made: Mutex::default(),
        }
    }

    /// Says which record a sink reads next; `None` when it reads no more.
    pub(crate) fn at(&self, sink: &'static str, seq: Option<u64>) {
        let mut ring = self.ring.lock();
        match seq {
            Some(seq) => ring.places.insert(sink, seq),
            None => ring.places.remove(sink),
        };
        ring.drop_passed();
        if ring.places.is_empty() {
            self.journal.forget_recent();
        }
    }

    /// What is at `seq`. `own` is the reader of a sink that is behind the ring.
    ///
    /// # Errors
    /// A file could not be opened or read; the call may be repeated.
    pub(crate) fn next(&self, seq: u64, own: &mut Option<Reader>) -> io::Result<Next> {
        let (found, end) = {
            let ring = self.ring.lock();
            (ring.find(seq), ring.end)
        };
        if let Some(part) = found {
            *own = None;
            return Ok(Next::Part(part));
        }
        if seq >= end
            && let Some(next) = self.read_head(seq)?
        {
            *own = None;
            return Ok(next);
        }
        let reader = match own {
            Some(reader) if reader.seq() == seq => reader,
            _ => own.insert(self.journal.reader(seq)),
        };
        Ok(match reader.next()? {
            Some(Item::Records(batch)) => Next::Part(self.decode(batch)),
            Some(Item::Gap(gap)) => Next::Gap(gap),
            None => Next::Nothing,
        })
    }

    /// Reads at the head for everybody; `None` if the ring has moved on meanwhile.
    fn read_head(&self, seq: u64) -> io::Result<Option<Next>> {
        let mut head = self.head.lock();
        {
            let ring = self.ring.lock();
            if let Some(part) = ring.find(seq) {
                return Ok(Some(Next::Part(part)));
            }
            if seq < ring.end {
                return Ok(None);
            }
        }
        let read = match self.journal.take_recent(seq) {
            Some(batch) => {
                // Its file may be deleted before it is read from again.
                *head = self.journal.reader(batch.next_seq());
                Some(Item::Records(batch))
            }
            None => {
                if head.seq() != seq {
                    *head = self.journal.reader(seq);
                }
                head.next()?
            }
        };
        Ok(Some(match read {
            Some(Item::Records(batch)) => {
                let part = self.decode(batch);
                self.ring.lock().push(Arc::clone(&part), self.limit);
                Next::Part(part)
            }
            Some(Item::Gap(gap)) => Next::Gap(gap),
            None => Next::Nothing,
        }))
    }

    /// Drops all parts, and the file that is being read: what the journal has in their place now is read anew.
    pub(crate) fn forget(&self) {
        let mut head = self.head.lock();
        let seq = head.seq();
        *head = self.journal.reader(seq);
        self.journal.forget_recent();
        let mut ring = self.ring.lock();
        ring.parts.clear();
        ring.bytes = 0;
    }

    fn decode(&self, batch: auditmon_journal::Batch) -> Arc<Decoded> {
        let part = Arc::new(Decoded::new(batch));
        #[cfg(test)]
        self.made.lock().push(Arc::downgrade(&part));
        part
    }
}

impl Ring {
    fn find(&self, seq: u64) -> Option<Arc<Decoded>> {
        let at = self.parts.partition_point(|part| part.next_seq() <= seq);
        let part = self.parts.get(at).filter(|part| part.first_seq() <= seq)?;
        Some(Arc::clone(part))
    }

    fn push(&mut self, part: Arc<Decoded>, limit: usize) {
        if part.first_seq() != self.end {
            // Someone is ahead of what was read last: the ring begins anew there.
            self.parts.clear();
            self.bytes = 0;
        }
        self.end = part.next_seq();
        self.bytes += part.memory();
        self.parts.push_back(part);
        while self.bytes > limit && self.parts.len() > 1 {
            self.pop();
        }
    }

    fn drop_passed(&mut self) {
        let slowest = self.places.values().copied().min().unwrap_or(u64::MAX);
        while self.parts.front().is_some_and(|part| part.next_seq() <= slowest) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.bytes -= part.memory();
        }
    }
}

#[cfg(test)]
impl Hot {
    /// Bytes of all parts that anybody still has.
    pub(crate) fn alive(&self) -> usize {
        let mut made = self.made.lock();
        made.retain(|part| part.strong_count() > 0);
        made.iter()
            .filter_map(std::sync::Weak::upgrade)
            .map(|part| part.memory())
            .sum()
    }
}

#[cfg(test)]
mod tests;
