//! What the rest of the agent holds of the journal.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use auditmon_merkle::{Ed25519Signer, TileId};
use parking_lot::Mutex;

use crate::Records;
use crate::checkpoint::SignedCheckpoint;
use crate::collapse;
use crate::core::Done;
use crate::erase::{Erased, Erasure};
use crate::find::{self, Search};
use crate::format::Position;
use crate::fs::{Fs, replace};
use crate::keys::{self, KeyFault};
use crate::layout::{ACCEPTED, GENERATION, Layout, generation_of, is_former};
use crate::options::{PauseReason, SourceStates};
use crate::reader::{Batch, Reader};
use crate::shared::{Hold, Metrics, Shared};
use crate::tree::read_tile;
use crate::writer::{Linger, Queue};
use crate::{leaf_at, link, positions};

/// The journal as sources, sinks and the runtime see it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// How the journal is.
#[derive(Clone, Debug)]
pub struct Status {
    /// All records below are on disk; the next record gets this seq or a larger one.
    pub durable: u64,
    /// Seq of the oldest record whose payload is on disk.
    pub oldest_payload: u64,
    /// Bytes of segments and leaves.
    pub bytes: u64,
    /// Bytes that may still be allocated on the volume, if it says so.
    pub free_bytes: Option<u64>,
    /// Segments with payloads.
    pub segments: usize,
    /// Why submissions are refused, if they are.
    pub paused: Option<PauseReason>,
    /// How long the oldest submission without an answer has waited.
    pub oldest_wait: Option<Duration>,
    /// Counts since start.
    pub metrics: Metrics,
}

