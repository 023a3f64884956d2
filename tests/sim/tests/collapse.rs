//! Collapse on a disk that loses power at each of its steps.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auditmon_journal::bare::{self, Core, Submission, Time};
use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{AgentNote, Fs as _, Item, Options, Records};
use auditmon_merkle::{Frontier, leaf_hash};
use auditmon_sim::disk::SimFs;

const SECOND: u64 = 1_000_000_000;
const SEG: &str = "/d/journal/1/seg";

fn options(segment_size: u64) -> Options {
    let tell = |note: AgentNote, records: &mut Records| push(records, Kind::Agent, &format!("{note:?}"));
    let mut options = Options::new("/d", "sim", Box::new(tell));
    options.segment_size = segment_size;
    options.max_size = segment_size * 4;
    options.keep_age = Duration::ZERO;
    options.reserve = 0;
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
    let pushed = records.push(&prefix, [1; 16], |out| out.extend(text.bytes()));
    assert!(pushed.is_ok());
}

struct Life {
    fs: SimFs,
    core: Core,
    now: Time,
    /// Of all records that were shown.
    tree: Frontier,
}

impl Life {
    fn new(segment_size: u64) -> Self {
        let fs = SimFs::new(1);
        fs.set_free(1 << 40);
        let now = Time {
            wall_ns: 1_700_000_000 * SECOND,
            mono_ns: SECOND,
        };
        let core = Self::open(&fs, segment_size, now);
        let tree = Frontier::new();
        Self { fs, core, now, tree }
    }

    fn open(fs: &SimFs, segment_size: u64, now: Time) -> Core {
        let (core, opened) = bare::open(Arc::new(fs.clone()), options(segment_size), now, None).unwrap();
        assert_eq!(opened.generation, 1);
        assert!(opened.findings.is_empty(), "{:?}", opened.findings);
        core
    }

    /// Writes records, seals, signs, and lets retention do its work; collapses nothing.
    fn write(&mut self, count: u64, at_once: u64) {
        for _ in 0..count.div_ceil(at_once) {
            let mut records = Records::new();
            for n in 0..at_once {
                push(&mut records, Kind::Application, &n.to_string());
            }
            let submission = Submission {
                records,
                done: Box::new(|answer| assert!(answer.is_ok(), "{answer:?}")),
                since_ns: self.now.mono_ns,
                own: false,
            };
            self.core.commit([submission], self.now);
            self.look();
            self.pass();
        }
    }

    fn pass(&mut self) {
        self.core.seal_all(self.now);
        assert!(self.core.checkpoint(self.now));
        self.now.wall_ns += 2 * SECOND;
        self.now.mono_ns += 2 * SECOND;
        self.core.maintain(self.now);
        self.look();
    }

    /// Grows the tree by what is new.
    fn look(&mut self) {
        let mut reader = self.core.reader(self.tree.size());
        while let Some(item) = reader.next().unwrap() {
            let Item::Records(batch) = item else {
                panic!("a gap at {}", self.tree.size());
            };
            for entry in batch.iter() {
                assert_eq!(entry.seq, self.tree.size());
                self.tree.push(leaf_hash(&entry.record.leaf())).unwrap();
            }
        }
    }

    /// What is signed is the tree of all that was written.
    fn signs(&mut self) {
        self.look();
        assert!(self.core.checkpoint(self.now));
        let newest = self.core.newest_checkpoint().unwrap();
        assert_eq!(newest.size, self.tree.size());
        assert_eq!(newest.root, *self.tree.root().as_bytes());
    }

    fn files(&self, ending: &str) -> Vec<u64> {
        let names = self.fs.list(Path::new(SEG)).unwrap();
        let mut firsts: Vec<u64> = names
            .iter()
            .filter_map(|name| name.strip_suffix(ending)?.parse().ok())
            .collect();
        firsts.sort_unstable();
        firsts
    }

    fn tiles(&self, level: u8) -> Vec<PathBuf> {
        let dir = PathBuf::from(format!("/d/journal/1/tile/{level}"));
        let names = self.fs.list(&dir).unwrap_or_default();
        names.iter().map(|name| dir.join(name)).collect()
    }
}

#[test]
fn leaves_and_tiles_never_block_and_collapse_below_half() {
    let mut life = Life::new(4096);
    // By far more leaves and tiles than `max_size`: every submission was accepted.
    life.write(2000, 10);
    assert!(life.files(".leaf").len() as u64 * 20 * 66 > 4096 * 4);
    assert!(life.files(".sub").is_empty());
    assert!(life.core.collapse_due(), "it is due");
    let (leaves, subs) = (life.files(".leaf"), life.files(".sub"));
    assert!(
        subs.len() > 10 && subs[0] == 0 && subs.last() < leaves.first(),
        "{subs:?} {leaves:?}"
    );
    let segs = life.files(".seg");
    assert!(leaves.last() < segs.last() && leaves.len() > 1);
    life.signs();
    // It goes on.
    life.write(1000, 10);
    while life.core.collapse_due() {}
    assert!(life.files(".sub").len() > subs.len());
    life.signs();
}

