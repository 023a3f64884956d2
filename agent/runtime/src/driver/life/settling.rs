//! Handing over, and doing what the sink's answer says.

use auditmon_core::delivery::{Receipt, RefusedEvent, Retry};
use auditmon_core::plugin::PluginError;
use auditmon_core::subscription::Events;
use auditmon_core::time;

use super::{Halt, Life};
use crate::driver::notes::Fault;
use crate::driver::place::Keeper;
use crate::driver::receipt;

impl Life {
    pub(super) async fn hand_over(&mut self, events: &Events) -> Result<(), Halt> {
        let oldest = events.iter().next().map(|event| event.received);
        if oldest.is_some() {
            self.driver.state.waits(oldest);
        }
        let receipt = match self.ask(|sink| sink.write(events)).await {
            Ok(receipt) => receipt,
            Err(halt) => {
                self.count("retried", events.len());
                return Err(halt);
            }
        };
        let own = self.place.as_ref().is_some_and(|place| place.keeper == Keeper::Sink);
        self.checked(events, &receipt, own)?;
        self.settle(events, receipt, own, oldest).await
    }

    /// An answer that does not fit says nothing about any event.
    pub(super) fn checked(&self, events: &Events, receipt: &Receipt, own: bool) -> Result<(), Halt> {
        receipt::check(events, receipt, own).map_err(|wrong| {
            let reason = format!("the sink's answer is wrong, and nothing of it counts as delivered: {wrong}");
            PluginError::Permanent(reason).into()
        })
    }

    /// Does what the answer says.
    async fn settle(
        &mut self,
        events: &Events,
        receipt: Receipt,
        own: bool,
        oldest: Option<time::Nanos>,
    ) -> Result<(), Halt> {
        let Receipt {
            refused,
            mut pending,
            retry,
        } = receipt;
        let mut trouble = retry.filter(|_| !pending.is_empty());
        let delivered = events.len() - refused.len() - pending.len();
        if let Err(error) = self.keep_refused(events, &refused) {
            if own {
                return Err(error.into());
            }
            // What is not kept is not settled.
            pending.extend(refused.iter().map(|refused| refused.seq));
            pending.sort_unstable();
            trouble = Some(Retry {
                after: None,
                reason: error.to_string(),
            });
        }
        if let Some(place) = &mut self.place {
            place.pending = match pending.first() {
                None => None,
                Some(first) if own => {
                    place.next = *first;
                    None
                }
                Some(_) => Some(events.select(&pending)),
            };
        }
        self.count("ok", delivered);
        self.count("retried", pending.len());
        if let (true, Some(oldest)) = (delivered > 0, oldest) {
            let seconds = time::now().saturating_sub(oldest) as f64 / 1e9;
            let latency = &self.driver.telemetry.sink_latency;
            latency.with_label_values(&[self.driver.name]).observe(seconds);
        }
        self.remember(events.end(), true);
        if delivered > 0 || pending.is_empty() {
            self.backoff.reset();
        }
        match trouble {
            None => {
                self.fine();
                Ok(())
            }
            Some(retry) => self.pause(&retry.reason, retry.after).await,
        }
    }

    /// Puts refused events into the dead-letter file.
    pub(super) fn keep_refused(&mut self, events: &Events, refused: &[RefusedEvent]) -> Result<(), PluginError> {
        let Some(last) = refused.last() else { return Ok(()) };
        let erased = |seq| self.driver.hot.erased.has(events, seq);
        let dropped = self.letters.append(events, refused, erased).map_err(|error| {
            PluginError::transient(format!(
                "refused events can't be written to the dead-letter file: {error}"
            ))
        })?;
        let notes = &self.driver.state.notes;
        notes.refused(refused.len(), &last.reason);
        self.count("dead_letter", refused.len());
        if dropped > 0 {
            notes.dropped(dropped);
            let discarded = &self.driver.telemetry.discarded;
            let labels = [self.driver.name, crate::telemetry::DEAD_LETTERS_FULL];
            discarded.with_label_values(&labels).inc_by(dropped);
        }
        Ok(())
    }

    pub(super) fn count(&self, result: &str, events: usize) {
        let labels = [self.driver.name, result];
        let counter = self.driver.telemetry.sink_events.with_label_values(&labels);
        counter.inc_by(events as u64);
    }

    /// What was handed over is settled.
    pub(super) fn fine(&self) {
        if self.place.as_ref().is_some_and(|place| place.pending.is_some()) {
            return;
        }
        match &self.unwritten {
            None => {
                self.driver.state.notes.fine();
                self.driver.health.ok();
            }
            Some(reason) => {
                self.driver.state.notes.fault(reason, Fault::Passing);
                self.driver.health.degraded(reason.clone());
            }
        }
    }
}
