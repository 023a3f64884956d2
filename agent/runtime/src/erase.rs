//! Erasing one event: everywhere the agent has it, after the journal has said so.
//!
//! | step | |
//! |---|---|
//! | declare | the event `journal.erasure`, and in the same frame what is to be done, as the agent's memory |
//! | sign | a checkpoint covers the declaration |
//! | erase | the record in its segment; what is in memory; dead letters |
//! | store | deletes the row when it takes the declaration |
//! | forget | that it is to be done |
//!
//! What a crash leaves undone is done at the next start. So is what a store has not taken yet that is off or behind.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::Emitter;
use auditmon_core::emitter::Refused;
use auditmon_core::event::{Data, Draft, EventView, Kind, Severity, parse_kind};
use auditmon_core::plugin::Memory;
use auditmon_core::reader::Found;
use auditmon_journal::{Erased, GapReason, Handle, Item, Linger, Search};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::dead_letters;
use crate::parts::Parts;
use crate::rollback;

/// Under which name the agent remembers what is to be done.
pub(crate) const MEMORY: &str = "auditmon";
/// What its keys begin with.
const KEY: &str = "erase/";
/// Bytes of the journal that one look for an id may read.
const BUDGET: u64 = 256 << 20;
/// How long a checkpoint is waited for; `journal.checkpoint_interval` is a minute at most.
const SIGNED: Duration = Duration::from_secs(120);
/// How long the segment may take to be sealed and written anew.
const WRITTEN: Duration = Duration::from_secs(300);
/// How long the store is waited for.
const STORED: Duration = Duration::from_secs(10);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(10);
/// The same where nobody waits for the answer.
const SELDOM: Duration = Duration::from_secs(1);

/// Why nothing can be erased then.
const UNSIGNED: &str = "no checkpoint can be signed (see the agent's log: it has no key, or records are missing from the \
    tree), and nothing is erased before one covers the event that says so";

/// How it went.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Erasure {
    /// The event's place in the journal; none where only dead letters knew it.
    pub seq: Option<u64>,
    /// There was nothing left to be erased.
    pub before: bool,
    /// Dead letters that were taken out.
    pub letters: u64,
    /// Sentences about what is still to come.
    pub notes: Vec<String>,
}

/// Why nothing was erased, or not all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The command is wrong.
    Wrong(String),
    /// Nobody knows the event.
    Unknown(String),
    /// It can't be erased, or not now.
    Conflict(String),
}

impl Refusal {
    fn conflict(why: impl std::fmt::Display) -> Self {
        Self::Conflict(why.to_string())
    }
}

/// What is to be done, as it is remembered.
#[derive(Deserialize, Serialize)]
pub(crate) struct Task {
    origin: String,
    seq: u64,
    event_id: String,
    #[serde(default)]
    reason: String,
}

/// Erases events, one after the other.
pub(crate) struct Eraser {
    parts: Arc<Parts>,
    own: Emitter,
    turn: Mutex<()>,
}

/// Whether the arguments of a command can be used; gives the id.
///
/// # Errors
/// A sentence.
pub fn check(event_id: &str, reason: &str) -> Result<Uuid, String> {
    rollback::check(reason)?;
    event_id
        .parse()
        .map_err(|_| format!("`{event_id}` is no event id: a UUID with hyphens is expected"))
}

/// Where an event is, and what is left of it.
struct Place {
    seq: u64,
    /// The journal has its payload, or damaged bytes that may be it.
    payload: bool,
    /// The store has its row, or will get it, or is off and may have it.
    row: bool,
    /// What it is.
    kind: Option<Kind>,
}

impl Eraser {
    pub(crate) fn new(parts: Arc<Parts>, own: Emitter) -> Self {
        Self {
            parts,
            own,
            turn: Mutex::new(()),
        }
    }

