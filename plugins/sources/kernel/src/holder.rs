//! Who holds the registration: for the one line that a refused start prints.
//!
//! The kernel names the process that registered, not the one that receives:
//! after a death the port may live on, or be taken by anybody, and then the
//! registration cannot be replaced until that process ends
//! (`reference/kernel-audit.md` 4).

use std::fmt;
use std::fs;
use std::path::PathBuf;

/// Netlink's protocol number of audit.
const AUDIT: &str = "9";

/// The holder of the registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A living process.
    Process(Process),
    /// The registered process is gone; its port is held by another, or by
    /// nobody that can be found.
    Stale {
        /// The process id that registered.
        registered: u32,
        /// Whether somebody has its port now.
        held: bool,
        /// Who, if it can be found out: that needs root's view of /proc.
        port_holder: Option<Process>,
    },
}

/// A process, named for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its name (15 bytes at most, chosen by itself).
    pub comm: String,
    /// Its program, if it may be read.
    pub exe: Option<PathBuf>,
}

impl Process {
    /// Looks a process up in /proc; `None` if there is none of that id.
    #[must_use]
    pub fn find(pid: u32) -> Option<Process> {
        let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
        let comm = String::from_utf8_lossy(comm.trim_ascii_end());
        Some(Process {
            pid,
            comm: comm.chars().flat_map(char::escape_default).collect(),
            exe: fs::read_link(format!("/proc/{pid}/exe")).ok(),
        })
    }
}

impl Holder {
    /// Finds out who a registered process id is.
    #[must_use]
    pub fn find(registered: u32) -> Holder {
        match Process::find(registered) {
            Some(process) => Holder::Process(process),
            None => {
                let table = fs::read_to_string("/proc/net/netlink").unwrap_or_default();
                let inode = inode_of_port(&table, registered);
                Holder::Stale {
                    registered,
                    held: inode.is_some(),
                    port_holder: inode.and_then(holder_of),
                }
            }
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}", self.comm, self.pid)?;
        if let Some(exe) = &self.exe {
            write!(f, ", {}", exe.display())?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Process(process) => process.fmt(f),
            Holder::Stale {
                registered,
                port_holder: Some(process),
                ..
            } => write!(
                f,
                "a port that pid {registered}, which is gone, left to {process}; end that process"
            ),
            Holder::Stale {
                registered, held: true, ..
            } => write!(
                f,
                "a port that pid {registered}, which is gone, left to another process; find it with `ss -pf netlink` and end it"
            ),
            Holder::Stale { registered, .. } => write!(f, "pid {registered}, which is gone; try again"),
        }
    }
}

/// The process that has the socket of this inode open, as far as this thread may look.
fn holder_of(inode: u64) -> Option<Process> {
    let name = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let file_name = entry.file_name();
        let Some(pid) = file_name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let holds = descriptors
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == &*name));
        if holds {
            return Process::find(pid);
        }
    }
    None
}

/// The inode of the audit socket with a port id, in /proc/net/netlink:
/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`.
fn inode_of_port(table: &str, port: u32) -> Option<u64> {
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, protocol, pid, .., inode] = columns.as_slice() else {
            return None;
        };
        let found = *protocol == AUDIT && pid.parse() == Ok(port);
        found.then(|| inode.parse().ok()).flatten()
    })
}

/// Audit sockets in this network namespace that listen to the multicast
/// group: journald's is one.
#[must_use]
pub fn multicast_readers() -> usize {
    let table = fs::read_to_string("/proc/net/netlink").unwrap_or_default();
    let reads = |line: &&str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        columns.next() == Some(AUDIT)
            && columns
                .nth(1)
                .and_then(|groups| u32::from_str_radix(groups, 16).ok())
                .is_some_and(|groups| groups & 1 != 0)
    };
    table.lines().filter(reads).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_inode_of_a_port() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
            00000000aaa 9   0          00000000 0        0        0     2        0        6\n\
            00000000bbb 15  4242       00000001 0        0        0     2        0        77\n\
            00000000ccc 9   4242       00000001 0        0        0     2        0        78\n";
        assert_eq!(inode_of_port(table, 4242), Some(78));
        assert_eq!(inode_of_port(table, 4243), None);
        assert_eq!(inode_of_port("9", 9), None);
    }

    #[test]
    fn names_a_process_and_a_gone_one() {
        let me = Holder::find(std::process::id());
        assert!(me.to_string().contains(&std::process::id().to_string()));
        // Process ids end at 2^22.
        let gone = Holder::find(u32::MAX);
        assert!(gone.to_string().contains("gone"));
    }
}
