//! Erasing a payload with the power cut, or an operation failing, at each step of it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use auditmon_journal::bare::{self, Core, Submission, Time};
use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{Erased, Fs as _, Item, Options, Records, fsck};
use auditmon_sim::disk::SimFs;

const DIR: &str = "/d";
const EVENTS: u64 = 12;

fn time(step: u64) -> Time {
    Time {
        wall_ns: 1_700_000_000_000_000_000 + step,
        mono_ns: step,
    }
}

fn record(payload: &[u8], kind: Kind, records: &mut Records) {
    let prefix = Prefix {
        event_id: [7; 16],
        received_ns: 1_700_000_000_000_000_000,
        kind,
        source: source_hash("app"),
    };
    records.push(&prefix, [9; 16], |out| out.extend(payload)).unwrap();
}

fn payload(n: u64) -> Vec<u8> {
    format!("event {n:02} {}", "x".repeat(800)).into_bytes()
}

/// Opens the journal; what it finds is told in events.
fn open(fs: &SimFs) -> Core {
    let tell = |note, records: &mut Records| record(format!("{note:?}").as_bytes(), Kind::Agent, records);
    let mut options = Options::new(Path::new(DIR), "h", Box::new(tell));
    options.segment_size = 4096;
    options.max_size = 1 << 20;
    options.reserve = 0;
    let (mut core, opened) = bare::open(Arc::new(fs.clone()), options, time(0), None).unwrap();
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    core.set_hold("sink", 0);
    core.seal_all(time(1));
    core
}

/// A journal of several segments, all of it on disk.
fn filled(seed: u64) -> (SimFs, Core) {
    let fs = SimFs::new(seed);
    let mut core = open(&fs);
    for n in 0..EVENTS {
        let mut records = Records::new();
        record(&payload(n), Kind::Application, &mut records);
        let done = Box::new(|fate: Result<_, _>| assert!(fate.is_ok()));
        let submission = Submission {
            records,
            done,
            since_ns: 0,
            own: false,
        };
        core.commit([submission], time(2));
    }
    core.seal_all(time(3));
    assert!(core.checkpoint(time(4)));
    (fs, core)
}

/// Every record is there and says what it said, but the one; whether that one is erased.
fn check(core: &Core, erased: u64) -> bool {
    let mut reader = core.reader(0);
    let (mut next, mut gone) = (0, false);
    while let Some(item) = reader.next().unwrap() {
        let Item::Records(batch) = item else { panic!("{item:?}") };
        for entry in batch
            .iter()
            .filter(|entry| entry.record.prefix.kind == Kind::Application)
        {
            match entry.record.payload() {
                None if entry.seq == erased => gone = true,
                found => assert_eq!(found, Some(&*payload(next)), "seq {}", entry.seq),
            }
            next += 1;
        }
    }
    assert_eq!(next, EVENTS);
    gone
}

fn is_clean(fs: &SimFs) {
    let report = fsck::check(fs, Path::new(DIR)).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

fn has_leftover(fs: &SimFs) -> bool {
    let names = fs.list(Path::new("/d/journal/1/seg")).unwrap();
    names.iter().any(|name| name.ends_with(".new"))
}

/// The seq in an old segment, and in the newest.
fn targets(core: &Core) -> [u64; 2] {
    [1, core.durable() - 1]
}

#[test]
fn the_power_goes_at_each_step() {
    let (mut whole, mut gone) = (0, 0);
    for which in [0, 1] {
        let mut steps = 0;
        for step in 0.. {
            let mut crashed = false;
            for seed in 0..8 {
                let (fs, mut core) = filled(seed);
                let seq = targets(&core)[which];
                fs.crash_in(step);
                let result = core.erase_now(seq, time(5));
                crashed = fs.crashed();
                drop(core);
                fs.power_cycle();
                let mut core = open(&fs);
                let erased = check(&core, seq);
                match result {
                    Ok(result) => {
                        assert_eq!(result, Erased::Now);
                        assert!(erased, "what was said to be erased is back");
                    }
                    Err(_) => assert!(crashed),
                }
                if crashed {
                    *(if erased { &mut gone } else { &mut whole }) += 1;
                }
                assert!(!has_leftover(&fs));
                is_clean(&fs);
                // It can be asked for again, and is then on disk.
                let again = core.erase_now(seq, time(6)).unwrap();
                assert_eq!(again, if erased { Erased::Before } else { Erased::Now });
                drop(core);
                fs.power_cycle();
                assert!(check(&open(&fs), seq));
                is_clean(&fs);
            }
            steps = step;
            if !crashed {
                break;
            }
        }
        assert!(steps >= 5, "{steps} steps");
    }
    assert!(whole > 0 && gone > 0, "both outcomes: {whole} whole, {gone} gone");
}

#[test]
fn an_operation_fails_at_each_step() {
    for which in [0, 1] {
        let mut failures = 0;
        for step in 0.. {
            let (fs, mut core) = filled(step);
            let seq = targets(&core)[which];
            fs.fail_op_in(step);
            let result = core.erase_now(seq, time(5));
            fs.heal();
            // The seal that failed is tried again a second later, and the writer mends itself.
            let later = time(5_000_000_000);
            core.maintain(later);
            core.seal_all(later);
            let erased = check(&core, seq);
            is_clean(&fs);
            match result {
                Ok(_) => {
                    assert!(erased);
                    break;
                }
                Err(_) => failures += 1,
            }
            let again = core.erase_now(seq, later).unwrap();
            assert_eq!(again, if erased { Erased::Before } else { Erased::Now });
            assert!(check(&core, seq));
            assert!(!has_leftover(&fs));
            drop(core);
            fs.power_cycle();
            assert!(check(&open(&fs), seq));
            is_clean(&fs);
        }
        assert!(failures >= 4, "{failures} failures");
    }
}

#[test]
fn a_full_disk_leaves_the_segment_as_it_was() {
    let (fs, mut core) = filled(1);
    fs.set_free(100);
    assert!(core.erase_now(1, time(5)).is_err());
    assert!(!check(&core, 1));
    assert!(!has_leftover(&fs));
    fs.set_free(1 << 20);
    assert_eq!(core.erase_now(1, time(6)).unwrap(), Erased::Now);
    assert!(check(&core, 1));
    is_clean(&fs);
}
