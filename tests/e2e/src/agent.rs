//! The agent as a process.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Column as _, Connection as _, Row as _, TypeInfo as _, ValueRef as _};

use crate::http::{Answer, Http, Raw, Request, request};
use crate::{PATIENCE, eventually};

/// The agent's binary: `AUDITMON_BIN`, else the one beside this test's target directory.
#[must_use]
pub fn binary() -> PathBuf {
    std::env::var_os("AUDITMON_BIN").map_or_else(|| beside("auditmon"), PathBuf::from)
}

/// A binary of this workspace.
fn beside(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test
        .ancestors()
        .find(|dir| dir.file_name().is_some_and(|name| name == "deps"));
    let binary = profile
        .and_then(Path::parent)
        .unwrap_or_else(|| Path::new("."))
        .join(name);
    assert!(
        binary.exists(),
        "{} is not there: run `cargo build -p {name}` first",
        binary.display()
    );
    binary
}

/// What came of a command that ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; −1 − signal if it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Fails with everything it said unless the exit code is this one.
    #[track_caller]
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -1 - status.signal().unwrap_or(0))
}

/// How an agent is to be started.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Option<String>,
    data_dir: Option<PathBuf>,
    env: BTreeMap<String, String>,
    args: Vec<String>,
    uid: Option<u32>,
    kernel: bool,
    test_plugins: bool,
    wrapper: Vec<String>,
    port: u16,
}

impl Builder {
    /// The configuration file's text.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// A data directory of the test's own, instead of `data` in the temporary directory.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// A variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A further argument of `run`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Runs as this user and group; needs root.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Leaves the kernel source as it is by default: on. Tests run without it.
    #[must_use]
    pub fn kernel(mut self) -> Self {
        self.kernel = true;
        self
    }

    /// Starts the binary that has the plugins of `tests/agent` beside its own.
    #[must_use]
    pub fn test_plugins(mut self) -> Self {
        self.test_plugins = true;
        self
    }

    /// Runs the agent under another command, such as `strace …`; the agent must stay its own process or child.
    #[must_use]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|s| (*s).to_owned()).collect();
        self
    }

    /// Listens on this port of loopback instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Agent {
        self.try_start()
            .unwrap_or_else(|output| panic!("the agent did not start: {output:?}"))
    }

    /// Starts it and waits until it is ready, or has ended.
    ///
    /// # Errors
    /// It ended: what it said.
    pub fn try_start(self) -> Result<Agent, Output> {
        self.ready(&["/readyz"])
    }

    /// Starts it and waits until it answers probes, ready or not: for starts on a full disk.
    #[track_caller]
    #[must_use]
    pub fn start_unready(self) -> Agent {
        self.ready(&["/livez"])
            .unwrap_or_else(|output| panic!("the agent did not start: {output:?}"))
    }

    /// Starts it and waits until it says that it is ready, without asking it anything: for listeners with TLS.
    #[track_caller]
    #[must_use]
    pub fn start_unasked(self) -> Agent {
        self.ready(&[])
            .unwrap_or_else(|output| panic!("the agent did not start: {output:?}"))
    }

    fn ready(self, probes: &[&str]) -> Result<Agent, Output> {
        let mut agent = self.place();
        agent.spawn();
        agent.await_ready(probes)?;
        Ok(agent)
    }

    /// Makes the directories and starts nothing: for commands without an agent.
    #[must_use]
    pub fn place(self) -> Agent {
        let dir = tempfile::Builder::new()
            .prefix("auditmon-e2e-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let data_dir = self.data_dir.clone().unwrap_or_else(|| dir.path().join("data"));
        let config = self.config.as_ref().map(|text| {
            let file = dir.path().join("auditmon.yaml");
            std::fs::write(&file, text).unwrap();
            file
        });
        if let Some(uid) = self.uid {
            // Whoever runs it makes the data directory; it needs a place to do so.
            open_up(dir.path());
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).unwrap();
        }
        Agent {
            builder: self,
            dir: Some(dir),
            data_dir,
            config,
            child: None,
            listen: None,
            key: None,
            page_url: None,
            stderr_start: 0,
        }
    }
}

fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An agent, running or not, with its directories. Dropping it kills the process; the directories stay
/// if the test fails.
pub struct Agent {
    builder: Builder,
    dir: Option<tempfile::TempDir>,
    data_dir: PathBuf,
    config: Option<PathBuf>,
    child: Option<Child>,
    listen: Option<SocketAddr>,
    key: Option<String>,
    page_url: Option<String>,
    /// Where the present run's part of the stderr file starts.
    stderr_start: usize,
}

impl Agent {
    /// Begins to describe an agent.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An agent with defaults, without the kernel source.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    // --- places

