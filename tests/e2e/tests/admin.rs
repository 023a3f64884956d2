//! The admin socket and the commands that speak through it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use auditmon_e2e::{Agent, binary, event, is_root, request};

#[test]
fn status_tells_of_plugins_and_journal() {
    let mut agent = Agent::start();
    let output = agent.run(&["status"]).expect(0);
    for line in ["store", "ok", "kernel", "disabled", "journal "] {
        assert!(output.stdout.contains(line), "{}", output.stdout);
    }
    let output = agent.run(&["status", "--json"]).expect(0);
    let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(status["pid"], agent.pid());
    assert_eq!(status["plugins"]["ingest"]["state"], "ok");
    assert_eq!(status["journal"]["paused"], serde_json::Value::Null);
    let socket = agent.data_dir().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    agent.stop();
    assert!(!socket.exists(), "an orderly end takes the socket away");
    let output = agent.run(&["status"]).expect(1);
    assert!(output.stderr.contains("no agent runs on"), "{}", output.stderr);
}

#[test]
fn a_socket_left_behind_is_no_agent_and_is_replaced() {
    let mut agent = Agent::start();
    agent.kill();
    assert!(agent.data_dir().join("admin.sock").exists());
    let output = agent.run(&["status"]).expect(1);
    assert!(output.stderr.contains("no agent runs on"), "{}", output.stderr);
    agent.start_again();
    let _ = agent.run(&["status"]).expect(0);
}

#[test]
fn a_data_directory_deeper_than_a_sockets_address() {
    let top = tempfile::tempdir().unwrap();
    let deep = top.path().join("d".repeat(100)).join("e".repeat(100));
    let agent = Agent::builder().data_dir(&deep).start();
    let _ = agent.run(&["status"]).expect(0);
}

#[test]
fn another_user_is_turned_away() {
    if !is_root("another_user_is_turned_away") {
        return;
    }
    let agent = Agent::builder().uid(65_534).start();
    // Root may, and so may the agent's own user.
    let _ = agent.run(&["status"]).expect(0);
    let ask = |uid: u32| {
        use std::os::unix::process::CommandExt as _;
        let data_dir = agent.data_dir();
        Command::new(binary())
            .args(["--data-dir", &data_dir.display().to_string(), "status"])
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap()
    };
    assert_eq!(ask(65_534).status.code(), Some(0));
    // Not even where file modes would let it.
    let open = |mode| std::fs::set_permissions(agent.data_dir(), std::fs::Permissions::from_mode(mode)).unwrap();
    open(0o755);
    let socket = agent.data_dir().join("admin.sock");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let output = ask(12_345);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    agent.await_log("a command of another user was turned away");
}

#[test]
fn the_page_is_opened_by_the_address_that_people_use() {
    let agent = Agent::builder()
        .config("http: {root_url: \"https://audit.example.org/am/\"}\n")
        .start();
    let output = agent.run(&["page"]).expect(0);
    let token = output
        .stdout
        .trim()
        .strip_prefix("https://audit.example.org/am/open?token=")
        .unwrap();
    // With the prefix and without it: some proxies take it off.
    let open = |path: &str| request("GET", path).send(agent.listen()).status;
    assert_eq!(open(&format!("/am/open?token={token}")), 303);
    assert_eq!(open(&format!("/open?token={token}")), 401, "used up");
    assert_eq!(open("/am/livez"), 200);
    assert_eq!(open("/livez"), 200);
    assert_eq!(open("/amlivez"), 404);
}

#[test]
fn events_are_followed_from_the_newest_on() {
    let mut agent = Agent::start();
    for name in ["a", "b", "c"] {
        let _ = agent.post(event(name)).expect(201);
    }
    let _ = agent.await_events("?kind=application", 3);
    let mut child = Command::new(binary())
        .args(["--data-dir", &agent.data_dir().display().to_string()])
        .args(["events", "--follow", "--limit", "2", "--kind", "application"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let line: serde_json::Value = serde_json::from_str(&lines.next()?.unwrap()).unwrap();
        Some(line["event_name"].as_str().unwrap().to_owned())
    };
    assert_eq!((next(), next()), (Some("b".to_owned()), Some("c".to_owned())));
    for round in 0..50 {
        let name = format!("n{round}");
        let _ = agent.post(event(&name)).expect(201);
        assert_eq!(next(), Some(name));
    }
    assert_eq!(agent.stop(), 0);
    assert_eq!(next(), None, "it ends with the agent");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
