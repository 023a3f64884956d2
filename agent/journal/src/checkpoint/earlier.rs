//! The file `checkpoints`: those that were the newest once.

use std::io::{self, IoSlice};
use std::sync::Arc;

use auditmon_merkle::split_checkpoints;

use super::SignedCheckpoint;
use super::thin::{Hours, thin};
use crate::fs::{FsFile, read_full_at, write_all_at};
use crate::shared::Shared;

/// Bytes at the end in which the last note is looked for.
const TAIL: u64 = 128 << 10;

/// The file, with what is known of its end.
#[derive(Default)]
pub(crate) struct Earlier {
    file: Option<Arc<dyn FsFile>>,
    /// Behind its last whole note.
    end: u64,
    /// Size of the newest checkpoint in it, and how often it stands at the end.
    newest: u64,
    times: usize,
    /// Something was kept in this run.
    in_run: bool,
}

impl Earlier {
    /// No earlier run has signed anything.
    pub(crate) fn begin(&mut self) {
        self.in_run = true;
    }

    /// Appends a checkpoint that another one follows; it is on disk when this
    /// returns. One that an earlier run signed last is there twice then, which is how
    /// [`thin`](Self::thin) knows it ever after; else none is.
    pub(crate) fn keep(&mut self, shared: &Shared, former: &SignedCheckpoint) -> io::Result<()> {
        if self.file.is_none() {
            self.open(shared, former)?;
        }
        let wanted = if self.in_run { 1 } else { 2 };
        let there = if self.newest < former.size { 0 } else { self.times };
        if there >= wanted {
            return Ok(());
        }
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let notes = former.note.repeat(wanted - there);
        // At the same place again after a fault.
        write_all_at(&**file, &mut [IoSlice::new(notes.as_bytes())], self.end)?;
        file.sync()?;
        self.end += notes.len() as u64;
        self.newest = former.size;
        self.times = wanted;
        self.in_run = true;
        Ok(())
    }

    /// Removes what need not stay, so that a crash leaves the file as it was or
    /// the new one.
    pub(crate) fn thin(&mut self, shared: &Shared, hours: &Hours, now_ns: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let thinned = thin(shared, file, self.end, hours, now_ns);
        if !matches!(thinned, Ok(false)) {
            // Whether it was replaced or not: the name may be that of another file now.
            *self = Self {
                in_run: self.in_run,
                ..Self::default()
            };
        }
        thinned.map(|_| ())
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
        let ends_with = |times| {
            let notes = former.note.repeat(times);
            bytes
                .get(..whole)
                .is_some_and(|bytes| bytes.ends_with(notes.as_bytes()))
        };
        self.times = (1..=2).rev().find(|times| ends_with(*times)).unwrap_or(0);
        self.newest = if self.times > 0 { former.size } else { 0 };
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
