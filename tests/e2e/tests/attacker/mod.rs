//! The hands of someone who can write to the data directory, and the verifier in another language.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::path::{Path, PathBuf};
use std::process::Command;

use auditmon_journal::format::{frame_head, parse_frame};

/// Runs the verifier in Python; `None` if what it needs is not installed.
pub fn python(arguments: &[&str]) -> Option<(i32, String)> {
    let has = Command::new("python3").args(["-c", "import cryptography"]).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("SKIPPED: needs python3 and its package cryptography");
        return None;
    }
    let program: PathBuf = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../verifier")).join("auditmon_verify.py");
    let out = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(program)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    Some((out.status.code().unwrap(), said))
}

/// Copies a directory, without sockets.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Writes another text of the same length wherever it stands in a segment's records, with the checksums that belong
/// to it. Salts stay, so that commitments and leaves are those of the new text.
pub fn rewrite(segment: &Path, was: &[u8], is: &[u8]) {
    assert_eq!(was.len(), is.len());
    let mut bytes = std::fs::read(segment).unwrap();
    let mut at = 64;
    let mut changed = false;
    while let Ok((head, _)) = parse_frame(&bytes[at..]) {
        let end = at + head.len();
        let records = end - head.len() + frame_head(0, 0, 0, &[]).len();
        for place in records..end.saturating_sub(was.len()) {
            if bytes[place..].starts_with(was) {
                bytes[place..place + is.len()].copy_from_slice(is);
                changed = true;
            }
        }
        let made = frame_head(head.first_seq, head.synced, head.count, &bytes[records..end]);
        bytes[at..records].copy_from_slice(&made);
        at = end;
    }
    assert!(changed);
    std::fs::write(segment, bytes).unwrap();
}
