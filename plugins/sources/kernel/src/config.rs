//! Configuration of the kernel source: `sources.kernel`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use audit_rule::{Host, Machine};
use auditmon_core::plugin::Faults;
use auditmon_core::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::load::{self, Wanted};
use crate::status::SettingKind;
use crate::users::Users;

/// Bytes of a rules file, at most.
const MAX_FILE: u64 = 4 << 20;
/// Smallest and largest receive buffer and ring.
const SIZES: std::ops::RangeInclusive<u64> = (1 << 20)..=(1 << 30);
/// What a host is given that has less and whose configuration is silent: with
/// the kernel's default of 64 a burst of starting programs already waits.
pub const USUAL_BACKLOG: u32 = 8192;

/// Rules of a host without configuration: programs that start.
const DEMO: &[&str] = &[
    "-a always,exit -F arch=b64 -S execve,execveat -k auditmon-demo",
    "-a always,exit -F arch=b32 -S execve,execveat -k auditmon-demo",
];

/// The kernel's audit records: the agent is this host's audit daemon.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KernelConfig {
    /// The record socket's receive buffer as the kernel accounts it, 1MiB to
    /// 1GiB; 16MiB bridge a stop of 3 s at 8,000 records a second. More
    /// than `net.core.rmem_max` needs CAP_NET_ADMIN.
    pub receive_buffer: Size,
    /// Bytes of records that wait while the journal takes none, 1MiB to 1GiB; what
    /// doesn't fit is dropped, counted and told.
    pub buffer: Size,
    /// Records in the kernel's own queue, 0 is no limit. Default: what the rules
    /// say (`-b`), else 8192 where the kernel has less.
    pub backlog_limit: Option<u32>,
    /// The rules. Without this section all programs that start are recorded:
    /// `-a always,exit -F arch=b64 -S execve,execveat -k auditmon-demo`, and the
    /// same for `arch=b32`; an empty section has no rules.
    pub rules: Option<RulesConfig>,
}

/// `sources.kernel.rules`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesConfig {
    /// Whose the kernel's rules are.
    pub policy: Policy,
    /// What becomes of ours at the end.
    pub on_stop: OnStop,
    /// Rules, in the grammar of auditctl, after those of the files.
    pub list: Vec<String>,
    /// Rules files, in order.
    pub files: Vec<PathBuf>,
}

/// Whose the kernel's rules are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Only rules that this agent loaded are ever removed.
    #[default]
    Additive,
}

/// What becomes of our rules and settings at an orderly end.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// Exactly what this agent changed is put back.
    #[default]
    Restore,
    /// They stay, so that a restart leaves no hole.
    Keep,
}

impl Default for KernelConfig {
    fn default() -> Self {
        KernelConfig {
            receive_buffer: Size(16 << 20),
            buffer: Size(crate::ring::DEFAULT_CAPACITY as u64),
            backlog_limit: None,
            rules: None,
        }
    }
}

impl KernelConfig {
    /// What becomes of our rules at the end.
    #[must_use]
    pub fn on_stop(&self) -> OnStop {
        self.rules.as_ref().map_or(OnStop::Restore, |rules| rules.on_stop)
    }

    /// Checks without looking at the host.
    pub fn check(&self, faults: &mut Faults) {
        for (name, size) in [("receive_buffer", self.receive_buffer), ("buffer", self.buffer)] {
            if !SIZES.contains(&size.0) {
                faults.add(name, format!("{size} is out of range: 1MiB to 1GiB"));
            }
        }
        for (index, line) in self.list().iter().enumerate() {
            let path = format!("rules.list[{index}]");
            if line.contains('\n') {
                faults.add(path, "one rule an entry: write a list, or a file");
            } else if let Err(found) = audit_rule::parse_line(line.as_bytes(), &AnyHost) {
                let found: Vec<String> = found.iter().map(|fault| join(&fault.what, &fault.right)).collect();
                faults.add(path, found.join("; "));
            }
        }
    }

    fn list(&self) -> Vec<&str> {
        match &self.rules {
            None => DEMO
                .iter()
                .copied()
                // Where no 32-bit programs run there is nothing to watch.
                .filter(|line| Machine::native().compat().is_some() || !line.contains("arch=b32"))
                .collect(),
            Some(rules) => rules.list.iter().map(String::as_str).collect(),
        }
    }

    /// Reads the files and parses all rules, with the host's users and paths.
    ///
    /// # Errors
    /// Every fault of every file, a line each.
    pub fn wanted(&self) -> Result<Wanted, Vec<String>> {
        let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
        let mut faults = Vec::new();
        for path in self.rules.iter().flat_map(|rules| &rules.files) {
            match read_rules(path) {
                Ok(text) => texts.push((path.display().to_string(), text)),
                Err(fault) => faults.push(format!("{}: {fault}", path.display())),
            }
        }
        for (index, line) in self.list().into_iter().enumerate() {
            texts.push((format!("rules.list[{index}]"), line.as_bytes().to_vec()));
        }
        let host = ThisHost(Users::of_host());
        let named = texts.iter().map(|(name, text)| (name.as_str(), text.clone()));
        match load::parse_all(named, &host) {
            Ok(mut wanted) if faults.is_empty() => {
                if let Some(limit) = self.backlog_limit {
                    wanted.set(SettingKind::BacklogLimit, limit);
                }
                wanted.set_default(SettingKind::Enabled, 1);
                Ok(wanted)
            }
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }
}

fn join(what: &str, right: &str) -> String {
    if right.is_empty() {
        what.to_owned()
    } else {
        format!("{what}; {right}")
    }
}

/// A rules file must be regular and must not be writable by everybody.
fn read_rules(path: &Path) -> Result<Vec<u8>, String> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    // A FIFO in place of the file must not make the agent wait.
    let file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(|error| error.to_string())?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("not a regular file".into());
    }
    if meta.mode() & 0o002 != 0 {
        return Err("everybody may write to it; chmod o-w".into());
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err("longer than 4 MiB".into());
    }
    Ok(text)
}

/// A host on which every name exists, for checks without I/O.
struct AnyHost;

impl Host for AnyHost {
    fn uid(&self, _: &str) -> Option<u32> {
        Some(0)
    }
    fn gid(&self, _: &str) -> Option<u32> {
        Some(0)
    }
    fn is_dir(&self, _: &[u8]) -> bool {
        false
    }
}

struct ThisHost(Users);

impl Host for ThisHost {
    fn uid(&self, name: &str) -> Option<u32> {
        self.0.uid(name)
    }
    fn gid(&self, name: &str) -> Option<u32> {
        self.0.gid(name)
    }
    fn is_dir(&self, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        Path::new(std::ffi::OsStr::from_bytes(path)).is_dir()
    }
}

#[cfg(test)]
mod tests;
