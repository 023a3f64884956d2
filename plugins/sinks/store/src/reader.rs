//! Reading: over read-only connections of its own, each question with a time limit.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auditmon_core::reader::{EventReader, Found, MAX_LIMIT, Page, Query, ReadError, Stored};
use futures_util::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Row as _, Sqlite};
use uuid::Uuid;

use crate::cursor::{Cursor, Order};
use crate::database::{INTERRUPT, code, options};
use crate::erasure::Log;
use crate::plan::{From, Path, Wanted};
use crate::rows::SEQ_BITS;

/// How many questions are answered at once; the others wait.
const CONNECTIONS: u32 = 3;
/// How long a question may take, and how long it may wait for its turn.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Steps of SQLite's machine between two looks at the clock: some 0.1 ms.
const LOOK: i32 = 10_000;
/// Canonical bytes of a page, after which it ends early and has a cursor.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// Reads what the sink has stored.
pub(crate) struct Reader {
    file: PathBuf,
    pool: SqlitePool,
    time_limit: Duration,
    log: Arc<Log>,
}

/// Stops a statement at its time limit, or when nobody waits for it any more.
struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    pub(crate) fn new(file: &FilePath) -> Self {
        Self::with_time_limit(file, TIME_LIMIT)
    }

    pub(crate) fn with_time_limit(file: &FilePath, time_limit: Duration) -> Self {
        let options = options(file)
            .read_only(true)
            .pragma("cache_size", "-8192")
            .row_buffer_size(8);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(TIME_LIMIT)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options);
        Self {
            file: file.to_owned(),
            pool,
            time_limit,
            log: Arc::default(),
        }
    }

    /// What whoever deletes tells of.
    pub(crate) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    async fn connection(&self) -> Result<(PoolConnection<Sqlite>, Watch), ReadError> {
        let mut connection = self.pool.acquire().await.map_err(|error| self.fault(&error))?;
        let given_up = Arc::new(AtomicBool::new(false));
        let (end, watch) = (Instant::now() + self.time_limit, Watch(Arc::clone(&given_up)));
        connection
            .lock_handle()
            .await
            .map_err(|error| self.fault(&error))?
            .set_progress_handler(LOOK, move || !given_up.load(Ordering::Relaxed) && Instant::now() < end);
        Ok((connection, watch))
    }

    fn fault(&self, error: &sqlx::Error) -> ReadError {
        let file = self.file.display();
        ReadError::Store(match (error, code(error)) {
            (sqlx::Error::PoolTimedOut, _) => {
                format!(
                    "{CONNECTIONS} other queries have kept it busy for {} s; try again",
                    TIME_LIMIT.as_secs()
                )
            }
            (_, Some(INTERRUPT)) => format!(
                "the query took longer than {} s and was stopped; narrow it with `after` and `before`, or with a \
                 username",
                self.time_limit.as_secs()
            ),
            (_, Some(11 | 26)) => format!("{file} is damaged ({error})"),
            _ => format!("{file}: {error}"),
        })
    }

    async fn page(&self, query: &Query) -> Result<Page, ReadError> {
        let cursor = match &query.cursor {
            Some(text) => Some(Cursor::decode(text, query.ascending).ok_or(ReadError::Cursor)?),
            None => None,
        };
        let wanted = Wanted::new(query)?;
        let (mut connection, _watch) = self.connection().await?;
        let fault = |error| self.fault(&error);
        let order = match cursor {
            Some(cursor) => cursor.order,
            None => {
                let origins: i64 = sqlx::query_scalar("SELECT count(*) FROM position")
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(fault)?;
                if origins > 1 { Order::Received } else { Order::Place }
            }
        };
        let path = wanted.path(order, &mut connection).await.map_err(fault)?;
        let bound = match cursor {
            Some(_) => None,
            None => wanted
                .bound(path, query.ascending, &mut connection)
                .await
                .map_err(fault)?,
        };
        let from = From {
            order,
            ascending: query.ascending,
            cursor,
            bound,
        };
        let limit = query.limit.clamp(1, MAX_LIMIT);
        let (sql, arguments) = wanted.statement(path, &from, i64::from(limit) + 1)?;
        let mut rows = sqlx::query_with(sql, arguments).fetch(&mut *connection);
        let (mut page, mut bytes, mut last) = (Page::default(), 0, None::<(i64, i64)>);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            let (key, stored) = read(&row).map_err(fault)?;
            let in_order = last.is_none_or(|last| follows(&from, last, key));
            if !in_order {
                return Err(ReadError::Store("rows came out of order".to_owned()));
            }
            if let Some((received, place)) = last.filter(|_| page.events.len() >= limit as usize || bytes >= PAGE_BYTES)
            {
                page.next = Some(
                    Cursor {
                        order,
                        ascending: query.ascending,
                        received,
                        place,
                    }
                    .encode(),
                );
                break;
            }
            bytes += stored.canonical.len();
            last = Some(key);
            page.events.push(stored);
        }
        Ok(page)
    }
}

fn follows(from: &From, last: (i64, i64), key: (i64, i64)) -> bool {
    let (a, b) = match from.order {
        Order::Place => ((0, last.1), (0, key.1)),
        Order::Received => (last, key),
    };
    if from.ascending { a < b } else { a > b }
}

/// Received time and place, and the event.
fn read(row: &SqliteRow) -> Result<((i64, i64), Stored), sqlx::Error> {
    let (place, received): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let stored = Stored {
        canonical: row.try_get(3)?,
        origin: row.try_get(2)?,
        seq: place.unsigned_abs() & ((1 << SEQ_BITS) - 1),
        received: received.unsigned_abs(),
    };
    Ok(((received, place), stored))
}

#[async_trait]
impl EventReader for Reader {
    async fn query(&self, query: &Query) -> Result<Page, ReadError> {
        self.page(query).await
    }

    /// An id that retention has deleted is missing here: the store keeps nothing of a row that went, the journal does.
    async fn get(&self, id: Uuid) -> Result<Found, ReadError> {
        let query = Query {
            filters: vec![("event_id", id.hyphenated().to_string())],
            limit: 1,
            ..Query::default()
        };
        let wanted = Wanted::new(&query)?;
        let from = From {
            order: Order::Received,
            ascending: true,
            cursor: None,
            bound: None,
        };
        let (sql, arguments) = wanted.statement(Path::Kinds, &from, 1)?;
        let (mut connection, _watch) = self.connection().await?;
        let row = sqlx::query_with(sql, arguments)
            .fetch_optional(&mut *connection)
            .await
            .and_then(|row| row.as_ref().map(read).transpose())
            .map_err(|error| self.fault(&error))?;
        Ok(row.map_or(Found::Missing, |(_, stored)| Found::Event(stored)))
    }

    async fn position(&self, origin: &str) -> Result<u64, ReadError> {
        let (mut connection, _watch) = self.connection().await?;
        let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM position WHERE origin = ?1")
            .bind(origin)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| self.fault(&error))?;
        Ok(seq.map_or(0, i64::unsigned_abs))
    }

    fn has_remains(&self) -> bool {
        self.log.has_remains()
    }
}
