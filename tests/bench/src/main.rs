//! Measures the release binary beside the machine's own limits of the same run, and prints one table.
//!
//! `cargo build --release -p auditmon -p auditmon-bench && target/release/bench [--quick] [--dir DIR] [PART…]`
//!
//! The agent is `$AUDITMON_BIN`, or `auditmon` beside this program. Data goes to a fresh folder in DIR (`/var/tmp`),
//! which should be on a real disk, and is removed at the end. What each row means: `docs/measurements.md`.

mod agent;
mod backlog;
mod events;
mod generator;
mod http;
mod idle;
mod immudb;
mod kernel;
mod limits;
mod load;
mod plugins;
mod sinks;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use table::Table;

/// Anything that can go wrong, in words.
type Fault = Box<dyn std::error::Error>;

/// Measures something and adds rows.
type Part = fn(&Bench, &mut Table) -> Result<(), Fault>;

/// Parts by name, in the order in which they run.
const PARTS: [(&str, Part); 9] = [
    ("limits", limits::run),
    ("acks", http::acks),
    ("ndjson", http::ndjson),
    ("idle", idle::run),
    ("backlog", backlog::run),
    ("sinks", sinks::run),
    ("plugins", plugins::run),
    ("immudb", immudb::run),
    ("kernel", kernel::run),
];

/// What all parts need.
struct Bench {
    /// The agent's binary.
    binary: PathBuf,
    /// A folder of this run.
    dir: PathBuf,
    quick: bool,
}

impl Bench {
    /// A shorter time when in a hurry.
    fn time(&self, seconds: u64) -> Duration {
        Duration::from_secs(if self.quick { seconds.div_ceil(4) } else { seconds })
    }

    /// A smaller number when in a hurry.
    fn count(&self, number: u64) -> u64 {
        if self.quick { number / 5 } else { number }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.split_first() {
        Some((&"generate", rest)) => generator::main(rest),
        Some((&"execute", rest)) => load::main(rest),
        _ => measure(&words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn measure(words: &[&str]) -> Result<(), Fault> {
    let mut quick = false;
    let mut base = PathBuf::from("/var/tmp");
    let mut wanted = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--quick" => quick = true,
            "--dir" => base = words.next().ok_or("--dir needs a folder")?.into(),
            part if PARTS.iter().any(|(name, _)| *name == part) => wanted.push(part),
            _ => {
                let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
                return Err(format!("usage: bench [--quick] [--dir DIR] [{}]…", names.join("|")).into());
            }
        }
    }
    let dir = Folder(base.join(format!("auditmon-bench-{}", std::process::id())));
    std::fs::create_dir_all(&dir.0)?;
    let bench = Bench {
        binary: binary()?,
        dir: dir.0.clone(),
        quick,
    };
    println!("{}\n", machine(&base));
    let mut table = Table::default();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.contains(&name) {
            eprintln!("bench: {name}");
            // What the part before left in the page cache is not this one's.
            rustix::fs::sync();
            if let Err(fault) = part(&bench, &mut table) {
                table.row(name, "failed", "", fault.to_string());
            }
        }
    }
    println!("{}", table.finish());
    println!("\nload at the end: {}", load_average());
    Ok(())
}

/// Removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is only space in a folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn binary() -> Result<PathBuf, Fault> {
    if let Some(path) = std::env::var_os("AUDITMON_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let beside = own.parent().unwrap_or(Path::new(".")).join("auditmon");
    if beside.exists() {
        Ok(beside)
    } else {
        Err(format!(
            "{} is not there: cargo build --release, or set AUDITMON_BIN",
            beside.display()
        )
        .into())
    }
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn machine(base: &Path) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |m| m.1);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    format!(
        "{cores} × {model}, Linux {kernel}, data in {}, load before: {}",
        base.display(),
        load_average()
    )
}
