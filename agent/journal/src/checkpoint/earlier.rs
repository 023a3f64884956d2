//! The file `checkpoints`: those that were the newest once.

use std::io::{self, IoSlice};
use std::sync::Arc;

use auditmon_merkle::split_checkpoints;

use super::SignedCheckpoint;
use super::thin::thin;
use crate::fs::{FsFile, read_full_at, replace, write_all_at};
use crate::layout::CHECKPOINTS;
use crate::shared::Shared;

/// Bytes at the end in which the last note is looked for.
const TAIL: u64 = 128 << 10;

/// The file, with what is known of its end.
#[derive(Default)]
pub(crate) struct Earlier {
    file: Option<Arc<dyn FsFile>>,
    /// Behind its last whole note.
    end: u64,
    /// Size of the newest checkpoint in it.
    newest: u64,
}

impl Earlier {
    /// Appends a checkpoint that another one follows; it is on disk when this
    /// returns. One that is there already isn't written twice.
    pub(crate) fn keep(&mut self, shared: &Shared, former: &SignedCheckpoint) -> io::Result<()> {
        if self.file.is_none() {
            self.open(shared, former)?;
        }
        if self.newest >= former.size {
            return Ok(());
        }
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let note = former.note.as_bytes();
        // At the same place again after a fault.
        write_all_at(&**file, &mut [IoSlice::new(note)], self.end)?;
        file.sync()?;
        self.end += note.len() as u64;
        self.newest = former.size;
        Ok(())
    }

    /// Removes what need not stay, so that a crash leaves the file as it was or
    /// the new one; `own` signatures of a note are ours.
    pub(crate) fn thin(&mut self, shared: &Shared, own: usize, now_ns: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut bytes = vec![0; self.end as usize];
        let read = read_full_at(&**file, &mut bytes, 0)?;
        bytes.truncate(read);
        let text = String::from_utf8_lossy(&bytes);
        if let Some(kept) = thin(shared, &text, own, now_ns)? {
            let dir = shared.layout.generation_dir();
            let replaced = replace(&*shared.fs, &dir, CHECKPOINTS, kept.as_bytes());
            // Whether it was replaced or not: the name may be that of another file now.
            *self = Self::default();
            replaced?;
        }
        Ok(())
    }

    /// Opens the file and cuts what a crash left of a note.
    fn open(&mut self, shared: &Shared, former: &SignedCheckpoint) -> io::Result<()> {
        let fs = &*shared.fs;
        let path = shared.layout.checkpoints();
        let file = match fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = fs.create(&path)?;
                fs.sync_dir(&shared.layout.generation_dir())?;
                file
            }
            opened => opened?,
        };
        let size = file.size()?;
        let from = size.saturating_sub(TAIL);
        let mut bytes = vec![0; (size - from) as usize];
        let read = read_full_at(&*file, &mut bytes, from)?;
        bytes.truncate(read);
        let whole = whole_notes(&bytes, from == 0);
        self.end = from + whole as u64;
        if self.end < size {
            file.set_len(self.end)?;
        }
        let ends_with = bytes
            .get(..whole)
            .is_some_and(|bytes| bytes.ends_with(former.note.as_bytes()));
        self.newest = if ends_with { former.size } else { 0 };
        self.file = Some(file);
        Ok(())
    }
}

/// Bytes up to the end of the last note that is whole. What was read from the
/// middle of a file begins with a part of one, which counts as if it were whole.
fn whole_notes(bytes: &[u8], from_the_front: bool) -> usize {
    let skipped = match from_the_front {
        true => 0,
        // Or it might begin within a character.
        false => bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1),
    };
    let rest = bytes.get(skipped..).unwrap_or_default();
    let text = match std::str::from_utf8(rest) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
    };
    let (mut whole, mut at) = (0, skipped);
    for note in split_checkpoints(text) {
        at += note.len();
        // The last line of a whole note is a signature with its newline.
        if note.ends_with('\n') && note.contains("\n\n\u{2014} ") {
            whole = at;
        }
    }
    whole
}
