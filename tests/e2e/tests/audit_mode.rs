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

use auditmon_e2e::{PATIENCE, binary, ended, eventually, is_root, request};
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
    of_its_own(dir, Command::new(binary()))
}

fn of_its_own(dir: &Path, mut command: Command) -> Command {
    command.arg("audit-mode").env("HOME", dir).env("TMPDIR", dir);
    command.env_remove("LOG_LEVEL");
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
        command.arg("--data-dir").arg(dir.join("data"));
        Self::spawn(dir, command)
    }

    /// With the data directory that it finds by itself.
    fn spawn(dir: &Path, mut command: Command) -> Self {
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        command
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, stdout, stderr }
    }

    /// Waits for a line on stdout that holds this.
    fn says(&self, part: &str) -> String {
        self.writes(&self.stdout, part)
    }

    /// Waits for a file that holds this.
    fn writes(&self, file: &Path, part: &str) -> String {
        let found = || {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.contains(part).then_some(text)
        };
        eventually(
            &format!("{part:?} in {}: {}", file.display(), self.told()),
            PATIENCE,
            found,
        )
    }

    /// What it has said on stderr so far.
    fn told(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = ended(&mut self.child, PATIENCE);
        assert!(status.success(), "{status}: {}", self.told());
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
    let stderr = running.told();
    assert!(
        !stderr.contains(PASSWORD) && stderr.contains("IMMUCLIENT_AUTH: has no use here"),
        "{stderr}"
    );
    // No event is taken here, and there is no file with lines to look at.
    assert!(
        stderr.contains("API key `default`") && !stderr.contains("/api/v1/events"),
        "{stderr}"
    );
    assert!(
        stderr.contains("servers[0].address: is this host") && !stderr.contains("audit-mode:"),
        "{stderr}"
    );
    running.stop();
}

/// What `immuclient audit-mode install` writes.
const INSTALLED: &str = include_str!("../../fixtures/immuclient/immuclient.toml");

/// A server whose user is the one of the installed file.
fn with_their_user(runtime: &Runtime) -> Fake {
    let fake = runtime.block_on(Fake::start());
    fake.change(|world| {
        world.user = ("immudb".to_owned(), "immudb".to_owned());
        world.grow("orders", 6, 0);
    });
    fake
}

/// Ports of the test's own, in place of those in the file that others may have taken.
fn own_ports(command: &mut Command, fake: &Fake) {
    let (port, monitoring) = (fake.address.port().to_string(), free().port().to_string());
    command.args(["1s", "-p", &port, "--audit-monitoring-host", "127.0.0.1"]);
    command.args(["--audit-monitoring-port", &monitoring]);
}

/// By its name, and where immuclient looks for it by itself.
#[test]
fn an_unmodified_file_starts_it() {
    let runtime = runtime();
    let fake = with_their_user(&runtime);
    for named in [true, false] {
        let dir = place();
        let file = dir.path().join("immuclient.toml");
        std::fs::write(&file, INSTALLED).unwrap();
        let mut command = audit_mode(dir.path());
        if named {
            // Not where it is looked for.
            command.arg("--config").arg(&file).env("HOME", dir.path().join("home"));
        }
        own_ports(&mut command, &fake);
        // Directories of neither are there.
        let (pid, log) = (
            dir.path().join("lib/immuclient.pid"),
            dir.path().join("log/immuclient.log"),
        );
        command.env("IMMUCLIENT_PIDFILE", &pid).env("IMMUCLIENT_LOGFILE", &log);
        let running = Running::start(dir.path(), command);
        running.writes(&log, " db: orders, consistent:\ttrue previous state:\t");
        assert_eq!(
            std::fs::read_to_string(&pid).unwrap(),
            format!("{}\n", running.child.id())
        );
        running.stop();
        // Empty where the kernel confines the agent to its own directories.
        assert_eq!(std::fs::read_to_string(&pid).unwrap_or_default(), "");
    }
}

/// The file's own places, on a host that has none of them.
#[test]
fn an_unmodified_file_starts_it_on_a_clean_host() {
    if !is_root("an_unmodified_file_starts_it_on_a_clean_host") {
        return;
    }
    let runtime = runtime();
    let fake = with_their_user(&runtime);
    let dir = place();
    let file = dir.path().join("immuclient.toml");
    std::fs::write(&file, INSTALLED).unwrap();
    let script =
        "for part in lib log; do mount -t tmpfs -o mode=0755 auditmon-e2e /var/$part || exit; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(binary());
    let mut command = of_its_own(dir.path(), command);
    command.arg("--config").arg(&file);
    own_ports(&mut command, &fake);
    let running = Running::spawn(dir.path(), command);
    // As the process sees them.
    let root = PathBuf::from(format!("/proc/{}/root", running.child.id()));
    let log = root.join("var/log/immuclient/immuclient.log");
    running.writes(&log, " db: orders, consistent:\ttrue previous state:\t");
    let pid = std::fs::read_to_string(root.join("var/lib/immuclient/immuclient.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", running.child.id()));
    assert!(root.join("var/lib/immuclient/auditmon/journal").is_dir());
    running.stop();
}

