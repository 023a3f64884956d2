//! Finding an event by its id, also after its payload has gone.
//!
//! Nothing is indexed by id. An id begins with the time at which its event was
//! received, and a segment holds what was received while it was written; so the
//! ids of few segments begin with the time that is asked for, unless the clock
//! was set. Sealed segments are looked through by their leaves, which stay when
//! retention removes the payloads, the others by their records.
//!
//! No clock is trusted: every segment is looked through in the end but those of
//! which *all* ids are known to begin with other times. That is known of what was
//! sealed since the journal was opened, and of what was looked through once. Of
//! other segments the first and the last id say only how soon it is their turn.

use std::cmp::Reverse;
use std::io;
use std::sync::Arc;

use crate::format::{Kind, LEAF, PREFIX, Prefix};
use crate::fs::{FsFile, read_full_at};
use crate::reader::{GapReason, Item, Reader};
use crate::shared::Shared;

/// Leaves that are read at once.
const CHUNK: u64 = 1024;
/// What reading the first and the last leaf of a file counts as.
const PEEK: u64 = 8 << 10;

/// The place of an event in the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its seq.
    pub seq: u64,
    /// When it was received, in ns since the Unix epoch.
    pub received_ns: u64,
    /// What it is.
    pub kind: Kind,
}

/// What [`Handle::find_event`](crate::Handle::find_event) came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Search {
    /// The event is in the journal, or was, and its leaf is left.
    Found(Place),
    /// No record that can be read, and no leaf, has this id.
    Absent,
    /// There was more to read than allowed. What was looked through is
    /// remembered, so asking again comes further.
    Unfinished,
}

/// With which times the ids of a segment begin, in ms since the Unix epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    oldest: u64,
    newest: u64,
    /// Every id was seen: no other begins with a time outside.
    whole: bool,
}

impl Span {
    /// Of no id yet.
    pub(crate) const EMPTY: Self = Self {
        oldest: u64::MAX,
        newest: 0,
        whole: true,
    };

    /// Takes in an id.
    pub(crate) fn include(&mut self, id: &[u8; 16]) {
        let millis = millis(id);
        self.oldest = self.oldest.min(millis);
        self.newest = self.newest.max(millis);
    }

    /// How far outside a time is, 0 if it is inside.
    fn distance(&self, millis: u64) -> u64 {
        self.oldest
            .saturating_sub(millis)
            .max(millis.saturating_sub(self.newest))
    }
}

/// The time that an id begins with, in ms since the Unix epoch.
fn millis(id: &[u8; 16]) -> u64 {
    id.iter().take(6).fold(0, |millis, byte| millis << 8 | u64::from(*byte))
}

/// Where an id can be.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Candidate {
    /// Among so many leaves of a sealed segment.
    Leaves { first_seq: u64, count: u64 },
    /// Among the records of one that isn't sealed.
    Segment { first_seq: u64, end_seq: u64, bytes: u64 },
}

impl Candidate {
    /// Bytes to read.
    fn cost(&self) -> u64 {
        match self {
            Self::Leaves { count, .. } => count.saturating_mul(LEAF as u64),
            Self::Segment { bytes, .. } => *bytes,
        }
    }
}

/// Looks for the event with this id; see [`Handle::find_event`](crate::Handle::find_event).
pub(crate) fn find(shared: &Arc<Shared>, id: &[u8; 16], budget: u64) -> io::Result<Search> {
    // All ids of events are of version 7.
    if id[6] >> 4 != 7 {
        return Ok(Search::Absent);
    }
    let look = Look { shared, id };
    let mut left = budget;
    let Some(candidates) = look.candidates(&mut left)? else {
        return Ok(Search::Unfinished);
    };
    let mut read = [false; 2];
    for candidate in candidates {
        // One of each sort is read however large it is, or asking again would not come further.
        let sort = usize::from(matches!(candidate, Candidate::Leaves { .. }));
        if std::mem::replace(&mut read[sort], true) && candidate.cost() > left {
            return Ok(Search::Unfinished);
        }
        left = left.saturating_sub(candidate.cost());
        let found = match candidate {
            Candidate::Leaves { first_seq, count } => look.in_leaves(first_seq, count)?,
            Candidate::Segment { first_seq, end_seq, .. } => look.in_segment(first_seq, end_seq)?,
        };
        if let Some(place) = found {
            return Ok(Search::Found(place));
        }
    }
    Ok(Search::Absent)
}

struct Look<'a> {
    shared: &'a Arc<Shared>,
    id: &'a [u8; 16],
}