    /// Erases an event, and waits until it is gone.
    ///
    /// # Errors
    /// [`Refusal`]; what was declared by then is done at the next start.
    pub(crate) async fn erase(&self, event_id: &str, reason: &str) -> Result<Erasure, Refusal> {
        let id = check(event_id, reason).map_err(Refusal::Wrong)?;
        let _turn = self.turn.lock().await;
        let place = match self.find(id).await? {
            Ok(place) => place,
            Err(refusal) => return self.erase_letters(id, refusal).await,
        };
        let seq = place.seq;
        if place.kind == Some(Kind::Agent) {
            return Err(Refusal::Conflict(format!(
                "event {id}: seq {seq}: what the agent says about itself is never erased: what the journal holds is judged by it"
            )));
        }
        let mut notes = Vec::new();
        let task = Task {
            origin: self.parts.journal.origin().to_owned(),
            seq,
            event_id: id.to_string(),
            reason: reason.to_owned(),
        };
        let mut declared = None;
        if place.payload || place.row {
            if !self.parts.journal.signs() {
                return Err(Refusal::Conflict(format!("event {id}: seq {seq}: {UNSIGNED}")));
            }
            declared = Some(self.declare(&task, id).await?);
        }
        // Also where only letters are left of it: a replay may have one in memory.
        self.parts.hot.erased.add(seq, id);
        let begun = |why: String| {
            Refusal::Conflict(format!(
                "event {id}: seq {seq}: {why}; it is declared, and is done at the next start, or by the same command again"
            ))
        };
        let (erased, letters) = self.carry_out(seq, id, place.payload, declared).await.map_err(begun)?;
        if erased == Some(Erased::Damaged) {
            notes.push(format!(
                "the record can't be read: its bytes stay in a damaged part of the journal, see `auditmon journal fsck` ({seq})"
            ));
        }
        let stored = match declared {
            Some(declared) => self.wait_for_store(declared).await,
            None => Ok(None),
        };
        if stored.is_ok() {
            self.forget(seq).await;
        }
        notes.extend(stored.unwrap_or_else(Some));
        Ok(Erasure {
            seq: Some(seq),
            before: declared.is_none() && letters == 0,
            letters,
            notes,
        })
    }

    /// Does what was declared before the agent started.
    pub(crate) async fn complete(&self, tasks: Vec<(Uuid, Task)>) {
        const LEFT: &str = "an event that was declared erased still has its content";
        let declared = self.parts.journal.durable().saturating_sub(1);
        let signs = self.parts.journal.signs();
        let mut done = Vec::new();
        for (event_id, task) in tasks {
            let seq = task.seq;
            if !signs {
                tracing::warn!(seq, %event_id, why = UNSIGNED, "{LEFT}");
                continue;
            }
            let _turn = self.turn.lock().await;
            match self.carry_out(seq, event_id, true, Some(declared)).await {
                Ok((Some(Erased::Damaged), _)) => {
                    tracing::warn!(seq, %event_id, why = "its record is damaged: its bytes stay in the journal", "{LEFT}");
                    done.push((event_id, task));
                }
                Ok(_) => {
                    tracing::info!(seq, %event_id, "an erasure that was declared before the start is done");
                    done.push((event_id, task));
                }
                Err(why) => tracing::warn!(seq, %event_id, why, "{LEFT}"),
            }
        }
        if !done.is_empty() {
            self.settle(done, declared).await;
        }
    }

    /// Forgets what the store has done, too, whenever it has come that far. While it was off, retention may have taken
    /// what said so: then that is said once more.
    async fn settle(&self, tasks: Vec<(Uuid, Task)>, declared: u64) {
        while self.has_taken(declared) != Some(true) {
            tokio::time::sleep(SELDOM).await;
        }
        for (event_id, task) in tasks {
            let _turn = self.turn.lock().await;
            let reader = self.parts.reader.while_on();
            let row = match &reader {
                Some(reader) => reader.get(event_id).await,
                None => return,
            };
            match row {
                Ok(Found::Gone | Found::Missing) => self.forget(task.seq).await,
                Ok(Found::Event(_)) => {
                    if let Err(why) = self.declare(&task, event_id).await {
                        tracing::warn!(seq = task.seq, %event_id, ?why, "its row stays in the store");
                    }
                }
                // Looked at again at the next start.
                Err(error) => tracing::debug!(%error, "after an erasure"),
            }
        }
    }

    /// What was declared before the start and is not known to be done; from now on sinks are given none of it.
    pub(crate) fn recall(parts: &Parts, memory: &Memory) -> Vec<(Uuid, Task)> {
        let tasks = memory.iter().filter(|(key, _)| key.starts_with(KEY.as_bytes()));
        let tasks = tasks.filter_map(|(_, (value, _))| serde_json::from_slice::<Task>(value).ok());
        let tasks = tasks.filter_map(|task| Some((task.event_id.parse().ok()?, task)));
        // Those of a former generation are in files that are not written to any more, but may still be read.
        let (own, former): (Vec<(Uuid, Task)>, Vec<_>) = tasks.partition(|(_, task)| *task.origin == *parts.origin);
        for (id, _) in former {
            parts.hot.erased.add_id(id);
        }
        for (id, task) in &own {
            parts.hot.erased.add(task.seq, *id);
        }
        own
    }

