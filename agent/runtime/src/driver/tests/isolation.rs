//! Four sinks that do everything wrong beside two healthy ones, under load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auditmon_core::delivery::{BatchLimits, Delivery, Receipt, Retry};
use auditmon_core::units::{Size, Span};

use super::harness::{Act, Agent, Fake, Keeps, Running, delivery, eventually, healthy, options};
use crate::driver::DriverEnd;

/// As a sink is by default, but impatient.
fn usual() -> Delivery {
    Delivery {
        batch: BatchLimits {
            events: 1_000,
            bytes: Size(1 << 20),
            age: Span(Duration::from_millis(200)),
        },
        timeout: Span(Duration::from_millis(500)),
        ..delivery()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_faults_of_four_sinks_are_theirs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::with(auditmon_journal::Options {
        segment_size: 4 << 20,
        ..options(dir.path())
    });
    let mut running = Running::none();
    let (one, other) = (healthy(), healthy());
    let logs = [one.log.clone(), other.log.clone()];
    running.start(agent.driver("healthy", usual()), one);
    running.start(agent.driver("healthy_too", usual()), other);

    // Rebuilt at once each time: the worst that a supervisor could do.
    let stop = Arc::new(AtomicBool::new(false));
    let (panics, rebuild, ended) = (agent.driver("panics", usual()), Arc::clone(&stop), Arc::clone(&stop));
    let panicking = tokio::spawn(async move {
        let mut lives = 0;
        while !rebuild.load(Ordering::Relaxed) {
            let sink = Box::new(Fake::new(Keeps::Cursor, |_| Act::Panic));
            assert!(matches!(
                panics.clone().run(sink).await,
                DriverEnd::Panicked | DriverEnd::Stopped
            ));
            lives += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        lives
    });
    running.start(agent.driver("hangs", usual()), Fake::new(Keeps::Cursor, |_| Act::Hang));
    running.start(
        agent.driver("lies", usual()),
        Fake::new(Keeps::Cursor, |events| {
            Act::Receipt(Receipt {
                pending: vec![events.end_seq().unwrap_or(0) + 1_000],
                retry: Some(Retry {
                    after: None,
                    reason: "busy".to_owned(),
                }),
                ..Receipt::default()
            })
        }),
    );
    let refuses = Fake::new(Keeps::Cursor, |events| {
        Act::Refuse(
            events
                .iter()
                .map(|event| event.seq)
                .filter(|seq| seq % 10 == 0)
                .collect(),
        )
    });
    let refusing = refuses.log.clone();
    running.start(agent.driver("refuses", usual()), refuses);

    let mut seen = agent.durable.clone();
    let times = tokio::spawn(async move {
        let mut times = Vec::new();
        while seen.changed().await.is_ok() {
            times.push((*seen.borrow_and_update(), Instant::now()));
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        times
    });

    // A few MiB within some seconds.
    let (begun, mut events, mut most) = (Instant::now(), 0, 0);
    while begun.elapsed() < Duration::from_secs(4) {
        agent.emit(50).await;
        events += 50;
        most = most.max(agent.hot.alive());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ended.store(true, Ordering::Relaxed);
    agent.emit(1).await;
    events += 1;
    let times = times.await.unwrap();
    let lives = panicking.await.unwrap();

    // The others have everything, in order, and soon.
    for log in &logs {
        log.await_delivered(events).await;
        let delivered = log.delivered();
        assert!(delivered.windows(2).all(|pair| pair[1] == pair[0] + 1));
        let slowest = log.slowest(&times);
        assert!(
            slowest > Duration::ZERO && slowest < Duration::from_secs(1),
            "{slowest:?}"
        );
    }
    eventually("nine of ten delivered, one refused", || {
        let refused = agent.events_total("refuses", "dead_letter");
        refused as usize >= events / 11 && refusing.delivered().len() + refused as usize >= events
    })
    .await;
    // The ring, and what two sinks that never answer were handed.
    assert!(most < (8 << 20) + 4 * (2 << 20), "{most} bytes");

    // Health, metric, and one event each; only a minute later another.
    for (sink, state) in [
        ("healthy", "ok"),
        ("healthy_too", "ok"),
        ("hangs", "degraded"),
        ("lies", "failed"),
        ("refuses", "ok"),
    ] {
        assert_eq!(agent.health(sink).state.as_str(), state, "{sink}");
    }
    assert!(lives > 5, "{lives}");
    assert!(agent.health("hangs").reason.unwrap().contains("no answer within"));
    assert!(agent.events_total("hangs", "retried") > 0);
    assert_eq!(agent.events_total("lies", "ok"), 0);
    let gauges = agent.telemetry.sinks.gather(&agent.journal).unwrap();
    let seconds = |sink: &str| {
        let family = gauges
            .iter()
            .find(|family| family.name() == "auditmon_sink_lag_seconds")
            .unwrap();
        let of = family
            .get_metric()
            .iter()
            .find(|metric| metric.get_label()[0].value() == sink);
        of.unwrap().get_gauge().get_value()
    };
    for sink in ["panics", "hangs", "lies"] {
        assert!(seconds(sink) > 2.0, "{sink}: {}", seconds(sink));
    }
    for sink in ["healthy", "healthy_too", "refuses"] {
        assert!(seconds(sink) < 1.0, "{sink}: {}", seconds(sink));
    }
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (name, data) in agent.told() {
        *told
            .entry((data["sink"].as_str().unwrap().to_owned(), name))
            .or_default() += 1;
    }
    let once = |sink: &str, name: &str| ((sink.to_owned(), name.to_owned()), 1);
    assert_eq!(
        told,
        BTreeMap::from([
            once("hangs", "sink.failed"),
            once("lies", "sink.failed"),
            once("panics", "sink.failed"),
            once("refuses", "sink.dead_letter"),
        ])
    );
    agent.abort.cancel();
    for name in ["healthy", "healthy_too", "hangs", "refuses"] {
        assert!(matches!(running.end(name).await, DriverEnd::Stopped), "{name}");
    }
}
