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
//! What a crash leaves undone is done at the next start.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::Emitter;
use auditmon_core::event::{Data, Draft, EventView, Kind, Severity, parse_kind};
use auditmon_core::plugin::Memory;
use auditmon_core::reader::Found;
use auditmon_journal::{Erased, Handle, Item, Linger, Search};
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

/// How it went.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Erasure {
    /// The event's place in the journal.
    pub seq: u64,
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
struct Task {
    origin: String,
    seq: u64,
    event_id: String,
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
    /// The journal has its payload.
    payload: bool,
    /// The store has its row, or will get it.
    row: bool,
    /// What it is, where anything of it is left.
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
        let place = self.find(id).await?;
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
        };
        let mut declared = None;
        if place.payload || place.row {
            declared = Some(self.declare(&task, id, reason).await?);
        }
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
        if let Some(declared) = declared
            && let Some(note) = self.wait_for_store(declared).await
        {
            notes.push(note);
        }
        self.forget(seq).await;
        Ok(Erasure {
            seq,
            before: declared.is_none() && letters == 0,
            letters,
            notes,
        })
    }

    /// Does what was declared before the agent started.
    pub(crate) async fn complete(&self, tasks: Vec<(u64, Uuid)>) {
        let declared = self.parts.journal.durable().saturating_sub(1);
        for (seq, event_id) in tasks {
            let _turn = self.turn.lock().await;
            match self.carry_out(seq, event_id, true, Some(declared)).await {
                Ok(_) => {
                    tracing::info!(seq, %event_id, "an erasure that was declared before the start is done");
                    self.forget(seq).await;
                }
                Err(why) => {
                    tracing::warn!(seq, %event_id, why, "an event that was declared erased still has its content")
                }
            }
        }
    }

    /// What was declared before the start and is not known to be done; from now on sinks are given none of it.
    pub(crate) fn recall(parts: &Parts, memory: &Memory) -> Vec<(u64, Uuid)> {
        let tasks = memory.iter().filter(|(key, _)| key.starts_with(KEY.as_bytes()));
        let tasks = tasks.filter_map(|(_, (value, _))| serde_json::from_slice::<Task>(value).ok());
        // Those of a former generation are in files that are not written to any more.
        let tasks = tasks.filter(|task| *task.origin == *parts.origin);
        tasks
            .filter_map(|task| Some((task.seq, task.event_id.parse().ok()?)))
            .inspect(|(seq, id)| parts.hot.erased.add(*seq, *id))
            .collect()
    }

    async fn find(&self, id: Uuid) -> Result<Place, Refusal> {
        let journal = self.parts.journal.clone();
        let found = blocking(move || look(&journal, id)).await?.map_err(Refusal::conflict)?;
        let stored = match self.parts.reader.while_on() {
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
        match (found, &stored) {
            (Some((seq, payload)), _) => Ok(Place {
                seq,
                payload: payload.is_some(),
                row: stored.is_some(),
                kind: payload.or_else(kind),
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
            (None, None) => Err(Refusal::Unknown(format!(
                "event {id}: neither the journal nor the store knows it"
            ))),
        }
    }

    /// Says in the journal what is to be erased, and remembers it; gives the place of that event.
    async fn declare(&self, task: &Task, id: Uuid, reason: &str) -> Result<u64, Refusal> {
        let mut batch = self.own.agent_batch();
        let data = json!({"seq": task.seq, "event_id": task.event_id, "reason": reason}).to_string();
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
        let accepted = accepted
            .map_err(|refused| Refusal::Conflict(format!("the journal takes no event that says so: {refused}")))?;
        self.parts.hot.erased.add(task.seq, id);
        Ok(accepted.last_seq)
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
        let (hot, dir) = (self.parts.hot.clone(), self.parts.data_dir.clone());
        let letters = blocking(move || {
            hot.forget();
            dead_letters::erase(&dir, &id)
        });
        let letters = letters.await.map_err(|_| "the agent ends".to_owned())?;
        let letters = letters.map_err(|error| format!("its dead letters can't be taken out: {error}"))?;
        Ok((erased, letters))
    }

    /// The store deletes the row when it takes the event that says so; a sentence if that is still to come.
    async fn wait_for_store(&self, declared: u64) -> Option<String> {
        let Some(name) = self.parts.reader.name().filter(|_| self.parts.reader.is_on()) else {
            return Some(format!(
                "no store is at work: a row that it has goes when it takes record {declared}"
            ));
        };
        let taken = || {
            let confirmed = self.parts.telemetry.sinks.confirmed(name);
            confirmed.is_some_and(|confirmed| confirmed > declared)
        };
        (!within(STORED, taken).await)
            .then(|| format!("the store is behind: a row that it has goes when it takes record {declared}"))
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

/// The place of an event in the journal, with its kind if its payload is there; `None` if the journal has no leaf of it.
fn look(journal: &Handle, id: Uuid) -> std::io::Result<Option<(u64, Option<Kind>)>> {
    let place = loop {
        match journal.find_event(id.as_bytes(), BUDGET)? {
            Search::Found(place) => break place,
            Search::Absent => return Ok(None),
            // Each time it comes further.
            Search::Unfinished => {}
        }
    };
    let kind = match journal.reader(place.seq).next()? {
        Some(Item::Records(batch)) => {
            let entry = batch.iter().next().filter(|entry| entry.seq == place.seq);
            entry.and_then(|entry| entry.record.payload().map(|_| entry.record.prefix.kind))
        }
        _ => None,
    };
    Ok(Some((place.seq, kind)))
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
