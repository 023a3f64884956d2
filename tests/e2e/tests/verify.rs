//! What the real agent wrote, verified by the real command; and proofs that need nothing but a key.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the verifier's own tests use the rest")]
#[path = "../../../agent/verify/tests/it/model.rs"]
mod model;

use auditmon_e2e::{Agent, binary};
use auditmon_journal::format::Kind;
use serde_json::Value;

/// The command without configuration, environment and data directory.
fn alone(arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(binary());
    command
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .unwrap()
}

#[test]
fn a_bar_is_drawn_on_a_terminal_and_nowhere_else() {
    let mut model = model::Model::new();
    for n in 0..60_000 {
        model.event(Kind::Application, "login", "alice", serde_json::json!({"n": n}));
    }
    model.sign();
    let dir = model::Dir::of(&model);
    let path = dir.path().to_str().unwrap();
    let elsewhere = alone(&["verify", "--data-dir", path]);
    let said = String::from_utf8(elsewhere.stdout).unwrap();
    assert!(said.contains("holds: 60000 records"), "{said}");
    let silent = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(!silent.contains('\r') && !silent.contains("MiB"), "{silent}");

    // However fast the machine is, it takes many times as long as a bar is waited for.
    let slow = "strace -f -qq -o /dev/null -e trace=read,pread64 -e inject=read,pread64:delay_enter=2000";
    let command = format!("{slow} {} verify --data-dir {path}", binary().display());
    let terminal = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(std::process::Stdio::null())
        .output();
    let output = match terminal {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: a_bar_is_drawn_on_a_terminal: there is no script (bsdutils)");
            return;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let (bars, rest) = said.split_once("\r\x1b[K").unwrap_or_else(|| panic!("no bar: {said}"));
    assert!(
        bars.contains("\r[") && bars.contains(" %  ") && bars.ends_with(" MiB"),
        "{bars:?}"
    );
    assert!(
        rest.contains("holds: 60000 records") && !rest.contains("MiB"),
        "{rest:?}"
    );
}

#[test]
fn beside_the_agent_and_stopped_everything_holds_until_a_row_or_a_byte_is_changed() {
    let mut agent = Agent::start();
    for n in 0..20 {
        let event = serde_json::json!({"event_name": "login", "username": "alice", "event_data": {"n": n}});
        let _ = agent.post(event.to_string()).expect(201);
    }
    let events = agent.await_events("?username=alice&limit=100", 20);
    let id = events[7]["event_id"].as_str().unwrap().to_owned();
    let seq = events[7]["seq"].as_u64().unwrap();

    let running = agent.run(&["verify"]).expect(0);
    assert!(running.stdout.contains("holds: "), "{}", running.stdout);
    assert!(running.stdout.contains("--key") && running.stdout.contains("--against"));

    // A proof, checked with the key and nothing else: no directory, no configuration.
    let vkey = std::fs::read_to_string(agent.data_dir().join("keys/log.vkey")).unwrap();
    let proof = agent.run(&["prove", &id]).expect(0);
    let file = agent.dir().join("event.auditmon-proof");
    std::fs::write(&file, &proof.stdout).unwrap();
    let file = file.to_str().unwrap();
    let checked = alone(&["verify", file, "--key", &vkey, "--json"]);
    assert!(checked.status.success(), "{checked:?}");
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked["proofs"][0]["seq"], seq);
    assert!(checked["proofs"][0]["event"].as_str().unwrap().contains(&id));
    let _ = agent.run(&["verify", file]).expect(2);
    let _ = agent.run(&["prove", "019b76da-a800-7000-8000-000000000001"]).expect(1);
    let _ = agent.run(&["prove", "7"]).expect(2);

    assert_eq!(agent.stop(), 0);
    let checkpoint = agent.data_dir().join("journal/1/checkpoint");
    let checkpoint = checkpoint.to_str().unwrap();
    let stopped = agent
        .run(&["verify", "--key", &vkey, "--against", checkpoint, "--json"])
        .expect(0);
    let stopped: Value = serde_json::from_str(&stopped.stdout).unwrap();
    assert_eq!(stopped["holds"], true);
    assert_eq!(stopped["not_seen"], serde_json::json!([]), "{stopped}");
    assert_eq!(stopped["counts"]["records"], stopped["newest"]["size"]);
    let _ = agent.run(&["verify", "--against", file]).expect(0);

    // One byte of an event, wherever it is.
    let path = agent.data_dir().join("journal/1/seg/00000000000000000000.seg");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(36).position(|window| window == id.as_bytes()).unwrap() + 200;
    let mut changed = bytes.clone();
    changed[at] ^= 1;
    std::fs::write(&path, changed).unwrap();
    let found = agent.run(&["verify"]).expect(1);
    let line = format!("tampered: journal/1/seg/00000000000000000000.seg: seq {seq}");
    assert!(found.stdout.contains(&line), "{}", found.stdout);
    std::fs::write(&path, bytes).unwrap();
    let _ = agent.run(&["verify"]).expect(0);
    let none = alone(&["verify", "--data-dir", "/nonexistent"]);
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}

/// A row that nobody sent is found while the agent runs and shows it.
#[test]
fn a_row_that_is_added_beside_the_agent() {
    let agent = Agent::start();
    let _ = agent
        .post(r#"{"event_name": "login", "username": "alice"}"#)
        .expect(201);
    let events = agent.await_events("?username=alice&limit=10", 1);
    let seq = events[0]["seq"].as_u64().unwrap();
    let _ = agent.run(&["verify"]).expect(0);
    let db = rusqlite::Connection::open(agent.data_dir().join("events.db")).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    let far = seq + 1_000_000;
    let columns = "origin, event_name, username, resource, event_source, source_ip_address, request_id, read_only, kind, \
                   host, outcome, severity, event_time_ns, received_time_ns, salt, canonical";
    let add = format!(
        "BEGIN IMMEDIATE; INSERT INTO events (place, {columns}) SELECT {far}, {columns} FROM events WHERE place = {seq}; \
         UPDATE usage SET rows = rows + 1, bytes = bytes + (SELECT length(canonical) FROM events WHERE place = {far}) \
         WHERE kind = 'application'; COMMIT"
    );
    db.execute_batch(&add).unwrap();
    drop(db);
    let _ = agent.await_events("?username=alice&limit=10", 2);
    let found = agent.run(&["verify"]).expect(1);
    let line = format!("tampered: events.db: seq {far}, event ");
    assert!(found.stdout.contains(&line), "{}", found.stdout);
}

#[test]
fn why_it_could_not_check_is_an_object_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for more in [vec![], vec!["--against", "/dev/zero"]] {
        let checked = alone(&[vec!["verify", "--data-dir", path, "--json"], more].concat());
        assert_eq!(checked.status.code(), Some(2));
        let object: Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert!(object["holds"].is_null() && object["reason"].is_string(), "{object}");
        assert!(!checked.stderr.is_empty());
    }
}
