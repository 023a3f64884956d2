//! The working thread: chunks of records in, batches of events out.
//!
//! It may wait for the journal, because the ring behind it does not: what
//! cannot be handed over stays there up to its limit, and then the receiving
//! thread counts what it drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use audit_record::json::{Encoder, Names};
use audit_record::{Event, Limits, Reassembler, RecordType, Stamp, Summary, header};
use auditmon_core::event::{MAX_NAME, MAX_RESOURCE, cut};
use auditmon_core::{Emitter, Outcome, Severity, time};
use parking_lot::Mutex;

use crate::heartbeat::{Heartbeat, Mark as HeartbeatMark};
use crate::losses::{Gap, Losses};
use crate::memory::{BOOT, Mark};
use crate::metrics::{Metrics, raise};
use crate::outbox::Outbox;
use crate::pending::Head;
use crate::reader::{coarse_now, exact_now};
use crate::ring::{Chunk, Consumer, Entry, OVERRUN, Taken};
use crate::users::Users;
use crate::wire::kind;

/// Attempts to take the registration are logged this often, at most.
const CHALLENGE_EVERY: Duration = Duration::from_secs(10);
/// Longest sleep.
const IDLE: Duration = Duration::from_secs(5);

/// An event about this source itself, on its way into the next batch.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) severity: Severity,
    pub(crate) data: serde_json::Value,
}

/// What the working thread and the controlling one share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) heartbeat: Mutex<Heartbeat>,
    /// The kernel's `lost` counter as last read.
    pub(crate) lost: AtomicU32,
    pub(crate) notes: Mutex<Vec<Note>>,
    pub(crate) metrics: Metrics,
}

/// What the thread has done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) missing: u64,
    pub(crate) discarded: u64,
}

/// The working thread's state.
pub(crate) struct Processor {
    consumer: Consumer,
    shared: Arc<Shared>,
    boot: String,
    users: Users,
    beats: HeartbeatMark,
    reassembler: Reassembler,
    encoder: Encoder,
    losses: Losses,
    /// `lost` when the last gap was told.
    lost_told: u32,
    outbox: Outbox,
    challenged: Option<Instant>,
    /// Events were given up at the end.
    gave_up: bool,
    tally: Tally,
}

