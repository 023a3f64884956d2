//! Rows and position, in one transaction.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use auditmon_core::delivery::Receipt;
use auditmon_core::event::kind_str;
use auditmon_core::plugin::{PluginError, Sink, Start};
use auditmon_core::reader::EventReader;
use auditmon_core::subscription::{Event, Events};
use auditmon_journal::Gap;
use auditmon_journal::format::Position;
use prometheus::Registry;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Connection as _, Row as _};

use crate::config::Retention;
use crate::database::Database;
use crate::erasure::{self, Log};
use crate::metrics::{KINDS, Metrics};
use crate::reader::Reader;
use crate::retention;
use crate::rows::{INSERT_MANY, INSERT_ONE, Rows, WIDTH};

/// The sink.
pub(crate) struct Store {
    database: Arc<Database>,
    reader: Arc<Reader>,
    retention: Retention,
    metrics: Metrics,
    /// Ends with the sink.
    pruning: Option<tokio::task::AbortHandle>,
    /// Empties the log after an erasure; ends with the sink.
    emptying: Option<tokio::task::AbortHandle>,
    log: Arc<Log>,
}

impl Store {
    /// Opens the file. What needs a person is an error at once; what may pass (a full disk, a lock) is left to
    /// [`start`](Sink::start), so that the agent comes up and serves what can be read.
    pub(crate) async fn build(file: PathBuf, retention: Retention, registry: &Registry) -> Result<Self, PluginError> {
        let metrics = Metrics::register(registry)?;
        let database = Arc::new(Database::new(file));
        match database.writer().await {
            Ok(mut writer) => {
                let rows = total(&mut writer)
                    .await
                    .map_err(|error| database.fault("read", &error))?;
                metrics.rows.set(rows);
            }
            Err(PluginError::Transient(reason)) => tracing::warn!("{reason}"),
            Err(error) => return Err(error),
        }
        let reader = Arc::new(Reader::new(database.file()));
        Ok(Self {
            database,
            log: reader.log(),
            reader,
            retention,
            metrics,
            pruning: None,
            emptying: None,
        })
    }

    /// Records that the store has still to take; the runtime keeps it.
    pub(crate) fn lag(&self) -> prometheus::IntGauge {
        self.metrics.lag.clone()
    }

    pub(crate) fn reader(&self) -> Arc<dyn EventReader> {
        Arc::clone(&self.reader) as _
    }

    fn begin_pruning(&mut self) {
        if self.pruning.as_ref().is_none_or(tokio::task::AbortHandle::is_finished) {
            let run = retention::run(Arc::clone(&self.database), self.retention.clone(), self.metrics.clone());
            self.pruning = Some(tokio::spawn(run).abort_handle());
        }
    }

    fn begin_emptying(&mut self) {
        if self.emptying.as_ref().is_none_or(tokio::task::AbortHandle::is_finished) {
            let run = erasure::keep_empty(Arc::clone(&self.database), Arc::clone(&self.log));
            self.emptying = Some(tokio::spawn(run).abort_handle());
        }
        // A kill may have come between an erasure and the emptying.
        self.log.taint();
    }

    fn end_tasks(&mut self) {
        for task in [self.pruning.take(), self.emptying.take()].into_iter().flatten() {
            task.abort();
        }
    }

