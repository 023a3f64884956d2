//! Rows of events that the journal says were erased: deleted in the transaction that takes the event saying so, so a
//! crash can't come between the two.
//!
//! What was deleted is overwritten in the pages of the file (`secure_delete`), but the write-ahead log still has the
//! pages as they were: it is emptied afterwards, and after each start, as soon as nobody reads it any more. A task of
//! its own does that: a write that takes too long is given up, and this must not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auditmon_core::Kind;
use auditmon_core::batch::AGENT;
use auditmon_core::plugin::PluginError;
use auditmon_core::subscription::Event;
use auditmon_journal::format::source_hash;
use serde::Deserialize;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Notify;

use crate::database::{BUSY, Database};
use crate::rows::place;

/// Between two attempts to empty the log.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });

/// How long one attempt waits for readers.
const SHORT: Duration = Duration::from_millis(250);

/// The event that says so.
const ERASURE: &str = "journal.erasure";

/// The write-ahead log, as far as erasing goes.
#[derive(Default)]
pub(crate) struct Log {
    has_remains: AtomicBool,
    told: Notify,
}

impl Log {
    /// It may have what was deleted; for whoever holds the writing connection, before the commit.
    pub(crate) fn taint(&self) {
        self.has_remains.store(true, Ordering::Release);
        self.told.notify_one();
    }

    pub(crate) fn has_remains(&self) -> bool {
        self.has_remains.load(Ordering::Acquire)
    }
}

/// What it says; the rest is for people.
#[derive(Deserialize)]
struct Said {
    seq: u64,
    event_id: String,
}

/// What an event says was erased, if it is one that does.
fn said(event: &Event<'_>) -> Option<Said> {
    if event.kind != Kind::Agent {
        return None;
    }
    let members = event.members()?;
    // Sources tell about themselves under their own names.
    if members.event_name() != ERASURE || source_hash(&members.event_source()) != source_hash(AGENT) {
        return None;
    }
    serde_json::from_slice(members.event_data()).ok()
}

/// Deletes the rows of what these events say was erased; returns how many.
pub(crate) async fn delete(
    connection: &mut SqliteConnection,
    number: i64,
    events: &[Event<'_>],
) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    for said in events.iter().filter_map(said) {
        let Some(place) = place(number, said.seq) else { continue };
        let row = sqlx::query(
            "DELETE FROM events WHERE place = ?1 AND event_id = ?2 AND kind <> 'agent'
             RETURNING kind, octet_length(canonical)",
        )
        .bind(place)
        .bind(said.event_id)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { continue };
        let (kind, bytes): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        sqlx::query("UPDATE usage SET rows = rows - 1, bytes = bytes - ?2 WHERE kind = ?1")
            .bind(kind)
            .bind(bytes)
            .execute(&mut *connection)
            .await?;
        deleted += 1;
    }
    Ok(deleted)
}

/// Moves the write-ahead log into the file and empties it; false while somebody reads what is in it.
async fn empty_log(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Whoever reads long, such as a backup, must not hold up the rows to come.
    patience(connection, SHORT).await?;
    let busy: Result<i64, _> = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(&mut *connection)
        .await;
    patience(connection, BUSY).await?;
    Ok(busy? == 0)
}

/// How long SQLite waits for others from now on.
async fn patience(connection: &mut SqliteConnection, time: Duration) -> Result<(), sqlx::Error> {
    // A pragma takes no bound argument, and this is a number.
    let sql = format!("PRAGMA busy_timeout = {}", time.as_millis());
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Empties the log whenever it may have what was deleted, until aborted.
pub(crate) async fn keep_empty(database: Arc<Database>, log: Arc<Log>) {
    loop {
        log.told.notified().await;
        while log.has_remains() {
            match empty(&database, &log).await {
                Ok(true) => break,
                Ok(false) => {}
                // The driver of the sink meets the same fault and reports it.
                Err(error) => tracing::debug!("after an erasure: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn empty(database: &Database, log: &Log) -> Result<bool, PluginError> {
    let mut writer = database.writer().await?;
    let emptied = empty_log(&mut writer)
        .await
        .map_err(|error| database.fault("cleaned after an erasure", &error))?;
    // Nothing was committed since: the connection is held.
    log.has_remains.fetch_and(!emptied, Ordering::AcqRel);
    Ok(emptied)
}
