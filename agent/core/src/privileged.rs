//! What needs privilege, and the one thread that has it.
//!
//! Before the async runtime starts, all threads but one give up uid 0 and every capability. That one, the control
//! thread, keeps the capabilities that the enabled plugins named in their [`Needs`], and carries out small pieces of
//! work for them, one at a time. A plugin reaches it through [`Control`]; where the agent never had privileges the
//! same thread is there without any, so that there is one way and not two.

mod control;
mod file;
mod named;

use std::fmt;
use std::path::PathBuf;

pub use control::{Control, ControlError, Files};
pub use file::{ConfiguredFile, FileError, MAX_FILE};
pub use named::files_of;

/// A capability of Linux (capabilities(7)) that a part of the agent can need.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Capability {
    /// Audit rules, settings and registration.
    AuditControl,
    /// Messages that become audit records.
    AuditWrite,
    /// The multicast group of audit records.
    AuditRead,
    /// Socket buffers beyond the system's limit.
    NetAdmin,
    /// Ports below `net.ipv4.ip_unprivileged_port_start`.
    NetBindService,
    /// Reading and entering what permissions forbid.
    DacReadSearch,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AuditControl,
        Self::AuditWrite,
        Self::AuditRead,
        Self::NetAdmin,
        Self::NetBindService,
        Self::DacReadSearch,
    ];

    /// The name in manuals, units and manifests: `CAP_AUDIT_CONTROL`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuditControl => "CAP_AUDIT_CONTROL",
            Self::AuditWrite => "CAP_AUDIT_WRITE",
            Self::AuditRead => "CAP_AUDIT_READ",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A line of the table feature ↔ capability.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Need {
    /// What it is for.
    pub feature: &'static str,
    /// What it needs.
    pub capability: Capability,
    /// What becomes of the feature without it.
    pub without: &'static str,
}

/// What a plugin needs beyond an ordinary process, as its configuration says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// Capabilities, which only the control thread keeps.
    pub capabilities: Vec<Need>,
    /// Files that it reads, now or at a reload. Those of keys with the extension [`FILE`](crate::schema::FILE) are
    /// found without its help ([`files_of`]).
    pub files: Vec<ConfiguredFile>,
    /// Directories outside the data directory below which it makes or changes files. A privileged start makes those
    /// that are not there; later ones can't be added before the agent starts anew.
    pub directories: Vec<PathBuf>,
}

impl Needs {
    /// A file that may be read by anybody: certificates, rules.
    pub fn file(&mut self, path: impl Into<PathBuf>) {
        self.files.push(ConfiguredFile {
            path: path.into(),
            secret: false,
        });
    }

    /// A key or a password: only its owner may read it, else it is refused.
    pub fn secret(&mut self, path: impl Into<PathBuf>) {
        self.files.push(ConfiguredFile {
            path: path.into(),
            secret: true,
        });
    }

    /// A directory outside the data directory in which files are made or changed.
    pub fn directory(&mut self, path: impl Into<PathBuf>) {
        self.directories.push(path.into());
    }
}

#[cfg(test)]
mod tests;
