//! The leaf file of a segment, read beside its records.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use auditmon_journal::format::LEAF;

use super::{Check, LEAVES};
use crate::files::{Generation, open};
use crate::report::{CouldNot, Fault};

/// The leaf file of a segment, read beside its records.
pub(super) struct Leaves {
    file: Option<File>,
    name: String,
    first: u64,
    pub(super) count: u64,
    length: u64,
    buffer: Vec<u8>,
    /// Leaves of the buffer that were taken, and the seq of its first.
    taken: usize,
    begin: u64,
}

impl Leaves {
    pub(super) fn open(generation: &Generation, first: u64, there: bool) -> Result<Self, CouldNot> {
        let name = Generation::leaf_name(first);
        let mut leaves = Self {
            file: None,
            first,
            count: 0,
            length: 0,
            buffer: Vec::new(),
            taken: 0,
            begin: first,
            name,
        };
        if there {
            let fail = |error: io::Error| CouldNot::new(generation.place(&leaves.name), error);
            match open(&generation.dir.join(&leaves.name)) {
                Ok(file) => {
                    leaves.length = file.metadata().map_err(fail)?.len();
                    leaves.count = leaves.length / LEAF as u64;
                    leaves.file = Some(file);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(leaves)
    }

    /// Compares its length with the records that the segment has.
    pub(super) fn end(&self, end: u64, check: &mut Check<'_>) {
        let expected = end.saturating_sub(self.first) * LEAF as u64;
        if self.file.is_some() && self.length != expected {
            let what = format!("{} bytes, its records have {expected} bytes of leaves", self.length);
            let fault = Fault::of(check.place(&self.name), what).lasting();
            check.report.fault(fault);
        }
    }

    /// The same where nothing but its leaves says which records it has: a segment may be missing between it and the next.
    pub(super) fn end_alone(&self, end: u64, check: &mut Check<'_>) {
        let whole = self.length.is_multiple_of(LEAF as u64);
        self.end(
            if whole {
                end.min(self.first.saturating_add(self.count))
            } else {
                end
            },
            check,
        );
    }

    /// Whether it has no leaf from this record on; true only if there is a file.
    pub(super) fn are_over(&self, seq: u64) -> bool {
        self.file.is_some() && self.first.saturating_add(self.count) <= seq
    }

    /// The leaf of the check's next record.
    pub(super) fn peek(&mut self, check: &Check<'_>) -> Result<Option<[u8; LEAF]>, CouldNot> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let seq = check.seq;
        let held = self.begin..self.begin + (self.buffer.len() / LEAF) as u64;
        if !held.contains(&seq) {
            let fail = |error: io::Error| CouldNot::new(check.place(&self.name), error);
            self.buffer.clear();
            self.begin = seq;
            self.taken = 0;
            let Some(at) = seq.checked_sub(self.first).filter(|at| *at < self.count) else {
                return Ok(None);
            };
            file.seek(SeekFrom::Start(at * LEAF as u64)).map_err(fail)?;
            file.take((LEAVES * LEAF) as u64)
                .read_to_end(&mut self.buffer)
                .map_err(fail)?;
        }
        let at = (seq - self.begin) as usize;
        let (leaves, _) = self.buffer.as_chunks::<LEAF>();
        Ok(leaves.get(at).copied())
    }

    pub(super) fn next(&mut self, check: &Check<'_>) -> Result<Option<[u8; LEAF]>, CouldNot> {
        self.peek(check)
    }
}
