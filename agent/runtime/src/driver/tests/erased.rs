//! Events that are erased while a sink has them.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::subscription::Events;
use uuid::Uuid;

use super::harness::{Act, Agent, Fake, Keeps, delivery};
use crate::dead_letters;

/// As the command does once it is declared.
fn erase(agent: &Agent, seq: u64) {
    agent.hot.erased.add(seq, Uuid::nil());
}

fn has(events: &Events, seq: u64) -> bool {
    events.get(seq).is_some()
}

fn letters(agent: &Agent) -> Vec<u64> {
    let mut seqs = Vec::new();
    dead_letters::list(agent.dir(), "s", |letter| {
        seqs.push(letter.unwrap().seq);
        Ok(())
    })
    .unwrap();
    seqs
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_is_not_handed_over_again_and_the_position_goes_on() {
    let agent = Agent::new();
    agent.emit(5).await;
    let sink = Fake::new(Keeps::Cursor, |events| match has(events, 2) {
        true => Act::Later(vec![2], Some(Duration::ZERO)),
        false => Act::Take,
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!((log.writes().len(), agent.position("s")), (1, Some(2)));
    erase(&agent, 2);
    agent.emit(1).await;
    life.step_for_test().await;
    let again = &log.writes()[1];
    assert!(!again.contains(&2) && again.contains(&5), "{again:?}");
    assert!(agent.position("s") >= Some(6));
    assert_eq!(agent.health("s").state.as_str(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_alone_is_pending_holds_up_nothing() {
    let agent = Agent::new();
    agent.emit(1).await;
    let sink = Fake::new(Keeps::Cursor, |events| match has(events, 0) {
        true => Act::Fail("down"),
        false => Act::Take,
    });
    let log = sink.log.clone();
    let driver = agent.driver("s", delivery());
    let mut running = super::harness::Running::one(driver, sink);
    super::harness::eventually("it is tried", || !log.writes().is_empty()).await;
    erase(&agent, 0);
    super::harness::eventually("its position goes on", || agent.position("s") >= Some(1)).await;
    super::harness::eventually("it is well", || agent.health("s").state.as_str() == "ok").await;
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_after_it_was_erased_becomes_no_letter() {
    let agent = Agent::new();
    agent.emit(4).await;
    let hot = Arc::clone(&agent.hot);
    let sink = Fake::new(Keeps::Cursor, move |events| {
        // While it is on its way.
        hot.erased.add(1, Uuid::nil());
        Act::Refuse(events.iter().map(|event| event.seq).collect())
    });
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(letters(&agent), [0, 2, 3]);
    assert_eq!(agent.position("s"), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_by_its_id_alone_becomes_no_letter_either() {
    let agent = Agent::new();
    agent.emit(4).await;
    let hot = Arc::clone(&agent.hot);
    let sink = Fake::new(Keeps::Cursor, move |events| {
        hot.erased.add_id(events.get(1).unwrap().id);
        Act::Refuse(events.iter().map(|event| event.seq).collect())
    });
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(letters(&agent), [0, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_has_of_it_is_read_anew() {
    let agent = Agent::new();
    agent.emit(3).await;
    let part = |agent: &Agent| match agent.hot.next(0, &mut None) {
        Ok(crate::hot::Next::Part(part)) => part,
        _ => panic!(),
    };
    let before = part(&agent);
    assert!(Arc::ptr_eq(&before, &part(&agent)), "it is shared");
    let (tell, told) = tokio::sync::oneshot::channel();
    agent.journal.erase(1, move |erased| tell.send(erased).unwrap());
    told.await.unwrap().unwrap();
    agent.hot.forget();
    let after = part(&agent);
    assert_eq!((before.len(), after.len()), (3, 2));
    assert_eq!(before.next_seq(), after.next_seq());
}
