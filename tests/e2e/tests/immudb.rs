//! `sources.immudb` in the real binary, against a server that proves by brute force and lies when told to.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/tests/it/fake.rs"]
mod fake;
#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/verify/tests/it/naive.rs"]
mod naive;
#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/verify/tests/it/proto.rs"]
mod proto;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use auditmon_e2e::{Agent, PATIENCE, eventually};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::fake::{Fake, PASSWORD, USER};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// One entry of `servers`.
fn server(name: &str, address: &str, more: &str) -> String {
    let password = if more.contains("password") {
        ""
    } else {
        &format!(", password: \"{PASSWORD}\"")
    };
    format!("      - {{name: {name}, address: \"{address}\", username: {USER}{password}{more}}}\n")
}

/// Audits as often as it may, and gives up soon.
fn config(servers: &[String]) -> String {
    let head = "sources:\n  immudb:\n    enabled: true\n    interval: 1s\n    timeout: 500ms\n    deadline: 2s\n    servers:\n";
    format!("{head}{}", servers.concat())
}

/// Waits for an event of this name about this server.
#[track_caller]
fn told(agent: &Agent, server: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{name} of {server}"), PATIENCE, || {
        let events = agent
            .get(&format!("/api/v1/events?event_name={name}&limit=1000"))
            .json();
        let all = events["events"].as_array()?.clone();
        let of_it = |event: &Value| event["event_data"]["server"]["name"] == server && wanted(&event["event_data"]);
        all.into_iter().find(of_it)
    })
}

