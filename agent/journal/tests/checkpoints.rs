//! Checkpoints: signed soon, over what is on disk, and never two that contradict each other.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auditmon_journal::format::source_hash;
use auditmon_journal::{AgentNote, OpenError, Position, PositionVerdict, RealFs, SignedCheckpoint, open};
use auditmon_merkle::{Checkpoint, Ed25519Verifier, Frontier, Hash, TILE_BYTES, TileId, split_checkpoints};
use common::{Journal, copy, end, event, files, forget_checkpoints, options, seg, seg_dir, state, wait_for};

fn vkey(dir: &Path) -> Ed25519Verifier {
    let text = std::fs::read_to_string(dir.join("keys/log.vkey")).unwrap();
    text.trim_end().parse().unwrap()
}

fn stored(dir: &Path) -> Checkpoint {
    let note = std::fs::read_to_string(dir.join("journal/1/checkpoint")).unwrap();
    Checkpoint::open(&note, &[&vkey(dir)]).unwrap()
}

/// Roots of the trees of all sizes over the records that readers see.
fn roots(journal: &Journal) -> Vec<Hash> {
    let mut tree = Frontier::new();
    let mut roots = vec![tree.root()];
    let mut reader = journal.handle.reader(0);
    while let Some(item) = reader.next().unwrap() {
        let auditmon_journal::Item::Records(batch) = item else {
            panic!("{item:?}");
        };
        for entry in batch.iter() {
            tree.push(auditmon_merkle::leaf_hash(&entry.record.leaf())).unwrap();
            roots.push(tree.root());
        }
    }
    roots
}

fn covered(journal: &Journal) -> u64 {
    journal.handle.checkpoint().map_or(0, |newest| newest.size)
}

#[test]
fn a_new_record_is_soon_covered_and_a_stop_covers_all() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a", "b"]);
    wait_for("covered", || covered(&journal) == 2);
    let newest = journal.handle.checkpoint().unwrap();
    assert_eq!(Hash::from(newest.root), roots(&journal)[2]);
    assert!(newest.age().is_some_and(|age| age < Duration::from_secs(60)));
    let note = std::fs::read_to_string(dir.path().join("journal/1/checkpoint")).unwrap();
    assert_eq!(note, newest.note, "what is shown is stored");
    journal.write(&["c"]);
    let root = roots(&journal)[3];
    journal.close();
    let last = stored(dir.path());
    assert_eq!((last.head().size, last.head().root), (3, root));
}

#[test]
fn the_key_is_made_once_and_named_as_the_origin() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let origin = journal.opened.origin.clone();
    journal.close();
    let mode = |name: &str| {
        let meta = std::fs::metadata(dir.path().join("keys").join(name)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!((mode("log.key"), mode("log.vkey")), (0o600, 0o644));
    let first = vkey(dir.path()).vkey();
    assert_eq!(first.name(), origin);
    Journal::open(dir.path()).close();
    assert_eq!(vkey(dir.path()).vkey(), first);
}

#[test]
fn a_host_name_that_can_be_no_keys_name_is_changed_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut with = options(dir.path());
    with.host = "a b+c\u{a0}d".to_owned();
    let journal = Journal::with(RealFs, with);
    assert!(
        journal.opened.origin.starts_with("a-b-c-d/"),
        "{}",
        journal.opened.origin
    );
    journal.close();
    std::fs::write(dir.path().join("journal/origin"), "a+b/0123456789abcdef").unwrap();
    let refused = open(RealFs, options(dir.path())).map(|_| ());
    assert!(matches!(refused, Err(OpenError::OriginName { .. })), "{refused:?}");
}

