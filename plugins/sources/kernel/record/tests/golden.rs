//! What a few events look like, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p audit-record --test golden` writes the files anew; read the
//! difference before it is committed.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::path::PathBuf;

use common::{join, json, load, strict};

/// Name of the golden file, recorded file, serial.
const EVENTS: &[(&str, &str, u32)] = &[
    ("execve", "exec-storm.log", 1_699_353),
    ("execve-failed", "exec.log", 1_646_087),
    ("connect", "net.log", 1_666_308),
    ("login", "login.log", 1_666_513),
    ("user-login", "user-crafted.log", 1_666_660),
    ("user-avc", "user-crafted.log", 1_666_664),
    ("user-not-utf8", "user-crafted.log", 1_666_668),
    ("user-newline", "embedded-newlines.hexlog", 1_666_670),
    ("config-glued", "config-change.log", 1_666_563),
    ("config-make-equiv", "config-change.log", 1_666_566),
    ("landlock", "landlock-with-rules.log", 1_666_497),
    ("tty", "tty.log", 1_666_725),
    ("gap-syscall-only", "gaps.log", 1_700_789),
];

#[test]
fn events() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, file, serial) in EVENTS {
        let events = join(&load(file));
        let event = events
            .iter()
            .find(|event| event.stamp.serial == *serial)
            .unwrap_or_else(|| panic!("{file} has no serial {serial}"));
        let mut found = json(event);
        strict(&found);
        found.push(b'\n');
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/golden", &format!("{name}.json")]
            .iter()
            .collect();
        if update {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read(&path).unwrap_or_default();
        assert_eq!(
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(&expected),
            "{}",
            path.display()
        );
    }
}