/// A value of `/metrics`.
fn metric(agent: &Agent, name: &str, server: &str, db: &str) -> Option<f64> {
    let series = format!("{name}{{db=\"{db}\",server=\"{server}\"}} ");
    let text = agent.get("/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

#[test]
fn a_lie_is_found_and_stands_while_servers_that_hang_or_are_gone_harm_no_other() {
    let runtime = runtime();
    let (liar, honest) = runtime.block_on(async { (Fake::start().await, Fake::start().await) });
    for fake in [&liar, &honest] {
        fake.change(|world| world.grow("orders", 6, 0));
    }
    // Takes connections and never says a word.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let from_file = format!(", password_file: {}", password.display());
    let servers = |more: &str| {
        config(&[
            server("hung", &hung.local_addr().unwrap().to_string(), ""),
            server("liar", &liar.address.to_string(), more),
            server("gone", &gone, ""),
            server("honest", &honest.address.to_string(), &from_file),
        ])
    };
    let mut agent = Agent::builder().config(&servers("")).start();
    for name in ["liar", "honest"] {
        let event = told(&agent, name, "immudb.audit.ok", |data| data["database"] == "orders");
        assert_eq!((&event["kind"], &event["severity"]), (&"immudb".into(), &"info".into()));
        assert_eq!(event["event_data"]["current"]["tx"], 6);
    }
    let said = |name: &str, reason: &str| {
        told(&agent, name, "immudb.audit.error", |data| data["reason"] == reason);
    };
    said("hung", "timeout");
    said("gone", "unreachable");

    // An older copy, which then grew on its own.
    liar.db("orders", |db| {
        let mut data = naive::Database::default();
        fake::add(&mut data, (0..4).map(|at| fake::plan(at, 0, 1, 0)));
        fake::add(&mut data, (4..9).map(|at| fake::plan(at, 1, 1, 0)));
        db.data = data;
    });
    let event = told(&agent, "liar", "immudb.audit.tampered", |_| true);
    assert_eq!(
        (&event["severity"], &event["outcome"]),
        (&"critical".into(), &"failure".into())
    );
    let data = &event["event_data"];
    assert_eq!(
        (&data["code"], &data["trusted"]["tx"], &data["current"]["tx"]),
        (&"proof".into(), &6.into(), &9.into())
    );
    assert_eq!(
        metric(&agent, "auditmon_immudb_audit_result", "liar", "orders"),
        Some(0.0)
    );
    let health = agent.get("/healthz").expect(200).json()["plugins"]["immudb"].clone();
    assert_eq!(health["state"], "degraded");
    assert!(
        health["reason"].as_str().unwrap().contains("liar/orders (proof)"),
        "{health}"
    );
    let _ = agent.get("/readyz").expect(200);

    // The others are audited on.
    honest.change(|world| world.grow("orders", 3, 0));
    eventually("the honest one is followed", PATIENCE, || {
        (metric(&agent, "auditmon_immudb_curr_tx", "honest", "orders")? == 9.0).then_some(())
    });
    assert_eq!(
        metric(&agent, "auditmon_immudb_audit_result", "honest", "orders"),
        Some(1.0)
    );

    // What was found is known after a kill, also if the server shows the right history again.
    agent.kill();
    liar.db("orders", |db| {
        let mut data = naive::Database::default();
        fake::add(&mut data, (0..7).map(|at| fake::plan(at, 0, 1, 0)));
        db.data = data;
    });
    agent.start_again();
    let event = told(&agent, "liar", "immudb.audit.tampered", |data| {
        data["reason"] == "not-accepted"
    });
    let (tx, hash) = (
        &event["event_data"]["current"]["tx"],
        &event["event_data"]["current"]["hash"],
    );
    assert_eq!((&event["event_data"]["trusted"]["tx"], tx), (&6.into(), &7.into()));

    // Until somebody says so, without a restart.
    let accept = format!(", accept: [{{database: orders, tx: {tx}, hash: {hash}, by: jane, reason: ticket 1234}}]");
    std::fs::write(agent.dir().join("auditmon.yaml"), servers(&accept)).unwrap();
    let _ = agent.run(&["reload"]).expect(0);
    let event = told(&agent, "liar", "immudb.trust", |_| true);
    assert_eq!(
        (&event["username"], &event["event_data"]["reason"]),
        (&"jane".into(), &"ticket 1234".into())
    );
    assert_eq!(
        (&event["event_data"]["old"]["tx"], &event["event_data"]["new"]["tx"]),
        (&6.into(), &7.into())
    );
    eventually("it is in order again", PATIENCE, || {
        (metric(&agent, "auditmon_immudb_audit_result", "liar", "orders")? == 1.0).then_some(())
    });
    // No secret gets out.
    assert!(
        !agent.stderr().contains(PASSWORD) && !agent.dump().iter().any(|event| event.to_string().contains(PASSWORD))
    );
    assert_eq!(agent.stop(), 0);
}

#[test]
fn it_is_off_unless_configured() {
    let agent = Agent::start();
    assert_eq!(agent.get("/healthz").json()["plugins"]["immudb"]["state"], "disabled");
    assert!(!agent.get("/metrics").text().contains("auditmon_immudb_"));
}

#[test]
fn a_finding_is_accepted_from_the_command_line() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    fake.change(|world| world.grow("orders", 6, 0));
    let agent = Agent::builder()
        .config(&config(&[server("db1", &fake.address.to_string(), "")]))
        .start();
    told(&agent, "db1", "immudb.audit.ok", |data| data["database"] == "orders");
    let trust = [
        "immudb",
        "trust",
        "db1",
        "orders",
        "--reason",
        "restored, ticket 7",
        "--by",
        "jane",
    ];
    let refused = agent.run(&trust).expect(1);
    assert!(
        refused.stderr.contains("nothing was found on db1/orders"),
        "{}",
        refused.stderr
    );

    fake.db("orders", |db| {
        db.data = naive::Database::default();
        fake::add(&mut db.data, (0..4).map(|at| fake::plan(at, 0, 1, 0)));
    });
    told(&agent, "db1", "immudb.audit.tampered", |data| {
        data["code"] == "rollback"
    });
    let done = agent.run(&trust).expect(0);
    assert!(
        done.stdout.contains("trusted from now on: transaction 4, hash "),
        "{}",
        done.stdout
    );
    let event = told(&agent, "db1", "immudb.trust", |_| true);
    let data = &event["event_data"];
    assert_eq!(
        (&event["username"], &data["reason"], &data["new"]["tx"]),
        (&"jane".into(), &"restored, ticket 7".into(), &4.into())
    );
    assert_eq!(data["uid"], rustix::process::getuid().as_raw());
    fake.change(|world| world.grow("orders", 3, 2));
    told(&agent, "db1", "immudb.audit.ok", |data| {
        data["current"]["tx"] == 4 || data["current"]["tx"] == 7
    });
    // No listener has the route: there a GET would be answered with 405.
    let _ = agent.get("/immudb/trust").expect(404);
}

/// Held to what the agent remembers, beside it and without it; and nothing is remembered of it.
#[test]
fn a_server_is_checked_once() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    fake.change(|world| {
        world.grow("orders", 6, 0);
        world.grow("billing", 2, 0);
    });
    let address = fake.address.to_string();
    let mut agent = Agent::builder().config(&config(&[server("db1", &address, "")])).start();
    told(&agent, "db1", "immudb.audit.ok", |data| data["database"] == "orders");
    fake.change(|world| world.grow("orders", 3, 0));
    eventually("it is followed", PATIENCE, || {
        (metric(&agent, "auditmon_immudb_curr_tx", "db1", "orders")? == 9.0).then_some(())
    });
    // Beside a running agent what it wrote last may not be seen yet.
    let well = agent.run(&["immudb", "check", "db1"]).expect(0);
    assert!(well.stdout.contains("orders: in order ("), "{}", well.stdout);
    agent.stop();

    let well = agent.run(&["immudb", "check", "db1", "--database", "ord*"]).expect(0);
    assert!(
        well.stdout.starts_with("orders: in order (") && well.stdout.lines().count() == 1,
        "{}",
        well.stdout
    );
    assert!(!well.stderr.contains("nothing is remembered"), "{}", well.stderr);
    fake.db("billing", |db| db.unloaded = true);
    let unknown = agent.run(&["immudb", "check", "db1"]).expect(2);
    assert!(
        unknown.stdout.contains("billing: could not check (unloaded)"),
        "{}",
        unknown.stdout
    );
    fake.db("orders", |db| {
        db.data = naive::Database::default();
        fake::add(&mut db.data, (0..4).map(|at| fake::plan(at, 0, 1, 0)));
    });
    for _ in 0..2 {
        let found = agent.run(&["immudb", "check", &address, "--json"]).expect(1);
        let lines = found
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let orders = lines.into_iter().find(|data| data["database"] == "orders").unwrap();
        assert_eq!(
            (&orders["code"], &orders["trusted"]["tx"], &orders["server"]["version"]),
            (&"rollback".into(), &9.into(), &"1.11.1-fake".into())
        );
    }

    // Without any memory and configuration.
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let other = Agent::builder().place();
    let check = |server: &str, more: &[&str]| {
        let words = [
            "immudb",
            "check",
            server,
            "--user",
            USER,
            "--password-file",
            password.to_str().unwrap(),
        ];
        other.run(&[&words[..], more].concat())
    };
    let well = check(&address, &["--database", "orders"]).expect(0);
    assert!(
        well.stdout.contains("orders: in order (first-seen), transaction 4"),
        "{}",
        well.stdout
    );
    assert!(
        well.stderr.contains("nothing is remembered of this server"),
        "{}",
        well.stderr
    );
    fake.change(|world| world.stop());
    let gone = check(&address, &[]).expect(2);
    let says = format!("auditmon: the server {address} can't be reached: ");
    assert!(gone.stderr.starts_with(&says), "{}", gone.stderr);
    assert_eq!(gone.stdout, "");
}

