//! Order, positions, retries.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use auditmon_core::delivery::Begin;
use parking_lot::Mutex;

use super::harness::{Act, Agent, Fake, Keeps, Log, PATIENCE, Running, delivery, eventually, healthy};
use crate::driver::DriverEnd;

fn all(log: &Log) -> Vec<u64> {
    log.writes().concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_once_in_order_and_in_limits() {
    let agent = Agent::new();
    agent.emit(25).await;
    let sink = healthy();
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    log.await_delivered(25).await;
    for _ in 0..7 {
        agent.emit(3).await;
    }
    agent.drain.cancel();
    assert!(matches!(running.end("s").await, DriverEnd::Stopped));
    assert_eq!(all(&log), (0..46).collect::<Vec<_>>());
    assert!(log.writes().iter().all(|write| write.len() <= 10));
    assert_eq!(log.writes()[0].len(), 10, "a frame is cut");
    assert_eq!(agent.position("s"), Some(46));
    assert_eq!((log.starts(), log.closed()), (1, true));
    assert_eq!(agent.events_total("s", "ok"), 46);
    assert_eq!(agent.events_total("s", "retried"), 0);
    assert_eq!(agent.told_names(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fault_the_same_events_come_again_and_what_follows_comes_behind() {
    let agent = Agent::new();
    agent.emit(4).await;
    let (mut calls, (tell, told)) = (0, std::sync::mpsc::channel());
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        if calls == 1 {
            // What follows is there before the second attempt.
            told.recv().unwrap();
            return Act::Fail("connection refused");
        }
        Act::Take
    });
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    eventually("handed over", || log.writes().len() == 1).await;
    assert_eq!(agent.position("s"), Some(0), "nothing is confirmed");
    agent.emit(20).await;
    tell.send(()).unwrap();
    log.await_delivered(24).await;
    assert_eq!(log.delivered()[..24], (0..24).collect::<Vec<_>>());
    let writes = log.writes();
    assert_eq!(writes[0], [0, 1, 2, 3]);
    assert_eq!(writes[1], (0..10).collect::<Vec<_>>(), "pending, then what follows");
    assert_eq!(log.starts(), 2, "asked again after a fault");
    assert_eq!(agent.events_total("s", "retried"), 4);
    agent.drain.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_goes_first_and_holds_the_position() {
    let agent = Agent::new();
    agent.emit(30).await;
    let mut calls = 0;
    let sink = Fake::new(Keeps::Cursor, move |_| {
        calls += 1;
        match calls {
            1 => Act::Later(vec![3, 7], None),
            2 => Act::Later(vec![7], None),
            _ => Act::Take,
        }
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(agent.position("s"), Some(3), "the end of the contiguous confirmed part");
    life.step_for_test().await;
    assert_eq!(log.writes()[1], [3, 7, 10, 11, 12, 13, 14, 15, 16, 17]);
    assert_eq!(agent.position("s"), Some(7));
    assert_eq!(agent.health("s").state.as_str(), "degraded");
    life.step_for_test().await;
    assert_eq!(log.writes()[2][..2], [7, 18]);
    assert_eq!(agent.position("s"), Some(27));
    assert_eq!(agent.health("s").state.as_str(), "ok");
    assert_eq!(agent.events_total("s", "retried"), 3);
    assert_eq!(agent.events_total("s", "ok"), 27);

    // Another life begins with the first that was not confirmed.
    drop(life);
    let sink = healthy();
    let again = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(again.writes()[0][..1], [27]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_stays_pending_holds_up_what_is_more_than_a_batch_behind_it() {
    let agent = Agent::new();
    agent.emit(60).await;
    let sink = Fake::new(Keeps::Cursor, |events| {
        if events.get(5).is_some() {
            Act::Later(vec![5], None)
        } else {
            Act::Take
        }
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    for _ in 0..10 {
        life.step_for_test().await;
    }
    assert_eq!(agent.position("s"), Some(5));
    // A crash now repeats 25 - 5 events at most.
    assert_eq!(log.delivered().iter().max(), Some(&24));
    assert_eq!(log.writes()[9], [5], "it is tried alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_keeps_its_position_is_asked_for_it_after_each_fault() {
    let agent = Agent::new();
    agent.emit(20).await;
    let position = Arc::new(Mutex::new(None));
    let (mut calls, stored, journal) = (0, Arc::clone(&position), agent.journal.clone());
    let sink = Fake::new(Keeps::Own(Arc::clone(&position)), move |events| {
        calls += 1;
        match calls {
            // Stored, and the answer lost on the way.
            1 => {
                *stored.lock() = events.end();
                Act::Fail("connection lost")
            }
            // The first half is stored, and then the disk is full.
            2 => {
                *stored.lock() = Some(auditmon_journal::Position {
                    origin: journal.origin().to_owned(),
                    seq: 15,
                    leaf_hash: journal.leaf_hash_before(15).unwrap(),
                });
                Act::Later((15..20).collect(), None)
            }
            _ => Act::Take,
        }
    });
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    for _ in 0..3 {
        life.step_for_test().await;
    }
    let writes = log.writes();
    assert_eq!(writes[0], (0..10).collect::<Vec<_>>());
    assert_eq!(writes[1], (10..20).collect::<Vec<_>>());
    assert_eq!(writes[2][..5], [15, 16, 17, 18, 19]);
    assert_eq!(log.starts(), 2);
    assert_eq!(agent.position("s"), None, "there is no file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_sink_begins_at_the_head_holds_nothing_and_loses_nothing_by_a_fault() {
    let agent = Agent::new();
    agent.emit(5).await;
    let mut calls = 0;
    let sink = Fake::new(Keeps::Nothing, move |_| {
        calls += 1;
        if calls == 1 { Act::Fail("full disk") } else { Act::Take }
    });
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    eventually("started", || log.starts() == 1).await;
    eventually("placed", || agent.health("s").state.as_str() == "ok").await;
    agent.emit(3).await;
    log.await_delivered(3).await;
    // What the agent tells of the fault comes behind.
    assert_eq!(log.delivered()[..3], [5, 6, 7]);
    assert_eq!(log.writes()[0], log.writes()[1][..log.writes()[0].len()]);
    assert_eq!(agent.position("s"), None);
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_begins_at_the_head_unless_told_and_a_crash_before_its_first_event_changes_nothing() {
    let agent = Agent::new();
    agent.emit(5).await;
    let head = || auditmon_core::delivery::Delivery {
        from: Begin::Head,
        ..delivery()
    };
    for life in 0..2 {
        let sink = Fake::new(Keeps::Cursor, |_| Act::Fail("down"));
        let log = sink.log.clone();
        let mut life_of = agent.life("s", head(), sink);
        life_of.start_for_test().await;
        assert_eq!(agent.position("s"), Some(5), "life {life}");
        agent.emit(2).await;
        life_of.step_for_test().await;
        assert_eq!(log.writes()[0][..2], [5, 6]);
    }
    let sink = healthy();
    let log = sink.log.clone();
    let mut life = agent.life("oldest", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(log.writes()[0], (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn state_records_are_passed_by_and_move_a_position_of_the_sinks_own() {
    let agent = Agent::new();
    agent.emit_state().await;
    let own = Arc::new(Mutex::new(None));
    let sink = Fake::new(Keeps::Own(Arc::clone(&own)), |_| Act::Take);
    let mut life = agent.life("own", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(own.lock().as_ref().unwrap().seq, 1);

    let sink = healthy();
    let log = sink.log.clone();
    let mut life = agent.life("file", delivery(), sink);
    life.step_for_test().await;
    assert_eq!(log.writes().len(), 0);
    assert_eq!(agent.telemetry.sinks.state("file").lag(1).0, 0);
    agent.emit(1).await;
    agent.emit_state().await;
    life.step_for_test().await;
    assert_eq!(log.writes(), [[1]]);
    // The state record behind comes with the next event, or within a minute.
    let position = agent.position("file").unwrap();
    assert!((2..=3).contains(&position), "{position}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_not_the_one_a_sink_has_read_stops_it() {
    let agent = Agent::new();
    agent.emit(5).await;
    let mut position = agent.journal.read_position("s").unwrap();
    assert!(position.is_none());
    position = Some(auditmon_journal::Position {
        origin: agent.journal.origin().to_owned(),
        seq: 3,
        leaf_hash: [7; 32],
    });
    agent.journal.write_position("s", &position.unwrap()).unwrap();
    let sink = healthy();
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    let DriverEnd::Failed(error) = running.end("s").await else {
        panic!()
    };
    assert!(error.to_string().contains("expects record 3 next"), "{error}");
    assert!(log.writes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_position_file_repeats_and_loses_nothing() {
    let agent = Agent::new();
    agent.emit(5).await;
    std::fs::create_dir_all(agent.dir().join("positions")).unwrap();
    std::fs::write(
        agent.dir().join("positions/s"),
        "no position at all, but long enough to be one",
    )
    .unwrap();
    let sink = healthy();
    let log = sink.log.clone();
    let head = auditmon_core::delivery::Delivery {
        from: Begin::Head,
        ..delivery()
    };
    let mut running = Running::one(agent.driver("s", head), sink);
    log.await_delivered(5).await;
    agent.drain.cancel();
    running.end("s").await;
    assert_eq!(log.delivered(), [0, 1, 2, 3, 4]);
    assert_eq!(agent.position("s"), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_can_not_be_written_holds_the_payloads_and_delivery_goes_on() {
    let agent = Agent::new();
    agent.emit(10).await;
    let sink = healthy();
    let log = sink.log.clone();
    let mut running = Running::one(agent.driver("s", delivery()), sink);
    eventually("written", || agent.position("s") == Some(10)).await;
    // Where the directory was is a file.
    let (positions, aside) = (agent.dir().join("positions"), agent.dir().join("aside"));
    std::fs::rename(&positions, &aside).unwrap();
    std::fs::write(&positions, "").unwrap();
    agent.emit(5).await;
    log.await_delivered(15).await;
    eventually("told", || agent.health("s").state.as_str() == "degraded").await;
    let reason = agent.health("s").reason.unwrap();
    assert!(reason.contains("positions/s"), "{reason}");
    std::fs::remove_file(&positions).unwrap();
    std::fs::rename(&aside, &positions).unwrap();
    assert_eq!(agent.position("s"), Some(10));
    agent.emit(1).await;
    eventually("written", || agent.position("s") > Some(15)).await;
    eventually("mended", || agent.health("s").state.as_str() == "ok").await;
    agent.abort.cancel();
    running.end("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_a_sink_that_is_down_is_not_waited_for() {
    let agent = Agent::new();
    agent.emit(5).await;
    let sink = Fake::new(Keeps::Cursor, |_| {
        Act::Later((0..5).collect(), Some(Duration::from_secs(3600)))
    });
    let log = sink.log.clone();
    let slow = auditmon_core::delivery::Delivery {
        retry: auditmon_core::delivery::Retrying::default(),
        ..delivery()
    };
    let mut running = Running::one(agent.driver("busy", slow.clone()), sink);
    let down = Fake::new(Keeps::Cursor, |_| Act::Fail("down"));
    let down_log = down.log.clone();
    running.start(agent.driver("down", slow), down);
    eventually("handed over", || {
        !log.writes().is_empty() && !down_log.writes().is_empty()
    })
    .await;
    agent.drain.cancel();
    assert!(matches!(running.end("busy").await, DriverEnd::Stopped));
    assert!(matches!(running.end("down").await, DriverEnd::Stopped));
    assert_eq!(log.writes().len(), 1, "it asked for an hour");
    assert!(log.closed() && down_log.closed());
    assert_eq!(agent.position("busy"), Some(0));
}

#[tokio::test]
async fn a_journal_that_is_closed_first_is_no_end_of_the_sink() {
    let agent = Agent::new();
    agent.emit(3).await;
    let sink = healthy();
    let log = sink.log.clone();
    let mut life = agent.life("s", delivery(), sink);
    let mut run = std::pin::pin!(life.run());
    let mut poll = async || std::future::poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_ready())).await;
    while log.delivered().len() < 3 {
        assert!(!poll().await);
        tokio::task::yield_now().await;
    }
    let (journal, mut durable) = (agent.journal.clone(), agent.durable.clone());
    let close = tokio::task::spawn_blocking(move || journal.close(PATIENCE));
    assert!(close.await.unwrap());
    while durable.changed().await.is_ok() {}
    for _ in 0..100 {
        assert!(!poll().await, "nobody has told it to end");
        tokio::task::yield_now().await;
    }
    agent.drain.cancel();
    run.await.unwrap();
}
