//! One life of a sink: start, hand over, settle, until the journal is closed and everything is delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auditmon_core::emitter::Refused;
use auditmon_core::plugin::{PluginError, Sink, Start};
use auditmon_core::subscription::Events;
use auditmon_journal::format::Position;
use auditmon_journal::{Gap, Handle};
use tokio::time::Instant;

use super::Driver;
use super::backoff::Backoff;
use super::batching::Feed;
use super::notes::{Fault, gap_word};
use super::place::{Keeper, Place, Places};
use crate::dead_letters::DeadLetters;

mod former;
mod replaying;
mod settling;
mod waiting;

use replaying::Replaying;

/// Attempts that fail after the journal was closed, before what is left is left to the next start.
const LAST_ATTEMPTS: u32 = 3;

/// Why the loop does not go on as it would.
enum Halt {
    /// The sink could not do what it was asked.
    Fault(PluginError),
    /// The agent ends, or has given this life up: nothing more is to be done.
    End,
}

impl From<PluginError> for Halt {
    fn from(error: PluginError) -> Self {
        Self::Fault(error)
    }
}

/// One life.
pub(super) struct Life {
    driver: Driver,
    /// Until it is closed.
    sink: Option<Box<dyn Sink>>,
    /// From its first start on.
    place: Option<Place>,
    /// The generation that is read.
    journal: Handle,
    /// Those that are read behind it, the newest first; empty while that is the one that is read.
    ahead: Vec<Handle>,
    feed: Feed,
    backoff: Backoff,
    letters: DeadLetters,
    replaying: Replaying,
    /// It has said where it starts, and had no fault since.
    started: bool,
    /// Since when the first event of the next batch waits for company.
    noticed: Option<Instant>,
    /// Why its position can't be written, while it can't.
    unwritten: Option<String>,
    failed_at_end: u32,
    /// Up to where this life delivers, once it was told to end.
    last: Option<u64>,
    /// Nobody waits for this life any more, and another one may have begun.
    abandoned: Arc<AtomicBool>,
}

impl Life {
    pub(super) fn new(driver: Driver, sink: Box<dyn Sink>, abandoned: Arc<AtomicBool>) -> Self {
        Self {
            feed: Feed::new(Arc::clone(&driver.hot), driver.name, &driver.delivery.batch),
            backoff: Backoff::new(driver.delivery.retry.clone()),
            letters: DeadLetters::new(&driver.data_dir, driver.name),
            replaying: Replaying::default(),
            sink: Some(sink),
            place: None,
            journal: driver.journal.clone(),
            ahead: Vec::new(),
            started: false,
            noticed: None,
            unwritten: None,
            failed_at_end: 0,
            last: None,
            abandoned,
            driver,
        }
    }

    /// Runs until drained or told to end.
    ///
    /// # Errors
    /// A permanent fault.
    pub(super) async fn run(&mut self) -> Result<(), PluginError> {
        loop {
            match self.turn().await {
                Ok(_) => {}
                Err(Halt::End) => return Ok(()),
                Err(Halt::Fault(error)) => return Err(error),
            }
        }
    }

    /// One step, and the pause behind it if it could not be done; whether the sink was asked to take something.
    async fn turn(&mut self) -> Result<bool, Halt> {
        match self.step().await {
            Err(Halt::Fault(PluginError::Transient(reason))) => {
                self.started = false;
                self.pause(&reason, None).await?;
                Ok(true)
            }
            result => result,
        }
    }

    /// Remembers what is confirmed, and closes the sink.
    pub(super) async fn end(&mut self) {
        if self.is_abandoned() {
            return;
        }
        self.remember(None, true);
        let Some(sink) = self.sink.take() else { return };
        let driver = &self.driver;
        driver.state.enter(Instant::now() + driver.delivery.timeout.0);
        let closed = tokio::time::timeout(driver.delivery.timeout.0, sink.close()).await;
        driver.state.leave();
        let error = match closed {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {}", driver.delivery.timeout),
        };
        tracing::warn!(sink = driver.name, error, "the sink did not close in order");
    }

    /// The sink is in no state to be asked anything.
    pub(super) fn panicked(&mut self) {
        if !self.is_abandoned() {
            self.driver.state.leave();
            self.remember(None, true);
        }
    }

    /// Nothing that this life still does may be seen: another one may have begun.
    fn is_abandoned(&mut self) -> bool {
        let abandoned = self.abandoned.load(Ordering::Acquire);
        if abandoned {
            self.feed.leave();
        }
        abandoned
    }

