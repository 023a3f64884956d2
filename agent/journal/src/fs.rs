//! The file system as the journal sees it.
//!
//! Everything the journal does to a disk goes through these two traits, so
//! that the model test can put a disk beneath it that loses and tears writes.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

mod real;

pub use real::RealFs;

/// A directory tree. Paths are those that [`Options::dir`](crate::Options)
/// begins.
pub trait Fs: Send + Sync + 'static {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;
    /// Opens an existing file for reading only.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;
    /// Creates a file, or empties the one of that name; mode 0600.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;
    /// The same with mode 0644, for what everybody may read.
    fn create_public(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        self.create(path)
    }
    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, in any order; names that are no UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes one directory, mode 0700; one that exists is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this user may still allocate on the volume of `path`.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. All methods take offsets, so it may be shared.
pub trait FsFile: Send + Sync + 'static {
    /// Reads at most `buf.len()` bytes; 0 is the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes the buffers one behind the other; may write fewer bytes.
    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Allocates blocks for `0..len` and makes the file at least that long; what
    /// was not written reads as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Begins to write out what was written, and doesn't wait: whoever syncs
    /// many files begins with all of them. Only [`sync`](Self::sync) promises anything.
    fn begin_sync(&self) {}
    /// `fdatasync`: contents and length are on disk when it returns.
    fn sync(&self) -> io::Result<()>;
}

/// Most buffers that the kernel takes in one call.
const MAX_SLICES: usize = 1024;

/// Writes all of `bufs` at `offset`.
pub(crate) fn write_all_at(file: &dyn FsFile, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let written = file.write_at(&bufs[..bufs.len().min(MAX_SLICES)], offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut bufs, written);
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends; returns the bytes read.
pub(crate) fn read_full_at(file: &dyn FsFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Replaces a small file so that a crash leaves the old or the new one whole:
/// written beside, synced, renamed, directory synced.
pub(crate) fn replace(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!("{name}.new"));
    let file = fs.create(&beside)?;
    write_all_at(&*file, &mut [IoSlice::new(bytes)], 0)?;
    file.sync()?;
    fs.rename(&beside, &dir.join(name))?;
    fs.sync_dir(dir)
}

/// Reads a small file, at most `limit` bytes of it.
pub(crate) fn read_small(fs: &dyn Fs, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = fs.open_read(path)?;
    let mut bytes = vec![0; limit];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Whether an error says that the volume or a quota is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
