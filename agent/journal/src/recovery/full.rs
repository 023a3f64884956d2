//! A start on a full disk: what needs space gets it from the reserve, and a new generation needs some.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::tree::{self, Place};
use super::{Former, Recovery};
use crate::core::Core;
use crate::fault::Fault;
use crate::fs::{Fs, is_full};
use crate::options::{AgentNote, OpenError, Options};
use crate::reserve;

/// Begins a new generation; on a full disk with what the reserve has.
pub(super) fn begin(fs: &dyn Fs, options: &Options, before: &Place, found: &Former) -> Result<Place, OpenError> {
    let begin = || tree::begin(fs, options, before, found.named, (found.end, found.damaged));
    let begun = match begin() {
        Err(OpenError::Io { source, .. }) if is_full(&source) && reserve::release(fs, &before.layout) => begin(),
        begun => begun,
    };
    begun.map_err(|error| match error {
        OpenError::Io { path, source } if is_full(&source) => no_room(path, &found.findings, options),
        error => error,
    })
}

impl Recovery {
    /// Makes the segment to go on with; false if the disk was too full for a whole one: for a new generation, which
    /// has to say so before anything else, a small one does, and the reserve is given for it.
    pub(super) fn first_segment(&self, core: &mut Core) -> io::Result<bool> {
        match core.create_segment(0) {
            Err(error) if is_full(&error) && self.is_new_generation() => {}
            result => return result.map(|()| true),
        }
        let mut created = core.create_small_segment();
        if created.as_ref().is_err_and(is_full) && reserve::release(&*self.shared.fs, &self.shared.layout) {
            created = core.create_small_segment();
        }
        created.map(|()| false)
    }

    /// Allocates what the segment that is gone on with lacks; returns whether the disk was too full for that.
    pub(super) fn preallocate(&self, core: &mut Core) -> Result<bool, OpenError> {
        let size = core.options.segment_size + core.headroom();
        let Some(active) = core.active.as_mut().filter(|active| active.allocated < size) else {
            return Ok(false);
        };
        let mut full = false;
        let mut allocated = active.file.allocate(size);
        if allocated.as_ref().is_err_and(is_full) && reserve::release(&*self.shared.fs, &self.shared.layout) {
            allocated = active.file.allocate(size);
            full = true;
        }
        match allocated {
            Err(error) if is_full(&error) => full = true,
            result => result.map_err(OpenError::io(&active.segment.path))?,
        }
        if !self.faults.is(Fault::StaleFrames) {
            active.file.sync().map_err(OpenError::io(&active.segment.path))?;
        }
        active.allocated = active.file.size().map_err(OpenError::io(&active.segment.path))?;
        active.segment.bytes.store(active.allocated, Ordering::Relaxed);
        Ok(full)
    }
}

/// Why a new generation can't be begun.
pub(super) fn no_room(path: PathBuf, findings: &[AgentNote], options: &Options) -> OpenError {
    let why = findings.iter().rev().find_map(|note| match note {
        AgentNote::PositionAhead { sink, seq, entries, .. } => Some(format!(
            "the sink `{sink}` has seen {seq} records of the former one, which has {entries}: it was put back or cut"
        )),
        AgentNote::PositionDiffers { sink, seq, .. } => Some(format!(
            "the record before {seq} is not the one that the sink `{sink}` has seen: it was rewritten"
        )),
        AgentNote::Rewritten { size, .. } => Some(format!(
            "the {size} records of the former one that were signed are others now: it was rewritten"
        )),
        AgentNote::LeafMissing { seq, .. } => Some(format!("record {seq} of the former one and its leaf are missing")),
        _ => None,
    });
    OpenError::NoRoom {
        path,
        why: why.unwrap_or_default(),
        bytes: options.segment_size.saturating_add(options.reserve),
    }
}
