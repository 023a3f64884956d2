//! Dead letters that are handed over again, beside what is new.

use auditmon_core::subscription::Events;

use super::{Halt, Life};
use crate::dead_letters::{Chunk, Replay};
use crate::driver::place::Keeper;

/// A replay and how far it is.
#[derive(Default)]
pub(super) struct Replaying {
    replay: Option<Replay>,
    /// Letters that were handed over, with the events whose fate is open.
    open: Option<(Chunk, Events)>,
    delivered: u64,
    refused: u64,
    /// New events come next: the two take turns.
    waits: bool,
}

impl Replaying {
    pub(super) fn is_under_way(&self) -> bool {
        self.replay.is_some()
    }
}

impl Life {
    /// Takes up a request. One that can't be read now is looked at again later.
    pub(super) fn look_for_replay(&mut self) {
        if self.replaying.is_under_way() || self.driver.drain.is_cancelled() {
            return;
        }
        if self.place.as_ref().is_some_and(|place| place.keeper == Keeper::Sink) {
            if self.letters.refuse_replay() {
                tracing::warn!(
                    sink = self.driver.name,
                    "dead letters of a sink that keeps its position itself can't be replayed: it takes nothing from \
                     before its position"
                );
            }
            return;
        }
        match self.letters.replay() {
            Ok(replay) => self.replaying.replay = replay,
            Err(error) => self.replay_fault(&error),
        }
    }

    fn replay_fault(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(sink = self.driver.name, %error, "dead letters can't be replayed now");
        self.replaying = Replaying::default();
    }

    /// Whether letters are handed over now.
    pub(super) fn replay_is_next(&mut self) -> bool {
        let next = self.replaying.is_under_way() && !self.replaying.waits && !self.driver.drain.is_cancelled();
        self.replaying.waits = next;
        next
    }

    /// Hands some letters over.
    pub(super) async fn replay(&mut self) -> Result<(), Halt> {
        let Some(replay) = &self.replaying.replay else {
            return Ok(());
        };
        let (chunk, events) = match self.replaying.open.take() {
            Some(open) => open,
            None => match self.letters.next(replay, self.feed.max_events(), self.feed.max_bytes()) {
                Ok(Some(chunk)) => {
                    let events = chunk.events.clone();
                    (chunk, events)
                }
                Ok(None) => {
                    if let Err(error) = self.letters.end(replay) {
                        self.replay_fault(&error);
                        return Ok(());
                    }
                    let ended = std::mem::take(&mut self.replaying);
                    self.driver.state.notes.replayed(ended.delivered, ended.refused);
                    // Another one may have been asked for meanwhile.
                    self.look_for_replay();
                    return Ok(());
                }
                Err(error) => {
                    self.replay_fault(&error);
                    return Ok(());
                }
            },
        };
        let events = self.driver.hot.erased.without(&events).unwrap_or(events);
        if !events.is_empty() {
            let receipt = match self.ask(|sink| sink.write(&events)).await {
                Ok(receipt) => receipt,
                Err(halt) => {
                    self.count("retried", events.len());
                    self.replaying.open = Some((chunk, events));
                    return Err(halt);
                }
            };
            self.checked(&events, &receipt, false)?;
            if let Err(error) = self.keep_refused(&events, &receipt.refused) {
                self.replaying.open = Some((chunk, events));
                return Err(error.into());
            }
            let delivered = events.len() - receipt.refused.len() - receipt.pending.len();
            self.count("ok", delivered);
            self.count("retried", receipt.pending.len());
            self.replaying.delivered += delivered as u64;
            self.replaying.refused += receipt.refused.len() as u64;
            if let (false, Some(retry)) = (receipt.pending.is_empty(), receipt.retry) {
                if delivered > 0 {
                    self.backoff.reset();
                }
                self.replaying.open = Some((chunk, events.select(&receipt.pending)));
                return self.pause(&retry.reason, retry.after).await;
            }
            self.backoff.reset();
            self.fine();
        }
        let done = self.replaying.replay.as_mut().map_or(Ok(()), |replay| {
            let erased = |line: &[u8]| self.driver.hot.erased.is_named_in(line);
            self.letters.done(replay, &chunk, erased)
        });
        if let Err(error) = done {
            self.replay_fault(&error);
        }
        Ok(())
    }
}
