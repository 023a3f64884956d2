//! What is missing, why, and what has been accounted for.
//!
//! A serial is accounted for when its event is in a batch for the journal,
//! or reported as missing in one. The mark that goes into the journal with
//! each batch says which those are, so that the next start can report the
//! rest exactly, whenever this process dies.

use std::collections::VecDeque;

use audit_record::gap::Gaps;

use crate::memory::Mark;
use crate::ranges::{Ranges, Unwrapped};
use crate::serials::Serials;

/// Gap events of one reason come at most this often, ns: they are summaries.
const EVERY: u64 = 60_000_000_000;
/// Ranges of one reason that wait for their summary, at most.
const HELD: usize = 500;
/// Jumps that are remembered for their times.
const JUMPS: usize = 4_096;
/// An overrun explains gaps that are noticed this much later, ns.
const OVERRUN_LASTS: u64 = 10_000_000_000;
/// Ranges of own drops that are remembered.
const MAX_DROPS: usize = 4_096;

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They passed while nobody was registered.
    Restart,
    /// The kernel could not deliver them in time.
    Overrun,
    /// Our own buffer was full, because the journal took nothing.
    OwnDrop,
    /// The kernel dropped them for a reason it does not tell.
    Unknown,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 4] = [Reason::Restart, Reason::Overrun, Reason::OwnDrop, Reason::Unknown];

    /// The word in events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Restart => "restart",
            Reason::Overrun => "overrun",
            Reason::OwnDrop => "own_drop",
            Reason::Unknown => "unknown",
        }
    }
}

/// A gap to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: Reason,
    /// First and last missing serial of each range.
    pub ranges: Vec<(u32, u32)>,
    /// How many are missing.
    pub missing: u64,
    /// The ranges say too much; `missing` does not.
    pub merged: bool,
    /// Time of the event before the first missing one, ns since 1970.
    pub after: Option<u64>,
    /// Time of the event after the last missing one, ns since 1970.
    pub before: Option<u64>,
    wide: Vec<(u64, u64)>,
}

