//! What a generation is like when it is given up: a root over what can be read of it. The next one tells and signs it,
//! so that accepting a rollback accepts this and nothing that is changed later.

use std::sync::Arc;

use auditmon_merkle::{Frontier, Hash};

use crate::collapse;
use crate::format::{LEAF, leaf_hash};
use crate::fs::{FsFile, read_full_at};
use crate::options::AgentNote;
use crate::reader::{Item, Reader};
use crate::shared::Shared;

/// The note about the end of a generation whose readable records end before `entries`.
pub(super) fn note(shared: &Arc<Shared>, entries: u64, damaged: bool) -> AgentNote {
    AgentNote::NewGeneration {
        former: shared.origin.clone(),
        entries,
        root: root(shared, entries).map(|root| root.to_string()),
        end: shared.durable(),
        damaged,
    }
}

/// From records, from leaves where those are gone, and from the hashes over many where these are collapsed; not from
/// tiles, which nothing signs. `None` if a leaf is missing.
fn root(shared: &Arc<Shared>, end: u64) -> Option<Hash> {
    let mut tree = Frontier::new();
    let mut reader = Reader::new(Arc::clone(shared), 0);
    let mut leaves = Leaves { shared, open: None };
    while tree.size() < end {
        match reader.next().ok()?? {
            Item::Records(batch) => {
                for entry in batch.iter().filter(|entry| entry.seq < end) {
                    tree.push(leaf_hash(&entry.record.leaf()).into()).ok()?;
                }
            }
            Item::Gap(gap) => {
                let behind = end.min(gap.last.saturating_add(1));
                while tree.size() < behind {
                    match leaves.hash(tree.size()) {
                        Some(hash) => tree.push(hash.into()).ok()?,
                        None => push_collapsed(shared, &mut tree, behind)?,
                    }
                }
            }
        }
    }
    Some(tree.root())
}

/// Appends the collapsed segment that comes next, which ends at `behind` at the latest.
fn push_collapsed(shared: &Shared, tree: &mut Frontier, behind: u64) -> Option<()> {
    let (records, hashes) = collapse::read(&*shared.fs, &shared.layout, tree.size())?;
    if records.end > behind {
        return None;
    }
    for (node, hash) in hashes {
        tree.push_subtree(node.level(), hash).ok()?;
    }
    Some(())
}

/// Leaf files, one open at a time.
struct Leaves<'a> {
    shared: &'a Shared,
    /// First seq, seq behind the last, and the file.
    open: Option<(u64, u64, Arc<dyn FsFile>)>,
}

impl Leaves<'_> {
    fn hash(&mut self, seq: u64) -> Option<[u8; 32]> {
        let fits = |(first, behind, _): &(u64, u64, _)| (*first..*behind).contains(&seq);
        if !self.open.as_ref().is_some_and(fits) {
            let (first, count) = {
                let leaves = self.shared.leaves.read();
                let (first, count) = leaves.range(..=seq).next_back()?;
                (*first, *count)
            };
            let file = self.shared.fs.open_read(&self.shared.layout.leaf(first)).ok()?;
            self.open = Some((first, first.saturating_add(count), file));
        }
        let (first, _, file) = self.open.as_ref().filter(|open| fits(open))?;
        let mut leaf = [0; LEAF];
        let read = read_full_at(&**file, &mut leaf, (seq - first) * LEAF as u64).ok()?;
        (read == LEAF).then(|| leaf_hash(&leaf))
    }
}
