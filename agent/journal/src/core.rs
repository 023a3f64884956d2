//! The writer's logic, without its thread: commits, segment change, upkeep.
//!
//! A plain struct that is told what time it is, so that the model test can
//! drive it step by step.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Records;
use crate::checkpoint::Checkpointer;
use crate::erase::Erasure;
use crate::fault::{Fault, Faults};
use crate::format::{FRAME_HEAD, MAX_FRAME, RecordIter, SEGMENT_HEAD, StateRecord, frame_head, mark};
use crate::fs::{FsFile, write_all_at};
use crate::options::{AgentNote, Options, PauseReason};
use crate::seal::SealJob;
use crate::shared::{SYNC_BUCKETS, Segment, Shared};
use crate::states::States;
use crate::tree::{MOST, store_tiles};

mod change;
mod hooks;
mod retention;
mod types;
mod upkeep;

pub use hooks::Counts;
pub use types::{Committed, Done, Refused, Submission, Time};
pub(crate) use upkeep::duration_ns;

/// The segment that is being written.
pub(crate) struct Active {
    pub(crate) file: Arc<dyn FsFile>,
    pub(crate) segment: Arc<Segment>,
    pub(crate) first_seq: u64,
    /// Behind its head and repeated states; nothing else is in it yet if `end` is there.
    pub(crate) head_end: u64,
    /// Behind the last frame that is on disk.
    pub(crate) end: u64,
    /// Bytes that the volume has set aside for it; less than a segment's only
    /// after a start on a full disk.
    pub(crate) allocated: u64,
}

/// A frame that is about to be written.
struct Staged {
    head: [u8; FRAME_HEAD],
    records: Records,
    first_seq: u64,
    /// `None` for the journal's own frames.
    done: Option<(Done, u64)>,
}

