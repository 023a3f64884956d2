//! A start on a full disk: a new generation is begun with what the reserve has, or not at all; and what only the page
//! cache has is written again with it.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use auditmon_journal::bare::{self, Core, Submission, Time};
use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{AgentNote, Fs as _, Item, OpenError, Opened, Options, PauseReason, Position, Records, Refused};
use auditmon_sim::disk::SimFs;

const SECOND: u64 = 1_000_000_000;
const SEGMENT: u64 = 64 << 10;
const RESERVE: u64 = SEGMENT;

fn now(seconds: u64) -> Time {
    Time {
        wall_ns: (1_700_000_000 + seconds) * SECOND,
        mono_ns: (1 + seconds) * SECOND,
    }
}

fn options(reserve: u64) -> Options {
    let tell = |note: AgentNote, records: &mut Records| push(records, Kind::Agent, &format!("{note:?}"));
    let mut options = Options::new("/d", "sim", Box::new(tell));
    options.segment_size = SEGMENT;
    options.reserve = reserve;
    options.entropy = Box::new(|buf| buf.fill(7));
    options
}

fn push(records: &mut Records, kind: Kind, text: &str) {
    let prefix = Prefix {
        event_id: [7; 16],
        received_ns: 1,
        kind,
        source: source_hash("app"),
    };
    assert!(records.push(&prefix, [1; 16], |out| out.extend(text.bytes())).is_ok());
}

fn commit(core: &mut Core, text: &str, now: Time) -> Result<(), Refused> {
    let (tell, told) = std::sync::mpsc::channel();
    let mut records = Records::new();
    push(&mut records, Kind::Application, text);
    let submission = Submission {
        records,
        done: Box::new(move |answer| tell.send(answer.map(|_| ())).unwrap()),
        since_ns: now.mono_ns,
        own: false,
    };
    core.commit([submission], now);
    told.recv().unwrap()
}

fn open(fs: &SimFs, options: Options, now: Time) -> Result<(Core, Opened), OpenError> {
    bare::open(Arc::new(fs.clone()), options, now, None)
}

fn texts(core: &Core) -> Vec<String> {
    let mut reader = core.reader(0);
    let mut texts = Vec::new();
    while let Some(Item::Records(batch)) = reader.next().unwrap() {
        let payloads = batch.iter().map(|entry| entry.record.payload().unwrap().to_vec());
        texts.extend(payloads.map(|payload| String::from_utf8(payload).unwrap()));
    }
    texts
}

/// A journal of three records with a full disk, and what a sink remembers that has seen nine.
fn put_back(reserve: u64) -> (SimFs, Vec<(String, Position)>) {
    let fs = SimFs::new(1);
    fs.set_free(1 << 30);
    let (mut core, opened) = open(&fs, options(reserve), now(0)).unwrap();
    for text in ["a", "b", "c"] {
        commit(&mut core, text, now(1)).unwrap();
    }
    core.close(now(2));
    fs.set_free(0);
    let position = Position {
        origin: opened.origin,
        seq: 9,
        leaf_hash: [1; 32],
    };
    (fs, vec![("store".to_owned(), position)])
}

fn reserve(fs: &SimFs) -> u64 {
    fs.open_read(Path::new("/d/reserve")).unwrap().size().unwrap()
}

#[test]
fn the_reserve_is_given_for_a_new_generation() {
    let (fs, remembered) = put_back(RESERVE);
    assert_eq!(reserve(&fs), RESERVE);
    let mut options = options(RESERVE);
    options.remembered = remembered;
    let (mut core, opened) = open(&fs, options, now(3)).unwrap();
    assert_eq!((opened.generation, opened.paused), (2, Some(PauseReason::Reserve)));
    assert_eq!(reserve(&fs), 0);
    let told = texts(&core);
    assert!(told.iter().any(|text| text.starts_with("PositionAhead")), "{told:?}");
    assert!(told.iter().any(|text| text.starts_with("NewGeneration")), "{told:?}");
    assert_eq!(commit(&mut core, "d", now(4)), Err(Refused::Reserve));
    // It can sign, and the next start goes on with it.
    assert!(core.checkpoint(now(4)));
    assert_eq!(core.newest_checkpoint().unwrap().size, core.durable());
    core.close(now(5));
    fs.power_cycle();
    let (mut core, opened) = open(&fs, self::options(RESERVE), now(6)).unwrap();
    assert_eq!((opened.generation, &opened.findings[..]), (2, &[][..]));
    assert_eq!(commit(&mut core, "d", now(7)), Err(Refused::Reserve));
    // Room alone mends it.
    fs.set_free(1 << 30);
    core.maintain(now(60));
    commit(&mut core, "d", now(61)).unwrap();
    assert_eq!(reserve(&fs), RESERVE);
    assert_eq!(texts(&core).into_iter().filter(|text| text == "d").count(), 1);
}

