//! What the journal is told, and what it says when it is open.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::Records;
use crate::format::Position;

/// Words what happened to the journal as an event.
pub type AgentEvent = Box<dyn Fn(AgentNote, &mut Records) + Send>;

/// Fills a buffer with random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// How the journal is kept.
pub struct Options {
    /// The data directory; must exist.
    pub dir: PathBuf,
    /// Host name: the front half of a new journal's origin.
    pub host: String,
    /// Bytes of a segment, at least 4 KiB; one is longer only if a single frame is.
    pub segment_size: u64,
    /// Bytes of the file `reserve`, which is given up when the disk is full; may be 0.
    pub reserve: u64,
    /// Bytes that segments and leaves may have together, at least four segments;
    /// beyond it confirmed payloads go before their time, then those that only
    /// yielding sinks need, and if there are none submissions are refused.
    pub max_size: u64,
    /// How long payloads are kept, unless `keep_size` is less.
    pub keep_age: Duration,
    /// Bytes of payload that are kept, unless `keep_age` is less.
    pub keep_size: u64,
    /// Within this time after a new record a checkpoint covers it.
    pub checkpoint_interval: Duration,
    /// How long a submission waits for a new segment after a failed sync before
    /// it is given up as [`Refused::Unknown`](crate::Refused::Unknown).
    pub give_up: Duration,
    /// What sinks remember that keep their position themselves, by their names:
    /// asked before the journal is opened, and compared with it like the files
    /// in `positions`.
    pub remembered: Vec<(String, Position)>,
    /// Turns what happened to the journal into an event of kind agent; runs on
    /// the writer's thread. It must push at least one record: payloads are
    /// removed only behind such an event.
    pub agent_event: AgentEvent,
    /// Fills a buffer with random bytes, for salts and ids of repeated states.
    pub entropy: Entropy,
}

impl Options {
    /// The defaults of the manual for this data directory and host.
    pub fn new(dir: impl Into<PathBuf>, host: impl Into<String>, agent_event: AgentEvent) -> Self {
        Self {
            dir: dir.into(),
            host: host.into(),
            segment_size: 64 << 20,
            reserve: 64 << 20,
            max_size: 10 << 30,
            keep_age: Duration::from_secs(24 * 60 * 60),
            keep_size: 2 << 30,
            checkpoint_interval: Duration::from_secs(1),
            give_up: Duration::from_secs(10),
            remembered: Vec::new(),
            agent_event,
            entropy: Box::new(system_entropy),
        }
    }
}

/// The kernel's random bytes.
pub(crate) fn system_entropy(mut buf: &mut [u8]) {
    while !buf.is_empty() {
        // getrandom can't fail once the pool is up; an interruption is repeated.
        let flags = rustix::rand::GetRandomFlags::empty();
        if let Ok(filled) = rustix::rand::getrandom(&mut *buf, flags) {
            buf = buf.get_mut(filled..).unwrap_or_default();
        }
    }
}

/// What happened to the journal, to be told as an event of kind agent.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AgentNote {
    /// Recovery cut an unfinished write off the newest segment. Nothing of it
    /// had been answered.
    TornTail {
        /// First seq of the segment, which names its file.
        segment: u64,
        /// Where the cut was made.
        offset: u64,
        /// Bytes from there to the last one that wasn't zero.
        length: u64,
    },
    /// Records that were on disk can't be read.
    Damage {
        /// First seq of the segment, which names its file.
        segment: u64,
        /// Where its readable frames end.
        offset: u64,
        /// First missing record.
        first: u64,
        /// Last missing record.
        last: u64,
    },
    /// A sink had seen more than the journal holds: it was put back to an older
    /// state, or cut. It goes on as a new generation.
    PositionAhead {
        /// The sink's name.
        sink: String,
        /// The journal that the sink's position names: the former generation,
        /// or one that came after it and is gone.
        origin: String,
        /// The record it expects next.
        seq: u64,
        /// Records that the journal has.
        entries: u64,
    },
    /// The record that a sink has seen last is another one now: the journal was
    /// rewritten. It goes on as a new generation.
    PositionDiffers {
        /// The sink's name.
        sink: String,
        /// The origin of the former generation.
        origin: String,
        /// The record it expects next; the one before is another.
        seq: u64,
    },
    /// Payloads of these records are gone, or will be as soon as this is
    /// signed: all that has gone so far, so that the newest one says everything.
    Retention {
        /// First record.
        first: u64,
        /// Last record.
        last: u64,
        /// Number of segments that go now.
        segments: u64,
    },
    /// A write or sync failed; what waited was refused or is unknown, and a new
    /// segment was begun.
    SyncFailed {
        /// First seq that was not known to be on disk.
        seq: u64,
    },
    /// Submissions were refused because the disk or the journal is full.
    Paused(PauseReason),
    /// Submissions are taken again.
    Resumed(PauseReason),
    /// The records below a signed checkpoint are others than those that it was
    /// signed over: the journal was rewritten, or put back. It goes on as a new
    /// generation.
    Rewritten {
        /// The origin of the former generation.
        origin: String,
        /// Records that the checkpoint covers.
        size: u64,
    },
    /// The leaf of a record is missing, and no tile stands for it: nothing can be signed any more in the name of this
    /// generation. It goes on as a new one.
    LeafMissing {
        /// The origin of the former generation.
        origin: String,
        /// The first such record.
        seq: u64,
    },
    /// A generation was begun in the place of another, because of what was told
    /// before. Who accepts that accepts the former one as it is here.
    NewGeneration {
        /// The origin of the former generation.
        former: String,
        /// Records of it of which anything can be read.
        entries: u64,
        /// Root of the tree over their leaves, in base64; `None` if one is missing.
        root: Option<String>,
        /// 1 + the largest seq that anything named there.
        end: u64,
        /// It lacks leaves, and nothing contradicts it.
        damaged: bool,
    },
    /// The file `checkpoint` has no signature of ours, or is older than one
    /// that was signed before it.
    CheckpointUnreadable,
    /// There were checkpoints, but no key: a new one was made.
    NewKey {
        /// The new verifier key.
        vkey: String,
    },
}

