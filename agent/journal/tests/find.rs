//! Events are found by id wherever they are, whatever the clock said.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::Duration;

use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{Handle, Options, Place, RealFs, Records, Search};
use common::{Journal, files, flip, options, seg, wait_for};

/// 2026-01-01T00:00:00Z, in ms.
const T0: u64 = 1_767_225_600_000;
const HOUR: u64 = 3_600_000;
/// More than all journals here have.
const ALL: u64 = 1 << 30;

/// An id as sources make them.
fn id(millis: u64, n: u8) -> [u8; 16] {
    let mut id = [n; 16];
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    id[6] = 0x70;
    id[8] = 0x80;
    id
}

fn received(millis: u64) -> u64 {
    millis * 1_000_000 + 5
}

fn push(records: &mut Records, id: [u8; 16], millis: u64) {
    let prefix = Prefix {
        event_id: id,
        received_ns: received(millis),
        kind: Kind::Application,
        source: source_hash("app"),
    };
    records.push(&prefix, [2; 16], |out| out.extend([b'x'; 900])).unwrap();
}

/// Writes an event a time, a frame each; gives each event's time and place.
fn write(journal: &Journal, times: impl IntoIterator<Item = u64>) -> Vec<(u64, Place)> {
    times
        .into_iter()
        .map(|millis| {
            let mut records = Records::new();
            push(&mut records, id(millis, 1), millis);
            let seq = journal.submit(records).unwrap().first_seq;
            let received_ns = received(millis);
            (
                millis,
                Place {
                    seq,
                    received_ns,
                    kind: Kind::Application,
                },
            )
        })
        .collect()
}

fn find(handle: &Handle, id: &[u8; 16]) -> Search {
    handle.find_event(id, ALL).unwrap()
}

#[track_caller]
fn all_are_found(handle: &Handle, events: &[(u64, Place)]) {
    for (millis, place) in events {
        assert_eq!(find(handle, &id(*millis, 1)), Search::Found(*place), "{millis}");
    }
}

/// Times one second after the other.
fn seconds(n: u64) -> impl Iterator<Item = u64> {
    (0..n).map(|n| T0 + n * 1000)
}

/// Events in three sealed segments at least, and in one that isn't.
fn filled(dir: &Path, options: Options) -> (Journal, Vec<(u64, Place)>) {
    let journal = Journal::held(options);
    let events = write(&journal, seconds(30));
    wait_for("all but the newest to be sealed", || {
        files(dir, ".seg").len() == files(dir, ".leaf").len() + 1
    });
    assert!(files(dir, ".leaf").len() >= 3);
    (journal, events)
}

#[test]
fn in_sealed_segments_and_in_the_newest_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, events) = filled(dir.path(), options(dir.path()));
    let newest = *files(dir.path(), ".seg").last().unwrap();
    assert!(events.last().unwrap().1.seq >= newest && events[0].1.seq < newest);
    all_are_found(&journal.handle, &events);
    journal.close();
    let journal = Journal::held(options(dir.path()));
    all_are_found(&journal.handle, &events);
    journal.close();
}

#[test]
fn after_their_payloads_went() {
    let dir = tempfile::tempdir().unwrap();
    let mut eager = options(dir.path());
    eager.keep_age = Duration::ZERO;
    let (journal, events) = filled(dir.path(), eager);
    journal.handle.set_hold("sink", None);
    wait_for("all but the newest segment to go", || {
        files(dir.path(), ".seg").len() == 1
    });
    let oldest = journal.handle.status().oldest_payload;
    assert!(events.iter().filter(|(_, place)| place.seq < oldest).count() > 20);
    all_are_found(&journal.handle, &events);
    journal.close();
    let journal = Journal::with(RealFs, options(dir.path()));
    all_are_found(&journal.handle, &events);
    journal.close();
}

#[test]
fn each_of_a_frame_has_its_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let mut records = Records::new();
    for n in 0..3 {
        push(&mut records, id(T0, n), T0);
    }
    let first = journal.submit(records).unwrap().first_seq;
    for n in 0..3 {
        let place = Place {
            seq: first + u64::from(n),
            received_ns: received(T0),
            kind: Kind::Application,
        };
        assert_eq!(find(&journal.handle, &id(T0, n)), Search::Found(place));
    }
    journal.close();
}