    async fn step(&mut self) -> Result<bool, Halt> {
        if self.driver.abort.is_cancelled() {
            return Err(Halt::End);
        }
        if !self.started {
            self.start().await?;
        }
        self.driver.state.notes.tell(&self.driver.emitter);
        if self.replay_is_next() {
            self.replay().await?;
            return Ok(true);
        }
        let something = self.wait().await?;
        if something {
            self.next().await?;
        }
        Ok(something)
    }

    /// Asks the sink to do something, within its deadline.
    async fn ask<'s, T, F>(&'s mut self, ask: impl FnOnce(&'s mut dyn Sink) -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, PluginError>> + 's,
    {
        let Self {
            driver,
            sink,
            abandoned,
            ..
        } = self;
        let sink = sink.as_deref_mut().ok_or(Halt::End)?;
        let timeout = driver.delivery.timeout;
        driver.state.enter(Instant::now() + timeout.0);
        let answer = tokio::select! {
            answer = tokio::time::timeout(timeout.0, ask(sink)) => Some(answer),
            () = driver.abort.cancelled() => None,
        };
        if abandoned.load(Ordering::Acquire) {
            return Err(Halt::End);
        }
        driver.state.leave();
        match answer {
            Some(Ok(answer)) => Ok(answer?),
            Some(Err(_)) => Err(PluginError::transient(format!("no answer within {timeout}")).into()),
            None => Err(Halt::End),
        }
    }

    /// Learns where the sink is.
    async fn start(&mut self) -> Result<(), Halt> {
        let journal = match self.place {
            Some(_) => &self.journal,
            None => &self.driver.journal,
        };
        let origin: Arc<str> = Arc::from(journal.origin());
        let start = self.ask(|sink| sink.start(&origin)).await?;
        let keeper = Keeper::from(&start);
        self.driver.state.notes.gaps_first(keeper == Keeper::Sink);
        match &self.place {
            // What was handed over and what of it is pending is known here.
            Some(place) if place.keeper == keeper && !matches!(start, Start::Own(_)) => {}
            // It has written nothing yet, and is not new: what came since it began is its own.
            Some(_) if matches!(start, Start::Own(None)) && !self.places().begins_at_the_oldest() => {}
            Some(place) if place.keeper != keeper => {
                let reason = "it does not keep its position as it did when it started first";
                return Err(PluginError::permanent(reason).into());
            }
            Some(_) => {
                let found = self.places().found(start)?;
                self.place = Some(self.places().place(keeper, found)?);
            }
            None => self.find(start).await?,
        }
        self.placed();
        self.look_for_replay();
        self.started = true;
        if !self.driver.state.notes.in_trouble() {
            self.driver.health.ok();
        }
        Ok(())
    }

    fn places(&self) -> Places<'_> {
        Places {
            sink: self.driver.name,
            current: &self.driver.journal,
            journal: &self.journal,
            delivery: &self.driver.delivery,
        }
    }

    /// The place has moved.
    fn placed(&mut self) {
        let Some(place) = &self.place else { return };
        let confirmed = place.confirmed();
        if self.ahead.is_empty() {
            self.driver.state.confirmed(confirmed);
        } else {
            let former = self.journal.durable().saturating_sub(confirmed);
            let between = self.later().saturating_sub(self.driver.journal.durable());
            let bytes = self.journal.bytes_from(confirmed);
            self.driver.state.in_former(former.saturating_add(between), bytes);
        }
        // A sink with a position of its own may be given its last batch again.
        self.feed.at(if place.keeper == Keeper::Sink {
            place.confirmed()
        } else {
            place.next
        });
    }