/// How a sink's position fits the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PositionVerdict {
    /// It fits.
    Ok,
    /// The sink has seen records that the journal doesn't have: a rollback.
    Ahead,
    /// The record before it is another one: a rewritten journal.
    Differs,
    /// The record before it and its leaf are gone, so nothing can be said.
    Gone,
    /// It belongs to another journal.
    OtherOrigin,
    /// It belongs to a former generation of this journal, which was rewritten
    /// or put back, and nobody has accepted that yet.
    Former,
    /// The same, and accepted, or given up for nothing but damage: the sink reads what is left for it
    /// [there](Handle::former), and goes on at the front of the next one.
    Accepted,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, queue: Arc<Queue>, thread: JoinHandle<()>) -> Self {
        Self {
            shared,
            queue,
            thread: Arc::new(Mutex::new(Some(thread))),
        }
    }

    /// The generation that this one took the place of, for reading only: nothing can be submitted there. All that is
    /// left of it is durable; what it had and can't be read is a gap. `None` if this is the first, or if the former's
    /// files were removed. Reads from disk: the directory, and a length for each file.
    ///
    /// # Errors
    /// A file could not be opened or read; `InvalidData` if the file `former` is damaged.
    pub fn former(&self) -> io::Result<Option<Self>> {
        let former = link::open_former(&self.shared)?;
        Ok(former.map(|shared| Self {
            shared: Arc::new(shared),
            queue: Arc::new(Queue::ended()),
            thread: Arc::default(),
        }))
    }

    /// Where [`former`](Self::former) has none because its files were removed: its origin, and 1 + the largest seq that
    /// anything named there.
    ///
    /// # Errors
    /// As [`former`](Self::former).
    pub fn gone_former(&self) -> io::Result<Option<(String, u64)>> {
        link::gone_former(&self.shared)
    }

    /// Whether this generation took the place of the one before for nothing but damage: sinks that want what was there
    /// from its front on may be given both. False also where that can't be read.
    pub fn continues_damaged(&self) -> bool {
        let link = link::read(&*self.shared.fs, &self.shared.layout);
        link.is_ok_and(|link| link.is_some_and(|link| link.damaged))
    }

    /// The origin of the generation that is being written.
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// Queues records. `done` is called exactly once: on the writer's thread
    /// after the sync, or at once on this one if the journal is being closed.
    /// It must not wait.
    pub fn submit(&self, records: Records, linger: Linger, done: Done) {
        self.queue.submit(records, linger, false, done);
    }

    /// The same at once, and for what must not wait until a sink has made room: like the journal's own frames these
    /// records may pass `max_size` and take the reserve. For few and small ones: nothing else bounds them.
    pub fn submit_own(&self, records: Records, done: Done) {
        self.queue.submit(records, Linger::NONE, true, done);
    }

    /// What a source remembers ([`source_hash`](crate::format::source_hash) of
    /// its name): the states of every submission that was queued before and
    /// accepted. `done` is called exactly once, on the writer's thread, and
    /// must not wait; with `None` if the journal was closed.
    pub fn states(&self, source: [u8; 8], done: impl FnOnce(Option<SourceStates>) + Send + 'static) {
        self.queue.ask(source, Box::new(done));
    }

    /// All records below this seq are on disk and may be read.
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// The newest checkpoint. It is on disk, and so is all that it covers.
    pub fn checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        self.shared.checkpoint()
    }

    /// Whether checkpoints can be signed: there is a key, and no record is missing from the tree.
    pub fn signs(&self) -> bool {
        !self.shared.keys.lock().is_empty() && !self.shared.tree.lock().is_broken()
    }

    /// A tile of the tree that the newest checkpoint covers, full or partial;
    /// `None` if that tree has none of this width. May read from disk.
    ///
    /// # Errors
    /// The file could not be read; the call may be repeated.
    pub fn tile(&self, tile: TileId) -> io::Result<Option<Vec<u8>>> {
        let size = self.shared.checkpoint().map_or(0, |newest| newest.size);
        let covered = TileId::within(tile.level(), tile.index(), size);
        if covered.is_none_or(|covered| covered.width() < tile.width()) {
            return Ok(None);
        }
        let held = self.shared.tree.lock().tile(tile);
        let bytes = match held {
            Some(bytes) => Some(bytes),
            None => read_tile(&*self.shared.fs, &self.shared.layout, tile)?,
        };
        Ok(bytes.map(|mut bytes| {
            bytes.truncate(tile.bytes());
            bytes
        }))
    }

    /// Whether [`tile`](Self::tile) has none because its records were collapsed.
    pub fn is_collapsed(&self, tile: TileId) -> bool {
        collapse::is_gone(&self.shared, tile)
    }

    /// Whether this generation took the place of another.
    pub fn has_former(&self) -> bool {
        self.shared.origin.contains(GENERATION)
    }

    /// Whether this generation took the place of another, and somebody has accepted that.
    pub fn is_accepted(&self) -> bool {
        self.shared.fs.open_read(&self.shared.layout.accepted()).is_ok()
    }

    /// Whether a former generation was put back or rewritten, and nobody has accepted that yet.
    pub fn waits_for_acceptance(&self) -> bool {
        self.has_former() && !self.may_pass_from(1)
    }

    /// Accepts that this generation took the place of another: sinks that knew
    /// the former go on with this one. False if it is the first. Waits for the disk.
    /// Whoever calls this has stored an event that says so.
    ///
    /// # Errors
    /// It could not be written.
    pub fn accept_rollback(&self, reason: &str) -> io::Result<bool> {
        if !self.has_former() {
            return Ok(false);
        }
        let dir = self.shared.layout.generation_dir();
        replace(&*self.shared.fs, &dir, ACCEPTED, format!("{reason}\n").as_bytes())?;
        Ok(true)
    }

    /// Makes a new key for checkpoints. From the next one on it and the former
    /// one both sign, until [`finish_rotation`](Self::finish_rotation).
    /// Returns the new verifier key. Waits for the disk.
    ///
    /// # Errors
    /// Two keys sign already, or a file can't be written: both keys are then
    /// as they were.
    pub fn rotate_key(&self) -> Result<String, KeyFault> {
        self.change_keys(keys::rotate)
    }

    /// Removes the former key: only the new one signs from now on. Returns its verifier key.
    ///
    /// # Errors
    /// There is no former key, or it can't be removed.
    pub fn finish_rotation(&self) -> Result<String, KeyFault> {
        self.change_keys(keys::finish)
    }

    fn change_keys(
        &self,
        change: impl FnOnce(&dyn Fs, &Layout, &[Ed25519Signer]) -> Result<Vec<Ed25519Signer>, KeyFault>,
    ) -> Result<String, KeyFault> {
        let mut keys = self.shared.keys.lock();
        *keys = change(&*self.shared.fs, &self.shared.layout, &keys)?;
        let current = keys.first().map(|key| key.verifier().vkey().to_string());
        Ok(current.unwrap_or_default())
    }

    /// How the journal is; asks the volume for its free space.
    pub fn status(&self) -> Status {
        let (payload, leaves) = self.shared.bytes();
        Status {
            durable: self.shared.durable(),
            oldest_payload: self.shared.oldest_payload(),
            bytes: payload.saturating_add(leaves),
            free_bytes: self.shared.fs.free(self.shared.layout.data()).ok(),
            segments: self.shared.segments.read().len(),
            paused: *self.shared.paused.lock(),
            oldest_wait: self.queue.oldest_wait(),
            metrics: self.shared.metrics.lock().clone(),
        }
    }

    /// Says from which seq on a durable sink still needs payloads; `None` for
    /// one that holds nothing back. Segments from the lowest on are kept.
    pub fn set_hold(&self, name: &str, seq: Option<u64>) {
        let hold = seq.map(|seq| Hold { seq, yields: false });
        self.shared.set_hold(name, hold);
    }

    /// The same for a sink that would rather lose the oldest payloads than have
    /// submissions refused: where the journal or the volume is full, its hold
    /// counts for nothing, and its reader comes upon a gap.
    pub fn set_yielding_hold(&self, name: &str, seq: Option<u64>) {
        let hold = seq.map(|seq| Hold { seq, yields: true });
        self.shared.set_hold(name, hold);
    }

    /// About how many bytes the records from `seq` on take on disk; exactly 0
    /// where there are none.
    pub fn bytes_from(&self, seq: u64) -> u64 {
        self.shared.bytes_from(seq)
    }

    /// From which seq on a durable sink still needs payloads, if it holds any.
    pub fn hold(&self, name: &str) -> Option<u64> {
        self.shared.holds.lock().get(name).map(|hold| hold.seq)
    }

    /// Streams committed records from `from` on.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from)
    }

    /// Keeps what is written from now on in memory, up to so many bytes, for one who follows the journal's head with
    /// [`take_recent`](Self::take_recent). None are kept unless this is called.
    pub fn keep_recent(&self, limit: usize) {
        self.shared.recent.lock().limit(limit);
    }

    /// The durable records from `seq` on, if they are still in memory; only once. `None` where a
    /// [`reader`](Self::reader) has to look on disk. Never waits for the disk.
    pub fn take_recent(&self, seq: u64) -> Option<Batch> {
        let mut recent = self.shared.recent.lock();
        recent.take(seq, self.shared.durable(), || self.shared.bytes_from(seq))
    }

    /// Drops what [`keep_recent`](Self::keep_recent) has kept.
    pub fn forget_recent(&self) {
        self.shared.recent.lock().forget();
    }

    /// Leaf hash of the record before `seq`: zeros for 0, `None` if it isn't
    /// durable or neither it nor its leaf can be read.
    pub fn leaf_hash_before(&self, seq: u64) -> Option<[u8; 32]> {
        if seq > self.shared.durable() {
            return None;
        }
        leaf_at::before(&self.shared, seq)
    }

    /// Where the event with this id is, or was: retention removes payloads, and
    /// leaves what says which events there were.
    ///
    /// Sees what was durable at the call. Reads from disk, at most about `budget`
    /// bytes, or a segment and a file of leaves where they are larger; so not for
    /// threads that serve others, and best by one caller at a time.
    ///
    /// # Errors
    /// A file could not be opened or read; the call may be repeated.
    pub fn find_event(&self, event_id: &[u8; 16], budget: u64) -> io::Result<Search> {
        find::find(&self.shared, event_id, budget)
    }

    /// Erases the payload of a record, and with it its salt: what is left is its leaf. Nothing but an event may be
    /// erased, and only after the journal has said so in an event that a checkpoint covers: whoever calls this has
    /// seen to both.
    ///
    /// Writes the segment anew, so it needs that much room and time; a record in the newest segment ends that. `done`
    /// is called on the thread that seals, or on the writer's, when that is on disk, and must not wait for long; it is
    /// dropped if the journal is closed before. After a failure the payload is as it was, or erased.
    pub fn erase(&self, seq: u64, done: impl FnOnce(io::Result<Erased>) + Send + 'static) {
        let done = Box::new(done);
        self.queue.erase(Erasure { seq, done });
    }

    /// Compares a sink's position with the journal.
    pub fn check_position(&self, position: &Position) -> PositionVerdict {
        if position.origin != self.shared.origin {
            return match is_former(&position.origin, &self.shared.origin) {
                false => PositionVerdict::OtherOrigin,
                true if self.may_pass(&position.origin) => PositionVerdict::Accepted,
                true => PositionVerdict::Former,
            };
        }
        if position.seq > self.shared.durable() {
            return PositionVerdict::Ahead;
        }
        match leaf_at::agrees(&self.shared, position.seq, &position.leaf_hash) {
            None => PositionVerdict::Gone,
            Some(true) => PositionVerdict::Ok,
            Some(false) => PositionVerdict::Differs,
        }
    }

    /// Whether sinks of a former generation may go on with this one.
    fn may_pass(&self, origin: &str) -> bool {
        generation_of(origin).is_some_and(|(_, former)| self.may_pass_from(former))
    }

    /// Whether all generations behind this one were only damaged, or somebody accepted one of them and all before it.
    fn may_pass_from(&self, former: u32) -> bool {
        let (fs, mut layout) = (&*self.shared.fs, self.shared.layout.clone());
        while layout.generation() > former {
            if fs.open_read(&layout.accepted()).is_ok() {
                return true;
            }
            match link::read(fs, &layout) {
                Ok(Some(link)) if link.damaged => layout = layout.of(link.generation),
                _ => return false,
            }
        }
        true
    }

    /// The position of a sink that has no memory of its own, `None` if it has
    /// none yet. Names are 1–128 of `[A-Za-z0-9._-]`.
    ///
    /// # Errors
    /// `InvalidData` for a damaged file, or what the system says.
    pub fn read_position(&self, sink: &str) -> io::Result<Option<Position>> {
        positions::read(&*self.shared.fs, &self.shared.layout, sink)
    }

    /// Keeps the position of a sink; it is on disk when this returns.
    ///
    /// # Errors
    /// What the system says; the former position is then still there.
    pub fn write_position(&self, sink: &str, position: &Position) -> io::Result<()> {
        positions::write(&*self.shared.fs, &self.shared.layout, sink, position)
    }

    /// Takes no more submissions, writes those that wait and the final mark,
    /// cuts the newest segment to its length and ends the thread. False if that
    /// took longer than `deadline`; the thread then goes on by itself.
    pub fn close(&self, deadline: Duration) -> bool {
        self.queue.close();
        let Some(thread) = self.thread.lock().take() else {
            return true;
        };
        let end = Instant::now() + deadline;
        while !thread.is_finished() {
            if Instant::now() >= end {
                *self.thread.lock() = Some(thread);
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        thread.join().is_ok()
    }
}
