//! What the threads may still open (landlock(7)).
//!
//! Rules are for files as they are now: what replaces one under the same name is another. So directories are named
//! where files in them are replaced while the agent runs, and configured files are opened again by the control thread,
//! which is not confined.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};

use super::Wanted;

/// The newest rules for files that are used; an older kernel enforces what it knows.
const KNOWN: ABI = ABI::V5;

/// What a program reads that looks up names and users, checks certificates and counts processors. Nothing of it is
/// secret; /etc and /run as a whole would be.
const USUAL: [&str; 33] = [
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/lib",
    "/lib64",
    "/proc",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
];

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Rules(#[from] RulesetError),
    #[error("{0}")]
    Path(#[from] PathFdError),
}

/// What came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Enforced {
    Fully,
    Partly,
    No,
}

/// Rules, made with privilege and not in force yet.
pub(super) struct Confinement(RulesetCreated);

impl Confinement {
    /// Writing only below the data directory and the directories that plugins named. `reading` confines reading,
    /// too: needed where permissions hold nobody back, because the agent stays uid 0.
    pub(super) fn new(wanted: &Wanted, reading: bool) -> Result<Self, Error> {
        let (read, all) = (AccessFs::ReadFile | AccessFs::ReadDir, AccessFs::from_all(KNOWN));
        // The agent executes nothing.
        let handled = if reading { all } else { all & !read };
        let mut rules = Ruleset::default().handle_access(handled)?.create()?;
        let own = all & !AccessFs::Execute & handled;
        rules = allow(rules, &wanted.data_dir, own)?;
        for path in wanted.directories().filter(|path| path.exists()) {
            rules = allow(rules, path, own)?;
        }
        rules = allow(rules, Path::new("/dev/null"), AccessFs::WriteFile.into())?;
        if reading {
            let configured = wanted.files().into_iter().filter(|file| !file.secret);
            let usual = USUAL.iter().map(PathBuf::from);
            for path in usual.chain(configured.map(|file| file.path)) {
                // Not every system has all of them.
                if path.exists() {
                    rules = allow(rules, &path, read)?;
                }
            }
        }
        Ok(Self(rules))
    }

    /// Puts them in force for the calling thread and those that it starts.
    pub(super) fn restrict(self) -> Result<Enforced, Error> {
        Ok(match self.0.restrict_self()?.ruleset {
            RulesetStatus::FullyEnforced => Enforced::Fully,
            RulesetStatus::PartiallyEnforced => Enforced::Partly,
            RulesetStatus::NotEnforced => Enforced::No,
        })
    }
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, Error> {
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(KNOWN)
    };
    if access.is_empty() {
        return Ok(rules);
    }
    Ok(rules.add_rule(PathBeneath::new(PathFd::new(path)?, access))?)
}
