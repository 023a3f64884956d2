//! Earlier checkpoints: all of a day, then one an hour, and those that end a segment or a run or that others signed.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auditmon_journal::bare::{Core, Submission, Time};
use auditmon_journal::format::Kind;
use auditmon_journal::{AgentNote, Options, RealFs, Records, open};
use auditmon_merkle::{Ed25519Signer, signature_line, split_checkpoints};
use common::{Journal, files, prefix};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
/// The middle of an hour.
const BEGIN: u64 = 472_222 * HOUR + HOUR / 2;

/// A journal in a time of its own, with what it signed.
struct Life {
    dir: tempfile::TempDir,
    core: Option<Core>,
    clock: Arc<AtomicU64>,
    /// Size and time of each checkpoint.
    signed: Vec<(u64, u64)>,
    /// Sizes of the last ones of runs.
    ends: Vec<u64>,
    /// Payloads go as soon as they may, and leaves and tiles collapse beyond half of it.
    max_size: Option<u64>,
}

fn push(records: &mut Records, kind: Kind, wall_ns: u64, text: &str) {
    let mut prefix = prefix(kind);
    prefix.received_ns = wall_ns;
    records.push(&prefix, [1; 16], |out| out.extend(text.bytes())).unwrap();
}

impl Life {
    fn new(max_size: Option<u64>) -> Self {
        let mut life = Self {
            dir: tempfile::tempdir().unwrap(),
            core: None,
            clock: Arc::new(AtomicU64::new(BEGIN)),
            signed: Vec::new(),
            ends: Vec::new(),
            max_size,
        };
        life.start();
        life
    }

    fn options(&self) -> Options {
        let clock = Arc::clone(&self.clock);
        let tell = move |note: AgentNote, records: &mut Records| {
            let now = clock.load(Ordering::SeqCst);
            push(records, Kind::Agent, now, &format!("{note:?}"));
        };
        let mut options = Options::new(self.dir.path(), "host", Box::new(tell));
        options.segment_size = self.max_size.map_or(8192, |max_size| max_size / 4);
        options.reserve = 0;
        if let Some(max_size) = self.max_size {
            options.max_size = max_size;
            options.keep_age = Duration::ZERO;
        } else {
            options.keep_age = Duration::from_secs(1 << 30);
        }
        options
    }

    fn now(&self) -> Time {
        let wall_ns = self.clock.load(Ordering::SeqCst);
        Time {
            wall_ns,
            mono_ns: wall_ns - BEGIN + 1,
        }
    }

    fn start(&mut self) {
        self.core = Some(open(RealFs, self.options()).unwrap().0.into_core());
    }

    /// As a kill ends it.
    fn stop(&mut self) {
        self.core = None;
        self.ends.push(self.signed.last().unwrap().0);
    }

    /// Writes and signs every so many seconds.
    fn live(&mut self, span: u64, every: u64, records: u64) {
        for _ in 0..span / every {
            self.clock.fetch_add(every, Ordering::SeqCst);
            let now = self.now();
            let mut batch = Records::new();
            for _ in 0..records {
                push(&mut batch, Kind::Application, now.wall_ns, "something happened");
            }
            let core = self.core.as_mut().unwrap();
            let submission = Submission {
                records: batch,
                done: Box::new(|fate| assert!(fate.is_ok())),
                since_ns: now.mono_ns,
                own: false,
            };
            core.commit([submission], now);
            core.seal_all(now);
            assert!(core.checkpoint(now));
            self.signed.push((core.newest_checkpoint().unwrap().size, now.wall_ns));
            core.maintain(now);
            core.collapse_due();
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("journal/1/checkpoints")
    }

    fn notes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap();
        split_checkpoints(&text).map(str::to_owned).collect()
    }

    fn sizes(&self) -> Vec<u64> {
        self.notes().iter().map(|note| size(note)).collect()
    }

    /// Those that end a segment or a run.
    fn ending(&self) -> BTreeSet<u64> {
        let firsts = firsts(self.dir.path());
        let pairs = self.signed.windows(2);
        let segments = pairs.filter(|pair| firsts.range(pair[0].0..pair[1].0).next().is_some());
        segments
            .map(|pair| pair[0].0)
            .chain(self.ends.iter().copied())
            .collect()
    }

    /// All of a day and the last of each hour are there, and of what is older than a day and two hours nothing but
    /// these, those that end something, and `more`.
    #[track_caller]
    fn check(&self, more: &[u64]) {
        let there: BTreeSet<u64> = self.sizes().into_iter().collect();
        let now = self.now().wall_ns;
        let (ending, last) = (self.ending(), self.signed.len() - 1);
        for (at, (size, time)) in self.signed[..last].iter().enumerate() {
            let ends_hour = self.signed[at + 1].1 / HOUR != time / HOUR;
            let must = now - time < DAY || ends_hour || ending.contains(size) || more.contains(size);
            assert!(
                !must || there.contains(size),
                "{size} of {} h ago is gone",
                (now - time) / HOUR
            );
            let may = must || now - time < DAY + 2 * HOUR;
            assert!(
                may || !there.contains(size),
                "{size} of {} h ago is there",
                (now - time) / HOUR
            );
        }
    }
}

