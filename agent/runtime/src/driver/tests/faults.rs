//! What a sink does wrong, and how that is reported.

use auditmon_core::delivery::{Receipt, Retry};
use auditmon_core::plugin::PluginError;
use auditmon_core::units::Span;

use super::harness::{Act, Agent, Fake, Keeps, Running, delivery, eventually, healthy};
use crate::driver::DriverEnd;

fn reasons(agent: &Agent, name: &str) -> Vec<String> {
    let told = agent.told();
    let named = told.iter().filter(|(told, _)| told == name);
    named
        .map(|(_, data)| data["reason"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_records_that_it_was_not_given_counts_for_nothing() {
    let agent = Agent::new();
    agent.emit(5).await;
    let foreign = || Receipt {
        pending: vec![2, 77],
        retry: Some(Retry {
            after: None,
            reason: "busy".to_owned(),
        }),
        ..Receipt::default()
    };
    let sink = Fake::new(Keeps::Cursor, move |_| Act::Receipt(foreign()));
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    let DriverEnd::Failed(PluginError::Permanent(reason)) = running.end("s").await else {
        panic!()
    };
    assert!(reason.contains("names record 77, which it was not given"), "{reason}");
    assert_eq!(log.writes().len(), 1);
    assert_eq!(agent.position("s"), Some(0), "nothing is delivered");
    assert_eq!(agent.events_total("s", "ok"), 0);
    let health = agent.health("s");
    assert_eq!((health.state.as_str(), health.reason), ("failed", Some(reason.clone())));
    eventually("told", || reasons(&agent, "sink.failed") == [reason.clone()]).await;
    assert_eq!(agent.told()[0].1["permanent"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_a_life_and_the_next_goes_on_where_it_was() {
    let agent = Agent::new();
    agent.emit(25).await;
    let mut calls = 0;
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        if calls == 2 { Act::Panic } else { Act::Take }
    });
    let driver = agent.driver("s", delivery());
    let mut running = Running::one(driver.clone(), sink);
    assert!(matches!(running.end("s").await, DriverEnd::Panicked));
    assert_eq!(agent.health("s").state.as_str(), "failed");
    assert_eq!(agent.position("s"), Some(10));
    eventually("told", || agent.told_names() == ["sink.failed"]).await;
    assert!(agent.telemetry.sinks.state("s").lag(agent.journal.durable()).0 >= 15);

    let sink = healthy();
    let log = sink.log.clone();
    running.start(driver, sink);
    log.await_delivered(15).await;
    assert_eq!(log.delivered()[..15], (10..25).collect::<Vec<_>>());
    eventually("told", || agent.told_names() == ["sink.failed", "sink.recovered"]).await;
    assert_eq!(agent.health("s").state.as_str(), "ok");
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_blocks_its_thread_is_left_behind_and_its_late_answer_changes_nothing() {
    let agent = Agent::new();
    agent.emit(5).await;
    let mut short = delivery();
    short.timeout = Span(std::time::Duration::from_millis(100));
    let driver = agent.driver("s", short);
    let mut running = Running::none();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (back, came_back) = std::sync::mpsc::channel();
    let sink = Fake::new(Keeps::Cursor, move |_| {
        // Not awaited: nobody can take the thread away from it.
        let _ = released.recv();
        back.send(()).unwrap();
        Act::Take
    });
    running.start(driver.clone(), sink);
    let DriverEnd::Failed(PluginError::Transient(reason)) = running.end("s").await else {
        panic!()
    };
    assert!(reason.contains("blocks its thread"), "{reason}");

    let sink = Fake::new(Keeps::Cursor, |_| Act::Fail("down"));
    let log = sink.log.clone();
    running.start(driver.clone(), sink);
    eventually("another life", || !log.writes().is_empty()).await;
    drop(release);
    came_back.recv().unwrap();
    // It would confirm five events; the other life has none confirmed.
    eventually("tried again", || log.writes().len() > 3).await;
    assert_eq!(agent.position("s"), Some(0));
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_blocks_again_and_again_is_not_built_for_ever() {
    let agent = Agent::new();
    agent.emit(5).await;
    let mut short = delivery();
    short.timeout = Span(std::time::Duration::from_millis(10));
    let driver = agent.driver("s", short);
    let mut ends = Vec::new();
    for _ in 0..3 {
        let mut running = Running::one(driver.clone(), Fake::new(Keeps::Cursor, |_| Act::Block));
        ends.push(running.end("s").await);
    }
    assert!(matches!(
        &ends[..],
        [
            DriverEnd::Failed(PluginError::Transient(_)),
            DriverEnd::Failed(PluginError::Transient(_)),
            DriverEnd::Failed(PluginError::Permanent(_))
        ]
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_end_does_not_wait_for_a_sink_that_blocks() {
    let agent = Agent::new();
    agent.emit(5).await;
    let sink = Fake::new(Keeps::Cursor, |_| Act::Block);
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    eventually("handed over", || !log.writes().is_empty()).await;
    agent.abort.cancel();
    assert!(matches!(running.end("s").await, DriverEnd::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_has_to_mend_is_told_once_and_its_payloads_are_held() {
    let agent = Agent::new();
    agent.emit(5).await;
    let sink = Fake::new(Keeps::Cursor, |_| Act::Broken("410 Gone"));
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    let DriverEnd::Failed(error) = running.end("s").await else {
        panic!()
    };
    assert_eq!(error.to_string(), "410 Gone");
    eventually("told", || reasons(&agent, "sink.failed") == ["410 Gone"]).await;
    let (lag, seconds) = agent.telemetry.sinks.state("s").lag(agent.journal.durable());
    assert!(lag >= 5 && seconds > 0.0, "{lag} {seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_comes_and_goes_is_told_once_a_minute() {
    let agent = Agent::new();
    agent.emit(1).await;
    let mut calls = 0;
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        if calls % 2 == 1 { Act::Fail("down") } else { Act::Take }
    });
    let mut life = agent.life("s", delivery(), sink);
    let count = |name: &str| agent.told_names().iter().filter(|told| *told == name).count();
    for _ in 0..100 {
        life.step_for_test().await;
        agent.emit(1).await;
    }
    assert_eq!((count("sink.failed"), count("sink.recovered")), (1, 1));
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    for _ in 0..100 {
        life.step_for_test().await;
        agent.emit(1).await;
    }
    assert_eq!((count("sink.failed"), count("sink.recovered")), (2, 2));
}
