//! The live kernel's audit, borrowed by one test at a time and given back as it was found, also when a test
//! fails.
//!
//! Rules that are loaded already are set aside meanwhile: the kernel names a call after the first rule that
//! matches it, so a rule that a killed agent left behind would answer in place of a test's own.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a harness reports faults by panicking"
)]

use std::fs::File;
use std::time::{Duration, Instant};

use audit_rule::Rule;
use auditmon_source_kernel::control::{Control, Loaded};
use auditmon_source_kernel::error::ControlError;
use auditmon_source_kernel::holder::{Holder, Process};
use auditmon_source_kernel::status::{SettingKind, Status};
use rustix::fs::{FlockOperation, flock};

/// Shared with whoever else tests audit on this machine.
const LOCK: &str = "/tmp/auditmon-kernel.lock";
/// How long another user of audit is waited for.
const WAIT: Duration = Duration::from_secs(300);
/// Any user message: makes the kernel notice that its daemon is dead.
const USER_MESSAGE: u16 = 2500;

/// The borrowed kernel. Drop it last: what ran on it must be gone.
pub struct Live {
    /// A control socket.
    pub control: Control,
    before: Status,
    aside: Vec<Rule>,
    left: Vec<Loaded>,
    _lock: File,
}

impl Live {
    /// Takes the lock and looks; `None`, said loudly, where the test cannot run.
    #[must_use]
    pub fn borrow(test: &str) -> Option<Self> {
        Self::borrow_within(test, WAIT)
    }

    /// The same with a patience of its own.
    #[must_use]
    pub fn borrow_within(test: &str, wait: Duration) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED {test}: the live kernel needs root");
            return None;
        }
        let deadline = Instant::now() + wait;
        let lock = locked(test, deadline)?;
        let mut control = skip(test, Control::of_caller())?;
        let before = free(test, deadline, &mut control)?;
        let aside = set_aside(&mut control).unwrap();
        if !aside.is_empty() {
            eprintln!("{test}: {} rules that were loaded are set aside meanwhile", aside.len());
        }
        let left = control.rules().unwrap();
        Some(Self {
            control,
            before,
            aside,
            left,
            _lock: lock,
        })
    }

    /// Records or events that the kernel counted as lost.
    pub fn lost(&mut self) -> u32 {
        self.control.status().unwrap().lost
    }

    /// The rules that are loaded, without those that were set aside.
    pub fn loaded(&mut self) -> Vec<Rule> {
        let rules = self.control.rules().unwrap().into_iter();
        rules.filter_map(known).collect()
    }

    /// Turns auditing on.
    pub fn enable(&mut self) {
        self.control.set(SettingKind::Enabled, 1).unwrap();
    }

    /// Whether settings and rules are as they were when it was borrowed.
    pub fn is_as_found(&mut self) -> bool {
        let status = self.control.status().unwrap();
        SettingKind::ALL
            .into_iter()
            .all(|kind| status.value(kind) == self.before.value(kind))
            && self.control.rules().unwrap() == self.left
    }

    /// Fails unless nobody is registered, and rules and settings are as they were when it was borrowed.
    #[track_caller]
    pub fn assert_as_found(&mut self) {
        let status = self.control.status().unwrap();
        assert_eq!(status.pid, 0, "somebody is registered");
        for kind in SettingKind::ALL {
            assert_eq!(status.value(kind), self.before.value(kind), "{}", kind.name());
        }
        assert_eq!(self.control.rules().unwrap(), self.left);
    }

    /// Makes the kernel forget a dead daemon.
    fn forget_dead(&mut self) {
        for _ in 0..20 {
            match self.control.status() {
                Ok(status) if status.pid != 0 && Process::find(status.pid).is_none() => {}
                _ => return,
            }
            // Refused only if nobody may: then there is nothing to mend.
            let _ = self.control.message(USER_MESSAGE, b"auditmon-live: is anybody there");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // This control socket's own registration, if a test took one.
        let _ = self.control.unregister();
        self.forget_dead();
        // What a test left goes, also if it failed; what was set aside comes back.
        let _ = set_aside_but(&mut self.control, &self.left);
        for rule in &self.aside {
            let _ = self.control.add_rule(rule);
        }
        for kind in SettingKind::ALL {
            if let Some(value) = self.before.value(kind) {
                let _ = self.control.set(kind, value);
            }
        }
    }
}

