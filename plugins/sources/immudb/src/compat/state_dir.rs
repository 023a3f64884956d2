//! Directories in which immuclient's auditor and immugw's keep what they trust: `auditor/SERVER/.state`, a line
//! `DATABASE:BASE64` for each database. They are read and never changed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use auditmon_proto::immudb as proto;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;

use super::known::Known;

/// The file in each server's directory.
const FILE: &str = ".state";
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Most servers.
const MAX_SERVERS: usize = 1_000;

/// What such a directory holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StateDirectory {
    /// Its states.
    pub known: Vec<Known>,
    /// What is not taken, and why: a sentence each.
    pub warnings: Vec<String>,
}

/// Reads a directory `auditor`.
///
/// # Errors
/// It can't be read; what is wrong inside of it is told in [`StateDirectory::warnings`].
pub fn read_states(auditor: &Path) -> io::Result<StateDirectory> {
    let mut all = StateDirectory::default();
    // Whose this process is: the owner of its directory in /proc.
    let own = fs::metadata("/proc/self")?.uid();
    if let Some(why) = open_to_others(&fs::metadata(auditor)?, own) {
        all.warnings.push(format!("{}: {why}", auditor.display()));
        return Ok(all);
    }
    let mut servers: Vec<_> = fs::read_dir(auditor)?.collect::<Result<_, _>>()?;
    servers.sort_by_key(fs::DirEntry::file_name);
    for server in servers.into_iter().take(MAX_SERVERS) {
        let (dir, file) = (server.path(), server.path().join(FILE));
        let id = server.file_name().to_string_lossy().into_owned();
        let from = file.display().to_string();
        match one(&dir, &file, own) {
            Ok(Some(text)) => all.add(&text, &id, &from),
            Ok(None) => {}
            Err(why) => all.warnings.push(format!("{from}: {why}")),
        }
    }
    Ok(all)
}

/// The text of a server's file; `None` where there is none.
fn one(dir: &Path, file: &Path, own: u32) -> Result<Option<String>, String> {
    let look = |path: &Path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|error| error.to_string()),
    };
    let Some(meta) = look(dir)?.filter(Metadata::is_dir) else {
        return Ok(None);
    };
    let Some(inner) = look(file)? else {
        return Ok(None);
    };
    if !inner.is_file() {
        return Err("is no plain file".to_owned());
    }
    for meta in [&meta, &inner] {
        if let Some(why) = open_to_others(meta, own) {
            return Err(why);
        }
    }
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| error.to_string())?;
    opened
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("is larger than 4 MiB".to_owned());
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| "is no text in UTF-8".to_owned())
}

/// Why its content may be anybody's: directories of temporary files are everybody's to write to, and who puts a state
/// there decides what is trusted.
fn open_to_others(meta: &Metadata, own: u32) -> Option<String> {
    if ![0, own].contains(&meta.uid()) {
        return Some(format!(
            "belongs to user {}, who could have put anything there; expected root's or this user's",
            meta.uid()
        ));
    }
    (meta.mode() & 0o022 != 0).then(|| "others may write to it, and so decide what is trusted; chmod go-w".to_owned())
}

