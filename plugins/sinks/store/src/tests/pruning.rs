//! What retention deletes and keeps.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::event::{Data, Draft, Kind};
use auditmon_core::time;
use auditmon_core::units::{Size, Span};
use auditmon_journal::Linger;

use super::harness::{Journal, Place, SECOND};
use crate::config::{MaxSize, Retention};
use crate::database::Database;
use crate::metrics::Metrics;
use crate::retention::prune;

const HOUR: Duration = Duration::from_secs(3600);

fn keep() -> Retention {
    let none = MaxSize {
        application: None,
        kernel: None,
        immudb: None,
        agent: None,
    };
    Retention {
        application: None,
        kernel: None,
        immudb: None,
        agent: None,
        max_size: none,
        interval: Span(HOUR),
    }
}

async fn run(place: &Place, retention: &Retention) {
    let metrics = Metrics::register(&place.registry).unwrap();
    metrics.rows.set(place.number("SELECT count(*) FROM events"));
    let database = Arc::new(Database::new(place.file()));
    prune(&database, retention, &metrics).await.unwrap();
    database.close().await;
}

fn drafts(n: usize) -> Vec<Draft<'static>> {
    (0..n).map(|_| Draft::new("n", "u")).collect()
}

#[tokio::test]
async fn each_kind_has_its_age() {
    let (journal, place) = (Journal::new(), Place::new());
    let now = time::now();
    let ago = |hours: u64| now - hours * 3600 * SECOND;
    for hours in [30, 20, 10, 1] {
        journal.add(Kind::Kernel, ago(hours), drafts(600)).await;
        journal.add(Kind::Application, ago(hours), drafts(3)).await;
        journal.add(Kind::Agent, ago(hours), drafts(2)).await;
    }
    drop(place.with(&[&journal]).await);
    let retention = Retention {
        kernel: Some(Span(15 * HOUR)),
        agent: Some(Span(25 * HOUR)),
        ..keep()
    };
    run(&place, &retention).await;
    let left = |kind: &str| place.number(&format!("SELECT count(*) FROM events WHERE kind = '{kind}'"));
    assert_eq!((left("kernel"), left("application"), left("agent")), (1_200, 12, 6));
    for kind in ["kernel", "application", "agent"] {
        let usage = format!("SELECT rows FROM usage WHERE kind = '{kind}'");
        assert_eq!(place.number(&usage), left(kind));
        let bytes = format!(
            "SELECT bytes - (SELECT sum(length(canonical)) FROM events WHERE kind = '{kind}') FROM usage WHERE kind = '{kind}'"
        );
        assert_eq!(place.number(&bytes), 0);
    }
    assert_eq!(place.metric("auditmon_retention_pruned_total", Some("kernel")), 1_200.0);
    assert_eq!(place.metric("auditmon_retention_pruned_total", Some("agent")), 2.0);
    assert_eq!(place.metric("auditmon_store_rows", None), 1_218.0);
    // Nothing more to do, and the position is untouched.
    run(&place, &retention).await;
    assert_eq!(place.number("SELECT count(*) FROM events"), 1_218);
    assert_eq!(place.number("SELECT seq FROM position"), 2_420);
}

#[tokio::test]
async fn beyond_its_size_the_oldest_of_a_kind_go_and_the_file_shrinks() {
    let (journal, place) = (Journal::new(), Place::new());
    let now = time::now();
    let raw = format!("{{\"x\":\"{}\"}}", "y".repeat(4_000));
    for second in 0..10 {
        let big = || Draft {
            data: Data::Raw(&raw),
            ..Draft::new("n", "u")
        };
        journal
            .add(
                Kind::Kernel,
                now - (100 - second) * SECOND,
                (0..300).map(|_| big()).collect(),
            )
            .await;
    }
    journal.add(Kind::Application, now - 1_000 * SECOND, drafts(10)).await;
    drop(place.with(&[&journal]).await);
    let size = || std::fs::metadata(place.file()).unwrap().len();
    place.sqlite().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let before = size();
    assert!(before > 12 << 20, "{before}");
    let max_size = MaxSize {
        kernel: Some(Size(2 << 20)),
        ..keep().max_size
    };
    run(&place, &Retention { max_size, ..keep() }).await;
    let left = place.number("SELECT count(*) FROM events WHERE kind = 'kernel'");
    assert!((400..=480).contains(&left), "{left}");
    assert_eq!(
        place.number("SELECT min(seq) FROM events WHERE kind = 'kernel'"),
        3_000 - left,
        "the newest are left"
    );
    assert_eq!(
        place.number("SELECT count(*) FROM events WHERE kind = 'application'"),
        10
    );
    place.sqlite().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert!(size() < 4 << 20, "{}", size());
}

