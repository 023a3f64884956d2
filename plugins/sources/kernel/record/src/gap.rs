//! Which serials never came.
//!
//! The kernel numbers every event; a number that stays away is an event that was lost. Events
//! do not arrive in the order of their numbers, so a missing one is only reported when it is
//! sure: 4,096 further numbers have been seen, or five seconds have passed (reference, section
//! 17). Serials are compared modulo 2³², because they wrap.

use std::collections::VecDeque;

/// Serials seen beyond a missing one until it counts as lost.
pub const WINDOW: u32 = 4_096;
/// Nanoseconds until a missing serial counts as lost.
pub const WAIT: u64 = 5_000_000_000;
/// Ranges in a report; further ones are merged into the last.
pub const MAX_RANGES: usize = 1_000;

/// Serials that are lost for sure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// First and last missing serial of each range, in serial order, at most [`MAX_RANGES`].
    pub ranges: Vec<(u32, u32)>,
    /// Number of missing serials; exact even if ranges are merged.
    pub missing: u64,
    /// The last range spans several, with serials in between that did come.
    pub merged: bool,
}

/// Watches the serials of one boot.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// The serial after the highest one seen; `None` before the first.
    next: Option<u32>,
    /// Missing and not yet given up, in serial order.
    pending: VecDeque<Pending>,
    report: Report,
    /// Serials in a row that lie too far behind to be stragglers.
    behind: u32,
    now: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    first: u32,
    last: u32,
    since: u64,
}

/// Serials in a row that must lie far behind until they are taken for a counter that restarted.
const RESTARTED: u32 = 4_096;
/// Ranges that wait at most; beyond it the oldest is given up early.
const MAX_PENDING: usize = 4_096;

impl Gaps {
    /// Starts behind a serial that was seen earlier in this boot, so that what passed between
    /// is reported; with `None` at the first serial that comes.
    #[must_use]
    pub fn new(last: Option<u32>) -> Self {
        Self {
            next: last.map(|serial| serial.wrapping_add(1)),
            ..Self::default()
        }
    }

    /// Takes the serial of a record; `now` is its arrival in monotonic nanoseconds.
    ///
    /// Repeated serials cost one comparison, so it may be called for every record.
    pub fn observe(&mut self, serial: u32, now: u64) {
        self.now = self.now.max(now);
        let next = *self.next.get_or_insert(serial);
        let ahead = serial.wrapping_sub(next);
        // Distances beyond half of the numbers are behind, not ahead.
        if ahead == u32::MAX {
            return;
        }
        if ahead > u32::MAX / 2 {
            return self.straggler(serial, next);
        }
        self.behind = 0;
        self.next = Some(serial.wrapping_add(1));
        if ahead > 0 {
            if self.pending.len() >= MAX_PENDING {
                self.give_up();
            }
            self.pending.push_back(Pending {
                first: next,
                last: serial.wrapping_sub(1),
                since: self.now,
            });
        }
        self.settle();
    }

    /// Gives what is lost for sure by `now`; `None` if nothing new is.
    pub fn expire(&mut self, now: u64) -> Option<Report> {
        self.now = self.now.max(now);
        self.settle();
        self.take()
    }

    /// Gives all that is missing, waiting for nothing; for an orderly end.
    pub fn flush(&mut self) -> Option<Report> {
        while self.give_up() {}
        self.take()
    }