/// What can't be audited at all is told to machines as an auditor would tell it, and to people with what they gave.
#[test]
fn a_check_that_comes_to_nothing_says_why() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    let address = fake.address.to_string();
    let place = Agent::builder().place();
    let password = place.dir().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let password = password.to_str().unwrap();
    let data = |out: &str| {
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{out}");
        lines[0].clone()
    };
    let login = ["--user", USER, "--password-file", password];
    let check = |server: &str, more: &[&str]| place.run(&[&["immudb", "check", server], more].concat()).expect(2);

    let none = check(&address, &[&login[..], &["--database", "nope*", "--json"]].concat());
    let says = "no database is selected of those that the server lists";
    assert_eq!(none.stderr, format!("auditmon: {says}\n"));
    let told = data(&none.stdout);
    assert_eq!(
        (
            &told["result"],
            &told["reason"],
            &told["text"],
            &told["server"]["version"]
        ),
        (&"error".into(), &"none".into(), &says.into(), &"1.11.1-fake".into())
    );
    let nobody = check(&address, &["--json"]);
    let says = format!("auditmon: {address} asks for a login; give --user and --password-file\n");
    assert_eq!(nobody.stderr, says);
    assert_eq!(data(&nobody.stdout)["reason"], "login");
    let refused = check(&address, &["--user", "other", "--password-file", password, "--json"]);
    assert!(refused.stderr.contains("the login is refused"), "{}", refused.stderr);
    assert_eq!(data(&refused.stdout)["reason"], "login");
    for (more, says) in [
        (["--database", ""], "--database: names have"),
        (["--user", ""], "--user: has 1 to 63 bytes"),
    ] {
        let wrong = check(
            &address,
            &[&login[usize::from(more[0] == "--user") * 2..], &more].concat(),
        );
        assert!(wrong.stderr.contains(says), "{}", wrong.stderr);
    }
    for wrong in ["", "db1:abc", "no such:host"] {
        let wrong = check(wrong, &[]);
        assert!(
            wrong.stderr.starts_with("auditmon: expected host:port, such as "),
            "{}",
            wrong.stderr
        );
    }
    // Nobody has a name that ends so.
    let other = check("db2.invalid", &["--json"]);
    let lines: Vec<&str> = other.stderr.lines().collect();
    assert_eq!(
        lines[0],
        "auditmon: `db2.invalid` is no server of the configuration and was taken as db2.invalid:3322"
    );
    assert!(
        lines[1].starts_with("auditmon: the server db2.invalid:3322 can't be reached: "),
        "{}",
        other.stderr
    );
    let told = data(&other.stdout);
    assert_eq!(
        (&told["reason"], &told["server"]["address"], &told["database"]),
        (&"unreachable".into(), &"db2.invalid:3322".into(), &"".into())
    );
    fake.change(|world| world.auth = false);
    let unneeded = check(&address, &login);
    assert!(
        unneeded.stderr.contains("; leave out --user to audit that"),
        "{}",
        unneeded.stderr
    );
}