    /// The temporary directory: configuration, data, outputs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where it listens.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen.expect("the agent is not running")
    }

    /// The API key `default`, printed at the first start.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key
            .as_deref()
            .expect("no first start was seen, so there is no key")
    }

    /// The one-time address of the page, printed at the first start.
    #[must_use]
    pub fn page_url(&self) -> &str {
        self.page_url
            .as_deref()
            .expect("no first start was seen, so there is no address")
    }

    /// What this run wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        let all = std::fs::read(self.dir().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.stderr_start..).unwrap_or_default()).into_owned()
    }

    /// What all runs wrote to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir().join("stdout")).unwrap_or_default()).into_owned()
    }

    /// Log lines (JSON) of this run.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        self.stderr()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for a log line whose message contains `text`.
    pub fn await_log(&self, text: &str) -> Value {
        eventually(&format!("a log line `{text}`"), PATIENCE, || {
            self.log()
                .into_iter()
                .find(|line| line["message"].as_str().is_some_and(|message| message.contains(text)))
        })
    }

    // --- process

    fn command(&self, verb: &[&str]) -> Command {
        let binary = if self.builder.test_plugins {
            beside("auditmon-test-agent")
        } else {
            binary()
        };
        let mut command = match self.builder.wrapper.split_first() {
            Some((wrapper, args)) if verb.first() == Some(&"run") => {
                let mut command = Command::new(wrapper);
                command.args(args).arg(binary);
                command
            }
            _ => Command::new(binary),
        };
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(verb)
            .current_dir(self.dir());
        // Nothing of this machine's own set-up gets in.
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir());
        command.env("AUDITMON_HTTP_LISTEN", format!("127.0.0.1:{}", self.builder.port));
        command.envs(&self.builder.env).stdin(Stdio::null());
        if let Some(uid) = self.builder.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the agent is running already");
        let append = |name: &str| {
            File::options()
                .create(true)
                .append(true)
                .open(self.dir().join(name))
                .unwrap()
        };
        let (stdout, stderr) = (append("stdout"), append("stderr"));
        let mut command = self.command(&["run"]);
        if !self.builder.kernel {
            command.args(["--disable", "kernel"]);
        }
        command.args(&self.builder.args).stdout(stdout).stderr(stderr);
        self.stderr_start = std::fs::metadata(self.dir().join("stderr")).map_or(0, |meta| meta.len() as usize);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    /// Waits until the running process is ready, or has ended.
    fn await_ready(&mut self, probes: &[&str]) -> Result<(), Output> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return Err(Output {
                    code: code(status),
                    stdout: self.stdout(),
                    stderr: self.stderr(),
                });
            }
            let ready = self.log().into_iter().find(|line| line["message"] == "ready");
            self.listen = ready.and_then(|line| line["listen"].as_str()?.parse().ok());
            if let Some(listen) = self.listen {
                let good = |probe: &&str| {
                    request("GET", probe)
                        .try_send(listen)
                        .is_ok_and(|answer| answer.status == 200)
                };
                let first = self.stderr().contains("First start");
                if first && self.key.is_none() {
                    self.read_first_start();
                }
                if probes.iter().all(good) && (!first || self.key.is_some()) {
                    return Ok(());
                }
            }
            assert!(
                Instant::now() < until,
                "not ready within {PATIENCE:?}; stderr:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes key and address from what the first start prints, once all of it is there.
    fn read_first_start(&mut self) {
        let text = self.stderr();
        let after = |start: &str| Some(text.split_once(start)?.1.split_once('\n')?.0.trim().to_owned());
        if text.contains("curl ") && text.ends_with("/api/v1/events\n\n") || text.contains("/api/v1/events\n\n{") {
            self.key = after("API key `default`:");
            self.page_url = after("Web page (one visit):");
        }
    }

    /// Starts it again in the same directories and waits until it is ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.spawn();
        self.await_ready(&["/readyz"])
            .unwrap_or_else(|output| panic!("the agent did not start again: {output:?}"));
    }

    /// Starts it again and waits until it says that it is ready; asks no probe, for agents that speak TLS.
    #[track_caller]
    pub fn start_again_unasked(&mut self) {
        self.spawn();
        self.await_ready(&[])
            .unwrap_or_else(|output| panic!("the agent did not start again: {output:?}"));
    }

    /// Starts it again and waits until it answers probes, ready or not.
    #[track_caller]
    pub fn start_again_unready(&mut self) {
        self.spawn();
        self.await_ready(&["/livez"])
            .unwrap_or_else(|output| panic!("the agent did not start again: {output:?}"));
    }

    /// Stops it in order, and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        assert_eq!(self.stop(), 0, "{}", self.stderr());
        self.start_again();
    }

    /// Its process id; of the wrapper, if there is one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the agent is not running").id()
    }

    /// Whether the process is there.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end and gives the exit code (−1 − signal if it was killed).
    pub fn wait(&mut self) -> i32 {
        let mut child = self.child.take().expect("the agent is not running");
        self.listen = None;
        code(ended(&mut child, PATIENCE))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait(), -1 - Signal::KILL.as_raw());
    }

    /// SIGTERM, and waits for the end; gives the exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// The id of the thread of this name.
    #[must_use]
    pub fn thread(&self, name: &str) -> Option<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        tasks.filter_map(Result::ok).find_map(|task| {
            let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
            (comm.trim_end() == name)
                .then(|| task.file_name().to_string_lossy().parse().ok())
                .flatten()
        })
    }

    /// From here on `VmHWM` is the peak since now.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("the peak can be reset");
    }

    /// A figure of `/proc/PID/status` in KiB: `VmRSS`, `VmHWM`.
    #[must_use]
    pub fn memory_kib(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .expect("a figure in KiB")
    }

    // --- commands

    /// Runs a verb of the binary with this configuration and data directory.
    #[must_use]
    pub fn run(&self, verb: &[&str]) -> Output {
        let mut command = self.command(verb);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Output {
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// All events of the journal, by `auditmon journal dump`, which must find no gap. Beside a running agent it
    /// waits for what the agent has on disk by now: the dump shows that within a second.
    #[track_caller]
    #[must_use]
    pub fn dump(&self) -> Vec<Value> {
        let running = self.listen.map_or(0, |_| {
            self.get("/healthz").json()["journal"]["entries"].as_u64().unwrap()
        });
        eventually("what is on disk is in the dump", PATIENCE, || {
            let output = self.run(&["journal", "dump", "--all"]).expect(0);
            let lines: Vec<Value> = output
                .stdout
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let entries = lines.last().map_or(0, |line| line["seq"].as_u64().unwrap() + 1);
            (entries >= running).then(|| lines.into_iter().filter(|line| line.get("event").is_some()).collect())
        })
    }

    /// Checks the journal by `auditmon journal fsck`; anything but clean fails the test.
    #[track_caller]
    pub fn fsck(&self) {
        let output = self.run(&["journal", "fsck"]).expect(0);
        assert!(output.stdout.contains("clean"), "{}", output.stdout);
    }

    /// Makes a key and gives its secret.
    #[track_caller]
    #[must_use]
    pub fn create_key(&self, name: &str, scopes: &str) -> String {
        let secret = self.run(&["keys", "create", name, "--scopes", scopes]).expect(0).stdout;
        secret.trim_end().to_owned()
    }

    // --- HTTP

    /// A connection that is kept alive.
    #[track_caller]
    #[must_use]
    pub fn http(&self) -> Http {
        Http::connect(self.listen())
    }

    /// A connection for raw bytes.
    #[track_caller]
    #[must_use]
    pub fn raw(&self) -> Raw {
        Raw::connect(self.listen())
    }

    /// GET with the key, if there is one.
    #[track_caller]
    #[must_use]
    pub fn get(&self, target: &str) -> Answer {
        let request = request("GET", target);
        match &self.key {
            Some(key) => request.key(key),
            None => request,
        }
        .send(self.listen())
    }

    /// The beginning of a POST to the event API, with the key.
    #[must_use]
    pub fn events(&self, query: &str) -> Request {
        request("POST", &format!("/api/v1/events{query}")).key(self.key())
    }

    /// Posts JSON to the event API.
    #[track_caller]
    #[must_use]
    pub fn post(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.events("").json(body).send(self.listen())
    }

    /// Events of the store as the API gives them, once `count` fit the query.
    #[track_caller]
    #[must_use]
    pub fn await_events(&self, query: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} events for {query}"), PATIENCE, || {
            let answer = self.get(&format!("/api/v1/events{query}")).expect(200).json();
            let events = answer["events"].as_array().unwrap();
            (events.len() >= count).then(|| events.clone())
        })
    }

    // --- store

    /// Rows of `events.db`, read beside the agent. Blobs come as text.
    #[must_use]
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        rows(&self.data_dir.join("events.db"), sql)
    }

    /// Keeps the store from writing, as another program with a long transaction would, until it is dropped.
    #[must_use]
    pub fn block_store(&self) -> BlockedStore {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let file = self.data_dir.join("events.db");
        let db = runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(file).busy_timeout(PATIENCE);
            let mut db = SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
            db
        });
        BlockedStore {
            _runtime: runtime,
            _db: db,
        }
    }
}

