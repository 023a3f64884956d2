//! A host with one user, one group and a few directories, as in the recording.
#![allow(dead_code)]

use audit_rule::{Host, Machine, Rule, Statement, parse_line};

pub struct Recorded;

impl Host for Recorded {
    fn uid(&self, name: &str) -> Option<u32> {
        (name == "root").then_some(0)
    }
    fn gid(&self, name: &str) -> Option<u32> {
        (name == "root").then_some(0)
    }
    fn is_dir(&self, path: &[u8]) -> bool {
        matches!(path, b"/etc" | b"/home" | b"/" | b"/tmp")
    }
    fn native(&self) -> Machine {
        Machine::X86_64
    }
}

pub fn rule(line: &str) -> Rule {
    match parse_line(line.as_bytes(), &Recorded) {
        Ok(parsed) => match parsed.statements.into_iter().next() {
            Some((_, Statement::Add(rule))) => *rule,
            other => panic!("{line}: {other:?}"),
        },
        Err(faults) => panic!("{line}: {faults:?}"),
    }
}

pub fn fixture(name: &str) -> String {
    let path = format!(
        "{}/../../../../tests/fixtures/kernel-records/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
