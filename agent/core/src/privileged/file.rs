//! Configured files: which are opened, and what is refused.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::ControlError;

/// Longest file that is read whole, bytes.
pub const MAX_FILE: u64 = 16 << 20;

/// A file that the configuration names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfiguredFile {
    /// Exactly as it will be asked for.
    pub path: PathBuf,
    /// A key or password: refused if others than its owner may read it.
    pub secret: bool,
}

/// Why a configured file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing else than configured files is opened.
    #[error("{}: not a file that the configuration names", .0.display())]
    NotConfigured(PathBuf),
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// A secret that is none.
    #[error("{path}: mode {mode:04o} lets others than its owner at a secret; chmod 600 {path}", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Too long.
    #[error("{}: longer than {} MiB", .0.display(), MAX_FILE >> 20)]
    TooLong(PathBuf),
    /// The control thread did not do it.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl ConfiguredFile {
    /// Reads it with the caller's own privileges, as [`Control::read_file`](super::Control::read_file) does with those
    /// of the control thread: for what is read before there is one.
    ///
    /// # Errors
    /// As there.
    pub fn read(&self) -> Result<Vec<u8>, FileError> {
        read(&self.path, open(self)?)
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        let (kind, path) = match &error {
            FileError::NotConfigured(path) | FileError::Exposed { path, .. } => {
                (io::ErrorKind::PermissionDenied, Some(path))
            }
            FileError::NotRegular(path) => (io::ErrorKind::InvalidInput, Some(path)),
            FileError::TooLong(path) => (io::ErrorKind::FileTooLarge, Some(path)),
            FileError::Control(_) => (io::ErrorKind::TimedOut, None),
            FileError::Io { error, .. } if error.raw_os_error().is_some() => {
                return Self::from_raw_os_error(error.raw_os_error().unwrap_or_default());
            }
            FileError::Io { path, error } => (error.kind(), Some(path)),
        };
        // As with the system's own errors, whoever asked knows the path and says it.
        let text = error.to_string();
        let prefix = path.map(|path| format!("{}: ", path.display()));
        let text = prefix.and_then(|prefix| text.strip_prefix(&prefix)).unwrap_or(&text);
        Self::new(kind, text.to_owned())
    }
}

/// Runs on the control thread.
pub(super) fn open(configured: &ConfiguredFile) -> Result<File, FileError> {
    let path = &configured.path;
    let fail = |error| FileError::Io {
        path: path.clone(),
        error,
    };
    // Whoever puts a pipe in place of the file must not stop the thread.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(FileError::NotRegular(path.clone()));
    }
    let mode = meta.mode() & 0o7777;
    if configured.secret && (mode & 0o007 != 0 || mode & 0o070 != 0 && !only_named_users(&file)) {
        return Err(FileError::Exposed {
            path: path.clone(),
            mode,
        });
    }
    Ok(file)
}

pub(super) fn read(path: &Path, file: File) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::Io {
            path: path.to_owned(),
            error,
        })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

/// Whether the group's bits of the mode come only from an access list that lets root or this user in: then they are
/// the list's mask (acl(5)). systemd hands credentials over so.
fn only_named_users(file: &File) -> bool {
    let mut list = [0; 1024];
    match rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut list) {
        Ok(len) => list
            .get(..len)
            .is_some_and(|list| lets_only_in(list, rustix::process::geteuid().as_raw())),
        // None, or one that is longer than a secret's would be.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => false,
        Err(_) => false,
    }
}

/// The list's form: `linux/posix_acl_xattr.h`. A version, then entries of tag, permissions and id, little-endian.
fn lets_only_in(list: &[u8], uid: u32) -> bool {
    const VERSION: &[u8] = &[2, 0, 0, 0];
    const OWNER: u16 = 0x01;
    const USER: u16 = 0x02;
    const MASK: u16 = 0x10;
    let Some(entries) = list.strip_prefix(VERSION) else {
        return false;
    };
    let (entries, rest) = entries.as_chunks::<8>();
    rest.is_empty()
        && entries.iter().all(|&[t0, t1, p0, p1, i0, i1, i2, i3]| {
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            match u16::from_le_bytes([t0, t1]) {
                OWNER | MASK => true,
                USER => id == 0 || id == uid,
                // The owning group, a named group, everybody.
                _ => u16::from_le_bytes([p0, p1]) == 0,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::lets_only_in;

    /// As `getfattr -e hex -n system.posix_acl_access` shows lists that setfacl made.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn an_access_list_for_this_user_alone_is_no_exposure() {
        const NONE: u32 = u32::MAX;
        let owner = (0x01, 4, NONE);
        let (group, mask, other) = ((0x04, 0, NONE), (0x10, 4, NONE), (0x20, 0, NONE));
        let good = list(&[owner, (0x02, 4, 998), group, mask, other]);
        assert!(lets_only_in(&good, 998));
        assert!(!lets_only_in(&good, 997));
        assert!(!lets_only_in(
            &list(&[owner, (0x02, 4, 998), (0x04, 4, NONE), mask, other]),
            998
        ));
        assert!(!lets_only_in(&list(&[owner, group, (0x08, 4, 998), mask, other]), 998));
        assert!(!lets_only_in(&list(&[owner, group, (0x20, 4, NONE)]), 998));
        // Nothing that is not understood lets a secret pass.
        assert!(!lets_only_in(&[], 998));
        assert!(!lets_only_in(&good[..good.len() - 1], 998));
        assert!(!lets_only_in(&[1, 0, 0, 0], 998));
    }
}
