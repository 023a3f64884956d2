//! The journal: a segmented, checksummed, append-only log of records, written
//! by one thread and read by many.
//!
//! What lies on disk is fixed by `reference/journal-format.md`. [`mod@format`] holds
//! its bytes, [`open`] recovers a data directory, [`Writer`] is the one thread
//! that appends, and [`Handle`] is what everyone else holds.
//!
//! *Accepted means on disk*: a submission is answered after the `fdatasync`
//! that covers it, and nobody sees a record before.

pub mod format;
pub mod fsck;
pub mod inspect;

mod checkpoint;
mod collapse;
mod commitments;
mod core;
mod dump;
mod erase;
mod fault;
mod find;
mod fs;
mod handle;
mod keys;
mod layout;
mod leaf_at;
mod link;
mod lock;
mod options;
mod positions;
mod reader;
mod recent;
mod records;
mod recovery;
mod reserve;
mod scan;
mod seal;
mod shared;
mod states;
mod tree;
mod walk;
mod writer;

use std::sync::Arc;

pub use crate::checkpoint::{OnCheckpoint, SignedCheckpoint};
pub use crate::core::{Committed, Done, Refused};
pub use crate::dump::{Dump, DumpError, DumpItem};
pub use crate::erase::Erased;
pub use crate::find::{Place, Search};
pub use crate::format::Position;
pub use crate::fs::{Fs, FsFile, RealFs};
pub use crate::handle::{Handle, PositionVerdict, Status};
pub use crate::keys::KeyFault;
pub use crate::layout::origins_before;
pub use crate::lock::{DirLock, LockError, holder};
pub use crate::options::{
    AgentEvent, AgentNote, Entropy, Finding, OpenError, Opened, Options, PauseReason, SourceStates, StateMap,
    StateValue,
};
pub use crate::reader::{Batch, Entry, Gap, GapReason, Item, Reader};
pub use crate::records::{PushError, Records};
pub use crate::shared::{Metrics, SYNC_BUCKETS};
pub use crate::writer::{Linger, Writer};

/// The writer's logic without its thread, for the model test.
#[doc(hidden)]
pub mod bare {
    pub use crate::core::{Core, Submission, Time};
    #[cfg(feature = "faults")]
    pub use crate::fault::Fault;
    pub use crate::seal::{SealJob, SealResult};

    /// Opens the journal with one seeded fault, or none.
    #[cfg(feature = "faults")]
    pub fn open(
        fs: std::sync::Arc<dyn crate::Fs>,
        options: crate::Options,
        now: Time,
        fault: Option<Fault>,
    ) -> Result<(Core, crate::Opened), crate::OpenError> {
        let mut faults = crate::fault::Faults::default();
        if let Some(fault) = fault {
            faults.set(fault);
        }
        crate::recovery::open_core(fs, options, now, faults)
    }
}

/// Opens or creates the journal of a data directory and recovers it. Whoever
/// calls it holds the directory's [`DirLock`].
///
/// # Errors
/// A file that can't be read or made, a journal of another origin, or options
/// that can't work. Damage is no error, and neither is a full disk where there
/// is a journal: both are told in [`Opened`]. Only where a new generation must be
/// begun and the reserve is used up, too, it is [`OpenError::NoRoom`].
pub fn open<F: Fs>(fs: F, options: Options) -> Result<(Writer, Opened), OpenError> {
    let (core, opened) = recovery::open_core(Arc::new(fs), options, core::Time::now(), fault::Faults::default())?;
    Ok((Writer::new(core), opened))
}