impl Processor {
    pub(crate) fn new(
        consumer: Consumer,
        emitter: Emitter,
        shared: Arc<Shared>,
        users: Users,
        boot: &str,
        mark: Option<&Mark>,
    ) -> Processor {
        let beats = shared.heartbeat.lock().mark();
        let lost = shared.lost.load(Ordering::Relaxed);
        Processor {
            outbox: Outbox::new(emitter, consumer.waker()),
            consumer,
            boot: boot.to_owned(),
            users,
            beats,
            reassembler: Reassembler::new(Limits::default()),
            encoder: Encoder::new(),
            losses: Losses::new(mark, coarse_now()),
            lost_told: mark.map_or(lost, |mark| mark.lost),
            challenged: None,
            gave_up: false,
            tally: Tally::default(),
            shared,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn highest(&self) -> Option<u32> {
        self.losses.highest()
    }

    /// Works until the ring is closed and empty, or closed while the journal
    /// takes nothing.
    pub(crate) fn run(mut self) -> Processor {
        loop {
            self.outbox.verdict(Duration::ZERO);
            self.drain_ready();
            if !self.outbox.has_room() {
                if self.consumer.is_closed() {
                    return self;
                }
                self.hand_over(false);
                self.outbox.verdict(Duration::from_millis(100));
                continue;
            }
            match self.consumer.take(self.sleep()) {
                Taken::Chunk(chunk) => self.chunk(chunk),
                Taken::Nothing => {}
                Taken::Closed => return self,
            }
            let now = coarse_now();
            if self.consumer.is_empty() {
                self.reassembler.expire(now);
                self.drain_ready();
            }
            self.look_for_losses(now, false);
            self.notes();
            self.hand_over(false);
        }
    }

    /// After [`Processor::run`]: everything that is still held goes to the
    /// journal, as far as it takes it until the deadline. The mark in the
    /// journal knows nothing of the rest, so the next start reports it.
    pub(crate) fn drain(&mut self, deadline: Instant) {
        self.outbox.hurry();
        let mut open = true;
        while open || !self.outbox.has_room() {
            self.outbox.verdict(Duration::ZERO);
            self.drain_ready();
            if self.outbox.has_room() {
                match self.consumer.take(Duration::ZERO) {
                    Taken::Chunk(chunk) => self.chunk(chunk),
                    Taken::Nothing => {}
                    Taken::Closed => {
                        open = false;
                        self.reassembler.flush();
                        self.drain_ready();
                    }
                }
            } else {
                self.hand_over(true);
                self.outbox.verdict(Duration::from_millis(20));
                if self.outbox.gave_up(deadline) {
                    break;
                }
            }
        }
        self.own_drops();
        self.look_for_losses(coarse_now(), true);
        self.notes();
        self.flush(deadline);
    }

    /// Hands a last batch over: the notes left, and what to remember.
    pub(crate) fn end(&mut self, states: Vec<(Vec<u8>, Vec<u8>)>, deadline: Instant) {
        self.notes();
        for (key, value) in states {
            self.outbox.pending.add_state(key, value);
        }
        self.flush(deadline);
    }

    fn flush(&mut self, deadline: Instant) {
        while !self.outbox.is_empty() {
            self.hand_over(true);
            self.outbox.verdict(Duration::from_millis(20));
            if self.outbox.gave_up(deadline) {
                // The mark would call these events stored: from now on none is
                // written, and the next start reports all since the last one.
                let events = self.outbox.clear();
                self.gave_up |= events > 0;
                self.discarded(events);
            }
        }
    }

    fn hand_over(&mut self, at_once: bool) {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let (losses, boot, gave_up) = (&self.losses, &self.boot, self.gave_up);
        self.outbox.hand_over(at_once, || {
            let mark = losses.mark(boot, lost).filter(|_| !gave_up)?;
            Some((BOOT.to_vec(), mark.to_bytes()))
        });
        self.look_for_refused();
    }

    /// Events that the journal can never take. They are accounted for, so
    /// nobody else would report them.
    fn look_for_refused(&mut self) {
        let serials = self.outbox.take_impossible();
        if serials.is_empty() {
            return;
        }
        self.discarded(serials.len() as u64);
        self.gap(&Gap::own_drop(&serials), 0);
    }

    fn discarded(&mut self, events: u64) {
        if events > 0 {
            self.tally.discarded += events;
            self.shared.metrics.discarded.inc_by(events);
            tracing::error!(events, "kernel events could not be stored");
        }
    }

    /// How long to sleep for the next record.
    fn sleep(&self) -> Duration {
        let now = coarse_now();
        let deadlines = [self.reassembler.next_deadline(), self.losses.next_deadline()];
        let mut sleep = IDLE;
        for deadline in deadlines.into_iter().flatten() {
            // One tick more, so that it has passed.
            let left = deadline.saturating_sub(now).saturating_add(4_000_000);
            sleep = sleep.min(Duration::from_nanos(left));
        }
        self.outbox.due_in().map_or(sleep, |due| sleep.min(due))
    }

    fn chunk(&mut self, chunk: Chunk) {
        self.users.refresh();
        for entry in chunk.entries() {
            self.entry(entry);
        }
        self.consumer.recycle(chunk);
        self.own_drops();
        let stats = self.reassembler.stats();
        let metrics = &self.shared.metrics;
        raise(&metrics.parse_errors, stats.unreadable);
        raise(&metrics.incomplete, stats.incomplete);
        let level = i64::try_from(self.consumer.level().0).unwrap_or(i64::MAX);
        metrics.buffer_bytes.set(level);
    }

    fn own_drops(&mut self) {
        let dropped = self.consumer.take_dropped();
        if dropped.records > 0 {
            self.shared.metrics.dropped.inc_by(dropped.records);
            self.losses.dropped(&dropped.serials);
        }
    }

    fn entry(&mut self, entry: Entry<'_>) {
        if entry.kind == OVERRUN {
            self.losses.overrun(entry.arrival);
            return;
        }
        self.tally.records += 1;
        if entry.kind == kind::REPLACE {
            self.challenged(entry.payload);
            return;
        }
        if let Some(beat) = self.beats.recognise(entry.kind, entry.payload) {
            self.heartbeat(beat, entry);
            return;
        }
        let kind = RecordType(entry.kind);
        if let Some(stamp) = self.reassembler.push(kind, entry.payload, entry.arrival) {
            self.losses.observe(stamp.serial, wall(stamp), entry.arrival);
        }
        if self.outbox.has_room() {
            self.drain_ready();
        }
    }

    /// Somebody tried to register in our place and was refused.
    fn challenged(&mut self, payload: &[u8]) {
        let Some(pid) = payload.first_chunk::<4>().copied().map(u32::from_ne_bytes) else {
            return;
        };
        if pid == std::process::id() {
            return;
        }
        // A program can try a thousand times a second.
        if self.challenged.is_some_and(|last| last.elapsed() < CHALLENGE_EVERY) {
            return;
        }
        self.challenged = Some(Instant::now());
        match crate::holder::Process::find(pid) {
            Some(process) => {
                tracing::warn!(%process, "another process tried to take the registration")
            }
            None => tracing::warn!(pid, "another process tried to take the registration"),
        }
    }

    /// A heartbeat is not shipped, but its serial counts.
    fn heartbeat(&mut self, beat: u64, entry: Entry<'_>) {
        if let Ok((stamp, _)) = header::parse(entry.payload) {
            self.losses.observe(stamp.serial, wall(stamp), entry.arrival);
            self.losses.account(stamp.serial);
        }
        // Until here, not until the socket: this is what an event takes too.
        let delay = self.shared.heartbeat.lock().returned(beat, exact_now());
        if let Some(delay) = delay {
            self.shared.metrics.heartbeat.set(delay as f64 / 1e9);
        }
    }

    /// Moves complete events into the next batch, as far as there is room.
    fn drain_ready(&mut self) {
        while self.outbox.has_room() {
            let Some(mut event) = self.reassembler.pop() else {
                return;
            };
            // What the kernel held back until after its serial was told as missing, or what began before the first run.
            event.late |= !event.unstamped && self.losses.is_late(event.stamp.serial);
            self.event(&event);
            self.reassembler.recycle(event);
        }
    }

    fn event(&mut self, event: &Event) {
        let summary = Summary::of(event);
        let mut cuts: [&str; 2] = ["", ""];
        let mut cut_count = 0;
        let name = summary.event_name();
        let id = [summary.auid(), summary.uid()]
            .into_iter()
            .flatten()
            .find(|id| *id != u32::MAX);
        let number;
        let username = match id.map(|id| (id, self.users.user(id))) {
            Some((_, Some(name))) => name,
            Some((id, None)) => {
                number = id.to_string();
                &number
            }
            None => "-",
        };
        let resource = summary.resource();
        let resource = resource.as_deref().map(String::from_utf8_lossy);
        let mut shorten = |member: &'static str, text: &str, max: usize| {
            if text.len() > max
                && let Some(place) = cuts.get_mut(cut_count)
            {
                *place = member;
                cut_count += 1;
            }
        };
        shorten("username", username, MAX_NAME);
        let resource = resource.as_deref().filter(|resource| !resource.is_empty());
        shorten("resource", resource.unwrap_or_default(), MAX_RESOURCE);
        let head = Head {
            agent: false,
            time: if event.unstamped {
                time::now()
            } else {
                wall(event.stamp)
            },
            name: cut(&name, MAX_NAME),
            username: cut(username, MAX_NAME),
            resource: resource.map(|resource| cut(resource, MAX_RESOURCE)),
            outcome: match summary.outcome() {
                audit_record::Outcome::Success => Outcome::Success,
                audit_record::Outcome::Failure => Outcome::Failure,
                audit_record::Outcome::Unknown => Outcome::Unknown,
            },
            severity: Severity::Info,
            serial: (!event.unstamped).then_some(event.stamp.serial),
        };
        let cuts = cuts.get(..cut_count).unwrap_or_default();
        let (encoder, users) = (&mut self.encoder, &self.users);
        self.outbox.pending.push(&head, |out| {
            encoder.event_data(&summary, users, cuts, out);
        });
        self.tally.events += 1;
        if !event.unstamped {
            self.losses.account(event.stamp.serial);
        }
    }

    fn look_for_losses(&mut self, now: u64, all: bool) {
        for gap in self.losses.take(now, all) {
            let lost = self.shared.lost.load(Ordering::Relaxed);
            let kernel_lost = lost.wrapping_sub(std::mem::replace(&mut self.lost_told, lost));
            self.gap(&gap, kernel_lost);
            self.losses.told(&gap);
        }
    }

    fn gap(&mut self, gap: &Gap, kernel_lost: u32) {
        self.tally.missing += gap.missing;
        let metrics = &self.shared.metrics;
        metrics
            .gaps
            .with_label_values(&[gap.reason.as_str()])
            .inc_by(gap.missing);
        tracing::warn!(
            missing = gap.missing,
            reason = gap.reason.as_str(),
            "kernel events are missing"
        );
        let format = |at: Option<u64>| at.map(time::format);
        let mut data = serde_json::json!({
            "ranges": gap.ranges,
            "missing": gap.missing,
            "after": format(gap.after),
            "before": format(gap.before),
            "kernel_lost": kernel_lost,
            "reason": gap.reason.as_str(),
        });
        if gap.merged {
            data["merged"] = true.into();
        }
        self.note(&Note {
            name: "kernel.gap",
            outcome: Outcome::Unknown,
            severity: Severity::Warning,
            data,
        });
    }

    fn notes(&mut self) {
        let notes = std::mem::take(&mut *self.shared.notes.lock());
        for note in notes {
            self.note(&note);
        }
    }

    fn note(&mut self, note: &Note) {
        let head = Head {
            agent: true,
            time: time::now(),
            name: note.name,
            username: "auditmon",
            resource: Some("kernel"),
            outcome: note.outcome,
            severity: note.severity,
            serial: None,
        };
        let data = note.data.to_string();
        self.outbox
            .pending
            .push(&head, |out| out.extend_from_slice(data.as_bytes()));
    }
}

/// Time of an event, ns since 1970.
fn wall(stamp: Stamp) -> u64 {
    let millis = stamp.sec.saturating_mul(1000) + u64::from(stamp.msec);
    millis.saturating_mul(1_000_000).min(i64::MAX as u64)
}
