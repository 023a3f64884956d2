//! The working thread: chunks of records in, batches of events out.
//!
//! It may wait for the journal, because the ring behind it does not: what
//! cannot be handed over stays there up to its limit, and then the receiving
//! thread counts what it drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use audit_record::json::{Encoder, Names};
use audit_record::{Event, Limits, Reassembler, RecordType, Stamp, Summary, header};
use auditmon_core::event::{MAX_NAME, MAX_RESOURCE, cut};
use auditmon_core::{Accepted, Emitter, Outcome, Refused, Severity, time};
use auditmon_journal::Linger;
use parking_lot::Mutex;

use crate::heartbeat::{Heartbeat, Mark as HeartbeatMark};
use crate::losses::{Gap, Losses};
use crate::memory::{BOOT, Mark};
use crate::metrics::{Metrics, raise};
use crate::pending::{Head, MAX_EVENTS, Pending};
use crate::reader::{coarse_now, exact_now};
use crate::ring::{Chunk, Consumer, Entry, OVERRUN, Taken, Waker};
use crate::users::Users;
use crate::wire::kind;

/// How long an event waits for company here; in the ring it has waited 20 ms,
/// which makes 50.
const LINGER: Duration = Duration::from_millis(30);
/// Or until this many bytes wait.
const BATCH: usize = 256 << 10;
/// Bytes of events that wait while a batch is under way; beyond it records
/// stay in the ring.
const MAX_PENDING: usize = 1 << 20;
/// Attempts to take the registration are logged this often, at most.
const CHALLENGE_EVERY: Duration = Duration::from_secs(10);
/// A refused batch is tried again after this, once the end has begun.
const RETRY_AT_END: Duration = Duration::from_millis(250);
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
    emitter: Emitter,
    shared: Arc<Shared>,
    boot: String,
    users: Users,
    beats: HeartbeatMark,
    reassembler: Reassembler,
    encoder: Encoder,
    losses: Losses,
    /// `lost` when the last gap was told.
    lost_told: u32,
    pending: Pending,
    /// What is being handed over.
    flying: Pending,
    waiting: bool,
    retry_at: Option<Instant>,
    refused: Option<Refused>,
    verdicts: (Sender<Verdict>, Receiver<Verdict>),
    waker: Waker,
    challenged: Option<Instant>,
    ending: bool,
    tally: Tally,
}

type Verdict = Result<Accepted, Refused>;

impl Processor {
    pub(crate) fn new(
        consumer: Consumer,
        emitter: Emitter,
        shared: Arc<Shared>,
        boot: &str,
        mark: Option<&Mark>,
    ) -> Processor {
        let beats = shared.heartbeat.lock().mark();
        let lost = shared.lost.load(Ordering::Relaxed);
        Processor {
            waker: consumer.waker(),
            consumer,
            emitter,
            boot: boot.to_owned(),
            users: Users::of_host(),
            beats,
            reassembler: Reassembler::new(Limits::default()),
            encoder: Encoder::new(),
            losses: Losses::new(mark, coarse_now()),
            lost_told: mark.map_or(lost, |mark| mark.lost),
            pending: Pending::default(),
            flying: Pending::default(),
            waiting: false,
            retry_at: None,
            refused: None,
            verdicts: channel(),
            challenged: None,
            ending: false,
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
            self.verdict(Duration::ZERO);
            self.drain_ready();
            if !self.has_room() {
                if self.consumer.is_closed() {
                    return self;
                }
                self.hand_over(false);
                self.verdict(Duration::from_millis(100));
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
        self.ending = true;
        self.retry_at = None;
        let mut open = true;
        while open || !self.has_room() {
            self.verdict(Duration::ZERO);
            self.drain_ready();
            if self.has_room() {
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
                self.verdict(Duration::from_millis(20));
                if self.gave_up(deadline) {
                    break;
                }
            }
        }
        self.own_drops();
        self.look_for_losses(coarse_now(), true);
        self.notes();
        self.flush(deadline);
    }

    /// Whether there is no point in waiting for the journal any longer.
    fn gave_up(&self, deadline: Instant) -> bool {
        let draining = self.refused == Some(Refused::Draining) && !self.waiting;
        draining || Instant::now() > deadline
    }

    /// Hands a last batch over: the notes left, and what to remember.
    pub(crate) fn end(&mut self, states: Vec<(Vec<u8>, Vec<u8>)>, deadline: Instant) {
        self.notes();
        for (key, value) in states {
            self.pending.add_state(key, value);
        }
        self.flush(deadline);
    }

    fn flush(&mut self, deadline: Instant) {
        loop {
            self.hand_over(true);
            if !self.waiting && self.pending.is_empty() && self.flying.is_empty() {
                return;
            }
            if self.gave_up(deadline) {
                break;
            }
            self.verdict(Duration::from_millis(20));
        }
        let lost = (self.pending.len() + self.flying.len()) as u64;
        self.discard(lost);
        self.pending.clear();
        self.flying.clear();
        self.waiting = false;
    }

    fn discard(&mut self, events: u64) {
        if events > 0 {
            self.tally.discarded += events;
            self.shared.metrics.discarded.inc_by(events);
            tracing::error!(events, "kernel events could not be stored and are lost");
        }
    }

    fn has_room(&self) -> bool {
        self.pending.bytes() < MAX_PENDING && self.pending.len() < MAX_EVENTS
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
        // While a batch is under way, its verdict wakes us, or the time to
        // try it again.
        if let Some(since) = self.pending.since()
            && self.flying.is_empty()
        {
            sleep = sleep.min(LINGER.saturating_sub(since.elapsed()));
        }
        if let Some(at) = self.retry_at {
            sleep = sleep.min(at.saturating_duration_since(Instant::now()));
        }
        sleep
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
        if self.has_room() {
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
        while self.has_room() {
            let Some(event) = self.reassembler.pop() else {
                return;
            };
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
        };
        let cuts = cuts.get(..cut_count).unwrap_or_default();
        let (encoder, users) = (&mut self.encoder, &self.users);
        self.pending.push(&head, |out| {
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
        };
        let data = note.data.to_string();
        self.pending.push(&head, |out| out.extend_from_slice(data.as_bytes()));
    }

    /// Starts a batch if one is due and none is under way, or tries again
    /// the one that was refused.
    fn hand_over(&mut self, at_once: bool) {
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
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if let Some(mark) = self.losses.mark(&self.boot, lost) {
            self.pending.add_state(BOOT.to_vec(), mark.to_bytes());
        }
        std::mem::swap(&mut self.pending, &mut self.flying);
        self.send();
    }

    fn send(&mut self) {
        let (batch, lost) = self.flying.batch(&self.emitter);
        self.discard(lost);
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
    fn verdict(&mut self, patience: Duration) {
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
                let lost = self.flying.len() as u64;
                self.discard(lost);
                self.flying.clear();
            }
            Err(refused) => {
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

/// Time of an event, ns since 1970.
fn wall(stamp: Stamp) -> u64 {
    let millis = stamp.sec.saturating_mul(1000) + u64::from(stamp.msec);
    millis.saturating_mul(1_000_000).min(i64::MAX as u64)
}
