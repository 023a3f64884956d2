//! Full tiles on disk.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use auditmon_merkle::{TILE_BYTES, TileId};

use super::NewTile;
use crate::fs::{Fs, read_full_at, write_all_at};
use crate::layout::Layout;
use crate::shared::Shared;

/// Tiles that are open at once, and so many are worth a sync: 512 KiB.
pub(crate) const AT_ONCE: usize = 64;

/// Writes the tiles that aren't on disk and whose leaves all lie below `end`,
/// until at most `left` tiles live in memory alone. What fails stays there.
pub(crate) fn store(shared: &Shared, end: u64, left: usize) -> io::Result<()> {
    loop {
        // Two threads may write; the same tile only one.
        let _one = shared.tile_writer.lock();
        let tiles = {
            let tree = shared.tree.lock();
            if tree.pending() <= left {
                return Ok(());
            }
            tree.unstored(end, AT_ONCE)
        };
        if tiles.is_empty() {
            return Ok(());
        }
        write(&*shared.fs, &shared.layout, &tiles)?;
        shared.tree.lock().stored(&tiles);
    }
}

/// Writes full tiles; all are on disk when this returns.
pub(crate) fn write(fs: &dyn Fs, layout: &Layout, tiles: &[NewTile]) -> io::Result<()> {
    let root = layout.generation_dir();
    let mut dirs = BTreeSet::new();
    // All of them are written before the first is synced: what a file system does for that it does for many at once.
    for some in tiles.chunks(AT_ONCE) {
        let mut files = Vec::with_capacity(some.len());
        for (tile, bytes) in some {
            // A start finds the newest again that an earlier run has written.
            if read(fs, layout, *tile).is_ok_and(|held| held.is_some_and(|held| held == bytes[..])) {
                continue;
            }
            let path = layout.tile(*tile);
            make_dirs(fs, &root, &path, &mut dirs)?;
            // Beside, because whoever reads the directory must never see half a tile.
            let mut beside = path.clone().into_os_string();
            beside.push(".new");
            let beside = PathBuf::from(beside);
            let file = fs.create(&beside)?;
            write_all_at(&*file, &mut [IoSlice::new(&bytes[..])], 0)?;
            file.begin_sync();
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
