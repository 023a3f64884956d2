//! Sets of numbers as ranges, and serials that do not wrap.

/// Inclusive ranges, rising, none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds an inclusive range.
    pub(crate) fn insert(&mut self, first: u64, last: u64) {
        // Nearly always at the end.
        match self.0.last_mut() {
            Some((_, end)) if end.saturating_add(1) == first => {
                *end = last;
                return;
            }
            Some((_, end)) if *end >= first => {}
            _ => {
                self.0.push((first, last));
                return;
            }
        }
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let merged = match (self.0.get(from), to.checked_sub(1).and_then(|at| self.0.get(at))) {
            (Some((start, _)), Some((_, end))) if from < to => (first.min(*start), last.max(*end)),
            _ => (first, last),
        };
        self.0.splice(from..to.max(from), [merged]);
    }

    /// The ranges, rising.
    pub(crate) fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Forgets ranges that end below a number.
    pub(crate) fn forget_below(&mut self, number: u64) {
        let gone = self.0.partition_point(|(_, end)| *end < number);
        self.0.drain(..gone);
    }

    /// Joins ranges at the end until at most `max` are left.
    pub(crate) fn limit(&mut self, max: usize) {
        if let (Some((_, end)), true) = (self.0.last().copied(), self.0.len() > max) {
            self.0.truncate(max);
            if let Some((_, last)) = self.0.last_mut() {
                *last = end;
            }
        }
    }

    /// Whether it holds this number.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < number);
        self.0.get(at).is_some_and(|(start, _)| *start <= number)
    }

    /// Cuts a range at this set: parts inside it (true) and outside (false), rising.
    pub(crate) fn split(&self, first: u64, last: u64) -> Vec<(u64, u64, bool)> {
        let mut parts = Vec::new();
        let mut next = first;
        let from = self.0.partition_point(|(_, end)| *end < first);
        for (start, end) in self.0.iter().skip(from).take_while(|(start, _)| *start <= last) {
            if next < *start {
                parts.push((next, start - 1, false));
            }
            let (start, end) = ((*start).max(next), (*end).min(last));
            parts.push((start, end, true));
            next = end + 1;
        }
        if next <= last {
            parts.push((next, last, false));
        }
        parts
    }
}

/// Turns the kernel's 32-bit serials, which wrap, into 64-bit ones, which do
/// not, by assuming that two neighbours are less than 2^31 apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unwrapped(Option<u64>);

impl Unwrapped {
    /// The 64-bit form of a serial near the last one given here.
    pub(crate) fn of(&mut self, serial: u32) -> u64 {
        let wide = self.near(serial);
        self.0 = Some(wide);
        wide
    }

    /// Like [`Unwrapped::of`], without remembering.
    pub(crate) fn near(&self, serial: u32) -> u64 {
        match self.0 {
            // One turn ahead, so that stragglers below stay positive.
            None => (1 << 32) + u64::from(serial),
            Some(last) => {
                let distance = serial.wrapping_sub(last as u32) as i32;
                last.saturating_add_signed(i64::from(distance))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unwraps_over_the_turn() {
        let mut wide = Unwrapped::default();
        let a = wide.of(u32::MAX - 1);
        assert_eq!(wide.of(3), a + 5);
        assert_eq!(wide.of(u32::MAX), a + 1);
        assert_eq!(a as u32, u32::MAX - 1);
        assert!(Unwrapped::default().of(0) > 1000);
    }

    #[test]
    fn splits_at_the_set() {
        let mut set = Ranges::default();
        set.insert(5, 7);
        set.insert(10, 10);
        assert_eq!(
            set.split(4, 12),
            [
                (4, 4, false),
                (5, 7, true),
                (8, 9, false),
                (10, 10, true),
                (11, 12, false)
            ]
        );
        assert_eq!(set.split(6, 6), [(6, 6, true)]);
        assert_eq!(set.split(8, 9), [(8, 9, false)]);
    }

    proptest! {
        #[test]
        fn holds_what_was_put_in(ranges in prop::collection::vec((0u64..200, 0u64..9), 0..60)) {
            let mut set = Ranges::default();
            let mut model = std::collections::BTreeSet::new();
            for (first, len) in ranges {
                set.insert(first, first + len);
                model.extend(first..=first + len);
            }
            let mut all = Vec::new();
            for window in set.as_slice().windows(2) {
                prop_assert!(window[0].1 + 1 < window[1].0);
            }
            for (first, last) in set.as_slice() {
                all.extend(*first..=*last);
            }
            prop_assert_eq!(all, model.into_iter().collect::<Vec<u64>>());
        }
    }
}
