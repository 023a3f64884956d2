//! What is done between commits: marks, notes, pauses, mending.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::retention::LOOK;
use super::{Core, Done, Refused, TICK, Time, UNCUT};
use crate::collapse;
use crate::fault::Fault;
use crate::fs::is_full;
use crate::options::{AgentNote, PauseReason};
use crate::reserve;
use crate::seal::{SealJob, SealResult};
use crate::shared::Segment;
use crate::tree::AT_ONCE;

/// A mark follows the last sync of a burst within 1 s; half of it leaves the
/// rest for the sync.
const MARK_AFTER: u64 = 500_000_000;
/// A fault that comes and goes must not fill the journal with its events.
const TELL_EVERY: u64 = 60_000_000_000;
/// A few MB of tiles at most come in that time.
const TILES_EVERY: u64 = 20_000_000;
const FIRST_RETRY: u64 = 10_000_000;
const LAST_RETRY: u64 = 1_000_000_000;

/// Why and since when submissions are refused.
#[derive(Default)]
pub(crate) struct Pause {
    reason: Option<PauseReason>,
    /// Next try to resume, on the monotonic clock.
    retry_ns: u64,
    backoff_ns: u64,
    /// What a failed sync left without an answer.
    stranded: Vec<(Done, u64)>,
    /// The reserve was given up and isn't there again.
    reserve_given: bool,
    /// When the last pause of each reason was told.
    told_ns: HashMap<PauseReason, u64>,
    /// This pause isn't told, because one like it was a short while ago.
    silent: bool,
}

impl Pause {
    pub(crate) fn reason(&self) -> Option<PauseReason> {
        self.reason
    }

    pub(crate) fn strand(&mut self, done: Done, since_ns: u64) {
        self.stranded.push((done, since_ns));
    }

    pub(crate) fn oldest(&self) -> Option<u64> {
        self.stranded.iter().map(|(_, since)| *since).min()
    }

    /// Whether an event for this reason may be told: one a minute.
    fn may_tell(&mut self, reason: PauseReason, mono_ns: u64) -> bool {
        let last = self.told_ns.get(&reason);
        let may = last.is_none_or(|last| mono_ns.saturating_sub(*last) >= TELL_EVERY);
        if may {
            self.told_ns.insert(reason, mono_ns);
        }
        may
    }

    fn answer(&mut self, refused: Refused) {
        for (done, _) in self.stranded.drain(..) {
            done(Err(refused));
        }
    }

    pub(crate) fn give_up_all(&mut self) {
        self.answer(Refused::Unknown);
    }

    fn give_up_before(&mut self, mono_ns: u64) {
        let (old, young) = std::mem::take(&mut self.stranded)
            .into_iter()
            .partition(|(_, since)| *since < mono_ns);
        self.stranded = young;
        for (done, _) in Vec::from_iter::<Vec<(Done, u64)>>(old) {
            done(Err(Refused::Unknown));
        }
    }
}

/// When what is due.
#[derive(Default)]
pub(crate) struct Upkeep {
    /// When the mark is due, on the monotonic clock.
    mark_ns: Option<u64>,
    /// When retention is looked at again.
    pub(crate) retention_ns: u64,
    /// When notes that could not be told are tried again.
    notes_ns: u64,
    /// When seals that failed are tried again.
    seal_ns: u64,
    /// When tiles may be written again.
    tiles_ns: u64,
    /// Leaves are to be looked at.
    leaves: bool,
}

impl Upkeep {
    pub(crate) fn mark_due(&mut self, now: Time) {
        self.mark_ns = Some(now.mono_ns + MARK_AFTER);
    }

    /// A note has come.
    pub(crate) fn tell_now(&mut self) {
        self.notes_ns = 0;
    }

    /// Whether a mark or nothing was the last frame.
    pub(crate) fn marked(&self) -> bool {
        self.mark_ns.is_none()
    }

    /// The mark that was due is the last frame.
    pub(crate) fn mark_written(&mut self) {
        self.mark_ns = None;
    }

    /// For a tail that recovery found without a mark.
    pub(crate) fn mark_soon(&mut self) {
        self.mark_ns = Some(0);
    }
}

impl Core {
    /// Moves to the clock of the thread that runs from now on.
    pub(crate) fn begin(&mut self, now: Time) {
        self.now = now;
        self.upkeep.retention_ns = now.mono_ns + duration_ns(TICK);
        self.pause.retry_ns = now.mono_ns;
        if self.upkeep.mark_ns.is_some() {
            self.upkeep.mark_due(now);
        }
    }

    /// Does what is due; to be called whenever [`next_due`](Self::next_due) says.
    pub fn maintain(&mut self, now: Time) {
        self.now = now;
        self.look_at_pause();
        self.flush_notes();
        if self.now.mono_ns >= self.upkeep.retention_ns {
            self.upkeep.retention_ns = self.now.mono_ns + duration_ns(self.retention_pace());
            self.retain();
            self.upkeep.leaves = true;
        }
        if self.upkeep.mark_ns.is_some_and(|due| due <= now.mono_ns) && self.active.is_some() {
            self.upkeep.mark_ns = None;
            // A new segment is a mark too; without space it is tried again.
            if !self.append_mark() && self.upkeep.mark_ns.is_none() {
                self.upkeep.mark_ns = Some(now.mono_ns + duration_ns(TICK));
            }
        }
    }

