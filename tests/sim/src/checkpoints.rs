//! What checkpoints may say.

use auditmon_journal::SignedCheckpoint;
use auditmon_merkle::{Frontier, Hash, leaf_hash};

use crate::model::Violation;

/// The tree over all that was ever visible, and what was signed of it.
#[derive(Default)]
pub struct Checkpoints {
    tree: Frontier,
    /// Roots by size, from 1 on.
    roots: Vec<Hash>,
    /// The newest that was ever shown.
    newest: Option<SignedCheckpoint>,
}

impl Checkpoints {
    /// A record became visible.
    pub fn record(&mut self, leaf: &[u8]) {
        if self.tree.push(leaf_hash(leaf)).is_ok() {
            self.roots.push(self.tree.root());
        }
    }

    /// A checkpoint is shown: over records that are there, with their root, and
    /// never behind one that was shown before.
    pub fn shown(&mut self, shown: &SignedCheckpoint, stored: Option<&[u8]>) -> Result<(), Violation> {
        self.check(shown)?;
        // A later one may be stored, whose directory could not be synced.
        if stored.and_then(size_of).is_none_or(|stored| stored < shown.size) {
            return Err(format!("the checkpoint over {} is shown and not stored", shown.size));
        }
        if self.newest.as_ref().is_some_and(|newest| newest.size > shown.size) {
            return Err(format!("a checkpoint over {} follows a larger one", shown.size));
        }
        self.newest = Some(shown.clone());
        Ok(())
    }

    /// The newest after a start: all that was shown is still there.
    pub fn after_start(&self, found: Option<&SignedCheckpoint>) -> Result<(), Violation> {
        let shown = self.newest.as_ref().map_or(0, |newest| newest.size);
        match found {
            Some(found) if found.size >= shown => self.check(found),
            None if shown == 0 => Ok(()),
            found => Err(format!(
                "a checkpoint over {shown} was shown, found is {:?}",
                found.map(|found| found.size)
            )),
        }
    }

    fn check(&self, signed: &SignedCheckpoint) -> Result<(), Violation> {
        let root = usize::try_from(signed.size)
            .ok()
            .and_then(|size| self.roots.get(size.checked_sub(1)?));
        match root {
            None => Err(format!(
                "a checkpoint over {} records, of which {} are there",
                signed.size,
                self.roots.len()
            )),
            Some(root) if *root == Hash::from(signed.root) => Ok(()),
            Some(_) => Err(format!("the checkpoint over {} has another root", signed.size)),
        }
    }
}

/// Records that a note covers.
pub(crate) fn size_of(note: &[u8]) -> Option<u64> {
    std::str::from_utf8(note).ok()?.lines().nth(1)?.parse().ok()
}
