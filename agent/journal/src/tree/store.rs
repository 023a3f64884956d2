//! Full tiles on disk.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use auditmon_merkle::{TILE_BYTES, TileId};

use super::NewTile;
use crate::fs::{Fs, read_full_at, write_all_at};
use crate::layout::Layout;

/// Tiles that are open at once.
const AT_ONCE: usize = 128;

/// Writes full tiles; all are on disk when this returns.
pub(crate) fn write(fs: &dyn Fs, layout: &Layout, tiles: &[NewTile]) -> io::Result<()> {
    let root = layout.generation_dir();
    let mut dirs = BTreeSet::new();
    // All of them are written before the first is synced: what a file system does for that it does for many at once.
    for some in tiles.chunks(AT_ONCE) {
        let mut files = Vec::with_capacity(some.len());
        for (tile, bytes) in some {
            let path = layout.tile(*tile);
            make_dirs(fs, &root, &path, &mut dirs)?;
            // Beside, because whoever reads the directory must never see half a tile.
            let mut beside = path.clone().into_os_string();
            beside.push(".new");
            let beside = PathBuf::from(beside);
            let file = fs.create(&beside)?;
            write_all_at(&*file, &mut [IoSlice::new(&bytes[..])], 0)?;
            files.push((file, beside, path));
        }
        for (file, beside, path) in files {
            file.sync()?;
            drop(file);
            fs.rename(&beside, &path)?;
        }
    }
    dirs.iter().try_for_each(|dir| fs.sync_dir(dir))
}

/// Makes the directories between `root` and `path`, and notes them and `root`.
fn make_dirs(fs: &dyn Fs, root: &Path, path: &Path, made: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let above: Vec<_> = path.ancestors().skip(1).take_while(|dir| *dir != root).collect();
    for dir in above.into_iter().rev() {
        if !made.contains(dir) {
            fs.create_dir(dir)?;
            made.insert(dir.to_owned());
        }
    }
    made.insert(root.to_owned());
    Ok(())
}

/// Reads a full tile, `None` if it isn't there or is no full one.
pub(crate) fn read(fs: &dyn Fs, layout: &Layout, tile: TileId) -> io::Result<Option<Vec<u8>>> {
    let full = TileId::new(tile.level(), tile.index(), auditmon_merkle::TILE_WIDTH);
    let Some(full) = full else { return Ok(None) };
    let file = match fs.open_read(&layout.tile(full)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![0; TILE_BYTES];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    Ok((read == TILE_BYTES).then_some(bytes))
}
