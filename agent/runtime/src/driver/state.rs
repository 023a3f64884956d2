//! What outlives a sink's restarts: how far it is, what was told of it, how it is asked to replay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use auditmon_core::time::{self, Nanos};
use auditmon_journal::Handle;
use parking_lot::Mutex;
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::notes::Notes;

/// All sinks of the agent, by name.
#[derive(Clone, Default)]
pub(crate) struct Sinks(Arc<Mutex<BTreeMap<&'static str, Arc<SinkState>>>>);

impl Sinks {
    /// A sink's state; the same for all of its lives.
    pub(crate) fn state(&self, name: &'static str) -> Arc<SinkState> {
        let mut sinks = self.0.lock();
        Arc::clone(sinks.entry(name).or_insert_with(|| Arc::new(SinkState::new(name))))
    }

    /// Has a sink that runs look for a request to replay its dead letters now; false if there is no such sink. It
    /// would look by itself within seconds.
    pub(crate) fn poke(&self, name: &str) -> bool {
        let sinks = self.0.lock();
        sinks.get(name).inspect(|state| state.poke.notify_one()).is_some()
    }

    /// End of the contiguous part that a sink has confirmed; `None` if there is no such sink, or it has not started yet.
    pub(crate) fn confirmed(&self, name: &str) -> Option<u64> {
        let sinks = self.0.lock();
        let state = sinks.get(name)?;
        let placed = state.placed.load(Ordering::Relaxed);
        placed.then(|| state.confirmed.load(Ordering::Relaxed))
    }

    /// Whether a sink has failed and its driver tells of it.
    pub(crate) fn in_trouble(&self, name: &str) -> bool {
        self.0.lock().get(name).is_some_and(|state| state.notes.in_trouble())
    }

    /// A sink that is off has no series any more.
    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }

    /// Gauges of all sinks, as they are now: a sink that hangs can't be relied upon to keep its own.
    ///
    /// # Errors
    /// None that a caller could cause: the names are constants.
    pub(crate) fn gather(&self, journal: &Handle) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["sink"]);
        let entries = gauge(
            "auditmon_sink_lag_entries",
            "Journal entries that a sink has still to deliver.",
        )?;
        let bytes = gauge(
            "auditmon_sink_lag_bytes",
            "About how many bytes of the journal those take.",
        )?;
        let inflight = gauge("auditmon_sink_inflight_requests", "1 while a sink is handed events.")?;
        let seconds = GaugeVec::new(
            Opts::new("auditmon_sink_lag_seconds", "How long the oldest of those has waited."),
            &["sink"],
        )?;
        let durable = journal.durable();
        for (name, state) in &*self.0.lock() {
            let confirmed = state.confirmed.load(Ordering::Relaxed).min(durable);
            let former = state.former.load(Ordering::Relaxed);
            let lag = (durable - confirmed).saturating_add(former);
            entries
                .with_label_values(&[name])
                .set(i64::try_from(lag).unwrap_or(i64::MAX));
            let former = state.former_bytes.load(Ordering::Relaxed);
            let waiting = journal.bytes_from(confirmed).saturating_add(former);
            let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
            bytes.with_label_values(&[name]).set(waiting);
            seconds
                .with_label_values(&[name])
                .set(if lag == 0 { 0.0 } else { state.waited_seconds() });
            inflight
                .with_label_values(&[name])
                .set(state.call.lock().is_some().into());
        }
        Ok([
            entries.collect(),
            bytes.collect(),
            seconds.collect(),
            inflight.collect(),
        ]
        .concat())
    }
}

/// One sink.
pub(crate) struct SinkState {
    /// End of the contiguous confirmed part.
    confirmed: AtomicU64,
    /// Records, and about how many bytes, that it has still to be given of former generations.
    former: AtomicU64,
    former_bytes: AtomicU64,
    /// When the oldest record behind it was received, or seen to wait; 0 if none is known to.
    oldest: AtomicU64,
    /// Until when the sink has to come back from what it was asked to do, while it is.
    call: Mutex<Option<Instant>>,
    /// Threads that a sink never gave back.
    pub(crate) lost_threads: AtomicU32,
    /// To look for a request to replay.
    pub(crate) poke: Notify,
    pub(crate) notes: Notes,
    placed: AtomicBool,
}

impl SinkState {
    fn new(name: &'static str) -> Self {
        Self {
            // Until it is placed nothing waits for it: the series begin at 0.
            confirmed: AtomicU64::new(u64::MAX),
            former: AtomicU64::new(0),
            former_bytes: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            call: Mutex::new(None),
            lost_threads: AtomicU32::new(0),
            poke: Notify::new(),
            notes: Notes::new(name),
            placed: AtomicBool::new(false),
        }
    }

    /// Everything below `seq` is confirmed.
    pub(crate) fn confirmed(&self, seq: u64) {
        self.place(seq, 0, 0);
    }

    /// Nothing of the generation that is written to is confirmed, and so much of former ones isn't either.
    pub(crate) fn in_former(&self, records: u64, bytes: u64) {
        self.place(0, records, bytes);
    }

    fn place(&self, confirmed: u64, former: u64, bytes: u64) {
        self.confirmed.store(confirmed, Ordering::Relaxed);
        self.former.store(former, Ordering::Relaxed);
        self.former_bytes.store(bytes, Ordering::Relaxed);
        self.placed.store(true, Ordering::Relaxed);
    }

    /// Something waits: since `received` if that is known, else since now, unless it was seen before.
    pub(crate) fn waits(&self, received: Option<Nanos>) {
        match received {
            Some(received) => self.oldest.store(received.max(1), Ordering::Relaxed),
            None => {
                let seen = self
                    .oldest
                    .compare_exchange(0, time::now(), Ordering::Relaxed, Ordering::Relaxed);
                // It was seen before: that stays.
                let _ = seen;
            }
        }
    }

    /// Nothing waits.
    pub(crate) fn caught_up(&self) {
        self.oldest.store(0, Ordering::Relaxed);
    }

    /// A life has ended, and nobody sees what arrives from now on.
    pub(crate) fn unattended(&self) {
        if self.placed.load(Ordering::Relaxed) {
            self.waits(None);
        }
    }

    fn waited_seconds(&self) -> f64 {
        match self.oldest.load(Ordering::Relaxed) {
            0 => 0.0,
            oldest => time::now().saturating_sub(oldest) as f64 / 1e9,
        }
    }

    /// The sink is asked to do something and has to be back by then.
    pub(crate) fn enter(&self, until: Instant) {
        *self.call.lock() = Some(until);
    }

    /// It is back.
    pub(crate) fn leave(&self) {
        *self.call.lock() = None;
    }

    pub(crate) fn call(&self) -> Option<Instant> {
        *self.call.lock()
    }

    #[cfg(test)]
    pub(crate) fn lag(&self, durable: u64) -> (u64, f64) {
        let lag = durable.saturating_sub(self.confirmed.load(Ordering::Relaxed));
        let lag = lag.saturating_add(self.former.load(Ordering::Relaxed));
        (lag, if lag == 0 { 0.0 } else { self.waited_seconds() })
    }
}
