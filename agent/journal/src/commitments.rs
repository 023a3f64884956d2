//! Commitments of records that are on disk, kept until their segment is sealed: it needs them, and
//! hashing the payloads again took a quarter of what sealing costs.

use std::collections::VecDeque;

/// Most that are kept, 4 MiB: a segment of common events. The oldest make room and are hashed again.
const MOST: usize = 1 << 17;
/// Records that are shorter on average are hashed again: that takes less than their commitments' memory is worth.
const WORTH: usize = 384;
/// Runs grow to about this many: a run is let go as a whole.
const RUN: usize = 1 << 10;

/// Commitments of some records.
#[derive(Debug, Default)]
pub(crate) struct Commitments {
    runs: VecDeque<Run>,
    count: usize,
}

/// Those of records that follow each other.
#[derive(Debug)]
struct Run {
    first_seq: u64,
    held: Vec<[u8; 32]>,
}

impl Run {
    fn end(&self) -> u64 {
        self.first_seq + self.held.len() as u64
    }
}

/// Whether commitments of so many records are worth keeping that are so long together.
pub(crate) fn are_worth(records: usize, bytes: usize) -> bool {
    records * WORTH <= bytes
}

impl Commitments {
    /// Adds those of the records from `first_seq` on, behind all that were added before.
    pub(crate) fn add(&mut self, first_seq: u64, mut commitments: Vec<[u8; 32]>) {
        if commitments.is_empty() {
            return;
        }
        self.count += commitments.len();
        match self.runs.back_mut() {
            Some(last) if last.end() == first_seq && last.held.len() < RUN => last.held.append(&mut commitments),
            _ => {
                commitments.shrink_to_fit();
                self.runs.push_back(Run {
                    first_seq,
                    held: commitments,
                });
            }
        }
        while self.count > MOST
            && let Some(run) = self.runs.pop_front()
        {
            self.count -= run.held.len();
        }
    }

    /// Takes out those of the records below `end`, where a segment ended.
    pub(crate) fn take_below(&mut self, end: u64) -> Self {
        let mut taken = Self::default();
        while let Some(mut run) = self.runs.pop_front_if(|run| run.first_seq < end) {
            let below = usize::try_from(end - run.first_seq)
                .unwrap_or(usize::MAX)
                .min(run.held.len());
            let rest = run.held.split_off(below);
            self.count -= run.held.len();
            taken.count += run.held.len();
            taken.runs.push_back(run);
            if !rest.is_empty() {
                self.runs.push_front(Run {
                    first_seq: end,
                    held: rest,
                });
            }
        }
        taken
    }

    /// That of the record `seq`, if it is kept.
    pub(crate) fn get(&self, seq: u64) -> Option<[u8; 32]> {
        let behind = self.runs.partition_point(|run| run.first_seq <= seq);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        run.held.get(usize::try_from(seq - run.first_seq).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seq: u64) -> [u8; 32] {
        let mut commitment = [0; 32];
        commitment[..8].copy_from_slice(&seq.to_be_bytes());
        commitment
    }

    fn add(all: &mut Commitments, seqs: std::ops::Range<u64>) {
        all.add(seqs.start, seqs.map(of).collect());
    }

    #[test]
    fn each_is_that_of_its_record() {
        let mut all = Commitments::default();
        for seqs in [10..20, 20..21, 21..60] {
            add(&mut all, seqs);
        }
        let segment = all.take_below(40);
        for seq in 0..100 {
            assert_eq!(segment.get(seq), (10..40).contains(&seq).then(|| of(seq)), "{seq}");
            assert_eq!(all.get(seq), (40..60).contains(&seq).then(|| of(seq)), "{seq}");
        }
        assert_eq!((segment.count, all.count), (30, 20));
        add(&mut all, 60..70);
        assert_eq!(all.get(65), Some(of(65)));
        assert_eq!(all.take_below(30).count, 0, "nothing is left below");
        assert_eq!(all.get(40), Some(of(40)));
    }

    #[test]
    fn none_is_taken_for_another_where_some_are_missing() {
        let mut all = Commitments::default();
        add(&mut all, 0..10);
        add(&mut all, 15..20);
        assert_eq!(
            (all.get(9), all.get(14), all.get(15)),
            (Some(of(9)), None, Some(of(15)))
        );
        let segment = all.take_below(12);
        assert_eq!((segment.get(9), segment.get(11)), (Some(of(9)), None));
        add(&mut all, 20..25);
        assert_eq!(
            (all.get(9), all.get(15), all.get(24)),
            (None, Some(of(15)), Some(of(24)))
        );
    }

    #[test]
    fn the_oldest_make_room() {
        let mut all = Commitments::default();
        let most = MOST as u64;
        for first in (0..2 * most).step_by(100) {
            add(&mut all, first..first + 100);
            assert!(all.count <= MOST, "{first}");
        }
        assert!(all.count > MOST - 2 * RUN, "{}", all.count);
        assert_eq!(all.count, all.runs.iter().map(|run| run.held.len()).sum::<usize>());
        assert_eq!((all.get(5), all.get(2 * most - 1)), (None, Some(of(2 * most - 1))));
        // A frame that is longer than all that may be kept.
        add(&mut all, 4 * most..5 * most + 1);
        assert_eq!((all.count, all.runs.len()), (0, 0));
    }

    #[test]
    fn small_records_are_not_worth_it() {
        assert!(are_worth(10, 3840) && !are_worth(10, 3839));
    }
}
