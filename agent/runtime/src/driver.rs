//! The loop around a sink: reading, batching, positions, retries.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::emitter::Emitter;
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::health::HealthReporter;
use auditmon_core::plugin::{PluginError, Sink, Start};
use auditmon_core::subscription::Events;
use auditmon_core::time;
use auditmon_journal::format::Position;
use auditmon_journal::{Gap, GapReason, Handle, Item, Linger, PositionVerdict, Reader};
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Telemetry;

/// Most events a sink is given at once.
const MAX_EVENTS: usize = 5_000;
/// Most bytes a sink is given at once; one frame may be larger.
const MAX_BYTES: usize = 4 << 20;
/// How long a durable sink waits for company: its commits then don't compete with the journal's.
const LINGER: Duration = Duration::from_millis(200);
/// First and longest pause after a fault that may pass.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What a driver needs.
pub(crate) struct Driver {
    pub(crate) name: &'static str,
    pub(crate) journal: Handle,
    pub(crate) origin: Arc<str>,
    /// Everything below is on disk.
    pub(crate) durable: watch::Receiver<u64>,
    /// Fires when the journal is closed: the sink then drains what is left and ends.
    pub(crate) drain: CancellationToken,
    /// Fires at the deadline: the sink ends where it is.
    pub(crate) abort: CancellationToken,
    pub(crate) health: HealthReporter,
    pub(crate) telemetry: Telemetry,
    /// For events about the sink.
    pub(crate) emitter: Emitter,
    /// A gauge of the sink's own.
    pub(crate) lag: Option<IntGauge>,
}

/// How a sink's run ended.
pub(crate) enum DriverEnd {
    /// Drained, or aborted.
    Stopped,
    /// It can't go on.
    Failed(PluginError),
}

/// Where a sink goes on, and how its position is kept.
struct Place {
    seq: u64,
    cursor: bool,
    durable: bool,
}

