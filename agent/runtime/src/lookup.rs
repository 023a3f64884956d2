//! Single events by id: the store first, and for what it doesn't have the journal.
//!
//! The store keeps nothing of a row that retention deleted, and gets its rows a little after they were accepted. The
//! journal knows of every event that it ever took, by its leaf, and has the payload of what the store still wants.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::reader::{EventReader, Found, Page, Query, ReadError, Stored};
use auditmon_journal::{Handle, Item, Search};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Bytes of the journal that one question may read: four segments, or the leaves of some 4 million events.
const BUDGET: u64 = 256 << 20;
/// How long a question waits for those before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads what the store has, and asks the journal about ids that it hasn't.
pub(crate) struct Lookup {
    store: Arc<dyn EventReader>,
    journal: Handle,
    /// The generations before, the newest first; the store may still have to get what is there.
    formers: Arc<OnceLock<Vec<Handle>>>,
    /// One at a time: such questions come from outside, and each can read much.
    turn: Arc<Semaphore>,
}

/// What the journal says of an id.
enum Known {
    /// It never had it.
    Never,
    /// It has the event, and the store hasn't got it yet.
    Waits(Stored),
    /// It had the event, and the store had it too, or won't get it any more.
    Had,
}

impl Lookup {
    pub(crate) fn new(store: Arc<dyn EventReader>, journal: Handle) -> Self {
        Self {
            store,
            journal,
            formers: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    async fn ask_all(&self, id: Uuid) -> Result<Known, ReadError> {
        let mut known = self.ask(&self.journal, id).await?;
        if matches!(known, Known::Never) {
            for former in self.formers().await? {
                known = self.ask(former, id).await?;
                if !matches!(known, Known::Never) {
                    break;
                }
            }
        }
        Ok(known)
    }

    /// Found once: what they have read of themselves lets a long search go on.
    async fn formers(&self) -> Result<&[Handle], ReadError> {
        if self.formers.get().is_none() {
            let journal = self.journal.clone();
            let found = tokio::task::spawn_blocking(move || formers(journal)).await;
            let found = found.map_err(|error| ReadError::Journal(error.to_string()))?;
            let _ = self
                .formers
                .set(found.map_err(|error| ReadError::Journal(error.to_string()))?);
        }
        Ok(self.formers.get().map_or(&[], Vec::as_slice))
    }

    async fn ask(&self, journal: &Handle, id: Uuid) -> Result<Known, ReadError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turn).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(ReadError::Busy("other ids are being looked for; try again"));
        };
        let stored = self.store.position(journal.origin()).await?;
        let journal = journal.clone();
        let known = tokio::task::spawn_blocking(move || {
            // Held to the end, also if nobody waits for the answer any more.
            let _turn = turn;
            look(&journal, id, stored)
        });
        known.await.map_err(|error| ReadError::Journal(error.to_string()))?
    }
}

/// The generations before this one, as far as their files are there, the newest first.
fn formers(mut journal: Handle) -> std::io::Result<Vec<Handle>> {
    let mut formers = Vec::new();
    while let Some(former) = journal.former()? {
        formers.push(former.clone());
        journal = former;
    }
    Ok(formers)
}

/// Everything below `stored` is in the store, or was.
fn look(journal: &Handle, id: Uuid, stored: u64) -> Result<Known, ReadError> {
    let fault = |error: std::io::Error| ReadError::Journal(error.to_string());
    let place = match journal.find_event(id.as_bytes(), BUDGET).map_err(fault)? {
        Search::Absent => return Ok(Known::Never),
        Search::Unfinished => {
            return Err(ReadError::Busy(
                "the journal is too long to be looked through at once; try again to go on",
            ));
        }
        Search::Found(place) => place,
    };
    if place.seq < stored {
        return Ok(Known::Had);
    }
    let item = journal.reader(place.seq).next().map_err(fault)?;
    let Some(Item::Records(batch)) = item else {
        return Ok(Known::Had);
    };
    let entry = batch.iter().next().filter(|entry| entry.seq == place.seq);
    let canonical = entry.and_then(|entry| entry.record.payload());
    Ok(canonical.map_or(Known::Had, |canonical| {
        Known::Waits(Stored {
            canonical: canonical.to_vec(),
            origin: journal.origin().to_owned(),
            seq: place.seq,
            received: place.received_ns,
        })
    }))
}

#[async_trait]
impl EventReader for Lookup {
    async fn query(&self, query: &Query) -> Result<Page, ReadError> {
        self.store.query(query).await
    }

    async fn get(&self, id: Uuid) -> Result<Found, ReadError> {
        let found = self.store.get(id).await?;
        if !matches!(found, Found::Missing) {
            return Ok(found);
        }
        match self.ask_all(id).await? {
            Known::Never => Ok(Found::Missing),
            Known::Waits(event) => Ok(Found::Event(event)),
            // It may have come into the store between the first question and that for the position.
            Known::Had => Ok(match self.store.get(id).await? {
                Found::Missing => Found::Gone,
                found => found,
            }),
        }
    }

    async fn position(&self, origin: &str) -> Result<u64, ReadError> {
        self.store.position(origin).await
    }

