//! Which of the earlier checkpoints stay: all of a day, then one an hour, and
//! those that end a segment or that others signed as well.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use auditmon_merkle::{Note, split_checkpoints};

use crate::format::{LEAF, PREFIX, Prefix};
use crate::fs::{FsFile, read_full_at};
use crate::shared::Shared;

const HOUR: u64 = 3_600_000_000_000;
const DAY: u64 = 24 * HOUR;

/// The file without what need not stay; `None` if all of it does. When a
/// checkpoint was signed follows from its last record, whose leaf says when it
/// was received; those of a segment that isn't sealed all stay.
pub(super) fn thin(shared: &Shared, file: &str, own: usize, now_ns: u64) -> io::Result<Option<String>> {
    let mut ends: BTreeSet<u64> = shared.segments.read().keys().copied().collect();
    ends.extend(shared.leaves.read().keys());
    let mut clock = Clock { shared, open: None };
    let mut notes = Vec::new();
    for note in split_checkpoints(file) {
        let size = size_of(note);
        let time = match size {
            Some(size) => clock.received_ns(size)?,
            None => None,
        };
        notes.push((note, size, time));
    }
    let mut kept = String::with_capacity(file.len());
    for (at, (note, size, time)) in notes.iter().enumerate() {
        let next = notes.get(at + 1);
        let (Some(size), Some(time), Some((_, Some(next_size), Some(next_time)))) = (size, time, next) else {
            kept.push_str(note);
            continue;
        };
        let young = now_ns.saturating_sub(*time) < DAY;
        let ends_hour = time / HOUR != next_time / HOUR;
        let ends_segment = size < next_size && ends.range(size..next_size).next().is_some();
        let cosigned = Note::parse(note).is_ok_and(|note| note.signatures().len() > own);
        if young || ends_hour || ends_segment || cosigned {
            kept.push_str(note);
        }
    }
    Ok((kept.len() < file.len()).then_some(kept))
}

fn size_of(note: &str) -> Option<u64> {
    note.lines().nth(1)?.parse().ok()
}

/// Tells when records were received, for ascending seqs.
struct Clock<'a> {
    shared: &'a Shared,
    open: Option<(u64, Arc<dyn FsFile>)>,
}

impl Clock<'_> {
    /// When the last of `size` records was received, if a file of leaves says so.
    fn received_ns(&mut self, size: u64) -> io::Result<Option<u64>> {
        let Some(seq) = size.checked_sub(1) else {
            return Ok(None);
        };
        let found = {
            let leaves = self.shared.leaves.read();
            let file = leaves.range(..=seq).next_back();
            file.and_then(|(first, count)| (seq - first < *count).then_some(*first))
        };
        let Some(first) = found else { return Ok(None) };
        let file = match &self.open {
            Some((open, file)) if *open == first => Arc::clone(file),
            _ => {
                let file = self.shared.fs.open_read(&self.shared.layout.leaf(first))?;
                self.open = Some((first, Arc::clone(&file)));
                file
            }
        };
        let mut prefix = [0; PREFIX];
        let read = read_full_at(&*file, &mut prefix, (seq - first) * LEAF as u64)?;
        let time = Prefix::parse(&prefix).ok().map(|prefix| prefix.received_ns);
        Ok(time.filter(|_| read == PREFIX))
    }
}
