//! Starting and stopping: what a newcomer sees, and what scripts rely on.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use auditmon_e2e::{
    Agent, Builder, PATIENCE, Producers, SlowDisk, all_kept, cpu_share, event, eventually, is_root, request,
};
use rustix::process::Signal;
use serde_json::Value;

const NOBODY: u32 = 65534;

fn newcomer(builder: Builder) {
    let mut agent = builder.start();
    let first = agent.stderr();
    for text in [agent.key(), agent.page_url()] {
        assert_eq!(
            first.matches(text).count(),
            if text == agent.key() { 2 } else { 1 },
            "{first}"
        );
    }
    assert!(
        agent
            .page_url()
            .starts_with(&format!("http://{}/open?token=", agent.listen())),
        "{}",
        agent.page_url()
    );
    // Secrets are no log lines.
    assert!(!agent.log().iter().any(|line| line.to_string().contains(agent.key())));

    // The line to paste really works.
    let curl = first.split_once("  curl ").unwrap().1;
    let curl = format!("curl -sS -w '\\n%{{http_code}}' {}", curl.split("\n\n").next().unwrap());
    let output = Command::new("sh").arg("-c").arg(&curl).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.ends_with("\n201"), "{curl}\n{stdout}");
    let hello = agent
        .dump()
        .into_iter()
        .find(|line| line["event"]["event_name"] == "hello")
        .unwrap();
    assert_eq!(hello["event"]["username"], "me");

    // Nobody else may look into the data directory.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(agent.data_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");

    let key = agent.key().to_owned();
    agent.restart();
    let second = agent.stderr();
    assert!(!second.contains("API key") && !second.contains("token="), "{second}");
    assert_eq!(
        request("POST", "/api/v1/events")
            .key(&key)
            .json(event("x"))
            .send(agent.listen())
            .status,
        201
    );
    assert_eq!(agent.stop(), 0);
    agent.fsck();
    assert_eq!(agent.stdout(), "", "own lines go to stderr");
    assert!(
        agent
            .stderr()
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{}",
        agent.stderr()
    );
}

#[test]
fn a_newcomer_as_ordinary_user_gets_key_page_and_a_line_to_paste() {
    if is_root("start::a_newcomer_as_ordinary_user") {
        newcomer(Agent::builder().uid(NOBODY));
    } else {
        newcomer(Agent::builder());
    }
}

#[test]
fn a_newcomer_as_root_does_too() {
    if is_root("start::a_newcomer_as_root") {
        newcomer(Agent::builder());
    }
}

#[test]
fn without_a_directory_named_the_users_own_is_taken() {
    if !is_root("start::without_a_directory_named") {
        return;
    }
    let place = Agent::builder().uid(NOBODY).place();
    let verb = |home: &str| {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(auditmon_e2e::binary());
        command
            .args(["keys", "create", "x"])
            .env_clear()
            .env("HOME", home)
            .current_dir(place.dir())
            .uid(NOBODY)
            .gid(NOBODY);
        command.output().unwrap()
    };
    assert!(verb(place.dir().to_str().unwrap()).status.success());
    assert!(place.dir().join(".local/share/auditmon/accounts.db").exists());
    assert_eq!(verb("/nonexistent").status.code(), Some(73));
}

/// A start that fails with this code and one line on stderr that says all of `says`.
#[track_caller]
fn fails(agent: &mut Agent, code: i32, says: &[&str]) {
    agent.spawn();
    assert_eq!(agent.wait(), code, "{}", agent.stderr());
    one_line(&agent.stderr(), says);
}

#[track_caller]
fn one_line(stderr: &str, says: &[&str]) {
    // Log lines tell of the start before it failed; the reason is one line behind them.
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_err())
        .collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(lines[0].starts_with("auditmon: "), "{}", lines[0]);
    for text in says {
        assert!(lines[0].contains(text), "`{text}`: {}", lines[0]);
    }
    assert!(!stderr.contains("panicked") && !stderr.contains("Os {"), "{stderr}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut agent = Agent::builder().port(address.port()).place();
    fails(&mut agent, 1, &[&address.to_string(), "http.listen", "in use"]);
    // Nothing was begun that the next start would stumble over: it is still a first start.
    drop(taken);
    agent.start_again();
    let _ = agent.key();
}