    /// Hands over what is pending and what follows it, or tells of a gap.
    async fn next(&mut self) -> Result<(), Halt> {
        let Some(place) = &self.place else {
            return Err(Halt::End);
        };
        self.noticed = None;
        let mut events = place
            .pending
            .clone()
            .unwrap_or_else(|| Events::new(self.journal.origin().into()));
        let (from, keeper) = (place.next, place.keeper);
        let (next, gap) = self
            .feed
            .fill(&mut events, from)
            .map_err(|error| PluginError::transient(format!("the journal can't be read: {error}")))?;
        match gap {
            Some(gap) if events.is_empty() && next == from => return self.gap(&gap).await,
            _ => {}
        }
        if keeper == Keeper::Sink {
            match self.tell_gaps().await {
                Ok(()) => {}
                // It never will be.
                Err(refused @ Refused::TooLarge) => {
                    tracing::warn!(sink = self.driver.name, %refused, "no event says what the sink lacks");
                }
                // The next start finds the same gap. It waits for the disk alone: a journal at its limits takes this.
                Err(refused) => {
                    let reason = format!("the event about what is missing can't be stored: {refused}");
                    return Err(PluginError::transient(reason).into());
                }
            }
        }
        let erased = self.driver.hot.erased.without(&events);
        let without = erased.is_some();
        if let Some(left) = erased {
            events = left;
        }
        if let Some(place) = &mut self.place {
            place.next = next;
            // Until the sink has answered.
            place.pending = (!events.is_empty()).then(|| events.clone());
        }
        // What sources remember is no event, but moves the sink's own position.
        if !events.is_empty() || (keeper == Keeper::Sink && next > from) {
            self.hand_over(&events).await
        } else {
            self.remember(events.end(), without);
            if without {
                // It may have been what the sink could not take.
                self.backoff.reset();
                self.fine();
            }
            Ok(())
        }
    }

    /// These records never reach the sink.
    async fn gap(&mut self, gap: &Gap) -> Result<(), Halt> {
        self.ask(|sink| sink.gap(gap)).await?;
        let former = (!self.ahead.is_empty()).then(|| self.journal.origin());
        self.count_gap(gap, former);
        if let Some(place) = &mut self.place {
            place.next = gap.last + 1;
        }
        self.remember(None, true);
        if self.place.as_ref().is_some_and(|place| place.keeper == Keeper::Sink) {
            // Tried again before anything that is behind it is handed over.
            let _ = self.tell_gaps().await;
        }
        Ok(())
    }

    /// Has the journal say what a sink lacks that keeps its position itself; whoever verifies judges it by that.
    async fn tell_gaps(&self) -> Result<(), Refused> {
        let driver = &self.driver;
        tokio::select! {
            told = driver.state.notes.tell_gaps(&driver.journal, &driver.host) => told,
            () = driver.abort.cancelled() => Err(Refused::Draining),
        }
    }

    /// The sink never gets these records; `former` is the origin if they are of a former generation.
    fn count_gap(&self, gap: &Gap, former: Option<&str>) {
        let new = self.driver.state.notes.gap(gap, former);
        let gaps = &self.driver.telemetry.sink_gaps;
        gaps.with_label_values(&[self.driver.name, gap_word(gap.reason)])
            .inc_by(new);
    }

    /// Remembers how far the sink is; `events` says whether it was given any. That this fails keeps nothing from being
    /// delivered.
    fn remember(&mut self, end: Option<Position>, events: bool) {
        let Some(mut place) = self.place.take() else { return };
        let result = self.places().confirm(&mut place, end, events);
        self.place = Some(place);
        self.placed();
        self.unwritten = match result {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        };
    }

    /// Waits before the next attempt.
    async fn pause(&mut self, reason: &str, asked: Option<Duration>) -> Result<(), Halt> {
        let driver = &self.driver;
        driver.state.notes.fault(reason, Fault::Passing);
        driver.state.notes.tell(&driver.emitter);
        driver.health.degraded(reason);
        let mut pause = self.backoff.pause(asked);
        if driver.drain.is_cancelled() {
            // What is left is there at the next start; the agent's end must not wait for it for long.
            self.failed_at_end += 1;
            if asked.is_some() || self.failed_at_end >= LAST_ATTEMPTS {
                return Err(Halt::End);
            }
            pause = pause.min(driver.delivery.retry.min.0);
        }
        let draining = driver.drain.is_cancelled();
        tokio::select! {
            () = driver.abort.cancelled() => Err(Halt::End),
            () = driver.drain.cancelled(), if !draining && asked.is_none() => Ok(()),
            () = driver.drain.cancelled(), if !draining && asked.is_some() => Err(Halt::End),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}

#[cfg(test)]
impl Life {
    /// As [`run`](Self::run), until events were handed over once, or a gap was told; pauses included.
    pub(super) async fn step_for_test(&mut self) {
        loop {
            match self.turn().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(Halt::End) => panic!("ended"),
                Err(Halt::Fault(error)) => panic!("{error}"),
            }
        }
    }

    pub(super) async fn start_for_test(&mut self) {
        assert!(self.start().await.is_ok());
    }

    /// Starts, and goes on somewhere else.
    pub(super) async fn start_at_for_test(&mut self, seq: u64) {
        self.start_for_test().await;
        self.place.as_mut().unwrap().next = seq;
    }
}
