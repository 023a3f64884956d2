//! What the journal no longer has: the sink is told, once.

use std::time::Duration;

use auditmon_core::delivery::{Delivery, WhenBehind};
use auditmon_journal::{GapReason, Options};
use serde_json::json;

use super::harness::{Act, Agent, Fake, Keeps, Running, delivery, eventually, healthy, options};

/// A journal that may hold 256 KiB.
fn small() -> (tempfile::TempDir, Agent) {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::with(Options {
        segment_size: 32 << 10,
        max_size: 256 << 10,
        keep_age: Duration::ZERO,
        ..options(dir.path())
    });
    (dir, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_skips_loses_the_oldest_at_the_size_limit_and_is_told_which() {
    let (_dir, agent) = small();
    agent.emit(5).await;
    let (mut calls, (release, released)) = (0, std::sync::mpsc::channel::<()>());
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        if calls == 2 {
            // Behind, while the journal fills.
            let _ = released.recv();
        }
        Act::Take
    });
    let log = sink.log.clone();
    let skip = Delivery {
        when_behind: WhenBehind::Skip,
        ..delivery()
    };
    let mut running = Running::one(agent.driver("s", skip), sink);
    log.await_delivered(5).await;
    agent.emit(5).await;
    eventually("handed over", || log.writes().len() == 2).await;
    agent.journal.set_hold("test", None);
    for _ in 0..200 {
        agent.emit(10).await;
    }
    let oldest = agent.journal.status().oldest_payload;
    assert!(oldest > 100);
    drop(release);
    let durable = agent.journal.durable();
    eventually("the rest", || log.delivered().last() >= Some(&(durable - 1))).await;
    // Retention may take another segment while the sink comes to it.
    let gaps = log.gaps();
    let gap = gaps[0];
    assert_eq!((gap.first, gap.reason), (10, GapReason::Expired));

    // Nothing beside the gaps is missing, and nothing is twice.
    let delivered = log.delivered();
    assert_eq!(delivered[..10], (0..10).collect::<Vec<_>>());
    assert!(delivered.windows(2).all(|pair| pair[0] < pair[1]));
    let missing = |seq: &u64| delivered.binary_search(seq).is_err();
    for gap in &gaps {
        assert!((gap.first..=gap.last).all(|seq| missing(&seq)), "{gap:?}");
    }
    let lost: u64 = gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
    assert_eq!((0..durable).filter(missing).count() as u64, lost);
    let counted = agent.telemetry.sink_gaps.with_label_values(&["s", "expired"]).get();
    assert_eq!(counted, lost);

    // The first is told at once, others with it or in a minute.
    eventually("told in the journal", || agent.told_names() == ["sink.gap"]).await;
    let data = &agent.told()[0].1;
    let ranges: Vec<(u64, u64)> = serde_json::from_value(data["ranges"].clone()).unwrap();
    assert_eq!(ranges[0].0, gap.first);
    assert!(
        ranges.iter().any(|range| range.1 == gap.last) || gaps.len() > 1,
        "{data}"
    );
    let entries: u64 = ranges.iter().map(|range| range.1 - range.0 + 1).sum();
    assert_eq!(data["entries"], json!(entries));
    assert_eq!((&data["sink"], &data["reason"]), (&json!("s"), &json!("expired")));
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_blocks_keeps_everything_and_events_are_refused() {
    let (_dir, agent) = small();
    agent.emit(5).await;
    let sink = Fake::new(Keeps::Cursor, |_| Act::Fail("down"));
    let log = sink.log.clone();
    let block = Delivery {
        when_behind: WhenBehind::Block,
        ..delivery()
    };
    let mut running = Running::one(agent.driver("s", block), sink);
    eventually("handed over", || !log.writes().is_empty()).await;
    agent.journal.set_hold("test", None);
    let mut refused = false;
    for _ in 0..200 {
        refused |= agent.try_emit(10).await.is_err();
    }
    assert!(refused);
    assert_eq!(agent.journal.status().oldest_payload, 0);
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_off_goes_on_behind_what_went_meanwhile() {
    let (_dir, agent) = small();
    agent.emit(5).await;
    let mut running = Running::none();
    let sink = healthy();
    let log = sink.log.clone();
    let driver = agent.driver("s", delivery());
    running.start(driver.clone(), sink);
    log.await_delivered(5).await;
    agent.abort.cancel();
    running.end("s").await;
    // Off: it holds nothing back.
    agent.journal.set_hold("s", None);
    agent.journal.set_hold("test", None);
    for _ in 0..200 {
        agent.emit(10).await;
    }
    let oldest = agent.journal.status().oldest_payload;
    assert!(oldest > 5);
    let sink = healthy();
    let log = sink.log.clone();
    let mut on = driver;
    on.abort = tokio_util::sync::CancellationToken::new();
    let abort = on.abort.clone();
    running.start(on, sink);
    eventually("told", || !log.gaps().is_empty()).await;
    assert_eq!(log.gaps()[0].first, 5);
    let last = agent.journal.durable() - 1;
    eventually("the rest", || log.delivered().last() >= Some(&last)).await;
    assert!(log.delivered()[0] > log.gaps()[0].last);
    abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_events_go_before_a_gap() {
    let (_dir, agent) = small();
    agent.emit(5).await;
    let (mut calls, (release, released)) = (0, std::sync::mpsc::channel::<()>());
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        if calls == 1 {
            let _ = released.recv();
            return Act::Later(vec![1, 4], None);
        }
        Act::Take
    });
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    eventually("handed over", || !log.writes().is_empty()).await;
    agent.journal.set_hold("test", None);
    for _ in 0..200 {
        agent.emit(10).await;
    }
    drop(release);
    eventually("told", || !log.gaps().is_empty()).await;
    assert_eq!(log.writes()[..2], [vec![0, 1, 2, 3, 4], vec![1, 4]]);
    assert_eq!(log.delivered()[..5], [0, 2, 3, 1, 4]);
    agent.abort.cancel();
    running.end("s").await;
}
