//! Retention: payloads go only after the journal itself has said so.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::upkeep::duration_ns;
use super::{Core, UNCUT};
use crate::fault::Fault;
use crate::format::{LEAF, PREFIX, Prefix};
use crate::fs::read_full_at;
use crate::options::{AgentNote, PauseReason};
use crate::shared::Segment;

/// A segment that may go, with the seq behind its last record.
pub(crate) struct Candidate {
    segment: Arc<Segment>,
    end_seq: u64,
}

/// What the journal has said to be gone and still has.
pub(crate) struct Declared {
    /// Behind the event that says so.
    signed_at: u64,
    /// When it said so, monotonic ns.
    since_ns: u64,
    /// A checkpoint was given the room that is kept for the journal's own frames.
    room_given: bool,
    expired: Vec<Candidate>,
}

/// How often it is looked whether what is to go is signed.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How long a journal without room waits at least for the signature under what it
/// said to be gone; two intervals of checkpoints if that is longer. Then a checkpoint is given the room that is kept
/// for the journal's own frames, and is waited for as long. A volume so full that none can be written all the same may
/// need the room for just that.
const UNSIGNED: Duration = Duration::from_secs(5);

impl Core {
    /// How often retention is looked at.
    pub(crate) fn retention_pace(&self) -> Duration {
        (self.options.keep_age / 16).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// Removes the payloads that `keep` no longer asks for, and those that would
    /// leave no room for the next segment: it needn't wait then for a signature.
    pub(crate) fn retain(&mut self) {
        if !self.remove_declared(false) {
            return;
        }
        let (total, leaves) = self.shared.bytes();
        let room = self.options.max_size.saturating_sub(self.options.segment_size);
        let room = room.saturating_sub(self.counted_leaves(leaves));
        let oldest_kept = self.now.wall_ns.saturating_sub(duration_ns(self.options.keep_age));
        let unneeded = self.removable(false).len();
        let mut left = total;
        let mut expired = Vec::new();
        for candidate in self.removable(true) {
            let bytes = candidate.segment.bytes.load(Relaxed);
            let newer = left.saturating_sub(bytes);
            let newest_ns = self.newest_ns(&candidate.segment);
            // Whichever keeps less decides.
            let kept = newer < self.options.keep_size && newest_ns >= oldest_kept;
            if (kept || expired.len() >= unneeded) && left <= room {
                break;
            }
            left = newer;
            expired.push(candidate);
        }
        if let Some(expired) = self.declare(expired) {
            self.declared = Some(expired);
            self.remove_declared(false);
        }
    }

    /// Removes what was declared, once that is signed; false as long as it isn't.
    /// Where there is no room a signature that can't be had is not waited for.
    fn remove_declared(&mut self, full: bool) -> bool {
        let signed = self.shared.checkpoint().map_or(0, |newest| newest.size);
        let Some(mut declared) = self.declared.take() else {
            return true;
        };
        let waited = self.now.mono_ns.saturating_sub(declared.since_ns);
        let patience = UNSIGNED.max(self.options.checkpoint_interval * 2);
        let mut waits = !(full && waited >= duration_ns(patience));
        if signed < declared.signed_at && !waits && !declared.room_given && self.give_headroom() {
            // That is waited for in turn.
            declared.room_given = true;
            declared.since_ns = self.now.mono_ns;
            waits = true;
        }
        if signed < declared.signed_at && waits {
            self.declared = Some(declared);
            let soon = self.now.mono_ns + duration_ns(LOOK);
            self.upkeep.retention_ns = self.upkeep.retention_ns.min(soon);
            return false;
        }
        self.remove(&declared.expired);
        self.counted.expired += 1;
        true
    }

    /// Gives back what is set aside for the newest segment and not used, where the volume is full: a checkpoint
    /// needs little. False if that is nothing. With room it is set aside again.
    fn give_headroom(&mut self) -> bool {
        if self.pause.reason() != Some(PauseReason::Reserve) {
            return false;
        }
        let Some(active) = &mut self.active else { return false };
        let needed = active.end + UNCUT;
        if active.allocated <= needed || active.file.set_len(needed).is_err() {
            return false;
        }
        active.allocated = needed;
        active.segment.bytes.store(needed, Relaxed);
        self.shared.alarm.ring();
        true
    }

    /// Removes confirmed payloads ahead of their time, so that `wanted` bytes
    /// fit below `max_size`, and those that only yielding sinks still need;
    /// false if nothing could be removed.
    pub(crate) fn make_room(&mut self, wanted: u64) -> bool {
        let (payload, leaves) = self.shared.bytes();
        let limit = self.options.max_size.saturating_sub(self.counted_leaves(leaves));
        let mut left = payload;
        let mut expired = Vec::new();
        for candidate in self.removable(true) {
            if left.saturating_add(wanted) <= limit {
                break;
            }
            left = left.saturating_sub(candidate.segment.bytes.load(Relaxed));
            expired.push(candidate);
        }
        !expired.is_empty() && self.expire(expired)
    }

    /// As how much leaves and tiles count: they never take the place of payloads
    /// beyond half of `max_size`, nor that of three segments, of which one is
    /// written, one is sealed and one is made.
    pub(crate) fn counted_leaves(&self, leaves: u64) -> u64 {
        let max_size = self.options.max_size;
        let needed = 3 * (self.options.segment_size + self.headroom());
        leaves.min(max_size / 2).min(max_size.saturating_sub(needed))
    }

    /// Removes the oldest payload that nobody needs, or only yielding sinks do,
    /// because the volume is full; false if there is none.
    pub(crate) fn remove_oldest(&mut self) -> bool {
        let mut removable = self.removable(true);
        removable.truncate(1);
        self.expire(removable)
    }

    /// The oldest segments that no sink needs (if `full`, none that doesn't
    /// yield) and that are sealed, or never can be. Oldest first, so what
    /// nobody needs goes before what a sink loses.
    fn removable(&self, full: bool) -> Vec<Candidate> {
        let hold = self.shared.lowest_hold(full);
        let segments = self.shared.segments.read();
        let leaves = self.shared.leaves.read();
        let ends = segments.keys().skip(1).copied();
        let active = self.active.as_ref().map(|active| active.first_seq);
        segments
            .values()
            .zip(ends)
            .take_while(|(segment, end_seq)| {
                *end_seq <= hold
                    && Some(segment.first_seq) != active
                    && (leaves.contains_key(&segment.first_seq) || self.unsealable.contains(&segment.first_seq))
            })
            .map(|(segment, end_seq)| Candidate {
                segment: Arc::clone(segment),
                end_seq,
            })
            .collect()
    }

    /// Declares these, and removes them as soon as that is signed; false until then,
    /// which is to be asked again.
    fn expire(&mut self, expired: Vec<Candidate>) -> bool {
        if self.declared.is_none() {
            let Some(declared) = self.declare(expired) else {
                return false;
            };
            self.declared = Some(declared);
        }
        self.remove_declared(true)
    }

    /// Says what is to go, and all that has gone before: the event that said
    /// that may be in what goes now, so the newest one says everything.
    fn declare(&mut self, expired: Vec<Candidate>) -> Option<Declared> {
        let last = expired.last()?;
        let note = AgentNote::Retention {
            first: 0,
            last: last.end_seq - 1,
            segments: expired.len() as u64,
        };
        let records = self.word(note);
        if self.faults.is(Fault::RemoveEarly) {
            self.remove(&expired);
        }
        let declared = self.append_own(records);
        declared.then_some(Declared {
            signed_at: self.next_seq,
            since_ns: self.now.mono_ns,
            room_given: false,
            expired,
        })
    }

    fn remove(&mut self, expired: &[Candidate]) {
        for candidate in expired {
            let first_seq = candidate.segment.first_seq;
            self.shared.segments.write().remove(&first_seq);
            // A file that stays is found again at the next start.
            let _ = self.shared.fs.remove(&candidate.segment.path);
        }
    }

    /// When a sealed segment's newest record was received: its last leaf says so.
    fn newest_ns(&self, segment: &Segment) -> u64 {
        let known = segment.newest_ns.load(Relaxed);
        if known != 0 {
            return known;
        }
        let read = || {
            let path = self.shared.layout.leaf(segment.first_seq);
            let file = self.shared.fs.open_read(&path).ok()?;
            let mut prefix = [0; PREFIX];
            let at = file.size().ok()?.checked_sub(LEAF as u64)?;
            let read = read_full_at(&*file, &mut prefix, at).ok()?;
            let prefix = Prefix::parse(&prefix).ok()?;
            (read == PREFIX).then_some(prefix.received_ns)
        };
        // What can't be read is kept until size decides.
        let newest = read().unwrap_or(u64::MAX);
        segment.newest_ns.store(newest, Relaxed);
        newest
    }
}
