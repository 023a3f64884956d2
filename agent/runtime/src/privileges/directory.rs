//! The data directory: made, and handed over to whom the agent runs as.

use std::ffi::CStr;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use auditmon_journal::{DirLock, LockError};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chownat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::identity::Identity;
use crate::agent::{self, StartError};

/// One of these stands in every directory that an agent, or one of its commands, has used.
const MARKS: [&CStr; 3] = [c"lock", c"journal", c"accounts.db"];
/// A volume's own, left alone.
const LOST: &CStr = c"lost+found";
/// More is not handed over: it is no data directory, or a person should look at it. What is theirs already does not
/// count: a journal has a tile for each 256 events.
const MAX_ENTRIES: usize = 100_000;
/// Directories below each other.
const MAX_DEPTH: usize = 16;

/// Makes the data directory if it is not there, and hands it over.
pub(super) fn prepare(path: &Path, identity: &Identity) -> Result<(), StartError> {
    let fail = |why: io::Error| StartError::DataDir {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let Some((uid, gid)) = identity.owner() else {
        return agent::make_data_dir(path);
    };
    make(path, identity).map_err(fail)?;
    let top = openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| fail(e.into()))?;
    let known = is_known(&top).map_err(fail)?;
    if !known {
        if fstat(&top).map_err(|e| fail(e.into()))?.st_uid == uid.as_raw() {
            // Theirs already, and what lies in it is no business of ours.
            return Ok(());
        }
        return Err(fail(io::Error::other(format!(
            "it holds things that are not the agent's, so it is not handed over to {identity}; \
             name a directory of its own, or give it this one by chown"
        ))));
    }
    // A running agent's files are not taken away from it.
    let _lock = DirLock::acquire(path).map_err(|error| match error {
        LockError::Held { pid, command } => StartError::Held {
            path: path.to_owned(),
            pid,
            command,
        },
        LockError::Io(error) => fail(error),
    })?;
    let mut walk = HandOver { uid, gid, entries: 0 };
    walk.directory(top, 0).map_err(fail)
}

/// Makes a directory for the agent alone; those above it that are missing can be passed through by others.
pub(super) fn make(path: &Path, identity: &Identity) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        let missing: Vec<_> = above.ancestors().take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            std::fs::create_dir(dir)?;
            std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        }
    }
    DirBuilder::new().mode(0o700).create(path)?;
    if let Some((uid, gid)) = identity.ids() {
        std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw()))?;
    }
    Ok(())
}

/// Whether an agent has used it before, or nobody has.
fn is_known(top: &OwnedFd) -> io::Result<bool> {
    let mut empty = true;
    for entry in Dir::read_from(top)? {
        let entry = entry?;
        let name = entry.file_name();
        if MARKS.contains(&name) {
            return Ok(true);
        }
        empty &= [c".", c"..", LOST].contains(&name);
    }
    Ok(empty)
}

struct HandOver {
    uid: Uid,
    gid: Gid,
    entries: usize,
}

