//! One generation of the journal, from its first record to its last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use auditmon_journal::format::LEAF;
use auditmon_merkle::Hash;

use crate::absences::{Absences, ELSEWHERE, ELSEWHERE_UNSIGNED};
use crate::accepted::{AsAccepted, Lacks, Told};
use crate::event::Declaration;
use crate::files::{Generation, Parts};
use crate::heads::{Head, Heads};
use crate::letters::{Letter, Letters};
use crate::memory::Memory;
use crate::report::{CouldNot, Fault, Report};
use crate::row_stream::RowStream;
use crate::segment::{Segment, Tail};
use crate::tiles::Tiles;
use crate::trees::{Trees, Wrong};

mod collapsed;
mod end;
mod leaves;
mod records;
mod step;
mod unsigned;

use leaves::Leaves;

/// Leaves read at once.
const LEAVES: usize = 1024;
/// Most records without any witness that are gone through one by one.
const MAX_MISSING: u64 = 1 << 24;
/// How long a running agent is given to sign what it has just written.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a sink remembers of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) place: String,
    /// The record that it wants next.
    pub(crate) seq: u64,
    /// Leaf hash of the record before.
    pub(crate) hash: Hash,
}

impl Remembered {
    /// That nothing is left to compare it with.
    fn uncompared(&self) -> String {
        format!(
            "whether {} is a position in this journal: of the record before it, seq {}, not even a leaf is left",
            self.place,
            self.seq.saturating_sub(1)
        )
    }
}

/// How the check of a generation goes.
pub(crate) struct Setting<'a> {
    pub(crate) generation: &'a Generation,
    /// It is the one that an agent writes to.
    pub(crate) newest: bool,
    /// An agent has the directory open.
    pub(crate) running: bool,
    /// There is a key, so the agent signs.
    pub(crate) signs: bool,
    pub(crate) letters: &'a Letters,
    pub(crate) progress: &'a dyn Fn(u64),
}

pub(crate) struct Check<'a> {
    setting: Setting<'a>,
    report: &'a mut Report,
    heads: Heads,
    trees: Trees,
    tiles: Tiles,
    memory: Memory,
    absences: Absences,
    rows: Option<RowStream>,
    /// The one with the smallest seq last.
    remembered: Vec<Remembered>,
    /// Dead letters of it, the one with the smallest seq last, and those that nothing can be compared with.
    letters: &'a [Letter],
    unseen_letters: u64,
    /// The next record.
    seq: u64,
    /// First seq of the segment.
    segment: u64,
    /// The newest head that holds, and the first that doesn't.
    good: Option<Head>,
    bad: bool,
    /// Largest size that is signed.
    covered: u64,
    wrong: Vec<Wrong>,
    /// Runs of records of which only hashes over many are left.
    collapsed: Vec<(u64, u64)>,
    /// Records of the last one of which a tile that is left has the leaf's hash, and is the tree's; in order.
    tiled: Vec<std::ops::Range<u64>>,
    expired_files: bool,
    /// Segments without payloads when the check began.
    gone: BTreeSet<u64>,
    /// The payloads of this one went since then.
    meanwhile: bool,
    /// What it says about former generations.
    told: Vec<(u64, Told)>,
    as_accepted: Option<AsAccepted>,
    /// It has an event.
    begun: bool,
    unsigned: Unsigned,
    /// Where what a running agent has written ends.
    heard: u64,
}

/// Records that no checkpoint covers.
#[derive(Default)]
struct Unsigned {
    /// When the first and the last of them were received, ns since 1970.
    received: Option<(u64, u64)>,
    /// How often the agent says among them that it started.
    starts: u64,
}

/// What a check of one generation says about others, and whether it is as it was accepted.
pub(crate) struct Outcome {
    /// What is signed, and what isn't.
    pub(crate) told: Vec<(u64, Told)>,
    pub(crate) unsigned: Vec<(u64, Told)>,
    pub(crate) as_accepted: bool,
    /// It has an event, or an agent is about to write one.
    pub(crate) begun: bool,
    /// Size of the newest head that holds.
    pub(crate) signed: u64,
}

