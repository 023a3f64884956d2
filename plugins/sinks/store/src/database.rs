//! The file: its schema, the one writing connection, and what SQLite's errors mean to us.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use auditmon_core::plugin::PluginError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// Number, name, text: one line for each file in `migrations/sqlite`.
const MIGRATIONS: [(i64, &str, &str); 1] = [(
    1,
    "events",
    include_str!("../../../../migrations/sqlite/0001_events.sql"),
)];

/// How long a write waits for another process that holds the file, such as sqlite3 with an open transaction.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// The WAL is checkpointed every 32 MiB: each checkpoint writes a page once, however often it was changed.
const SETTINGS: &str = "PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA secure_delete = ON;
    PRAGMA cache_size = -16384;
    PRAGMA wal_autocheckpoint = 8192;
    PRAGMA journal_size_limit = 67108864;";

/// The database file and its one writing connection.
pub(crate) struct Database {
    file: PathBuf,
    writer: Mutex<Option<SqliteConnection>>,
}

/// The writing connection; whoever waits for it gets it in turn.
pub(crate) type Writer<'a> = MappedMutexGuard<'a, SqliteConnection>;

impl Database {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self {
            file,
            writer: Mutex::new(None),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The writing connection, opened if it is not.
    pub(crate) async fn writer(&self) -> Result<Writer<'_>, PluginError> {
        let mut guard = self.writer.lock().await;
        if guard.is_none() {
            *guard = Some(open(&self.file).await?);
        }
        MutexGuard::try_map(guard, Option::as_mut)
            .map_err(|_| PluginError::transient("the store's connection was closed"))
    }

    /// Closes the writing connection; the next writer opens it anew.
    pub(crate) async fn close(&self) {
        if let Some(connection) = self.writer.lock().await.take() {
            close(connection).await;
        }
    }

    /// What an error of the writing connection means, in words that name the file. The next writer has another one, so
    /// that whatever state it is in goes with it; but see [`replace`](Self::replace).
    pub(crate) async fn failed(&self, doing: &str, error: &sqlx::Error) -> PluginError {
        if code(error) == Some(FULL) {
            self.replace().await;
        } else {
            self.close().await;
        }
        self.fault(doing, error)
    }

    /// Opens another connection before this one is closed: the last one takes SQLite's shared memory file along, on a
    /// full disk there is no room for another, and without it nobody could read. Where none can be opened this one
    /// stays for the same reason. What it had begun is no part of its state: a transaction that was dropped is rolled
    /// back before anything else is asked of the connection.
    async fn replace(&self) {
        let mut writer = self.writer.lock().await;
        match open(&self.file).await {
            Ok(new) => {
                if let Some(old) = writer.replace(new) {
                    close(old).await;
                }
            }
            Err(error) => tracing::warn!(
                "the connection that writes to the store had an error and can't be replaced, so it stays: {error}"
            ),
        }
    }

    /// What an error means, in words that name the file.
    pub(crate) fn fault(&self, doing: &str, error: &sqlx::Error) -> PluginError {
        fault(&self.file, doing, error)
    }
}

/// Options that readers and the writer share.
pub(crate) fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

/// What matters was committed; a close that fails leaves a WAL that the next start reads.
async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing the store");
    }
}

async fn open(file: &Path) -> Result<SqliteConnection, PluginError> {
    create(file)?;
    let opening = |error: sqlx::Error| fault(file, "opened", &error);
    let mut connection = options(file).connect().await.map_err(opening)?;
    refuse_foreign(file, &mut connection).await?;
    choose_vacuum(&mut connection).await.map_err(opening)?;
    sqlx::raw_sql(SETTINGS)
        .execute(&mut connection)
        .await
        .map_err(opening)?;
    migrate(file, &mut connection).await?;
    Ok(connection)
}

/// Makes the file, for its owner's eyes only; SQLite gives its other files the same mode.
fn create(file: &Path) -> Result<(), PluginError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            let message = format!("{}: the store can't be made: {error}", file.display());
            Err(match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => PluginError::transient(message),
                _ => PluginError::permanent(message),
            })
        }
    }
}