    /// How long the writer may sleep, `None` while nothing is due.
    pub fn next_due(&self, now: Time) -> Option<Duration> {
        let now = now.mono_ns;
        let mark = self.upkeep.mark_ns.filter(|_| self.active.is_some());
        let pause = self.pause.reason.map(|_| self.pause.retry_ns);
        let notes = (!self.notes.is_empty()).then_some(self.upkeep.notes_ns);
        let seals = (!self.seals.is_empty()).then_some(self.upkeep.seal_ns);
        let retention = Some(self.upkeep.retention_ns);
        [mark, pause, notes, seals, retention]
            .into_iter()
            .flatten()
            .min()
            .map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// The oldest submission without an answer, on the monotonic clock.
    pub(crate) fn oldest_stranded(&self) -> Option<u64> {
        self.pause.oldest()
    }

    /// Tells what is to be told, as far as that is possible now.
    pub(crate) fn flush_notes(&mut self) {
        self.upkeep.notes_ns = self.now.mono_ns + duration_ns(TICK);
        while let Some(note) = self.notes.front().cloned() {
            let records = self.word(note);
            if !records.is_empty() && !self.append_own(records) {
                return;
            }
            self.notes.pop_front();
        }
    }

    /// Refuses submissions from now on.
    pub(crate) fn pause_for(&mut self, reason: PauseReason) {
        self.pause.retry_ns = self.next_retry();
        if self.pause.reason == Some(reason) {
            return;
        }
        self.pause.reason = Some(reason);
        *self.shared.paused.lock() = Some(reason);
        self.pause.silent = !self.pause.may_tell(reason, self.now.mono_ns);
        if !self.pause.silent {
            self.tell(AgentNote::Paused(reason));
        }
    }

    /// Tells of a failed sync.
    pub(crate) fn tell_failed_sync(&mut self, seq: u64) {
        if self.pause.may_tell(PauseReason::SyncFailed, self.now.mono_ns) {
            self.tell(AgentNote::SyncFailed { seq });
        }
    }

    /// There is no segment to write to: one must be made first.
    pub(crate) fn break_off(&mut self, now: Time) {
        self.pause.reason = Some(PauseReason::SyncFailed);
        self.pause.backoff_ns = FIRST_RETRY;
        self.pause.retry_ns = now.mono_ns + FIRST_RETRY;
        *self.shared.paused.lock() = self.pause.reason;
    }

    /// Makes the segment that a failed sync asks for; then what waited is
    /// refused, since nothing of it can come back.
    pub(crate) fn mend(&mut self) {
        if self.faults.is(Fault::ReuseSegment) && self.active.is_some() {
            self.pause.answer(Refused::SyncFailed);
            return self.resume();
        }
        let mut result = match &self.active {
            Some(_) => Ok(()),
            None => self.create_segment(0),
        };
        if result.as_ref().is_err_and(is_full) && self.release_reserve() {
            result = self.create_segment(0);
        }
        match result {
            Ok(()) => {
                self.pause.answer(Refused::SyncFailed);
                self.resume();
            }
            Err(_) => {
                self.pause.retry_ns = self.now.mono_ns + self.pause.backoff_ns;
                self.pause.backoff_ns = (self.pause.backoff_ns * 2).min(LAST_RETRY);
            }
        }
    }

    fn resume(&mut self) {
        self.pause.reason = None;
        *self.shared.paused.lock() = None;
        if self.pause.reserve_given && !self.refill() {
            self.pause_for(PauseReason::Reserve);
        }
    }

    /// When a pause is looked at again: soon, if what makes room is to be signed first.
    fn next_retry(&self) -> u64 {
        let pace = if self.declared.is_some() { LOOK } else { TICK };
        self.now.mono_ns + duration_ns(pace)
    }

    fn look_at_pause(&mut self) {
        let give_up = duration_ns(self.options.give_up);
        self.pause.give_up_before(self.now.mono_ns.saturating_sub(give_up));
        let Some(reason) = self.pause.reason else {
            return;
        };
        if self.now.mono_ns < self.pause.retry_ns {
            return;
        }
        self.pause.retry_ns = self.next_retry();
        match reason {
            PauseReason::SyncFailed => return self.mend(),
            PauseReason::Reserve => {
                self.retain();
                // Confirmed payloads go before their time: new events matter more.
                while !self.refill() {
                    if !self.remove_oldest() {
                        return;
                    }
                }
            }
            PauseReason::SizeLimit => {
                if !self.has_size_for(0) {
                    return;
                }
            }
        }
        // Retention may have failed a sync and mended it, or not.
        if self.pause.reason == Some(reason) {
            let silent = self.pause.silent;
            self.resume();
            if !silent {
                self.tell(AgentNote::Resumed(reason));
            }
        }
    }

    /// Whether the volume has room again for a segment and the whole reserve;
    /// the reserve is then there again.
    fn refill(&mut self) -> bool {
        let fs = Arc::clone(&self.shared.fs);
        let layout = &self.shared.layout;
        let have = reserve::size(&*fs, layout);
        let need = self.options.segment_size + self.headroom() + self.options.reserve.saturating_sub(have);
        let free = fs.free(layout.data()).unwrap_or(0);
        if free < need {
            return false;
        }
        let refilled = reserve::fill(&*fs, layout, self.options.reserve).is_ok();
        self.pause.reserve_given &= !refilled;
        if !self.allocate_active() {
            return false;
        }
        if refilled && self.active.is_none() {
            return self.create_segment(0).is_ok();
        }
        refilled
    }

    /// Sets a whole segment's space aside for the one being written, as recovery
    /// could not on a full disk.
    fn allocate_active(&mut self) -> bool {
        let size = self.options.segment_size + self.headroom();
        self.lengthen_active(size)
    }

    /// Makes the segment being written at least so long. That is on disk before anything behind its former end is
    /// written: a power cut must not leave a file that ends with its last frame.
    fn lengthen_active(&mut self, size: u64) -> bool {
        match &mut self.active {
            Some(active) if active.allocated < size => {
                let done = active.file.allocate(size).and_then(|()| active.file.sync()).is_ok();
                if done {
                    active.allocated = size;
                }
                done
            }
            _ => true,
        }
    }

    /// Whether one of the journal's own frames of `len` bytes can be written
    /// without asking a full volume for space; takes the reserve if it must.
    pub(crate) fn has_space_for(&mut self, len: u64) -> bool {
        let fits = |core: &Self| {
            let active = core.active.as_ref();
            active.is_some_and(|active| active.end + len + UNCUT <= active.allocated)
        };
        if self.active.is_none() || fits(self) {
            return self.active.is_some();
        }
        let _ = self.allocate_active() || (self.release_reserve() && self.allocate_active());
        if fits(self) {
            return true;
        }
        // Not a whole segment's, then: as much as this frame needs.
        let end = self.active.as_ref().map_or(0, |active| active.end);
        self.lengthen_active(end + len + UNCUT)
    }

    /// Gives the reserve's space to what must be written; false if there is none.
    pub(crate) fn release_reserve(&mut self) -> bool {
        let released = reserve::release(&*self.shared.fs, &self.shared.layout);
        if released {
            self.pause.reserve_given = true;
            // Without it the agent can't go on as if nothing were.
            if self.pause.reason.is_none() {
                self.pause_for(PauseReason::Reserve);
            }
        }
        released
    }

    /// The next segment to be sealed, if one is due.
    pub fn take_seal(&mut self, now: Time) -> Option<SealJob> {
        if now.mono_ns < self.upkeep.seal_ns {
            return None;
        }
        self.seals.pop_front()
    }

    /// Whether so many tiles have come together that they are to be written;
    /// not again at once, so that a disk that refuses them isn't asked all the time.
    pub(crate) fn take_tiles(&mut self, now: Time) -> bool {
        let due = now.mono_ns >= self.upkeep.tiles_ns && self.shared.tree.lock().pending() >= AT_ONCE;
        if due {
            self.upkeep.tiles_ns = now.mono_ns + TILES_EVERY;
        }
        due
    }

    /// Bytes below which leaves and tiles are to be brought, if the oldest are to be collapsed now.
    pub(crate) fn take_collapse(&mut self) -> Option<u64> {
        let limit = self.options.max_size / 2;
        let due = std::mem::take(&mut self.upkeep.leaves) && collapse::begin(&self.shared, limit);
        due.then_some(limit)
    }

    /// Takes the result of a seal.
    pub fn sealed(&mut self, job: SealJob, result: SealResult, now: Time) {
        self.now = now;
        match result {
            SealResult::Sealed {
                records,
                bytes,
                newest_ns,
                span,
            } => {
                self.counted.sealed += 1;
                self.shared.spans.lock().insert(job.first_seq, span);
                self.shared.leaves.write().insert(job.first_seq, records);
                self.note_size(job.first_seq, bytes, newest_ns);
                self.upkeep.retention_ns = 0;
            }
            SealResult::Damaged {
                offset,
                missing,
                bytes,
                newest_ns,
            } => {
                self.unsealable.insert(job.first_seq);
                self.note_size(job.first_seq, bytes, newest_ns);
                self.tell(AgentNote::Damage {
                    segment: job.first_seq,
                    offset,
                    first: missing.0,
                    last: missing.1,
                });
            }
            SealResult::Gone => {}
            SealResult::Failed(error) => {
                if is_full(&error) {
                    self.release_reserve();
                }
                self.upkeep.seal_ns = now.mono_ns + duration_ns(TICK);
                self.seals.push_back(job);
            }
        }
    }

    fn note_size(&self, first_seq: u64, bytes: u64, newest_ns: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let segments = self.shared.segments.read();
        if let Some(segment) = segments.get(&first_seq) {
            let segment: &Segment = segment;
            segment.bytes.store(bytes, Relaxed);
            segment.newest_ns.store(newest_ns.max(1), Relaxed);
        }
    }
}

pub(crate) fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}
