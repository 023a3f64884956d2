//! The verifier in another language, written from the format's page alone.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

#[test]
fn it_keeps_the_formats_vectors() {
    let has = Command::new("python3").args(["-c", "import cryptography"]).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("SKIPPED: needs python3 and its package cryptography");
        return;
    }
    let out = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../verifier/test_vectors.py"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
}
