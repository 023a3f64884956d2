//! What the journal says was erased.

use std::task::Poll;

use auditmon_core::event::{Data, Draft, Kind};
use auditmon_core::plugin::Sink as _;
use auditmon_core::reader::Found;
use auditmon_journal::Linger;
use auditmon_testkit::eventually;

use super::harness::{Journal, Place, T0};

const MARKER: &str = "unmistakable-7d1e";

/// Ten events, of which the fourth says more than it should. Gives its id.
async fn secret(journal: &Journal) -> String {
    let data = format!("{{\"note\":\"{MARKER}\",\"long\":\"{}\"}}", MARKER.repeat(1_000));
    let draft = |n: usize| Draft {
        data: if n == 3 { Data::Raw(&data) } else { Data::Null },
        ..Draft::new("login", if n == 3 { MARKER } else { "alice" })
    };
    journal.add(Kind::Application, T0, (0..10).map(draft).collect()).await;
    let events = journal.events(0);
    events.get(3).unwrap().id.to_string()
}

async fn say(journal: &Journal, source: Option<&str>, kind: Kind, data: serde_json::Value) {
    let emitter = journal.emitter("auditmon", kind);
    let mut batch = match source {
        None => emitter.agent_batch(),
        Some(source) => emitter.batch_from(source),
    };
    let data = data.to_string();
    let draft = Draft {
        data: Data::Raw(&data),
        ..Draft::new("journal.erasure", "auditmon")
    };
    batch.push(draft).unwrap();
    emitter.emit(batch, Linger::NONE).await.unwrap();
}

fn is_anywhere(place: &Place) -> bool {
    let file = place.file();
    let files = file.parent().unwrap().read_dir().unwrap();
    files.into_iter().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_goes_with_the_event_that_says_so_and_leaves_no_bytes() {
    let (journal, place) = (Journal::new(), Place::new());
    let id = secret(&journal).await;
    let mut store = place.with(&[&journal]).await;
    assert!(is_anywhere(&place));
    say(
        &journal,
        None,
        Kind::Agent,
        serde_json::json!({"seq": 3, "event_id": id, "reason": "asked"}),
    )
    .await;
    store.write(&journal.events(10)).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM events WHERE seq = 3"), 0);
    assert_eq!(place.number("SELECT seq FROM position"), 11);
    assert_eq!(place.number("SELECT rows FROM usage WHERE kind = 'application'"), 9);
    let bytes = "SELECT bytes FROM usage WHERE kind = 'application'";
    let sum = "SELECT sum(octet_length(canonical)) FROM events WHERE kind = 'application'";
    assert_eq!(place.number(bytes), place.number(sum));
    assert_eq!(place.metric("auditmon_store_rows", None), 10.0);
    let found = store.reader().get(id.parse().unwrap()).await.unwrap();
    assert!(matches!(found, Found::Missing));
    eventually("neither in the file nor in its log", || {
        (!is_anywhere(&place)).then_some(())
    })
    .await;
    // It comes again, as after a crash.
    store.write(&journal.events(0)).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM events"), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_in_the_way_delays_the_emptying_of_the_log() {
    let (journal, place) = (Journal::new(), Place::new());
    let id = secret(&journal).await;
    let mut store = place.with(&[&journal]).await;
    let reader = place.sqlite();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    say(
        &journal,
        None,
        Kind::Agent,
        serde_json::json!({"seq": 3, "event_id": id}),
    )
    .await;
    store.write(&journal.events(10)).await.unwrap();
    assert!(is_anywhere(&place), "the reader still needs it");
    assert!(store.reader().has_remains());
    drop(reader);
    eventually("it is gone", || (!store.reader().has_remains()).then_some(())).await;
    assert!(!is_anywhere(&place));
    Box::new(store).close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_given_up_leaves_nothing_in_the_log() {
    let (journal, place) = (Journal::new(), Place::new());
    let id = secret(&journal).await;
    let mut store = place.with(&[&journal]).await;
    eventually("the start has emptied it", || {
        (!store.reader().has_remains()).then_some(())
    })
    .await;
    let said = serde_json::json!({"seq": 3, "event_id": id});
    say(&journal, None, Kind::Agent, said).await;
    let events = journal.events(10);
    // Who reads keeps the log from being emptied.
    let reading = place.sqlite();
    reading.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let mut write = store.write(&events);
    // Given up as soon as the row has gone.
    let gone = || place.number("SELECT count(*) FROM events WHERE seq = 3") == 0;
    while !gone() {
        let _ = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_ready())).await;
        tokio::task::yield_now().await;
    }
    drop(write);
    drop(reading);
    eventually("it is emptied", || (!is_anywhere(&place)).then_some(())).await;
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_in_the_log_goes_with_the_next_start() {
    let (journal, place, after) = (Journal::new(), Place::new(), Place::new());
    let _ = secret(&journal).await;
    let store = place.with(&[&journal]).await;
    eventually("the start has emptied it", || {
        (!store.reader().has_remains()).then_some(())
    })
    .await;
    place
        .sqlite()
        .execute_batch("PRAGMA secure_delete = ON; DELETE FROM events WHERE seq = 3")
        .unwrap();
    let log = |place: &Place| place.file().with_file_name("events.db-wal");
    for (from, to) in [(place.file(), after.file()), (log(&place), log(&after))] {
        std::fs::copy(from, to).unwrap();
    }
    assert!(is_anywhere(&after));
    // Whoever only asks leaves it as it is.
    let length = log(&after).metadata().unwrap().len();
    let found = crate::remembered::remembered(&after.file()).await.unwrap();
    assert_eq!((found.len(), found[0].seq), (1, 10));
    assert_eq!(log(&after).metadata().unwrap().len(), length);
    let mut again = after.build().await.unwrap();
    again.start(journal.handle.origin()).await.unwrap();
    eventually("it is gone", || (!is_anywhere(&after)).then_some(())).await;
    Box::new(again).close().await.unwrap();
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_say_so() {
    let (journal, place) = (Journal::new(), Place::new());
    let id = secret(&journal).await;
    let other = journal.events(0).get(4).unwrap().id.to_string();
    let said = serde_json::json!({"seq": 3, "event_id": id});
    say(&journal, Some("billing"), Kind::Application, said.clone()).await;
    say(&journal, Some("agent"), Kind::Application, said.clone()).await;
    say(&journal, Some("billing"), Kind::Agent, said).await;
    // Another event than the one at this place, and none at all.
    say(
        &journal,
        None,
        Kind::Agent,
        serde_json::json!({"seq": 3, "event_id": other}),
    )
    .await;
    say(
        &journal,
        None,
        Kind::Agent,
        serde_json::json!({"seq": u64::MAX, "event_id": id}),
    )
    .await;
    say(&journal, None, Kind::Agent, serde_json::json!({"seq": "x"})).await;
    let store = place.with(&[&journal]).await;
    assert_eq!(place.number("SELECT count(*) FROM events"), 16);
    drop(store);
}
