//! The way into the journal: events gather, one batch is under way at a time.
//!
//! One at a time, because a refused batch must not be overtaken by a later
//! one: its mark would say that everything before it is in the journal.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use auditmon_core::{Accepted, Emitter, Refused};
use auditmon_journal::Linger;

use crate::pending::{MAX_EVENTS, Pending};
use crate::ring::Waker;

/// How long an event waits for company here; in the ring it has waited 20 ms,
/// which makes 50.
const LINGER: Duration = Duration::from_millis(30);
/// Or until this many bytes wait.
const BATCH: usize = 256 << 10;
/// Bytes of events that wait while a batch is under way; beyond it records
/// stay in the ring.
const MAX_PENDING: usize = 1 << 20;
/// A refused batch is tried again after this, once the end has begun.
const RETRY_AT_END: Duration = Duration::from_millis(250);

type Verdict = Result<Accepted, Refused>;

/// Events on their way into the journal.
pub(crate) struct Outbox {
    emitter: Emitter,
    waker: Waker,
    /// What gathers.
    pub(crate) pending: Pending,
    /// What is being handed over.
    flying: Pending,
    /// The journal has it and has not answered.
    waiting: bool,
    retry_at: Option<Instant>,
    refused: Option<Refused>,
    verdicts: (Sender<Verdict>, Receiver<Verdict>),
    /// Serials of events that can never be stored.
    impossible: Vec<u32>,
    ending: bool,
}

impl Outbox {
    pub(crate) fn new(emitter: Emitter, waker: Waker) -> Outbox {
        Outbox {
            emitter,
            waker,
            pending: Pending::default(),
            flying: Pending::default(),
            waiting: false,
            retry_at: None,
            refused: None,
            verdicts: channel(),
            impossible: Vec::new(),
            ending: false,
        }
    }

    /// Whether a further event may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.bytes() < MAX_PENDING && self.pending.len() < MAX_EVENTS
    }

    /// Whether nothing gathers and nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.flying.is_empty() && !self.waiting
    }

    /// From now on a refused batch is tried again soon.
    pub(crate) fn hurry(&mut self) {
        self.ending = true;
        self.retry_at = None;
    }

    /// Whether there is no point in waiting for the journal any longer.
    pub(crate) fn gave_up(&self, deadline: Instant) -> bool {
        let draining = self.refused == Some(Refused::Draining) && !self.waiting;
        draining || Instant::now() > deadline
    }

    /// Forgets everything; returns how many events that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let events = self.pending.len() + self.flying.len();
        self.pending.clear();
        self.flying.clear();
        self.waiting = false;
        events as u64
    }

    /// Serials of events that the journal can never take, since the last call.
    pub(crate) fn take_impossible(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.impossible)
    }

    /// When there is something to do, if no verdict comes: that wakes.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        if let Some(at) = self.retry_at {
            return Some(at.saturating_duration_since(Instant::now()));
        }
        let since = self.pending.since().filter(|_| self.flying.is_empty())?;
        Some(LINGER.saturating_sub(since.elapsed()))
    }

    /// Starts a batch if one is due and none is under way, or tries the one
    /// that was refused again. `state` is what is remembered with the batch.
    pub(crate) fn hand_over(&mut self, at_once: bool, state: impl FnOnce() -> Option<(Vec<u8>, Vec<u8>)>) {
        if self.waiting {
            return;
        }
        if !self.flying.is_empty() {
            if self.retry_at.is_none_or(|at| Instant::now() >= at) {
                self.send();
            }
            return;
        }
        let Some(since) = self.pending.since() else {
            return;
        };
        let due = self.pending.bytes() >= BATCH || since.elapsed() >= LINGER;
        if !(due || at_once || !self.has_room()) {
            return;
        }
        if let Some((key, value)) = state() {
            self.pending.add_state(key, value);
        }
        std::mem::swap(&mut self.pending, &mut self.flying);
        self.send();
    }

    fn send(&mut self) {
        let batch = self.flying.batch(&self.emitter, &mut self.impossible);
        self.waiting = true;
        self.retry_at = None;
        let told = Told {
            verdicts: self.verdicts.0.clone(),
            waker: self.waker.clone(),
            verdict: None,
        };
        self.emitter
            .emit_with(batch, Linger::NONE, move |verdict| told.tell(verdict));
    }

    /// Takes the journal's answer, if there is one within this time.
    pub(crate) fn verdict(&mut self, patience: Duration) {
        let verdict = if patience.is_zero() {
            self.verdicts.1.try_recv().ok()
        } else if self.waiting {
            self.verdicts.1.recv_timeout(patience).ok()
        } else {
            std::thread::sleep(patience);
            None
        };
        let Some(verdict) = verdict else { return };
        self.waiting = false;
        match verdict {
            Ok(_) => {
                self.flying.clear();
                if self.refused.take().is_some() {
                    tracing::info!("the journal takes kernel events again");
                }
            }
            Err(Refused::TooLarge) => {
                self.impossible.extend(self.flying.serials());
                self.flying.clear();
            }
            Err(refused) => self.try_again(refused),
        }
    }

    fn try_again(&mut self, refused: Refused) {
        let mut pause = refused.retry_after();
        if self.ending {
            pause = pause.min(RETRY_AT_END);
        }
        self.retry_at = Some(Instant::now() + pause);
        if self.refused.replace(refused).is_none() {
            tracing::warn!(
                reason = %refused,
                "the journal takes no kernel events; they are kept while there is room"
            );
        }
    }
}

/// Tells the verdict when it is dropped: a batch whose answer gets lost was
/// not accepted.
struct Told {
    verdicts: Sender<Verdict>,
    waker: Waker,
    verdict: Option<Verdict>,
}

impl Told {
    fn tell(mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let verdict = self.verdict.take().unwrap_or(Err(Refused::Unknown));
        // The thread may be gone; then nobody waits.
        let _ = self.verdicts.send(verdict);
        self.waker.wake();
    }
}
