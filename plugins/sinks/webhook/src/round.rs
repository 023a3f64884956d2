//! What became of each event of a batch, while several workers are at it.

use std::collections::HashMap;
use std::time::Duration;

use auditmon_core::delivery::{Receipt, RefusedEvent, Retry};
use auditmon_core::subscription::Events;
use parking_lot::Mutex;

use crate::client::Later;

/// So many requests in a row that the receiver did not take, and it is left alone until the next hand-over.
const MAX_FAILURES: u32 = 8;

/// Answers that count. They outlive a hand-over that was cut off, so that what was delivered in it is not sent again.
#[derive(Default)]
pub(crate) struct Answered(Mutex<HashMap<u64, Option<String>>>);

impl Answered {
    /// Whether the receiver has taken or refused the event.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.0.lock().contains_key(&seq)
    }

    /// The receiver has the events.
    pub(crate) fn delivered(&self, seqs: impl Iterator<Item = u64>) {
        self.0.lock().extend(seqs.map(|seq| (seq, None)));
    }

    /// The receiver will never take the event.
    pub(crate) fn refused(&self, seq: u64, reason: String) {
        self.0.lock().insert(seq, Some(reason));
    }

    /// Those of `events` that were refused, in order; nothing is remembered any more.
    fn take(&self, events: &Events) -> Vec<RefusedEvent> {
        let mut answered = std::mem::take(&mut *self.0.lock());
        events
            .iter()
            .filter_map(|event| {
                let reason = answered.remove(&event.seq)??;
                Some(RefusedEvent { seq: event.seq, reason })
            })
            .collect()
    }
}

/// One hand-over.
#[derive(Default)]
pub(crate) struct Round(Mutex<State>);

#[derive(Default)]
struct State {
    stopped: bool,
    /// In a row.
    failures: u32,
    pending: Vec<u64>,
    reason: Option<String>,
    after: Option<Duration>,
    gone: Option<String>,
}

impl Round {
    /// Whether nothing more is sent.
    pub(crate) fn stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// The receiver took something.
    pub(crate) fn success(&self) {
        self.0.lock().failures = 0;
    }

    /// The receiver did not take something.
    pub(crate) fn failure(&self, later: Later) {
        let mut state = self.0.lock();
        state.failures += 1;
        state.stopped |= later.whole || state.failures >= MAX_FAILURES;
        state.after = state.after.max(later.after);
        // The first says most: what follows may be its consequence.
        state.reason.get_or_insert(later.reason);
    }

    /// The receiver wants no more events.
    pub(crate) fn gone(&self, reason: String) {
        let mut state = self.0.lock();
        state.stopped = true;
        state.gone.get_or_insert(reason);
    }

    /// The events have to be handed over again.
    pub(crate) fn pending(&self, seqs: impl Iterator<Item = u64>) {
        self.0.lock().pending.extend(seqs);
    }

    /// The receipt; or why nothing will ever be delivered again.
    ///
    /// # Errors
    /// The receiver's reason.
    pub(crate) fn end(self, answered: &Answered, events: &Events) -> Result<Receipt, String> {
        let state = self.0.into_inner();
        if let Some(reason) = state.gone {
            return Err(reason);
        }
        let mut pending = state.pending;
        pending.sort_unstable();
        let retry = (!pending.is_empty()).then(|| Retry {
            after: state.after,
            reason: state.reason.unwrap_or_default(),
        });
        Ok(Receipt {
            refused: answered.take(events),
            pending,
            retry,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(reason: &str, seconds: Option<u64>, whole: bool) -> Later {
        Later {
            reason: reason.to_owned(),
            after: seconds.map(Duration::from_secs),
            whole,
        }
    }

    fn end(round: Round) -> Result<Receipt, String> {
        round.end(&Answered::default(), &Events::new("h/00".into()))
    }

    #[test]
    fn the_first_reason_and_the_longest_time_count() {
        for times in [
            [Some(5), Some(9), None],
            [Some(9), None, Some(5)],
            [None, Some(5), Some(9)],
        ] {
            let round = Round::default();
            for (number, seconds) in times.into_iter().enumerate() {
                round.failure(later(&number.to_string(), seconds, false));
            }
            round.pending([3, 1].into_iter());
            round.pending([2].into_iter());
            let receipt = end(round).unwrap();
            let retry = receipt.retry.unwrap();
            assert_eq!(
                (retry.reason.as_str(), retry.after),
                ("0", Some(Duration::from_secs(9)))
            );
            assert_eq!(receipt.pending, [1, 2, 3]);
        }
    }

    #[test]
    fn what_ends_a_round() {
        let round = Round::default();
        for _ in 1..MAX_FAILURES {
            round.failure(later("", None, false));
            assert!(!round.stopped());
        }
        round.success();
        for _ in 1..MAX_FAILURES {
            round.failure(later("", None, false));
        }
        assert!(!round.stopped());
        round.failure(later("", None, false));
        assert!(round.stopped());

        let round = Round::default();
        round.failure(later("", None, true));
        assert!(round.stopped());

        let round = Round::default();
        round.gone("no more".to_owned());
        round.gone("of these".to_owned());
        assert!(round.stopped());
        assert_eq!(end(round), Err("no more".to_owned()));
    }
}
