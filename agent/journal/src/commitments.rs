//! Commitments of records that are on disk, kept until their segment is sealed: it needs them, and
//! hashing the payloads again took a quarter of what sealing costs.

use std::collections::VecDeque;

/// Most that are kept, 8 MiB: two segments of common events. The oldest make room and are hashed again.
const MOST: usize = 1 << 18;

/// Commitments of records that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Commitments {
    first_seq: u64,
    held: VecDeque<[u8; 32]>,
}

impl Commitments {
    /// Adds those of the records from `first_seq` on. What doesn't follow the last takes its place.
    pub(crate) fn extend<'a>(&mut self, first_seq: u64, commitments: impl IntoIterator<Item = &'a [u8; 32]>) {
        if first_seq != self.end() {
            self.held.clear();
            self.first_seq = first_seq;
        }
        for commitment in commitments {
            if self.held.len() == MOST {
                self.held.pop_front();
                self.first_seq += 1;
            }
            self.held.push_back(*commitment);
        }
    }

    /// Takes out those of the records below `end`.
    pub(crate) fn take_below(&mut self, end: u64) -> Self {
        let count = usize::try_from(end.saturating_sub(self.first_seq)).unwrap_or(usize::MAX);
        let rest = self.held.split_off(count.min(self.held.len()));
        let taken = Self {
            first_seq: self.first_seq,
            held: std::mem::replace(&mut self.held, rest),
        };
        self.first_seq = taken.end();
        taken
    }

    /// That of the record `seq`, if it is kept.
    pub(crate) fn get(&self, seq: u64) -> Option<[u8; 32]> {
        let at = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        self.held.get(at).copied()
    }

    fn end(&self) -> u64 {
        self.first_seq + self.held.len() as u64
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
        let commitments: Vec<_> = seqs.clone().map(of).collect();
        all.extend(seqs.start, &commitments);
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
        add(&mut all, 60..70);
        assert_eq!(all.get(65), Some(of(65)));
        assert_eq!(all.take_below(30).get(40), None, "nothing is left below");
        assert_eq!(all.get(40), Some(of(40)));
    }

    #[test]
    fn none_is_taken_for_another_where_seqs_were_given_up() {
        let mut all = Commitments::default();
        add(&mut all, 0..10);
        add(&mut all, 15..20);
        assert_eq!((all.get(9), all.get(14), all.get(15)), (None, None, Some(of(15))));
        assert!(all.take_below(12).get(11).is_none());
        add(&mut all, 20..25);
        assert_eq!((all.get(15), all.get(24)), (Some(of(15)), Some(of(24))));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut all = Commitments::default();
        let most = MOST as u64;
        add(&mut all, 5..most);
        add(&mut all, most..most + 20);
        assert_eq!(all.held.len(), MOST);
        assert_eq!((all.get(19), all.get(20)), (None, Some(of(20))));
        assert_eq!(all.get(most + 19), Some(of(most + 19)));
    }
}
