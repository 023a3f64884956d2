//! Checks a data directory, read-only, beside a running agent too.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::core::FIRST_FRAME;
use crate::format::{LEAF, RecordIter, SEGMENT_HEAD, SegmentHead, origin_hash};
use crate::fs::{Fs, FsFile, read_full_at};
use crate::scan::{Finder, FrameReader, last_nonzero, walk};
use crate::walk::{Generation, generations};

/// How often the end of a segment that is being written is looked at again
/// before it is called damaged.
const TRIES: usize = 20;

/// What a check found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// All generations, oldest first.
    pub generations: Vec<GenerationReport>,
}

/// One generation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GenerationReport {
    /// Its number.
    pub number: u32,
    /// Its origin.
    pub origin: String,
    /// Its segments with payloads, in order.
    pub segments: Vec<SegmentReport>,
}

/// One segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SegmentReport {
    /// First seq, which names the file.
    pub first_seq: u64,
    /// Seq behind its last readable record.
    pub next_seq: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Readable frames, marks among them.
    pub frames: u64,
    /// Readable records.
    pub records: u64,
    /// Whether it has its leaves.
    pub sealed: bool,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What can be wrong with a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// An unfinished write at the end of the newest segment; the next start
    /// cuts it. Counts as clean.
    TornTail {
        /// Where it begins.
        offset: u64,
        /// Its bytes up to the last that isn't zero.
        length: u64,
    },
    /// Records are missing.
    Damage {
        /// Where readable frames end.
        offset: u64,
        /// First missing record.
        first: u64,
        /// Last missing record.
        last: u64,
    },
    /// The segment's head is damaged, or says another seq or origin.
    Head,
    /// The leaves don't match the records.
    Leaves {
        /// First record that doesn't match, or that has no leaf.
        seq: u64,
    },
}

impl Report {
    /// Whether there is no damage; a torn tail is clean.
    pub fn is_clean(&self) -> bool {
        self.generations
            .iter()
            .flat_map(|generation| &generation.segments)
            .flat_map(|segment| &segment.problems)
            .all(|problem| matches!(problem, Problem::TornTail { .. }))
    }
}

/// Checks all segments of the data directory `dir`.
///
/// # Errors
/// There is no journal, or something of it can't be read.
pub fn check<F: Fs>(fs: &F, dir: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    for generation in generations(fs, dir)? {
        let mut segments = Vec::new();
        for first_seq in &generation.segs {
            let end_seq = generation.end_of(*first_seq);
            match check_segment(fs, &generation, *first_seq, end_seq) {
                Ok(segment) => segments.push(segment),
                // Retention took it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        report.generations.push(GenerationReport {
            number: generation.number,
            origin: generation.origin,
            segments,
        });
    }
    Ok(report)
}

fn check_segment(
    fs: &dyn Fs,
    generation: &Generation,
    first_seq: u64,
    end_seq: Option<u64>,
) -> io::Result<SegmentReport> {
    let mut report = check_once(fs, generation, first_seq, end_seq)?;
    // What is being written may look damaged for a moment.
    for _ in 1..TRIES {
        let torn = |problem: &Problem| matches!(problem, Problem::TornTail { .. });
        if end_seq.is_some() || report.problems.iter().all(torn) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        report = check_once(fs, generation, first_seq, end_seq)?;
    }
    Ok(report)
}

