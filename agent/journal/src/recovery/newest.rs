//! The newest segment: what of it is good, and whether the rest is torn or damaged.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use super::own_hash;
use crate::core::{FIRST_FRAME, UNCUT};
use crate::format::{Kind, RecordIter, SEGMENT_HEAD, SegmentHead, StateRecord, leaf_hash};
use crate::fs::{FsFile, is_full, read_full_at, write_all_at};
use crate::options::OpenError;
use crate::scan::{Finder, FrameReader, Stop, last_nonzero, walk};
use crate::shared::Shared;
use crate::states::States;

/// What recovery makes of the newest segment.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Zeros or nothing behind the last frame.
    Clean,
    /// An unfinished write behind the last frame, up to `end`.
    Torn {
        /// Offset behind the last byte that isn't zero.
        end: u64,
    },
    /// Good, but has its leaves already: never edited again.
    Sealed,
    /// Records that were on disk are missing.
    Damaged {
        /// 1 + the largest seq that anything names.
        next_seq: u64,
        /// Offset, first and last seq of what is missing.
        gaps: Vec<(u64, u64, u64)>,
    },
}

/// The newest segment, read once from front to end.
pub(super) struct Newest {
    pub(super) first_seq: u64,
    pub(super) file: Arc<dyn FsFile>,
    pub(super) size: u64,
    pub(super) stop: Stop,
    /// Behind the repeated states.
    pub(super) head_end: u64,
    pub(super) states: States,
    pub(super) last_leaf: Option<[u8; 32]>,
    pub(super) verdict: Verdict,
    shared: Arc<Shared>,
    header_good: bool,
    /// First offset of a frame that no `synced` covers.
    unproven: u64,
    /// Good frames behind bad bytes.
    islands: Vec<(u64, u64, u64)>,
    /// Largest seq that a frame behind bad bytes names.
    behind: u64,
    /// Offset behind the last byte that isn't zero, if it is no frame's.
    tail: Option<u64>,
}

impl Newest {
    /// Reads frames in order, and looks behind where they end before `until`.
    pub(super) fn read(shared: &Arc<Shared>, first_seq: u64, until: u64) -> Result<Self, OpenError> {
        let path = shared.layout.seg(first_seq);
        let file = shared.fs.open(&path).map_err(OpenError::io(&path))?;
        let size = file.size().map_err(OpenError::io(&path))?;
        let header_good = header(&*file, &path, shared, first_seq)?;
        let mut newest = Self {
            first_seq,
            size,
            stop: Stop {
                offset: FIRST_FRAME,
                seq: first_seq,
                synced: 0,
                marked: false,
                reached: false,
            },
            head_end: FIRST_FRAME,
            states: States::default(),
            last_leaf: None,
            verdict: Verdict::Clean,
            shared: Arc::clone(shared),
            header_good,
            unproven: FIRST_FRAME,
            islands: Vec::new(),
            behind: 0,
            tail: None,
            file,
        };
        newest
            .walk(until)
            .and_then(|()| newest.look_behind())
            .map_err(OpenError::io(&path))?;
        Ok(newest)
    }

    fn walk(&mut self, until: u64) -> io::Result<()> {
        let mut frames = FrameReader::new(Arc::clone(&self.file), self.size);
        let mut unproven: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        let mut in_head = true;
        let states = &mut self.states;
        let head_end = &mut self.head_end;
        self.stop = walk(
            &mut frames,
            FIRST_FRAME,
            self.first_seq,
            until,
            |offset, head, records| {
                apply_states(states, records);
                if head.count > 0 {
                    last = Some((offset, *head));
                    in_head &= only_states(records) && head.synced == self.first_seq;
                    if in_head {
                        *head_end = offset + head.len() as u64;
                    }
                }
                unproven.retain(|(_, proof)| *proof > head.synced);
                // A mark has no record of its own: only one behind it proves it.
                let proof = head.next_seq() + u64::from(head.count == 0);
                unproven.push((offset, proof));
                Ok(())
            },
        )?;
        self.unproven = unproven.first().map_or(self.stop.offset, |(offset, _)| *offset);
        if let Some((offset, head)) = last {
            let records = frames.records(offset, &head)?;
            self.last_leaf = RecordIter::new(records)
                .flatten()
                .last()
                .map(|record| leaf_hash(&record.leaf()));
        }
        Ok(())
    }

    fn look_behind(&mut self) -> io::Result<()> {
        if self.stop.reached {
            return Ok(());
        }
        let mut offset = self.stop.offset;
        let mut seq = self.stop.seq;
        self.tail = last_nonzero(&*self.file, offset, self.size)?;
        let Some(tail) = self.tail else {
            return Ok(());
        };
        let mut finder = Finder::new(Arc::clone(&self.file), offset, tail);
        let mut frames = FrameReader::new(Arc::clone(&self.file), self.size);
        let states = &mut self.states;
        while let Some((at, head)) = finder.find(offset + 1, seq..u64::MAX)? {
            if head.first_seq > seq {
                self.islands.push((offset, seq, head.first_seq - 1));
            }
            let stop = walk(&mut frames, at, head.first_seq, u64::MAX, |_, _, records| {
                apply_states(states, records);
                Ok(())
            })?;
            self.behind = self.behind.max(stop.synced);
            // The walk passes the frame that was found, unless the file changed.
            offset = stop.offset.max(at + head.len() as u64);
            seq = stop.seq.max(head.next_seq());
        }
        if !self.islands.is_empty() {
            self.islands.push((offset, seq, u64::MAX));
        }
        Ok(())
    }