#[test]
fn a_key_that_found_no_room_is_made_when_there_is_room() {
    let fs = SimFs::new(1);
    fs.set_free(1 << 30);
    // A first start that ended before it signed.
    drop(open(&fs, options(0), now(0)).unwrap());
    for name in ["log.key", "log.vkey"] {
        fs.remove(&Path::new("/d/keys").join(name)).unwrap();
    }
    fs.set_free(0);
    let (mut core, _) = open(&fs, options(0), now(1)).unwrap();
    commit(&mut core, "a", now(2)).unwrap();
    assert!(!core.checkpoint(now(3)));
    assert!(core.newest_checkpoint().is_none());
    fs.set_free(1 << 30);
    assert!(core.checkpoint(now(62)));
    assert_eq!(core.newest_checkpoint().unwrap().size, core.durable());
    let signed = core.newest_checkpoint();
    core.close(now(63));
    let (core, opened) = open(&fs, options(RESERVE), now(64)).unwrap();
    assert_eq!((opened.generation, &opened.findings[..]), (1, &[][..]));
    assert!(core.newest_checkpoint().unwrap().size >= signed.unwrap().size);
}

#[test]
fn a_key_is_good_though_there_is_no_room_for_its_public_half() {
    let fs = SimFs::new(1);
    fs.set_free(1 << 30);
    let (mut core, _) = open(&fs, options(0), now(0)).unwrap();
    commit(&mut core, "a", now(1)).unwrap();
    core.close(now(2));
    let public = Path::new("/d/keys/log.vkey");
    fs.remove(public).unwrap();
    fs.set_free(0);
    let (mut core, opened) = open(&fs, options(0), now(3)).unwrap();
    assert_eq!((opened.generation, &opened.findings[..]), (1, &[][..]));
    let signed = core.newest_checkpoint().unwrap().size;
    fs.set_free(1 << 30);
    core.maintain(now(60));
    commit(&mut core, "b", now(61)).unwrap();
    assert!(core.checkpoint(now(62)));
    assert!(core.newest_checkpoint().unwrap().size > signed);
    core.close(now(63));
    let (_, opened) = open(&fs, options(0), now(64)).unwrap();
    assert_eq!(&opened.findings[..], &[][..]);
    assert!(fs.content(public).is_some());
}

#[test]
fn a_key_that_was_lost_is_not_made_beside_checkpoints_that_nobody_compared() {
    let fs = SimFs::new(1);
    fs.set_free(1 << 30);
    let (mut core, _) = open(&fs, options(0), now(0)).unwrap();
    commit(&mut core, "a", now(1)).unwrap();
    core.close(now(2));
    fs.remove(Path::new("/d/keys/log.key")).unwrap();
    let path = Path::new("/d/journal/1/checkpoint");
    // Also where only those before the newest one are left.
    let former = fs.content(path).unwrap();
    fs.remove(path).unwrap();
    fs.put(Path::new("/d/journal/1/checkpoints"), &former);
    fs.set_free(0);
    let (mut core, opened) = open(&fs, options(0), now(3)).unwrap();
    assert_eq!((opened.generation, opened.paused), (1, Some(PauseReason::Reserve)));
    fs.set_free(1 << 30);
    core.maintain(now(60));
    commit(&mut core, "b", now(61)).unwrap();
    assert!(!core.checkpoint(now(62)));
    assert_eq!(fs.content(path), None);
    core.close(now(63));
    // The next start compares them, and tells of the new key.
    let (mut core, opened) = open(&fs, options(0), now(64)).unwrap();
    assert!(
        matches!(opened.findings[..], [AgentNote::NewKey { .. }]),
        "{:?}",
        opened.findings
    );
    assert!(core.checkpoint(now(65)));
    assert_eq!(core.newest_checkpoint().unwrap().size, core.durable());
}