#[test]
fn what_is_no_event_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = filled(dir.path(), options(dir.path()));
    let state = id(T0 + 5000, 9);
    let mut records = Records::new();
    records
        .push_state("app", state, received(T0 + 5000), [4; 16], b"k", 0, b"v")
        .unwrap();
    journal.submit(records).unwrap();
    let mut other_version = id(T0 + 5000, 1);
    other_version[6] = 0x40;
    for restarted in [false, true] {
        let journal = if restarted {
            Journal::open(dir.path())
        } else {
            Journal {
                handle: journal.handle.clone(),
                opened: journal.opened.clone(),
            }
        };
        for unknown in [
            id(T0 + 5000, 2),
            id(T0 - HOUR, 1),
            id(T0 + HOUR, 1),
            id(0, 1),
            id((1 << 48) - 1, 1),
            state,
            other_version,
        ] {
            assert_eq!(find(&journal.handle, &unknown), Search::Absent, "{unknown:?}");
        }
        journal.close();
    }
}

#[test]
fn a_clock_that_was_wrong_for_a_while_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::held(options(dir.path()));
    // Behind, ahead, and right again, each within one segment and beyond it.
    let wrong = |n: u64| match n % 16 {
        3 => T0 - HOUR + n,
        4..6 => T0 + HOUR + n,
        _ => T0 + n * 1000,
    };
    let events = write(&journal, (0..40).map(wrong));
    wait_for("all but the newest to be sealed", || {
        files(dir.path(), ".seg").len() == files(dir.path(), ".leaf").len() + 1
    });
    all_are_found(&journal.handle, &events);
    journal.close();
    let journal = Journal::open(dir.path());
    all_are_found(&journal.handle, &events);
    // By now much of it was looked through, which must not hide anything either.
    all_are_found(&journal.handle, &events);
    assert_eq!(find(&journal.handle, &id(T0, 2)), Search::Absent);
    all_are_found(&journal.handle, &events);
    journal.close();
}

#[test]
fn behind_damage_too() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::held(options(dir.path()));
    let mut events = write(&journal, seconds(2));
    // Damaged before it could be sealed: it never gets its leaves.
    flip(&seg(dir.path(), 0), 200);
    events.extend(write(&journal, seconds(30).skip(2)));
    wait_for("the damage to be told", || {
        journal
            .texts_of(Kind::Agent)
            .iter()
            .any(|note| note.starts_with("Damage"))
    });
    assert_eq!(find(&journal.handle, &id(T0, 1)), Search::Absent, "it can't be read");
    all_are_found(&journal.handle, &events[1..]);
    journal.close();
}

#[test]
fn a_search_that_may_read_little_comes_further_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, events) = filled(dir.path(), options(dir.path()));
    let unfinished = |handle: &Handle, id: &[u8; 16], most: usize| {
        let mut calls = 0;
        loop {
            match handle.find_event(id, 0).unwrap() {
                Search::Unfinished => calls += 1,
                search => return (calls, search),
            }
            assert!(calls <= most, "no end");
        }
    };
    // What was sealed in this run is known without reading.
    let (millis, place) = events[0];
    let found = unfinished(&journal.handle, &id(millis, 1), 0);
    assert_eq!(found, (0, Search::Found(place)));
    journal.close();

    let journal = Journal::open(dir.path());
    let sealed = files(dir.path(), ".leaf").len();
    let most = 2 * sealed;
    for time in [T0 + HOUR, T0 + 5000] {
        let (calls, search) = unfinished(&journal.handle, &id(time, 2), most);
        assert_eq!(search, Search::Absent);
        if time == T0 + HOUR {
            assert!(calls >= sealed, "{calls} calls for {sealed} segments");
        } else {
            assert_eq!(calls, 0, "everything was looked through");
        }
    }
    let (calls, search) = unfinished(&journal.handle, &id(millis, 1), 0);
    assert_eq!((calls, search), (0, Search::Found(place)));
    journal.close();
}
