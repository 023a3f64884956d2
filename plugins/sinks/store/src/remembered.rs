//! What the store remembers of the journal, before the journal is opened and the store is built.

use std::path::Path;

use auditmon_core::plugin::PluginError;
use auditmon_journal::format::Position;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::database::{fault, options};

/// Positions of all origins; none where there is no store yet. What is damaged says nothing here: the sink tells that.
pub(crate) async fn remembered(file: &Path) -> Result<Vec<Position>, PluginError> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let read = async {
        // Commands of root's ask, too: the file is the agent's, and so is what a kill left in its log.
        let mut connection = options(file).read_only(true).create_if_missing(false).connect().await?;
        let is_store: bool = sqlx::query_scalar(
            "SELECT count(*) = 2 FROM sqlite_schema WHERE type = 'table' AND name IN ('events', 'position')",
        )
        .fetch_one(&mut connection)
        .await?;
        let rows = match is_store {
            true => {
                sqlx::query("SELECT origin, seq, leaf_hash FROM position")
                    .fetch_all(&mut connection)
                    .await?
            }
            false => Vec::new(),
        };
        connection.close().await?;
        Ok(rows)
    };
    let rows = read.await.map_err(|error: sqlx::Error| fault(file, "read", &error))?;
    let position = |row: sqlx::sqlite::SqliteRow| {
        let (seq, leaf): (i64, Vec<u8>) = (row.try_get(1).ok()?, row.try_get(2).ok()?);
        Some(Position {
            origin: row.try_get(0).ok()?,
            seq: u64::try_from(seq).ok()?,
            leaf_hash: leaf.try_into().ok()?,
        })
    };
    Ok(rows.into_iter().filter_map(position).collect())
}
