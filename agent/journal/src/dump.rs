//! Reads all records of a data directory, read-only.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::core::FIRST_FRAME;
use crate::fs::{Fs, FsFile};
use crate::reader::{Batch, Gap, GapReason};
use crate::scan::{Finder, FrameReader, Probe, walk};
use crate::walk::{Generation, generations};

/// Why a directory can't be dumped.
#[derive(Debug, Error)]
pub enum DumpError {
    /// There is no journal, or it can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a [`Dump`] comes upon.
#[derive(Debug)]
pub enum DumpItem {
    /// The next items belong to this origin.
    Origin(String),
    /// The records of one frame.
    Records(Batch),
    /// Records that can't be read.
    Gap(Gap),
}

/// All records on disk, generation by generation, in order.
///
/// Beside a running agent only what a later frame proves to be synced is
/// shown; the last second may be missing.
pub struct Dump {
    fs: Arc<dyn Fs>,
    generations: VecDeque<Generation>,
    segments: VecDeque<Span>,
    open: Option<Open>,
    /// Seq behind what was returned of this generation.
    seq: u64,
    running: bool,
}

/// A segment and where it ends.
struct Span {
    first_seq: u64,
    end_seq: Option<u64>,
    path: std::path::PathBuf,
}

struct Open {
    frames: FrameReader,
    offset: u64,
    seq: u64,
    end_seq: u64,
    /// Whether another segment says where this one ends.
    bounded: bool,
}

impl Dump {
    /// Reads the data directory `dir`; `running` says that an agent has it open.
    ///
    /// # Errors
    /// There is no journal, or a directory can't be read.
    pub fn new<F: Fs>(fs: F, dir: &Path, running: bool) -> Result<Self, DumpError> {
        let fs: Arc<dyn Fs> = Arc::new(fs);
        let generations = generations(&*fs, dir)?.into();
        Ok(Self {
            fs,
            generations,
            segments: VecDeque::new(),
            open: None,
            seq: 0,
            running,
        })
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// A file can't be read; the call may be repeated.
    #[allow(clippy::should_implement_trait)] // it is fallible
    pub fn next(&mut self) -> Result<Option<DumpItem>, DumpError> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(item) = open.next()? {
                    self.seq = open.seq;
                    return Ok(Some(item));
                }
                self.open = None;
            }
            if let Some(span) = self.segments.pop_front() {
                let gap = Gap {
                    first: self.seq,
                    last: span.first_seq.saturating_sub(1),
                    reason: GapReason::Expired,
                };
                let Some(open) = self.open(&span)? else {
                    continue;
                };
                let expired = self.seq < span.first_seq;
                self.seq = span.first_seq;
                self.open = Some(open);
                if expired {
                    return Ok(Some(DumpItem::Gap(gap)));
                }
                continue;
            }
            let Some(generation) = self.generations.pop_front() else {
                return Ok(None);
            };
            self.segments = generation
                .segs
                .iter()
                .map(|first| Span {
                    first_seq: *first,
                    end_seq: generation.end_of(*first),
                    path: generation.layout.seg(*first),
                })
                .collect();
            self.seq = 0;
            return Ok(Some(DumpItem::Origin(generation.origin)));
        }
    }

    /// `None` if retention took the segment meanwhile.
    fn open(&self, span: &Span) -> Result<Option<Open>, DumpError> {
        let file: Arc<dyn FsFile> = match self.fs.open_read(&span.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut frames = FrameReader::new(Arc::clone(&file), file.size()?);
        let end_seq = match span.end_seq {
            Some(end_seq) => end_seq,
            None if self.running => {
                let stop = walk(&mut frames, FIRST_FRAME, span.first_seq, u64::MAX, |_, _, _| Ok(()))?;
                stop.synced
            }
            None => u64::MAX,
        };
        Ok(Some(Open {
            frames,
            offset: FIRST_FRAME,
            seq: span.first_seq,
            end_seq,
            bounded: span.end_seq.is_some(),
        }))
    }
}

impl Open {
    fn next(&mut self) -> io::Result<Option<DumpItem>> {
        while self.seq < self.end_seq {
            match self.frames.probe(self.offset)? {
                Probe::Frame(head) if head.first_seq == self.seq && head.next_seq() <= self.end_seq => {
                    let batch = Batch::of(
                        head.first_seq,
                        head.next_seq(),
                        self.frames.records(self.offset, &head)?,
                    );
                    self.offset += head.len() as u64;
                    self.seq = head.next_seq();
                    if head.count > 0 {
                        return Ok(Some(DumpItem::Records(batch)));
                    }
                }
                _ => return self.leap(),
            }
        }
        Ok(None)
    }

    fn leap(&mut self) -> io::Result<Option<DumpItem>> {
        let limit = self.frames.limit();
        let mut finder = Finder::new(Arc::clone(self.frames.file()), self.offset, limit);
        let found = finder.find(self.offset + 1, self.seq..self.end_seq)?;
        let first = self.seq;
        match found {
            Some((offset, head)) => {
                self.offset = offset;
                self.seq = head.first_seq;
            }
            None if self.bounded => self.seq = self.end_seq,
            // The end of the newest segment: its torn tail is no gap.
            None => self.end_seq = self.seq,
        }
        if self.seq == first {
            return self.next();
        }
        Ok(Some(DumpItem::Gap(Gap {
            first,
            last: self.seq - 1,
            reason: GapReason::Damaged,
        })))
    }
}