/// What recovery found; the same as what is told as an event.
pub type Finding = AgentNote;

/// Why submissions are refused for now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PauseReason {
    /// The volume is full.
    Reserve,
    /// The journal has `max_size`, and nothing of it may be removed.
    SizeLimit,
    /// No new segment could be made after a failed write.
    SyncFailed,
}

/// The newest value of one key of a source's memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateValue {
    /// When it is forgotten, in ns since the Unix epoch; 0 is never.
    pub expiry_ns: u64,
    /// What is remembered; never empty.
    pub value: Vec<u8>,
}

/// Newest states of one source, by key.
pub type SourceStates = BTreeMap<Vec<u8>, StateValue>;

/// Newest states of all sources, by [`source_hash`](crate::format::source_hash)
/// of the plugin's name, then by key.
pub type StateMap = HashMap<[u8; 8], SourceStates>;

/// What recovery knows about the journal.
#[derive(Clone, Debug)]
pub struct Opened {
    /// `<host>/<16 hex digits>`, followed by `/gen/N` from generation 2 on.
    pub origin: String,
    /// Number of the generation, from 1.
    pub generation: u32,
    /// Seq of the next record.
    pub next_seq: u64,
    /// What was wrong; also told as agent events.
    pub findings: Vec<Finding>,
    /// What sources remember, without what has expired.
    pub states: StateMap,
    /// Whether the last run ended in order.
    pub clean_stop: bool,
    /// Why submissions would be refused, if they would.
    pub paused: Option<PauseReason>,
}

/// Why the journal could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// An operation on a file failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `journal/origin` isn't a line of printable text.
    #[error("{path}: not an origin", path = path.display())]
    Origin {
        /// The file.
        path: PathBuf,
    },
    /// An origin that can't be the name of the key that signs checkpoints.
    #[error(
        "{path}: the origin `{origin}` has a blank or a `+`, so that no key can have its name; \
         move the directory away: a new journal is begun",
        path = path.display()
    )]
    OriginName {
        /// The file.
        path: PathBuf,
        /// What it says.
        origin: String,
    },
    /// The key that signs checkpoints can't be read.
    #[error("{path}: {reason}; if the key is lost, move the file away: a new one is made, and told", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A segment belongs to another journal or generation.
    #[error("{path}: belongs to another origin", path = path.display())]
    Foreign {
        /// The segment.
        path: PathBuf,
    },
    /// A new generation can't be begun on a full disk, with the reserve used up as well: without it the journal can't
    /// be gone on with.
    #[error(
        "{path}: the disk is full and the reserve used up, so that the journal can't go on as a new generation, which it \
         must: {why}. Free {bytes} bytes on this volume, then start again",
        path = path.display()
    )]
    NoRoom {
        /// The new generation's directory.
        path: PathBuf,
        /// What was found, in words.
        why: String,
        /// What a first segment and the reserve take.
        bytes: u64,
    },
    /// Options that can't work.
    #[error("{0}")]
    Options(&'static str),
}

impl OpenError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
