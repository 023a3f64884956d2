//! What tests without a thread need of a [`Core`].

use std::sync::Arc;

use super::{Core, FIRST_FRAME, Time};
use crate::Erased;
use crate::checkpoint::SignedCheckpoint;
use crate::erase::{Erasure, erase};
use crate::options::PauseReason;
use crate::shared::Hold;

/// What happened, for tests that must know that it did.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub failed_syncs: u64,
    pub sealed: u64,
    pub expired: u64,
}

impl Core {
    /// What readers share with this writer, for tests without a thread.
    #[doc(hidden)]
    pub fn reader(&self, from: u64) -> crate::Reader {
        crate::Reader::new(Arc::clone(&self.shared), from)
    }

    /// All records below are on disk.
    #[doc(hidden)]
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// Sets a hold, as [`Handle::set_hold`](crate::Handle::set_hold) does.
    #[doc(hidden)]
    pub fn set_hold(&self, name: &str, seq: u64) {
        self.shared.set_hold(name, Some(Hold { seq, yields: false }));
    }

    /// Sets a hold, as [`Handle::set_yielding_hold`](crate::Handle::set_yielding_hold) does.
    #[doc(hidden)]
    pub fn set_yielding_hold(&self, name: &str, seq: u64) {
        self.shared.set_hold(name, Some(Hold { seq, yields: true }));
    }

    /// Why submissions are refused, if they are.
    #[doc(hidden)]
    pub fn paused(&self) -> Option<PauseReason> {
        self.pause.reason()
    }

    /// Where the next frame goes in the newest segment.
    #[doc(hidden)]
    pub fn end(&self) -> u64 {
        self.active.as_ref().map_or(FIRST_FRAME, |active| active.end)
    }

    /// The newest checkpoint that is on disk.
    #[doc(hidden)]
    pub fn newest_checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        self.shared.checkpoint()
    }

    /// Full tiles that live in memory.
    #[doc(hidden)]
    pub fn tiles_in_memory(&self) -> usize {
        self.shared.tree.lock().pending()
    }

    /// What happened since the last call.
    #[doc(hidden)]
    pub fn counts(&mut self) -> Counts {
        let failed = self.shared.metrics.lock().failed_syncs;
        let counts = Counts {
            failed_syncs: failed - self.counted.failed_syncs,
            ..self.counted
        };
        self.counted = Counts {
            failed_syncs: failed,
            ..Counts::default()
        };
        counts
    }

    /// Erases a payload, at once.
    #[doc(hidden)]
    pub fn erase_now(&mut self, seq: u64, now: Time) -> std::io::Result<Erased> {
        let (tell, told) = std::sync::mpsc::channel();
        let done = Box::new(move |result| {
            // Waited for below.
            let _ = tell.send(result);
        });
        self.begin_erasure(Erasure { seq, done }, now);
        self.seal_all(now);
        while let Some(erasure) = self.take_erasure() {
            (erasure.done)(erase(&self.shared, erasure.seq));
        }
        self.erasures.clear();
        told.recv()
            .unwrap_or_else(|_| Err(std::io::Error::other("its segment could not be sealed")))
    }

    /// Seals what waits for it, at once.
    #[doc(hidden)]
    pub fn seal_all(&mut self, now: Time) {
        while let Some(job) = self.take_seal(now) {
            let result = job.run(&self.shared);
            self.sealed(job, result, now);
        }
    }

    /// Collapses the oldest leaves, if that is due, at once.
    #[doc(hidden)]
    pub fn collapse_due(&mut self) -> bool {
        let due = self.take_collapse();
        if let Some(limit) = due {
            crate::collapse::run(&self.shared, limit);
        }
        due.is_some()
    }
}
