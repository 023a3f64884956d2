//! TLS at the listener: own certificate, clients' certificates, renewal, and what has no place there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use auditmon_e2e::authority::Authority;
use auditmon_e2e::{Agent, PATIENCE, Raw, event, eventually, is_root};

/// Files of one test.
struct Files(tempfile::TempDir);

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        mode(&path, 0o600);
        path
    }

    fn pair(&self, name: &str, (cert, key): &(String, String)) {
        self.write(&format!("{name}.key"), key);
        self.write(&format!("{name}.pem"), cert);
    }

    fn tls(&self, more: &str) -> String {
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        format!(
            "http:\n  tls:\n    cert_file: {}\n    key_file: {}\n{more}",
            cert.display(),
            key.display()
        )
    }
}

/// Asks over TLS as `localhost`; the answer's code, or 0.
fn ask(agent: &Agent, ca: &Path, more: &[&str], target: &str) -> u16 {
    let port = agent.listen().port();
    let output = Command::new("curl")
        .args([
            "-sS",
            "-m",
            "60",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
        ])
        .arg("--cacert")
        .arg(ca)
        .args(["--connect-to", &format!("localhost:{port}:{}", agent.listen())])
        .args(more)
        .arg(format!("https://localhost:{port}{target}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (version, code) = text.split_once(' ').unwrap();
    let code = code.parse().unwrap();
    assert!(code == 0 || version == "2", "HTTP/2 is agreed on: {text}");
    code
}

#[test]
fn events_are_accepted_over_tls_and_a_renewed_certificate_is_taken() {
    let (files, first, second) = (Files::new(), Authority::new("first"), Authority::new("second"));
    files.pair("server", &first.sign());
    let (first_ca, second_ca) = (
        files.write("first.ca", &first.pem),
        files.write("second.ca", &second.pem),
    );
    let agent = Agent::builder().config(&files.tls("")).start_unasked();
    assert!(agent.page_url().starts_with("https://"), "{}", agent.page_url());
    let key = format!("x-api-key: {}", agent.key());
    let json = "content-type: application/json";
    let body = event("tls");
    let post = ["-H", &key, "-H", json, "-d", &body];
    assert_eq!(ask(&agent, &first_ca, &post, "/api/v1/events"), 201);
    assert_eq!(
        ask(&agent, &second_ca, &[], "/livez"),
        0,
        "another authority's certificate"
    );
    // Plain HTTP gets no answer.
    let mut raw = Raw::connect(agent.listen());
    raw.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(raw.answer().is_err());

    files.pair("server", &second.sign());
    eventually("the renewed certificate", PATIENCE, || {
        (ask(&agent, &second_ca, &[], "/livez") == 200).then_some(())
    });
    agent.await_log("the certificate was renewed");
    // A broken one is told, and the one before goes on.
    files.write("server.pem", "nonsense");
    agent.await_log("there is no certificate in PEM form in it");
    assert_eq!(ask(&agent, &second_ca, &[], "/livez"), 200);
}

#[test]
fn a_key_that_only_root_may_read_is_followed_by_an_agent_that_is_not_root() {
    if !is_root("tls::a_key_that_only_root_may_read") {
        return;
    }
    for run_as in ["run_as: nobody\n", "run_as: root\n"] {
        let (files, first, second) = (Files::new(), Authority::new("first"), Authority::new("second"));
        // Authorities are for the test, everything else is root's alone.
        let authorities = Files::new();
        mode(files.0.path(), 0o700);
        files.pair("server", &first.sign());
        let second_ca = authorities.write("second.ca", &second.pem);
        let mut agent = Agent::builder().config(&format!("{run_as}{}", files.tls(""))).place();
        mode(agent.dir(), 0o755);
        agent.start_again_unasked();
        assert_eq!(ask(&agent, &second_ca, &[], "/livez"), 0);
        files.pair("server", &second.sign());
        eventually("the renewed certificate", PATIENCE, || {
            (ask(&agent, &second_ca, &[], "/livez") == 200).then_some(())
        });
        // A key for everybody is no key, also while the agent runs.
        mode(&files.path("server.key"), 0o644);
        let said = agent.await_log("lets others than its owner at a secret")["message"].to_string();
        let remedy = format!("chmod 600 {}", files.path("server.key").display());
        assert!(said.contains("http.tls.key_file: ") && said.contains(&remedy), "{said}");
        assert_eq!(ask(&agent, &second_ca, &[], "/livez"), 200);
        // Other files, which were not named when privileges were given up.
        let third = Authority::new("third");
        let third_ca = authorities.write("third.ca", &third.pem);
        files.pair("other", &third.sign());
        let other = files.tls("").replace("/server.", "/other.");
        let (changed, pending) = agent.reload_with(&format!("{run_as}{other}"));
        assert!(
            changed.contains("http.tls") && pending.is_empty(),
            "{changed}; {pending}"
        );
        assert_eq!(ask(&agent, &third_ca, &[], "/livez"), 200);
        // Those are followed from now on.
        files.pair("other", &second.sign());
        eventually("the next one", PATIENCE, || {
            (ask(&agent, &second_ca, &[], "/livez") == 200).then_some(())
        });
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn clients_need_a_certificate_where_an_authority_is_named() {
    let (files, authority, other) = (Files::new(), Authority::new("ours"), Authority::new("other"));
    files.pair("server", &authority.sign());
    files.pair("client", &authority.sign());
    files.pair("stranger", &other.sign());
    let ca = files.write("ca.pem", &authority.pem);
    let more = format!("    client_ca_file: {}\n", ca.display());
    let agent = Agent::builder().config(&files.tls(&more)).start_unasked();
    let with = |name: &str| {
        let (cert, key) = (files.path(&format!("{name}.pem")), files.path(&format!("{name}.key")));
        let (cert, key) = (cert.display().to_string(), key.display().to_string());
        ask(&agent, &ca, &["--cert", &cert, "--key", &key], "/livez")
    };
    assert_eq!(with("client"), 200);
    assert_eq!(with("stranger"), 0);
    assert_eq!(ask(&agent, &ca, &[], "/livez"), 0);
}

#[test]
fn beyond_loopback_tls_is_enough_and_a_silent_client_is_closed() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    files.pair("server", &authority.sign());
    let config = files.tls("  head_timeout: 1s\n  listen: 0.0.0.0:0\n");
    let agent = Agent::builder().config(&config).start_unasked();
    // It never begins the handshake.
    Raw::connect(([127, 0, 0, 1], agent.listen().port()).into()).expect_closed();
}

#[test]
fn files_that_cannot_work_end_the_start() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    let refuse = |says: &str| {
        let output = Agent::builder().config(&files.tls("")).try_start().err().unwrap();
        assert_eq!(output.code, 78, "{output:?}");
        assert!(output.stderr.contains(says), "{}", output.stderr);
        assert!(!output.stderr.contains("hunter2"));
    };
    refuse("http.tls.cert_file: ");
    files.pair("server", &authority.sign());
    mode(&files.path("server.key"), 0o640);
    refuse("mode 0640 lets others than its owner at a secret; chmod 600 ");
    files.write("server.key", "hunter2");
    refuse("there is no private key in PEM form");
    files.pair("server", &(authority.sign().0, authority.sign().1));
    refuse("can't be used");
}
