//! Broken files and what is said of them: `broken/NN-name.yaml` beside `broken/NN-name.expected`.
//!
//! Lines `# env: NAME=VALUE` and `# args: --enable NAME …` at the top of a file are what it is tried with.
//! `AUDITMON_TEST_UPDATE=1 cargo test -p auditmon-config --test broken` writes what is said now.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Trial;

/// A secret that stands in many of the files.
const SECRETS: [&str; 2] = ["hunter2", "4711000815"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    files.sort();
    files
}

fn trial(text: &str) -> Trial {
    let mut trial = Trial::of(text);
    for line in text.lines() {
        if let Some((name, value)) = line.strip_prefix("# env: ").and_then(|rest| rest.split_once('=')) {
            trial = trial.env(name, value);
        }
        if let Some(args) = line.strip_prefix("# args: ") {
            let words: Vec<&str> = args.split(' ').collect();
            for pair in words.chunks(2) {
                trial = trial.switch(pair[1], pair[0] == "--enable");
            }
        }
    }
    trial
}

#[test]
fn every_fault_is_told_as_expected() {
    let update = std::env::var_os("AUDITMON_TEST_UPDATE").is_some();
    let files = files();
    assert!(files.len() >= 40, "{}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let said = trial(&text).errors().join("\n") + "\n";
        let golden = file.with_extension("expected");
        if update {
            fs::write(&golden, &said).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A line taken apart: place, path, text.
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    let (place, rest) = if line.starts_with("environment ") || line.starts_with("command line ") {
        line.split_once(": ")?
    } else {
        let at = line.find(": ")?;
        (&line[..at], &line[at + 2..])
    };
    let (path, text) = rest.split_once(": ")?;
    Some((place, path, text))
}

#[test]
fn every_line_says_where_what_and_what_would_be_right() {
    for file in files() {
        let source = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = source.lines().collect();
        let name = file.display();
        for line in fs::read_to_string(file.with_extension("expected")).unwrap().lines() {
            let (place, path, text) = parts(line).unwrap_or_else(|| panic!("{name}: {line}"));
            assert!(
                !path.is_empty() && !path.contains(' ') && !path.contains('`'),
                "{name}: {path}: {line}"
            );
            assert!(
                text.contains("expected ") || text.contains("did you mean `"),
                "{name}: what would be right: {line}"
            );
            assert!(!line.contains("; ;") && !line.ends_with(' '), "{name}: {line}");
            for secret in SECRETS {
                assert!(!line.contains(secret), "{name}: a secret: {line}");
            }
            if let Some(variable) = place.strip_prefix("environment ") {
                assert!(source.contains(&format!("# env: {variable}=")), "{name}: {line}");
                continue;
            }
            if let Some(option) = place.strip_prefix("command line ") {
                assert!(source.contains(option), "{name}: {line}");
                continue;
            }
            let mut numbers = place.strip_prefix("auditmon.yaml:").unwrap().split(':');
            let mut number = || numbers.next().unwrap().parse::<usize>().unwrap();
            let (row, column) = (number(), number());
            let there = lines.get(row - 1).map_or("", |line| {
                line.get(column - 1..).unwrap_or_else(|| panic!("{name}: {line}"))
            });
            // The place of a wrong key is that key.
            if text.starts_with("unknown key") {
                let key = path.rsplit('.').next().unwrap().trim_end_matches('…');
                assert!(there.starts_with(key), "{name}: {there:?}: {line}");
            }
        }
    }
}