#[test]
fn what_only_the_page_cache_has_is_written_again_with_what_the_reserve_has() {
    // How much of a write is lost when its sync fails depends on the seed.
    for seed in 0..20 {
        let fs = SimFs::new(seed);
        fs.set_free(1 << 30);
        let (mut core, _) = open(&fs, options(0), now(0)).unwrap();
        commit(&mut core, "a", now(1)).unwrap();
        fs.set_free(0);
        fs.fail_sync_in(0);
        let mut records = Records::new();
        push(&mut records, Kind::Application, "b");
        // Nobody is answered: there is no room for the segment that would stand for it.
        let submission = Submission {
            records,
            done: Box::new(|_| ()),
            since_ns: now(2).mono_ns,
            own: false,
        };
        core.commit([submission], now(2));
        fs.kill();
        drop(core);
        fs.heal();
        fs.put(Path::new("/d/reserve"), &vec![0; RESERVE as usize]);
        fs.set_free(0);
        fs.set_copy_on_write();
        let (core, opened) = open(&fs, options(RESERVE), now(3)).unwrap();
        assert!(opened.paused.is_some(), "seed {seed}: there is room for nothing else");
        let seen = texts(&core);
        assert!(seen.contains(&"b".to_owned()), "seed {seed}: {seen:?}");
        fs.power_cycle();
        drop(core);
        let (core, _) = open(&fs, options(RESERVE), now(4)).unwrap();
        let left = texts(&core);
        assert_eq!(left[..2], ["a", "b"], "seed {seed}: what was seen is there");
    }
}

#[test]
fn without_a_reserve_it_is_refused_in_one_line_and_nothing_is_begun() {
    let (fs, remembered) = put_back(0);
    for _ in 0..2 {
        let mut options = options(0);
        options.remembered = remembered.clone();
        let error = open(&fs, options, now(3)).err().unwrap();
        assert!(matches!(error, OpenError::NoRoom { .. }), "{error}");
        let text = error.to_string();
        for part in [
            "/d/journal/2",
            "the disk is full and the reserve used up",
            "`store` has seen 9 records of the former one, which has 3",
            "Free 65536 bytes",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\n'));
    }
    // Nothing was changed: with that much room it goes through.
    fs.set_free(SEGMENT);
    let mut options = options(0);
    options.remembered = remembered;
    let (core, opened) = open(&fs, options, now(4)).unwrap();
    assert_eq!(opened.generation, 2);
    assert!(texts(&core).iter().any(|text| text.starts_with("NewGeneration")));
}

#[test]
fn on_a_full_disk_no_frame_looks_like_the_last_of_an_end_in_order() {
    let fs = SimFs::new(1);
    fs.set_free(1 << 30);
    let (mut core, _) = open(&fs, options(0), now(0)).unwrap();
    commit(&mut core, "a", now(1)).unwrap();
    core.close(now(2));
    let path = Path::new("/d/journal/1/seg").join(format!("{:020}.seg", 0));
    let used = fs.content(&path).unwrap().len();
    // Room for some frames of the journal's own, and for no checkpoint.
    for free in 0..1000 {
        fs.set_free(free);
        let (mut core, opened) = open(&fs, options(0), now(3)).unwrap();
        assert_eq!(opened.paused, Some(PauseReason::Reserve));
        for second in 4..8 {
            core.maintain(now(second));
        }
        let bytes = fs.content(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        assert!(end <= used || bytes.len() > end + 28, "{free} bytes free");
        if end > used + 200 {
            return;
        }
        drop(core);
        fs.kill();
    }
    panic!("nothing was written");
}

#[test]
fn on_a_full_disk_too_nothing_goes_before_it_is_signed() {
    let fs = SimFs::new(1);
    fs.set_free(1 << 30);
    let (mut core, _) = open(&fs, options(0), now(0)).unwrap();
    for _ in 0..1500 {
        commit(&mut core, &"x".repeat(100), now(1)).unwrap();
    }
    core.seal_all(now(1));
    fs.set_free(0);
    let full = (0..1000).find_map(|_| commit(&mut core, &"x".repeat(100), now(2)).err());
    assert_eq!(full, Some(Refused::Reserve));
    let oldest = || fs.content(&Path::new("/d/journal/1/seg").join(format!("{:020}.seg", 0)));
    for second in 3..30 {
        core.maintain(now(second));
        if oldest().is_none() {
            let mut reader = core.reader(core.newest_checkpoint().unwrap().size);
            let unsigned = std::iter::from_fn(|| reader.next().unwrap());
            for item in unsigned {
                let Item::Records(batch) = item else { panic!("{item:?}") };
                for entry in batch.iter() {
                    let text = String::from_utf8_lossy(entry.record.payload().unwrap());
                    assert!(text.starts_with("Resumed"), "not signed: {text}");
                }
            }
            return;
        }
        core.checkpoint(now(second));
    }
    panic!("it stays full");
}
