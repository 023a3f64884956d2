//! The journal went on as a new generation: sinks that were behind are given first what is left of the former one.

use std::path::Path;

use auditmon_core::delivery::{Begin, Delivery};
use auditmon_core::emitter::Refused;
use auditmon_core::subscription::Events;
use auditmon_journal::{Gap, GapReason, Options};
use serde_json::json;

use super::harness::{Agent, Fake, Keeps, Log, Running, delivery, eventually, healthy, options, told_in};
use crate::driver::DriverEnd;

/// An agent that has accepted this many events, a frame each, and stopped; sinks `cursor` and `own` have had `seen` of them.
async fn stopped(dir: &Path, events: u64, seen: u64) -> Keeps {
    let agent = Agent::with(options(dir));
    let keeps = Keeps::own();
    let mut running = Running::none();
    for _ in 0..seen {
        agent.emit(1).await;
    }
    for (name, keeps) in [("cursor", Keeps::Cursor), ("own", keeps.clone())] {
        let sink = Fake::new(keeps, |_| super::harness::Act::Take);
        let log = sink.log.clone();
        running.start(agent.driver(name, delivery()), sink);
        log.await_delivered(seen as usize).await;
    }
    eventually("remembered", || agent.position("cursor") == Some(seen)).await;
    agent.abort.cancel();
    for name in ["cursor", "own"] {
        running.end(name).await;
    }
    for _ in seen..events {
        agent.emit(1).await;
    }
    assert!(agent.journal.close(std::time::Duration::from_secs(20)));
    keeps
}

/// Offsets of the frames of a generation's first segment.
fn frames(dir: &Path, generation: u32) -> Vec<usize> {
    let bytes = std::fs::read(segment(dir, generation)).unwrap();
    let mut at = 64;
    let mut found = Vec::new();
    while let Ok((head, _)) = auditmon_journal::format::parse_frame(&bytes[at..]) {
        if head.count > 0 {
            found.push(at);
        }
        at += head.len();
    }
    found
}

fn segment(dir: &Path, generation: u32) -> std::path::PathBuf {
    dir.join(format!("journal/{generation}/seg/00000000000000000000.seg"))
}

/// These records can't be read any more.
fn spoil(dir: &Path, seqs: &[usize]) {
    spoil_in(dir, 1, seqs);
}

/// The same of another generation, by their frames.
fn spoil_in(dir: &Path, generation: u32, seqs: &[usize]) {
    let path = segment(dir, generation);
    let mut bytes = std::fs::read(&path).unwrap();
    let frames = frames(dir, generation);
    for seq in seqs {
        bytes[frames[*seq] + 60] ^= 1;
    }
    std::fs::write(path, bytes).unwrap();
}

fn all(log: &Log) -> Vec<(u64, u64)> {
    log.by_generation()
}

