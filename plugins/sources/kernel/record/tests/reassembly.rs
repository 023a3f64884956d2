//! How events end, what limits do, and that interleaving does not matter.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::collections::{BTreeMap, HashMap, VecDeque};

use audit_record::{Event, Limits, Reassembler, RecordType, Stamp, header};
use common::{FILES, Line, SECOND, join, load};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn record(serial: u32, body: &str) -> Vec<u8> {
    format!("audit(100.000:{serial}): {body}").into_bytes()
}

fn push(reassembler: &mut Reassembler, kind: RecordType, serial: u32, at: u64) -> Vec<Event> {
    reassembler.push(kind, &record(serial, "pid=1"), at).unwrap();
    drain(reassembler)
}

fn drain(reassembler: &mut Reassembler) -> Vec<Event> {
    std::iter::from_fn(|| reassembler.pop()).collect()
}

fn new() -> Reassembler {
    Reassembler::new(Limits::default())
}

#[test]
fn the_end_completes() {
    let mut r = new();
    assert!(push(&mut r, RecordType::SYSCALL, 1, 5).is_empty());
    assert_eq!((r.open(), r.next_deadline()), (1, Some(5 + 2 * SECOND)));
    let events = push(&mut r, RecordType::EOE, 1, 7);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].first_arrival, events[0].last_arrival), (5, 7));
    assert!(!events[0].incomplete && !events[0].late);
    assert_eq!((r.open(), r.bytes(), r.next_deadline()), (0, 0, None));
}

#[test]
fn user_messages_complete_at_once() {
    let mut r = new();
    for kind in [1005, 1100, 1121, 1299, 2000, 2100, 2999] {
        assert_eq!(push(&mut r, RecordType(kind), u32::from(kind), 0).len(), 1);
    }
    assert_eq!(r.open(), 0);
}

#[test]
fn timeouts_go_by_the_last_arrival() {
    let mut r = new();
    push(&mut r, RecordType::SYSCALL, 1, 0);
    push(&mut r, RecordType::CWD, 1, 1_500 * MS);
    r.expire(3_499 * MS);
    assert!(drain(&mut r).is_empty());
    r.expire(3_500 * MS);
    let events = drain(&mut r);
    assert!(events[0].incomplete);

    // PROCTITLE shortens the wait; without EOE the event counts as incomplete,
    let mut r = new();
    push(&mut r, RecordType::SYSCALL, 1, 0);
    push(&mut r, RecordType::PROCTITLE, 1, 0);
    assert_eq!(r.next_deadline(), Some(500 * MS));
    r.expire(500 * MS);
    assert!(drain(&mut r)[0].incomplete);

    // unless a rule excludes EOE.
    let mut r = Reassembler::new(Limits {
        expect_eoe: false,
        ..Limits::default()
    });
    push(&mut r, RecordType::SYSCALL, 1, 0);
    push(&mut r, RecordType::PROCTITLE, 1, 0);
    r.expire(500 * MS);
    assert!(!drain(&mut r)[0].incomplete);

    // Another record's arrival ends what is due.
    let mut r = new();
    push(&mut r, RecordType::SECCOMP, 1, 0);
    assert_eq!(r.next_deadline(), Some(200 * MS));
    let events = push(&mut r, RecordType::USER_AUTH, 2, 200 * MS);
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| !event.incomplete));
}

#[test]
fn a_clock_that_steps_back_does_no_harm() {
    let mut r = new();
    push(&mut r, RecordType::SYSCALL, 1, 10 * SECOND);
    push(&mut r, RecordType::SYSCALL, 2, 0);
    assert_eq!(r.next_deadline(), Some(12 * SECOND));
    r.expire(12 * SECOND);
    assert_eq!(drain(&mut r).len(), 2);
}

#[test]
fn a_short_event_waits_longer_once_a_call_joins_it() {
    let mut r = new();
    push(&mut r, RecordType::CONFIG_CHANGE, 1, 0);
    push(&mut r, RecordType::SYSCALL, 1, 100 * MS);
    assert_eq!(r.next_deadline(), Some(2_100 * MS));
    let events = push(&mut r, RecordType::EOE, 1, 300 * MS);
    assert_eq!(events[0].len(), 3);
}

#[test]
fn lost_heads_are_noticed() {
    for kind in [
        RecordType::PATH,
        RecordType::CWD,
        RecordType::PROCTITLE,
        RecordType::EOE,
    ] {
        let mut r = new();
        let mut events = push(&mut r, kind, 1, 0);
        r.flush();
        events.extend(drain(&mut r));
        assert!(events[0].incomplete, "{kind}");
    }
    for kind in [RecordType::LOGIN, RecordType::CONFIG_CHANGE, RecordType(1400)] {
        let mut r = new();
        push(&mut r, kind, 1, 0);
        r.flush();
        assert!(!drain(&mut r)[0].incomplete, "{kind}");
    }
}

#[test]
fn stragglers_are_late_and_do_not_open_the_event_again() {
    let mut r = new();
    push(&mut r, RecordType::SYSCALL, 1, 0);
    r.expire(3 * SECOND);
    assert_eq!(drain(&mut r).len(), 1);
    push(&mut r, RecordType::CWD, 1, 3 * SECOND);
    push(&mut r, RecordType::PATH, 1, 3 * SECOND);
    let events = push(&mut r, RecordType::EOE, 1, 3 * SECOND);
    assert_eq!(events.len(), 1);
    assert!(events[0].late && !events[0].incomplete);
    assert_eq!(events[0].len(), 3);
    // An end alone says nothing.
    assert!(push(&mut r, RecordType::EOE, 1, 4 * SECOND).is_empty());
    assert_eq!(r.stats().late_ends, 1);
    // After ten seconds the stamp is forgotten.
    let events = push(&mut r, RecordType::SYSCALL, 1, 20 * SECOND);
    assert!(events.is_empty());
    assert!(!push(&mut r, RecordType::EOE, 1, 20 * SECOND)[0].late);
}