impl Look<'_> {
    /// Segments that may hold it, the likeliest first; `None` if `left` doesn't
    /// do for a glance at all of them.
    fn candidates(&self, left: &mut u64) -> io::Result<Option<Vec<Candidate>>> {
        let (sealed, unsealed) = self.listed();
        let wanted = millis(self.id);
        let mut candidates = Vec::new();
        let mut peeked = false;
        // Newest time of each sealed segment, for what follows it.
        let mut newest = Vec::with_capacity(sealed.len());
        for (first_seq, count) in sealed {
            let known = self.shared.spans.lock().get(&first_seq).copied();
            let span = match known {
                Some(span) => span,
                None if peeked && *left < PEEK => return Ok(None),
                None => {
                    peeked = true;
                    *left = left.saturating_sub(PEEK);
                    self.peek(first_seq, count)?
                }
            };
            newest.push((first_seq, span.newest));
            let distance = span.distance(wanted);
            if distance == 0 || !span.whole {
                candidates.push((distance, Candidate::Leaves { first_seq, count }));
            }
        }
        for candidate in unsealed {
            let Candidate::Segment { first_seq, .. } = candidate else {
                continue;
            };
            let before = newest.partition_point(|(sealed, _)| *sealed < first_seq);
            let begins = before.checked_sub(1).map_or(0, |at| newest[at].1);
            candidates.push((begins.saturating_sub(wanted), candidate));
        }
        candidates.sort_unstable_by_key(|(distance, candidate)| (*distance, Reverse(*candidate)));
        Ok(Some(candidates.into_iter().map(|(_, candidate)| candidate).collect()))
    }

    /// First seq and number of leaves of sealed segments, and those that aren't
    /// sealed, both in order.
    fn listed(&self) -> (Vec<(u64, u64)>, Vec<Candidate>) {
        let durable = self.shared.durable();
        let segments = self.shared.segments.read();
        let leaves = self.shared.leaves.read();
        let sealed = leaves.iter().map(|(first, count)| (*first, *count)).collect();
        let ends = segments.keys().skip(1).copied().chain([durable]);
        let unsealed = segments
            .values()
            .zip(ends)
            .filter(|(segment, _)| !leaves.contains_key(&segment.first_seq))
            .map(|(segment, end_seq)| Candidate::Segment {
                first_seq: segment.first_seq,
                end_seq,
                bytes: segment.used(),
            })
            .collect();
        (sealed, unsealed)
    }

    /// Reads the first and the last leaf of a sealed segment.
    fn peek(&self, first_seq: u64, count: u64) -> io::Result<Span> {
        let file = self.leaves(first_seq)?;
        let mut span = Span {
            whole: false,
            ..Span::EMPTY
        };
        for index in [0, count.saturating_sub(1)] {
            let mut prefix = [0; PREFIX];
            let read = read_full_at(&*file, &mut prefix, index * LEAF as u64)?;
            if let Ok(prefix) = Prefix::parse(&prefix)
                && read == PREFIX
            {
                span.include(&prefix.event_id);
            }
        }
        self.shared.spans.lock().insert(first_seq, span);
        Ok(span)
    }

    fn in_leaves(&self, first_seq: u64, count: u64) -> io::Result<Option<Place>> {
        let file = self.leaves(first_seq)?;
        let mut span = Span::EMPTY;
        let mut bytes = vec![0; CHUNK as usize * LEAF];
        let mut index = 0;
        while index < count {
            let some = (count - index).min(CHUNK);
            let part = &mut bytes[..some as usize * LEAF];
            if read_full_at(&*file, part, index * LEAF as u64)? < part.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (seq, leaf) in (first_seq + index..).zip(part.chunks_exact(LEAF)) {
                // A leaf that is damaged is nobody's.
                let Some(Ok(prefix)) = leaf.first_chunk().map(Prefix::parse) else {
                    continue;
                };
                if let Some(place) = self.matches(seq, &prefix) {
                    return Ok(Some(place));
                }
                span.include(&prefix.event_id);
            }
            index += some;
        }
        self.shared.spans.lock().insert(first_seq, span);
        Ok(None)
    }

    fn in_segment(&self, first_seq: u64, end_seq: u64) -> io::Result<Option<Place>> {
        let mut reader = Reader::new(Arc::clone(self.shared), first_seq);
        while reader.seq() < end_seq {
            match reader.next()? {
                Some(Item::Records(batch)) => {
                    let mut entries = batch.iter();
                    let place = entries.find_map(|entry| self.matches(entry.seq, &entry.record.prefix));
                    if place.is_some() {
                        return Ok(place);
                    }
                }
                // It was sealed and its payloads removed meanwhile.
                Some(Item::Gap(gap)) if gap.reason == GapReason::Expired => {
                    let count = self.shared.leaves.read().get(&first_seq).copied();
                    return count.map_or(Ok(None), |count| self.in_leaves(first_seq, count));
                }
                Some(Item::Gap(_)) => {}
                None => break,
            }
        }
        Ok(None)
    }

    fn leaves(&self, first_seq: u64) -> io::Result<Arc<dyn FsFile>> {
        self.shared.fs.open_read(&self.shared.layout.leaf(first_seq))
    }

    fn matches(&self, seq: u64, prefix: &Prefix) -> Option<Place> {
        // A state has an id, too, but is no event.
        (prefix.event_id == *self.id && prefix.kind != Kind::State).then_some(Place {
            seq,
            received_ns: prefix.received_ns,
            kind: prefix.kind,
        })
    }
}
