//! The live kernel, borrowed: one test at a time on this machine, and given
//! back as it was found, also when a test fails.
#![allow(dead_code)]

use std::fs::File;
use std::time::{Duration, Instant};

use audit_rule::{Host, Rule, Statement};
use auditmon_source_kernel::control::{Control, Loaded};
use auditmon_source_kernel::holder::Holder;
use auditmon_source_kernel::status::{SettingKind, Status};
use rustix::fs::{FlockOperation, flock};

/// Shared with whoever else tests audit on this machine.
const LOCK: &str = "/tmp/auditmon-kernel.lock";

/// The borrowed kernel. Dropped, it is as it was.
pub struct Live {
    pub control: Control,
    before: Status,
    rules: Vec<Loaded>,
    _lock: File,
}

impl Live {
    /// Takes the lock and looks; `None`, said loudly, where the test cannot
    /// run.
    pub fn borrow(test: &str) -> Option<Live> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED {test}: the live kernel needs root");
            return None;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(LOCK)
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(300);
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            assert!(Instant::now() < deadline, "{test}: {LOCK} is held for 5 minutes");
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut control = match Control::of_caller() {
            Ok(control) => control,
            Err(error) => {
                eprintln!("SKIPPED {test}: {error}");
                return None;
            }
        };
        let before = loop {
            let status = match control.status() {
                Ok(status) => status,
                Err(error) => {
                    eprintln!("SKIPPED {test}: {error}");
                    return None;
                }
            };
            match Holder::find(status.pid) {
                Holder::Process(process) if status.pid != 0 => {
                    eprintln!("{test}: waiting for {process}, which is registered");
                    assert!(Instant::now() < deadline, "{test}: audit is taken by {process}");
                    std::thread::sleep(Duration::from_secs(1));
                }
                _ => break status,
            }
        };
        let rules = control.rules().unwrap();
        Some(Live {
            control,
            before,
            rules,
            _lock: lock,
        })
    }

    /// Whether settings and rules are as they were found.
    pub fn is_as_found(&mut self) -> bool {
        let status = self.control.status().unwrap();
        let same = SettingKind::ALL
            .into_iter()
            .all(|kind| status.value(kind) == self.before.value(kind));
        same && self.control.rules().unwrap() == self.rules
    }

    pub fn loaded(&mut self) -> Vec<Rule> {
        let rules = self.control.rules().unwrap().into_iter();
        rules
            .filter_map(|rule| match rule {
                Loaded::Rule(rule) => Some(*rule),
                Loaded::Unknown(_) => None,
            })
            .collect()
    }

    pub fn enable(&mut self) {
        self.control.set(SettingKind::Enabled, 1).unwrap();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.control.unregister();
        for rule in self.control.rules().unwrap_or_default() {
            if !self.rules.contains(&rule)
                && let Loaded::Rule(rule) = rule
            {
                let _ = self.control.delete_rule(&rule);
            }
        }
        for kind in SettingKind::ALL {
            if let Some(value) = self.before.value(kind) {
                let _ = self.control.set(kind, value);
            }
        }
    }
}

/// A control thread that may do what the test may.
pub fn privileged() -> auditmon_core::privileged::Control {
    auditmon_core::privileged::Control::of_caller(Vec::new()).unwrap()
}

/// The real file system, and two users.
pub struct Here;

impl Host for Here {
    fn uid(&self, name: &str) -> Option<u32> {
        (name == "root").then_some(0)
    }
    fn gid(&self, name: &str) -> Option<u32> {
        (name == "root").then_some(0)
    }
    fn is_dir(&self, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(path)).is_dir()
    }
}

pub fn rule(line: &str) -> Rule {
    let parsed = audit_rule::parse_line(line.as_bytes(), &Here).unwrap();
    match parsed.statements.into_iter().next() {
        Some((_, Statement::Add(rule))) => *rule,
        other => panic!("{line}: {other:?}"),
    }
}

pub fn fixture(name: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/kernel-records");
    std::fs::read_to_string(format!("{dir}/{name}")).unwrap()
}