/// The lock, or `None` after the deadline.
fn locked(test: &str, deadline: Instant) -> Option<File> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(LOCK)
        .unwrap();
    let mut told = false;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if !told {
            eprintln!("{test}: waiting for {LOCK}");
            told = true;
        }
        if Instant::now() > deadline {
            eprintln!("SKIPPED {test}: {LOCK} is held");
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(lock)
}

/// The status once nobody is registered, or `None` after the deadline.
fn free(test: &str, deadline: Instant, control: &mut Control) -> Option<Status> {
    let mut named = None;
    loop {
        let status = skip(test, control.status())?;
        match Holder::find(status.pid) {
            Holder::Process(process) if status.pid != 0 => {
                if named.replace(process.pid) != Some(process.pid) {
                    eprintln!("{test}: waiting for {process}, which is registered");
                }
                if Instant::now() > deadline {
                    eprintln!("SKIPPED {test}: audit is taken by {process}");
                    return None;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            _ => return Some(status),
        }
    }
}

/// Deletes every rule that is understood, and gives them in their order. One that is not is left.
fn set_aside(control: &mut Control) -> Result<Vec<Rule>, ControlError> {
    set_aside_but(control, &[])
}

fn set_aside_but(control: &mut Control, kept: &[Loaded]) -> Result<Vec<Rule>, ControlError> {
    let rules = control.rules()?.into_iter();
    let rules: Vec<Rule> = rules.filter(|rule| !kept.contains(rule)).filter_map(known).collect();
    for rule in &rules {
        control.delete_rule(rule)?;
    }
    Ok(rules)
}

fn known(rule: Loaded) -> Option<Rule> {
    match rule {
        Loaded::Rule(rule) => Some(*rule),
        Loaded::Unknown(_) => None,
    }
}

fn skip<T, E: std::fmt::Display>(test: &str, result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| eprintln!("SKIPPED {test}: {error}")).ok()
}

#[cfg(test)]
mod tests {
    use audit_rule::{Host, Statement};

    use super::*;

    struct Nobody;

    impl Host for Nobody {
        fn uid(&self, _: &str) -> Option<u32> {
            None
        }
        fn gid(&self, _: &str) -> Option<u32> {
            None
        }
        fn is_dir(&self, _: &[u8]) -> bool {
            false
        }
    }

    fn rule(key: &str) -> Rule {
        let line = format!("-a always,exit -F arch=b64 -S execve -F uid=4000009 -k {key}");
        let parsed = audit_rule::parse_line(line.as_bytes(), &Nobody).unwrap();
        match parsed.statements.into_iter().next() {
            Some((_, Statement::Add(rule))) => *rule,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rules_that_are_loaded_are_set_aside_and_come_back_in_their_order() {
        let Some(mut outer) = Live::borrow("rules_that_are_loaded_are_set_aside") else {
            return;
        };
        let found = [rule("left-behind"), rule("left-behind-too")];
        for rule in &found {
            outer.control.add_rule(rule).unwrap();
        }
        let mut inner = Live {
            control: Control::of_caller().unwrap(),
            before: outer.control.status().unwrap(),
            aside: set_aside(&mut outer.control).unwrap(),
            left: Vec::new(),
            _lock: File::open("/dev/null").unwrap(),
        };
        assert!(inner.loaded().is_empty());
        assert!(inner.is_as_found());
        inner.control.add_rule(&rule("of-a-test")).unwrap();
        assert!(!inner.is_as_found());
        drop(inner);
        let back: Vec<Rule> = outer.loaded();
        assert_eq!(back, found.map(|rule| rule.normalised()));
    }
}
