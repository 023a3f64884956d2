//! `auditmon check`, `auditmon config`, and the Go service's file and database in place.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use auditmon_e2e::{Agent, Output, binary, event};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/auditmon-go")
        .join(name)
}

/// Runs the binary in a directory with these variables and nothing else of ours.
fn auditmon(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let output = Command::new(binary())
        .args(args)
        .env_clear()
        .env("HOME", dir)
        .envs(variables.iter().copied())
        .current_dir(dir)
        .output()
        .unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The Go service's file and database as it had them: `config/auditmon.yaml` and `auditmon.db` in its directory.
fn in_place(dir: &Path) {
    fs::create_dir(dir.join("config")).unwrap();
    fs::copy(fixture("auditmon.yaml"), dir.join("config/auditmon.yaml")).unwrap();
    fs::copy(fixture("auditmon.db"), dir.join("auditmon.db")).unwrap();
}

/// Paths of all keys of its file with their values, as text.
fn keys_of_the_go_service() -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut section = String::new();
    for line in fs::read_to_string(fixture("auditmon.yaml")).unwrap().lines() {
        match line.split_once(':') {
            Some((key, _)) if !key.starts_with(' ') => section = key.to_owned(),
            Some((key, value)) => {
                keys.insert(
                    format!("{section}.{}", key.trim()),
                    value.trim().trim_matches('"').to_owned(),
                );
            }
            None => assert!(line.trim().is_empty(), "{line}"),
        }
    }
    keys
}

#[test]
fn the_go_services_file_and_database_start_the_agent_and_stay_as_they_are() {
    let mut agent = Agent::builder().place();
    in_place(agent.dir());
    let (file, database) = (
        agent.dir().join("config/auditmon.yaml"),
        agent.dir().join("auditmon.db"),
    );
    let before = (fs::read(&file).unwrap(), fs::read(&database).unwrap());
    let modified = fs::metadata(&database).unwrap().modified().unwrap();

    agent.start_again();
    assert_eq!(agent.post(event("from the new one")).status, 201);
    let stored = agent.await_events("?event_name=from%20the%20new%20one", 1);
    assert_eq!(stored.len(), 1);
    assert_eq!(agent.stop(), 0);
    // The start names what it reads, and says in one line that much of it does nothing.
    let log = agent.log();
    let start = log.iter().find(|line| line["message"] == "auditmon starts").unwrap();
    assert_eq!(start["config"], "config/auditmon.yaml");
    let idle = "25 keys have no effect; `auditmon check` lists them";
    assert!(log.iter().any(|line| line["message"] == idle), "{}", agent.stderr());

    assert_eq!((fs::read(&file).unwrap(), fs::read(&database).unwrap()), before);
    assert_eq!(fs::metadata(&database).unwrap().modified().unwrap(), modified);
    let mut beside: Vec<String> = fs::read_dir(agent.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("auditmon.db"))
        .collect();
    beside.sort();
    assert_eq!(beside[..2], ["auditmon.db", "auditmon.db.v2"]);
    // Nobody has opened the old one: SQLite would have left these.
    assert!(beside.iter().all(|name| !matches!(
        name.as_str(),
        "auditmon.db-wal" | "auditmon.db-shm" | "auditmon.db-journal"
    )));
    assert!(!agent.data_dir().join("events.db").exists());
}

