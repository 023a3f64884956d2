//! State directories of the replaced auditor: what it trusted is gone on from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use auditmon_source_immudb::{Known, StateDirectory, read_states};

use super::given::{Given, variable};
use super::keys::Program;
use super::settings::Settings;
use super::translate::state_dir;

/// Where each of them keeps its servers.
const AUDITOR: &str = "auditor";

/// What is found where the program keeps it.
pub fn look(program: Program, given: &Given, environment: &[(OsString, OsString)]) -> StateDirectory {
    let named = state_dir(given).map(|(dir, _)| dir);
    let usual = match program {
        // Whatever --dir says, immuclient keeps it there.
        Program::Immuclient => Some(
            variable(environment, "TMPDIR")
                .filter(|dir| !dir.is_empty())
                .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from),
        ),
        Program::Immugw => None,
    };
    let mut all = StateDirectory::default();
    for dir in named.into_iter().chain(usual) {
        read(&dir.join(AUDITOR), &mut all);
    }
    all
}

/// Adds what a directory `auditor` holds, unless it is there already.
pub fn read(auditor: &Path, all: &mut StateDirectory) {
    if !auditor.is_dir() {
        return;
    }
    match read_states(auditor) {
        Ok(found) => {
            all.warnings.extend(found.warnings);
            for known in found.known {
                let same = |other: &Known| other.server_id == known.server_id && other.database == known.database;
                if !all.known.iter().any(same) {
                    all.known.push(known);
                }
            }
        }
        Err(error) => all.warnings.push(format!("{}: {error}", auditor.display())),
    }
}

/// Writes them to a server's settings.
pub fn write(known: &[Known], out: &mut Settings) {
    if known.is_empty() {
        return;
    }
    out.section(4, "known");
    for known in known {
        let from = &known.from;
        out.text(5, "- database", &known.database, from);
        out.plain(6, "tx", known.tx, from);
        out.text(6, "hash", &known.hash, from);
        out.text(6, "server_id", &known.server_id, from);
        if let (Some(signature), Some(key)) = (&known.signature, &known.public_key) {
            out.text(6, "signature", signature, from);
            out.text(6, "public_key", key, from);
        }
        out.text(6, "from", from, from);
    }
}