fn check_once(fs: &dyn Fs, generation: &Generation, first_seq: u64, end_seq: Option<u64>) -> io::Result<SegmentReport> {
    let file = fs.open_read(&generation.layout.seg(first_seq))?;
    let size = file.size()?;
    let mut report = SegmentReport {
        first_seq,
        next_seq: first_seq,
        bytes: size,
        frames: 0,
        records: 0,
        sealed: false,
        problems: Vec::new(),
    };
    if !head_is_good(&*file, generation, first_seq)? {
        report.problems.push(Problem::Head);
    }
    let mut leaves = if generation.leaves.contains(&first_seq) {
        report.sealed = true;
        Some(Leaves::open(fs, generation, first_seq)?)
    } else {
        None
    };
    let until = end_seq.unwrap_or(u64::MAX);
    let mut offset = FIRST_FRAME;
    let mut seq = first_seq;
    let mut frames = FrameReader::new(Arc::clone(&file), size);
    let mut finder: Option<Finder> = None;
    let mut behind = 0;
    let mut pending: Vec<Problem> = Vec::new();
    loop {
        let stop = walk(&mut frames, offset, seq, until, |_, head, records| {
            report.frames += 1;
            report.records += u64::from(head.count);
            if let Some(leaves) = &mut leaves {
                leaves.compare(head.first_seq, records)?;
            }
            Ok(())
        })?;
        behind = behind.max(stop.synced);
        report.next_seq = stop.seq;
        if stop.reached {
            break;
        }
        let finder = finder.get_or_insert_with(|| Finder::new(Arc::clone(&file), stop.offset, size));
        let Some((at, head)) = finder.find(stop.offset + 1, stop.seq..until)? else {
            finish(&*file, size, stop.offset, stop.seq, end_seq, behind, &mut pending)?;
            break;
        };
        if head.first_seq > stop.seq {
            pending.push(Problem::Damage {
                offset: stop.offset,
                first: stop.seq,
                last: head.first_seq - 1,
            });
        }
        offset = at;
        seq = head.first_seq;
    }
    report.problems.append(&mut pending);
    if let Some(seq) = leaves.and_then(|leaves| leaves.verdict(report.next_seq)) {
        report.problems.push(Problem::Leaves { seq });
    }
    Ok(report)
}

/// No frame follows: decides what the end is.
fn finish(
    file: &dyn FsFile,
    size: u64,
    offset: u64,
    seq: u64,
    end_seq: Option<u64>,
    behind: u64,
    pending: &mut Vec<Problem>,
) -> io::Result<()> {
    if let Some(end_seq) = end_seq {
        pending.push(Problem::Damage {
            offset,
            first: seq,
            last: end_seq - 1,
        });
        return Ok(());
    }
    // Frames behind bad bytes prove damage only by what they say was synced.
    let torn_from = match pending.first() {
        Some(Problem::Damage { offset, first, .. }) if behind <= *first => Some(*offset),
        Some(_) => None,
        None => Some(offset),
    };
    if let Some(from) = torn_from {
        pending.clear();
        if let Some(end) = last_nonzero(file, from, size)? {
            pending.push(Problem::TornTail {
                offset: from,
                length: end - from,
            });
        }
    }
    Ok(())
}

fn head_is_good(file: &dyn FsFile, generation: &Generation, first_seq: u64) -> io::Result<bool> {
    let mut bytes = [0; SEGMENT_HEAD];
    let read = read_full_at(file, &mut bytes, 0)?;
    let origin = origin_hash(&generation.origin);
    Ok(read == SEGMENT_HEAD && SegmentHead::parse(&bytes) == Ok(SegmentHead { first_seq, origin }))
}

/// A `.leaf` file that is compared with the records as they pass.
struct Leaves {
    file: Arc<dyn FsFile>,
    first_seq: u64,
    count: u64,
    wrong: Option<u64>,
}

impl Leaves {
    fn open(fs: &dyn Fs, generation: &Generation, first_seq: u64) -> io::Result<Self> {
        let file = fs.open_read(&generation.layout.leaf(first_seq))?;
        let size = file.size()?;
        let whole = size % LEAF as u64 == 0;
        Ok(Self {
            count: size / LEAF as u64,
            wrong: (!whole).then_some(first_seq),
            first_seq,
            file,
        })
    }

    fn compare(&mut self, first_seq: u64, records: &[u8]) -> io::Result<()> {
        let records = RecordIter::new(records).flatten();
        // A frame's leaves at once: at most 11,000 of 66 bytes.
        let made: Vec<u8> = records.flat_map(|record| record.leaf()).collect();
        let mut stored = vec![0; made.len()];
        let at = (first_seq - self.first_seq).saturating_mul(LEAF as u64);
        let read = read_full_at(&*self.file, &mut stored, at)?;
        stored.truncate(read);
        if stored != made && self.wrong.is_none() {
            let same = made
                .chunks(LEAF)
                .zip(stored.chunks(LEAF))
                .take_while(|(made, stored)| made == stored)
                .count();
            self.wrong = Some(first_seq + same as u64);
        }
        Ok(())
    }

    fn verdict(&self, next_seq: u64) -> Option<u64> {
        let end = self.first_seq.saturating_add(self.count);
        self.wrong.or((end != next_seq).then_some(next_seq.min(end)))
    }
}
