//! A small set of event serials, kept as ranges.

use std::cmp::Ordering;

/// More ranges than this are merged with their neighbour.
pub const MAX_RANGES: usize = 1000;

/// Serials as inclusive ranges, rising, none touching the next. A wrap of the
/// kernel's 32-bit counter makes two ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serials {
    ranges: Vec<(u32, u32)>,
    /// Whether ranges had to be merged, so that the set says too much.
    merged: bool,
}

impl Serials {
    /// Adds one serial.
    pub fn insert(&mut self, serial: u32) {
        // Serials come nearly in order: look at the end first.
        match self.ranges.last_mut() {
            None => self.ranges.push((serial, serial)),
            Some((_, last)) if last.checked_add(1) == Some(serial) => *last = serial,
            Some((first, last)) if (*first..=*last).contains(&serial) => {}
            Some((_, last)) if *last < serial => self.push(serial),
            Some(_) => self.insert_inside(serial),
        }
    }

    fn push(&mut self, serial: u32) {
        if self.ranges.len() >= MAX_RANGES {
            self.merged = true;
            if let Some((_, last)) = self.ranges.last_mut() {
                *last = serial;
            }
        } else {
            self.ranges.push((serial, serial));
        }
    }

    fn insert_inside(&mut self, serial: u32) {
        let place = self.ranges.binary_search_by(|(first, last)| {
            if *last < serial {
                Ordering::Less
            } else if *first > serial {
                Ordering::Greater
            } else {
                Ordering::Equal
            }
        });
        let Err(at) = place else { return };
        let touches_left = at > 0
            && self
                .ranges
                .get(at - 1)
                .is_some_and(|(_, last)| last.checked_add(1) == Some(serial));
        let touches_right = self
            .ranges
            .get(at)
            .is_some_and(|(first, _)| first.checked_sub(1) == Some(serial));
        match (touches_left, touches_right) {
            (true, true) => {
                let (_, end) = self.ranges.remove(at);
                self.set_last(at - 1, end);
            }
            (true, false) => self.set_last(at - 1, serial),
            (false, true) => {
                if let Some((first, _)) = self.ranges.get_mut(at) {
                    *first = serial;
                }
            }
            (false, false) if self.ranges.len() >= MAX_RANGES => {
                self.merged = true;
                if let Some((first, _)) = self.ranges.get_mut(at) {
                    *first = serial;
                }
            }
            (false, false) => self.ranges.insert(at, (serial, serial)),
        }
    }

    fn set_last(&mut self, at: usize, serial: u32) {
        if let Some((_, last)) = self.ranges.get_mut(at) {
            *last = serial;
        }
    }

    /// The ranges, rising.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// Whether no serial is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the set says more than was put in, to stay small.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        self.merged
    }

    /// Whether any serial of the inclusive range is in the set.
    #[must_use]
    pub fn overlaps(&self, first: u32, last: u32) -> bool {
        let after = self.ranges.partition_point(|(_, end)| *end < first);
        self.ranges.get(after).is_some_and(|(start, _)| *start <= last)
    }

    /// Adds everything of another set.
    pub fn absorb(&mut self, other: &Serials) {
        self.merged |= other.merged;
        for (first, last) in &other.ranges {
            if self.ranges.last().is_none_or(|(_, end)| end < first) {
                self.insert(*first);
                if let Some((_, end)) = self.ranges.last_mut() {
                    *end = *last;
                }
            } else {
                // Older than what is here: rare, so one by one, within reason.
                for serial in (*first..=*last).take(100_000) {
                    self.insert(serial);
                }
            }
        }
    }

    /// Forgets everything below `serial`, as long as nothing wrapped.
    pub fn forget_below(&mut self, serial: u32) {
        self.ranges.retain(|(_, last)| *last >= serial);
        if self.ranges.is_empty() {
            self.merged = false;
        }
    }
}

/// The serial in a record's payload, `audit(SEC.MSEC:SERIAL): …`; `None` if
/// it has none. For records that are dropped, so cheap and forgiving.
#[must_use]
pub fn serial_of(payload: &[u8]) -> Option<u32> {
    let head = payload.get(..64.min(payload.len()))?;
    let start = head.iter().position(|byte| *byte == b':')? + 1;
    let rest = head.get(start..)?;
    let end = rest.iter().position(|byte| *byte == b')')?;
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(serials: &[u32]) -> Serials {
        let mut set = Serials::default();
        for serial in serials {
            set.insert(*serial);
        }
        set
    }

    #[test]
    fn keeps_ranges_whatever_the_order() {
        assert_eq!(of(&[5, 6, 7, 7, 9]).ranges(), [(5, 7), (9, 9)]);
        assert_eq!(of(&[9, 7, 5, 6, 8]).ranges(), [(5, 9)]);
        assert_eq!(
            of(&[10, 1, 3, 2, u32::MAX, 0]).ranges(),
            [(0, 3), (10, 10), (u32::MAX, u32::MAX)]
        );
    }

    #[test]
    fn stays_small() {
        let serials: Vec<u32> = (0..5000).map(|n| n * 2).collect();
        let set = of(&serials);
        assert_eq!(set.ranges().len(), MAX_RANGES);
        assert!(set.is_merged());
        assert!(set.overlaps(9998, 9998));
        let serials: Vec<u32> = (0..5000).rev().map(|n| n * 2).collect();
        assert_eq!(of(&serials).ranges().len(), MAX_RANGES);
    }

    #[test]
    fn absorbs_and_forgets() {
        let mut set = of(&[1, 2, 3]);
        set.absorb(&of(&[2, 3, 4, 9]));
        assert_eq!(set.ranges(), [(1, 4), (9, 9)]);
        assert!(set.overlaps(4, 8) && !set.overlaps(5, 8));
        set.forget_below(5);
        assert_eq!(set.ranges(), [(9, 9)]);
    }

    #[test]
    fn reads_the_serial_of_a_record() {
        assert_eq!(serial_of(b"audit(1700000000.123:4294967295): a=b"), Some(u32::MAX));
        assert_eq!(serial_of(b"audit(1.000:7): "), Some(7));
        for bad in [&b""[..], b"audit(", b"audit(1.0:x):", b"audit(1.0:7", &[0xff; 300]] {
            assert_eq!(serial_of(bad), None);
        }
    }
}
