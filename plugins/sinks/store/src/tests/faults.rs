//! Files that are not ours, broken, locked or newer: what is wrong, where, and what would be right.

use std::time::{Duration, Instant};

use auditmon_core::plugin::{PluginError, Sink as _};
use auditmon_core::reader::{EventReader as _, Query, ReadError};

use super::harness::{Journal, Place};
use crate::reader::Reader;

async fn refused(place: &Place) -> String {
    match place.build().await {
        Err(PluginError::Permanent(reason)) => {
            assert!(reason.contains("events.db"), "{reason}");
            reason
        }
        Err(error) => panic!("not permanent: {error}"),
        Ok(_) => panic!("opened"),
    }
}

#[tokio::test]
async fn a_text_file_is_no_store() {
    let place = Place::new();
    std::fs::write(
        place.file(),
        "this is not a database at all, but it is long enough to look at".repeat(20),
    )
    .unwrap();
    assert!(refused(&place).await.contains("is not a SQLite database"));
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(2_000).await;
    Box::new(place.with(&[&journal]).await).close().await.unwrap();
    let mut bytes = std::fs::read(place.file()).unwrap();
    // Everything but the header, so that it still looks like a database.
    bytes[100..].fill(0x5a);
    std::fs::write(place.file(), &bytes).unwrap();
    let reason = refused(&place).await;
    assert!(reason.contains("it is damaged"), "{reason}");
    let error = Reader::new(&place.file()).query(&Query::default()).await.unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[tokio::test]
async fn a_database_of_another_program_stays_as_it_is() {
    for sql in [
        "CREATE TABLE audit_events (id)",
        "CREATE TABLE events (id)",
        "CREATE TABLE _sqlx_migrations (version); CREATE TABLE audit_events (id)",
    ] {
        let place = Place::new();
        place.sqlite().execute_batch(sql).unwrap();
        let before = std::fs::read(place.file()).unwrap();
        assert!(refused(&place).await.contains("database of another program"), "{sql}");
        assert_eq!(std::fs::read(place.file()).unwrap(), before);
    }
}

#[tokio::test]
async fn a_newer_schema_says_which_version_wrote_it() {
    let place = Place::new();
    drop(place.build().await.unwrap());
    place
        .sqlite()
        .execute_batch(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (99, 'later', 1, x'00', 0)",
        )
        .unwrap();
    assert!(
        refused(&place)
            .await
            .contains("written by a newer auditmon (schema 99, this one knows 1)")
    );
}

#[tokio::test]
async fn a_directory_that_is_missing_is_named() {
    let (place, registry) = (Place::new(), prometheus::Registry::new());
    let file = place.file().with_file_name("no").join("events.db");
    let Err(PluginError::Permanent(reason)) = crate::sink::Store::build(file, Default::default(), &registry).await
    else {
        panic!("opened")
    };
    assert!(
        reason.contains("no/events.db: the store can't be made: No such file or directory"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_locked_file_passes_with_time() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(3).await;
    let mut store = place.build().await.unwrap();
    store.start(journal.handle.origin()).await.unwrap();
    let other = place.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let Err(PluginError::Transient(reason)) = store.write(&journal.events(0)).await else {
        panic!("written")
    };
    assert!(reason.contains("another process holds a lock"), "{reason}");
    other.execute_batch("COMMIT").unwrap();
    store.start(journal.handle.origin()).await.unwrap();
    store.write(&journal.events(0)).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM events"), 3);
}

#[tokio::test]
async fn a_long_query_is_stopped_with_advice() {
    let (journal, place) = (Journal::new(), Place::new());
    // Enough steps of SQLite's machine for a look at the clock.
    for _ in 0..3 {
        journal.add_plain(9_000).await;
    }
    let _store = place.with(&[&journal]).await;
    let reader = Reader::with_time_limit(&place.file(), Duration::ZERO);
    let query = Query::parse([("resource", "nowhere")]).unwrap();
    let error = reader.query(&query).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Store(why) if why.contains("narrow it with `after` and `before`")),
        "{error}"
    );
    // The same connection answers what is asked next.
    let reader = Reader::with_time_limit(&place.file(), Duration::from_secs(5));
    assert_eq!(reader.query(&query).await.unwrap().events.len(), 0);
}

#[tokio::test]
async fn a_reader_without_a_file_says_so_at_once() {
    let place = Place::new();
    let began = Instant::now();
    let error = Reader::new(&place.file()).query(&Query::default()).await.unwrap_err();
    assert!(error.to_string().contains("events.db"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}
