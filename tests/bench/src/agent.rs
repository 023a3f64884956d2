//! The agent under test: started, asked for its metrics, stopped or killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Bench, Fault};

/// Longest start.
const START: Duration = Duration::from_secs(120);
/// Longest end.
const END: Duration = Duration::from_secs(30);

/// A data directory with its configuration.
pub struct Place {
    binary: PathBuf,
    dir: PathBuf,
    /// An API key that may write and read.
    pub key: String,
}

impl Place {
    /// An empty one, which stays until the end of the run: ext4 doesn't use inodes again whose files were removed in the
    /// last minutes, and has to pass all of them for each file that is made.
    pub fn new(bench: &Bench, name: &str) -> Result<Self, Fault> {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let dir = bench.dir.join(format!("{name}-{number}"));
        std::fs::create_dir_all(&dir)?;
        let mut place = Self {
            binary: bench.binary.clone(),
            dir,
            key: String::new(),
        };
        place.configure("")?;
        place.key = place
            .command(&["keys", "create", "bench", "--scopes", "write,read"])?
            .trim()
            .to_owned();
        Ok(place)
    }

    /// Writes the configuration: payloads stay however many there are; `more` is put behind it.
    pub fn configure(&self, more: &str) -> Result<(), Fault> {
        let text = format!(
            "http: {{listen: \"127.0.0.1:0\"}}\njournal: {{max_size: 40GiB, keep: {{age: 24h, size: 40GiB}}}}\n{more}\n"
        );
        Ok(std::fs::write(self.file(), text)?)
    }

    fn file(&self) -> PathBuf {
        self.dir.join("bench.yaml")
    }

    fn prepare(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(self.file()).arg("--data-dir").arg(&self.dir);
        command
    }

    /// What a command of the agent prints.
    pub fn command(&self, words: &[&str]) -> Result<String, Fault> {
        let out = self.prepare().args(words).stderr(Stdio::inherit()).output()?;
        if !out.status.success() {
            return Err(format!("auditmon {} ended with {}", words.join(" "), out.status).into());
        }
        Ok(String::from_utf8(out.stdout)?)
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a command of the agent prints, however it ends.
    pub fn output(&self, words: &[&str]) -> Result<Vec<u8>, Fault> {
        Ok(self.prepare().args(words).stderr(Stdio::inherit()).output()?.stdout)
    }

    /// Starts the agent and waits until it is ready.
    pub fn start(&self) -> Result<Agent, Fault> {
        self.start_without(&[])
    }

    /// The same with these plugins turned off.
    pub fn start_without(&self, plugins: &[&str]) -> Result<Agent, Fault> {
        let begin = Instant::now();
        let mut child = self
            .prepare()
            .arg("run")
            .args(plugins.iter().flat_map(|plugin| ["--disable", plugin]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or("no stderr")?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("agent.log"))?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || follow(stderr, log, begin, &tell));
        let mut agent = Agent {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ready: Duration::ZERO,
        };
        match told.recv_timeout(START) {
            Ok((address, ready)) => {
                agent.address = address;
                agent.ready = ready;
                Ok(agent)
            }
            Err(_) => {
                agent.kill()?;
                let log = std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                Err(format!("the agent did not become ready: {}", last.join(" / ")).into())
            }
        }
    }

    /// Lines of the journal's dump that hold `text`; calls `each` for every one.
    pub fn dump(&self, text: &str, mut each: impl FnMut(&[u8])) -> Result<u64, Fault> {
        let mut child = self
            .prepare()
            .args(["journal", "dump"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::with_capacity(1 << 20, child.stdout.take().ok_or("no stdout")?);
        let finder = memchr::memmem::Finder::new(text);
        let (mut line, mut count) = (Vec::new(), 0);
        loop {
            line.clear();
            if out.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if finder.find(&line).is_some() {
                count += 1;
                each(&line);
            }
        }
        let status = child.wait()?;
        if status.success() {
            Ok(count)
        } else {
            Err(format!("journal dump ended with {status}").into())
        }
    }

    /// Bytes of the data directory's events database.
    pub fn store_bytes(&self) -> u64 {
        std::fs::metadata(self.dir.join("events.db")).map_or(0, |meta| meta.len())
    }
}

/// Copies the log to a file and tells address and time when the agent says that it is ready.
fn follow(
    stderr: impl std::io::Read,
    mut log: std::fs::File,
    begin: Instant,
    tell: &mpsc::Sender<(SocketAddr, Duration)>,
) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let after = begin.elapsed();
        // The log is for the person who looks for a fault.
        let _ = writeln!(log, "{line}");
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        if json["message"] == "ready"
            && let Some(address) = json["listen"].as_str().and_then(|text| text.parse().ok())
        {
            // Nobody waits any more once the start took too long.
            let _ = tell.send((address, after));
        }
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process to being ready.
    pub ready: Duration,
}

impl Agent {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// User and system time of all threads so far, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu_of(self.pid())
    }

    /// Seconds of processor by thread name.
    pub fn threads(&self) -> BTreeMap<String, f64> {
        let mut threads = BTreeMap::new();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks.map(|task| task.path()) {
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            let time = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            let nanos: f64 = time.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
            *threads.entry(name.trim().to_owned()).or_insert(0.0) += nanos / 1e9;
        }
        threads
    }

    /// A value of `/proc/PID/FILE` in kB.
    pub fn kilobytes(&self, file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    /// All series of `/metrics`, by name with labels.
    pub fn metrics(&self) -> Result<Metrics, Fault> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let series = text
            .lines()
            .filter(|line| line.starts_with("auditmon_"))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            });
        Ok(Metrics(series.collect()))
    }

    /// Ends it as a power cut would, as far as the process is concerned.
    pub fn kill(mut self) -> Result<(), Fault> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it in order.
    pub fn stop(mut self) -> Result<(), Fault> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the agent did not end in time".into())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `/metrics` at one moment.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// The sum of all series whose name begins so.
    pub fn sum(&self, prefix: &str) -> f64 {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, value)| value)
            .sum()
    }
}

/// User and system time of all threads of a process so far, in seconds.
pub fn cpu_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the command's closing bracket the fields begin with the third.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| {
            rest.split_ascii_whitespace()
                .map(|field| field.parse().unwrap_or(0.0))
                .collect()
        })
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    (field(14) + field(15)) / rustix::param::clock_ticks_per_second() as f64
}

/// Where the time went, most first: `journal 41 %, …`.
pub fn shares(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> String {
    let mut spent: Vec<(&str, f64)> = after
        .iter()
        .map(|(name, time)| (name.as_str(), time - before.get(name).copied().unwrap_or(0.0)))
        .collect();
    spent.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = spent.iter().map(|(_, time)| time).sum();
    let worth = spent.iter().filter(|(_, time)| *time > all / 50.0);
    worth
        .map(|(name, time)| format!("{name} {:.0} %", time / all * 100.0))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether the folder is where a power cut would be felt.
pub fn is_memory(dir: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(dir).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| kind == TMPFS))
}
