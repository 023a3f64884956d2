//! `auditmon audit-mode` in the real binary, against a server that proves by brute force and lies when told to.
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

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use auditmon_e2e::{PATIENCE, binary, ended, eventually, request};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::fake::{Fake, PASSWORD, USER, UUID};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// A place for everything that it writes.
fn place() -> tempfile::TempDir {
    let builder = tempfile::Builder::new().prefix("auditmon-e2e-").tempdir_in("/var/tmp");
    builder.unwrap()
}

/// `auditmon audit-mode` with nothing of this process' environment that it would look at.
fn audit_mode(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("audit-mode").env("HOME", dir).env("TMPDIR", dir);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().into_owned();
        if ["IMMUCLIENT_", "IMMUGW_", "AUDITMON_"]
            .iter()
            .any(|begin| text.starts_with(begin))
        {
            command.env_remove(name);
        }
    }
    command
}

/// It while it runs; killed at the end.
struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    fn start(dir: &Path, mut command: Command) -> Self {
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        command.arg("--data-dir").arg(dir.join("data"));
        command
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, stdout, stderr }
    }

    /// Waits for a line on stdout that holds this.
    fn says(&self, part: &str) -> String {
        eventually(&format!("{part:?} on stdout"), PATIENCE, || {
            let text = std::fs::read_to_string(&self.stdout).unwrap();
            text.contains(part).then_some(text)
        })
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = ended(&mut self.child, PATIENCE);
        assert!(
            status.success(),
            "{status}: {}",
            std::fs::read_to_string(&self.stderr).unwrap()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn metrics(at: SocketAddr) -> Option<String> {
    let answer = request("GET", "/metrics").try_send(at).ok()?;
    (answer.status == 200).then(|| answer.text())
}

#[test]
fn the_variables_of_a_container_are_enough() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    fake.change(|world| world.grow("orders", 6, 0));
    let (dir, monitoring) = (place(), free());
    let mut command = audit_mode(dir.path());
    command
        .env("IMMUCLIENT_IMMUDB_ADDRESS", fake.address.ip().to_string())
        .env("IMMUCLIENT_IMMUDB_PORT", fake.address.port().to_string())
        .env("IMMUCLIENT_AUTH", "true")
        .env("IMMUCLIENT_MTLS", "false")
        .env("IMMUCLIENT_AUDIT_USERNAME", USER)
        .env(
            "IMMUCLIENT_AUDIT_PASSWORD",
            format!("enc:{}", BASE64_STANDARD.encode(PASSWORD)),
        )
        .env("IMMUCLIENT_AUDIT_MONITORING_HOST", monitoring.ip().to_string())
        .env("IMMUCLIENT_AUDIT_MONITORING_PORT", monitoring.port().to_string())
        .env("audit-agent-interval", "1s");
    let running = Running::start(dir.path(), command);
    let text = running.says("audit #2 started @ ");
    let address = format!(" INFO: auditor monitoring HTTP server starting on {monitoring} ...\n");
    for line in [
        " INFO: starting auditor with a 1s interval ...\n",
        &address,
        " INFO: audit #1 - list of databases to audit has been (re)loaded - 2 database(s) found: [defaultdb orders]\n",
        " INFO: audit #1 - auditing database orders\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.starts_with("1s\nimmuclientd 20"), "{text}");
    running.says(" db: orders, consistent:\ttrue previous state:\t");
    let labels = format!("{{server_address=\"{}\",server_id=\"{UUID}\"}}", fake.address);
    let shows = |value: i32| {
        let line = format!("immuclient_audit_result_per_server{labels} {value}\n");
        eventually(&line, PATIENCE, || metrics(monitoring)?.contains(&line).then_some(()));
    };
    shows(1);
    let ready = request("GET", "/readyz").try_send(monitoring).unwrap();
    assert_eq!((ready.status, ready.text()), (200, "{\"immudb\":\"OK\"}\n".to_owned()));

    fake.db("orders", |db| {
        let mut data = naive::Database::default();
        fake::add(&mut data, (0..9).map(|at| fake::plan(at, 1, 1, 0)));
        db.data = data;
    });
    running.says("detected possible tampering of db orders remote state (at id 9)");
    shows(0);
    let stderr = std::fs::read_to_string(&running.stderr).unwrap();
    assert!(
        !stderr.contains(PASSWORD) && stderr.contains("IMMUCLIENT_AUTH: has no use here"),
        "{stderr}"
    );
    running.stop();
}

#[test]
fn a_state_directory_is_gone_on_from() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    fake.change(|world| world.grow("orders", 4, 0));
    let state = auditmon_proto::immudb::ImmutableState {
        db: "orders".to_owned(),
        tx_id: 4,
        tx_hash: fake.db("orders", |db| fake::last(&db.data)).to_vec(),
        signature: None,
    };
    // Another history from the first transaction on: at a first contact nobody could tell.
    fake.db("orders", |db| {
        let mut data = naive::Database::default();
        fake::add(&mut data, (0..6).map(|at| fake::plan(at, 1, 1, 0)));
        db.data = data;
    });
    let dir = place();
    let server = dir.path().join("auditor").join(UUID);
    std::fs::create_dir_all(&server).unwrap();
    let text = format!("\norders:{}\n", BASE64_STANDARD.encode(state.encode_to_vec()));
    std::fs::write(server.join(".state"), text).unwrap();
    for (path, mode) in [
        ("auditor", 0o755),
        (&format!("auditor/{UUID}"), 0o755),
        (&format!("auditor/{UUID}/.state"), 0o644),
    ] {
        std::fs::set_permissions(dir.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let password = dir.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with = |mut command: Command| {
        let (host, port) = (fake.address.ip().to_string(), fake.address.port().to_string());
        command.args([
            "1s",
            "-a",
            &host,
            "-p",
            &port,
            "--audit-username",
            USER,
            "--audit-password-file",
        ]);
        command
            .arg(&password)
            .args(["--audit-monitoring-host", "127.0.0.1", "--audit-monitoring-port"]);
        command.arg(free().port().to_string());
        command
    };
    let mut once = with(audit_mode(dir.path()));
    let once = once
        .arg("--single-run")
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&once.stdout);
    assert_eq!(once.status.code(), Some(1), "{said}");
    assert!(said.contains("\norders: TAMPERED (proof): "), "{said}");

    let running = Running::start(dir.path(), with(audit_mode(dir.path())));
    running.says("detected possible tampering of db orders remote state (at id 6)");
    running.stop();
}

/// As upstream does at the start, and never later; immugw's auditor begins in any case.
#[test]
fn a_start_without_a_server_or_with_a_wrong_login_ends() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    let (dir, gone) = (place(), free());
    let with = |address: SocketAddr, more: &[&str]| {
        let mut command = audit_mode(dir.path());
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        command.args(["--immudb-address", &host, "--immudb-port", &port]);
        command.args(["--audit-monitoring-host", "127.0.0.1", "--audit-monitoring-port"]);
        command.arg(free().port().to_string()).args(more);
        command
    };
    let wrong = ["--audit-username", USER, "--audit-password", "T0P5ECRET"];
    for (mut command, says) in [
        (with(gone, &[]), "Initialization failed: the server can't be reached: "),
        (with(fake.address, &wrong), "Invalid login operation: "),
    ] {
        let output = command.arg("--data-dir").arg(dir.path().join("data")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says) && !said.contains("T0P5ECRET"), "{said}");
    }
    assert_eq!(
        fake.change(|world| world.count("OpenSession")),
        1,
        "no user is locked out"
    );

    let mut immugw = with(gone, &[]);
    immugw.arg("--immugw").env("IMMUGW_DIR", dir.path());
    let running = Running::start(dir.path(), immugw);
    running.says("could not be checked: the server can't be reached");
    running.stop();
}

#[test]
fn faults_end_the_start_and_name_the_flag() {
    let dir = place();
    for (arguments, code, says) in [
        (
            &["begin"][..],
            1,
            "ERROR: begin is not matching with any valid arguments.",
        ),
        (
            &["--immudb-port", "x"],
            78,
            "--immudb-port: expected a number from 1 to 65535, found `x`",
        ),
        (
            &["--audit-username", "a"],
            78,
            "--audit-username: expected --audit-password",
        ),
        (&["--config", "/no/such.toml"], 78, "/no/such.toml: can't be read"),
        (&["--no-such-flag"], 2, "--no-such-flag"),
    ] {
        let output = audit_mode(dir.path()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let shown = audit_mode(dir.path())
        .args([
            "--audit-username",
            "a",
            "--audit-password",
            "T0P5ECRET",
            "--print-config",
        ])
        .output()
        .unwrap();
    let (out, said) = (
        String::from_utf8_lossy(&shown.stdout),
        String::from_utf8_lossy(&shown.stderr),
    );
    assert!(
        shown.status.success() && out.contains("# password: ********  # --audit-password"),
        "{out}"
    );
    assert!(!out.contains("T0P5ECRET") && !said.contains("T0P5ECRET"), "{said}");
}
