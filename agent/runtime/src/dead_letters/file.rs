//! The file that letters are appended to.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use auditmon_core::delivery::RefusedEvent;
use auditmon_core::subscription::Events;

use super::erasing::changing;
use super::{Letter, current, lines, older};

/// Bytes at which a file becomes the older one; both together are all that is kept of a sink.
const MAX_FILE: u64 = 32 << 20;

/// Letters of one sink, as its driver keeps them.
pub(crate) struct DeadLetters {
    pub(super) dir: PathBuf,
    pub(super) sink: &'static str,
    max_file: u64,
    /// The file's end is known to be that of a line.
    whole: bool,
}

/// Creates a file that only its owner may read. What stood there goes and is neither followed nor written to: a
/// command of root works in a directory that may be another user's.
pub(super) fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl DeadLetters {
    pub(crate) fn new(data_dir: &Path, sink: &'static str) -> Self {
        Self {
            dir: super::dir(data_dir),
            sink,
            max_file: MAX_FILE,
            whole: false,
        }
    }

    #[cfg(test)]
    pub(super) fn with_max_file(self, max_file: u64) -> Self {
        Self { max_file, ..self }
    }

    /// Keeps refused events but those that were `erased` meanwhile; they are on disk when this returns. Returns how
    /// many older letters had to make room.
    ///
    /// # Errors
    /// What the system says; nothing was kept.
    pub(crate) fn append(
        &mut self,
        events: &Events,
        refused: &[RefusedEvent],
        erased: impl Fn(u64) -> bool,
    ) -> io::Result<u64> {
        self.append_with(|out| {
            let mut letter = Vec::new();
            for refused in refused.iter().filter(|refused| !erased(refused.seq)) {
                let Some(event) = events.get(refused.seq) else { continue };
                letter.clear();
                Letter::write(events.origin(), &event, &refused.reason, &mut letter);
                out.write_all(&letter)?;
            }
            Ok(())
        })
    }

    /// The same for lines that are no letters, and stay what they are.
    pub(super) fn append_lines(&mut self, lines: &[Vec<u8>], erased: impl Fn(&[u8]) -> bool) -> io::Result<u64> {
        self.append_with(|out| {
            for line in lines.iter().filter(|line| !erased(line)) {
                out.write_all(line)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// Cuts what a crash left of a line, before anything is read for good.
    pub(super) fn repair(&mut self) -> io::Result<()> {
        if !self.whole {
            match OpenOptions::new()
                .read(true)
                .write(true)
                .open(current(&self.dir, self.sink))
            {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => cut_torn_line(&file?)?,
            }
            self.whole = true;
        }
        Ok(())
    }

    fn append_with(&mut self, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<u64> {
        let _changing = changing();
        let path = current(&self.dir, self.sink);
        let mut dropped = 0;
        if path.metadata().is_ok_and(|meta| meta.len() >= self.max_file) {
            dropped = self.make_room(&path)?;
        }
        let fresh = !path.exists();
        if fresh {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        if !self.whole {
            cut_torn_line(&file)?;
        }
        self.whole = false;
        let before = file.metadata()?.len();
        let mut out = BufWriter::with_capacity(256 << 10, &file);
        let written = write(&mut out).and_then(|()| out.flush());
        // What is still in the buffer must not be tried again when it is dropped.
        let _ = out.into_parts();
        let synced = written.and_then(|()| file.sync_data());
        if let Err(error) = synced {
            // If even that fails, the next attempt cuts it.
            let _ = file.set_len(before);
            return Err(error);
        }
        if fresh {
            sync_dir(&self.dir)?;
            self.dir.parent().map_or(Ok(()), sync_dir)?;
        }
        self.whole = true;
        Ok(dropped)
    }

    /// The full file becomes the older one, which goes.
    fn make_room(&self, path: &Path) -> io::Result<u64> {
        let older = older(&self.dir, self.sink);
        let mut dropped = 0;
        lines(&older, 0, |_, _| {
            dropped += 1;
            Ok(true)
        })?;
        std::fs::rename(path, older)?;
        sync_dir(&self.dir)?;
        Ok(dropped)
    }
}

/// Removes a line that a crash left unfinished: its event was not confirmed and comes again.
fn cut_torn_line(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut buffer = vec![0; 64 << 10];
    while end > 0 {
        let from = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(end - from).unwrap_or(0)];
        file.read_exact_at(part, from)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            end = from + at as u64 + 1;
            break;
        }
        end = from;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(())
}
