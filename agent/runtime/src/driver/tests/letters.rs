//! What is refused for good.

use auditmon_core::event::EventView;

use super::harness::{Act, Agent, Fake, Keeps, Running, delivery, eventually, healthy};
use crate::dead_letters;

/// Places and reasons of a sink's letters.
fn letters(agent: &Agent, sink: &str) -> Vec<(u64, String)> {
    let mut letters = Vec::new();
    dead_letters::list(agent.dir(), sink, |letter| {
        let letter = letter.unwrap();
        EventView::parse(letter.event.get().as_bytes()).unwrap();
        letters.push((letter.seq, letter.reason));
        Ok(())
    })
    .unwrap();
    letters
}

fn seqs(agent: &Agent) -> Vec<u64> {
    letters(agent, "s").into_iter().map(|(seq, _)| seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_events_are_kept_counted_and_told_and_the_rest_goes_on() {
    let agent = Agent::new();
    agent.emit(20).await;
    let sink = Fake::new(Keeps::Cursor, |events| {
        Act::Refuse(
            events
                .iter()
                .map(|event| event.seq)
                .filter(|seq| seq % 5 == 3)
                .collect(),
        )
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(agent.position("s"), Some(10));
    let reason = "bad event".to_owned();
    assert_eq!(letters(&agent, "s"), [(3, reason.clone()), (8, reason)]);
    life.step_for_test().await;
    assert_eq!(seqs(&agent), [3, 8, 13, 18]);
    assert_eq!(log.delivered().len(), 16);
    assert_eq!(agent.events_total("s", "dead_letter"), 4);
    assert_eq!(agent.events_total("s", "ok"), 16);
    assert_eq!(agent.health("s").state.as_str(), "ok", "the sink works");
    life.step_for_test().await;
    let told = agent.told();
    assert_eq!(told.len(), 1, "one event, not a flood: {told:?}");
    assert_eq!((&*told[0].0, &told[0].1["events"]), ("sink.dead_letter", &2.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_kept_is_not_settled() {
    let agent = Agent::new();
    agent.emit(5).await;
    std::fs::write(agent.dir().join("dlq"), "a file where the directory should be").unwrap();
    let sink = Fake::new(Keeps::Cursor, |events| {
        Act::Refuse(events.iter().map(|event| event.seq).filter(|seq| *seq == 2).collect())
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(agent.position("s"), Some(2));
    let reason = agent.health("s").reason.unwrap();
    assert!(reason.contains("dead-letter file"), "{reason}");
    std::fs::remove_file(agent.dir().join("dlq")).unwrap();
    life.step_for_test().await;
    assert_eq!(log.writes()[1][0], 2);
    assert_eq!(seqs(&agent), [2]);
    assert!(agent.position("s").unwrap() >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_handed_over_again_beside_what_is_new() {
    let agent = Agent::new();
    agent.emit(20).await;
    let refuses = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let still = refuses.clone();
    let sink = Fake::new(Keeps::Cursor, move |events| {
        let bad = |seq: &u64| seq % 5 == 3 && (still.load(std::sync::atomic::Ordering::Relaxed) || *seq == 8);
        Act::Refuse(events.iter().map(|event| event.seq).filter(bad).collect())
    });
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    eventually("refused", || seqs(&agent) == [3, 8, 13, 18]).await;
    eventually("delivered", || log.delivered().len() >= 16).await;
    refuses.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(dead_letters::request_replay(agent.dir(), "s", &[]).unwrap(), 4);
    assert!(agent.telemetry.sinks.poke("s"));
    eventually("replayed", || agent.told_names().contains(&"sink.replayed".to_owned())).await;
    assert_eq!(seqs(&agent), [8], "refused again");
    let delivered = log.delivered();
    for seq in [3, 13, 18] {
        assert_eq!(delivered.iter().filter(|it| **it == seq).count(), 1);
    }
    let told = agent
        .told()
        .into_iter()
        .find(|(name, _)| name == "sink.replayed")
        .unwrap();
    assert_eq!((&told.1["delivered"], &told.1["refused"]), (&3.into(), &1.into()));
    agent.emit(2).await;
    eventually("new ones too", || {
        log.delivered().contains(&(agent.journal.durable() - 1))
    })
    .await;
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_made_without_an_agent_is_taken_up_at_the_start() {
    let agent = Agent::new();
    agent.emit(20).await;
    let sink = Fake::new(Keeps::Cursor, |events| {
        Act::Refuse(events.iter().map(|event| event.seq).collect())
    });
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    drop(life);
    assert_eq!(dead_letters::request_replay(agent.dir(), "s", &[4, 6, 99]).unwrap(), 2);
    let mut calls = 0;
    let sink = Fake::new(Keeps::Cursor, move |events| {
        calls += 1;
        match calls {
            // The agent is killed in the middle of it.
            1 => Act::Fail("down"),
            2 => Act::Later(vec![events.iter().next_back().unwrap().seq], None),
            _ => Act::Take,
        }
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(log.writes(), [[4, 6]]);
    drop(life);
    assert!(!agent.dir().join("dlq/s.replay").exists());

    let sink = healthy();
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    eventually("replayed", || seqs(&agent) == [0, 1, 2, 3, 5, 7, 8, 9]).await;
    eventually("and the rest", || log.delivered().len() >= 12).await;
    assert!(log.delivered().contains(&4) && log.delivered().contains(&6));
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_keeps_its_position_is_not_given_letters() {
    let agent = Agent::new();
    agent.emit(5).await;
    let own = || Keeps::Own(std::sync::Arc::default());
    let sink = Fake::new(own(), |events| Act::Refuse(vec![events.iter().next().unwrap().seq]));
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    drop(life);
    assert_eq!(seqs(&agent), [0]);
    dead_letters::request_replay(agent.dir(), "s", &[]).unwrap();
    let sink = Fake::new(own(), |_| Act::Take);
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(seqs(&agent), [0], "it would not store what is before its position");
    assert!(!agent.dir().join("dlq/s.replay").exists());
}

#[tokio::test(start_paused = true)]
async fn summaries_are_told_once_a_minute() {
    let agent = Agent::new();
    let sink = Fake::new(Keeps::Cursor, |events| {
        let bad = events
            .iter()
            .filter(|event| event.kind == auditmon_core::Kind::Application);
        Act::Refuse(bad.map(|event| event.seq).collect())
    });
    let mut life = agent.life("s", delivery(), sink);
    for _ in 0..30 {
        agent.emit(1).await;
        life.step_for_test().await;
    }
    let summaries = || {
        let told = agent.told().into_iter().filter(|(name, _)| name == "sink.dead_letter");
        told.map(|(_, data)| data["events"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(summaries(), [1]);
    // An idle sink tells the rest by itself.
    while summaries().len() == 1 {
        life.step_for_test().await;
    }
    assert_eq!(summaries(), [1, 29]);
}