impl Driver {
    /// Runs until drained or aborted.
    pub(crate) async fn run(mut self, mut sink: Box<dyn Sink>) -> DriverEnd {
        self.telemetry.sink(self.name);
        let mut pause = BACKOFF.0;
        let end = loop {
            match self.deliver(&mut *sink).await {
                Ok(()) => break DriverEnd::Stopped,
                // A sink that will never deliver must not fill the disk in silence: it goes on holding its payloads
                // until `journal.max_size`, and health and metrics say so.
                Err(error @ PluginError::Permanent(_)) => break DriverEnd::Failed(error),
                Err(PluginError::Transient(reason)) => {
                    tracing::warn!(
                        sink = self.name,
                        retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        "{reason}"
                    );
                    self.health.degraded(reason);
                    self.telemetry
                        .sink_events
                        .with_label_values(&[self.name, "retried"])
                        .inc();
                    tokio::select! {
                        () = self.abort.cancelled() => break DriverEnd::Stopped,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        };
        if let Err(error) = sink.close().await {
            tracing::warn!(sink = self.name, %error, "the sink did not close in order");
        }
        end
    }

    async fn place(&self, sink: &mut dyn Sink) -> Result<Place, PluginError> {
        let (position, cursor) = match sink.start(&self.origin).await? {
            Start::Live => {
                self.journal.set_hold(self.name, None);
                return Ok(Place {
                    seq: *self.durable.borrow(),
                    cursor: false,
                    durable: false,
                });
            }
            Start::Own(position) => (position, false),
            Start::Cursor => (
                self.journal.read_position(self.name).map_err(PluginError::transient)?,
                true,
            ),
        };
        let oldest = self.journal.status().oldest_payload;
        let seq = match position {
            None => oldest,
            Some(position) => match self.journal.check_position(&position) {
                // What it should have read next may be past retention: it is then told of the gap.
                PositionVerdict::Ok | PositionVerdict::Gone => position.seq,
                verdict => {
                    return Err(PluginError::permanent(format!(
                        "the journal is not the one that `{}` has read: it expects record {} next ({verdict:?}); \
                         the journal was rolled back or rewritten. Nothing is delivered until that is cleared up",
                        self.name, position.seq
                    )));
                }
            },
        };
        self.journal.set_hold(self.name, Some(seq));
        Ok(Place {
            seq,
            cursor,
            durable: true,
        })
    }

    async fn deliver(&mut self, sink: &mut dyn Sink) -> Result<(), PluginError> {
        let mut place = self.place(sink).await?;
        let mut reader = self.journal.reader(place.seq);
        self.health.ok();
        loop {
            let draining = self.drain.is_cancelled();
            let durable = *self.durable.borrow_and_update();
            let behind = lag(durable, place.seq);
            self.telemetry.sink_lag.with_label_values(&[self.name]).set(behind);
            if let Some(own) = &self.lag {
                own.set(behind);
            }
            if place.seq >= durable {
                if draining {
                    return Ok(());
                }
                tokio::select! {
                    () = self.abort.cancelled() => return Ok(()),
                    () = self.drain.cancelled() => {}
                    changed = self.durable.changed() => if changed.is_err() { return Ok(()) },
                }
                if place.durable && !draining {
                    tokio::select! {
                        () = self.drain.cancelled() => {}
                        () = tokio::time::sleep(LINGER) => {}
                    }
                }
                continue;
            }
            let (back, read) = read(reader, self.origin.clone()).await?;
            reader = back;
            if self.abort.is_cancelled() {
                return Ok(());
            }
            if let Some(end) = read.events.end() {
                let oldest = read.events.iter().next().map(|event| event.received);
                tokio::select! {
                    () = self.abort.cancelled() => return Ok(()),
                    written = sink.write(&read.events) => { written?; }
                }
                self.delivered(read.events.len(), oldest);
                self.advance(&mut place, end).await?;
                self.health.ok();
            }
            if let Some(gap) = read.gap {
                self.tell_gap(&gap);
                sink.gap(&gap).await?;
                place.seq = gap.last + 1;
                self.hold(&place);
            }
        }
    }

    /// One line and one event: these records never reach the sink.
    fn tell_gap(&self, gap: &Gap) {
        let reason = match gap.reason {
            GapReason::Expired => "expired",
            GapReason::Damaged => "damaged",
        };
        tracing::warn!(
            sink = self.name,
            first = gap.first,
            last = gap.last,
            reason,
            "records can't be delivered"
        );
        let mut batch = self.emitter.agent_batch();
        let data = format!(
            "{{\"sink\":\"{}\",\"first_seq\":{},\"last_seq\":{},\"reason\":\"{reason}\"}}",
            self.name, gap.first, gap.last
        );
        let draft = Draft {
            severity: Severity::Error,
            outcome: Outcome::Failure,
            data: Data::Raw(&data),
            ..Draft::new("sink.gap", "auditmon")
        };
        if batch.push(draft).is_ok() {
            // If the journal takes nothing now, the log line has said it.
            self.emitter.emit_with(batch, Linger::NONE, |_| ());
        }
    }

    fn delivered(&self, events: usize, oldest: Option<u64>) {
        self.telemetry
            .sink_events
            .with_label_values(&[self.name, "ok"])
            .inc_by(events as u64);
        if let Some(received) = oldest {
            let seconds = time::now().saturating_sub(received) as f64 / 1e9;
            self.telemetry
                .sink_latency
                .with_label_values(&[self.name])
                .observe(seconds);
        }
    }

    async fn advance(&self, place: &mut Place, end: Position) -> Result<(), PluginError> {
        place.seq = end.seq;
        if place.cursor {
            let (journal, name) = (self.journal.clone(), self.name);
            tokio::task::spawn_blocking(move || journal.write_position(name, &end))
                .await
                .map_err(PluginError::transient)?
                .map_err(PluginError::transient)?;
        }
        self.hold(place);
        Ok(())
    }

    fn hold(&self, place: &Place) {
        if place.durable {
            self.journal.set_hold(self.name, Some(place.seq));
        }
    }
}

fn lag(durable: u64, seq: u64) -> i64 {
    i64::try_from(durable.saturating_sub(seq)).unwrap_or(i64::MAX)
}

/// What came next.
struct Read {
    events: Events,
    gap: Option<Gap>,
}

/// Reads on a thread that may wait for the disk.
async fn read(mut reader: Reader, origin: Arc<str>) -> Result<(Reader, Read), PluginError> {
    tokio::task::spawn_blocking(move || {
        let mut read = Read {
            events: Events::new(origin),
            gap: None,
        };
        while read.events.len() < MAX_EVENTS && read.events.bytes() < MAX_BYTES {
            match reader.next() {
                Ok(Some(Item::Records(batch))) => read.events.push(batch),
                Ok(Some(Item::Gap(gap))) => {
                    read.gap = Some(gap);
                    break;
                }
                Ok(None) => break,
                Err(error) => return Err(PluginError::transient(format!("the journal can't be read: {error}"))),
            }
        }
        Ok((reader, read))
    })
    .await
    .map_err(PluginError::transient)?
}
