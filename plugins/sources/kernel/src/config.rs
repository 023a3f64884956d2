//! Configuration of the kernel source: `sources.kernel`.

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};

use audit_rule::{Host, Machine};
use auditmon_core::plugin::Faults;
use auditmon_core::privileged::{Control, ControlError};
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
    #[schemars(extend("x-file" = "read"))]
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

    /// Rules files, in order.
    pub(crate) fn files(&self) -> &[PathBuf] {
        self.rules.as_ref().map_or(&[], |rules| rules.files.as_slice())
    }

    /// Reads the files and parses all rules, with the host's users and paths. Files are opened, and paths in rules
    /// looked at, by the control thread: root's rules are usually root's alone.
    ///
    /// # Errors
    /// Every fault of every file, a line each.
    pub fn wanted(&self, control: &Control) -> Result<Wanted, Vec<String>> {
        let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
        let mut faults = Vec::new();
        for path in self.files() {
            match read_rules(path, control) {
                Ok(text) => texts.push((path.display().to_string(), text)),
                Err(fault) => faults.push(fault),
            }
        }
        for (index, line) in self.list().into_iter().enumerate() {
            texts.push((format!("rules.list[{index}]"), line.as_bytes().to_vec()));
        }
        let host = ThisHost {
            users: Users::of_host(control),
            control,
            unseen: RefCell::default(),
        };
        let named = texts.iter().map(|(name, text)| (name.as_str(), text.clone()));
        let parsed = load::parse_all(named, &host);
        // A rule on a directory that was taken for a file would watch nothing.
        faults.extend(host.unseen.into_inner().map(|error| error.to_string()));
        match parsed {
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
fn read_rules(path: &Path, control: &Control) -> Result<Vec<u8>, String> {
    use std::os::unix::fs::MetadataExt;
    let file = control.open(path).map_err(|error| error.to_string())?;
    let fault = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let meta = file.metadata().map_err(|error| fault(&error))?;
    if meta.mode() & 0o002 != 0 {
        return Err(fault(&"everybody may write to it; chmod o-w"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(|error| fault(&error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(fault(&"longer than 4 MiB"));
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

struct ThisHost<'a> {
    users: Users,
    control: &'a Control,
    /// Why a path could not be looked at.
    unseen: RefCell<Option<ControlError>>,
}

impl Host for ThisHost<'_> {
    fn uid(&self, name: &str) -> Option<u32> {
        self.users.uid(name)
    }
    fn gid(&self, name: &str) -> Option<u32> {
        self.users.gid(name)
    }
    fn is_dir(&self, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(path)).to_owned();
        let is_dir = self.control.run("looking at a rule's path", move || path.is_dir());
        is_dir.unwrap_or_else(|error| {
            self.unseen.borrow_mut().get_or_insert(error);
            false
        })
    }
}

#[cfg(test)]
mod tests;