impl<'a> Check<'a> {
    pub(crate) fn new(
        setting: Setting<'a>,
        report: &'a mut Report,
        heads: Heads,
        rows: Option<RowStream>,
        mut remembered: Vec<Remembered>,
    ) -> Self {
        remembered.sort_by_key(|remembered| std::cmp::Reverse(remembered.seq));
        Self {
            tiles: Tiles::new(setting.generation.dir.clone()),
            covered: heads.newest.unwrap_or(0),
            report,
            heads,
            trees: Trees::new(),
            memory: Memory::default(),
            absences: Absences::default(),
            rows,
            remembered,
            letters: setting.letters.of(setting.generation.number),
            unseen_letters: 0,
            setting,
            seq: 0,
            segment: 0,
            good: None,
            bad: false,
            wrong: Vec::new(),
            collapsed: Vec::new(),
            tiled: Vec::new(),
            expired_files: false,
            gone: BTreeSet::new(),
            meanwhile: false,
            told: Vec::new(),
            as_accepted: None,
            begun: false,
            unsigned: Unsigned::default(),
            heard: 0,
        }
    }

    /// Also compares with what somebody accepted.
    pub(crate) fn accepted(mut self, former: Option<AsAccepted>) -> Self {
        self.as_accepted = former;
        self
    }

    /// The store will never get these records, say newer generations.
    pub(crate) fn lacking(mut self, lacks: Lacks) -> Self {
        self.absences.declare(ELSEWHERE, &Declaration::Gap(lacks.signed));
        self.absences
            .declare(ELSEWHERE_UNSIGNED, &Declaration::Gap(lacks.unsigned));
        self
    }

    /// Checks everything.
    pub(crate) fn run(mut self) -> Result<Outcome, CouldNot> {
        self.compare_roots()?;
        let mut since: Option<Instant> = None;
        let mut segments = self.list()?;
        let gone = segments.iter().filter(|(_, parts)| !parts.seg);
        self.gone = gone.map(|(first, _)| *first).collect();
        if let Some(first) = segments.keys().next().copied()
            && first > 0
        {
            self.missing(first, "seg", "the oldest segments are missing, with their leaves")?;
        }
        let mut tail = Tail::default();
        let mut open: Option<Segment> = None;
        let mut done: Option<u64> = None;
        loop {
            let todo: Vec<(u64, Parts)> = segments
                .iter()
                .filter(|(first, _)| done.is_none_or(|done| **first >= done))
                .map(|(first, parts)| (*first, *parts))
                .collect();
            for (at, (first, parts)) in todo.iter().enumerate() {
                let end = todo.get(at + 1).map(|(next, _)| *next);
                if end.is_none() && self.setting.running {
                    self.heads.read_newest(self.setting.generation, self.report)?;
                    self.covered = self.covered.max(self.heads.newest.unwrap_or(0));
                }
                tail = self.segment(*first, *parts, end, &mut open)?;
                done = Some(*first);
                if let Some(end) = end {
                    let what = match parts.seg {
                        true => "a segment is missing, with its leaves",
                        false => "a segment is missing, with its leaves, or what is left of the one before it was cut",
                    };
                    self.missing(end, "seg", what)?;
                }
            }
            // A new segment was begun meanwhile; or retention removed one, which is declared in what is being written,
            // or is written and not signed yet; or an event was erased.
            let behind = self.seq < self.covered;
            // One that was just started has signed nothing yet, or less than the segments that it has filled since.
            let fresh = self.setting.newest && self.good.is_none() && self.report.holds();
            let again = behind || fresh || self.absences.open(self.signed_below(self.seq));
            let since = since.get_or_insert_with(Instant::now);
            if !self.setting.running || !again || since.elapsed() > PATIENCE {
                break;
            }
            if !behind {
                std::thread::sleep(PATIENCE / 60);
            }
            self.tiles.forget();
            segments = self.list()?;
        }
        if self.setting.running {
            self.hear_unsigned(open)?;
        }
        let signed = self.good.as_ref().map_or(0, |good| good.tree.size);
        let told = std::mem::take(&mut self.told);
        let (told, unsigned) = told.into_iter().partition(|(seq, _)| *seq < signed);
        let as_accepted = self.as_accepted.as_ref().is_some_and(AsAccepted::holds);
        let begun = self.begun || self.setting.running || !self.collapsed.is_empty();
        self.finish(tail)?;
        Ok(Outcome {
            told,
            unsigned,
            as_accepted,
            begun,
            signed,
        })
    }

