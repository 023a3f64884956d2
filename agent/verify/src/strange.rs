//! What has the name of a file or directory of the agent's and is none: a directory in a file's place, a pipe, a device.
//! Whatever reads files takes it as missing, so that nothing is waited for; here it is told.

use std::fs::FileType;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::files::{is_missing, segment_name};
use crate::report::{Fault, Report};

/// Files that are alone.
const FILES: [&str; 5] = [
    "journal/origin",
    "keys/log.key",
    "keys/log.vkey",
    "keys/log.old.key",
    "keys/log.old.vkey",
];
/// Files of a generation.
const OF_GENERATION: [&str; 4] = ["checkpoint", "checkpoints", "former", "accepted"];
/// Directories that a tile's path has at most: one for each three digits of its number.
const DEPTH: usize = 8;

/// Tells of all that is strange in a data directory.
pub(crate) fn tell(data_dir: &Path, report: &mut Report) {
    if !data_dir.is_dir() {
        return;
    }
    let mut look = Look { data_dir, report };
    for file in FILES {
        look.file(file);
    }
    look.entries("keys");
    for (name, kind) in look.entries("positions") {
        if !name.ends_with(".new") {
            look.listed(&format!("positions/{name}"), kind, false);
        }
    }
    for (name, kind) in look.entries("dlq") {
        if name.ends_with(".jsonl") {
            look.listed(&format!("dlq/{name}"), kind, false);
        }
    }
    for (name, kind) in look.entries("journal") {
        if digits(&name) {
            let generation = format!("journal/{name}");
            if look.listed(&generation, kind, true) {
                look.generation(&generation);
            }
        }
    }
}

fn digits(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

struct Look<'a> {
    data_dir: &'a Path,
    report: &'a mut Report,
}

impl Look<'_> {
    fn generation(&mut self, generation: &str) {
        for file in OF_GENERATION {
            self.file(&format!("{generation}/{file}"));
        }
        for (name, kind) in self.entries(&format!("{generation}/seg")) {
            if segment_name(&name).is_some() {
                self.listed(&format!("{generation}/seg/{name}"), kind, false);
            }
        }
        for (name, kind) in self.entries(&format!("{generation}/tile")) {
            if digits(&name) {
                let level = format!("{generation}/tile/{name}");
                if self.listed(&level, kind, true) {
                    self.tiles(&level, DEPTH);
                }
            }
        }
    }

    fn tiles(&mut self, dir: &str, depth: usize) {
        for (name, kind) in self.entries(dir) {
            let place = format!("{dir}/{name}");
            match name.strip_prefix('x') {
                Some(rest) if digits(rest) && depth > 0 && self.listed(&place, kind, true) => {
                    self.tiles(&place, depth - 1);
                }
                None if digits(&name) => {
                    self.listed(&place, kind, false);
                }
                _ => {}
            }
        }
    }

    /// What a directory has, in order. One that can't be listed is told by whatever reads it.
    fn entries(&mut self, dir: &str) -> Vec<(String, FileType)> {
        let entries = match self.data_dir.join(dir).read_dir() {
            Ok(entries) => entries,
            Err(error) => {
                if is_missing(&error) && error.kind() != io::ErrorKind::NotFound {
                    self.report
                        .fault(Fault::of(dir, "not a directory, as the agent has it there"));
                }
                return Vec::new();
            }
        };
        let mut found: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.file_type().ok()?)))
            .collect();
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found
    }

    fn file(&mut self, place: &str) {
        if let Ok(meta) = self.data_dir.join(place).symlink_metadata() {
            self.listed(place, meta.file_type(), false);
        }
    }

    /// Whether it is what the agent has there; told, if not.
    fn listed(&mut self, place: &str, kind: FileType, dir: bool) -> bool {
        let kind = match kind.is_symlink() {
            true => self.data_dir.join(place).metadata().map(|meta| meta.file_type()),
            false => Ok(kind),
        };
        let what = match kind {
            Ok(kind) if dir && kind.is_dir() || !dir && kind.is_file() => return true,
            Ok(kind) if kind.is_dir() => "a directory",
            Ok(kind) if kind.is_file() => "a file",
            Ok(kind) if kind.is_fifo() => "a pipe",
            Ok(kind) if kind.is_socket() => "a socket",
            Ok(_) => "a device",
            Err(error) if is_missing(&error) => "a link to nothing",
            // Whatever reads it tells why it can't.
            Err(_) => return true,
        };
        let own = if dir { "directory" } else { "file" };
        self.report
            .fault(Fault::of(place, format!("{what} in the place of the agent's {own}")).lasting());
        false
    }
}