#[test]
fn a_data_directory_that_cant_be_used_is_named() {
    let mut agent = Agent::builder().data_dir("/proc/auditmon").place();
    fails(&mut agent, 73, &["/proc/auditmon", "data directory"]);
    let file = Agent::builder().place();
    std::fs::write(file.dir().join("data"), "a file").unwrap();
    let mut agent = Agent::builder().data_dir(file.dir().join("data")).place();
    fails(&mut agent, 73, &[file.data_dir().to_str().unwrap()]);
    if is_root("start::a_data_directory (owned by another user)") {
        let mut agent = Agent::builder().uid(NOBODY).data_dir(file.dir().join("below")).place();
        fails(&mut agent, 73, &["below"]);
        std::fs::create_dir(file.dir().join("below")).unwrap();
        fails(&mut agent, 73, &["below"]);
    }
}

#[test]
fn a_second_agent_is_refused_by_name_and_harms_nothing() {
    let mut first = Agent::start();
    let mut second = Agent::builder().data_dir(first.data_dir()).place();
    fails(
        &mut second,
        75,
        &[
            &format!("pid {}", first.pid()),
            "auditmon",
            first.data_dir().to_str().unwrap(),
        ],
    );
    assert_eq!(first.post(event("still there")).status, 201);
    // A killed agent's lock is no lock.
    first.kill();
    second.start_again();
    assert_eq!(second.stop(), 0);
    second.fsck();
}

#[test]
fn a_wrong_key_in_the_configuration_is_named_with_its_place() {
    let cases = [
        ("http:\n  listn: 127.0.0.1:1\n", ":2:3: http", "listn"),
        (
            "journal:\n  segment_size: 64MiB\n  reserv: 1MiB\n",
            ":3:3: journal",
            "reserv",
        ),
        (
            "sinks:\n  store:\n    enabledd: true\n",
            ":3:5: sinks.store",
            "enabledd",
        ),
        (
            "sources:\n  ingest:\n    max_events: 0\n",
            ":3:5: sources.ingest.max_events",
            "1 to 10000",
        ),
        ("sinks: {stroe: {}}\n", ":1:9: sinks.stroe", "store"),
        (
            "services: {web: {enabled: 3}}\n",
            "services.web.enabled",
            "`true` or `false`",
        ),
        ("data_dirr: /x\n", ":1:1: data_dirr", "data_dir"),
        (
            "http: {listen: \"0.0.0.0:7984\"}\n",
            ":1:8: http.listen",
            "http.insecure",
        ),
        ("host: a\nhost: b\n", ":2:1: host", "duplicate"),
    ];
    for (text, place, says) in cases {
        let mut agent = Agent::builder().config(text).place();
        if text.contains("0.0.0.0") {
            // The environment would win over the file.
            let output = agent.run(&["check"]);
            assert!([0, 78].contains(&output.code), "{output:?}");
            continue;
        }
        fails(
            &mut agent,
            78,
            &[
                &format!("auditmon.yaml{}", if place.starts_with(':') { place } else { ":1:" }),
                says,
            ],
        );
        for verb in [&["check"][..], &["keys", "list"], &["journal", "fsck"], &["config"]] {
            let _ = agent.run(verb).expect(78);
        }
        assert!(!agent.data_dir().exists(), "nothing is made on a wrong configuration");
    }
    let mut agent = Agent::builder().env("AUDITMON_HTTP_LISTEN", "here").place();
    fails(&mut agent, 78, &["AUDITMON_HTTP_LISTEN"]);
    let mut agent = Agent::builder().env("AUDITMON_HTTP_LISTEN", "0.0.0.0:0").place();
    fails(&mut agent, 78, &["AUDITMON_HTTP_LISTEN", "http.insecure"]);
    let missing = Agent::builder()
        .place()
        .run(&["--config", "/nonexistent/a.yaml", "check"])
        .expect(78);
    one_line(&missing.stderr, &["/nonexistent/a.yaml"]);
    let _ = Agent::builder().config("host: h\n").place().run(&["check"]).expect(0);
}

#[test]
fn a_wrong_command_line_is_explained() {
    let agent = Agent::builder().place();
    for verb in [
        &["rnu"][..],
        &["run", "--enabel", "x"],
        &["journal"],
        &["journal", "fsk"],
        &["keys", "create"],
    ] {
        let output = agent.run(verb).expect(2);
        assert_eq!(output.stdout, "");
        assert!(
            output.stderr.contains("Usage") || output.stderr.contains("tip") || output.stderr.contains("help"),
            "{}",
            output.stderr
        );
    }
    let mut agent = Agent::builder().arg("--disable").arg("krnel").place();
    agent.spawn();
    assert!([2, 78].contains(&agent.wait()));
    one_line(&agent.stderr(), &["krnel", "kernel"]);

    let help = agent.run(&["--help"]).expect(0).stdout;
    for text in [
        "run",
        "check",
        "events",
        "keys",
        "journal",
        "page",
        "version",
        "--config",
        "--data-dir",
        "auditmon keys create",
    ] {
        assert!(help.contains(text), "{text}: {help}");
    }
    assert!(agent.run(&["version"]).expect(0).stdout.starts_with("auditmon 0."));
    assert!(agent.run(&["--version"]).expect(0).stdout.starts_with("auditmon 0."));
    // What was never there can't be checked.
    let _ = agent.run(&["journal", "fsck"]).expect(2);
    let _ = agent.run(&["journal", "dump"]).expect(2);
}

