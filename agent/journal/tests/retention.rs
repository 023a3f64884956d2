//! What goes when, and what is said before.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::Duration;

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