impl Gap {
    /// Events that came and could not be stored.
    pub(crate) fn own_drop(serials: &[u32]) -> Gap {
        let mut set = Serials::default();
        for serial in serials {
            set.insert(*serial);
        }
        Gap {
            reason: Reason::OwnDrop,
            ranges: set.ranges().to_vec(),
            missing: serials.len() as u64,
            merged: set.is_merged(),
            after: None,
            before: None,
            wide: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Jump {
    first: u64,
    last: u64,
    after: Option<u64>,
    before: u64,
}

#[derive(Debug, Default)]
struct Held {
    ranges: Vec<(u64, u64)>,
    missing: u64,
    merged: bool,
    after: Option<u64>,
    before: Option<u64>,
    told: Option<u64>,
}

impl Held {
    /// What was given up came after all.
    fn withdraw(&mut self, serial: u64) {
        // Merged ranges span serials that did come; which of them are counted is not known any more.
        if self.merged {
            return;
        }
        // Ranges are in the order in which they were given up, which is that of the serials.
        let at = self.ranges.partition_point(|(_, last)| *last < serial);
        let Some((first, last)) = self.ranges.get_mut(at).filter(|(first, _)| *first <= serial) else {
            return;
        };
        let behind = (serial + 1, *last);
        if *first == serial {
            self.ranges.remove(at);
        } else {
            *last = serial - 1;
        }
        if behind.0 <= behind.1 {
            let at = self.ranges.partition_point(|(_, last)| *last < serial);
            self.ranges.insert(at, behind);
        }
        self.missing -= 1;
    }
}

/// Watches the serials of one run.
#[derive(Debug)]
pub struct Losses {
    gaps: Gaps,
    /// Up to here everything was accounted for by former runs, or passed before the first one.
    base: Option<u64>,
    /// Beyond `base`.
    accounted: Ranges,
    wide: Unwrapped,
    /// The first serial of this run.
    first: Option<u64>,
    /// The highest serial and the time of its event.
    highest: Option<(u64, Option<u64>)>,
    newest_time: u64,
    last_seen: Option<u32>,
    dropped: Ranges,
    overrun: Option<u64>,
    jumps: VecDeque<Jump>,
    held: [Held; 4],
}

impl Losses {
    /// Starts behind the mark of a former run of this boot, or at the first
    /// serial that comes. `now`: monotonic, ns.
    #[must_use]
    pub fn new(mark: Option<&Mark>, now: u64) -> Losses {
        let mut losses = Losses {
            gaps: Gaps::new(mark.map(|mark| mark.serial)),
            base: None,
            accounted: Ranges::default(),
            wide: Unwrapped::default(),
            first: None,
            highest: None,
            newest_time: mark.map_or(0, |mark| mark.time),
            last_seen: None,
            dropped: Ranges::default(),
            overrun: None,
            jumps: VecDeque::new(),
            held: Default::default(),
        };
        if let Some(mark) = mark {
            let serial = losses.wide.of(mark.serial);
            losses.base = Some(serial);
            losses.highest = Some((serial, Some(mark.time)));
            for (first, last) in &mark.beyond {
                // Bounded: what one run had open when it ended.
                let count = u64::from(last.wrapping_sub(*first)).min(1 << 22);
                let start = losses.wide.of(*first);
                losses.accounted.insert(start, start + count);
                for serial in start..=start + count {
                    losses.gaps.observe(serial as u32, now);
                }
                losses.highest = Some((losses.wide.of(*last), Some(mark.time)));
            }
        }
        losses
    }

    /// A record with this serial came. `time`: of its event, ns since 1970;
    /// `arrival`: monotonic, ns. Cheap for records of the event before.
    pub fn observe(&mut self, serial: u32, time: u64, arrival: u64) {
        if self.last_seen == Some(serial) {
            return;
        }
        self.last_seen = Some(serial);
        self.newest_time = self.newest_time.max(time);
        self.gaps.observe(serial, arrival);
        let wide = self.wide.near(serial);
        self.first.get_or_insert(wide);
        self.base.get_or_insert(wide - 1);
        match self.highest {
            Some((highest, _)) if wide <= highest => return,
            Some((highest, after)) if wide > highest + 1 => {
                if self.jumps.len() == JUMPS {
                    self.jumps.pop_front();
                }
                self.jumps.push_back(Jump {
                    first: highest + 1,
                    last: wide - 1,
                    after,
                    before: time,
                });
            }
            _ => {}
        }
        self.wide.of(serial);
        self.highest = Some((wide, Some(time)));
    }

    /// The event with this serial is in the batch, or needs no place in one.
    ///
    /// If it was given up meanwhile, but no gap has told of it yet, none will.
    pub fn account(&mut self, serial: u32) {
        let wide = self.wide.near(serial);
        if self.base.is_some_and(|base| wide <= base) {
            return;
        }
        self.accounted.insert(wide, wide);
        for held in &mut self.held {
            held.withdraw(wide);
        }
    }

    /// Whether this serial is accounted for already, or passed before the account began: what comes of it now comes
    /// late.
    #[must_use]
    pub fn is_late(&self, serial: u32) -> bool {
        let wide = self.wide.near(serial);
        self.base.is_some_and(|base| wide <= base) || self.accounted.contains(wide)
    }

    /// The kernel had to wait for us at this time (monotonic, ns).
    pub fn overrun(&mut self, arrival: u64) {
        self.overrun = Some(arrival);
    }

    /// Our own buffer dropped records of these events.
    pub fn dropped(&mut self, serials: &Serials) {
        for (first, last) in serials.ranges() {
            let start = self.wide.near(*first);
            let end = start + u64::from(last.wrapping_sub(*first));
            self.dropped.insert(start, end);
        }
        self.dropped.limit(MAX_DROPS);
    }

    /// What is to be told by `now` (monotonic, ns). `all`: also what could
    /// still come or be summed up, for the end.
    pub fn take(&mut self, now: u64, all: bool) -> Vec<Gap> {
        let report = if all { self.gaps.flush() } else { self.gaps.expire(now) };
        if let Some(report) = report {
            self.sort(&report, now);
            let settled = self.gaps.settled().map(|serial| self.wide.near(serial));
            if let Some(settled) = settled {
                self.dropped.forget_below(settled);
                let gone = self.jumps.partition_point(|jump| jump.last <= settled);
                self.jumps.drain(..gone);
            }
        }
        let mut told = Vec::new();
        for (reason, held) in Reason::ALL.into_iter().zip(&mut self.held) {
            if held.missing == 0 {
                continue;
            }
            let due = held.told.is_none_or(|told| now.saturating_sub(told) >= EVERY);
            if !(due || all || held.ranges.len() >= HELD) {
                continue;
            }
            let held = std::mem::replace(
                held,
                Held {
                    told: Some(now),
                    ..Held::default()
                },
            );
            told.push(Gap {
                reason,
                ranges: held.ranges.iter().map(|(a, b)| (*a as u32, *b as u32)).collect(),
                missing: held.missing,
                merged: held.merged,
                after: held.after,
                before: held.before,
                wide: held.ranges,
            });
        }
        told
    }

    /// A gap is in the batch: its serials are accounted for.
    pub fn told(&mut self, gap: &Gap) {
        for (first, last) in &gap.wide {
            self.accounted.insert(*first, *last);
        }
    }

    /// When [`Losses::take`] may have something new, monotonic ns.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let held = self.held.iter().filter(|held| held.missing > 0);
        let held = held.map(|held| held.told.unwrap_or_default().saturating_add(EVERY));
        held.chain(self.gaps.next_deadline()).min()
    }

    /// The mark for the journal, once every event popped so far is in the
    /// batch that carries it. `None` before the first serial.
    #[must_use]
    pub fn mark(&self, boot: &str, lost: u32) -> Option<Mark> {
        let base = self.base?;
        let (serial, rest) = match self.accounted.as_slice().split_first() {
            Some(((first, last), rest)) if *first <= base + 1 => (base.max(*last), rest),
            _ => (base, self.accounted.as_slice()),
        };
        let narrow = |(first, last): &(u64, u64)| (*first as u32, *last as u32);
        Some(Mark {
            boot: boot.to_owned(),
            serial: serial as u32,
            beyond: rest.iter().map(narrow).collect(),
            time: self.newest_time,
            lost,
        })
    }

    /// The highest serial seen.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        self.gaps.highest()
    }

    /// Sorts missing serials by reason.
    fn sort(&mut self, report: &audit_record::gap::Report, now: u64) {
        let overrun = self.overrun.is_some_and(|at| now.saturating_sub(at) < OVERRUN_LASTS);
        let other = if overrun { Reason::Overrun } else { Reason::Unknown };
        let mut told = 0;
        let mut last_reason = other;
        for (first, last) in &report.ranges {
            let start = self.wide.near(*first);
            let end = start + u64::from(last.wrapping_sub(*first));
            let restart = self.first.is_none_or(|seen| start < seen);
            let after = self.jump_at(start).and_then(|jump| jump.after);
            let before = self.jump_at(end).map(|jump| jump.before);
            // Given up while records were read, and some of it has come since then. Merged ranges span serials that did
            // come, and are counted otherwise.
            let gone = if report.merged {
                vec![(start, end, false)]
            } else {
                self.accounted.split(start, end)
            };
            let gone = gone.into_iter().filter(|(_, _, came)| !came);
            let parts: Vec<_> = if restart {
                gone.collect()
            } else {
                gone.flat_map(|(start, end, _)| self.dropped.split(start, end))
                    .collect()
            };
            for (start, end, own) in parts {
                let reason = match (restart, own) {
                    (true, _) => Reason::Restart,
                    (false, true) => Reason::OwnDrop,
                    (false, false) => other,
                };
                let count = end - start + 1;
                told += count;
                last_reason = reason;
                let held = &mut self.held[reason as usize];
                held.ranges.push((start, end));
                held.missing += count;
                held.after = held.after.or(after);
                held.before = before.or(held.before);
            }
        }
        if report.merged {
            // The last range spans serials that did come.
            let held = &mut self.held[last_reason as usize];
            held.merged = true;
            held.missing = held.missing.saturating_sub(told.saturating_sub(report.missing));
        }
    }

    fn jump_at(&self, serial: u64) -> Option<&Jump> {
        let at = self.jumps.partition_point(|jump| jump.last < serial);
        self.jumps.get(at).filter(|jump| jump.first <= serial)
    }
}

#[cfg(test)]
mod tests;
