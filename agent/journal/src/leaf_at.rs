//! The leaf of a single record, as whatever is left of it gives it.

use std::sync::Arc;

use crate::format::{LEAF, leaf_hash};
use crate::fs::read_full_at;
use crate::reader::{Item, Reader};
use crate::shared::Shared;

/// Leaf hash of the record before `seq`: zeros for 0, `None` if neither it nor
/// its leaf can be read.
pub(crate) fn before(shared: &Arc<Shared>, seq: u64) -> Option<[u8; 32]> {
    witnesses(shared, seq).flatten().next()
}

/// Whether the record before `seq` has this leaf hash; `None` if nothing says
/// so. One witness is enough: a leaf file that rots is no other journal.
pub(crate) fn agrees(shared: &Arc<Shared>, seq: u64, hash: &[u8; 32]) -> Option<bool> {
    let mut known = None;
    for found in witnesses(shared, seq).flatten() {
        if found == *hash {
            return Some(true);
        }
        known = Some(false);
    }
    known
}

/// A way to the leaf hash of a record.
type Way = fn(&Arc<Shared>, u64) -> Option<[u8; 32]>;

/// Asks the cheapest first, and none before it is wanted.
fn witnesses(shared: &Arc<Shared>, seq: u64) -> impl Iterator<Item = Option<[u8; 32]>> {
    const WAYS: [Way; 3] = [newest, stored, record];
    let wanted = seq.checked_sub(1);
    let none = wanted.is_none().then_some([0; 32]);
    let found = WAYS.into_iter().map(move |way| way(shared, wanted?));
    std::iter::once(none).chain(found)
}

/// The newest one's is in memory.
fn newest(shared: &Arc<Shared>, seq: u64) -> Option<[u8; 32]> {
    let (next, hash) = *shared.last_leaf.lock();
    hash.filter(|_| next == seq + 1)
}

/// From the leaves of a sealed segment.
fn stored(shared: &Arc<Shared>, seq: u64) -> Option<[u8; 32]> {
    let (first, count) = {
        let leaves = shared.leaves.read();
        let (first, count) = leaves.range(..=seq).next_back()?;
        (*first, *count)
    };
    let index = seq - first;
    if index >= count {
        return None;
    }
    let file = shared.fs.open_read(&shared.layout.leaf(first)).ok()?;
    let mut leaf = [0; LEAF];
    let read = read_full_at(&*file, &mut leaf, index * LEAF as u64).ok()?;
    (read == LEAF).then(|| leaf_hash(&leaf))
}

/// From the record itself.
fn record(shared: &Arc<Shared>, seq: u64) -> Option<[u8; 32]> {
    match Reader::new(Arc::clone(shared), seq).next().ok()?? {
        Item::Records(batch) => {
            let entry = batch.iter().next()?;
            (entry.seq == seq).then(|| leaf_hash(&entry.record.leaf()))
        }
        Item::Gap(_) => None,
    }
}
