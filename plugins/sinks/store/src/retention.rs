//! Deleting by age and size, a little at a time: a write waits for one step at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auditmon_core::plugin::PluginError;
use auditmon_core::time;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use crate::config::Retention;
use crate::database::Database;
use crate::metrics::Metrics;

/// Most rows that one transaction deletes.
const STEP_ROWS: i64 = 1_000;
/// About as many bytes: deleted pages are overwritten, which takes time by size.
const STEP_BYTES: i64 = 8 << 20;
/// What a row takes beside its canonical bytes: columns and index entries. Measured with the rows of
/// `examples/insert.rs`.
const ROW_OVERHEAD: i64 = 310;
/// Pages that one step gives back to the file system.
const STEP_PAGES: i64 = 512;
/// Free pages that stay for the rows to come: 1 MiB, or a twentieth of the file.
const SPARE_PAGES: i64 = 256;
/// The first look, once the start is over.
const FIRST: Duration = Duration::from_secs(10);

/// Looks every interval, until aborted.
pub(crate) async fn run(database: Arc<Database>, retention: Retention, metrics: Metrics) {
    let mut wait = FIRST.min(retention.interval.0);
    loop {
        tokio::time::sleep(wait).await;
        wait = retention.interval.0;
        if let Err(error) = prune(&database, &retention, &metrics).await {
            // The driver of the sink meets the same fault and reports it; the next look tries again.
            tracing::warn!("retention: {error}");
        }
    }
}

/// Deletes what is too old or too much, and gives the space back.
pub(crate) async fn prune(database: &Database, retention: &Retention, metrics: &Metrics) -> Result<(), PluginError> {
    for (kind, age, size) in retention.limits() {
        let mut deleted = 0;
        loop {
            let now = time::now();
            let oldest = age.map_or(0, |age| {
                i64::try_from(u128::from(now).saturating_sub(age.as_nanos())).unwrap_or(i64::MAX)
            });
            let limit = Limit {
                kind,
                oldest,
                size: size.map_or(i64::MAX, |size| i64::try_from(size).unwrap_or(i64::MAX)),
            };
            let step = in_turn(database, Step::Delete(&limit)).await?;
            if step == 0 {
                break;
            }
            deleted += step;
            metrics.pruned.with_label_values(&[kind]).inc_by(step);
            metrics.rows.sub(i64::try_from(step).unwrap_or(0));
        }
        if deleted > 0 {
            tracing::info!(kind, deleted, "retention");
        }
    }
    while in_turn(database, Step::Shrink).await? > 0 {}
    Ok(())
}

/// One step of work on the database.
#[derive(Clone, Copy)]
enum Step<'a> {
    Delete(&'a Limit),
    Shrink,
}

/// Does one step with the writing connection, then leaves it to others for as long as the step took. Returns how
/// much was done; 0 is the end.
async fn in_turn(database: &Database, step: Step<'_>) -> Result<u64, PluginError> {
    let mut writer = database.writer().await?;
    let begun = Instant::now();
    let done = match step {
        Step::Delete(limit) => delete(&mut writer, limit).await,
        Step::Shrink => shrink(&mut writer).await,
    };
    let took = begun.elapsed();
    drop(writer);
    match done {
        Ok(done) => {
            tokio::time::sleep(took.min(Duration::from_secs(1))).await;
            Ok(done)
        }
        Err(error) => Err(database.failed("pruned", &error).await),
    }
}

struct Limit {
    kind: &'static str,
    /// Rows received before go.
    oldest: i64,
    size: i64,
}

/// Rows that are never deleted: events of the agent by which others are judged for as long as there are rows of these,
/// and `auditmon verify` and its second implementation pass by when they look for the oldest row of a kind. There is
/// one for each erasure, gap of this store, new generation and acceptance, so a step can look through them again.
const KEPT: &str = "?1 = 'agent' AND event_source = 'agent' AND (
    event_name IN ('journal.erasure', 'journal.new_generation', 'journal.rollback_accepted')
    OR event_name = 'sink.gap' AND instr(canonical, CAST('\"sink\":\"store\"' AS BLOB)) > 0)";

/// Deletes the oldest rows that are beyond the limit, one step of them; returns how many.
async fn delete(connection: &mut SqliteConnection, limit: &Limit) -> Result<u64, sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let row = sqlx::query("SELECT rows, bytes FROM usage WHERE kind = ?1")
        .bind(limit.kind)
        .fetch_one(&mut *tx)
        .await?;
    let (rows, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if rows <= 0 {
        return Ok(0);
    }
    let space = bytes.saturating_add(rows.saturating_mul(ROW_OVERHEAD));
    let mean = (space / rows).max(1);
    let most = (STEP_BYTES / mean).clamp(1, STEP_ROWS);
    let excess = space.saturating_sub(limit.size);
    let (count, before) = if excess > 0 {
        ((excess / mean + 1).min(most), i64::MAX)
    } else {
        (most, limit.oldest)
    };
    let sql = format!(
        "DELETE FROM events WHERE place IN (
             SELECT place FROM events INDEXED BY events_kind
             WHERE kind = ?1 AND received_time_ns < ?2 AND NOT ({KEPT}) ORDER BY received_time_ns, place LIMIT ?3)
         RETURNING octet_length(canonical)"
    );
    // Nothing in it came from outside.
    let sizes: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(limit.kind)
        .bind(before)
        .bind(count)
        .fetch_all(&mut *tx)
        .await?;
    if sizes.is_empty() {
        return Ok(0);
    }
    sqlx::query("UPDATE usage SET rows = rows - ?2, bytes = bytes - ?3 WHERE kind = ?1")
        .bind(limit.kind)
        .bind(sizes.len() as i64)
        .bind(sizes.iter().sum::<i64>())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(sizes.len() as u64)
}

/// Gives free pages back to the file system; returns how many. The file shrinks with the next checkpoint.
async fn shrink(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let free: i64 = sqlx::query_scalar("PRAGMA freelist_count")
        .fetch_one(&mut *connection)
        .await?;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&mut *connection)
        .await?;
    let spare = SPARE_PAGES.max(pages / 20);
    if free <= spare {
        return Ok(0);
    }
    let give = (free - spare).min(STEP_PAGES);
    // A pragma takes no bound argument, and this is a number.
    let sql = format!("PRAGMA incremental_vacuum({give})");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut *connection)
        .await?;
    sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)")
        .execute(&mut *connection)
        .await?;
    Ok(give.unsigned_abs())
}
