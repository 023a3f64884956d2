//! A verifier in another language, written from the format's page alone, agrees with `auditmon verify`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use auditmon_e2e::{Agent, event};

fn verifier(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../verifier")).join(name)
}

/// Runs a program of the second verifier; `None` if what it needs is not installed.
fn python(name: &str, arguments: &[&str]) -> Option<(i32, String)> {
    let has = Command::new("python3").args(["-c", "import cryptography"]).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("SKIPPED: needs python3 and its package cryptography");
        return None;
    }
    let out = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(verifier(name))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    Some((out.status.code().unwrap(), said))
}

/// Both say the same of the data directory: 0 it holds, 1 it was tampered with.
#[track_caller]
fn both_say(agent: &Agent, code: i32) {
    let key = std::fs::read_to_string(agent.data_dir().join("keys/log.vkey")).unwrap();
    let ours = agent.run(&["verify", "--key", key.trim()]);
    assert_eq!(ours.code, code, "{}{}", ours.stdout, ours.stderr);
    let dir = agent.data_dir().to_str().unwrap();
    if let Some((theirs, said)) = python("auditmon_verify.py", &[dir, "--key", key.trim()]) {
        assert_eq!(theirs, code, "{said}");
    }
}

fn segment(agent: &Agent) -> PathBuf {
    let dir = agent.data_dir().join("journal/1/seg");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "seg"));
    files.sort();
    files.remove(0)
}

#[test]
fn it_keeps_the_formats_vectors() {
    if let Some((code, said)) = python("test_vectors.py", &[]) {
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn both_agree_on_what_holds_and_on_what_was_changed() {
    let mut agent = Agent::start();
    for name in ["one", "two", "three"] {
        let _ = agent.post(event(name)).expect(201);
    }
    let _ = agent.await_events("?event_name=three", 1);
    assert_eq!(agent.stop(), 0);
    both_say(&agent, 0);

    // A byte of an event.
    let file = segment(&agent);
    let good = std::fs::read(&file).unwrap();
    let at = good.windows(5).position(|bytes| bytes == b"three").unwrap();
    let mut bad = good.clone();
    bad[at] = b'T';
    std::fs::write(&file, &bad).unwrap();
    both_say(&agent, 1);

    // The end is missing.
    std::fs::write(&file, &good[..at]).unwrap();
    both_say(&agent, 1);
    std::fs::write(&file, &good).unwrap();
    both_say(&agent, 0);

    // A row.
    let database = agent.data_dir().join("events.db");
    let sql = |text: &str| {
        let done = Command::new("sqlite3").arg(&database).arg(text).status().unwrap();
        assert!(done.success(), "{text}");
    };
    sql("UPDATE events SET username = 'eve' WHERE event_name = 'two'");
    both_say(&agent, 1);
}

#[test]
fn both_take_a_proof_and_neither_a_changed_one() {
    let agent = Agent::start();
    let id = agent.post(event("proven")).expect(201).json()["ids"][0]
        .as_str()
        .map(str::to_owned);
    let id = id.unwrap();
    let proof = agent.run(&["prove", &id]).expect(0).stdout;
    let key = std::fs::read_to_string(agent.data_dir().join("keys/log.vkey")).unwrap();
    let file = agent.dir().join("event.auditmon-proof");
    let path = file.to_str().unwrap();
    let check = |text: &str, code: i32| {
        std::fs::write(&file, text).unwrap();
        let ours = agent.run(&["verify", path, "--key", key.trim()]);
        assert_eq!(ours.code != 0, code != 0, "{}{}", ours.stdout, ours.stderr);
        if let Some((theirs, said)) = python("auditmon_verify.py", &["--proof", path, "--key", key.trim()]) {
            assert_eq!(theirs != 0, code != 0, "{said}");
        }
    };
    check(&proof, 0);
    let (head, tail) = proof.split_once("\nsalt ").unwrap();
    let salt = if tail.starts_with('A') { "B" } else { "A" };
    check(&format!("{head}\nsalt {salt}{}", &tail[1..]), 1);
    let index = proof.replace("index 1\n", "index 2\n");
    assert_ne!(index, proof);
    check(&index, 1);
}
