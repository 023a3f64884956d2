//! What sinks remember, against what the journal has.
//!
//! A position covers only records that were synced, so that no crash leaves one
//! that the journal contradicts: where it does, the journal was put back to an
//! older state, cut or rewritten.

use std::sync::Arc;

use super::tree::MOST_GENERATIONS;
use crate::format::Position;
use crate::layout::{MAX_SEQ, generation_of};
use crate::options::AgentNote;
use crate::shared::Shared;
use crate::{leaf_at, positions};

/// What all sinks remember: files, and what was told by sinks that keep their
/// position themselves.
pub(super) struct Remembered(Vec<(String, Position)>);

/// What contradicts the journal.
#[derive(Default)]
pub(super) struct Contradictions {
    /// A note for each position.
    pub(super) notes: Vec<AgentNote>,
    /// The newest generation that any of them names.
    pub(super) generation: u32,
}

impl Remembered {
    /// A file that can't be read is its sink's trouble, told when it asks for it.
    pub(super) fn ask(shared: &Shared, told: &[(String, Position)]) -> Self {
        let mut all = positions::all(&*shared.fs, &shared.layout);
        all.extend(told.iter().cloned());
        Self(all)
    }

    /// 1 + the largest seq that any of them names in this generation.
    pub(super) fn named(&self, origin: &str) -> u64 {
        let own = self.0.iter().filter(|(_, position)| position.origin == origin);
        own.map(|(_, position)| position.seq.min(MAX_SEQ)).max().unwrap_or(0)
    }

    /// Compares all with a journal whose readable records end before `end`.
    pub(super) fn compare(&self, shared: &Arc<Shared>, end: u64) -> Contradictions {
        let mut found = Contradictions::default();
        let own = generation_of(&shared.origin);
        for (sink, position) in &self.0 {
            let Some((base, generation)) = generation_of(&position.origin) else {
                continue;
            };
            let Some((_, current)) = own.filter(|(own, _)| *own == base) else {
                continue;
            };
            // What a number that no journal reaches stands in can't be told; its sink can't be served, and says so.
            if generation >= MOST_GENERATIONS {
                continue;
            }
            let ahead = generation > current || (generation == current && position.seq > end);
            let note = if ahead {
                AgentNote::PositionAhead {
                    sink: sink.clone(),
                    origin: position.origin.clone(),
                    seq: position.seq,
                    entries: end,
                }
            } else if generation == current && leaf_at::agrees(shared, position.seq, &position.leaf_hash) == Some(false)
            {
                AgentNote::PositionDiffers {
                    sink: sink.clone(),
                    origin: position.origin.clone(),
                    seq: position.seq,
                }
            } else {
                continue;
            };
            found.notes.push(note);
            found.generation = found.generation.max(generation);
        }
        found
    }
}
