//! When a sink is handed something: at once, or when there is enough of it, or when it has waited long enough.

use std::time::Duration;

use tokio::time::Instant;

use super::{Halt, Life};

/// How often a sink that has nothing to do looks for a request to replay.
const LOOK: Duration = Duration::from_secs(10);
/// While events wait for company it is looked this often whether there are enough; commits are not waited for, since
/// there may be thousands a second.
const SHORTEST_LOOK: Duration = Duration::from_millis(5);

impl Life {
    /// Waits until something is to be handed over. False if something else is to be looked at.
    pub(super) async fn wait(&mut self) -> Result<bool, Halt> {
        loop {
            let mut durable = *self.driver.durable.borrow_and_update();
            if self.driver.drain.is_cancelled() {
                // What comes meanwhile is for the next life: under load the end would never come.
                durable = *self.last.get_or_insert(durable);
            }
            let in_former = !self.ahead.is_empty();
            if in_former {
                durable = self.journal.durable();
            }
            let later = self.later();
            let Some(place) = &self.place else {
                return Err(Halt::End);
            };
            if let Some(lag) = &self.driver.lag {
                let left = durable.saturating_sub(place.confirmed()).saturating_add(later);
                lag.set(i64::try_from(left).unwrap_or(i64::MAX));
            }
            if place.pending.is_some() {
                return Ok(true);
            }
            let next = place.next;
            if next >= durable && in_former {
                self.pass_on().await?;
                continue;
            }
            if next >= durable {
                self.driver.state.caught_up();
                return self.idle().await;
            }
            self.driver.state.waits(None);
            let since = *self.noticed.get_or_insert_with(Instant::now);
            let age = self.driver.delivery.batch.age.0;
            let left = age.saturating_sub(since.elapsed());
            if in_former || left.is_zero() || self.driver.drain.is_cancelled() || self.is_enough(durable - next, next) {
                return Ok(true);
            }
            tokio::select! {
                () = self.driver.abort.cancelled() => return Err(Halt::End),
                () = self.driver.drain.cancelled() => {}
                () = tokio::time::sleep(left.min((age / 8).max(SHORTEST_LOOK))) => {}
            }
        }
    }

    /// Whether one hand-over is filled by what waits.
    fn is_enough(&self, records: u64, next: u64) -> bool {
        records >= self.feed.max_events() as u64 || self.journal.bytes_from(next) >= self.feed.max_bytes() as u64
    }

    /// Everything is handed over.
    async fn idle(&mut self) -> Result<bool, Halt> {
        if self.driver.drain.is_cancelled() {
            return Err(Halt::End);
        }
        if self.replaying.is_under_way() {
            return Ok(false);
        }
        let due = self.driver.state.notes.due();
        let tell = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let look = tokio::select! {
            () = self.driver.abort.cancelled() => return Err(Halt::End),
            () = self.driver.drain.cancelled() => false,
            changed = self.driver.durable.changed() => {
                if changed.is_err() {
                    // The journal was closed, which comes before sinks are told to end.
                    tokio::select! {
                        () = self.driver.abort.cancelled() => {}
                        () = self.driver.drain.cancelled() => {}
                    }
                }
                false
            }
            () = tell => false,
            () = self.driver.state.poke.notified() => true,
            () = tokio::time::sleep(LOOK) => true,
        };
        if look {
            self.look_for_replay();
            if self.unwritten.is_some() {
                self.remember(None, true);
                self.fine();
            }
        }
        Ok(false)
    }
}