#[test]
fn unreadable_heads_come_through() {
    let mut r = new();
    assert_eq!(r.push(RecordType(1999), b"what is this", 1), None);
    let events = drain(&mut r);
    assert!(events[0].unstamped);
    assert_eq!(events[0].record(0).unwrap().body, b"what is this");
    assert_eq!((events[0].stamp, r.stats().unreadable), (Stamp::default(), 1));
    assert_eq!(common::strict(&common::json(&events[0]))["unstamped"], true);
}

#[test]
fn the_number_of_open_events_is_limited() {
    let mut r = Reassembler::new(Limits {
        max_open: 10,
        ..Limits::default()
    });
    let mut events = Vec::new();
    for serial in 0..100 {
        events.extend(push(&mut r, RecordType::SYSCALL, serial, u64::from(serial)));
        assert!(r.open() <= 10);
    }
    assert_eq!(events.len(), 90);
    assert!(events.iter().all(|event| event.incomplete));
    let order: Vec<_> = events.iter().map(|event| event.stamp.serial).collect();
    assert_eq!(order, (0..90).collect::<Vec<_>>(), "the oldest goes first");
    assert_eq!(r.stats().evicted, 90);
}

#[test]
fn memory_is_limited() {
    let mut r = Reassembler::new(Limits {
        max_bytes: 1 << 20,
        ..Limits::default()
    });
    let long = record(7, &"x".repeat(8_000));
    let mut given = 0;
    for serial in 0..5_000 {
        let payload = [record(serial, "").as_slice(), &long].concat();
        r.push(RecordType::CWD, &payload, 0);
        assert!(r.bytes() <= (1 << 20) + (64 << 10), "{}", r.bytes());
        given += drain(&mut r).len();
    }
    assert!(given > 4_800);
}

#[test]
fn an_event_is_limited() {
    let mut r = new();
    let body = "x".repeat(1_000);
    push(&mut r, RecordType::SYSCALL, 1, 0);
    for _ in 0..10_000 {
        r.push(RecordType(1318), &record(1, &body), 0);
    }
    let event = push(&mut r, RecordType::EOE, 1, 0).remove(0);
    let truncated = event.truncated.unwrap();
    assert_eq!(truncated.records, 10_002);
    assert!(truncated.bytes > 10_000_000);
    assert!(event.records().map(|record| record.payload.len()).sum::<usize>() <= 256 << 10);
    let value = common::strict(&common::json(&event));
    assert_eq!(value["records_truncated"]["records"], 10_002);

    // An event that never ends ends.
    let mut r = new();
    let mut events = Vec::new();
    for second in 0..60 {
        events.extend(push(&mut r, RecordType(1318), 1, second * SECOND));
    }
    assert!(!events.is_empty());
}

#[test]
fn buffers_are_used_again() {
    let lines = load("exec-storm.log");
    let mut r = new();
    for (kind, payload) in &lines {
        r.push(*kind, payload, 0);
        while let Some(event) = r.pop() {
            r.recycle(event);
        }
    }
    // A recycled buffer shows nothing of the event before.
    let events = push(&mut r, RecordType::USER_AUTH, 9, 0);
    assert_eq!(events[0].len(), 1);
    assert_eq!(events[0].record(0).unwrap().payload, record(9, "pid=1"));
    assert!(events[0].truncated.is_none() && !events[0].late);
}

/// What an event is, apart from when it came.
type Content = (Vec<Line>, bool);

fn content(events: &[Event]) -> BTreeMap<Stamp, Content> {
    let map: BTreeMap<_, _> = events
        .iter()
        .map(|event| {
            let lines = event
                .records()
                .map(|record| (record.kind, record.payload.to_vec()))
                .collect();
            (event.stamp, (lines, event.incomplete))
        })
        .collect();
    assert_eq!(map.len(), events.len(), "an event came in two parts");
    map
}

/// Shuffles records between events, keeping the order within each; at most `width` at once.
fn shuffle(lines: &[Line], width: usize, picks: &[u16]) -> Vec<Line> {
    let mut places: HashMap<Stamp, usize> = HashMap::new();
    let mut events: Vec<VecDeque<Line>> = Vec::new();
    for (kind, payload) in lines {
        let stamp = header::parse(payload).unwrap().0;
        let place = *places.entry(stamp).or_insert_with(|| {
            events.push(VecDeque::new());
            events.len() - 1
        });
        events[place].push_back((*kind, payload.clone()));
    }
    let mut waiting = events.into_iter();
    let mut open: Vec<VecDeque<Line>> = waiting.by_ref().take(width).collect();
    let mut picks = picks.iter().cycle();
    let mut shuffled = Vec::new();
    while !open.is_empty() {
        let at = usize::from(*picks.next().unwrap()) % open.len();
        shuffled.extend(open[at].pop_front());
        if open[at].is_empty() {
            open.swap_remove(at);
            open.extend(waiting.next());
        }
    }
    shuffled
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn interleaving_does_not_matter(
        file in proptest::sample::select(FILES.iter().map(|(file, _)| *file).collect::<Vec<_>>()),
        width in 1..300_usize,
        picks in proptest::collection::vec(any::<u16>(), 1..500),
    ) {
        let lines = load(file);
        let shuffled = shuffle(&lines, width, &picks);
        prop_assert_eq!(lines.len(), shuffled.len());
        let (expected, found) = (content(&join(&lines)), content(&join(&shuffled)));
        prop_assert!(expected == found, "{}", file);
    }
}