/// As a start does, and with one fault for one mistake.
#[test]
fn files_of_a_server_are_looked_at_before_a_start() {
    let place = Agent::builder().place();
    let text = place.dir().join("text.pem");
    std::fs::write(&text, "no key").unwrap();
    let open = place.dir().join("open");
    std::fs::write(&open, PASSWORD).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (text, open) = (text.to_str().unwrap(), open.to_str().unwrap());
    for (setting, says) in [
        ("signing_keys: [/nope.pem]", "signing_keys: /nope.pem: No such file"),
        (&format!("signing_keys: [{text}]"), &format!("signing_keys: {text}: ")),
        (
            "username: a, password_file: /nope",
            "password_file: expected a file that holds a secret, but /nope can't be read",
        ),
        (
            &format!("username: a, password_file: {open}"),
            &format!("password_file: expected a file that holds a secret, but {open} can't be read: mode 0644"),
        ),
    ] {
        let config = place.dir().join("immudb.yaml");
        let section =
            format!("sources: {{immudb: {{enabled: true, servers: [{{address: db.example.com, {setting}}}]}}}}\n");
        std::fs::write(&config, section).unwrap();
        let config = config.to_str().unwrap();
        for verb in ["check", "run"] {
            let output = place.run(&["-c", config, verb, "--disable", "kernel"]).expect(78);
            let faults: Vec<&str> = output
                .stderr
                .lines()
                .filter(|line| line.starts_with("auditmon: "))
                .collect();
            assert_eq!(faults.len(), 1, "{verb}: {}", output.stderr);
            assert!(
                faults[0].contains("immudb.yaml:1:") && faults[0].contains(says),
                "{verb}: {}",
                output.stderr
            );
        }
    }
    let reason = ["immudb", "trust", "db1", "orders", "--reason", " "];
    let empty = place.run(&reason).expect(2);
    assert!(empty.stderr.contains("--reason: is empty"), "{}", empty.stderr);
}

#[test]
fn without_an_auditor_nothing_can_be_trusted() {
    let agent = Agent::start();
    let trust = ["immudb", "trust", "db1", "orders", "--reason", "x"];
    let refused = agent.run(&trust).expect(1);
    assert!(refused.stderr.contains("`sources.immudb` is off"), "{}", refused.stderr);
}
