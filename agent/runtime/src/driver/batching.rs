//! What is handed over next: parts of the journal, cut to the sink's limits.

use std::io;
use std::sync::Arc;

use auditmon_core::delivery::BatchLimits;
use auditmon_core::subscription::{Decoded, Events};
use auditmon_journal::{Gap, Reader};

use crate::hot::{Hot, Next};

/// Where a sink reads.
pub(crate) struct Feed {
    hot: Arc<Hot>,
    sink: &'static str,
    max_events: usize,
    max_bytes: usize,
    /// Its own, while it is behind the ring.
    reader: Option<Reader>,
    /// Of which something is still to be handed over.
    rest: Option<Arc<Decoded>>,
    /// Found, and not passed yet.
    gap: Option<Gap>,
    left: bool,
}

impl Feed {
    pub(crate) fn new(hot: Arc<Hot>, sink: &'static str, limits: &BatchLimits) -> Self {
        Self {
            hot,
            sink,
            max_events: limits.events as usize,
            max_bytes: usize::try_from(limits.bytes.0).unwrap_or(usize::MAX),
            reader: None,
            rest: None,
            gap: None,
            left: false,
        }
    }

    /// Most events that are handed over at once.
    pub(crate) fn max_events(&self) -> usize {
        self.max_events
    }

    /// Most bytes that are handed over at once; one event may be larger.
    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Adds to `events`, what of the records before `seq` is pending, what is in the journal from there on, up to the
    /// limits or to a gap. Returns the record to go on with and, if nothing readable stands there, the gap. Waits for
    /// the disk.
    ///
    /// What was delivered behind a pending event comes again after a crash. So no more than about one batch is handed
    /// over behind one that is pending: everything that is not confirmed spans twice `batch.events` at most.
    ///
    /// # Errors
    /// The journal could not be read; `events` has what was read before.
    pub(crate) fn fill(&mut self, events: &mut Events, mut seq: u64) -> io::Result<(u64, Option<Gap>)> {
        let first_pending = events.iter().next().map_or(seq, |event| event.seq);
        let window = first_pending.saturating_add(2 * self.max_events as u64);
        let more = usize::try_from(window.saturating_sub(seq)).unwrap_or(usize::MAX);
        let max_events = self.max_events.min(events.len().saturating_add(more));
        while events.len() < max_events && (events.is_empty() || events.bytes() < self.max_bytes) {
            if let Some(gap) = self.gap.filter(|gap| gap.first == seq) {
                return Ok((seq, Some(gap)));
            }
            let rest = self.rest.take();
            let part = match rest.filter(|part| part.first_seq() <= seq && seq < part.next_seq()) {
                Some(part) => part,
                None => match self.hot.next(seq, &mut self.reader)? {
                    Next::Part(part) => part,
                    Next::Gap(gap) => {
                        self.gap = Some(gap);
                        continue;
                    }
                    Next::Nothing => break,
                },
            };
            seq = events.take(&part, seq, max_events, self.max_bytes);
            if seq < part.next_seq() {
                self.rest = Some(part);
                break;
            }
        }
        Ok((seq, None))
    }

    /// The ring knows the sink by another feed from now on.
    pub(crate) fn leave(&mut self) {
        self.left = true;
    }

    /// Says which record is read next, so that the ring may drop what is before.
    pub(crate) fn at(&self, seq: u64) {
        self.hot.at(self.sink, Some(seq));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if !self.left {
            self.hot.at(self.sink, None);
        }
    }
}
