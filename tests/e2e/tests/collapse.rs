//! The oldest leaves become hashes over many of them; what is signed stays true.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use auditmon_e2e::{Agent, PATIENCE, eventually};
use serde_json::{Value, json};

const CONFIG: &str = "
journal: {segment_size: 64KiB, max_size: 320KiB, reserve: 64KiB, keep: {age: 1s, size: 64KiB}, checkpoint_interval: 100ms}
";

fn files(agent: &Agent, ending: &str) -> Vec<PathBuf> {
    let dir = agent.data_dir().join("journal/1/seg");
    let names = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = names
        .filter(|file| file.extension().is_some_and(|end| end == ending))
        .collect();
    files.sort();
    files
}

/// Writes until so many segments are collapsed.
fn fill(agent: &Agent, collapsed: usize) {
    let end = Instant::now() + Duration::from_secs(120);
    while files(agent, "sub").len() < collapsed {
        assert!(Instant::now() < end, "{collapsed} were never collapsed");
        let events: Vec<Value> = (0..100)
            .map(|n| json!({"event_name": "login", "username": "alice", "event_data": {"n": n}}))
            .collect();
        // Full for a moment, where sealing or the store is behind.
        let _ = agent.post(json!(events).to_string());
    }
}

/// `auditmon verify` and the second verifier.
#[track_caller]
fn holds(agent: &Agent, against: &Path, code: i32) -> String {
    let key = std::fs::read_to_string(agent.data_dir().join("keys/log.vkey")).unwrap();
    let against = against.to_str().unwrap();
    let ours = agent.run(&["verify", "--key", key.trim(), "--against", against]);
    assert_eq!(ours.code, code, "{}{}", ours.stdout, ours.stderr);
    let has = Command::new("python3").args(["-c", "import cryptography"]).status();
    if has.is_ok_and(|status| status.success()) {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../verifier/auditmon_verify.py");
        let theirs = Command::new("python3")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args([program, agent.data_dir().to_str().unwrap(), "--key", key.trim()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&theirs.stdout).into_owned() + &String::from_utf8_lossy(&theirs.stderr);
        assert_eq!(theirs.status.code(), Some(code), "{said}");
    } else {
        println!("SKIPPED: needs python3 and its package cryptography");
    }
    ours.stdout
}

#[test]
fn the_tree_goes_on_behind_collapsed_segments_through_stops_and_kills() {
    let mut agent = Agent::builder().config(CONFIG).start();
    for _ in 0..3 {
        let _ = agent
            .post(json!({"event_name": "first", "username": "alice"}).to_string())
            .expect(201);
    }
    let first = agent.await_events("?event_name=first", 3);
    let kept = agent.dir().join("kept");
    let newest = agent.data_dir().join("journal/1/checkpoint");
    let size = |path: &Path| -> u64 {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().nth(1).unwrap().parse().unwrap()
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !newest.exists() || size(&newest) < 4 {
        assert!(Instant::now() < end, "never signed");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::copy(&newest, &kept).unwrap();

    fill(&agent, 4);
    // Beside the running agent.
    let _ = agent.run(&["verify", "--against", kept.to_str().unwrap()]).expect(0);
    let before = size(&newest);
    assert_eq!(agent.stop(), 0);
    let said = holds(&agent, &kept, 0);
    assert!(said.contains("only hashes over many of them are left"), "{said}");
    let later = agent.dir().join("later");
    std::fs::copy(&newest, &later).unwrap();
    assert!(size(&later) >= before);

    agent.start_again();
    fill(&agent, 8);
    agent.kill();
    let _ = holds(&agent, &kept, 0);
    let _ = holds(&agent, &later, 0);
    agent.start_again();
    fill(&agent, 12);
    // Its tile is left as long as a later record needs it; the store has the event.
    let proof = agent.run(&["prove", first[0]["event_id"].as_str().unwrap()]).expect(0);
    std::fs::write(agent.dir().join("proof"), proof.stdout).unwrap();
    assert_eq!(agent.stop(), 0);
    assert!(!agent.data_dir().join("journal/2").exists(), "no other generation");
    for file in ["kept", "later", "proof"] {
        let said = holds(&agent, &agent.dir().join(file), 0);
        assert!(!said.contains("whether the journal extends"), "{said}");
    }

    // A byte of a collapsed one, and of a tile that is left.
    let mut changed = files(&agent, "sub");
    changed.truncate(2);
    changed.push(agent.data_dir().join("journal/1/tile/0/000"));
    for file in changed {
        let good = std::fs::read(&file).unwrap();
        let mut bad = good.clone();
        bad[30] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        let _ = holds(&agent, &kept, 1);
        std::fs::write(&file, &good).unwrap();
    }
    let _ = holds(&agent, &kept, 0);

    // Without tiles a start goes on from what is collapsed.
    std::fs::remove_dir_all(agent.data_dir().join("journal/1/tile")).unwrap();
    agent.start_again();
    let end = Instant::now() + Duration::from_secs(20);
    let begun = size(&newest);
    while size(&newest) <= begun {
        assert!(Instant::now() < end, "nothing is signed");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(agent.stop(), 0);
    let _ = holds(&agent, &later, 0);
}

#[test]
fn a_tile_of_collapsed_records_is_answered_with_410() {
    let config = "
journal: {segment_size: 1MiB, max_size: 8MiB, reserve: 64KiB, keep: {age: 1s, size: 1MiB}, checkpoint_interval: 100ms}
";
    let agent = Agent::builder().config(config).start();
    let events: Vec<Value> = (0..1000)
        .map(|n| json!({"event_name": "login", "username": "alice", "event_data": {"n": n}}))
        .collect();
    let events = json!(events).to_string();
    let end = Instant::now() + Duration::from_secs(300);
    let mut served = false;
    // It goes when the one above it is full, that is with 65,536 records.
    let answer = loop {
        assert!(Instant::now() < end, "it stays");
        // Full for a moment, where sealing or the store is behind.
        let _ = agent.post(events.as_str());
        let answer = agent.get("/tlog/tile/0/000");
        if served && answer.status != 200 {
            break answer;
        }
        served |= answer.status == 200;
    };
    assert_eq!((answer.status, answer.header("cache-control")), (410, Some("no-store")));
    // That one has its hash, and is served once a checkpoint covers all of it.
    let above = eventually("it is signed", PATIENCE, || {
        let answer = agent.get("/tlog/tile/1/000");
        (answer.status != 404).then_some(answer)
    });
    assert_eq!(above.expect(200).body.len(), 8192);
}
