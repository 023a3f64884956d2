use std::os::unix::fs::PermissionsExt as _;

use auditmon_core::delivery::RefusedEvent;
use auditmon_core::event::Draft;
use auditmon_core::{Batch as Records_, Kind};

use super::*;

fn events(first: u64, n: usize) -> Events {
    let mut batch = Records_::detached("ingest", Kind::Application, "h", "billing");
    for _ in 0..n {
        batch.push(Draft::new("login", "alïce \"x\"")).unwrap();
    }
    Events::of_batch("h/00", first, batch)
}

fn refuse(letters: &mut DeadLetters, events: &Events) -> u64 {
    let refused: Vec<_> = events
        .iter()
        .map(|event| RefusedEvent {
            seq: event.seq,
            reason: "400 Bad\nRequest".to_owned(),
        })
        .collect();
    letters.append(events, &refused, |_| false).unwrap()
}

fn seqs(data_dir: &Path) -> Vec<Option<u64>> {
    let mut seqs = Vec::new();
    list(data_dir, "hook.a", |letter| {
        seqs.push(letter.map(|letter| letter.seq));
        Ok(())
    })
    .unwrap();
    assert_eq!(count(data_dir, "hook.a").unwrap(), seqs.len() as u64);
    seqs
}

fn chunks(letters: &mut DeadLetters, max_events: usize) -> Vec<Vec<u64>> {
    let mut replay = letters.replay().unwrap().unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = letters.next(&replay, max_events, usize::MAX).unwrap() {
        all.push(chunk.events.iter().map(|event| event.seq).collect());
        letters.done(&mut replay, &chunk, |_| false).unwrap();
    }
    letters.end(&replay).unwrap();
    all
}

#[test]
fn a_letter_is_one_line_that_only_its_owner_reads() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    let events = events(7, 2);
    assert_eq!(refuse(&mut letters, &events), 0);
    let path = dir.path().join("dlq/hook.a.jsonl");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    for name in [
        "seq",
        "origin",
        "event_id",
        "reason",
        "time",
        "received_time",
        "salt",
        "event",
        "crc",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let event = events.iter().next().unwrap();
    assert_eq!((&line["seq"], &line["origin"]), (&7.into(), &"h/00".into()));
    assert_eq!(line["event_id"], event.id.to_string());
    assert_eq!(line["reason"], "400 Bad\nRequest");
    assert!(
        text.contains(std::str::from_utf8(event.canonical).unwrap()),
        "canonical"
    );
    assert_eq!(sinks(dir.path()).unwrap(), ["hook.a"]);
}

#[test]
fn letters_of_before_the_checksum_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    refuse(&mut letters, &events(7, 2));
    let path = dir.path().join("dlq/hook.a.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let old: String = text
        .lines()
        .map(|line| format!("{}}}\n", line.rsplit_once(",\"crc\":").unwrap().0))
        .collect();
    std::fs::write(&path, old).unwrap();
    assert_eq!(seqs(dir.path()), [Some(7), Some(8)]);
    assert_eq!(request_replay(dir.path(), "hook.a", &[]).unwrap(), 2);
    assert_eq!(chunks(&mut letters, 10), [[7, 8]]);
}

#[test]
fn what_is_replayed_is_the_event_as_the_journal_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    let events = events(7, 3);
    refuse(&mut letters, &events);
    assert_eq!(request_replay(dir.path(), "hook.a", &[]).unwrap(), 3);
    let replay = letters.replay().unwrap().unwrap();
    let chunk = letters.next(&replay, 10, usize::MAX).unwrap().unwrap();
    assert_eq!(chunk.events.origin(), "h/00");
    for (again, event) in chunk.events.iter().zip(events.iter()) {
        assert_eq!(
            (
                again.seq,
                again.id,
                again.received,
                again.kind,
                again.salt,
                again.canonical
            ),
            (
                event.seq,
                event.id,
                event.received,
                event.kind,
                event.salt,
                event.canonical
            )
        );
    }
    assert_eq!(chunk.events.end(), events.end(), "the same leaf");
}

#[test]
fn a_line_that_a_crash_left_unfinished_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    refuse(&mut DeadLetters::new(dir.path(), "hook.a"), &events(7, 2));
    let path = dir.path().join("dlq/hook.a.jsonl");
    let whole = std::fs::read(&path).unwrap();
    for torn in [1, 100_000] {
        let mut bytes = whole.clone();
        bytes.extend(vec![b'x'; torn]);
        std::fs::write(&path, &bytes).unwrap();
        let mut letters = DeadLetters::new(dir.path(), "hook.a");
        refuse(&mut letters, &events(9, 1));
        assert_eq!(seqs(dir.path()), [Some(7), Some(8), Some(9)]);
    }
    // Nothing but the beginning of the first.
    std::fs::write(&path, "{\"seq\":").unwrap();
    refuse(&mut DeadLetters::new(dir.path(), "hook.a"), &events(9, 1));
    assert_eq!(seqs(dir.path()), [Some(9)]);
}