/// See [`Agent::block_store`].
pub struct BlockedStore {
    _db: SqliteConnection,
    _runtime: tokio::runtime::Runtime,
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept: {}", dir.keep().display());
        }
    }
}

/// Waits for the end of a process; kills it and fails the test if it doesn't end in time.
pub fn ended(child: &mut Child, within: Duration) -> ExitStatus {
    let until = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > until {
            // It may have ended this moment.
            let _ = child.kill();
            panic!("the process did not end within {within:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn rows(file: &Path, sql: &str) -> Vec<Vec<Value>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .read_only(true)
            .busy_timeout(PATIENCE);
        let mut db = SqliteConnection::connect_with(&options)
            .await
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut db)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.iter()
            .map(|row| {
                row.columns()
                    .iter()
                    .map(|column| {
                        let at = column.ordinal();
                        let raw = row.try_get_raw(at).unwrap();
                        match raw.type_info().name() {
                            _ if raw.is_null() => Value::Null,
                            "INTEGER" => row.get::<i64, _>(at).into(),
                            "REAL" => row.get::<f64, _>(at).into(),
                            "BLOB" => String::from_utf8_lossy(&row.get::<Vec<u8>, _>(at)).into(),
                            _ => row.get::<String, _>(at).into(),
                        }
                    })
                    .collect()
            })
            .collect()
    })
}
