//! Dead letters against the journal.

use auditmon_journal::format::Kind;
use serde_json::json;

use crate::model::{Dir, Leave, Model, leaf_file, with_crc};

const EVENT: u64 = 300;
const FILE: &str = "webhook.one.jsonl";

fn with(letters: &[String]) -> (Model, Dir) {
    let mut model = Model::usual();
    model.letters.insert(FILE.to_owned(), letters.concat());
    let dir = Dir::of(&model);
    (model, dir)
}

/// The letter with another text in it, of which the checksum is made anew.
fn changed(letter: &str, was: &str, is: &str) -> String {
    assert!(letter.contains(was), "{letter}");
    with_crc(letter.rsplit_once(",\"crc\":").unwrap().0.replace(was, is).as_str())
}

#[test]
fn letters_that_are_the_journals_events_hold() {
    let model = Model::usual();
    let letters = [EVENT, 20, EVENT].map(|seq| model.letter(seq));
    let (model, dir) = with(&letters);
    let report = dir.holds();
    assert_eq!(report.counts.letters, 3);
    assert!(report.to_string().contains(", 3 dead letters"), "{report}");
    // One of before there was a checksum, and one that was erased while it was handed over again.
    let old = format!("{}}}\n", letters[0].rsplit_once(",\"crc\":").unwrap().0);
    let blank = format!("{}\n", " ".repeat(200));
    std::fs::write(dir.file("dlq/webhook.one.replaying-9.jsonl"), old + &blank).unwrap();
    assert_eq!(dir.holds().counts.letters, 4);
    // What a crash left of the last line.
    let torn = format!("{}{}", letters[0], &letters[1][..99]);
    std::fs::write(dir.file("dlq/webhook.one.jsonl"), torn).unwrap();
    let report = dir.holds();
    assert!(
        report.to_string().contains("line 2: an unfinished dead letter"),
        "{report}"
    );
    assert_eq!(model.rows.len(), report.counts.rows as usize);
}

#[test]
fn a_letter_changed_with_its_checksum() {
    let usual = Model::usual();
    let letter = usual.letter(EVENT);
    for (was, is) in [
        ("alice", "mallo"),
        ("\"seq\":300", "\"seq\":301"),
        ("received_time\":\"2026", "received_time\":\"2027"),
    ] {
        let (_, dir) = with(&[usual.letter(20), changed(&letter, was, is)]);
        let faults = dir.finds(
            "tampered: dlq/webhook.one.jsonl: seq 30",
            "line 2: not the event that the journal has",
        );
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
    // Without it only what says why it was refused can be another.
    let (_, dir) = with(&[letter.replace("422 No", "422 Oh")]);
    dir.finds(
        "tampered: dlq/webhook.one.jsonl: seq 300: ",
        "line 1: not the letter that was written",
    );
    // The salt of another one.
    let salt = |letter: &str| letter.split("\"salt\":\"").nth(1).unwrap()[..32].to_owned();
    let (_, dir) = with(&[changed(&letter, &salt(&letter), &salt(&usual.letter(302)))]);
    dir.finds(
        "tampered: dlq/webhook.one.jsonl: seq 300, event ",
        "not the event that the journal has",
    );
    // The event of another id.
    let (_, dir) = with(&[changed(&letter, &usual.rec(EVENT).id(), &usual.rec(302).id())]);
    dir.finds("tampered: dlq/webhook.one.jsonl: seq 300", "line 1: ");
}

#[test]
fn a_letter_of_a_removed_payload_is_compared_with_the_leaf() {
    let mut model = Model::usual();
    let data = json!({"first_seq": 0, "last_seq": 253, "segments": 1});
    model.event(Kind::Agent, "journal.retention", "auditmon", data);
    model.sign();
    // There is no row either.
    model.stored = None;
    model.letters.insert(FILE.to_owned(), model.letter(20));
    model.segs[0].expired = true;
    assert_eq!(Dir::of(&model).holds().counts.letters, 1);
    let other = changed(&model.letter(20), "alice", "mallo");
    model.letters.insert(FILE.to_owned(), other);
    let dir = Dir::of(&model);
    dir.finds(
        "tampered: dlq/webhook.one.jsonl: seq 20, event ",
        "not the event that the journal has",
    );
    assert!(dir.file(&leaf_file(0)).exists());
}

#[test]
fn lines_that_are_no_letters() {
    let letter = Model::usual().letter(EVENT);
    let origin = changed(&letter, "host-a.example.com/00", "host-a.example.com/99");
    for (line, what) in [
        ("x\n".to_owned(), "line 2: no dead letter"),
        ("\n".to_owned(), "line 2: no dead letter"),
        (letter.replace("\n", "x"), "line 2: no dead letter"),
        (letter.replace("\"time\"", "\"tine\""), "line 2: no dead letter"),
        (origin, "line 2: a letter of another journal, `host-a.example.com/99"),
    ] {
        let (_, dir) = with(&[letter.clone(), line]);
        let faults = dir.finds("tampered: dlq/webhook.one.jsonl: ", what);
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}

#[test]
fn a_letter_of_what_was_cut_off() {
    let mut model = Model::usual();
    let last = model.size() - 1;
    model.letters.insert(FILE.to_owned(), model.letter(last));
    model.stored = None;
    let dir = Dir::of(&model);
    model.segs.last_mut().unwrap().frames.pop();
    model.write_except(dir.path(), Leave::default());
    dir.finds(
        &format!("tampered: dlq/webhook.one.jsonl: seq {last}: "),
        "line 1: the journal hasn't this event",
    );
}
