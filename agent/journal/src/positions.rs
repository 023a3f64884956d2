//! Positions of sinks that have no memory of their own.

use std::io;

use crate::format::Position;
use crate::fs::{Fs, read_small, replace};
use crate::layout::Layout;

/// More than a position file ever has.
const MAX_FILE: usize = 2048;

/// Whether a name can be a file of its own in `positions`.
fn is_name(sink: &str) -> bool {
    !sink.is_empty()
        && sink.len() <= 128
        && !sink.starts_with('.')
        && !sink.ends_with(".new")
        && sink
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Reads a sink's position, `None` if it has none yet.
pub(crate) fn read(fs: &dyn Fs, layout: &Layout, sink: &str) -> io::Result<Option<Position>> {
    if !is_name(sink) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match read_small(fs, &layout.positions().join(sink), MAX_FILE) {
        Ok(bytes) => Position::parse(&bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a sink's position so that a crash leaves the old or the new one.
pub(crate) fn write(fs: &dyn Fs, layout: &Layout, sink: &str, position: &Position) -> io::Result<()> {
    if !is_name(sink) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    replace(fs, &layout.positions(), sink, &position.encode())
}

/// All positions that can be read.
pub(crate) fn all(fs: &dyn Fs, layout: &Layout) -> Vec<(String, Position)> {
    let names = fs.list(&layout.positions()).unwrap_or_default();
    names
        .into_iter()
        .filter(|name| is_name(name))
        .filter_map(|name| {
            let position = read(fs, layout, &name).ok()??;
            Some((name, position))
        })
        .collect()
}
