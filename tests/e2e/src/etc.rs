//! An /etc of the agent's own: users can be added without anybody else seeing them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of /etc that stands in its place for one agent.
pub struct OwnEtc(PathBuf);

/// Copies /etc into `dir`; root only.
#[must_use]
pub fn own_etc(dir: &Path) -> OwnEtc {
    let copy = dir.join("etc");
    let status = Command::new("cp").arg("-a").arg("/etc").arg(&copy).status().unwrap();
    assert!(status.success());
    OwnEtc(copy)
}

impl OwnEtc {
    /// What to start the agent under: a mount namespace of its own, in the same process.
    #[must_use]
    pub fn wrapper(&self) -> Vec<&str> {
        let script = "mount --bind \"$1\" /etc && shift && exec \"$@\"";
        let copy = self.0.to_str().unwrap();
        vec!["unshare", "--mount", "sh", "-c", script, "sh", copy]
    }

    /// Adds a user and a group of the same name and id as `useradd` does: the file is replaced.
    pub fn add_user(&self, name: &str, id: u32) {
        for (file, line) in [
            ("passwd", format!("{name}:x:{id}:{id}::/nonexistent:/bin/sh\n")),
            ("group", format!("{name}:x:{id}:\n")),
        ] {
            let (path, beside) = (self.0.join(file), self.0.join(format!("{file}+")));
            let text = std::fs::read_to_string(&path).unwrap() + &line;
            std::fs::write(&beside, text).unwrap();
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&beside, readable).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        }
    }
}