#[test]
fn all_of_a_day_is_kept_and_none_contradicts_another() {
    let dir = tempfile::tempdir().unwrap();
    let told: Arc<Mutex<Vec<Arc<SignedCheckpoint>>>> = Arc::default();
    let mut roots_of_all = Vec::new();
    for life in 0..3 {
        let mut with = options(dir.path());
        with.checkpoint_interval = Duration::from_millis(10);
        let (mut writer, opened) = open(RealFs, with).unwrap();
        let heard = Arc::clone(&told);
        writer.on_checkpoint(Box::new(move |new| heard.lock().unwrap().push(Arc::clone(new))));
        let handle = writer.spawn(Box::new(|_| {})).unwrap();
        let journal = Journal { handle, opened };
        for index in 0..40 {
            journal.write(&[&format!("{life} {index:0300}")]);
        }
        wait_for("covered", || covered(&journal) == journal.handle.durable());
        roots_of_all = roots(&journal);
        journal.close();
    }
    let told = told.lock().unwrap();
    let vkey = vkey(dir.path());
    let earlier = std::fs::read_to_string(dir.path().join("journal/1/checkpoints")).unwrap();
    let newest = std::fs::read_to_string(dir.path().join("journal/1/checkpoint")).unwrap();
    let mut notes: Vec<_> = split_checkpoints(&earlier).chain([newest.as_str()]).collect();
    let all = notes.len();
    notes.dedup();
    assert_eq!(notes.len() + 2, all, "what ends a run is there twice");
    assert!(notes.len() >= 3);
    assert_eq!(notes, told.iter().map(|told| told.note.as_str()).collect::<Vec<_>>());
    for note in notes {
        let head = Checkpoint::open(note, &[&vkey]).unwrap().head();
        assert_eq!(head.root, roots_of_all[head.size as usize]);
    }
}

#[test]
fn tiles_are_those_of_the_tree_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    for index in 0..700 {
        journal.write(&[&format!("{index:060}")]);
    }
    wait_for("covered", || covered(&journal) == 700);
    let mut leaves = Vec::new();
    let mut reader = journal.handle.reader(0);
    while let Some(auditmon_journal::Item::Records(batch)) = reader.next().unwrap() {
        leaves.extend(
            batch
                .iter()
                .map(|entry| *auditmon_merkle::leaf_hash(&entry.record.leaf()).as_bytes()),
        );
    }
    let check = |journal: &Journal| {
        for (index, width) in [(0, 256), (1, 256), (2, 188), (2, 17), (1, 3)] {
            let tile = TileId::new(0, index, width).unwrap();
            let begin = index as usize * 256;
            let expected = leaves[begin..begin + usize::from(width)].concat();
            assert_eq!(journal.handle.tile(tile).unwrap().unwrap(), expected, "{tile}");
        }
        for (level, index, width) in [(0, 2, 189), (0, 3, 1), (1, 0, 3)] {
            let beyond = TileId::new(level, index, width).unwrap();
            assert_eq!(journal.handle.tile(beyond).unwrap(), None, "{beyond} isn't covered");
        }
        let above = journal.handle.tile(TileId::new(1, 0, 2).unwrap()).unwrap().unwrap();
        assert_eq!(above.len(), 64);
    };
    check(&journal);
    let tile = |index: u64| dir.path().join(format!("journal/1/tile/0/{index:03}"));
    wait_for("stored", || tile(0).exists() && tile(1).exists());
    assert_eq!(std::fs::metadata(tile(1)).unwrap().len(), TILE_BYTES as u64);
    assert!(!tile(2).exists(), "partial tiles are made when asked for");
    check(&journal);
    journal.close();
    let journal = Journal::open(dir.path());
    check(&journal);
    journal.close();
    // And from leaves where the tiles are gone.
    std::fs::remove_dir_all(dir.path().join("journal/1/tile")).unwrap();
    let journal = Journal::open(dir.path());
    assert!(journal.opened.findings.is_empty());
    journal.submit(event("more")).unwrap();
    wait_for("covered", || covered(&journal) == 701);
    let root = roots(&journal)[701];
    assert_eq!(Hash::from(journal.handle.checkpoint().unwrap().root), root);
    journal.close();
}

