//! Records of a segment with its payloads: what frames and records say of themselves.

use std::io;

use auditmon_journal::format::{
    Body, FrameHead, Kind, MAX_EVENTS, MAX_STATES, Prefix, Record, RecordIter, StateRecord,
};

use super::leaves::Leaves;
use super::{Check, MAX_MISSING};
use crate::accepted::tells;
use crate::event::{declares, disagrees, is_start};
use crate::files::{Generation, Parts};
use crate::memory::Repeated;
use crate::report::{CouldNot, Fault};
use crate::segment::{Next, Segment, Tail};

impl Check<'_> {
    /// A segment with its payloads.
    pub(super) fn records(
        &mut self,
        first: u64,
        parts: Parts,
        end: Option<u64>,
        segment: &mut Segment,
    ) -> Result<Tail, CouldNot> {
        let name = Generation::seg_name(first);
        let fail = |check: &Self, error: io::Error| CouldNot::new(check.place(&name), error);
        if self.seq <= first
            && let Some(what) = segment
                .head(first, &self.setting.generation.origin)
                .map_err(|error| fail(self, error))?
        {
            self.report.fault(Fault::of(self.place(&name), what).lasting());
        }
        let mut leaves = Leaves::open(self.setting.generation, first, parts.leaf)?;
        // What a running agent has not signed yet is none of this check's concern.
        let target = match self.heads.newest {
            newest if self.setting.running && end.is_none() => newest.unwrap_or(0),
            _ => u64::MAX,
        };
        let mut in_head = self.seq <= first;
        // Where its records end, which is before the next segment if one is missing between.
        let mut own_end = end;
        while self.seq < target {
            let covered = self.covered;
            let seq = self.seq;
            let damage = |synced: u64| synced > seq || covered > seq;
            match segment.next(seq, damage).map_err(|error| fail(self, error))? {
                Next::Over => break,
                Next::Missing { offset, until } => {
                    in_head = false;
                    if offset == segment.size() && until > seq && leaves.are_over(seq) {
                        // The segment is whole: what follows is another one.
                        own_end = Some(seq);
                        self.missing(until, "seg", "a segment is missing, with its leaves")?;
                    } else {
                        self.unreadable(&name, offset, until, &mut leaves)?;
                    }
                }
                Next::Frame(head) => {
                    (self.setting.progress)(head.len() as u64);
                    self.check_frame(&name, &head);
                    let records = segment.records(&head).map_err(|error| fail(self, error))?;
                    if in_head {
                        in_head = self.still_head(&name, first, &head, records);
                    }
                    self.frame(&name, &head, records, in_head, target, &mut leaves)?;
                }
            }
        }
        if let (Some(end), Some(own_end)) = (end, own_end) {
            leaves.end(own_end, self);
            if parts.leaf && self.seq == end && segment.offset() < segment.size() {
                let what = format!("offset {}: bytes behind its last record", segment.offset());
                self.report.fault(Fault::of(self.place(&name), what).lasting());
            }
        } else if parts.leaf && !self.setting.running {
            leaves.end(self.seq, self);
        }
        segment.tail().map_err(|error| fail(self, error))
    }

    /// What a frame says of itself.
    pub(super) fn check_frame(&mut self, name: &str, head: &FrameHead) {
        if head.count == 0 && head.synced != head.first_seq {
            let what = format!(
                "a mark for seq {} says that it covers only {}",
                head.first_seq, head.synced
            );
            self.report.fault(Fault::of(self.place(name), what).lasting());
        }
    }

    /// Whether a frame belongs to those that repeat what sources remember; if not, whether these were complete.
    pub(super) fn still_head(&mut self, name: &str, first: u64, head: &FrameHead, records: &[u8]) -> bool {
        let mut times = RecordIter::new(records).flatten();
        let Some(record) = times.next() else { return true };
        let states = record.prefix.kind == Kind::State && times.all(|record| record.prefix.kind == Kind::State);
        let at = record.prefix.received_ns;
        if head.synced == first && states && self.memory.expects(at) {
            return true;
        }
        let missing = self.memory.end_of_head(at);
        if missing > 0 {
            let what = format!("{missing} states that sources remember aren't repeated at the segment's head");
            self.report
                .fault(Fault::at(self.place(name), head.first_seq, head.first_seq, None, what));
        }
        false
    }

    pub(super) fn frame(
        &mut self,
        name: &str,
        head: &FrameHead,
        records: &[u8],
        repeated: bool,
        target: u64,
        leaves: &mut Leaves,
    ) -> Result<(), CouldNot> {
        let (mut events, mut states) = (0, 0);
        for record in RecordIter::new(records).flatten() {
            if self.seq >= target {
                return Ok(());
            }
            let wrong = match record.prefix.kind {
                Kind::State => {
                    states += 1;
                    self.state(&record, repeated)
                }
                _ => {
                    events += 1;
                    let order = (states > 0).then_some("an event behind a state in one frame");
                    order.or_else(|| self.event(&record))
                }
            };
            if let Some(what) = wrong {
                let id = Some(record.prefix.event_id);
                self.report
                    .fault(Fault::at(self.place(name), self.seq, self.seq, id, what));
            }
            let leaf = leaves.next(self)?;
            self.step(Some(&record), leaf.as_ref())?;
        }
        if events > MAX_EVENTS || states > MAX_STATES {
            let what = "a frame with more records than one can have";
            self.report.fault(Fault::at(
                self.place(name),
                head.first_seq,
                head.next_seq() - 1,
                None,
                what,
            ));
        }
        Ok(())
    }

    pub(super) fn event(&mut self, record: &Record<'_>) -> Option<&'static str> {
        let Body::Whole { payload, .. } = record.body else {
            self.report.counts.erased += 1;
            self.absences.erased(self.seq, record.prefix.event_id);
            return None;
        };
        self.report.counts.events += 1;
        let wrong = disagrees(&record.prefix, payload);
        if wrong.is_none()
            && let Some(declaration) = declares(&record.prefix, payload)
        {
            self.absences.declare(self.seq, &declaration);
        }
        if wrong.is_none() && self.seq >= self.covered && is_start(&record.prefix, payload) {
            self.unsigned.starts += 1;
        }
        if wrong.is_none()
            && self.setting.generation.number > 1
            && let Some(told) = tells(&record.prefix, payload)
        {
            self.told.push((self.seq, told));
        }
        wrong
    }

    pub(super) fn state(&mut self, record: &Record<'_>, repeated: bool) -> Option<&'static str> {
        let Some(payload) = record.payload() else {
            return Some("a state in erased form");
        };
        let Ok(state) = StateRecord::parse(payload) else {
            return Some("a state that can't be read");
        };
        if !repeated {
            self.memory.apply(record, &state);
            return None;
        }
        match self.memory.repeat(record, &state) {
            Repeated::Right => None,
            Repeated::Old => Some("the state repeated at the segment's head isn't the newest one"),
            Repeated::Unknown => Some("a state is repeated at the segment's head that no source remembered"),
        }
    }

    /// Records that can't be read; other witnesses take their place.
    pub(super) fn unreadable(
        &mut self,
        name: &str,
        offset: u64,
        until: u64,
        leaves: &mut Leaves,
    ) -> Result<(), CouldNot> {
        self.memory.forget();
        let first = self.seq;
        if until == first {
            let what = format!("offset {offset}: bytes that are no frame");
            self.report.fault(Fault::of(self.place(name), what).lasting());
            return Ok(());
        }
        let leaf = leaves.peek(self)?;
        let id = leaf
            .and_then(|leaf| Prefix::parse(leaf.first_chunk()?).ok())
            .map(|prefix| prefix.event_id);
        let what = format!("offset {offset}: can't be read");
        self.report
            .fault(Fault::at(self.place(name), first, until - 1, id, what).lasting());
        while self.seq < until {
            let leaf = leaves.next(self)?;
            if leaf.is_none() && until - self.seq > MAX_MISSING {
                return self.skip(until);
            }
            self.step(None, leaf.as_ref())?;
        }
        Ok(())
    }
}
