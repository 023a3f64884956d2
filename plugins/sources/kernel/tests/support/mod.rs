//! What the tests of this source share.
#![allow(dead_code)]

use audit_rule::{Host, Rule, Statement};
pub use auditmon_live::Live;

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