#[test]
fn a_rewritten_journal_is_noticed_and_goes_on_as_a_new_generation() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let origin = journal.opened.origin.clone();
    journal.write(&["a", "b", "c"]);
    journal.submit(state("kernel", b"serial", 0, b"17")).unwrap();
    journal.close();
    let before = std::fs::read_to_string(dir.path().join("journal/1/checkpoint")).unwrap();
    // Another journal of the same length under the same name.
    let other = copy(dir.path());
    std::fs::remove_dir_all(seg_dir(other.path())).unwrap();
    forget_checkpoints(other.path());
    let journal = Journal::open(other.path());
    journal.write(&["a", "B", "c"]);
    journal.submit(state("kernel", b"serial", 0, b"17")).unwrap();
    journal.close();
    for first in files(other.path(), ".seg") {
        let name = format!("{first:020}.seg");
        std::fs::copy(seg_dir(other.path()).join(&name), seg_dir(dir.path()).join(&name)).unwrap();
    }
    let remembered = |journal: &Journal| journal.opened.states[&source_hash("kernel")][b"serial".as_slice()].clone();
    let journal = Journal::open(dir.path());
    let former = origin.clone();
    assert_eq!(
        journal.opened.findings[0],
        AgentNote::Rewritten {
            origin: former.clone(),
            size: 4
        }
    );
    let AgentNote::NewGeneration {
        former: of,
        entries: 4,
        root: Some(root),
        damaged: false,
        ..
    } = &journal.opened.findings[1]
    else {
        panic!("{:?}", journal.opened.findings)
    };
    assert_eq!(*of, former);
    let theirs = stored(other.path()).head();
    assert_eq!(
        (theirs.size, theirs.root.to_string()),
        (4, root.clone()),
        "as it was found"
    );
    assert_eq!(journal.opened.origin, format!("{origin}/gen/2"));
    assert_eq!(journal.opened.generation, 2);
    let value = remembered(&journal).value;
    assert_eq!(value, b"17", "what sources remember goes on");
    assert_eq!(vkey(dir.path()).vkey().name(), journal.opened.origin);
    let position = |origin: &str| Position {
        origin: origin.to_owned(),
        seq: 3,
        leaf_hash: [1; 32],
    };
    let verdict = |journal: &Journal, origin: &str| journal.handle.check_position(&position(origin));
    assert_eq!(verdict(&journal, &origin), PositionVerdict::Former);
    assert_eq!(verdict(&journal, "host/other"), PositionVerdict::OtherOrigin);
    assert!(journal.handle.accept_rollback("the disk was restored").unwrap());
    assert_eq!(verdict(&journal, &origin), PositionVerdict::Accepted);
    journal.write(&["d"]);
    journal.close();
    let after = std::fs::read_to_string(dir.path().join("journal/1/checkpoint")).unwrap();
    assert_eq!(after, before, "nothing is signed that contradicts it");
    let journal = Journal::open(dir.path());
    assert!(journal.opened.findings.is_empty(), "told once");
    assert_eq!(journal.opened.origin, format!("{origin}/gen/2"));
    assert_eq!(remembered(&journal).value, b"17");
    assert_eq!(verdict(&journal, &origin), PositionVerdict::Accepted);
    assert_eq!(journal.texts(), ["d"]);
    journal.close();
}

#[test]
fn a_first_generation_has_nothing_to_accept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    assert!(!journal.handle.accept_rollback("why not").unwrap());
    assert!(!journal.handle.is_accepted());
    journal.close();
}

#[test]
fn a_torn_or_forged_checkpoint_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["a", "b"] {
        let journal = Journal::open(dir.path());
        journal.write(&[text]);
        journal.close();
    }
    let path = dir.path().join("journal/1/checkpoint");
    let note = std::fs::read_to_string(&path).unwrap();
    for bad in [&note[..note.len() - 9], &note.replace("\n2\n", "\n9\n"), ""] {
        std::fs::write(&path, bad).unwrap();
        let copy = copy(dir.path());
        let journal = Journal::open(copy.path());
        assert_eq!(journal.opened.findings, [AgentNote::CheckpointUnreadable], "{bad}");
        journal.close();
        // Its event is covered, too.
        assert_eq!(stored(copy.path()).head().size, 3);
    }
}