    /// Where an event of this journal is, or why it is none.
    ///
    /// # Errors
    /// It can't be looked for.
    async fn find(&self, id: Uuid) -> Result<Result<Place, Refusal>, Refusal> {
        let journal = self.parts.journal.clone();
        let found = blocking(move || look(&journal, id)).await?.map_err(Refusal::conflict)?;
        let reader = self.parts.reader.while_on();
        // Nobody can see what it has.
        let off = reader.is_none();
        let stored = match reader {
            None => None,
            Some(reader) => match reader.get(id).await {
                Ok(Found::Event(event)) => Some(event),
                Ok(Found::Gone | Found::Missing) => None,
                Err(error) => return Err(Refusal::conflict(error)),
            },
        };
        let kind = || {
            let stored = stored.as_ref()?;
            let view = EventView::parse(&stored.canonical).ok()?;
            parse_kind(&view.kind)
        };
        Ok(match (found, &stored) {
            (Some(found), _) => Ok(Place {
                row: off || stored.is_some(),
                ..found
            }),
            (None, Some(event)) if event.origin == self.parts.journal.origin() => Ok(Place {
                seq: event.seq,
                payload: false,
                row: true,
                kind: kind(),
            }),
            (None, Some(event)) => Err(Refusal::Conflict(format!(
                "event {id}: seq {} of {}: this journal goes on as {}, and nothing is erased in a former generation",
                event.seq,
                event.origin,
                self.parts.journal.origin()
            ))),
            (None, None) => Err(Refusal::Unknown(match off {
                false => format!("event {id}: neither the journal nor the store knows it"),
                true => format!("event {id}: the journal doesn't know it, and the store is off"),
            })),
        })
    }

    /// What isn't of this journal, or has left no trace in it, may still be a dead letter.
    async fn erase_letters(&self, id: Uuid, refusal: Refusal) -> Result<Erasure, Refusal> {
        let new = self.parts.hot.erased.add_id(id);
        let letters = self.take_letters(id).await.map_err(Refusal::Conflict)?;
        if new && letters == 0 {
            // Sinks that have still to be given it, from a former generation, get it.
            self.parts.hot.erased.remove_id(id);
        }
        match refusal {
            refusal if letters == 0 => Err(refusal),
            Refusal::Unknown(why) => Ok(Erasure {
                seq: None,
                before: false,
                letters,
                notes: vec![why],
            }),
            Refusal::Wrong(why) | Refusal::Conflict(why) => Err(Refusal::Conflict(format!(
                "{why}; it was taken out of the dead letters ({letters})"
            ))),
        }
    }

    /// Says in the journal what is to be erased, and remembers it; gives the place of that event.
    async fn declare(&self, task: &Task, id: Uuid) -> Result<u64, Refusal> {
        let mut batch = self.own.agent_batch();
        let data = json!({"seq": task.seq, "event_id": task.event_id, "reason": task.reason}).to_string();
        let draft = Draft {
            severity: Severity::Notice,
            data: Data::Raw(&data),
            ..Draft::new("journal.erasure", "auditmon")
        };
        batch.push(draft).map_err(Refusal::conflict)?;
        let value = serde_json::to_vec(task).unwrap_or_default();
        batch
            .remember(&key(task.seq), None, &value)
            .map_err(Refusal::conflict)?;
        let accepted = self.own.emit(batch, Linger::NONE).await;
        if matches!(accepted, Ok(_) | Err(Refused::Unknown)) {
            self.parts.hot.erased.add(task.seq, id);
        }
        match accepted {
            Ok(accepted) => Ok(accepted.last_seq),
            Err(Refused::Unknown) => Err(Refusal::Conflict(format!(
                "event {id}: seq {}: it is not known whether it is declared; repeat the command",
                task.seq
            ))),
            Err(refused) => Err(Refusal::Conflict(format!(
                "the journal takes no event that says so: {refused}"
            ))),
        }
    }

