//! What isn't there any more, and whether the journal said so before.

use std::collections::BTreeMap;

use crate::event::Declaration;

/// Most ranges, and most declarations, that are kept of one sort: 24 MiB at most.
pub(crate) const MAX_RANGES: usize = 1 << 20;

/// Where a declaration stands that a newer generation has signed: at no place here.
pub(crate) const ELSEWHERE: u64 = u64::MAX;
/// The same of one that isn't signed there.
pub(crate) const ELSEWHERE_UNSIGNED: u64 = u64::MAX - 1;

/// Most ids that are kept, to name events by.
const MAX_IDS: usize = 10_000;

/// Ranges of records that are missing in some way.
#[derive(Default)]
pub(crate) struct Ranges {
    list: Vec<(u64, u64)>,
    /// Records of those that are too many.
    dropped: u64,
}

impl Ranges {
    pub(crate) fn add(&mut self, first: u64, last: u64) {
        let full = self.list.len() >= MAX_RANGES;
        match self.list.last_mut() {
            Some(range) if range.1 + 1 == first => range.1 = last,
            _ if full => self.dropped += last - first + 1,
            _ => self.list.push((first, last)),
        }
    }
}

/// A declaration and where it stands.
struct Said {
    seq: u64,
    first: u64,
    last: u64,
}

/// What is missing, and what was said about it.
#[derive(Default)]
pub(crate) struct Absences {
    expired: Ranges,
    vanished: Ranges,
    erased: Ranges,
    rows: Ranges,
    said_expired: Vec<Said>,
    said_erased: Vec<Said>,
    said_gaps: Vec<Said>,
    /// Declarations that were too many.
    unheard: u64,
    ids: BTreeMap<u64, [u8; 16]>,
}

/// What was missing and how it is explained.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Explained {
    /// Declared.
    pub(crate) declared: Vec<(u64, u64)>,
    /// Older than what went while the check ran: what declared it may be among that.
    pub(crate) before: Vec<(u64, u64)>,
    /// Nobody said so.
    pub(crate) silent: Vec<(u64, u64)>,
}

/// Events without a row.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Rowless {
    /// Nobody said that there would be none.
    pub(crate) silent: Vec<(u64, u64)>,
    /// Only something that isn't signed said so.
    pub(crate) unsigned: Vec<(u64, u64)>,
}

impl Absences {
    /// A segment's payloads are gone.
    pub(crate) fn expired(&mut self, first: u64, last: u64) {
        self.expired.add(first, last);
    }

    /// A segment's payloads went while the check ran; what says so may be newer than what is checked.
    pub(crate) fn vanished(&mut self, first: u64, last: u64) {
        self.vanished.add(first, last);
    }

    /// Payloads that went meanwhile and of which nothing has been read yet that says so.
    pub(crate) fn unexplained_vanished(&self, covered: u64) -> Vec<(u64, u64)> {
        explain(&self.vanished, &self.said_expired, covered).silent
    }

    /// A record is in erased form.
    pub(crate) fn erased(&mut self, seq: u64, id: [u8; 16]) {
        self.name(seq, id);
        self.erased.add(seq, seq);
    }

    fn name(&mut self, seq: u64, id: [u8; 16]) {
        if self.ids.len() < MAX_IDS {
            self.ids.insert(seq, id);
        }
    }

    /// The id of an event that was said to be missing.
    pub(crate) fn id(&self, seq: u64) -> Option<[u8; 16]> {
        self.ids.get(&seq).copied()
    }

    /// An event has no row, and retention of the store doesn't explain it.
    pub(crate) fn no_row(&mut self, seq: u64, id: [u8; 16]) {
        self.name(seq, id);
        self.rows.add(seq, seq);
    }

