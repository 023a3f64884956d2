//! Credentials of the agent's threads, as /proc/PID/task/TID/status shows them.

use crate::Agent;

/// One thread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// Real, effective, saved and file system uid.
    pub uids: [u32; 4],
    /// The same of gids.
    pub gids: [u32; 4],
    /// Further groups.
    pub groups: Vec<u32>,
    /// `CapInh`
    pub inheritable: u64,
    /// `CapPrm`
    pub permitted: u64,
    /// `CapEff`
    pub effective: u64,
    /// `CapBnd`
    pub bounding: u64,
    /// `CapAmb`
    pub ambient: u64,
    /// `NoNewPrivs`
    pub no_new_privs: bool,
}

impl Agent {
    /// All its threads of this moment.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // A thread of the blocking pool may end meanwhile.
        let status = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
        status.map(|status| parse(&status)).collect()
    }
}

fn parse(status: &str) -> Thread {
    let field = |name: &str| {
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("{name}: {status}")).trim()
    };
    let numbers = |name| -> Vec<u32> { field(name).split_whitespace().map(|id| id.parse().unwrap()).collect() };
    let set = |name| u64::from_str_radix(field(name), 16).unwrap();
    Thread {
        name: field("Name").to_owned(),
        uids: numbers("Uid").try_into().unwrap(),
        gids: numbers("Gid").try_into().unwrap(),
        groups: numbers("Groups"),
        inheritable: set("CapInh"),
        permitted: set("CapPrm"),
        effective: set("CapEff"),
        bounding: set("CapBnd"),
        ambient: set("CapAmb"),
        no_new_privs: field("NoNewPrivs") == "1",
    }
}