fn size(note: &str) -> u64 {
    note.lines().nth(1).unwrap().parse().unwrap()
}

/// Where segments begin, whatever is left of them.
fn firsts(dir: &Path) -> BTreeSet<u64> {
    [".seg", ".leaf", ".sub"]
        .iter()
        .flat_map(|end| files(dir, end))
        .collect()
}

#[test]
fn after_a_day_one_an_hour_stays_and_what_ends_a_segment_or_a_run() {
    let mut life = Life::new(None);
    life.live(2 * DAY, HOUR / 4, 2);
    life.check(&[]);
    // Several runs within an hour; the one that thins them out is another.
    for _ in 0..3 {
        life.stop();
        life.start();
        life.live(HOUR / 4, HOUR / 12, 2);
    }
    life.live(2 * DAY, HOUR / 4, 2);
    life.stop();
    life.start();
    life.live(DAY, HOUR / 4, 2);
    life.check(&[]);
    let twice = life.sizes().windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(twice, life.ends.len());
}

#[test]
fn collapsed_leaves_are_thinned_out_all_the_same() {
    let mut life = Life::new(Some(8192 * 4));
    life.live(4 * DAY, HOUR / 4, 8);
    assert!(files(life.dir.path(), ".sub").len() > 20);
    life.check(&[]);
}

#[test]
fn of_collapsed_leaves_another_run_keeps_some_of_each_segment() {
    let mut life = Life::new(Some(16_384 * 4));
    life.live(9 * HOUR, HOUR / 120, 1);
    let subs = files(life.dir.path(), ".sub");
    let begin = *files(life.dir.path(), ".leaf").first().unwrap();
    assert!(subs.len() > 3 && life.signed.len() > 600, "{subs:?}");
    let before = life.sizes();
    life.stop();
    life.start();
    life.live(HOUR / 60, HOUR / 120, 1);
    let after = life.sizes();
    for (first, next) in subs.iter().zip(subs.iter().skip(1).chain([&begin])) {
        let count = |sizes: &[u64]| sizes.iter().filter(|size| (first + 1..=*next).contains(size)).count();
        assert!(count(&before) > 30, "{}", count(&before));
        assert!((12..=26).contains(&count(&after)), "{}", count(&after));
    }
    let ending = life.ending();
    assert!(ending.iter().all(|size| after.contains(size)));
    let others = |sizes: &[u64]| sizes.iter().filter(|size| **size > begin).count();
    assert!(others(&after) > others(&before), "what has leaves is young");
    // No start takes more.
    life.stop();
    life.start();
    life.live(HOUR / 120, HOUR / 120, 1);
    let again = life.sizes();
    assert!(after.iter().all(|size| again.contains(size)));
}

#[test]
fn signatures_of_former_keys_are_no_cosignatures() {
    let mut life = Life::new(None);
    life.live(4 * HOUR, HOUR / 4, 2);
    life.stop();
    let journal = Journal::with(RealFs, life.options());
    let _ = journal.handle.rotate_key().unwrap();
    journal.close();
    life.start();
    life.live(12 * HOUR, HOUR / 4, 2);
    life.stop();
    assert_eq!(life.notes().last().unwrap().matches('\u{2014}').count(), 2, "both sign");
    let journal = Journal::with(RealFs, life.options());
    let _ = journal.handle.finish_rotation().unwrap();
    journal.close();
    // A witness signs one of them.
    let witness = Ed25519Signer::from_seed("witness", &[5; 32]).unwrap();
    let mut notes = life.notes();
    let (hour, ending) = (|at: usize| life.signed[at].1 / HOUR, life.ending());
    let at = (30..60).find(|at| hour(*at) == hour(at + 1) && !ending.contains(&life.signed[*at].0));
    let cosigned = life.signed[at.unwrap()].0;
    for note in notes.iter_mut().filter(|note| size(note) == cosigned) {
        let body = note.split_inclusive("\n\n").next().unwrap().strip_suffix('\n').unwrap();
        let line = signature_line(body, &witness).unwrap();
        note.push_str(&line);
    }
    std::fs::write(life.file(), notes.concat()).unwrap();
    life.start();
    life.live(2 * DAY, HOUR / 4, 2);
    life.check(&[cosigned]);
    assert!(life.notes().iter().any(|note| note.contains("\u{2014} witness ")));
}