/// The writer's state; [`Writer`](crate::Writer) runs it on a thread.
pub struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: Options,
    pub(crate) states: States,
    pub(crate) active: Option<Active>,
    /// Seq behind all staged frames; the durable one while none is staged.
    pub(crate) next_seq: u64,
    pub(crate) now: Time,
    staged: Vec<Staged>,
    staged_bytes: u64,
    /// What must still be told as agent events.
    pub(crate) notes: VecDeque<AgentNote>,
    pub(crate) seals: VecDeque<SealJob>,
    /// What is to be erased, and waits for its segment to be sealed.
    pub(crate) erasures: Vec<Erasure>,
    /// First seqs of damaged segments, which never get their leaves.
    pub(crate) unsealable: BTreeSet<u64>,
    pub(crate) pause: upkeep::Pause,
    pub(crate) upkeep: upkeep::Upkeep,
    pub(crate) faults: Faults,
    /// `None` while a thread has it.
    pub(crate) checkpointer: Option<Checkpointer>,
    pub(crate) declared: Option<retention::Declared>,
    closing: bool,
    counted: Counts,
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, options: Options, states: States) -> Self {
        Self {
            next_seq: shared.durable(),
            shared,
            options,
            states,
            active: None,
            now: Time::default(),
            staged: Vec::new(),
            staged_bytes: 0,
            notes: VecDeque::new(),
            seals: VecDeque::new(),
            erasures: Vec::new(),
            unsealable: BTreeSet::new(),
            pause: upkeep::Pause::default(),
            upkeep: upkeep::Upkeep::default(),
            faults: Faults::default(),
            checkpointer: None,
            declared: None,
            closing: false,
            counted: Counts::default(),
        }
    }

    /// Bytes that only the journal's own frames may use of a segment, so that
    /// they find room in one that is full on a disk that is full.
    pub(crate) fn headroom(&self) -> u64 {
        (self.options.segment_size / 8).min(64 << 10)
    }

    /// Goes on in the segment that recovery found, behind `end`.
    pub(crate) fn adopt(&mut self, file: Arc<dyn FsFile>, segment: Arc<Segment>, end: u64, size: u64, head_end: u64) {
        segment.end.store(end, Ordering::Release);
        segment.bytes.store(size, Ordering::Relaxed);
        self.active = Some(Active {
            file,
            first_seq: segment.first_seq,
            segment,
            head_end,
            end,
            allocated: size,
        });
    }

    /// Writes a group: all of it with one sync where it fits one segment.
    /// Every `done` is called, unless a failed sync left its fate open.
    pub fn commit(&mut self, group: impl IntoIterator<Item = Submission>, now: Time) {
        self.now = now;
        for submission in group {
            self.admit(submission);
        }
        self.flush();
    }

    fn admit(&mut self, submission: Submission) {
        let Submission {
            records,
            done,
            since_ns,
            own,
        } = submission;
        let len = (FRAME_HEAD + records.bytes()) as u64;
        if own {
            // Alone: what follows has no right to its room.
            self.flush();
            match self.admissible(&records) {
                Ok(()) | Err(Refused::Reserve | Refused::SizeLimit) => {}
                Err(refused) => return done(Err(refused)),
            }
            if let Err(refused) = self.make_room_for_own(len) {
                return done(Err(refused));
            }
            if self.remember(&records).is_err() {
                return done(Err(Refused::TooLarge));
            }
            self.stage(records, Some((done, since_ns)));
            self.flush();
            return;
        }
        if let Err(refused) = self.admissible(&records) {
            return done(Err(refused));
        }
        if !self.fits(len, 0) {
            if self.faults.is(Fault::RenameEarly) {
                self.change_before_sync();
            }
            self.flush();
            // What was staged may have failed, and brought a new segment or none.
            if let Err(refused) = self.admissible(&records) {
                return done(Err(refused));
            }
            if !self.fits(len, 0)
                && let Err(refused) = self.change_segment(len, false)
            {
                return done(Err(refused));
            }
        }
        if self.remember(&records).is_err() {
            return done(Err(Refused::TooLarge));
        }
        self.stage(records, Some((done, since_ns)));
    }

    fn admissible(&self, records: &Records) -> Result<(), Refused> {
        if self.closing {
            return Err(Refused::Draining);
        }
        if records.is_empty() {
            return Err(Refused::Empty);
        }
        if FRAME_HEAD + records.bytes() > MAX_FRAME {
            return Err(Refused::TooLarge);
        }
        match self.pause.reason() {
            None => Ok(()),
            Some(PauseReason::Reserve) => Err(Refused::Reserve),
            Some(PauseReason::SizeLimit) => Err(Refused::SizeLimit),
            Some(PauseReason::SyncFailed) => Err(Refused::SyncFailed),
        }
    }

    /// Whether a frame of `len` bytes has room in the newest segment; one that is longer than a segment has it in an
    /// empty one that was made for it.
    fn fits(&self, len: u64, headroom: u64) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let end = active.end + self.staged_bytes;
            let made_for_it = end == active.head_end && end + len + UNCUT <= active.allocated;
            made_for_it || end + len <= self.options.segment_size + headroom
        })
    }

    /// Applies the states of a frame that is about to be staged.
    fn remember(&mut self, records: &Records) -> Result<(), ()> {
        let savepoint = self.states.savepoint();
        for record in RecordIter::new(records.state_bytes()) {
            let applied = record.ok().and_then(|record| {
                let state = StateRecord::parse(record.payload()?).ok()?;
                self.states.apply(record.prefix.source, &state).ok()
            });
            if applied.is_none() {
                self.states.roll_back(savepoint);
                return Err(());
            }
        }
        Ok(())
    }

    fn stage(&mut self, records: Records, done: Option<(Done, u64)>) {
        let first_seq = self.next_seq;
        let count = records.records();
        self.next_seq += u64::from(count);
        self.staged_bytes += (FRAME_HEAD + records.bytes()) as u64;
        self.staged.push(Staged {
            head: frame_head(first_seq, self.shared.durable(), count, records.as_bytes()),
            records,
            first_seq,
            done,
        });
    }

    /// Writes, syncs and answers what is staged; false if that failed.
    fn flush(&mut self) -> bool {
        if self.staged.is_empty() {
            return true;
        }
        if self.faults.is(Fault::AnswerBeforeSync) {
            self.answer();
        }
        if self.faults.is(Fault::SignUnsynced) {
            let (first_seq, hashes) = self.staged_hashes();
            self.extend_tree(first_seq, &hashes);
            self.checkpoint(self.now);
        }
        match self.write_staged().and_then(|()| self.sync_active()) {
            Ok(()) => {
                self.committed();
                true
            }
            Err(_) => {
                self.failed();
                false
            }
        }
    }

    fn write_staged(&mut self) -> io::Result<()> {
        let Some(active) = &self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut slices = Vec::with_capacity(self.staged.len() * 2);
        for staged in &self.staged {
            slices.push(IoSlice::new(&staged.head));
            slices.push(IoSlice::new(staged.records.as_bytes()));
        }
        write_all_at(&*active.file, &mut slices, active.end)
    }

    fn sync_active(&mut self) -> io::Result<()> {
        let Some(active) = &self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if self.faults.is(Fault::NoSync) {
            return Ok(());
        }
        let begin = Instant::now();
        let result = active.file.sync();
        let took = begin.elapsed();
        if result.is_ok() {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let bucket = SYNC_BUCKETS.partition_point(|bound| *bound < micros);
            let mut metrics = self.shared.metrics.lock();
            metrics.syncs += 1;
            metrics.sync_time += took;
            metrics.sync_buckets[bucket] += 1;
        }
        if self.faults.is(Fault::RepeatSync) && result.is_err() {
            return active.file.sync();
        }
        result
    }

    /// What is staged is on disk: shows and answers it.
    fn committed(&mut self) {
        let Some(active) = &mut self.active else {
            return;
        };
        for staged in &self.staged {
            active.segment.note_frame(staged.first_seq, active.end);
            active.end += (FRAME_HEAD + staged.records.bytes()) as u64;
        }
        active.segment.end.store(active.end, Ordering::Release);
        active.segment.bytes.fetch_max(active.end, Ordering::Relaxed);
        active.segment.newest_ns.store(self.now.wall_ns, Ordering::Relaxed);
        self.states.keep();
        if let Some(last) = self.staged.iter().rfind(|s| !s.records.is_empty()) {
            let hash = last.records.leaf_hashes().last().copied();
            *self.shared.last_leaf.lock() = (self.next_seq, hash);
        }
        {
            let mut recent = self.shared.recent.lock();
            for staged in self.staged.iter_mut().filter(|staged| !staged.records.is_empty()) {
                if !recent.is_following() {
                    break;
                }
                let next_seq = staged.first_seq + u64::from(staged.records.records());
                recent.push(staged.first_seq, next_seq, staged.records.take_bytes());
            }
        }
        self.shared.set_durable(self.next_seq);
        let frames = self.staged.iter().filter(|s| !s.records.is_empty()).count() as u64;
        {
            let mut metrics = self.shared.metrics.lock();
            metrics.frames += frames;
            metrics.records += self
                .staged
                .iter()
                .map(|staged| u64::from(staged.records.records()))
                .sum::<u64>();
        }
        if frames > 0 {
            self.upkeep.mark_due(self.now);
        }
        let (first_seq, hashes) = self.staged_hashes();
        {
            let mut commitments = self.shared.commitments.lock();
            for staged in &mut self.staged {
                commitments.add(staged.first_seq, staged.records.take_commitments());
            }
        }
        self.answer();
        // Whoever was answered sends more: nothing is held beside that, nor pinned in between.
        self.staged.clear();
        self.staged_bytes = 0;
        if !self.faults.is(Fault::SignUnsynced) {
            self.extend_tree(first_seq, &hashes);
        }
    }

    /// Leaf hashes of what is staged, and the seq of the first.
    fn staged_hashes(&self) -> (u64, Vec<[u8; 32]>) {
        let first_seq = self.staged.first().map_or(self.next_seq, |staged| staged.first_seq);
        let hashes = self.staged.iter().map(|staged| staged.records.leaf_hashes());
        (first_seq, hashes.collect::<Vec<_>>().concat())
    }

    /// Appends records to the tree: after they are on disk, and answered.
    fn extend_tree(&self, first_seq: u64, hashes: &[[u8; 32]]) {
        for (seq, hashes) in (first_seq..).step_by(LEAVES_AT_ONCE).zip(hashes.chunks(LEAVES_AT_ONCE)) {
            let pending = {
                let mut tree = self.shared.tree.lock();
                tree.extend(seq, hashes);
                tree.pending()
            };
            // The thread that writes them can't keep up, so commits wait for tiles: memory has its bound.
            if pending > MOST && store_tiles(&self.shared, u64::MAX, MOST).is_err() {
                self.shared.tree.lock().give_up();
            }
        }
        self.shared.alarm.ring();
    }

    fn answer(&mut self) {
        for staged in &mut self.staged {
            if let Some((done, _)) = staged.done.take() {
                done(Ok(Committed {
                    first_seq: staged.first_seq,
                    last_seq: staged.first_seq + u64::from(staged.records.records().max(1)) - 1,
                }));
            }
        }
    }

    /// A write or sync failed: of this segment only what was synced before is
    /// believed from now on. What was staged waits for the next segment's head
    /// to be durable, since only that says that it is given up.
    fn failed(&mut self) {
        self.states.roll_back(0);
        self.next_seq = self.shared.durable();
        self.shared.metrics.lock().failed_syncs += 1;
        self.staged_bytes = 0;
        self.tell_failed_sync(self.next_seq);
        for staged in std::mem::take(&mut self.staged) {
            if let Some((done, since_ns)) = staged.done {
                if self.faults.is(Fault::RefuseEarly) {
                    done(Err(Refused::SyncFailed));
                } else {
                    self.pause.strand(done, since_ns);
                }
            }
        }
        if !self.faults.is(Fault::ReuseSegment) {
            self.retire_active();
        }
        self.break_off(self.now);
        self.mend();
    }

    /// Appends one of the journal's own frames and syncs it; false if it could
    /// not be made durable.
    pub(crate) fn append_own(&mut self, records: Records) -> bool {
        if self.pause.reason() == Some(PauseReason::SyncFailed) {
            return false;
        }
        let len = (FRAME_HEAD + records.bytes()) as u64;
        if records.is_empty() || !self.staged.is_empty() || self.make_room_for_own(len).is_err() {
            return false;
        }
        self.stage(records, None);
        self.flush()
    }

    /// Sees to it that one of the journal's own frames of `len` bytes can be staged, where nothing is.
    fn make_room_for_own(&mut self, len: u64) -> Result<(), Refused> {
        if !self.fits(len, self.headroom()) {
            self.change_segment(len, true)?;
        }
        if self.has_space_for(len) {
            Ok(())
        } else {
            Err(Refused::Reserve)
        }
    }

    /// Appends a mark: everything before it is on disk.
    pub(crate) fn append_mark(&mut self) -> bool {
        if !self.staged.is_empty() || !self.has_space_for(FRAME_HEAD as u64) {
            return false;
        }
        self.staged.push(Staged {
            head: mark(self.next_seq),
            records: Records::new(),
            first_seq: self.next_seq,
            done: None,
        });
        self.staged_bytes += FRAME_HEAD as u64;
        self.flush()
    }

    /// Adds something to be told as an agent event.
    pub(crate) fn tell(&mut self, note: AgentNote) {
        // A fault that repeats is told once: what can't be written must not pile up.
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&note) {
            self.notes.push_back(note);
            self.upkeep.tell_now();
        }
    }

    /// Tells the last thousand of these in one frame, if it can be written; else one after the other, later, and false.
    pub(crate) fn tell_at_once(&mut self, notes: &[AgentNote]) -> bool {
        let notes = &notes[notes.len().saturating_sub(1000)..];
        let mut records = Records::new();
        for note in notes {
            (self.options.agent_event)(note.clone(), &mut records);
        }
        let written = self.append_own(records);
        if !written {
            // The last ones first, should there be too many.
            notes.iter().rev().for_each(|note| self.tell(note.clone()));
        }
        written
    }

    /// The records of a note, as the runtime words them.
    pub(crate) fn word(&self, note: AgentNote) -> Records {
        let mut records = Records::new();
        (self.options.agent_event)(note, &mut records);
        records
    }

    /// Signs what no checkpoint covers, where no thread does; false if it could not be stored.
    pub fn checkpoint(&mut self, now: Time) -> bool {
        let signed = self.checkpointer.as_mut().map(|signer| signer.sign(now.wall_ns));
        !matches!(signed, Some(Err(_)))
    }

    /// Ends in order: tells what is to be told, appends the last mark, signs and cuts
    /// the newest segment to its used length. What is still open is unknown.
    pub fn close(&mut self, now: Time) {
        self.finish(now);
        self.checkpoint(now);
        self.cut();
    }

    /// Takes nothing more, tells what is to be told and appends the last mark.
    pub(crate) fn finish(&mut self, now: Time) {
        self.now = now;
        self.closing = true;
        self.flush_notes();
        if !self.upkeep.marked() && self.append_mark() {
            self.upkeep.mark_written();
        }
        self.pause.give_up_all();
    }

    /// Cuts the newest segment behind the last mark. That says that the run ended in order, so
    /// only once the newest checkpoint covers everything.
    pub(crate) fn cut(&mut self) {
        let signed = self.shared.checkpoint().map_or(0, |newest| newest.size);
        let covered = signed >= self.shared.durable();
        let Some(active) = self.active.as_ref().filter(|_| covered && self.upkeep.marked()) else {
            return;
        };
        // What wasn't cut here is as a kill leaves it.
        if active.file.set_len(active.end).is_ok() {
            active.segment.bytes.store(active.end, Ordering::Relaxed);
            let _ = active.file.sync();
        }
    }
}

/// Leaves between two looks at how many tiles there are.
const LEAVES_AT_ONCE: usize = 4096;

/// Most notes that wait to be told.
const MOST_NOTES: usize = 64;

/// Offset of the first frame of a segment.
pub(crate) const FIRST_FRAME: u64 = SEGMENT_HEAD as u64;

/// Bytes that a segment has at least behind its last frame: more than any that says nothing
/// needs. One that ends with its last frame was cut, as by an end in order.
pub(crate) const UNCUT: u64 = FRAME_HEAD as u64 + 1;

/// Shortest useful time between two looks at something that may have changed.
pub(crate) const TICK: Duration = Duration::from_secs(1);
