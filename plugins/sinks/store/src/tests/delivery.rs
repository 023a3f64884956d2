//! Exactly once, and every column as the event says.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use auditmon_core::event::{Data, Draft, EventView, Kind, Outcome, Severity};
use auditmon_core::plugin::{Sink as _, Start};
use auditmon_journal::{Gap, GapReason, PositionVerdict};

use super::harness::{Journal, Place, T0};

#[tokio::test]
async fn every_event_is_stored_once_and_the_position_fits_the_journal() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(60).await;
    let mut store = place.build().await.unwrap();
    assert!(matches!(
        store.start(journal.handle.origin()).await.unwrap(),
        Start::Own(None)
    ));
    store.write(&journal.events(0)).await.unwrap();
    Box::new(store).close().await.unwrap();

    journal.add_plain(7).await;
    let mut store = place.build().await.unwrap();
    let Start::Own(Some(position)) = store.start(journal.handle.origin()).await.unwrap() else {
        panic!()
    };
    assert_eq!(position.seq, 60);
    assert_eq!(journal.handle.check_position(&position), PositionVerdict::Ok);
    // From before the position, as after a crash.
    store.write(&journal.events(50)).await.unwrap();
    store.write(&journal.events(0)).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM events"), 67);
    assert_eq!(
        place.number("SELECT count(DISTINCT seq) FROM events WHERE seq < 67"),
        67
    );
    assert_eq!(place.number("SELECT seq FROM position"), 67);
    assert_eq!(place.number("SELECT rows FROM usage WHERE kind = 'application'"), 67);
    assert_eq!(place.metric("auditmon_store_rows", None), 67.0);
}

#[tokio::test]
async fn a_write_that_is_given_up_leaves_nothing_behind() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(130).await;
    let events = journal.events(0);
    let mut store = place.build().await.unwrap();
    store.start(journal.handle.origin()).await.unwrap();
    for polls in 1..12 {
        {
            let mut write = pin!(store.write(&events));
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if write.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        let rows = place.number("SELECT count(*) FROM events");
        assert_eq!(
            rows,
            place.number("SELECT coalesce(max(seq), 0) FROM position"),
            "after {polls} polls"
        );
    }
    store.write(&events).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM events"), 130);
    assert_eq!(place.number("SELECT sum(rows) FROM usage"), 130);
}

#[tokio::test]
async fn columns_say_what_the_canonical_bytes_say() {
    let (journal, place) = (Journal::new(), Place::new());
    let full = Draft {
        time: T0 + 123_456_789,
        resource: Some("db/\"x\"\n"),
        address: Some("2001:db8::1".parse().unwrap()),
        request_id: Some("r-1"),
        read_only: true,
        outcome: Outcome::Failure,
        severity: Severity::Critical,
        data: Data::Raw("{ \"a\": [1, {\"b\": \"ü'\\u0000\"}] }"),
        ..Draft::new("payment.refund", "alice o'neill")
    };
    journal
        .add(
            Kind::Application,
            T0 + 1,
            vec![
                full,
                Draft {
                    time: T0,
                    ..Draft::new("n", "u")
                },
            ],
        )
        .await;
    let _store = place.with(&[&journal]).await;
    let sqlite = place.sqlite();
    let members = [
        "event_id",
        "event_time",
        "event_name",
        "username",
        "resource",
        "event_source",
        "source_ip_address",
        "request_id",
        "kind",
        "host",
        "outcome",
        "severity",
        "event_data",
        "received_time",
        "origin",
    ];
    for seq in 0..2 {
        let canonical: Vec<u8> = sqlite
            .query_row("SELECT canonical FROM events WHERE seq = ?1", [seq], |row| row.get(0))
            .unwrap();
        let view = EventView::parse(&canonical).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&canonical).unwrap();
        for member in members {
            let sql = format!("SELECT {member} FROM events WHERE seq = ?1");
            let column: Option<String> = sqlite.query_row(&sql, [seq], |row| row.get(0)).unwrap();
            let expected = match member {
                "received_time" => Some("2026-01-01T00:00:00.000000001Z".to_owned()),
                "origin" => Some(journal.handle.origin().to_owned()),
                "event_data" if view.event_data.get() != "null" => {
                    let stored: serde_json::Value = serde_json::from_str(column.as_deref().unwrap()).unwrap();
                    assert_eq!(stored, json["event_data"]);
                    continue;
                }
                _ => json[member].as_str().map(str::to_owned),
            };
            assert_eq!(column, expected, "{member}");
        }
        let sql = "SELECT read_only, event_time_ns, length(salt) FROM events WHERE seq = ?1";
        let numbers: (bool, i64, i64) = sqlite
            .query_row(sql, [seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        assert_eq!(
            numbers,
            (view.read_only, (T0 + if seq == 0 { 123_456_789 } else { 0 }) as i64, 16)
        );
    }
    assert_eq!(
        sqlite
            .query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
            .unwrap(),
        "ok"
    );
}

#[tokio::test]
async fn state_records_alone_move_the_position() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(1).await;
    let mut records = auditmon_journal::Records::new();
    records
        .push_state("ingest", [7; 16], T0, [0; 16], b"key", 0, b"value")
        .unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    journal.handle.submit(
        records,
        auditmon_journal::Linger::NONE,
        Box::new(move |done| tell.send(done).unwrap()),
    );
    told.await.unwrap().unwrap();
    let mut store = place.with(&[&journal]).await;
    assert_eq!(place.number("SELECT seq FROM position"), 2);
    assert_eq!(place.number("SELECT count(*) FROM events"), 1);
    let Start::Own(Some(position)) = store.start(journal.handle.origin()).await.unwrap() else {
        panic!()
    };
    assert_eq!(journal.handle.check_position(&position), PositionVerdict::Ok);
}

#[tokio::test]
async fn what_follows_a_gap_moves_the_position_past_it() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(5).await;
    let before = journal.events(0);
    journal.add_plain(5).await;
    let mut store = place.build().await.unwrap();
    store.start(journal.handle.origin()).await.unwrap();
    store.write(&before).await.unwrap();
    store
        .gap(&Gap {
            first: 5,
            last: 6,
            reason: GapReason::Damaged,
        })
        .await
        .unwrap();
    let Start::Own(Some(position)) = store.start(journal.handle.origin()).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        journal.handle.check_position(&position),
        PositionVerdict::Ok,
        "a position that the journal knows"
    );
    store.write(&journal.events(7)).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM events"), 8);
    assert_eq!(place.number("SELECT seq FROM position"), 10);
}

#[tokio::test]
async fn settings_are_those_of_the_manual() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(1).await;
    let _store = place.with(&[&journal]).await;
    assert_eq!(place.number("PRAGMA auto_vacuum"), 2);
    let mode: String = place
        .sqlite()
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    for name in ["events.db", "events.db-wal"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(place.file().with_file_name(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn metrics_begin_at_zero_and_a_second_store_takes_them_over() {
    let (journal, place) = (Journal::new(), Place::new());
    let store = place.build().await.unwrap();
    for kind in crate::metrics::KINDS {
        assert_eq!(place.metric("auditmon_retention_pruned_total", Some(kind)), 0.0);
    }
    assert_eq!(place.metric("auditmon_store_rows", None), 0.0);
    assert_eq!(place.metric("auditmon_store_insert_seconds", None), 0.0);
    drop(store);
    journal.add_plain(3).await;
    let _store = place.with(&[&journal]).await;
    assert_eq!(place.metric("auditmon_store_rows", None), 3.0);
    assert_eq!(place.metric("auditmon_store_insert_seconds", None), 1.0);
}