#[test]
fn a_lost_key_is_made_anew_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    journal.close();
    let old = vkey(dir.path());
    std::fs::remove_file(dir.path().join("keys/log.key")).unwrap();
    let journal = Journal::open(dir.path());
    let new = vkey(dir.path()).vkey();
    assert_ne!(new, old.vkey());
    let note = AgentNote::NewKey { vkey: new.to_string() };
    assert_eq!(journal.opened.findings, [note]);
    journal.close();
    assert_eq!(stored(dir.path()).head().size, 2);
    std::fs::write(dir.path().join("keys/log.key"), "no key").unwrap();
    let refused = open(RealFs, options(dir.path())).map(|_| ());
    assert!(matches!(refused, Err(OpenError::Key { .. })), "{refused:?}");
}

#[test]
fn after_a_rotation_both_keys_sign_until_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let old = vkey(dir.path());
    assert!(journal.handle.finish_rotation().is_err(), "there is none");
    let new = journal.handle.rotate_key().unwrap();
    assert!(journal.handle.rotate_key().is_err(), "one at a time");
    assert_eq!(vkey(dir.path()).vkey().to_string(), new);
    let opens = |key: &Ed25519Verifier| {
        let note = std::fs::read_to_string(dir.path().join("journal/1/checkpoint")).unwrap();
        Checkpoint::open(&note, &[key]).is_ok()
    };
    journal.write(&["a"]);
    journal.close();
    assert!(opens(&old) && opens(&vkey(dir.path())));
    let journal = Journal::open(dir.path());
    journal.write(&["b"]);
    wait_for("covered", || covered(&journal) == 2);
    assert!(opens(&old) && opens(&vkey(dir.path())), "beyond a start, too");
    assert_eq!(journal.handle.finish_rotation().unwrap(), new);
    assert!(!dir.path().join("keys/log.old.key").exists());
    journal.write(&["c"]);
    journal.close();
    assert!(!opens(&old) && opens(&vkey(dir.path())));
    let journal = Journal::open(dir.path());
    assert!(journal.opened.findings.is_empty());
    assert_eq!(vkey(dir.path()).vkey().to_string(), new);
    journal.close();
}

/// Bytes behind the last frame of the only segment.
fn uncut(dir: &Path) -> u64 {
    let path = seg(dir, 0);
    std::fs::metadata(&path).unwrap().len() - end(&path) as u64
}

#[test]
fn nothing_is_cut_before_all_of_it_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, opened) = open(RealFs, options(dir.path())).unwrap();
    let told: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let (heard, path) = (Arc::clone(&told), dir.path().to_owned());
    writer.on_checkpoint(Box::new(move |new| {
        heard.lock().unwrap().push((new.size, uncut(&path)))
    }));
    let handle = writer.spawn(Box::new(|_| {})).unwrap();
    let journal = Journal { handle, opened };
    journal.write(&["a", "b"]);
    wait_for("covered", || covered(&journal) == 2);
    journal.write(&["c"]);
    journal.close();
    let told = told.lock().unwrap();
    assert_eq!(told.last().unwrap().0, 3);
    assert!(told.iter().all(|(_, left)| *left > 28), "{told:?}");
    assert_eq!(uncut(dir.path()), 0);
}

#[test]
fn an_end_that_cannot_be_signed_is_left_as_a_kill_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    journal.write(&["a"]);
    wait_for("covered", || covered(&journal) == 1);
    let beside = dir.path().join("journal/1/checkpoint.new");
    std::fs::create_dir(&beside).unwrap();
    journal.write(&["b"]);
    journal.close();
    assert_eq!(stored(dir.path()).head().size, 1);
    assert!(uncut(dir.path()) > 28);
    std::fs::remove_dir(&beside).unwrap();
    let journal = Journal::open(dir.path());
    assert_eq!(journal.texts(), ["a", "b"]);
    journal.close();
    assert_eq!((stored(dir.path()).head().size, uncut(dir.path())), (2, 0));
}
