//! Where SQLite puts what it can't hold in memory: large sorts, new indexes.
//!
//! Left alone it takes /var/tmp. That may be forbidden (Landlock), and what it writes are events.

use std::path::Path;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

/// Makes all databases of this process use the data directory. Call it before the first one is opened: SQLite allows
/// no change while another thread works.
pub(crate) async fn keep_in(data_dir: &Path) {
    let Some(path) = data_dir.to_str() else {
        tracing::debug!("the data directory is not UTF-8; SQLite keeps its temporary files in /var/tmp");
        return;
    };
    if let Err(error) = set(path).await {
        tracing::warn!(%error, "SQLite can't be told to keep its temporary files in the data directory");
    }
}

async fn set(path: &str) -> Result<(), sqlx::Error> {
    // The environment would do, but not safely beside other threads.
    let mut any = SqliteConnection::connect("sqlite::memory:").await?;
    let path = path.replace('\'', "''");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA temp_store_directory = '{path}'")))
        .execute(&mut any)
        .await?;
    any.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn temporary_files_are_in_the_data_directory() {
        let dir = tempfile::Builder::new().prefix("it's").tempdir().unwrap();
        keep_in(dir.path()).await;
        let mut db = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        // A cache of 16 KiB and a temporary table of 4 MiB.
        let spill = "PRAGMA temp_store = FILE; CREATE TEMP TABLE t(x); PRAGMA temp.cache_size = -16;
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4096)
            INSERT INTO t SELECT randomblob(1024) FROM n";
        sqlx::raw_sql(spill).execute(&mut db).await.unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let temporary = open
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter(|path| path.starts_with(dir.path()));
        // SQLite removes their names at once.
        assert_eq!(temporary.count(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
