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
/// until at most `left` tiles live in memory alone, or as many are written as
/// there were: those that fill meanwhile are another call's, or a steady stream
/// of them would keep the thread from all else. What fails stays there.
pub(crate) fn store(shared: &Shared, end: u64, left: usize) -> io::Result<()> {
    let mut most = shared.tree.lock().pending();
    while most > 0 {
        // Two threads may write; the same tile only one.
        let _one = shared.tile_writer.lock();
        let began;
        let tiles = {
            let tree = shared.tree.lock();
            if tree.pending() <= left {
                return Ok(());
            }
            began = tree.began();
            tree.unstored(end, AT_ONCE.min(most))
        };
        if tiles.is_empty() {
            return Ok(());
        }
        write(&*shared.fs, &shared.layout, &tiles, began)?;
        shared.tree.lock().stored(&tiles);
        most -= tiles.len();
    }
    Ok(())
}

/// Writes full tiles; all are on disk when this returns. Those of the first `began` leaves may be there already,
/// and stay if they are the same.
pub(crate) fn write(fs: &dyn Fs, layout: &Layout, tiles: &[NewTile], began: u64) -> io::Result<()> {
    let root = layout.generation_dir();
    let mut dirs = BTreeSet::new();
    // All of them are written before the first is synced: what a file system does for that it does for many at once.
    for some in tiles.chunks(AT_ONCE) {
        let mut files = Vec::with_capacity(some.len());
        for (tile, bytes) in some {
            let path = layout.tile(*tile);
            make_dirs(fs, &root, &path, &mut dirs)?;
            // A start finds the newest again that an earlier run has written, its directory perhaps not synced.
            if tile.leaves().end <= began
                && read(fs, layout, *tile).is_ok_and(|held| held.is_some_and(|held| held == bytes[..]))
            {
                continue;
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, OnceLock, Weak};

    use super::*;
    use crate::fs::{FsFile, RealFs};

    /// A disk so slow that as many tiles fill as are written.
    #[derive(Clone, Default)]
    struct Slow(Arc<OnceLock<Weak<Shared>>>);

    impl Fs for Slow {
        fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
            RealFs.open(path)
        }
        fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
            RealFs.open_read(path)
        }
        fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
            fill(&self.0.get().unwrap().upgrade().unwrap(), 1);
            RealFs.create(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealFs.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            RealFs.remove(path)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            RealFs.list(dir)
        }
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            RealFs.create_dir(dir)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            RealFs.sync_dir(dir)
        }
        fn free(&self, path: &Path) -> io::Result<u64> {
            RealFs.free(path)
        }
    }

    /// Fills `tiles` more.
    fn fill(shared: &Shared, tiles: usize) {
        let mut tree = shared.tree.lock();
        let size = tree.size();
        assert!(size < 1 << 20, "it goes on for ever");
        tree.extend(size, &vec![[7; 32]; tiles * 256]);
    }

    #[test]
    fn what_fills_meanwhile_is_left_to_the_next_call() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), 1);
        for path in [dir.path().join("journal"), layout.generation_dir()] {
            RealFs.create_dir(&path).unwrap();
        }
        let slow = Slow::default();
        let shared = Arc::new(Shared::new(Arc::new(slow.clone()), layout, "test/1".into()));
        slow.0.set(Arc::downgrade(&shared)).unwrap();
        fill(&shared, 300);
        let full = shared.tree.lock().pending();
        store(&shared, u64::MAX, 0).unwrap();
        let left = shared.tree.lock().unstored(u64::MAX, usize::MAX);
        // One of level 1 fills too.
        assert!((full..full + 3).contains(&left.len()), "{full}, then {}", left.len());
        assert!(left.iter().all(|(tile, _)| tile.leaves().end > 300 * 256));
    }
}
