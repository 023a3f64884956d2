//! What goes when, and what is said before.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::Duration;

use auditmon_journal::bare::{Core, Submission, Time};
use auditmon_journal::format::Kind;
use auditmon_journal::{Gap, GapReason, Options, PauseReason, RealFs, Refused, fsck};
use common::{Journal, event, files, options, wait_for};

fn eager(dir: &Path) -> Options {
    let mut options = options(dir);
    options.keep_age = Duration::ZERO;
    options
}

fn fill(journal: &Journal, segments: usize, dir: &Path) {
    let text = "x".repeat(900);
    for _ in 0..200 {
        if files(dir, ".leaf").len() >= segments {
            return;
        }
        journal.submit(event(&text)).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{segments} segments were never sealed");
}

#[test]
fn payloads_go_behind_the_holds_and_leaves_stay() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::held(eager(dir.path()));
    fill(&journal, 3, dir.path());
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(files(dir.path(), ".seg")[0], 0, "held");

    let second = files(dir.path(), ".seg")[1];
    let third = files(dir.path(), ".seg")[2];
    journal.handle.set_hold("other", Some(u64::MAX));
    journal.handle.set_hold("sink", Some(third + 1));
    wait_for("the first two to go", || files(dir.path(), ".seg")[0] == third);
    assert!(files(dir.path(), ".leaf").starts_with(&[0, second, third]));
    let reason = GapReason::Expired;
    let (records, gaps) = journal.read(0);
    assert_eq!(
        gaps,
        [Gap {
            first: 0,
            last: third - 1,
            reason
        }]
    );
    let note = records.iter().find(|(_, kind, _)| *kind == Kind::Agent);
    let text = String::from_utf8(note.unwrap().2.clone()).unwrap();
    assert_eq!(
        text,
        format!("Retention {{ first: 0, last: {}, segments: 2 }}", third - 1)
    );
    assert_eq!(journal.handle.status().oldest_payload, third);
    assert!(journal.handle.leaf_hash_before(1).is_some(), "its leaf is there");
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
    let journal = Journal::with(RealFs, options(dir.path()));
    assert_eq!(journal.read(0).1[0].last, third - 1);
    journal.close();
}

#[test]
fn size_counts_where_it_keeps_less_than_age() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.keep_size = 20_000;
    let journal = Journal::with(RealFs, options);
    for _ in 0..80 {
        journal.submit(event(&"x".repeat(900))).unwrap();
    }
    wait_for("old ones to go", || files(dir.path(), ".seg")[0] > 0);
    wait_for("what is kept to be small", || {
        let kept = files(dir.path(), ".seg").len();
        assert!(kept >= 3, "at least keep_size stays");
        kept <= 4
    });
    journal.close();
}

#[test]
fn the_size_limit_blocks_until_a_sink_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_size = 40_000;
    let journal = Journal::with(RealFs, options);
    journal.handle.set_hold("store", Some(0));
    let text = "x".repeat(900);
    let mut accepted = 0;
    let refused = loop {
        match journal.submit(event(&text)) {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 100);
    };
    assert_eq!(refused, Refused::SizeLimit);
    assert_eq!(journal.handle.status().paused, Some(PauseReason::SizeLimit));
    assert_eq!(journal.texts().len(), accepted, "reading goes on");
    assert!(journal.handle.status().bytes <= 40_000 + 2048);
    journal.handle.set_hold("store", Some(u64::MAX));
    wait_for("room again", || journal.submit(event(&text)).is_ok());
    assert!(
        journal
            .texts_of(Kind::Agent)
            .iter()
            .any(|note| note == "Resumed(SizeLimit)")
    );
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
}

#[test]
fn at_the_size_limit_a_sink_that_yields_loses_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_size = 40_000;
    options.keep_age = Duration::ZERO;
    let journal = Journal::with(RealFs, options);
    journal.handle.set_yielding_hold("hook", Some(0));
    let text = "x".repeat(900);
    fill(&journal, 2, dir.path());
    // Retention has looked at it meanwhile: until the limit is reached it is held.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(files(dir.path(), ".seg")[0], 0, "held");

    for _ in 0..200 {
        // Only what is sealed can go, and another thread seals.
        wait_for("room", || journal.submit(event(&text)).is_ok());
        assert!(journal.handle.status().bytes <= 40_000 + 2048);
    }
    let oldest = journal.handle.status().oldest_payload;
    let (records, gaps) = journal.read(0);
    let reason = GapReason::Expired;
    assert_eq!(
        gaps,
        [Gap {
            first: 0,
            last: oldest - 1,
            reason
        }]
    );
    assert_eq!(
        records.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(),
        (oldest..journal.handle.durable()).collect::<Vec<_>>()
    );
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
}