impl HandOver {
    /// Everything below first, so that nobody gets at it while it is gone through.
    fn directory(&mut self, directory: OwnedFd, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!(
                "more than {MAX_DEPTH} directories below each other; hand it over by chown -R"
            )));
        }
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c"..", LOST].contains(&name) {
                continue;
            }
            if self.is_theirs(&directory, name)? {
                continue;
            }
            self.entry(&directory, name, depth)?;
        }
        self.give(&directory, c"")
    }

    /// Whether nothing is to be done about it. One call for each of what may be millions of files; directories are
    /// gone through in any case, since a command of root's may have left something in them.
    fn is_theirs(&self, above: &OwnedFd, name: &CStr) -> io::Result<bool> {
        match statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                Ok(!is_directory && stat.st_uid == self.uid.as_raw())
            }
            Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn entry(&mut self, above: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
        // Looked at and changed through one descriptor: what the name stands for may change meanwhile.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(above, name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.directory(openat(&found, c".", flags, Mode::empty())?, depth + 1)
            }
            // A further name of the same file may stand anywhere, in /etc for example.
            FileType::RegularFile if stat.st_nlink > 1 => {
                if stat.st_uid != self.uid.as_raw() {
                    tracing::warn!(
                        file = %name.to_string_lossy(),
                        "not handed over: the file has other names outside, or beside it"
                    );
                }
                Ok(())
            }
            FileType::RegularFile | FileType::Socket | FileType::Fifo => self.give(&found, c""),
            // A link is its target's name, a device is no data.
            _ => Ok(()),
        }
    }

    fn give(&mut self, file: &OwnedFd, name: &CStr) -> io::Result<()> {
        if fstat(file)?.st_uid == self.uid.as_raw() {
            return Ok(());
        }
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "more than {MAX_ENTRIES} files; hand it over by chown -R"
            )));
        }
        chownat(
            file.as_fd(),
            name,
            Some(self.uid),
            Some(self.gid),
            AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    const UID: u32 = 4_000_001;

    fn somebody() -> Identity {
        Identity::User {
            uid: Uid::from_raw(UID),
            gid: Gid::from_raw(UID),
            name: String::new(),
        }
    }

    fn root(test: &str) -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("SKIPPED {test}: only root gives files away");
        }
        root
    }

    fn owner(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().uid()
    }

    fn used(dir: &Path) -> PathBuf {
        let data = dir.join("data");
        std::fs::create_dir_all(data.join("journal/1/seg")).unwrap();
        std::fs::write(data.join("journal/1/seg/0.seg"), "x").unwrap();
        std::fs::write(data.join("lock"), "").unwrap();
        data
    }

    #[test]
    fn everything_in_it_is_handed_over_and_nothing_that_links_lead_to() {
        if !root("everything_in_it_is_handed_over") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let data = used(dir.path());
        let (outside, twice) = (dir.path().join("outside"), dir.path().join("twice"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "x").unwrap();
        std::fs::write(&twice, "x").unwrap();
        symlink(&outside, data.join("directory")).unwrap();
        symlink(outside.join("file"), data.join("events.db")).unwrap();
        std::fs::hard_link(&twice, data.join("accounts.db")).unwrap();
        prepare(&data, &somebody()).unwrap();
        for ours in [
            "",
            "lock",
            "journal",
            "journal/1",
            "journal/1/seg",
            "journal/1/seg/0.seg",
        ] {
            assert_eq!(owner(&data.join(ours)), UID, "{ours}");
        }
        for path in [&outside, &outside.join("file"), &twice, &data.join("directory")] {
            assert_eq!(owner(path), 0, "{}", path.display());
        }
        // What a command of root left behind goes after.
        std::fs::write(data.join("new"), "x").unwrap();
        prepare(&data, &somebody()).unwrap();
        assert_eq!(owner(&data.join("new")), UID);
    }

    #[test]
    fn what_is_theirs_already_does_not_count() {
        if !root("what_is_theirs_already") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let data = used(dir.path());
        prepare(&data, &somebody()).unwrap();
        let walk = |entries| {
            let top = openat(CWD, &data, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(UID));
            HandOver { uid, gid, entries }.directory(top, 0)
        };
        walk(MAX_ENTRIES).unwrap();
        std::fs::write(data.join("new"), "x").unwrap();
        let error = walk(MAX_ENTRIES).unwrap_err().to_string();
        assert!(error.contains("more than 100000 files"), "{error}");
        walk(MAX_ENTRIES - 1).unwrap();
        assert_eq!(owner(&data.join("new")), UID);
    }

    #[test]
    fn a_directory_of_others_is_not_handed_over() {
        if !root("a_directory_of_others") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("somebodys"), "x").unwrap();
        let error = prepare(dir.path(), &somebody()).unwrap_err().to_string();
        assert!(error.contains("holds things that are not the agent's"), "{error}");
        assert_eq!((owner(dir.path()), owner(&dir.path().join("somebodys"))), (0, 0));
        // One that is theirs already stays as it is.
        std::os::unix::fs::chown(dir.path(), Some(UID), None).unwrap();
        prepare(dir.path(), &somebody()).unwrap();
        assert_eq!(owner(&dir.path().join("somebodys")), 0);
    }

    #[test]
    fn a_new_one_can_be_reached_and_is_closed() {
        if !root("a_new_one_can_be_reached") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b/data");
        prepare(&data, &somebody()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((owner(&data), mode(&data)), (UID, 0o700));
        let above = dir.path().join("a/b");
        assert_eq!((owner(&above), mode(&above)), (0, 0o755));
    }

    #[test]
    fn a_running_agents_directory_is_left_alone() {
        if !root("a_running_agents_directory") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let data = used(dir.path());
        let _lock = DirLock::acquire(&data).unwrap();
        let error = prepare(&data, &somebody()).unwrap_err();
        assert!(matches!(error, StartError::Held { .. }), "{error}");
        assert_eq!(owner(&data), 0);
    }
}