    /// Whether a crash left it half-made: nothing in it, or no head.
    pub(super) fn is_unfinished(&self) -> bool {
        self.stop.offset == FIRST_FRAME && self.islands.is_empty() && self.behind == 0
    }

    /// Decides; `named` is 1 + the largest seq that anything else names.
    pub(super) fn judge(&mut self, named: u64, sealed: bool) -> Result<(), OpenError> {
        let good = self.stop.seq;
        // A frame behind may only tell of records that were synced when it was
        // written: that alone makes bad bytes damage.
        let damaged = self.behind > good || named > good || !self.header_good;
        self.verdict = if damaged {
            // Frames count here too: their numbers must not be given twice.
            let found = self.islands.last().map_or(good, |(_, seq, _)| *seq);
            let next_seq = found.max(self.behind).max(named).max(good);
            let mut gaps = std::mem::take(&mut self.islands);
            match gaps.pop() {
                Some((offset, first, _)) if first < next_seq => {
                    gaps.push((offset, first, next_seq - 1));
                }
                Some(_) => {}
                None if good < next_seq => gaps.push((self.stop.offset, good, next_seq - 1)),
                None => {}
            }
            if !self.header_good {
                gaps.push((0, self.first_seq, self.first_seq.saturating_sub(1)));
            }
            Verdict::Damaged { next_seq, gaps }
        } else if sealed {
            Verdict::Sealed
        } else {
            match self.tail {
                Some(end) if !self.stop.reached => Verdict::Torn { end },
                _ => Verdict::Clean,
            }
        };
        if matches!(self.verdict, Verdict::Torn { .. }) && !self.islands.is_empty() {
            // States of frames that are cut were never answered.
            self.states = States::default();
            let path = self.shared.layout.seg(self.first_seq);
            let mut frames = FrameReader::new(Arc::clone(&self.file), self.stop.offset);
            let states = &mut self.states;
            walk(&mut frames, FIRST_FRAME, self.first_seq, good, |_, _, records| {
                apply_states(states, records);
                Ok(())
            })
            .map_err(OpenError::io(path))?;
        }
        Ok(())
    }

    /// Where the repeated states at the head are lost, those of the segment
    /// before come first.
    pub(super) fn restore_states(&mut self, previous: u64) -> Result<(), OpenError> {
        if self.stop.offset > FIRST_FRAME {
            return Ok(());
        }
        let mut before = Self::read(&self.shared, previous, self.first_seq)?;
        let later = std::mem::take(&mut self.states);
        for (source, states) in later.map() {
            for (key, state) in states {
                let state = StateRecord {
                    key,
                    expiry_ns: state.expiry_ns,
                    value: &state.value,
                };
                // Over the limit only if the source forgot something meanwhile.
                let _ = before.states.apply(*source, &state);
            }
        }
        self.states = before.states;
        Ok(())
    }

    /// Whether the last run ended in order: cut to length, behind a mark.
    pub(super) fn ended_in_order(&self) -> bool {
        self.size == self.stop.offset
            && self.stop.marked
            && self.stop.synced == self.stop.seq
            && !matches!(self.verdict, Verdict::Damaged { .. })
    }

    /// Removes what is behind the last frame, but not to its end: that would look like an end in order
    /// until space is set aside again.
    pub(super) fn cut_behind(&self) -> io::Result<()> {
        let end = self.stop.offset;
        let left = self.size.saturating_sub(end).min(UNCUT) as usize;
        match write_all_at(&*self.file, &mut [IoSlice::new(&[0; UNCUT as usize][..left])], end) {
            // A write in place may need new space.
            Err(error) if is_full(&error) => self.file.set_len(end),
            // Or the length could be on disk before the zeros are.
            written => written
                .and_then(|()| self.file.sync())
                .and_then(|()| self.file.set_len(end + UNCUT)),
        }
    }

    /// Writes again what no `synced` covers. A sync of it may have failed before
    /// the process ended; the page cache then shows bytes that the disk hasn't,
    /// and only writing them makes the next sync mean them.
    pub(super) fn rewrite_unproven(&self) -> io::Result<()> {
        let mut buf = vec![0; 64 << 10];
        let mut offset = self.unproven;
        while offset < self.stop.offset {
            let want = (self.stop.offset - offset).min(buf.len() as u64) as usize;
            let part = &mut buf[..want];
            if read_full_at(&*self.file, part, offset)? < want {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            write_all_at(&*self.file, &mut [IoSlice::new(part)], offset)?;
            offset += want as u64;
        }
        Ok(())
    }
}

/// Whether the segment's header is whole and ours.
fn header(file: &dyn FsFile, path: &PathBuf, shared: &Shared, first_seq: u64) -> Result<bool, OpenError> {
    let mut bytes = [0; SEGMENT_HEAD];
    let read = read_full_at(file, &mut bytes, 0).map_err(OpenError::io(path))?;
    match SegmentHead::parse(&bytes) {
        Ok(head) if read == SEGMENT_HEAD => {
            if head.origin != own_hash(shared) {
                return Err(OpenError::Foreign { path: path.clone() });
            }
            Ok(head.first_seq == first_seq)
        }
        _ => Ok(false),
    }
}

fn apply_states(states: &mut States, records: &[u8]) {
    for record in RecordIter::new(records).flatten() {
        if record.prefix.kind != Kind::State {
            continue;
        }
        let state = record.payload().map(StateRecord::parse);
        if let Some(Ok(state)) = state {
            // What was accepted fits; what doesn't was not written by us.
            let _ = states.apply(record.prefix.source, &state);
        }
    }
    states.keep();
}

fn only_states(records: &[u8]) -> bool {
    RecordIter::new(records)
        .flatten()
        .all(|record| record.prefix.kind == Kind::State)
}