    fn list(&self) -> Result<BTreeMap<u64, Parts>, CouldNot> {
        let generation = self.setting.generation;
        generation
            .segments()
            .map_err(|error| CouldNot::new(generation.place("seg"), error))
    }

    fn place(&self, file: impl std::fmt::Display) -> String {
        self.setting.generation.place(file)
    }

    fn could_not<N: std::fmt::Display>(&self, file: N) -> impl FnOnce(io::Error) -> CouldNot + use<N> {
        let place = self.place(file);
        move |error| CouldNot::new(place, error)
    }

    /// Goes through one segment, up to `end`, or to its end if it is the newest.
    fn segment(
        &mut self,
        first: u64,
        parts: Parts,
        end: Option<u64>,
        open: &mut Option<Segment>,
    ) -> Result<Tail, CouldNot> {
        let generation = self.setting.generation;
        if self.segment != first || open.is_none() {
            self.segment = first;
            self.memory.begin();
            *open = None;
        }
        let path = generation.dir.join(Generation::seg_name(first));
        let mut opened = match open.take() {
            Some(mut segment) => segment.reopen(&path, end).map(|()| Some(segment)),
            None if parts.seg => Segment::open(&path, end).map(Some),
            None => Ok(None),
        };
        if opened
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            // Retention took it meanwhile.
            opened = Ok(None);
        }
        let opened = opened.map_err(self.could_not(Generation::seg_name(first)))?;
        if let Some(mut segment) = opened {
            let tail = self.records(first, parts, end, &mut segment)?;
            *open = Some(segment);
            return Ok(tail);
        }
        self.memory.forget();
        let there = |name: String| generation.dir.join(name).is_file();
        // While the check runs a segment may have been collapsed.
        if !there(Generation::leaf_name(first)) && (parts.sub || there(Generation::sub_name(first))) {
            self.collapsed(first, end)?;
        } else {
            self.leaves_only(first, end)?;
        }
        Ok(Tail {
            cut: true,
            ..Tail::default()
        })
    }

    /// Records up to `until` of which neither segment nor leaves are there.
    fn missing(&mut self, until: u64, place: &str, what: &str) -> Result<(), CouldNot> {
        if self.seq >= until {
            return Ok(());
        }
        self.memory.forget();
        self.report
            .fault(Fault::at(self.place(place), self.seq, until - 1, None, what));
        if until - self.seq > MAX_MISSING {
            self.skip(until)?;
        }
        while self.seq < until {
            self.step(None, None)?;
        }
        Ok(())
    }

    /// Passes over records that nothing is left of.
    fn skip(&mut self, until: u64) -> Result<(), CouldNot> {
        self.trees.lose();
        self.as_accepted.iter_mut().for_each(AsAccepted::lose);
        self.seq = until;
        if let Some(rows) = &mut self.rows {
            rows.pass(until, |_| Ok(None), self.report)?;
        }
        while let Some(remembered) = self.remembered.pop_if(|remembered| remembered.seq <= until) {
            self.report.unseen(remembered.uncompared());
        }
        Ok(())
    }

    /// A segment of which retention removed the payloads.
    fn leaves_only(&mut self, first: u64, end: Option<u64>) -> Result<(), CouldNot> {
        self.expired_files = true;
        self.meanwhile = self.setting.running && !self.gone.contains(&first);
        let from = self.seq;
        let mut leaves = Leaves::open(self.setting.generation, first, true)?;
        let until = end.unwrap_or(first.saturating_add(leaves.count));
        leaves.end_alone(until, self);
        while self.seq < until {
            let Some(leaf) = leaves.next(self)? else { break };
            self.report.counts.expired += 1;
            if self.seq.is_multiple_of(LEAVES as u64) {
                (self.setting.progress)((LEAVES * LEAF) as u64);
            }
            self.step(None, Some(&leaf))?;
        }
        if self.seq > from {
            match self.meanwhile {
                true => self.absences.vanished(from, self.seq - 1),
                false => self.absences.expired(from, self.seq - 1),
            }
        }
        self.meanwhile = false;
        Ok(())
    }
}
