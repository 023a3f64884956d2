//! What goes into the writer and what comes back.

use std::time::SystemTime;

use super::duration_ns;
use crate::Records;

/// Where a submission's records are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// Seq of the first record.
    pub first_seq: u64,
    /// Seq of the last record; state records come behind all events.
    pub last_seq: u64,
}

/// Why a submission is not in the journal.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refused {
    /// The disk is full; nothing was stored (507).
    Reserve,
    /// The journal has its largest size; nothing was stored (503).
    SizeLimit,
    /// A write or sync failed; nothing was stored (503).
    SyncFailed,
    /// The journal is being closed; nothing was stored (503).
    Draining,
    /// A limit of the format, or the source's memory would be over 8 MiB;
    /// nothing was stored, and never will be.
    TooLarge,
    /// There was no record in it.
    Empty,
    /// The journal is closed; nothing was stored.
    Closed,
    /// A sync failed and no new segment could be made: whether the records are
    /// stored is unknown. A connection must be closed without an answer.
    Unknown,
}

/// Called once with the fate of a submission.
pub type Done = Box<dyn FnOnce(Result<Committed, Refused>) + Send>;

/// What is waiting to be written.
pub struct Submission {
    /// One frame's records.
    pub records: Records,
    /// Told when the frame is on disk, or why it isn't.
    pub done: Done,
    /// When it was handed in, on the clock of [`Time::mono_ns`].
    pub since_ns: u64,
    /// Whether it may pass `max_size` and take the reserve, as the journal's own frames do.
    pub own: bool,
}

/// The time, as the writer is told it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    /// ns since the Unix epoch.
    pub wall_ns: u64,
    /// ns on a clock that never goes back.
    pub mono_ns: u64,
}

impl Time {
    /// Now, with a monotonic clock that begins now.
    pub(crate) fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            wall_ns: wall.map_or(0, duration_ns),
            mono_ns: 0,
        }
    }
}
