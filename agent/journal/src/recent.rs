//! The newest frames, from the writer's memory: whoever follows the journal's head need not read them back from disk.
//!
//! Only for a reader that keeps up. One that falls behind by more than the limit reads the disk, and nothing is kept
//! until it is near the head again; so what is kept is never long of use to nobody.

use std::collections::VecDeque;

use crate::reader::{BATCH, Batch};

/// What a frame takes beside its records.
const FRAME: usize = 64;
/// A larger buffer is addresses, of which only those that were written to are memory.
const ADDRESSES: usize = 32 << 20;

/// Frames that follow each other and are on disk.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    frames: VecDeque<Frame>,
    bytes: usize,
    limit: usize,
    /// Whether the reader was near the head.
    following: bool,
}

#[derive(Debug)]
struct Frame {
    first_seq: u64,
    next_seq: u64,
    records: Vec<u8>,
}

impl Frame {
    fn memory(&self) -> usize {
        let room = self.records.capacity();
        FRAME + if room < ADDRESSES { room } else { self.records.len() }
    }
}

impl Recent {
    /// Keeps at most so many bytes from now on; none at first.
    pub(crate) fn limit(&mut self, limit: usize) {
        self.limit = limit;
        self.forget();
    }

    /// Whether the next frame is kept.
    pub(crate) fn is_following(&self) -> bool {
        self.following
    }

    /// Keeps a frame's records, those behind the last that were kept.
    pub(crate) fn push(&mut self, first_seq: u64, next_seq: u64, mut records: Vec<u8>) {
        if !self.following {
            return;
        }
        // Sinks may hold it for long: no room that is not used.
        let used = records.len() + records.len() / 4;
        if (used + 1..ADDRESSES).contains(&records.capacity()) {
            records.shrink_to_fit();
        }
        let frame = Frame {
            first_seq,
            next_seq,
            records,
        };
        self.bytes += frame.memory();
        self.frames.push_back(frame);
        if self.bytes > self.limit {
            self.forget();
        }
    }

    /// The records from `seq` on, for their only reader: they are kept no more. `None` if it has to read the disk.
    /// `durable` is the seq behind all that may be read, `behind` how many bytes are before it.
    pub(crate) fn take(&mut self, seq: u64, durable: u64, behind: impl FnOnce() -> u64) -> Option<Batch> {
        if !self.following {
            self.following = self.limit > 0 && behind() <= self.limit as u64 / 4;
            return None;
        }
        while let Some(passed) = self.frames.pop_front_if(|frame| frame.next_seq <= seq) {
            self.bytes -= passed.memory();
        }
        let mut batch = self.pop(seq, durable)?;
        while batch.bytes() < BATCH
            && let Some(next) = self.pop(batch.next_seq(), durable)
        {
            batch.append(&next);
        }
        Some(batch)
    }

    fn pop(&mut self, seq: u64, durable: u64) -> Option<Batch> {
        let is_next = |frame: &mut Frame| frame.first_seq == seq && frame.next_seq <= durable;
        let frame = self.frames.pop_front_if(is_next)?;
        self.bytes -= frame.memory();
        Some(Batch::new(frame.first_seq, frame.next_seq, frame.records))
    }

