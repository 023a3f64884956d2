//! How a source hands a batch over and gets its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auditmon_journal::{Handle, Linger};
use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::batch::{AGENT, Batch};
use crate::event::Kind;
use crate::memory;

/// A batch is in the journal and on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// Place of its first record.
    pub first_seq: u64,
    /// Place of its last event; events take `first_seq..=last_seq` without gaps.
    pub last_seq: u64,
}

/// A batch was not accepted; nothing of it is stored, save for [`Refused::Unknown`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The disk's reserve is reached.
    #[error("the disk is full up to the reserve")]
    DiskFull,
    /// The journal has reached its size limit and waits for a sink or for retention.
    #[error("the journal has reached its size limit")]
    SizeLimit,
    /// The disk did not take the batch.
    #[error("the disk failed to store the batch")]
    SyncFailed,
    /// The agent is stopping, or the plugin is down and about to be started again.
    #[error("the agent, or this part of it, is being stopped or started")]
    Draining,
    /// The batch can never be accepted: over the limits of a frame, or empty.
    #[error("the batch is larger than one frame of the journal allows, or empty")]
    TooLarge,
    /// Nobody knows whether it is stored: the caller gives no answer at all.
    #[error("it is not known whether the batch was stored")]
    Unknown,
}

impl Refused {
    /// When it may be worth to come back.
    #[must_use]
    pub const fn retry_after(self) -> Duration {
        match self {
            Self::DiskFull | Self::SizeLimit => Duration::from_secs(5),
            _ => Duration::from_secs(1),
        }
    }
}

impl From<auditmon_journal::Refused> for Refused {
    fn from(refused: auditmon_journal::Refused) -> Self {
        use auditmon_journal::Refused as R;
        match refused {
            R::Reserve => Self::DiskFull,
            R::SizeLimit => Self::SizeLimit,
            R::SyncFailed => Self::SyncFailed,
            R::Draining | R::Closed => Self::Draining,
            R::TooLarge | R::Empty => Self::TooLarge,
            _ => Self::Unknown,
        }
    }
}

/// Counters of what sources hand over; shared by all emitters.
#[derive(Clone)]
pub struct SourceMetrics {
    /// `auditmon_source_events_total{plugin,source}`
    pub events: IntCounterVec,
    /// `auditmon_source_bytes_total{plugin,source}`
    pub bytes: IntCounterVec,
    /// `auditmon_journal_append_seconds`
    pub append: Histogram,
}

/// Seconds from half a millisecond to ten.
const APPEND_BUCKETS: [f64; 13] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

impl SourceMetrics {
    /// New counters, in no registry yet.
    ///
    /// # Errors
    /// None that a caller could cause: the names are constants.
    pub fn new() -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["plugin", "source"]);
        let append = HistogramOpts::new("auditmon_journal_append_seconds", "From handed over to on disk.");
        Ok(Self {
            events: counter("auditmon_source_events_total", "Events accepted from a source.")?,
            bytes: counter(
                "auditmon_source_bytes_total",
                "Journal bytes of events accepted from a source.",
            )?,
            append: Histogram::with_opts(append.buckets(APPEND_BUCKETS.to_vec()))?,
        })
    }
}

/// A source's way into the journal.
#[derive(Clone)]
pub struct Emitter {
    plugin: &'static str,
    kind: Kind,
    host: Arc<str>,
    journal: Handle,
    drain: CancellationToken,
    metrics: SourceMetrics,
}

impl Emitter {
    /// Made by the runtime. After `drain` every batch is refused.
    #[must_use]
    pub fn new(
        plugin: &'static str,
        kind: Kind,
        host: Arc<str>,
        journal: Handle,
        drain: CancellationToken,
        metrics: SourceMetrics,
    ) -> Self {
        Self {
            plugin,
            kind,
            host,
            journal,
            drain,
            metrics,
        }
    }

    /// The newest signed checkpoint of the journal, a signed note; `None` before the first.
    #[must_use]
    pub fn checkpoint(&self) -> Option<String> {
        self.journal.checkpoint().map(|newest| newest.note.clone())
    }

    /// An empty batch under the plugin's own name.
    #[must_use]
    pub fn batch(&self) -> Batch {
        self.batch_from(self.plugin)
    }

    /// An empty batch under another `event_source`, such as an API key's name.
    #[must_use]
    pub fn batch_from(&self, event_source: &str) -> Batch {
        self.batch_sized(event_source, 0)
    }

    /// The same with room for `bytes` of records, so that a large batch is not copied while it grows.
    #[must_use]
    pub fn batch_sized(&self, event_source: &str, bytes: usize) -> Batch {
        Batch::new(self.plugin, self.kind, &self.host, event_source, memory::buffer(bytes))
    }

    /// An empty batch of agent events.
    #[must_use]
    pub fn agent_batch(&self) -> Batch {
        Batch::new(self.plugin, Kind::Agent, &self.host, AGENT, Vec::new())
    }

    /// Hands a batch over and waits until it is on disk, or refused. A dropped future does not take the batch back.
    ///
    /// # Errors
    /// [`Refused`]: the batch is not stored.
    pub async fn emit(&self, batch: Batch, linger: Linger) -> Result<Accepted, Refused> {
        let (tell, answer) = oneshot::channel();
        self.emit_with(batch, linger, move |verdict| {
            // The waiting side may be gone; the batch is stored all the same.
            let _ = tell.send(verdict);
        });
        // A handle dropped without a verdict is no acceptance.
        answer.await.unwrap_or(Err(Refused::Unknown))
    }

    /// Hands a batch over; `done` is called exactly once, on the journal's thread, and must not block.
    pub fn emit_with(
        &self,
        batch: Batch,
        linger: Linger,
        done: impl FnOnce(Result<Accepted, Refused>) + Send + 'static,
    ) {
        if self.drain.is_cancelled() {
            return done(Err(Refused::Draining));
        }
        let events = batch.events();
        let labels = [self.plugin, batch.event_source()];
        let (event_count, byte_count) = (
            self.metrics.events.with_label_values(&labels),
            self.metrics.bytes.with_label_values(&labels),
        );
        let records = batch.into_records();
        let bytes = records.bytes() as u64;
        let (append, begin) = (self.metrics.append.clone(), Instant::now());
        self.journal.submit(
            records,
            linger,
            Box::new(move |verdict| {
                if verdict.is_ok() {
                    event_count.inc_by(events.into());
                    byte_count.inc_by(bytes);
                    append.observe(begin.elapsed().as_secs_f64());
                }
                done(verdict.map_err(Refused::from).map(|committed| Accepted {
                    first_seq: committed.first_seq,
                    last_seq: committed.first_seq + u64::from(events.max(1)) - 1,
                }));
            }),
        );
    }
}