impl StateDirectory {
    /// Adds the states of one server's file.
    pub(crate) fn add(&mut self, text: &str, server_id: &str, from: &str) {
        // Each name with how often it stands there, before a colon or in a state.
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut states = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut wrong = |what: &str| {
                self.warnings
                    .push(format!("{from}:{}: {what}; its database is taken on trust", index + 1));
            };
            let Some((name, encoded)) = line.trim().split_once(':') else {
                wrong("expected DATABASE:BASE64");
                continue;
            };
            let message = BASE64_STANDARD
                .decode(encoded)
                .ok()
                .and_then(|bytes| proto::ImmutableState::decode(&bytes[..]).ok());
            let Some(message) = message else {
                wrong("expected a state in base64");
                *names.entry(name.to_owned()).or_default() += 1;
                continue;
            };
            *names.entry(name.to_owned()).or_default() += 1;
            if message.db != name {
                // Up to 1.10 records of databases whose names end alike overwrite each other.
                wrong("holds the state of another database");
                *names.entry(message.db).or_default() += 1;
                continue;
            }
            if message.tx_id == 0 || message.tx_hash.len() != 32 {
                wrong("expected a transaction of at least 1 and a hash of 32 bytes");
                continue;
            }
            states.push(message);
        }
        for message in states {
            if names.get(&message.db).is_some_and(|count| *count > 1) {
                self.warnings.push(format!(
                    "{from}: {} stands there twice and is taken on trust",
                    message.db
                ));
                continue;
            }
            let signature = message.signature.filter(|signature| !signature.signature.is_empty());
            let (signature, public_key) = signature
                .map(|signature| (hex::encode(signature.signature), hex::encode(signature.public_key)))
                .unzip();
            self.known.push(Known {
                database: message.db,
                tx: message.tx_id,
                hash: hex::encode(message.tx_hash),
                server_id: server_id.to_owned(),
                signature,
                public_key,
                from: from.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use immudb_verify::PublicKey;
    use serde_json::Value;

    use super::*;
    use crate::address::Endpoint;
    use crate::compat::known;

    fn recorded(version: &str) -> Value {
        let name = format!("../../../tests/fixtures/immuclient/p14-state-dir-{version}.json");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// The directory at a moment, as immuclient wrote it.
    fn place(recorded: &Value, moment: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in recorded["directories"][moment]["files"].as_array().unwrap() {
            let path = dir.path().join(file["path"].as_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file["content_text"].as_str().unwrap()).unwrap();
            chmod(&path, 0o644);
            chmod(path.parent().unwrap(), 0o755);
        }
        chmod(&dir.path().join("auditor"), 0o755);
        dir
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn auditor(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("auditor")
    }

    #[test]
    fn directories_that_immuclient_wrote() {
        for (version, moment, wanted) in [
            ("1.11.1", 0, &[("defaultdb", 2), ("db", 2), ("mydb", 2)][..]),
            ("1.11.1", 1, &[("defaultdb", 9), ("db", 8), ("mydb", 9)]),
            ("1.0.5", 1, &[("defaultdb", 8), ("mydb", 10)]),
            ("1.0.5", 2, &[("defaultdb", 10), ("defaultdb", 8), ("mydb", 10)]),
        ] {
            let recorded = recorded(version);
            let dir = place(&recorded, moment);
            let states = read_states(&auditor(&dir)).unwrap();
            assert_eq!(states.warnings, [""; 0], "{version}");
            let found: Vec<_> = states
                .known
                .iter()
                .map(|known| (known.database.as_str(), known.tx))
                .collect();
            assert_eq!(found, wanted, "{version}");
            assert!(states.known.iter().all(|known| known.check().is_ok()));

            // Their signatures hold with the server's key, and with no other.
            let key = PublicKey::from_pem(recorded["public_key_pem"].as_str().unwrap()).unwrap();
            let endpoint = Endpoint::parse("127.0.0.1:1").unwrap();
            let id = states.known.last().unwrap().server_id.clone();
            let (imports, refused) = known::of_server(&states.known, (&endpoint, "db1"), Some(&id), &[key], 1);
            let of_it = states.known.iter().filter(|known| known.server_id == id).count();
            assert_eq!((imports.len(), refused.len()), (of_it, 0));
            assert!(imports.iter().all(|import| import.record.key == Some(key)));
            let mut changed = states.known.clone();
            for known in &mut changed {
                known.tx += 1;
            }
            let (imports, refused) = known::of_server(&changed, (&endpoint, "db1"), Some(&id), &[], 1);
            assert_eq!((imports.len(), refused.len()), (0, of_it));
        }
    }

    #[test]
    fn records_that_overwrote_each_other_are_not_trusted() {
        let dir = place(&recorded("1.11.1"), 0);
        let file = auditor(&dir).join("dc0clu1ksduflchqfku0/.state");
        let text = fs::read_to_string(&file).unwrap();
        let read = |text: String| {
            let mut states = StateDirectory::default();
            states.add(&text, "u1", "f");
            let names: Vec<String> = states.known.into_iter().map(|known| known.database).collect();
            (names, states.warnings.len())
        };
        // The state of `db` under the name of `mydb`.
        let line = |name: &str| {
            text.lines()
                .find(|line| line.starts_with(&format!("{name}:")))
                .unwrap()
                .to_owned()
        };
        let (db, mydb, default) = (line("db"), line("mydb"), line("defaultdb"));
        let mixed = format!("\n{default}\n\nmy{db}\n\n{db}\n");
        assert_eq!(read(mixed), (vec!["defaultdb".to_owned()], 2));
        assert_eq!(read(format!("{db}\n{db}\n{mydb}\n")), (vec!["mydb".to_owned()], 2));
        assert_eq!(read("db:\nx\ndb:%%\n".to_owned()), (Vec::new(), 3));
        assert_eq!(read(String::new()), (Vec::new(), 0));
    }

    #[test]
    fn what_others_may_have_put_there_is_not_taken() {
        let dir = place(&recorded("1.11.1"), 0);
        let server = auditor(&dir).join("dc0clu1ksduflchqfku0");
        for path in [auditor(&dir), server.clone(), server.join(".state")] {
            let mode = fs::metadata(&path).unwrap().mode() & 0o777;
            chmod(&path, mode | 0o022);
            let states = read_states(&auditor(&dir)).unwrap();
            assert_eq!(
                (states.known.len(), states.warnings.len()),
                (0, 1),
                "{}",
                path.display()
            );
            assert!(states.warnings[0].contains("others may write"), "{:?}", states.warnings);
            chmod(&path, mode);
        }
        assert_eq!(read_states(&auditor(&dir)).unwrap().known.len(), 3);
        fs::rename(server.join(".state"), server.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", server.join(".state")).unwrap();
        assert!(read_states(&auditor(&dir)).unwrap().warnings[0].contains("no plain file"));
        assert!(read_states(&dir.path().join("none")).is_err());
    }
}
