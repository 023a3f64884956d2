//! Letters of an event that was erased.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};
use uuid::Uuid;

use super::file::{create, sync_dir};
use super::{Letter, MAX_LINE};
use crate::erased::names;

/// Whoever changes a file of letters holds it for reading; who takes letters out of all files, of sinks that are off,
/// too, holds it for writing.
static FILES: RwLock<()> = RwLock::new(());

/// How long a sink may take to write its letters.
const PATIENCE: Duration = Duration::from_secs(10);

/// A sink's files are changed.
pub(super) fn changing() -> RwLockReadGuard<'static, ()> {
    FILES.read()
}

/// Takes the letters of an event out of the files of all sinks; returns how many there were. It is on disk when this
/// returns.
///
/// # Errors
/// What the system says, or a sink that is stuck in its files; the letters are as they were, or some are gone.
pub(crate) fn erase(data_dir: &Path, id: &Uuid) -> io::Result<u64> {
    let Some(_alone) = FILES.try_write_for(PATIENCE) else {
        return Err(io::Error::other("a sink is stuck in writing to its dead letters"));
    };
    let dir = super::dir(data_dir);
    let entries = match dir.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    let ends = |path: &Path, with: &str| {
        let name = path.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.ends_with(with))
    };
    let half_made = |path: &mut PathBuf| ends(path, ".jsonl.new") || ends(path, ".replaying.new");
    for path in paths.extract_if(.., half_made) {
        // A crash left it; nobody is at it now.
        std::fs::remove_file(path)?;
    }
    let mut erased = 0;
    for path in paths.iter().filter(|path| ends(path, ".jsonl")) {
        erased += erase_in(path, id)?;
    }
    sync_dir(&dir)?;
    Ok(erased)
}

/// A file that is written anew has the same length where its name says how far a replay is.
fn erase_in(path: &Path, id: &Uuid) -> io::Result<u64> {
    let mut found = 0;
    pieces(path, |piece, begins| {
        found += u64::from(begins && is_of(piece, id));
        Ok(())
    })?;
    if found == 0 {
        return Ok(0);
    }
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let keeps_length = name.contains(".replaying-");
    let beside = path.with_file_name(format!("{name}.new"));
    let file = create(&beside)?;
    let (was, is) = (path.metadata()?, file.metadata()?);
    if (was.uid(), was.gid()) != (is.uid(), is.gid()) {
        std::os::unix::fs::fchown(&file, Some(was.uid()), Some(was.gid()))?;
    }
    let mut out = BufWriter::with_capacity(256 << 10, file);
    pieces(path, |piece, begins| {
        if !(begins && is_of(piece, id)) {
            return out.write_all(piece);
        }
        if keeps_length {
            // A line of spaces is passed over.
            let line = piece.strip_suffix(b"\n").unwrap_or(piece);
            out.write_all(&vec![b' '; line.len()])?;
            return out.write_all(piece.get(line.len()..).unwrap_or_default());
        }
        Ok(())
    })?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    if beside.metadata()?.len() == 0 {
        std::fs::remove_file(&beside)?;
        std::fs::remove_file(path)?;
    } else {
        std::fs::rename(&beside, path)?;
    }
    Ok(found)
}

/// Whether a line is a letter of this event, or what is left of one.
fn is_of(line: &[u8], id: &Uuid) -> bool {
    if !names(line, id) {
        return false;
    }
    // Another event may name this one.
    match Letter::parse(line.strip_suffix(b"\n").unwrap_or(line)) {
        Some(letter) => letter.event_id.parse() == Ok(*id),
        None => true,
    }
}

/// Calls `each` with the lines of a file, each with its line feed; one that is too long comes in pieces, of which only
/// the first begins a line.
fn pieces(path: &Path, mut each: impl FnMut(&[u8], bool) -> io::Result<()>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, File::open(path)?);
    let mut piece = Vec::new();
    let mut begins = true;
    loop {
        piece.clear();
        if reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut piece)? == 0 {
            return Ok(());
        }
        each(&piece, begins)?;
        begins = piece.last() == Some(&b'\n');
    }
}
