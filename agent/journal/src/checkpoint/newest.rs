//! The checkpoint that an earlier run signed last.

use auditmon_merkle::{Checkpoint, Ed25519Verifier, Verifier, split_checkpoints};

use super::SignedCheckpoint;
use crate::fs::{Fs, read_full_at, read_small};
use crate::layout::Layout;

/// More than the notes of a journal have: a body and a few signatures.
const MAX_NOTE: usize = 64 << 10;

/// What is known of an earlier run's checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest that one of our keys signed.
    pub(crate) newest: Option<SignedCheckpoint>,
    /// The file that is newest can't be read as one of ours.
    pub(crate) unreadable: bool,
}

/// Finds the newest checkpoint of this origin that one of the keys signed.
pub(crate) fn find(fs: &dyn Fs, layout: &Layout, origin: &str, known: &[Ed25519Verifier]) -> Found {
    let mut found = Found::default();
    match read_small(fs, &layout.checkpoint(), MAX_NOTE) {
        Ok(bytes) => {
            found.newest = std::str::from_utf8(&bytes)
                .ok()
                .and_then(|note| open(note, origin, known));
            found.unreadable = found.newest.is_none();
        }
        Err(error) => found.unreadable = error.kind() != std::io::ErrorKind::NotFound,
    }
    // One that was cut off or forged must not hide what was signed before it.
    let earlier = newest_of_earlier(fs, layout, origin, known);
    if earlier.as_ref().map(|earlier| earlier.size) > found.newest.as_ref().map(|newest| newest.size) {
        found.unreadable = true;
        found.newest = earlier;
    }
    found
}

fn open(note: &str, origin: &str, known: &[Ed25519Verifier]) -> Option<SignedCheckpoint> {
    let known: Vec<&dyn Verifier> = known.iter().map(|key| key as &dyn Verifier).collect();
    let checkpoint = Checkpoint::open(note, &known).ok()?;
    (checkpoint.origin() == origin).then(|| SignedCheckpoint {
        size: checkpoint.head().size,
        root: *checkpoint.head().root.as_bytes(),
        note: note.to_owned(),
        signed_ns: None,
    })
}

/// The last whole note of `checkpoints`.
fn newest_of_earlier(
    fs: &dyn Fs,
    layout: &Layout,
    origin: &str,
    known: &[Ed25519Verifier],
) -> Option<SignedCheckpoint> {
    let file = fs.open_read(&layout.checkpoints()).ok()?;
    let size = file.size().ok()?;
    let from = size.saturating_sub(2 * MAX_NOTE as u64);
    let mut bytes = vec![0; (size - from) as usize];
    let read = read_full_at(&*file, &mut bytes, from).ok()?;
    // A cut through a character at the front is one through a note, which doesn't open.
    let text = String::from_utf8_lossy(bytes.get(..read)?);
    let notes: Vec<_> = split_checkpoints(&text).collect();
    notes.into_iter().rev().find_map(|note| open(note, origin, known))
}
