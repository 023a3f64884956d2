//! Further listeners: each serves what it is told, with its own address and certificates.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use auditmon_e2e::authority::Authority;
use auditmon_e2e::{Agent, event, request};

/// Where a further listener listens.
fn listen(agent: &Agent, name: &str) -> SocketAddr {
    let line = agent.log().into_iter().find(|line| line["listener"] == name);
    let line = line.unwrap_or_else(|| panic!("no line about {name}: {}", agent.stderr()));
    line["listen"].as_str().unwrap().parse().unwrap()
}

fn status(at: SocketAddr, target: &str) -> u16 {
    request("GET", target).send(at).status
}

#[test]
fn each_listener_serves_what_it_is_told() {
    let mut agent = Agent::builder()
        .test_plugins()
        .config(
            "http:\n  listeners:\n    ops: {listen: 127.0.0.1:0, serve: [probes, metrics]}\n    \
             api: {listen: \"127.0.0.1:0\", serve: [ingest]}\n    demo: {listen: \"[::1]:0\"}\n\
             sources: {demosource: {enabled: true}}\n",
        )
        .start();
    let (all, ops, api, demo) = (
        agent.listen(),
        listen(&agent, "ops"),
        listen(&agent, "api"),
        listen(&agent, "demo"),
    );
    for (target, at_ops) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/healthz", 200),
        ("/api/v1/healthz", 200),
        ("/metrics", 200),
        ("/api/v1/events", 404),
        ("/", 404),
        ("/open?token=x", 404),
    ] {
        assert_eq!(status(ops, target), at_ops, "{target}");
        assert_ne!(status(all, target), 404, "{target}: the shared listener has everything");
        assert_eq!(status(demo, target), 404, "{target}");
    }
    // The event API alone: what reads is not there.
    assert_eq!(status(api, "/metrics"), 404);
    assert_eq!(status(api, "/api/v1/events"), 405);
    let post = |at| {
        let request = request("POST", "/api/v1/events").key(agent.key()).json(event("there"));
        request.send(at).status
    };
    assert_eq!((post(api), post(all), post(ops)), (201, 201, 404));
    // What a plugin serves apart is there and nowhere else.
    assert_eq!(
        (status(demo, "/demo"), status(all, "/demo"), status(ops, "/demo")),
        (200, 404, 404)
    );
    let _ = request("GET", "/metrics").send(ops).expect(200);

    assert_eq!(agent.stop(), 0);
    for at in [ops, api, demo] {
        assert!(TcpStream::connect(at).is_err(), "{at} is closed with the agent");
    }
}

#[test]
fn each_listener_has_certificates_of_its_own() {
    let (files, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let ca = write("ca.pem", &authority.pem);
    for name in ["server", "client"] {
        let (cert, key) = authority.sign();
        write(&format!("{name}.pem"), &cert);
        write(&format!("{name}.key"), &key);
    }
    let path = |name: &str| files.path().join(name).display().to_string();
    let config = format!(
        "http:\n  listeners:\n    api:\n      listen: 0.0.0.0:0\n      serve: [ingest, probes]\n      tls: {{cert_file: {}, \
         key_file: {}, client_ca_file: {ca}}}\n",
        path("server.pem"),
        path("server.key")
    );
    let agent = Agent::builder().config(&config).start();
    let port = listen(&agent, "api").port();
    let ask = |more: &[&str]| {
        let output = Command::new("curl")
            .args([
                "-sS",
                "-m",
                "60",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
                &ca,
            ])
            .args(["--connect-to", &format!("localhost:{port}:127.0.0.1:{port}")])
            .args(more)
            .arg(format!("https://localhost:{port}/livez"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (cert, key) = (path("client.pem"), path("client.key"));
    assert_eq!(ask(&["--cert", &cert, "--key", &key]), "200");
    assert_eq!(ask(&[]), "000", "clients need a certificate");
    // The shared one goes on without.
    assert_eq!(status(agent.listen(), "/livez"), 200);

    // A certificate that can't be used is told with its key, at a start and at a reload.
    std::fs::write(Path::new(&path("server.pem")), "nonsense").unwrap();
    let says = "http.listeners.api.tls.cert_file: ";
    let reload = agent.run(&["reload"]).expect(78);
    assert!(reload.stderr.contains(says), "{}", reload.stderr);
    assert_eq!(ask(&["--cert", &cert, "--key", &key]), "200", "the one before goes on");
    let output = Agent::builder().config(&config).try_start().err().unwrap();
    assert_eq!(output.code, 78, "{output:?}");
    assert!(output.stderr.contains(says), "{}", output.stderr);
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!("http: {{listeners: {{ops: {{listen: \"{address}\", serve: [metrics]}}}}}}\n");
    let output = Agent::builder().config(&config).try_start().err().unwrap();
    assert_eq!(output.code, 1, "{output:?}");
    let line = output.stderr.lines().last().unwrap();
    let wanted = format!("auditmon: http.listeners.ops.listen: {address} can't be listened on: Address already in use");
    assert!(line.starts_with(&wanted), "{line}");
    assert!(!output.stderr.contains("First start"), "no secret is lost");
}

#[test]
fn listeners_are_checked_and_a_new_one_waits_for_a_restart() {
    let agent = Agent::start();
    let file = agent.dir().join("further.yaml");
    std::fs::write(
        &file,
        "http: {listeners: {ops: {listen: \"127.0.0.1:9100\", serve: [probes, web]}}}\n",
    )
    .unwrap();
    let checked = agent.run(&["--config", &file.display().to_string(), "check"]).expect(0);
    let row = format!("{:<15} http://127.0.0.1:9100  ops: probes, web\n", "");
    assert!(checked.stdout.contains(&row), "{}", checked.stdout);
    std::fs::write(
        &file,
        "http: {insecure: true, listeners: {ops: {listen: \"0.0.0.0:9100\"}}}\n",
    )
    .unwrap();
    let output = agent
        .run(&["--config", &file.display().to_string(), "check"])
        .expect(78);
    assert!(
        output.stderr.contains("`http.listeners.ops.insecure: true`"),
        "{}",
        output.stderr
    );
    std::fs::write(
        &file,
        "http: {listeners: {ops: {listen: \"0.0.0.0:9100\", insecure: true}}}\n",
    )
    .unwrap();
    let output = agent.run(&["--config", &file.display().to_string(), "check"]).expect(0);
    assert!(
        output
            .stderr
            .contains("http.listeners.ops.listen: `0.0.0.0:9100` is reachable"),
        "{}",
        output.stderr
    );

    let agent = Agent::builder().config("{}\n").start();
    let config = agent.dir().join("auditmon.yaml");
    std::fs::write(
        config,
        "http: {listeners: {ops: {listen: \"127.0.0.1:0\", serve: [metrics]}}}\n",
    )
    .unwrap();
    let reloaded = agent.run(&["reload"]).expect(0).stdout;
    assert_eq!(reloaded, "needs a restart of the agent: http.listeners\n");
}