#[test]
fn a_full_file_makes_room_and_says_what_that_cost() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a").with_max_file(2_000);
    let mut dropped = 0;
    for n in 0..30 {
        dropped += refuse(&mut letters, &events(n, 1));
    }
    let kept = seqs(dir.path());
    assert_eq!(kept.len() as u64 + dropped, 30, "none is uncounted");
    assert_eq!(kept, (dropped..30).map(Some).collect::<Vec<_>>(), "the newest stay");
    assert!(dropped > 0);
    for name in ["hook.a.jsonl", "hook.a.1.jsonl"] {
        assert!(dir.path().join("dlq").join(name).metadata().unwrap().len() < 3_000);
    }
}

#[test]
fn all_or_some_are_replayed_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a").with_max_file(2_000);
    for n in 0..6 {
        refuse(&mut letters, &events(n, 1));
    }
    assert!(dir.path().join("dlq/hook.a.1.jsonl").exists());
    assert_eq!(request_replay(dir.path(), "hook.a", &[1, 4, 77]).unwrap(), 2);
    assert_eq!(seqs(dir.path()).len(), 6, "nothing moves before it is taken up");
    assert_eq!(chunks(&mut letters, 10), [[1, 4]]);
    assert_eq!(seqs(dir.path()), [Some(0), Some(2), Some(3), Some(5)]);
    assert!(letters.replay().unwrap().is_none());

    assert_eq!(request_replay(dir.path(), "hook.a", &[]).unwrap(), 4);
    assert_eq!(chunks(&mut letters, 3), [vec![0, 2, 3], vec![5]]);
    assert_eq!(std::fs::read_dir(dir.path().join("dlq")).unwrap().count(), 0);
    assert_eq!(request_replay(dir.path(), "hook.a", &[]).unwrap(), 0);
    assert!(letters.replay().unwrap().is_none());
}

#[test]
fn an_interrupted_replay_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    refuse(&mut letters, &events(0, 5));
    request_replay(dir.path(), "hook.a", &[]).unwrap();
    let mut replay = letters.replay().unwrap().unwrap();
    let first = letters.next(&replay, 2, usize::MAX).unwrap().unwrap();
    letters.done(&mut replay, &first, |_| false).unwrap();
    let lost = letters.next(&replay, 2, usize::MAX).unwrap().unwrap();
    assert_eq!(lost.events.iter().next().unwrap().seq, 2);
    refuse(&mut letters, &events(9, 1));
    assert_eq!(seqs(dir.path()), [Some(2), Some(3), Some(4), Some(9)]);
    assert_eq!(sinks(dir.path()).unwrap(), ["hook.a"]);

    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    assert_eq!(chunks(&mut letters, 10), [[2, 3, 4]]);
    assert_eq!(seqs(dir.path()), [Some(9)]);
}

#[test]
fn journals_are_not_mixed_and_lines_that_are_no_letters_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    refuse(&mut letters, &events(5, 2));
    let mut batch = Records_::detached("ingest", Kind::Application, "h", "billing");
    batch.push(Draft::new("login", "bob")).unwrap();
    refuse(&mut letters, &Events::of_batch("h/00/gen/2", 9, batch));
    // Again and out of order, as pending ones may be.
    refuse(&mut letters, &events(1, 1));
    refuse(
        &mut letters,
        &Events::of_batch("h/00", 0, Records_::detached("i", Kind::Agent, "h", "a")),
    );
    let path = dir.path().join("dlq/hook.a.jsonl");
    let changed = std::fs::read_to_string(&path)
        .unwrap()
        .replacen("\"kind\":", "\"kin\":", 1);
    std::fs::write(&path, changed + "no letter\n").unwrap();
    request_replay(dir.path(), "hook.a", &[]).unwrap();
    assert_eq!(chunks(&mut letters, 10), [vec![6], vec![9], vec![1]]);
    assert_eq!(seqs(dir.path()), [None, Some(5)], "what is none, and the changed one");
}

#[test]
fn without_letters_there_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(sinks(dir.path()).unwrap().is_empty());
    assert!(seqs(dir.path()).is_empty());
    assert_eq!(request_replay(dir.path(), "hook.a", &[]).unwrap(), 0);
    assert!(DeadLetters::new(dir.path(), "hook.a").replay().unwrap().is_none());
}