    /// When [`Gaps::expire`] has something to give, if no serial comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.report.missing > 0 {
            return Some(self.now);
        }
        self.pending.front().map(|range| range.since.saturating_add(WAIT))
    }

    /// The highest serial seen, or the one that the watch was started with.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        self.next.map(|next| next.wrapping_sub(1))
    }

    /// The serial before the lowest one that may still come: everything up to it has been seen
    /// or reported. This is the mark to keep for a restart.
    #[must_use]
    pub fn settled(&self) -> Option<u32> {
        self.pending
            .front()
            .map(|range| range.first.wrapping_sub(1))
            .or(self.highest())
    }

    fn take(&mut self) -> Option<Report> {
        (self.report.missing > 0).then(|| std::mem::take(&mut self.report))
    }

    /// A serial below the highest: one that was missing, or one of an event seen before.
    fn straggler(&mut self, serial: u32, next: u32) {
        let distance = next.wrapping_sub(serial);
        let at = self
            .pending
            .partition_point(|range| next.wrapping_sub(range.last) > distance);
        let Some(range) = self.pending.get(at).copied() else {
            return self.far_behind(serial, distance);
        };
        if next.wrapping_sub(range.first) < distance {
            return self.far_behind(serial, distance);
        }
        match (range.first == serial, range.last == serial) {
            (true, true) => drop(self.pending.remove(at)),
            (true, false) => self.narrow(at, serial.wrapping_add(1), range.last),
            (false, true) => self.narrow(at, range.first, serial.wrapping_sub(1)),
            (false, false) => {
                self.narrow(at, range.first, serial.wrapping_sub(1));
                let rest = Pending {
                    first: serial.wrapping_add(1),
                    ..range
                };
                self.pending.insert(at + 1, rest);
            }
        }
    }

    fn narrow(&mut self, at: usize, first: u32, last: u32) {
        if let Some(range) = self.pending.get_mut(at) {
            (range.first, range.last) = (first, last);
        }
    }

    /// A counter that has jumped back for good would blind the watch: it starts anew.
    fn far_behind(&mut self, serial: u32, distance: u32) {
        if distance <= WINDOW * 16 {
            self.behind = 0;
            return;
        }
        self.behind += 1;
        if self.behind >= RESTARTED {
            self.behind = 0;
            while self.give_up() {}
            self.next = Some(serial.wrapping_add(1));
        }
    }

    /// Moves what is old enough from pending to the report.
    fn settle(&mut self) {
        while let (Some(range), Some(next)) = (self.pending.front(), self.next) {
            let seen_beyond = next.wrapping_sub(range.last).wrapping_sub(1);
            if seen_beyond < WINDOW && range.since.saturating_add(WAIT) > self.now {
                break;
            }
            self.give_up();
        }
    }

    fn give_up(&mut self) -> bool {
        let Some(range) = self.pending.pop_front() else {
            return false;
        };
        let report = &mut self.report;
        report.missing += u64::from(range.last.wrapping_sub(range.first)) + 1;
        if report.ranges.len() < MAX_RANGES {
            report.ranges.push((range.first, range.last));
        } else if let Some(last) = report.ranges.last_mut() {
            last.1 = range.last;
            report.merged = true;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn nothing_missing_nothing_said() {
        let mut gaps = Gaps::new(None);
        for serial in [5, 5, 6, 7, 6, 8, 4] {
            gaps.observe(serial, 0);
        }
        assert_eq!(gaps.expire(100 * SECOND), None);
        assert_eq!(gaps.next_deadline(), None);
    }

    #[test]
    fn a_restart_reports_what_passed_between() {
        let mut gaps = Gaps::new(Some(10));
        gaps.observe(15, 0);
        assert_eq!(gaps.settled(), Some(10));
        assert_eq!(gaps.expire(4 * SECOND), None);
        let report = gaps.expire(5 * SECOND).unwrap();
        assert_eq!(
            report,
            Report {
                ranges: vec![(11, 14)],
                missing: 4,
                merged: false
            }
        );
        assert_eq!(gaps.settled(), Some(15));
    }

    #[test]
    fn stragglers_split_and_fill() {
        let mut gaps = Gaps::new(Some(0));
        gaps.observe(10, 0);
        for serial in [5, 1, 9, 4, 4, 8] {
            gaps.observe(serial, 1);
        }
        let report = gaps.expire(5 * SECOND).unwrap();
        assert_eq!(report.ranges, [(2, 3), (6, 7)]);
        assert_eq!(report.missing, 4);
    }

    #[test]
    fn the_window_settles_without_time() {
        let mut gaps = Gaps::new(Some(0));
        for serial in 2..2 + WINDOW {
            assert_eq!(gaps.expire(0), None);
            gaps.observe(serial, 0);
        }
        assert_eq!(gaps.expire(0).unwrap().ranges, [(1, 1)]);
    }

    #[test]
    fn serials_wrap() {
        let mut gaps = Gaps::new(Some(u32::MAX - 3));
        gaps.observe(u32::MAX - 1, 0);
        gaps.observe(2, 0);
        gaps.observe(0, 0);
        let report = gaps.flush().unwrap();
        assert_eq!(
            report.ranges,
            [(u32::MAX - 2, u32::MAX - 2), (u32::MAX, u32::MAX), (1, 1)]
        );
        assert_eq!(gaps.highest(), Some(2));
    }

    #[test]
    fn many_ranges_are_merged() {
        let mut gaps = Gaps::new(Some(0));
        for n in 1..=3_000 {
            gaps.observe(n * 2, 0);
        }
        let report = gaps.flush().unwrap();
        assert_eq!(
            (report.ranges.len(), report.missing, report.merged),
            (1_000, 3_000, true)
        );
        assert_eq!(report.ranges.last(), Some(&(1_999, 5_999)));
    }

    #[test]
    fn a_counter_that_restarts_does_not_blind() {
        let mut gaps = Gaps::new(Some(1_000_000));
        for serial in 1..=RESTARTED {
            gaps.observe(serial, 0);
        }
        gaps.observe(RESTARTED + 2, 0);
        assert_eq!(gaps.flush().unwrap().ranges, [(RESTARTED + 1, RESTARTED + 1)]);
    }
}
