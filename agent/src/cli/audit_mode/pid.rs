//! The file with the process' number.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// It, until this is dropped.
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes the process' number, unless the file names one that lives. A directory that is missing is made, one level,
    /// as upstream has it.
    ///
    /// # Errors
    /// A process that lives, or what could not be done; a sentence.
    pub fn write(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let own = std::process::id();
        let former = fs::read_to_string(path).ok();
        let former = former.and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(pid) = former.filter(|pid| *pid != own)
            && Path::new(&format!("/proc/{pid}")).exists()
        {
            return Err(format!(
                "{shown} names process {pid}, which runs; stop it, or remove the file"
            ));
        }
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            make(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        let failed = |error| format!("{shown}: {error}");
        let mut file = File::create(path).map_err(failed)?;
        file.write_all(format!("{own}\n").as_bytes()).map_err(failed)?;
        Ok(Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            file,
        })
    }
}

/// Makes a directory that others may pass through, whatever the umask: the state directory may lie in it, too.
fn make(dir: &Path) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o755).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for PidFile {
    /// Removed, unless another stands there by now; emptied where that takes privileges which were given up.
    fn drop(&mut self) {
        let same = |other: fs::Metadata| {
            let ours = self.file.metadata();
            ours.is_ok_and(|ours| (ours.dev(), ours.ino()) == (other.dev(), other.ino()))
        };
        let ours = fs::symlink_metadata(&self.path).is_ok_and(same);
        if !ours || fs::remove_file(&self.path).is_err() {
            // Whoever reads an empty one finds no process; more can't be done.
            let _ = self.file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_process_that_runs_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        for former in [None, Some("nonsense"), Some("4194305")] {
            if let Some(former) = former {
                fs::write(&path, former).unwrap();
            }
            let file = PidFile::write(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
            drop(file);
            assert!(!path.exists());
        }
        // Process 1 always runs.
        fs::write(&path, "1\n").unwrap();
        let error = PidFile::write(&path).err().unwrap();
        assert!(error.contains("names process 1"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn its_directory_is_made_and_another_file_in_its_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("immuclient/pid");
        let file = PidFile::write(&path).unwrap();
        let mode = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let beside = dir.path().join("immuclient/new");
        fs::write(&beside, "2\n").unwrap();
        fs::rename(&beside, &path).unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        // One level.
        let error = PidFile::write(&dir.path().join("a/b/pid")).err().unwrap();
        assert!(error.contains("/a/b: No such file"), "{error}");
    }
}