fn ids(events: &Events) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

fn is_anywhere(data_dir: &Path, id: &Uuid) -> bool {
    dir(data_dir)
        .read_dir()
        .unwrap()
        .any(|file| crate::erased::names(&std::fs::read(file.unwrap().path()).unwrap(), id))
}

#[test]
fn what_was_erased_is_in_no_file_of_any_sink_and_nothing_else_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a").with_max_file(2_000);
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    for n in 0..6 {
        let events = events(n, 1);
        refuse(&mut letters, &events);
        all.push(ids(&events)[0]);
    }
    for n in [1, 4] {
        let mut other = DeadLetters::new(dir.path(), "hook.b");
        let again = events(n, 1);
        refuse(&mut other, &again);
        seen.push(ids(&again)[0]);
    }
    assert!(dir.path().join("dlq/hook.a.1.jsonl").exists());
    // In the older file, in the newer one, and the only one of a file that has another left; then the last.
    for (n, id) in [(1, all[1]), (5, all[5])] {
        assert_eq!(erase(dir.path(), &id).unwrap(), 1);
        assert!(!is_anywhere(dir.path(), &id), "{n}");
        assert_eq!(erase(dir.path(), &id).unwrap(), 0);
    }
    assert_eq!(seqs(dir.path()), [0, 2, 3, 4].map(Some));
    for id in seen {
        assert_eq!(erase(dir.path(), &id).unwrap(), 1);
    }
    assert_eq!(sinks(dir.path()).unwrap(), ["hook.a"], "an empty file goes");
    assert_eq!(seqs(dir.path()), [0, 2, 3, 4].map(Some));
}

#[test]
fn a_replay_that_is_under_way_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    let given = events(0, 6);
    refuse(&mut letters, &given);
    request_replay(dir.path(), "hook.a", &[]).unwrap();
    let mut replay = letters.replay().unwrap().unwrap();
    let first = letters.next(&replay, 2, usize::MAX).unwrap().unwrap();
    letters.done(&mut replay, &first, |_| false).unwrap();
    // One that is done, one in the middle, and the last.
    for n in [0, 3, 5] {
        let id = ids(&given)[n];
        assert_eq!(erase(dir.path(), &id).unwrap(), 1);
        assert!(!is_anywhere(dir.path(), &id), "{n}");
    }
    assert_eq!(seqs(dir.path()), [2, 4].map(Some));
    let chunk = letters.next(&replay, 10, usize::MAX).unwrap().unwrap();
    assert_eq!(chunk.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 4]);
    letters.done(&mut replay, &chunk, |_| false).unwrap();
    assert!(letters.next(&replay, 10, usize::MAX).unwrap().is_none());
    letters.end(&replay).unwrap();
    assert!(sinks(dir.path()).unwrap().is_empty());
}

#[test]
fn what_a_crash_left_goes_and_what_only_names_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::new(dir.path(), "hook.a");
    let given = events(0, 1);
    refuse(&mut letters, &given);
    let id = ids(&given)[0];
    let mut naming = Records_::detached("ingest", Kind::Application, "h", "billing");
    let data = format!("{{\"parent\":\"{id}\"}}");
    naming
        .push(Draft {
            data: auditmon_core::event::Data::Raw(&data),
            ..Draft::new("login", "bob")
        })
        .unwrap();
    refuse(&mut letters, &Events::of_batch("h/00", 1, naming));
    let path = dir.path().join("dlq/hook.a.jsonl");
    let whole = std::fs::read(&path).unwrap();
    let line = whole.split(|byte| *byte == b'\n').next().unwrap();
    std::fs::write(dir.path().join("dlq/hook.a.jsonl.new"), &whole).unwrap();
    // A line that a crash cut off.
    std::fs::write(&path, [&*whole, &line[..line.len() - 9]].concat()).unwrap();
    assert_eq!(erase(dir.path(), &id).unwrap(), 2);
    assert_eq!(seqs(dir.path()), [Some(1)]);
    assert!(!dir.path().join("dlq/hook.a.jsonl.new").exists());
    let mut long = vec![b'x'; MAX_LINE + 10];
    long.push(b'\n');
    std::fs::write(&path, [&*whole, &long, &whole].concat()).unwrap();
    assert_eq!(
        erase(dir.path(), &id).unwrap(),
        2,
        "before and behind a line that is none of ours"
    );
    let left = std::fs::read(&path).unwrap();
    assert!(left.windows(long.len()).any(|window| window == long));
}