#[tokio::test]
async fn what_says_why_another_row_is_missing_is_never_deleted() {
    let (journal, place) = (Journal::new(), Place::new());
    let gap = |data: &'static str| Draft {
        data: Data::Raw(data),
        ..Draft::new("sink.gap", "auditmon")
    };
    let kept = || {
        let names = ["journal.erasure", "journal.new_generation", "journal.rollback_accepted"];
        let mut drafts = Vec::from(names.map(|name| Draft::new(name, "auditmon")));
        drafts.push(gap("{\"sink\":\"store\",\"ranges\":[[1,2]]}"));
        drafts
    };
    let emitter = journal.emitter("auditmon", Kind::Agent);
    for _ in 0..2 {
        let mut batch = emitter.agent_batch();
        batch.received_at(time::now() - 30 * 3600 * SECOND);
        batch.push(Draft::new("agent.start", "auditmon")).unwrap();
        for draft in kept() {
            batch.push(draft).unwrap();
        }
        for draft in [
            gap("{\"sink\":\"webhook.one\",\"ranges\":[[1,2]]}"),
            Draft::new("journal.retention", "auditmon"),
        ] {
            batch.push(draft).unwrap();
        }
        emitter.emit(batch, Linger::NONE).await.unwrap();
    }
    // Others may use the name.
    let others = || {
        kept()
            .into_iter()
            .map(|draft| Draft {
                data: Data::Null,
                ..draft
            })
            .collect()
    };
    journal
        .add_from("kernel", Kind::Agent, time::now() - 30 * 3600 * SECOND, others())
        .await;
    journal
        .add(Kind::Application, time::now() - 30 * 3600 * SECOND, others())
        .await;
    journal.add_from("kernel", Kind::Agent, time::now(), drafts(5)).await;
    drop(place.with(&[&journal]).await);
    let left = "SELECT count(*) FROM events WHERE event_name IN ('journal.erasure', 'journal.new_generation',
        'journal.rollback_accepted', 'sink.gap') AND event_source = 'agent'";
    let old = Some(Span(25 * HOUR));
    run(
        &place,
        &Retention {
            agent: old,
            application: old,
            ..keep()
        },
    )
    .await;
    assert_eq!(
        (place.number("SELECT count(*) FROM events"), place.number(left)),
        (13, 8)
    );
    // Beyond its size all others go, and that is the end.
    let max_size = MaxSize {
        agent: Some(Size(1)),
        ..keep().max_size
    };
    run(&place, &Retention { max_size, ..keep() }).await;
    assert_eq!(
        (place.number("SELECT count(*) FROM events"), place.number(left)),
        (8, 8)
    );
    assert_eq!(place.number("SELECT rows FROM usage WHERE kind = 'agent'"), 8);
}

#[tokio::test]
async fn what_is_deleted_can_not_be_read_from_the_file() {
    let (journal, place) = (Journal::new(), Place::new());
    let secret = Draft {
        data: Data::Raw("{\"x\":\"hunter2-hunter2\"}"),
        ..Draft::new("n", "u")
    };
    journal
        .add(Kind::Kernel, time::now() - 7_200 * SECOND, vec![secret])
        .await;
    drop(place.with(&[&journal]).await);
    run(
        &place,
        &Retention {
            kernel: Some(Span(HOUR)),
            ..keep()
        },
    )
    .await;
    place.sqlite().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let bytes = std::fs::read(place.file()).unwrap();
    assert!(!bytes.windows(15).any(|window| window == b"hunter2-hunter2"));
}