    async fn store(&mut self, events: &Events, end: &Position) -> Result<(), PluginError> {
        let mut writer = self.database.writer().await?;
        let _timer = self.metrics.insert_seconds.start_timer();
        let stored = store(&mut writer, events, end, &self.log).await;
        drop(writer);
        match stored {
            Ok(Stored { rows, deleted }) => {
                let signed = |count| i64::try_from(count).unwrap_or(0);
                self.metrics.rows.add(signed(rows) - signed(deleted));
                Ok(())
            }
            Err(Failed::NoEvent(message)) => Err(PluginError::permanent(format!(
                "{}: {message}",
                self.database.file().display()
            ))),
            Err(Failed::Database(error)) => Err(self.database.failed("written", &error).await),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

#[async_trait]
impl Sink for Store {
    async fn start(&mut self, origin: &str) -> Result<Start, PluginError> {
        let position = {
            let mut writer = self.database.writer().await?;
            let read = async {
                self.metrics.rows.set(total(&mut writer).await?);
                position(&mut writer, origin).await
            };
            read.await
        };
        match position {
            Ok(position) => {
                self.begin_pruning();
                self.begin_emptying();
                Ok(Start::Own(position))
            }
            Err(error) => Err(self.database.failed("read", &error).await),
        }
    }

    async fn write(&mut self, events: &Events) -> Result<Receipt, PluginError> {
        if let Some(end) = events.end() {
            self.store(events, &end).await?;
        }
        Ok(Receipt::all())
    }

    /// Moves nothing yet. A position names the leaf before it, and that of a record that can't be read is not
    /// known; the rows behind the gap move the position past it. An agent that stops before is told of the same
    /// gap again.
    async fn gap(&mut self, _gap: &Gap) -> Result<(), PluginError> {
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<(), PluginError> {
        self.end_tasks();
        self.reader.close().await;
        self.database.close().await;
        Ok(())
    }
}

async fn total(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(sum(rows), 0) FROM usage")
        .fetch_one(connection)
        .await
}

async fn position(connection: &mut SqliteConnection, origin: &str) -> Result<Option<Position>, sqlx::Error> {
    let row = sqlx::query("SELECT seq, leaf_hash FROM position WHERE origin = ?1")
        .bind(origin)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (seq, leaf): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
    let wrong = |what: &str| sqlx::Error::Decode(format!("the position of {origin} has {what}").into());
    Ok(Some(Position {
        origin: origin.to_owned(),
        seq: u64::try_from(seq).map_err(|_| wrong("a negative seq"))?,
        leaf_hash: leaf
            .try_into()
            .map_err(|_| wrong("a leaf hash that is not 32 bytes long"))?,
    }))
}

enum Failed {
    Database(sqlx::Error),
    NoEvent(String),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Default)]
struct Stored {
    /// New rows.
    rows: u64,
    /// Rows of events that were erased.
    deleted: u64,
}

/// Stores what is new of a batch, deletes what it says was erased, and moves the position to its end. A dropped
/// future takes the transaction back.
async fn store(
    connection: &mut SqliteConnection,
    events: &Events,
    end: &Position,
    log: &Log,
) -> Result<Stored, Failed> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (number, from) = place_of(&mut tx, events.origin()).await?;
    if end.seq <= from {
        // All of it is stored: a repetition after a crash.
        return Ok(Stored::default());
    }
    let events_new: Vec<Event<'_>> = events.iter().filter(|event| event.seq >= from).collect();
    let mut rows = Rows::new(&end.origin, number);
    let (wide, rest) = events_new.split_at(events_new.len() / WIDTH * WIDTH);
    let chunks = wide.chunks(WIDTH).map(|chunk| (INSERT_MANY.as_str(), chunk));
    let mut chunks = chunks.chain(rest.chunks(1).map(|chunk| (INSERT_ONE.as_str(), chunk)));
    // While SQLite's thread stores one chunk, this one makes the next.
    let mut make = || {
        chunks
            .next()
            .map(|(sql, chunk)| rows.arguments(chunk).map(|arguments| (sql, arguments)))
            .transpose()
    };
    let mut next: Option<(&'static str, SqliteArguments)> = make().map_err(Failed::NoEvent)?;
    while let Some((sql, arguments)) = next {
        let (stored, made) = tokio::join!(sqlx::query_with(sql, arguments).execute(&mut *tx), async { make() });
        stored?;
        next = made.map_err(Failed::NoEvent)?;
    }
    count(&mut tx, &events_new).await?;
    let deleted = erasure::delete(&mut tx, number, &events_new).await?;
    sqlx::query(
        "INSERT INTO position (origin, number, seq, leaf_hash) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq, leaf_hash = excluded.leaf_hash",
    )
    .bind(end.origin.as_str())
    .bind(number)
    .bind(i64::try_from(end.seq).unwrap_or(i64::MAX))
    .bind(end.leaf_hash.as_slice())
    .execute(&mut *tx)
    .await?;
    if deleted > 0 {
        // Before the commit: behind it this future may be given up.
        log.taint();
    }
    tx.commit().await?;
    Ok(Stored {
        rows: events_new.len() as u64,
        deleted,
    })
}

/// The number of an origin and the seq that it goes on from.
async fn place_of(connection: &mut SqliteConnection, origin: &str) -> Result<(i64, u64), sqlx::Error> {
    let row = sqlx::query(
        "SELECT number, seq FROM position WHERE origin = ?1
         UNION ALL SELECT coalesce(max(number) + 1, 0), 0 FROM position LIMIT 1",
    )
    .bind(origin)
    .fetch_one(connection)
    .await?;
    Ok((row.try_get(0)?, u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0)))
}

/// Adds the rows to what is known of each kind.
async fn count(connection: &mut SqliteConnection, events: &[Event<'_>]) -> Result<(), sqlx::Error> {
    for kind in KINDS {
        let of_kind = events.iter().filter(|event| kind_str(event.kind) == kind);
        let (rows, bytes) = of_kind.fold((0_i64, 0_i64), |(n, bytes), event| {
            (n + 1, bytes + event.canonical.len() as i64)
        });
        if rows > 0 {
            sqlx::query("UPDATE usage SET rows = rows + ?2, bytes = bytes + ?3 WHERE kind = ?1")
                .bind(kind)
                .bind(rows)
                .bind(bytes)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}
