//! Names of users and groups from /etc/passwd and /etc/group.
//!
//! Held in memory and read again when a file has changed, looked at once a
//! second at most: asking the name service for each event costs 30 µs and
//! can itself make audit events.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use audit_record::json::Names;
use auditmon_core::privileged::Control;

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a file that are read, at most.
const MAX_FILE: u64 = 16 << 20;
/// How long the control thread may take: events wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(250);

/// The host's files. A rename replaces them whenever a user is added, and under Landlock the new file is a stranger,
/// so they are among the files that the control thread opens.
pub const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Both files.
#[derive(Debug)]
pub struct Users {
    users: Table,
    groups: Table,
    looked: Option<Instant>,
    control: Option<Control>,
}

#[derive(Debug)]
struct Table {
    path: PathBuf,
    /// Time of change and length when it was read.
    read: Option<(SystemTime, u64)>,
    names: HashMap<u32, String>,
}

impl Users {
    /// The host's files, read now.
    #[must_use]
    pub fn of_host(control: &Control) -> Users {
        let [passwd, group] = FILES.map(Path::new);
        Users::of_files(passwd, group, Some(control))
    }

    /// Other files of the same form, read now; through the control thread where they can't be read directly.
    #[must_use]
    pub fn of_files(passwd: &Path, group: &Path, control: Option<&Control>) -> Users {
        let mut users = Users {
            users: Table::new(passwd),
            groups: Table::new(group),
            looked: None,
            control: control.map(|control| control.within(PATIENCE)),
        };
        users.refresh();
        users
    }

    /// Reads what has changed; does nothing within a second of the last look.
    pub fn refresh(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        self.users.refresh(self.control.as_ref());
        self.groups.refresh(self.control.as_ref());
    }

    /// The uid of a user name.
    #[must_use]
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.users.id(name)
    }

    /// The gid of a group name.
    #[must_use]
    pub fn gid(&self, name: &str) -> Option<u32> {
        self.groups.id(name)
    }
}

impl Names for Users {
    fn user(&self, id: u32) -> Option<&str> {
        self.users.names.get(&id).map(String::as_str)
    }

    fn group(&self, id: u32) -> Option<&str> {
        self.groups.names.get(&id).map(String::as_str)
    }
}

impl Table {
    fn new(path: &Path) -> Table {
        Table {
            path: path.to_owned(),
            read: None,
            names: HashMap::new(),
        }
    }

    fn refresh(&mut self, control: Option<&Control>) {
        let Ok(meta) = fs::metadata(&self.path) else {
            return;
        };
        let now = meta.modified().ok().map(|changed| (changed, meta.len()));
        if now.is_some() && now == self.read {
            return;
        }
        let mut text = Vec::new();
        let file = match (File::open(&self.path), control) {
            (Err(error), Some(control)) if error.kind() == ErrorKind::PermissionDenied => control.open(&self.path).ok(),
            (file, _) => file.ok(),
        };
        let read = file.map(|file| file.take(MAX_FILE).read_to_end(&mut text));
        if !matches!(read, Some(Ok(_))) {
            // Being replaced: keep what is known, look again.
            return;
        }
        self.read = now;
        self.names = parse(&text);
    }

    fn id(&self, name: &str) -> Option<u32> {
        // Rules are parsed rarely; the table is by id.
        let mut ids = self.names.iter();
        ids.find(|(_, known)| *known == name).map(|(id, _)| *id)
    }
}

/// `name:…:id:…`, the first name of an id counts.
fn parse(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        if let Some(id) = id
            && !name.is_empty()
            && !name.starts_with(b"#")
        {
            let name = String::from_utf8_lossy(name);
            names.entry(id).or_insert_with(|| name.into_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_notices_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (passwd, group) = (dir.path().join("p"), dir.path().join("g"));
        fs::write(
            &passwd,
            "root:x:0:0::/:/bin/sh\nalias:x:0:0::/:\nbad\n:x:1:\n#c:x:2:\nal\u{e9}:x:1000:\n",
        )
        .unwrap();
        fs::write(&group, "wheel:x:10:root\n").unwrap();
        let mut users = Users::of_files(&passwd, &group, None);
        assert_eq!((users.user(0), users.user(1000)), (Some("root"), Some("al\u{e9}")));
        assert_eq!(
            (users.user(1), users.user(2), users.group(10)),
            (None, None, Some("wheel"))
        );
        assert_eq!(
            (users.uid("root"), users.gid("wheel"), users.uid("nobody")),
            (Some(0), Some(10), None)
        );
        fs::write(&passwd, "toor:x:0:0::/:/bin/sh\n").unwrap();
        users.refresh();
        assert_eq!(users.user(0), Some("root"), "looked a moment ago");
        users.looked = None;
        users.refresh();
        assert_eq!(users.user(0), Some("toor"));
        fs::remove_file(&passwd).unwrap();
        users.looked = None;
        users.refresh();
        assert_eq!(users.user(0), Some("toor"));
    }
}