async fn end(agent: &Agent, mut running: Running, names: &[&str]) {
    agent.abort.cancel();
    for name in names {
        assert!(matches!(running.end(name).await, DriverEnd::Stopped));
    }
    assert!(agent.journal.close(std::time::Duration::from_secs(20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_undelivered_comes_first_in_order_and_once_and_what_is_lost_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 9, 3).await;
    // The last one as well, which nothing but the checkpoint names.
    spoil(dir.path(), &[5, 8]);
    let agent = Agent::with(options(dir.path()));
    assert!(agent.journal.origin().ends_with("/gen/2"));
    agent.emit(2).await;
    let own = agent.journal.durable();
    let expected: Vec<(u64, u64)> = [3, 4, 6, 7]
        .map(|seq| (1, seq))
        .into_iter()
        .chain((0..own).map(|seq| (2, seq)))
        .collect();
    let mut running = Running::none();
    let mut logs = Vec::new();
    for (name, keeps) in [("cursor", Keeps::Cursor), ("own", keeps)] {
        let sink = Fake::new(keeps, |_| super::harness::Act::Take);
        logs.push((name, sink.log.clone()));
        running.start(agent.driver(name, delivery()), sink);
    }
    for (name, log) in &logs {
        log.await_delivered(expected.len()).await;
        assert_eq!(all(log)[..expected.len()], expected, "{name}");
        let gap = |seq| Gap {
            first: seq,
            last: seq,
            reason: GapReason::Damaged,
        };
        assert_eq!(log.gaps(), [gap(5), gap(8)], "{name}");
        let counted = agent.telemetry.sink_gaps.with_label_values(&[*name, "damaged"]).get();
        assert_eq!(counted, 2, "{name}");
        // The second is told a minute later.
        eventually("told", || {
            let mut told = agent.told().into_iter();
            told.any(|(event, data)| {
                let former = agent.journal.origin().trim_end_matches("/gen/2");
                event == "sink.gap"
                    && data["sink"] == *name
                    && data["ranges"] == json!([[5, 5]])
                    && data["former_origin"] == former
            })
        })
        .await;
    }
    eventually("its position is one of this generation", || {
        let position = agent.journal.read_position("cursor").unwrap().unwrap();
        position.origin == agent.journal.origin() && position.seq >= own
    })
    .await;
    end(&agent, running, &["cursor", "own"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_ends_in_a_former_generation_goes_on_there_and_holds_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 9, 3).await;
    spoil(dir.path(), &[1]);
    let small = Delivery {
        batch: auditmon_core::delivery::BatchLimits {
            events: 2,
            ..delivery().batch
        },
        ..delivery()
    };
    for (name, keeps) in [("cursor", Keeps::Cursor), ("own", keeps)] {
        let agent = Agent::with(options(dir.path()));
        let mut calls = 0;
        let sink = Fake::new(keeps.clone(), move |_| {
            calls += 1;
            match calls {
                1 => super::harness::Act::Take,
                _ => super::harness::Act::Fail("down"),
            }
        });
        let log = sink.log.clone();
        let running = Running::one(agent.driver(name, small.clone()), sink);
        eventually("handed over twice", || log.writes().len() >= 2).await;
        assert_eq!(all(&log), [(1, 3), (1, 4)], "{name}");
        assert_eq!(agent.journal.hold(name), Some(0), "{name}");
        let lag = agent.telemetry.sinks.state(name).lag(agent.journal.durable());
        assert_eq!(lag.0, agent.journal.durable() + 4, "{name}");
        end(&agent, running, &[name]).await;

        let agent = Agent::with(options(dir.path()));
        let sink = Fake::new(keeps, |_| super::harness::Act::Take);
        let log = sink.log.clone();
        let running = Running::one(agent.driver(name, small.clone()), sink);
        log.await_delivered(5).await;
        let expected = [(1, 5), (1, 6), (1, 7), (1, 8), (2, 0)];
        assert_eq!(all(&log)[..5], expected, "{name}");
        end(&agent, running, &[name]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_begins_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 3, 1).await;
    spoil(dir.path(), &[2]);
    let agent = Agent::with(options(dir.path()));
    let mut running = Running::none();
    let oldest = [("oldest", Keeps::Cursor), ("own-oldest", Keeps::own())];
    for (name, keeps) in oldest {
        let sink = Fake::new(keeps, |_| super::harness::Act::Take);
        let log = sink.log.clone();
        running.start(agent.driver(name, delivery()), sink);
        log.await_delivered(3).await;
        assert_eq!(all(&log)[..3], [(1, 0), (1, 1), (2, 0)], "{name}");
    }
    let head = Delivery {
        from: Begin::Head,
        ..delivery()
    };
    let sink = healthy();
    let log = sink.log.clone();
    running.start(agent.driver("head", head), sink);
    eventually("placed", || agent.position("head").is_some()).await;
    let next = agent.emit(1).await;
    log.await_delivered(1).await;
    assert_eq!(all(&log)[0].0, 2);
    assert!(all(&log)[0].1 <= next && all(&log)[0].1 > 0);
    end(&agent, running, &["oldest", "own-oldest", "head"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_written_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 9, 3).await;
    spoil(dir.path(), &[5]);
    let agent = Agent::with(options(dir.path()));
    agent.emit(3).await;
    // Where its next place would be written first.
    let beside = dir.path().join("positions/cursor.new");
    std::fs::create_dir(&beside).unwrap();
    let sink = healthy();
    let log = sink.log.clone();
    let running = Running::one(agent.driver("cursor", delivery()), sink);
    log.await_delivered(10).await;
    agent.emit(1).await;
    let durable = agent.journal.durable();
    eventually("the last", || {
        all(&log)
            .iter()
            .any(|(generation, seq)| (*generation, seq + 1) == (2, durable))
    })
    .await;
    let mut delivered = all(&log);
    delivered.sort_unstable();
    delivered.dedup();
    assert_eq!(delivered, all(&log), "each once, and in order");
    assert_eq!(agent.position("cursor"), Some(3), "still that of the former one");
    assert_eq!(agent.journal.hold("cursor"), Some(0), "which a start would go on from");
    std::fs::remove_dir(&beside).unwrap();
    agent.emit(1).await;
    eventually("written", || agent.journal.hold("cursor") > Some(0)).await;
    end(&agent, running, &["cursor"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_gone_of_the_next_generation_meanwhile_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 9, 3).await;
    spoil(dir.path(), &[5]);
    let small = auditmon_journal::Options {
        segment_size: 32 << 10,
        max_size: 256 << 10,
        keep_age: std::time::Duration::ZERO,
        ..options(dir.path())
    };
    let agent = Agent::with(small);
    let skip = Delivery {
        when_behind: auditmon_core::delivery::WhenBehind::Skip,
        ..delivery()
    };
    let mut running = Running::none();
    let (mut logs, mut releases) = (Vec::new(), Vec::new());
    for (name, keeps) in [("cursor", Keeps::Cursor), ("own", keeps)] {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let sink = Fake::new(keeps, move |_| {
            let _ = released.recv();
            super::harness::Act::Take
        });
        logs.push((name, sink.log.clone()));
        releases.push(release);
        running.start(agent.driver(name, skip.clone()), sink);
    }
    for (_, log) in &logs {
        eventually("handed over", || !log.writes().is_empty()).await;
    }
    agent.journal.set_hold("test", None);
    for _ in 0..200 {
        agent.emit(10).await;
    }
    drop(releases);
    for (name, log) in &logs {
        let durable = agent.journal.durable();
        eventually("the last", || {
            all(log)
                .iter()
                .any(|(generation, seq)| (*generation, seq + 1) >= (2, durable))
        })
        .await;
        let gaps = log.gaps();
        assert_eq!((gaps[0].first, gaps[0].reason), (5, GapReason::Damaged), "{name}");
        assert_eq!((gaps[1].first, gaps[1].reason), (0, GapReason::Expired), "{name}");
        let first = all(log).iter().find(|(generation, _)| *generation == 2).unwrap().1;
        assert!(first > 0, "{name}");
        let lost: u64 = gaps[1..]
            .iter()
            .take_while(|gap| gap.first < first)
            .map(|gap| gap.last - gap.first + 1)
            .sum();
        assert_eq!(lost, first, "{name}");
    }
    end(&agent, running, &["cursor", "own"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_lacks_of_a_generation_without_files_is_counted_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 9, 3).await;
    spoil(dir.path(), &[5]);
    let agent = Agent::with(options(dir.path()));
    let former = agent.journal.origin().trim_end_matches("/gen/2").to_owned();
    agent.emit(2).await;
    let own = agent.journal.durable();
    std::fs::remove_dir_all(dir.path().join("journal/1")).unwrap();
    let mut running = Running::none();
    for (name, keeps) in [("cursor", Keeps::Cursor), ("own", keeps)] {
        // The first life remembers nothing.
        let sink = Fake::new(keeps.clone(), |_| super::harness::Act::Broken("of wood"));
        running.start(agent.driver(name, delivery()), sink);
        assert!(matches!(running.end(name).await, DriverEnd::Failed(_)), "{name}");
        let sink = Fake::new(keeps, |_| super::harness::Act::Take);
        let log = sink.log.clone();
        running.start(agent.driver(name, delivery()), sink);
        log.await_delivered(own as usize).await;
        assert_eq!(all(&log)[0], (2, 0), "{name}");
        let counted = agent.telemetry.sink_gaps.with_label_values(&[name, "damaged"]).get();
        assert_eq!(counted, 6, "{name}: from 3 to 8");
        let gap = |(event, data): &(String, serde_json::Value)| {
            event == "sink.gap" && data["sink"] == name && data["former_origin"] == *former
        };
        let told = || agent.told().into_iter().filter(gap).collect::<Vec<_>>();
        eventually("told", || !told().is_empty()).await;
        assert_eq!(told().len(), 1, "{name}");
        assert_eq!(told()[0].1["ranges"], json!([[3, 8]]), "{name}");
    }
    end(&agent, running, &["cursor", "own"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_off_for_a_generation_that_is_gone_is_not_new() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 9, 3).await;
    spoil(dir.path(), &[5]);
    let agent = Agent::with(options(dir.path()));
    let between = agent.journal.origin().to_owned();
    for _ in 0..4 {
        agent.emit(1).await;
    }
    let lost = agent.journal.durable();
    assert!(agent.journal.close(std::time::Duration::from_secs(20)));
    spoil_in(dir.path(), 2, &[2]);
    let agent = Agent::with(options(dir.path()));
    assert!(agent.journal.origin().ends_with("/gen/3"), "{}", agent.journal.origin());
    std::fs::remove_dir_all(dir.path().join("journal/2")).unwrap();
    agent.emit(2).await;
    let own = agent.journal.durable();
    let sink = Fake::new(keeps, |_| super::harness::Act::Take);
    let log = sink.log.clone();
    let running = Running::one(agent.driver("own", delivery()), sink);
    log.await_delivered(own as usize).await;
    assert_eq!(all(&log)[0], (3, 0));
    let counted = agent.telemetry.sink_gaps.with_label_values(&["own", "damaged"]).get();
    assert_eq!(counted, lost);
    let told = agent
        .told()
        .into_iter()
        .find(|(event, _)| event == "sink.gap")
        .unwrap()
        .1;
    assert_eq!(told["former_origin"], between);
    assert_eq!(told["ranges"], json!([[0, lost - 1]]));
    end(&agent, running, &["own"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_its_own_goes_past_no_gap_before_the_journal_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 9, 3).await;
    spoil(dir.path(), &[4, 6]);
    let agent = Agent::with(options(dir.path()));
    let journal = agent.journal.clone();
    let (tell, given) = std::sync::mpsc::channel();
    let sink = Fake::new(keeps, move |events| {
        let gaps = told_in(&journal).into_iter().filter(|(event, _)| event == "sink.gap");
        let ranges = gaps.map(|(_, data)| data["ranges"].clone()).collect::<Vec<_>>();
        let first = events.iter().next().map(|event| event.seq);
        tell.send((events.origin().to_owned(), first, ranges)).unwrap();
        super::harness::Act::Take
    });
    let log = sink.log.clone();
    let running = Running::one(agent.driver("own", delivery()), sink);
    log.await_delivered(5).await;
    end(&agent, running, &["own"]).await;
    let given: Vec<_> = given
        .try_iter()
        .filter(|(origin, ..)| !origin.contains("/gen/"))
        .collect();
    let expected = [
        (Some(3), vec![]),
        (Some(5), vec![json!([[4, 4]])]),
        (Some(7), vec![json!([[4, 4]]), json!([[6, 6]])]),
    ];
    let given: Vec<_> = given.into_iter().map(|(_, first, ranges)| (first, ranges)).collect();
    assert_eq!(given, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_at_its_limit_takes_what_a_sink_lacks_before_the_sink_goes_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 6, 3).await;
    spoil(dir.path(), &[4]);
    let agent = Agent::with(Options {
        segment_size: 32 << 10,
        max_size: 256 << 10,
        ..options(dir.path())
    });
    while let Ok(seq) = agent.try_emit(10).await {
        assert!(seq < 10_000, "the limit was never reached");
    }
    let journal = agent.journal.clone();
    let (tell, given) = std::sync::mpsc::channel();
    let sink = Fake::new(keeps, move |events| {
        let told = told_in(&journal).into_iter().any(|(event, _)| event == "sink.gap");
        let first = events.iter().next().map(|event| event.seq);
        tell.send((first, told)).unwrap();
        super::harness::Act::Take
    });
    let log = sink.log.clone();
    let running = Running::one(agent.driver("own", delivery()), sink);
    log.await_delivered(2).await;
    assert_eq!(agent.try_emit(1).await, Err(Refused::SizeLimit), "others wait");
    end(&agent, running, &["own"]).await;
    let given: Vec<_> = given.try_iter().take(2).collect();
    assert_eq!(given, [(Some(3), false), (Some(5), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_counted_and_told_once_however_often_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = stopped(dir.path(), 9, 3).await;
    spoil(dir.path(), &[5]);
    let agent = Agent::with(options(dir.path()));
    let own = agent.journal.durable();
    let mut running = Running::none();
    for (name, keeps) in [("cursor", Keeps::Cursor), ("own", keeps)] {
        // Its position stays before the gap until the third attempt of its second life.
        let behind = |events: &Events| events.iter().next().is_some_and(|event| event.seq == 6);
        let sink = Fake::new(keeps.clone(), move |events| match behind(events) {
            true => super::harness::Act::Broken("of wood"),
            false => super::harness::Act::Take,
        });
        running.start(agent.driver(name, delivery()), sink);
        assert!(matches!(running.end(name).await, DriverEnd::Failed(_)), "{name}");
        let mut failures = 2;
        let sink = Fake::new(keeps, move |events| {
            if behind(events) && failures > 0 {
                failures -= 1;
                return super::harness::Act::Fail("down");
            }
            super::harness::Act::Take
        });
        let log = sink.log.clone();
        running.start(agent.driver(name, delivery()), sink);
        log.await_delivered(3 + own as usize).await;
        assert_eq!(all(&log)[..3], [(1, 6), (1, 7), (1, 8)], "{name}");
        assert!(!log.gaps().is_empty(), "{name}: it was found again");
        let counted = agent.telemetry.sink_gaps.with_label_values(&[name, "damaged"]).get();
        assert_eq!(counted, 1, "{name}");
    }
    end(&agent, running, &["cursor", "own"]).await;
    // Where one is told at once the second would have been, too.
    let told = agent.told();
    let told = told
        .iter()
        .filter(|(event, data)| event == "sink.gap" && data["sink"] == "own");
    assert_eq!(told.count(), 1);
}