/// Can only be chosen before the first table, and is written each time it is said: on a full disk it couldn't be.
async fn choose_vacuum(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    const INCREMENTAL: i64 = 2;
    let chosen: i64 = sqlx::query_scalar("PRAGMA auto_vacuum")
        .fetch_one(&mut *connection)
        .await?;
    if chosen != INCREMENTAL {
        sqlx::raw_sql("PRAGMA auto_vacuum = INCREMENTAL")
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// A database with other tables is somebody else's, and stays as it is. One with that of the migrations alone is ours, or
/// nobody's: a kill or a full disk came before the others were made.
async fn refuse_foreign(file: &Path, connection: &mut SqliteConnection) -> Result<(), PluginError> {
    const FOREIGN: &str = "SELECT count(*) FILTER (WHERE name <> '_sqlx_migrations') > 0
        AND count(*) FILTER (WHERE name IN ('_sqlx_migrations', 'events')) < 2
        FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let foreign: bool = sqlx::query_scalar(FOREIGN)
        .fetch_one(connection)
        .await
        .map_err(|error| fault(file, "opened", &error))?;
    if foreign {
        return Err(PluginError::permanent(format!(
            "{}: is a database of another program; name a file of its own in sinks.store.file",
            file.display()
        )));
    }
    Ok(())
}

async fn migrate(file: &Path, connection: &mut SqliteConnection) -> Result<(), PluginError> {
    let migrations = MIGRATIONS
        .into_iter()
        .map(|(number, name, sql)| {
            Migration::new(
                number,
                Cow::Borrowed(name),
                MigrationType::Simple,
                sql.into_sql_str(),
                false,
            )
        })
        .collect();
    let name = file.display();
    // `run` asks for an `Acquire<'a>`, which no future that must be `Send` can give; this is what it calls.
    Migrator::with_migrations(migrations)
        .run_direct(None, connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(number) | MigrateError::VersionTooNew(number, _) => {
                PluginError::permanent(format!(
                    "{name}: was written by a newer auditmon (schema {number}, this one knows {}); start that version, \
             or name another file in sinks.store.file",
                    MIGRATIONS.len()
                ))
            }
            MigrateError::VersionMismatch(number) => PluginError::permanent(format!(
                "{name}: its schema {number} is not the one of this version; it was made by another build"
            )),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                fault(file, "brought up to date", &error)
            }
            error => PluginError::permanent(format!("{name}: the store can't be brought up to date: {error}")),
        })
}

/// SQLite's primary result code, if it is SQLite that failed.
pub(crate) fn code(error: &sqlx::Error) -> Option<u32> {
    extended_code(error).map(primary)
}

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

fn primary(extended: u32) -> u32 {
    match extended {
        // IOERR_SHMSIZE: the index of the WAL can't grow. SQLite has no other word for a full disk there.
        4874 => FULL,
        extended => extended & 0xff,
    }
}

/// No room for it.
const FULL: u32 = 13;

/// Interrupted by a progress handler.
pub(crate) const INTERRUPT: u32 = 9;

pub(crate) fn fault(file: &Path, doing: &str, error: &sqlx::Error) -> PluginError {
    let name = file.display();
    let (permanent, why) = match code(error) {
        Some(5 | 6) => (
            false,
            "another process holds a lock on it for longer than 5 s".to_owned(),
        ),
        Some(FULL) => (false, "the disk is full".to_owned()),
        Some(10) => (false, format!("the disk failed: {error}")),
        Some(8) => (true, "it is read-only for the agent's user".to_owned()),
        Some(3 | 14 | 23) => (
            true,
            "the agent's user may not open it, or it is a directory".to_owned(),
        ),
        Some(11) => (
            true,
            format!(
                "it is damaged ({error}). Stop the agent and restore it from a backup, or move it aside: the agent then \
             begins a new one with what the journal still holds"
            ),
        ),
        Some(26) => (
            true,
            "it is not a SQLite database; move it aside, or name another file in sinks.store.file".to_owned(),
        ),
        Some(19) => (
            true,
            format!("it holds rows that its own position does not know of ({error}): something else wrote to it"),
        ),
        _ => (false, error.to_string()),
    };
    let message = format!("{name}: the store can't be {doing}: {why}");
    if permanent {
        PluginError::Permanent(message)
    } else {
        PluginError::Transient(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_cannot_grow_is_a_full_disk() {
        // https://www.sqlite.org/rescode.html#ioerr_shmsize
        assert_eq!(primary(4874), FULL);
        assert_eq!(primary(778), 10, "IOERR_WRITE stays a fault of the disk");
        assert_eq!(primary(FULL), FULL);
    }

    #[tokio::test]
    async fn a_file_whose_making_was_broken_off_is_made_to_its_end() {
        const TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
        for (steps, tables) in [(1, 0), (2, 0), (3, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("events.db");
            create(&file).unwrap();
            let mut connection = options(&file).connect().await.unwrap();
            if steps > 1 {
                choose_vacuum(&mut connection).await.unwrap();
                sqlx::raw_sql(SETTINGS).execute(&mut connection).await.unwrap();
            }
            if steps > 2 {
                // sqlx makes its own table before it begins the first migration.
                let none = Migrator::with_migrations(Vec::new());
                none.run_direct(None, &mut connection, false).await.unwrap();
            }
            let found: i64 = sqlx::query_scalar(TABLES).fetch_one(&mut connection).await.unwrap();
            assert_eq!(found, tables);
            connection.close().await.unwrap();

            let mut connection = open(&file).await.unwrap();
            let of_ours = "SELECT count(*) FROM sqlite_schema WHERE name IN ('events', 'position', 'usage')";
            let found: i64 = sqlx::query_scalar(of_ours).fetch_one(&mut connection).await.unwrap();
            assert_eq!(found, 3, "after {steps} steps");
            let vacuum: i64 = sqlx::query_scalar("PRAGMA auto_vacuum")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert_eq!(vacuum, 2, "after {steps} steps");
        }
    }
}