/// As a container has it; the last audit is told as JSON, and lines only from a level on.
#[test]
fn the_variables_of_immugw_and_its_last_audit() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    fake.change(|world| world.grow("orders", 6, 0));
    let (dir, monitoring) = (place(), free());
    let pid = dir.path().join("run/immugw.pid");
    let mut command = audit_mode(dir.path());
    command
        .arg("--immugw")
        .env("IMMUGW_DIR", dir.path())
        .env("IMMUGW_ADDRESS", "0.0.0.0")
        .env("IMMUGW_PORT", "3323")
        .env("IMMUGW_IMMUDB_ADDRESS", fake.address.ip().to_string())
        .env("IMMUGW_IMMUDB_PORT", fake.address.port().to_string())
        .env("IMMUGW_MTLS", "false")
        .env("IMMUGW_PKEY", "")
        .env("IMMUGW_AUDIT", "true")
        .env("IMMUGW_AUDIT_USERNAME", USER)
        .env("IMMUGW_AUDIT_PASSWORD", PASSWORD)
        .env("IMMUGW_AUDIT_INTERVAL", "1s")
        .env("IMMUGW_PIDFILE", &pid)
        .env("LOG_LEVEL", "warn")
        // The port is theirs in any case; a test takes one that is free.
        .env("IMMUGW_AUDIT_MONITORING_HOST", monitoring.ip().to_string())
        .env("IMMUGW_AUDIT_MONITORING_PORT", monitoring.port().to_string());
    let running = Running::start(dir.path(), command);
    let last = |what: &str, wanted: &dyn Fn(&serde_json::Value) -> bool| {
        eventually(what, PATIENCE, || {
            let answer = request("GET", "/lastaudit").try_send(monitoring).ok()?;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let json = answer.json();
            wanted(&json).then(|| (json, answer.text()))
        })
    };
    let (json, text) = last("an audit in order", &|json| json["ConsistencyCheckResult"] == true);
    let hash = fake.db("orders", |db| hex(&fake::last(&db.data)));
    let wanted = format!(
        "{{\"ServerID\":\"{UUID}\",\"ServerAddress\":\"{}\",\"HasRunConsistencyCheck\":true,\"HasError\":false,\
         \"ConsistencyCheckResult\":true,\"PreviousRootIndex\":6,\"PreviousRoot\":\"{hash}\",\"CurrentRootIndex\":6,\
         \"CurrentRoot\":\"{hash}\",\"RunAt\":{}}}\n",
        fake.address, json["RunAt"]
    );
    assert_eq!(text, wanted);
    assert_eq!(
        std::fs::read_to_string(&pid).unwrap(),
        format!("{}\n", running.child.id())
    );
    assert_eq!(request("GET", "/version").try_send(monitoring).unwrap().status, 404);
    let shown = metrics(monitoring).unwrap();
    assert!(
        shown.contains("\nimmugw_audit_result_per_server{server_address="),
        "{shown}"
    );

    fake.db("orders", |db| {
        let mut data = naive::Database::default();
        fake::add(&mut data, (0..9).map(|at| fake::plan(at, 1, 1, 0)));
        db.data = data;
    });
    let (json, _) = last("a finding", &|json| json["CurrentRootIndex"] == 9);
    assert_eq!(
        (
            &json["HasRunConsistencyCheck"],
            &json["HasError"],
            &json["ConsistencyCheckResult"]
        ),
        (&true.into(), &false.into(), &false.into())
    );
    let lines = running.says(" WARNING: audit #");
    // The interval is no line of the log.
    assert!(
        lines.starts_with("1s\nimmugw 20") && !lines.contains(" INFO: "),
        "{lines}"
    );
    running.stop();
    assert_eq!(std::fs::read_to_string(&pid).unwrap_or_default(), "");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    let unreached = format!("Initialization failed: the server {gone} can't be reached: ");
    for (mut command, says) in [
        (with(gone, &[]), unreached.as_str()),
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

/// What a single run can't audit is said, with flags of its own.
#[test]
fn a_single_run_that_audits_nothing_says_why() {
    let runtime = runtime();
    let fake = runtime.block_on(Fake::start());
    let dir = place();
    let (host, port) = (fake.address.ip().to_string(), fake.address.port().to_string());
    let login = ["--audit-username", USER, "--audit-password", PASSWORD];
    for (more, says) in [
        (
            &[&login[..], &["--audit-databases", "nope"]].concat()[..],
            "auditmon: no database is selected of those that the server lists\n".to_owned(),
        ),
        (
            &[][..],
            format!(
                "auditmon: {} asks for a login; give --audit-username and --audit-password-file\n",
                fake.address
            ),
        ),
    ] {
        let mut command = audit_mode(dir.path());
        command.args(["--single-run", "-a", &host, "-p", &port]).args(more);
        let output = command.arg("--data-dir").arg(dir.path().join("data")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.ends_with(&says), "{said}");
    }
}

#[test]
fn faults_end_the_start_and_name_the_flag() {
    let dir = place();
    let no_key = dir.path().join("no-key.pem");
    std::fs::write(&no_key, "no key").unwrap();
    let no_key = no_key.to_str().unwrap();
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
        (
            &["--audit-username=a", "--audit-password=enc:%%%", "--print-config"],
            78,
            "--audit-password: sources.immudb.servers[0].password: expected base64 behind `enc:`",
        ),
        (
            // It begins without its server, so what is wrong is found.
            &["--immugw", "--server-signing-pub-key", no_key],
            78,
            "auditmon: --server-signing-pub-key: sources.immudb.servers[0].signing_keys: ",
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