    /// The event `seq` says so.
    pub(crate) fn declare(&mut self, seq: u64, declaration: &Declaration) {
        let single;
        let (to, ranges): (&mut Vec<Said>, &[(u64, u64)]) = match declaration {
            Declaration::Expired(first, last) => {
                single = [(*first, *last)];
                (&mut self.said_expired, single.as_slice())
            }
            Declaration::Erased(ranges) => (&mut self.said_erased, ranges.as_slice()),
            Declaration::Gap(ranges) => (&mut self.said_gaps, ranges.as_slice()),
        };
        for (first, last) in ranges.iter().filter(|(first, last)| first <= last) {
            if to.len() >= MAX_RANGES {
                self.unheard += 1;
                continue;
            }
            to.push(Said {
                seq,
                first: *first,
                last: *last,
            });
        }
    }

    /// Absent records, and declarations, that were too many to be compared.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        let all = [&self.expired, &self.vanished, &self.erased, &self.rows];
        (all.iter().map(|ranges| ranges.dropped).sum(), self.unheard)
    }

    /// Payloads that are gone; declarations count below `covered`.
    pub(crate) fn explain_expired(&self, covered: u64) -> Explained {
        let mut explained = explain(&self.expired, &self.said_expired, covered);
        // The newest declaration names all that is gone. While the check ran it may have gone itself, which is told.
        let meanwhile = |range: &(u64, u64)| self.vanished.list.iter().any(|vanished| vanished.0 > range.1);
        let silent = std::mem::take(&mut explained.silent);
        (explained.before, explained.silent) = silent.into_iter().partition(meanwhile);
        explained
    }

    /// Records in erased form.
    pub(crate) fn explain_erased(&self, covered: u64) -> Explained {
        explain(&self.erased, &self.said_erased, covered)
    }

    /// Events without a row. What explains them is signed below `covered`; wherever it stands, the store acts on it as
    /// soon as it is on disk, and a kill may come before the signature.
    pub(crate) fn explain_rows(&self, covered: u64) -> Rowless {
        let silent = explain(&self.rows, &self.said_of_rows(None), u64::MAX).silent;
        let open = Ranges {
            list: explain(&self.rows, &self.said_of_rows(Some(covered)), u64::MAX).silent,
            dropped: 0,
        };
        let unsigned = explain(&open, &as_said(&silent), u64::MAX).silent;
        Rowless { silent, unsigned }
    }

    /// What was said of rows below `covered` or, signed, by a newer generation; all that was said without that.
    fn said_of_rows(&self, covered: Option<u64>) -> Vec<Said> {
        let said = self.said_gaps.iter().chain(&self.said_erased);
        let counts = |said: &&Said| match (said.seq, covered) {
            (_, None) | (ELSEWHERE, _) => true,
            (ELSEWHERE_UNSIGNED, _) => false,
            (seq, Some(covered)) => seq < covered,
        };
        said.filter(counts)
            .map(|said| Said {
                seq: u64::MAX,
                first: said.first,
                last: said.last,
            })
            .collect()
    }

    /// Whether anything is missing that nobody has declared yet.
    pub(crate) fn open(&self, covered: u64) -> bool {
        !self.explain_expired(covered).silent.is_empty()
            || !self.explain_erased(covered).silent.is_empty()
            || !self.explain_rows(covered).silent.is_empty()
    }
}

/// Ranges as if something had said them.
fn as_said(ranges: &[(u64, u64)]) -> Vec<Said> {
    let said = |(first, last): &(u64, u64)| Said {
        seq: u64::MAX,
        first: *first,
        last: *last,
    };
    ranges.iter().map(said).collect()
}