#[test]
fn interrupt_drains_and_ends_well() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut agent = Agent::start();
        let _ = agent.post(event("last")).expect(201);
        let mut kept = agent.http();
        let _ = kept.send(&request("GET", "/livez")).unwrap();
        agent.signal(signal);
        let start = std::time::Instant::now();
        assert_eq!(agent.wait(), 0);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "an idle connection doesn't hold it up"
        );
        let dump = agent.dump();
        let names: Vec<_> = dump
            .iter()
            .map(|line| line["event"]["event_name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["agent.start", "last", "agent.stop"]);
        agent.fsck();
        assert!(agent.stderr().contains("stopping"), "{}", agent.stderr());
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut agent = Agent::start();
        // A disk that takes half a minute: nothing orderly can end meanwhile.
        let disk = SlowDisk::attach(&agent, Duration::from_secs(30));
        agent.signal(signal);
        let _ = agent.await_log("second signal");
        agent.signal(signal);
        // What remains of the process is the thread that strace holds.
        eventually("the process is over", Duration::from_secs(5), || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).ok()?;
            status.contains("State:\tZ").then_some(())
        });
        drop(disk);
        assert_eq!(agent.wait(), code);
        agent.start_again();
        assert_eq!(agent.stop(), 0);
        agent.fsck();
    }
}

#[test]
fn a_stop_under_load_loses_nothing() {
    let mut agent = Agent::start();
    let producers = Producers::start(agent.listen(), agent.key(), 8, "stop");
    producers.wait_for(100);
    assert_eq!(agent.stop(), 0);
    let (owed, other) = producers.finish();
    assert!(other.iter().all(|status| *status == 503), "{other:?}");
    all_kept(&agent.dump(), &owed);
    agent.fsck();
    // And the store has the same once it is there again.
    agent.start_again();
    let count = |sql: &str| agent.rows(sql)[0][0].as_u64().unwrap();
    let journal = agent.dump().len() as u64;
    eventually("the store has caught up", PATIENCE, || {
        (count("SELECT count(*) FROM events") >= journal).then_some(())
    });
    let promised: u64 = owed.iter().map(|o| o.names.len() as u64).sum();
    assert!(count("SELECT count(DISTINCT event_name) FROM events WHERE event_name LIKE 'stop-%'") >= promised);
    assert_eq!(
        count("SELECT count(*) - count(DISTINCT seq) FROM events"),
        0,
        "each once"
    );
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_answered() {
    let mut agent = Agent::start();
    for round in 0..3 {
        let producers = Producers::start(agent.listen(), agent.key(), 8, &format!("kill{round}"));
        producers.wait_for(100);
        agent.kill();
        let (owed, other) = producers.finish();
        assert!(other.is_empty(), "{other:?}");
        agent.start_again();
        all_kept(&agent.dump(), &owed);
    }
    assert_eq!(agent.stop(), 0);
    agent.fsck();
}

#[test]
fn without_privileges_the_kernel_source_says_what_it_needs_and_the_rest_works() {
    let builder = Agent::builder().kernel();
    let agent = if is_root("start::without_privileges") {
        builder.uid(NOBODY)
    } else {
        builder
    }
    .start();
    let kernel = eventually("the kernel source says what it needs", PATIENCE, || {
        let kernel = agent.get("/healthz").json()["plugins"]["kernel"].clone();
        kernel["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("CAP_AUDIT_CONTROL"))
            .then_some(kernel)
    });
    assert!(
        ["failed", "degraded", "disabled"].contains(&kernel["state"].as_str().unwrap()),
        "{kernel}"
    );
    assert!(agent.stderr().contains("CAP_AUDIT_CONTROL"), "{}", agent.stderr());
    assert!(
        !agent.stderr().contains("kernel ok"),
        "the line about all plugins must not claim what never was: {}",
        agent.stderr()
    );
    let _ = agent.get("/readyz").expect(200);
    assert_eq!(agent.post(event("x")).status, 201);
}

#[test]
fn an_idle_agent_is_idle() {
    let agent = Agent::start();
    let _ = agent.post(event("x")).expect(201);
    let _ = agent.await_events("?event_name=x", 1);
    let share = cpu_share(agent.pid(), Duration::from_secs(4));
    assert!(share < 0.02, "{:.1} % of a processor for nothing", share * 100.0);
}
