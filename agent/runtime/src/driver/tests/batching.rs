//! By count, bytes and age; pauses between attempts. Time stands still unless everybody waits.

use std::time::Duration;

use auditmon_core::delivery::{BatchLimits, Delivery, Retrying};
use auditmon_core::units::{Size, Span};
use tokio::time::Instant;

use super::harness::{Act, Agent, Fake, Keeps, Running, delivery, eventually, healthy};

const AGE: Duration = Duration::from_secs(3);

fn patient() -> Delivery {
    Delivery {
        batch: BatchLimits {
            events: 10,
            bytes: Size(100_000),
            age: Span(AGE),
        },
        ..delivery()
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_for_company_as_long_as_its_age_says() {
    let agent = Agent::new();
    agent.emit(3).await;
    let sink = healthy();
    let log = sink.log.clone();
    let mut life = agent.life("s", patient(), sink);
    let begun = Instant::now();
    life.step_for_test().await;
    assert_eq!(begun.elapsed(), AGE);
    assert_eq!(log.writes(), [[0, 1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn enough_events_or_bytes_do_not_wait() {
    let agent = Agent::new();
    agent.emit(10).await;
    let sink = healthy();
    let mut life = agent.life("count", patient(), sink);
    let begun = Instant::now();
    life.step_for_test().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let sink = healthy();
    let log = sink.log.clone();
    let few_bytes = Delivery {
        batch: BatchLimits {
            events: 1_000,
            bytes: Size(700),
            age: Span(AGE),
        },
        ..delivery()
    };
    let mut life = agent.life("bytes", few_bytes, sink);
    life.step_for_test().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // About 320 bytes each.
    assert_eq!(log.writes(), [[0, 1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn company_ends_the_waiting_early() {
    let agent = Agent::new();
    agent.emit(3).await;
    let sink = healthy();
    let log = sink.log.clone();
    let mut day = patient();
    day.batch.age = Span(Duration::from_secs(60));
    day.batch.events = 1_000;
    day.batch.bytes = Size(16 << 20);
    let mut running = Running::one(agent.driver("s", day), sink);
    eventually("started", || log.starts() == 1).await;
    agent.emit(996).await;
    agent.emit(1).await;
    log.await_delivered(1_000).await;
    assert_eq!(log.writes().len(), 1);
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait() {
    let agent = Agent::new();
    agent.emit(3).await;
    let sink = healthy();
    let log = sink.log.clone();
    let mut life = agent.life("s", patient(), sink);
    agent.drain.cancel();
    let begun = Instant::now();
    life.run().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(log.writes(), [[0, 1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_followed_up_to_the_longest_pause() {
    let agent = Agent::new();
    agent.emit(1).await;
    for (asked, waits) in [(5, 5), (3_600, 60)] {
        let mut calls = 0;
        let sink = Fake::new(Keeps::Nothing, move |_| {
            calls += 1;
            if calls == 1 {
                Act::Later(vec![0], Some(Duration::from_secs(asked)))
            } else {
                Act::Take
            }
        });
        let log = sink.log.clone();
        let retry = Retrying {
            min: Span(Duration::from_millis(1)),
            max: Span(Duration::from_secs(60)),
        };
        let mut life = agent.life("s", Delivery { retry, ..delivery() }, sink);
        life.start_at_for_test(0).await;
        let begun = Instant::now();
        life.step_for_test().await;
        life.step_for_test().await;
        assert_eq!(begun.elapsed().as_secs(), waits);
        assert!(log.writes().iter().all(|write| write[0] == 0) && log.writes().len() == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_nothing_is_delivered_and_a_success_ends_that() {
    let agent = Agent::new();
    agent.emit(2).await;
    let mut calls = 0;
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        match calls {
            1..=20 => Act::Fail("down"),
            _ => Act::Take,
        }
    });
    let log = sink.log.clone();
    let (min, max) = (Duration::from_millis(100), Duration::from_secs(60));
    let retry = Retrying {
        min: Span(min),
        max: Span(max),
    };
    let mut life = agent.life("s", Delivery { retry, ..delivery() }, sink);
    let begun = Instant::now();
    for _ in 0..20 {
        life.step_for_test().await;
    }
    let waited = begun.elapsed();
    // Ten doublings make 102 s, then ten times up to a minute; each a random part of it.
    assert!(
        waited > Duration::from_secs(60) && waited <= Duration::from_secs(711),
        "{waited:?}"
    );
    life.step_for_test().await;
    assert_eq!(log.delivered()[..2], [0, 1]);
    assert_eq!(agent.health("s").state.as_str(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_cut_off_at_its_deadline() {
    let agent = Agent::new();
    agent.emit(1).await;
    let mut calls = 0;
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        if calls == 1 { Act::Hang } else { Act::Take }
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    let begun = Instant::now();
    life.step_for_test().await;
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert_eq!(agent.health("s").reason.as_deref(), Some("no answer within 20s"));
    life.step_for_test().await;
    // The agent's event about it may be in the same batch already.
    assert_eq!(log.delivered()[0], 0);
    assert_eq!(log.starts(), 2);
}