    fn has_remains(&self) -> bool {
        self.store.has_remains()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use auditmon_core::batch::push_agent_event;
    use auditmon_core::event::Draft;
    use auditmon_journal::{Linger, Options, RealFs, Records};
    use tempfile::TempDir;

    use super::*;

    /// A store that has these answers, one after the other, and then nothing.
    #[derive(Default)]
    struct FakeStore {
        answers: Mutex<Vec<Found>>,
        position: u64,
        broken: bool,
    }

    #[async_trait]
    impl EventReader for FakeStore {
        async fn query(&self, _: &Query) -> Result<Page, ReadError> {
            Ok(Page::default())
        }
        async fn get(&self, _: Uuid) -> Result<Found, ReadError> {
            let mut answers = self.answers.lock().unwrap();
            Ok(if answers.is_empty() {
                Found::Missing
            } else {
                answers.remove(0)
            })
        }
        async fn position(&self, _: &str) -> Result<u64, ReadError> {
            if self.broken {
                return Err(ReadError::Store("broken".to_owned()));
            }
            Ok(self.position)
        }
    }

    struct Journal {
        handle: Handle,
        _dir: TempDir,
    }

    fn journal() -> Journal {
        let dir = TempDir::new().unwrap();
        let options = Options {
            segment_size: 64 << 10,
            reserve: 0,
            ..Options::new(dir.path(), "h", Box::new(|_, _| ()))
        };
        let (writer, _) = auditmon_journal::open(RealFs, options).unwrap();
        let handle = writer.spawn(Box::new(|_| ())).unwrap();
        Journal { handle, _dir: dir }
    }

    impl Journal {
        /// Writes an event; gives its id and seq.
        async fn event(&self, name: &str) -> (Uuid, u64) {
            let mut records = Records::new();
            let id = push_agent_event(&mut records, "h", Draft::new(name, "u")).unwrap();
            let (done, answer) = tokio::sync::oneshot::channel();
            let done = Box::new(move |fate| {
                let _ = done.send(fate);
            });
            self.handle.submit(records, Linger::NONE, done);
            (id, answer.await.unwrap().unwrap().first_seq)
        }

        fn lookup(&self, store: FakeStore) -> Lookup {
            Lookup::new(Arc::new(store), self.handle.clone())
        }
    }

    #[tokio::test]
    async fn what_the_store_has_passed_and_not_is_gone() {
        let journal = journal();
        let (id, seq) = journal.event("n").await;
        let lookup = journal.lookup(FakeStore {
            position: seq + 1,
            ..FakeStore::default()
        });
        assert!(matches!(lookup.get(id).await, Ok(Found::Gone)));
    }

    #[tokio::test]
    async fn what_the_store_will_get_is_read_from_the_journal() {
        let journal = journal();
        journal.event("before").await;
        let (id, seq) = journal.event("it").await;
        journal.event("behind").await;
        let lookup = journal.lookup(FakeStore {
            position: seq,
            ..FakeStore::default()
        });
        let Ok(Found::Event(event)) = lookup.get(id).await else {
            panic!("not found");
        };
        let canonical = String::from_utf8(event.canonical).unwrap();
        assert!(canonical.contains(&id.to_string()) && canonical.contains("\"it\""));
        assert_eq!((event.origin.as_str(), event.seq), (journal.handle.origin(), seq));
        assert_eq!(u128::from(event.received / 1_000_000), id.as_u128() >> 80);
    }

    #[tokio::test]
    async fn what_comes_into_the_store_meanwhile_is_not_gone() {
        let journal = journal();
        let (id, seq) = journal.event("n").await;
        let stored = Stored {
            canonical: b"{}".to_vec(),
            origin: journal.handle.origin().to_owned(),
            seq,
            received: 1,
        };
        let lookup = journal.lookup(FakeStore {
            answers: Mutex::new(vec![Found::Missing, Found::Event(stored)]),
            position: seq + 1,
            ..FakeStore::default()
        });
        assert!(matches!(lookup.get(id).await, Ok(Found::Event(event)) if event.seq == seq));
    }

    #[tokio::test]
    async fn what_nobody_knows_is_missing() {
        let journal = journal();
        let (id, seq) = journal.event("n").await;
        let lookup = journal.lookup(FakeStore {
            position: seq + 1,
            ..FakeStore::default()
        });
        for other in [Uuid::from_u128(id.as_u128() ^ 1), Uuid::nil(), Uuid::max()] {
            assert!(matches!(lookup.get(other).await, Ok(Found::Missing)), "{other}");
        }
    }

    #[tokio::test]
    async fn faults_are_told() {
        let journal = journal();
        let (id, _) = journal.event("n").await;
        let lookup = journal.lookup(FakeStore {
            broken: true,
            ..FakeStore::default()
        });
        assert!(matches!(lookup.get(id).await, Err(ReadError::Store(_))));
        // The turn is free again.
        assert_eq!(lookup.turn.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_those_before() {
        let journal = journal();
        let lookup = journal.lookup(FakeStore::default());
        let before = Arc::clone(&lookup.turn).acquire_owned().await.unwrap();
        assert!(matches!(lookup.get(Uuid::now_v7()).await, Err(ReadError::Busy(_))));
        drop(before);
        assert!(matches!(lookup.get(Uuid::now_v7()).await, Ok(Found::Missing)));
    }
}