fn explain(missing: &Ranges, said: &[Said], covered: u64) -> Explained {
    let mut explained = Explained::default();
    // What was said before it went, and is signed.
    let mut said: Vec<(u64, u64)> = said
        .iter()
        .filter(|said| said.seq > said.last && (said.seq < covered || covered == u64::MAX))
        .map(|said| (said.first, said.last))
        .collect();
    said.sort_unstable();
    // How far each and all before it reach.
    let reach: Vec<u64> = said
        .iter()
        .scan(0, |reach, range| {
            *reach = range.1.max(*reach);
            Some(*reach)
        })
        .collect();
    for (first, last) in &missing.list {
        let mut at = *first;
        while at <= *last {
            let from = said.partition_point(|range| range.0 <= at);
            let end = from.checked_sub(1).and_then(|at| reach.get(at)).copied();
            if let Some(end) = end.filter(|end| *end >= at) {
                let end = end.min(*last);
                explained.declared.push((at, end));
                at = end + 1;
            } else {
                let next = said.get(from).map_or(*last, |range| (range.0 - 1).min(*last));
                explained.silent.push((at, next));
                at = next + 1;
            }
        }
    }
    explained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_is_explained() {
        let mut absences = Absences::default();
        absences.expired(0, 9);
        absences.expired(10, 29);
        absences.expired(40, 49);
        absences.declare(60, &Declaration::Expired(10, 19));
        // Not yet signed, and one that speaks of itself.
        absences.declare(99, &Declaration::Expired(40, 49));
        absences.declare(45, &Declaration::Expired(40, 49));
        let explained = absences.explain_expired(90);
        assert_eq!(explained.declared, [(10, 19)]);
        assert_eq!(explained.before, []);
        assert_eq!(explained.silent, [(0, 9), (20, 29), (40, 49)]);
        assert!(absences.open(90));
        assert_eq!(absences.explain_expired(u64::MAX).silent, [(0, 9), (20, 29)]);
    }

    #[test]
    fn what_was_erased_while_it_was_checked_is_declared_further_on() {
        let mut absences = Absences::default();
        assert!(!absences.open(100));
        absences.erased(7, [7; 16]);
        absences.no_row(7, [7; 16]);
        assert!(absences.open(100));
        absences.declare(101, &Declaration::Erased(vec![(7, 7)]));
        assert!(absences.open(100), "not signed yet");
        assert!(!absences.open(102));
    }

    #[test]
    fn what_is_too_much_to_be_compared_is_counted() {
        let mut absences = Absences::default();
        let most = MAX_RANGES as u64;
        for n in 0..most + 2 {
            absences.expired(3 * n, 3 * n + 1);
            absences.declare(3 * most + 10, &Declaration::Expired(3 * n, 3 * n + 1));
        }
        assert_eq!(absences.dropped(), (4, 2));
        let explained = absences.explain_expired(u64::MAX);
        assert_eq!((explained.silent.len(), explained.declared.len()), (0, MAX_RANGES));
    }

    #[test]
    fn a_row_is_excused_by_what_is_signed() {
        let mut absences = Absences::default();
        for seq in [3, 4, 5, 6, 9] {
            absences.no_row(seq, [0; 16]);
        }
        absences.declare(20, &Declaration::Gap(vec![(4, 4)]));
        absences.declare(40, &Declaration::Gap(vec![(4, 5)]));
        absences.declare(41, &Declaration::Erased(vec![(9, 9)]));
        let rowless = absences.explain_rows(30);
        assert_eq!(rowless.silent, [(3, 3), (6, 6)]);
        assert_eq!(rowless.unsigned, [(5, 5), (9, 9)]);
        let rowless = absences.explain_rows(42);
        assert_eq!((rowless.silent.len(), rowless.unsigned.len()), (2, 0));
        // By a newer generation.
        absences.declare(ELSEWHERE, &Declaration::Gap(vec![(3, 3)]));
        absences.declare(ELSEWHERE_UNSIGNED, &Declaration::Gap(vec![(6, 6)]));
        for covered in [42, u64::MAX] {
            let rowless = absences.explain_rows(covered);
            assert_eq!((rowless.silent, rowless.unsigned), (vec![], vec![(6, 6)]));
        }
    }

    #[test]
    fn what_went_meanwhile_may_have_said_what_went_before() {
        let mut absences = Absences::default();
        absences.expired(0, 85);
        assert_eq!(absences.explain_expired(200).silent, [(0, 85)]);
        absences.vanished(101, 170);
        absences.declare(99, &Declaration::Expired(0, 40));
        let explained = absences.explain_expired(200);
        assert_eq!((explained.before, explained.silent), (vec![(41, 85)], vec![]));
        // Not what is newer.
        absences.expired(180, 190);
        assert_eq!(absences.explain_expired(200).silent, [(180, 190)]);
    }
}