    /// Drops all, and keeps nothing until the reader is near the head again.
    pub(crate) fn forget(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.following = false;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Keeps up to 1 MiB; the reader is at the head, which is `seq`.
    fn following(seq: u64) -> Recent {
        let mut recent = Recent::default();
        recent.limit(1 << 20);
        assert!(recent.take(seq, seq, || 0).is_none() && recent.is_following());
        recent
    }

    impl Recent {
        fn next(&mut self, seq: u64, durable: u64) -> Option<Batch> {
            self.take(seq, durable, || panic!("it is followed"))
        }
    }

    #[test]
    fn frames_are_given_once_and_small_ones_together() {
        let mut recent = following(10);
        recent.push(10, 12, vec![1; 100]);
        recent.push(12, 13, vec![2; 50]);
        recent.push(13, 20, vec![3; BATCH]);
        recent.push(20, 21, vec![4; 7]);
        let batch = recent.next(10, 21).unwrap();
        assert_eq!((batch.first_seq(), batch.next_seq()), (10, 20));
        assert_eq!(batch.as_bytes(), [vec![1; 100], vec![2; 50], vec![3; BATCH]].concat());
        let batch = recent.next(20, 21).unwrap();
        assert_eq!((batch.first_seq(), batch.as_bytes()), (20, &[4; 7][..]));
        assert!(recent.next(10, 21).is_none(), "it was given away");
        assert_eq!((recent.frames.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn a_large_frame_is_not_copied() {
        let mut recent = following(0);
        let records = vec![1; BATCH];
        let at = records.as_ptr();
        recent.push(0, 9, records);
        assert_eq!(recent.next(0, 9).unwrap().as_bytes().as_ptr(), at);
    }

    #[test]
    fn nothing_is_given_that_is_not_durable_or_not_asked_for() {
        let mut recent = following(5);
        recent.push(5, 6, vec![1]);
        recent.push(6, 9, vec![2]);
        assert_eq!(recent.next(5, 6).unwrap().next_seq(), 6, "the second is not durable");
        assert!(recent.next(6, 6).is_none());
        assert!(recent.next(7, 9).is_none(), "it begins within a frame");
        assert_eq!(recent.next(6, 9).unwrap().next_seq(), 9);
        recent.push(9, 10, vec![3]);
        assert!(recent.next(4, 10).is_none(), "what is before is on disk");
        assert_eq!(recent.next(9, 10).unwrap().as_bytes(), [3]);
        recent.push(10, 11, vec![4]);
        recent.push(11, 12, vec![5]);
        assert_eq!(
            recent.next(11, 12).unwrap().as_bytes(),
            [5],
            "what was passed is dropped"
        );
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn one_that_falls_behind_finds_nothing_until_it_is_near_the_head() {
        let mut recent = following(0);
        for seq in 0..4 {
            recent.push(seq, seq + 1, vec![0; 300 << 10]);
            assert_eq!(recent.is_following(), seq < 3, "{seq}");
        }
        assert_eq!((recent.frames.capacity(), recent.bytes), (0, 0));
        recent.push(4, 5, vec![1]);
        assert!(recent.take(0, 5, || 1 << 20).is_none() && !recent.is_following());
        assert!(recent.take(3, 5, || 1 << 18).is_none() && recent.is_following());
        recent.push(5, 6, vec![2]);
        assert!(recent.next(4, 6).is_none(), "that was not kept");
        assert_eq!(recent.next(5, 6).unwrap().as_bytes(), [2]);
    }

    #[test]
    fn memory_that_was_not_written_to_does_not_count() {
        let mut recent = following(0);
        let mut records = Vec::with_capacity(ADDRESSES);
        records.extend_from_slice(&[0; 100]);
        recent.push(0, 1, records);
        assert!(recent.is_following() && recent.bytes < 1000, "{}", recent.bytes);
    }

    #[test]
    fn room_that_is_not_used_is_not_held() {
        let mut recent = following(0);
        for seq in 0..100 {
            let mut records = Vec::with_capacity(1 << 16);
            records.extend_from_slice(&[0; 1000]);
            recent.push(seq, seq + 1, records);
        }
        assert!(recent.bytes <= 100 * (1000 + FRAME), "{}", recent.bytes);
        let batch = recent.next(0, 1).unwrap();
        assert!(batch.room() < 1100, "{}", batch.room());
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut recent = Recent::default();
        assert!(recent.take(0, 0, || 0).is_none() && !recent.is_following());
        recent.limit(100);
        assert!(recent.take(0, 0, || 0).is_none() && recent.is_following());
        recent.limit(0);
        assert!(recent.take(0, 0, || 0).is_none() && !recent.is_following());
    }
}