#[test]
fn each_key_of_the_go_service_works_or_check_says_why_not() {
    let agent = Agent::builder().place();
    in_place(agent.dir());
    let keys = keys_of_the_go_service();
    assert_eq!(keys.len(), 31);

    // In the file.
    let checked = auditmon(agent.dir(), &[], &["check"]).expect(0);
    let shown = auditmon(agent.dir(), &[], &["config", "--origin"]).expect(0);
    let says = |checked: &Output, place: &str, key: &str| {
        let line = format!("warning: {place}: {key}: has no effect");
        checked
            .stderr
            .lines()
            .any(|l| l.contains(&line) && l.len() > line.len() + 20)
    };
    let text = fs::read_to_string(fixture("auditmon.yaml")).unwrap();
    let mut works = Vec::new();
    for key in keys.keys() {
        let (section, name) = key.split_once('.').unwrap();
        let after = text.find(&format!("{section}:")).unwrap();
        let at = after + text[after..].find(&format!("\n  {name}:")).unwrap() + 1;
        let line = text[..at].matches('\n').count() + 1;
        let place = format!("config/auditmon.yaml:{line}:3");
        if says(&checked, &place, key) {
            continue;
        }
        let same = key == "logging.level" && shown.stdout.contains(&format!("  level: info  # {place}\n"));
        assert!(
            same || shown.stdout.contains(&format!("# {place} ({key})\n")),
            "{key}: {}",
            shown.stdout
        );
        works.push(key.as_str());
    }
    assert_eq!(
        works,
        [
            "database.backend",
            "database.file",
            "logging.level",
            "server.port",
            "server.root_url",
            "settings.retention_days"
        ]
    );
    for secret in ["postgres\n", "Password1234!", "thisIsNotSafe"] {
        assert!(!shown.stdout.contains(secret) && !checked.stderr.contains(secret));
    }

    // As variables, one at a time; the one whose name was another than the key's, under both names.
    let variable = |key: &str| format!("AUDITMON_{}", key.to_uppercase().replace('.', "_"));
    let mut variables: Vec<(String, String)> = keys.iter().map(|(key, value)| (variable(key), value.clone())).collect();
    variables.push((
        "AUDITMON_SECURITY_MAX_SESSION_SECONDS".to_owned(),
        keys["security.session_max_seconds"].clone(),
    ));
    fs::remove_dir_all(agent.dir().join("config")).unwrap();
    for (variable, value) in &variables {
        let one = [(variable.as_str(), value.as_str())];
        let checked = auditmon(agent.dir(), &one, &["check"]).expect(0);
        let no_effect = checked.stderr.lines().any(|line| {
            line.starts_with(&format!("auditmon: warning: environment {variable}: ")) && line.contains("has no effect")
        });
        let shown = auditmon(agent.dir(), &one, &["config", "--origin"]).expect(0);
        let origin = format!("# environment {variable}");
        assert!(
            no_effect != shown.stdout.lines().any(|line| line.contains(&origin)),
            "{variable}: {checked:?}"
        );
        assert!(!checked.stderr.contains("unknown variable"), "{variable}: {checked:?}");
    }
    // Without the prefix they meant something to the Go service, and mean nothing here.
    let bare = auditmon(
        agent.dir(),
        &[("SERVER_PORT", "x"), ("DATABASE_BACKEND", "x")],
        &["check"],
    )
    .expect(0);
    assert_eq!(bare.stderr, "");
}

#[test]
fn check_says_what_would_run_here() {
    let agent = Agent::builder()
        .config(
            "host: h1\nlabels: {role: db}\nhosts:\n  - match: {labels: {role: db}}\n    set: {sinks: {stdout: {enabled: true}}}\n",
        )
        .place();
    let output = agent.run(&["check", "--disable", "kernel"]).expect(0);
    assert_eq!(output.stderr, "");
    let file = agent.dir().join("auditmon.yaml");
    let line = |name: &str, text: &str| format!("{name:<15} {text}\n");
    let expected = [
        line("configuration", &format!("{}: good", file.display())),
        line("hosts entries", &format!("{}:4:5", file.display())),
        line("data directory", &agent.data_dir().display().to_string()),
        line("host", "h1"),
        line("labels", "role=db"),
        line("listens on", "http://127.0.0.1:0"),
        line("plugins", "store       on   default"),
        line("", "prometheus  on   default"),
        line("", &format!("stdout      on   {}:5:28", file.display())),
        line("", "ingest      on   default"),
        line("", "kernel      off  command line --disable kernel"),
        line("", "immudb      off  default"),
        line("", "web         on   default"),
    ];
    // What it would run as depends on who asks; tests/privileges.rs looks at that.
    let (before, privileges) = output.stdout.split_once("privileges ").unwrap();
    assert_eq!(before, expected.concat());
    assert!(privileges.trim_start().starts_with("runs as uid "), "{privileges}");
    assert!(!agent.data_dir().exists(), "nothing is made");
}