#[test]
fn beside_a_sink_that_blocks_one_that_yields_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_size = 40_000;
    let journal = Journal::with(RealFs, options);
    journal.handle.set_yielding_hold("hook", Some(0));
    journal.handle.set_hold("store", Some(12));
    let text = "x".repeat(900);
    // What is to go is signed first, so it may be refused for a moment before.
    wait_for("what only `hook` needs is gone", || {
        while journal.submit(event(&text)).is_ok() {}
        journal.handle.status().oldest_payload > 0
    });
    let refused = (0..100).find_map(|_| journal.submit(event(&text)).err());
    assert_eq!(refused, Some(Refused::SizeLimit));
    let oldest = journal.handle.status().oldest_payload;
    assert!(oldest <= 12, "the other sink's are left: {oldest}");
    // A name has one hold: the sink now blocks nothing.
    journal.handle.set_yielding_hold("store", Some(12));
    wait_for("room again", || journal.submit(event(&text)).is_ok());
    journal.close();
}

#[test]
fn bytes_that_wait_are_estimated() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::held(options(dir.path()));
    assert_eq!(journal.handle.bytes_from(0), 0);
    fill(&journal, 3, dir.path());
    let durable = journal.handle.durable();
    let per_record = 900 + 59 + 28;
    for seq in 0..=durable {
        let bytes = journal.handle.bytes_from(seq);
        let about = (durable - seq) * per_record;
        // Segments have heads.
        assert!(
            bytes.abs_diff(about) <= 2_000 + about / 10,
            "{seq}: {bytes}, about {about}"
        );
        assert!(bytes >= journal.handle.bytes_from(seq + 1));
    }
    assert_eq!(journal.handle.bytes_from(durable), 0);
    journal.close();
}

/// A core at its size limit whose oldest segment is sealed and needed by nobody, and the time.
fn at_its_limit(dir: &Path) -> (Core, Time) {
    let mut options = options(dir);
    options.max_size = 40_000;
    let (writer, _) = auditmon_journal::open(RealFs, options).unwrap();
    let mut core = writer.into_core();
    let mut now = Time {
        wall_ns: common::now_ns(),
        mono_ns: 1,
    };
    let text = "x".repeat(900);
    for _ in 0..100 {
        let submission = Submission {
            records: event(&text),
            done: Box::new(|_| {}),
            since_ns: now.mono_ns,
            own: false,
        };
        core.commit([submission], now);
        core.seal_all(now);
        if core.paused() == Some(PauseReason::SizeLimit) {
            return (core, now);
        }
        now.mono_ns += 1_000_000;
    }
    panic!("the limit was never reached");
}

#[test]
fn at_the_size_limit_too_nothing_goes_before_it_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut core, mut now) = at_its_limit(dir.path());
    now.mono_ns += 1_000_000_000;
    core.maintain(now);
    assert_eq!(files(dir.path(), ".seg")[0], 0, "said, and not signed");
    assert_eq!(core.paused(), Some(PauseReason::SizeLimit));
    assert!(core.checkpoint(now));
    now.mono_ns += 1_000_000_000;
    core.maintain(now);
    let signed = core.newest_checkpoint().unwrap().size;
    let oldest = files(dir.path(), ".seg")[0];
    assert!(oldest > 0 && oldest < signed, "{oldest} of {signed}");
    assert_eq!(core.paused(), None);
    core.close(now);
}

#[test]
fn what_must_not_wait_for_room_is_stored_at_the_size_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (mut core, now) = at_its_limit(dir.path());
    let submit = |core: &mut Core, own, text: &str| {
        let (done, fate) = std::sync::mpsc::channel();
        let submission = Submission {
            records: event(text),
            done: Box::new(move |answer| done.send(answer).unwrap()),
            since_ns: now.mono_ns,
            own,
        };
        core.commit([submission], now);
        fate.recv().unwrap()
    };
    // More than is left of any segment.
    for _ in 0..20 {
        submit(&mut core, true, &"y".repeat(900)).unwrap();
        assert_eq!(submit(&mut core, false, "z"), Err(Refused::SizeLimit));
    }
    core.close(now);
}

#[test]
fn a_signature_that_cannot_be_had_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (mut core, mut now) = at_its_limit(dir.path());
    std::fs::create_dir(dir.path().join("journal/1/checkpoint.new")).unwrap();
    let mut waited = 0;
    while core.paused().is_some() {
        assert!(!core.checkpoint(now));
        now.mono_ns += 1_000_000_000;
        waited += 1;
        core.maintain(now);
        assert!(waited < 20, "for ever");
    }
    assert!((4..=7).contains(&waited), "{waited} s");
    assert!(core.newest_checkpoint().is_none());
    assert!(files(dir.path(), ".seg")[0] > 0);
    core.close(now);
}