    /// Erases what was declared, as soon as that is signed; gives what became of the record, and how many letters
    /// there were.
    async fn carry_out(
        &self,
        seq: u64,
        id: Uuid,
        payload: bool,
        declared: Option<u64>,
    ) -> Result<(Option<Erased>, u64), String> {
        let journal = &self.parts.journal;
        if let Some(declared) = declared {
            let signed = || journal.checkpoint().is_some_and(|newest| newest.size > declared);
            if !within(SIGNED, signed).await {
                let seconds = SIGNED.as_secs();
                return Err(format!(
                    "no checkpoint has covered the event that says so for {seconds} s"
                ));
            }
        }
        let mut erased = None;
        if payload {
            let (tell, told) = oneshot::channel();
            journal.erase(seq, move |result| {
                // Who asked may have given up.
                let _ = tell.send(result);
            });
            erased = match tokio::time::timeout(WRITTEN, told).await {
                Ok(Ok(Ok(erased))) => Some(erased),
                Ok(Ok(Err(error))) => return Err(format!("its segment can't be written anew: {error}")),
                Ok(Err(_)) => return Err("the journal was closed".to_owned()),
                Err(_) => return Err("its segment is not sealed".to_owned()),
            };
        }
        Ok((erased, self.take_letters(id).await?))
    }

    /// Takes an event out of memory and dead letters; gives how many letters there were.
    async fn take_letters(&self, id: Uuid) -> Result<u64, String> {
        let (hot, dir) = (self.parts.hot.clone(), self.parts.data_dir.clone());
        let letters = blocking(move || {
            hot.forget();
            dead_letters::erase(&dir, &id)
        });
        let letters = letters.await.map_err(|_| "the agent ends".to_owned())?;
        letters.map_err(|error| format!("its dead letters can't be taken out: {error}"))
    }

    /// Whether the store has taken the event that says so; `None` if none is at work.
    fn has_taken(&self, declared: u64) -> Option<bool> {
        let name = self.parts.reader.name().filter(|_| self.parts.reader.is_on())?;
        let confirmed = self.parts.telemetry.sinks.confirmed(name);
        Some(confirmed.is_some_and(|confirmed| confirmed > declared))
    }

    /// The store deletes the row when it takes the event that says so; a sentence if its log isn't empty yet.
    ///
    /// # Errors
    /// A sentence: it has not taken it yet.
    async fn wait_for_store(&self, declared: u64) -> Result<Option<String>, String> {
        let goes = format!("a row that it has goes when it takes record {declared}, or after the next start with it");
        if self.has_taken(declared).is_none() {
            return Err(format!("no store is at work: {goes}"));
        }
        if !within(STORED, || self.has_taken(declared) == Some(true)).await {
            return Err(format!("the store is behind: {goes}"));
        }
        let emptied = || !self.parts.reader.has_remains();
        Ok((!within(STORED, emptied).await).then(|| {
            "the store's log still has it: it is emptied as soon as nobody who reads the database is in the way"
                .to_owned()
        }))
    }

    /// It is done. If that can't be stored now, it is done once more at the next start.
    async fn forget(&self, seq: u64) {
        let mut batch = self.own.agent_batch();
        if batch.remember(&key(seq), None, b"").is_ok() {
            // See above.
            let _ = self.own.emit(batch, Linger::NONE).await;
        }
    }
}

fn key(seq: u64) -> Vec<u8> {
    format!("{KEY}{seq}").into_bytes()
}

/// Where an event is in the journal; `None` if the journal has no leaf of it.
fn look(journal: &Handle, id: Uuid) -> std::io::Result<Option<Place>> {
    let place = loop {
        match journal.find_event(id.as_bytes(), BUDGET)? {
            Search::Found(place) => break place,
            Search::Absent => return Ok(None),
            // Each time it comes further.
            Search::Unfinished => {}
        }
    };
    let payload = match journal.reader(place.seq).next()? {
        Some(Item::Records(batch)) => {
            let entry = batch.iter().next().filter(|entry| entry.seq == place.seq);
            entry.is_some_and(|entry| entry.record.payload().is_some())
        }
        Some(Item::Gap(gap)) => gap.reason == GapReason::Damaged,
        None => false,
    };
    Ok(Some(Place {
        seq: place.seq,
        payload,
        row: false,
        kind: Some(place.kind),
    }))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(Refusal::conflict)
}

/// Whether it comes true in time.
async fn within(time: Duration, mut test: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if test() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}