#[test]
fn check_warns_of_what_may_surprise() {
    let agent = Agent::builder()
        .config("http: {insecure: true}\nsinks: {store: {url: \"postgres://u:hunter2@h/d\"}}\n")
        .env("AUDITMON_HTTP_LISTEN", "0.0.0.0:0")
        .env("AUDITMON_HTP_LISTEN", "x")
        .env("AUDITMON_SERVICE_HOST", "10.0.0.1")
        .place();
    let bad = agent.run(&["check"]).expect(78);
    assert!(bad.stderr.contains("sinks.store.url: expected none") && !bad.stderr.contains("hunter2"));

    use std::os::unix::fs::PermissionsExt as _;
    let file = agent.dir().join("auditmon.yaml");
    fs::write(
        &file,
        "http: {insecure: true, max_connections: 1000000}\nsources:\n  immudb:\n    enabled: true\n    servers:\n      \
         - {address: \"127.0.0.1:3322\"}\n      - {address: \"db.example.com\"}\n      - {address: \"0.0.0.0\"}\n",
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let output = agent.run(&["check"]).expect(0);
    let lines: Vec<&str> = output.stderr.lines().collect();
    for says in [
        "environment AUDITMON_HTTP_LISTEN: http.listen: `0.0.0.0:0` is reachable from other machines without TLS",
        "environment AUDITMON_HTP_LISTEN: unknown variable, it has no effect, did you mean `AUDITMON_HTTP_LISTEN`?",
        "auditmon.yaml: others may write to it",
        "http.max_connections: 1000000 connections need",
        "auditmon.yaml:6:10: sources.immudb.servers[0].address: is this host: who can change the server's data here",
        "servers[2].address: is this host",
    ] {
        let found = lines
            .iter()
            .any(|line| line.starts_with("auditmon: warning: ") && line.contains(says));
        // Some machines allow that many files.
        assert!(found || says.contains("max_connections"), "{says}: {}", output.stderr);
    }
    assert!(!output.stderr.contains("SERVICE_HOST"), "{}", output.stderr);
    assert!(!output.stderr.contains("servers[1]"), "{}", output.stderr);
}

#[test]
fn config_prints_what_is_in_effect_and_helps_with_a_broken_file() {
    let agent = Agent::builder()
        .config("http:\n  memory: 32MiB\njournal: {keep: {age: 1h}}\n")
        .place();
    let shown = agent.run(&["config"]).expect(0).stdout;
    for line in ["  memory: 32MiB", "    age: 1h", "  listen: 127.0.0.1:0"] {
        assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    assert!(
        shown.starts_with(&format!("data_dir: {}\n", agent.data_dir().display())),
        "{shown}"
    );
    assert!(!shown.contains('#'), "{shown}");
    let origins = agent.run(&["config", "--origin", "--disable", "web"]).expect(0).stdout;
    for line in [
        &format!("  memory: 32MiB  # {}:2:3", agent.dir().join("auditmon.yaml").display()),
        "  listen: 127.0.0.1:0  # environment AUDITMON_HTTP_LISTEN",
        "    enabled: false  # command line --disable web",
        "  reserve: 64MiB  # default",
        &format!("data_dir: {}  # command line --data-dir", agent.data_dir().display()),
    ] {
        assert!(origins.lines().any(|l| l == line), "{line}: {origins}");
    }
    // What it prints is a configuration.
    fs::write(agent.dir().join("auditmon.yaml"), &shown).unwrap();
    assert_eq!(agent.run(&["config"]).expect(0).stdout, shown);

    fs::write(agent.dir().join("auditmon.yaml"), "htp: {").unwrap();
    let _ = agent.run(&["config"]).expect(78);
    let schema: Value = serde_json::from_str(&agent.run(&["config", "--schema"]).expect(0).stdout).unwrap();
    assert_eq!(schema["properties"]["http"]["properties"]["memory"]["default"], "64MiB");
    let example = agent.run(&["config", "--example"]).expect(0).stdout;
    fs::write(agent.dir().join("auditmon.yaml"), example).unwrap();
    let _ = agent.run(&["check"]).expect(0);
    let _ = agent.run(&["config", "--schema", "--example"]).expect(2);
}

#[test]
fn layers_reach_the_running_agent() {
    let mut agent = Agent::builder()
        .config("host: h7\nhosts:\n  - match: {name: \"h*\"}\n    set: {sources: {ingest: {max_events: 2}}}\n")
        .env("AUDITMON_SOURCES_INGEST_MAX_BODY", "1KiB")
        .start();
    let two = format!("[{},{}]", event("a"), event("b"));
    assert_eq!(agent.post(two.clone()).status, 201);
    let three = format!("[{},{},{}]", event("a"), event("b"), event("c"));
    assert_eq!(agent.post(three).status, 413);
    assert_eq!(agent.post(event(&"x".repeat(1_000))).status, 413);
    assert_eq!(agent.await_events("?event_name=a", 1)[0]["host"], "h7");
    // The same keys, given otherwise by an instruction of the command line.
    assert_eq!(agent.stop(), 0);
    let off = agent.run(&["check", "--disable", "ingest"]).expect(0);
    assert!(
        off.stdout.contains("off  command line --disable ingest"),
        "{}",
        off.stdout
    );
}