#[test]
fn power_may_go_at_every_step() {
    let mut steps = 0;
    for crash in 0.. {
        let mut life = Life::new(4096);
        life.write(900, 30);
        let leaves = life.files(".leaf");
        life.fs.crash_in(crash);
        assert!(life.core.collapse_due());
        let crashed = life.fs.crashed();
        life.fs.heal();
        let Life { fs, core, now, tree } = life;
        drop(core);
        if crashed {
            fs.power_cycle();
        } else {
            fs.kill();
        }
        let core = Life::open(&fs, 4096, now);
        let mut life = Life { fs, core, now, tree };
        let (some, subs) = (life.files(".leaf"), life.files(".sub"));
        for first in &leaves {
            assert!(
                some.contains(first) || subs.contains(first),
                "{first} is gone at step {crash}"
            );
        }
        life.signs();
        life.pass();
        life.core.collapse_due();
        life.write(300, 30);
        life.signs();
        let (some, subs) = (life.files(".leaf"), life.files(".sub"));
        assert!(some.iter().all(|first| !subs.contains(first)), "{some:?} {subs:?}");
        if !crashed {
            break;
        }
        steps = crash;
    }
    assert!(steps > 20, "{steps} steps");
}

#[test]
fn without_tiles_the_tree_goes_on_from_what_is_collapsed() {
    let mut life = Life::new(4096);
    life.write(900, 30);
    assert!(life.core.collapse_due());
    life.signs();
    let Life { fs, core, now, tree } = life;
    drop(core);
    fs.kill();
    for path in Life::paths(&fs, 0) {
        fs.remove(&path).unwrap();
    }
    let core = Life::open(&fs, 4096, now);
    let mut life = Life { fs, core, now, tree };
    life.write(1500, 30);
    life.signs();
    // Tiles were made again of what has leaves, and none of what hasn't.
    let begin = life.files(".leaf")[0];
    assert!(!life.tiles(0).is_empty());
    for path in life.tiles(0) {
        let index: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert!(index * 256 >= begin, "{path:?}");
    }
    // A collapsed one that was changed leads to no signed root: nothing is signed over it.
    let Life { fs, core, now, .. } = life;
    drop(core);
    fs.kill();
    for path in Life::paths(&fs, 0) {
        fs.remove(&path).unwrap();
    }
    let sub = Path::new(SEG).join(format!("{:020}.sub", 0));
    let mut bytes = fs.content(&sub).unwrap();
    bytes[20] ^= 1;
    fs.put(&sub, &bytes);
    let (_, opened) = bare::open(Arc::new(fs), options(4096), now, None).unwrap();
    assert!(format!("{:?}", opened.findings).contains("Rewritten"), "{opened:?}");
}

impl Life {
    fn paths(fs: &SimFs, level: u8) -> Vec<PathBuf> {
        let dir = PathBuf::from(format!("/d/journal/1/tile/{level}"));
        let names = fs.list(&dir).unwrap_or_default();
        names.iter().map(|name| dir.join(name)).collect()
    }
}

#[test]
fn tiles_go_once_the_one_above_is_full() {
    for crash in [2, 100, 1000, u64::MAX] {
        let mut life = Life::new(256 << 10);
        life.write(70_000, 2000);
        let sub_ends = life.files(".leaf");
        assert_eq!(life.tiles(1).len(), 1);
        life.fs.crash_in(crash);
        assert!(life.core.collapse_due());
        let crashed = life.fs.crashed();
        assert_eq!(crashed, crash < 1000, "at {crash}");
        life.fs.heal();
        let Life { fs, core, now, tree } = life;
        drop(core);
        if crashed {
            fs.power_cycle();
        } else {
            fs.kill();
        }
        let core = Life::open(&fs, 256 << 10, now);
        let mut life = Life { fs, core, now, tree };
        life.signs();
        life.pass();
        life.core.collapse_due();
        let end = life.files(".leaf")[0];
        assert!(sub_ends.contains(&end) && end > 30_000, "{end}");
        let tiles = life.tiles(0);
        let first = tiles
            .iter()
            .map(|path| {
                path.to_str()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .min()
            .unwrap();
        // A removal that no disk had may come undone, which does no harm.
        let needed = end.min(65_536) / 256;
        assert!(
            first == needed || crashed && first < needed,
            "{first}, later records need {needed}"
        );
        assert!(
            tiles.iter().any(|path| path.ends_with(format!("{needed:03}"))),
            "{tiles:?}"
        );
        assert_eq!(life.tiles(1).len(), 1, "the newest of those that hold them stays");
        life.write(4000, 2000);
        life.signs();
    }
}
