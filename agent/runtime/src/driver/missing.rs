//! Records that a sink is known to lack.

use std::collections::BTreeMap;

/// Most ranges that are kept; the oldest go.
const MAX_RANGES: usize = 1024;

/// Ranges of records of one generation, by their first, each with its last; none touches another.
#[derive(Default)]
pub(super) struct Missing(BTreeMap<u64, u64>);

impl Missing {
    /// Adds a range, and says which parts of it are new, in order.
    pub(super) fn add(&mut self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut touched: Vec<(u64, u64)> = self
            .0
            .range(..=last.saturating_add(1))
            .rev()
            .map(|(begin, end)| (*begin, *end))
            .take_while(|(_, end)| end.saturating_add(1) >= first)
            .collect();
        touched.reverse();
        // What is looked for next; nothing is behind the largest number.
        let (mut new, mut next) = (Vec::new(), Some(first));
        let mut whole = (first, last);
        for (begin, end) in touched {
            if let Some(at) = next.filter(|at| *at < begin) {
                new.push((at, begin - 1));
            }
            next = next.and_then(|at| Some(end.checked_add(1)?.max(at)));
            whole = (whole.0.min(begin), whole.1.max(end));
            self.0.remove(&begin);
        }
        if let Some(at) = next.filter(|at| *at <= last) {
            new.push((at, last));
        }
        self.0.insert(whole.0, whole.1);
        if self.0.len() > MAX_RANGES {
            self.0.pop_first();
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_known_is_new() {
        let mut missing = Missing::default();
        assert_eq!(missing.add(10, 19), [(10, 19)]);
        assert_eq!(missing.add(10, 19), []);
        assert_eq!(missing.add(12, 25), [(20, 25)]);
        assert_eq!(missing.add(30, 30), [(30, 30)]);
        assert_eq!(missing.add(0, 40), [(0, 9), (26, 29), (31, 40)]);
        assert_eq!(missing.0, BTreeMap::from([(0, 40)]));
        // What touches is one range.
        assert_eq!(missing.add(41, 41), [(41, 41)]);
        assert_eq!(missing.0.len(), 1);
        assert_eq!(missing.add(50, u64::MAX), [(50, u64::MAX)]);
        assert_eq!(missing.add(u64::MAX, u64::MAX), []);
    }

    #[test]
    fn no_more_than_some_ranges_are_kept() {
        let mut missing = Missing::default();
        for n in 0..=MAX_RANGES as u64 {
            assert_eq!(missing.add(2 * n, 2 * n), [(2 * n, 2 * n)]);
        }
        assert_eq!(missing.0.len(), MAX_RANGES);
        assert_eq!(missing.add(0, 0), [(0, 0)], "the oldest was forgotten");
    }
}
