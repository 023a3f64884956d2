//! Letters that are handed over again.

use std::collections::BTreeSet;
use std::fs::remove_file;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use auditmon_core::subscription::Events;

use super::erasing::changing;
use super::file::{create, sync_dir};
use super::{DeadLetters, Letter, add, current, find_replaying, lines, older, replaying, request};

/// A replay that is under way.
pub(crate) struct Replay {
    path: PathBuf,
    /// Letters before are done.
    offset: u64,
}

/// Some letters, to be handed over at once.
pub(crate) struct Chunk {
    pub(crate) events: Events,
    /// Where they end in the file.
    end: u64,
    /// Lines among them that are no letters.
    broken: Vec<Vec<u8>>,
}

fn remove(path: &Path) -> io::Result<()> {
    match remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl DeadLetters {
    /// A replay that was interrupted, or one that was asked for.
    ///
    /// # Errors
    /// What the system says; the request stays.
    pub(crate) fn replay(&mut self) -> io::Result<Option<Replay>> {
        if let Some((path, offset)) = find_replaying(&self.dir, self.sink)? {
            return Ok(Some(Replay { path, offset }));
        }
        let request = request(&self.dir, self.sink);
        let wanted = match std::fs::read_to_string(&request) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let begun = self.begin(&wanted)?;
        remove(&request)?;
        Ok(begun)
    }

    /// Removes a request that can't be followed; whether there was one.
    pub(crate) fn refuse_replay(&self) -> bool {
        remove_file(request(&self.dir, self.sink)).is_ok()
    }

    /// Moves the letters that are wanted to a file of their own. A crash in the middle may leave one in both, never in
    /// none.
    fn begin(&mut self, wanted: &str) -> io::Result<Option<Replay>> {
        let _changing = changing();
        self.repair()?;
        let seqs: BTreeSet<u64> = wanted.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let all = wanted.trim() == "all";
        let (older, current) = (older(&self.dir, self.sink), current(&self.dir, self.sink));
        let (picked_new, rest_new) = (
            self.dir.join(format!("{}.replaying.new", self.sink)),
            self.dir.join(format!("{}.jsonl.new", self.sink)),
        );
        let mut picked = BufWriter::new(create(&picked_new)?);
        let mut rest = BufWriter::new(create(&rest_new)?);
        let (mut picked_any, mut rest_any) = (false, false);
        for path in [&older, &current] {
            lines(path, 0, |line, _| {
                let letter = Letter::parse(line);
                let (to, any) = match letter {
                    Some(letter) if all || seqs.contains(&letter.seq) => (&mut picked, &mut picked_any),
                    _ => (&mut rest, &mut rest_any),
                };
                *any = true;
                to.write_all(line)?;
                to.write_all(b"\n")?;
                Ok(true)
            })?;
        }
        for file in [picked, rest] {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        }
        if !picked_any {
            remove(&picked_new)?;
            remove(&rest_new)?;
            return Ok(None);
        }
        let path = replaying(&self.dir, self.sink, 0);
        std::fs::rename(&picked_new, &path)?;
        sync_dir(&self.dir)?;
        if rest_any {
            std::fs::rename(&rest_new, &current)?;
        } else {
            remove(&current)?;
            remove(&rest_new)?;
        }
        remove(&older)?;
        sync_dir(&self.dir)?;
        Ok(Some(Replay { path, offset: 0 }))
    }

    /// The next letters of a replay: of one journal, ascending, up to the limits; `None` when all are done.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn next(&self, replay: &Replay, max_events: usize, max_bytes: usize) -> io::Result<Option<Chunk>> {
        let mut events = None;
        let mut broken = Vec::new();
        let mut end = replay.offset;
        lines(&replay.path, replay.offset, |line, line_end| {
            let full = |events: &Events| events.len() >= max_events || events.bytes() + line.len() > max_bytes;
            if events.as_ref().is_some_and(full) || broken.len() >= max_events {
                return Ok(false);
            }
            match add(&mut events, line) {
                Some(false) => return Ok(false),
                Some(true) => {}
                None => broken.push(line.to_vec()),
            }
            end = line_end;
            Ok(true)
        })?;
        Ok((end > replay.offset).then(|| Chunk {
            events: events.unwrap_or_else(|| Events::new("".into())),
            end,
            broken,
        }))
    }

    /// What became of each event of a chunk is known, and what was refused again is kept again; lines that are no
    /// letters stay, unless they are of what was `erased` meanwhile.
    ///
    /// # Errors
    /// What the system says; the chunk may come again.
    pub(crate) fn done(
        &mut self,
        replay: &mut Replay,
        chunk: &Chunk,
        erased: impl Fn(&[u8]) -> bool,
    ) -> io::Result<()> {
        if !chunk.broken.is_empty() {
            tracing::warn!(
                sink = self.sink,
                lines = chunk.broken.len(),
                "lines of the dead-letter file are no letters; they stay there"
            );
            self.append_lines(&chunk.broken, erased)?;
        }
        let _changing = changing();
        let path = replaying(&self.dir, self.sink, chunk.end);
        std::fs::rename(&replay.path, &path)?;
        *replay = Replay {
            path,
            offset: chunk.end,
        };
        Ok(())
    }

    /// All letters of a replay are done.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn end(&mut self, replay: &Replay) -> io::Result<()> {
        let _changing = changing();
        remove(&replay.path)
    }
}
