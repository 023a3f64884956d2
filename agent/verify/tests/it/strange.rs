//! Something else in the place of a file: told, and neither waited for nor read without end.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::cases::{EVENT, usual};
use crate::model::{Dir, Model, leaf_file, seg, sub_file};

/// Puts something there that is no file, and what is said of it.
type Put = (fn(&Path), &'static str);

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

const PUTS: [Put; 4] = [
    (|path| std::fs::create_dir(path).unwrap(), "a directory in the place of"),
    (pipe, "a pipe in the place of"),
    (|path| symlink("/dev/zero", path).unwrap(), "a device in the place of"),
    (|path| symlink(path, path).unwrap(), "a link to nothing in the place of"),
];

fn full() -> (Model, Dir) {
    let mut model = Model::usual();
    model.positions.insert("webhook.one".to_owned(), model.position());
    model
        .letters
        .insert("webhook.one.jsonl".to_owned(), model.letter(EVENT));
    let dir = Dir::of(&model);
    dir.holds();
    (model, dir)
}

#[test]
fn what_is_no_file_is_told_in_the_place_of_each() {
    let (_, dir) = full();
    for file in [
        "journal/origin".to_owned(),
        "keys/log.key".to_owned(),
        "keys/log.vkey".to_owned(),
        "journal/1/checkpoint".to_owned(),
        "journal/1/checkpoints".to_owned(),
        seg(0),
        seg(254),
        leaf_file(254),
        "journal/1/tile/0/001".to_owned(),
        "positions/webhook.one".to_owned(),
        "dlq/webhook.one.jsonl".to_owned(),
    ] {
        let (path, kept) = (dir.file(&file), dir.file("kept"));
        std::fs::rename(&path, &kept).unwrap();
        for (put, what) in PUTS {
            put(&path);
            dir.finds(&format!("tampered: {file}: "), what);
            std::fs::rename(&path, dir.file("put")).unwrap();
            let _ = std::fs::remove_file(dir.file("put")).or_else(|_| std::fs::remove_dir(dir.file("put")));
        }
        std::fs::rename(&kept, &path).unwrap();
    }
    for file in [
        "journal/1/accepted",
        "positions/webhook.two",
        "dlq/webhook.two.jsonl",
        "journal/1/tile/0/002",
    ] {
        pipe(&dir.file(file));
        dir.finds(
            &format!("tampered: {file}: "),
            "a pipe in the place of the agent's file",
        );
        std::fs::remove_file(dir.file(file)).unwrap();
    }
    dir.holds();
}

#[test]
fn what_is_no_file_is_told_in_the_place_of_a_collapsed_segment_and_of_the_database() {
    let mut model = Model::usual();
    model.segs[0].collapsed = true;
    model.stored = None;
    let dir = Dir::of(&model);
    std::fs::remove_file(dir.file(&sub_file(0))).unwrap();
    pipe(&dir.file(&sub_file(0)));
    dir.finds(&format!("tampered: {}: ", sub_file(0)), "a pipe in the place of");
    for (put, _) in &PUTS[..3] {
        for file in ["events.db", "events.db-wal", "events.db-journal"] {
            let (_, dir) = usual();
            let _ = std::fs::remove_file(dir.file(file));
            put(&dir.file(file));
            dir.finds("tampered: events.db: ", "no file");
        }
    }
}

#[test]
fn a_file_in_the_place_of_a_directory() {
    for (directory, what) in [
        ("positions", "not a directory"),
        ("dlq", "not a directory"),
        ("keys", "not a directory"),
        ("journal/1/seg", "not a directory"),
        ("journal/1/tile", "not a directory"),
        ("journal/1/tile/0", "a file in the place of the agent's directory"),
        ("journal/1", "a file in the place of the agent's directory"),
        ("journal", "not a directory"),
    ] {
        let (_, dir) = full();
        std::fs::remove_dir_all(dir.file(directory)).unwrap();
        std::fs::write(dir.file(directory), "").unwrap();
        dir.finds(&format!("tampered: {directory}: "), what);
    }
}

#[test]
fn directories_may_be_links() {
    let (model, dir) = full();
    let mut other = Dir::new();
    for directory in ["journal", "keys", "positions", "dlq"] {
        symlink(dir.file(directory), other.file(directory)).unwrap();
    }
    symlink(dir.file("events.db"), other.file("events.db")).unwrap();
    other.key = Some(model.vkey());
    assert_eq!(other.holds().counts.letters, 1);
}

#[test]
fn what_was_found_is_told_also_where_the_check_ends_early() {
    let (_, mut dir) = usual();
    dir.against = Some("neither checkpoint nor proof".to_owned());
    assert!(dir.check().is_err());
    std::fs::create_dir_all(dir.file("positions/webhook.one")).unwrap();
    dir.finds("tampered: positions/webhook.one: ", "a directory");
    let report = dir.report();
    assert!(
        report
            .not_seen
            .iter()
            .any(|text| text.contains("the check ended early, since FILE can't be checked")),
        "{report}"
    );
}

#[test]
fn a_letter_without_an_end_is_not_read_to_it() {
    let (_, dir) = full();
    let file = std::fs::File::options()
        .append(true)
        .open(dir.file("dlq/webhook.one.jsonl"))
        .unwrap();
    // Nothing of it is on disk.
    file.set_len(1 << 42).unwrap();
    dir.finds("tampered: dlq/webhook.one.jsonl: ", "line 2: no dead letter");
}
