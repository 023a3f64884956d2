//! The lines that operators look for, on stdout or in a file. A thread of its own writes them: whoever reads stdout too
//! slowly holds up no audit.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use auditmon_core::time;

use super::config::{CompatConfig, Level};
use super::go;

/// Most pieces of text that wait; further ones are counted and left out.
const WAITING: usize = 4096;

/// Where lines go.
pub(crate) struct Log {
    level: Level,
    on: bool,
    prefix: &'static str,
    file: Option<PathBuf>,
    out: OnceLock<SyncSender<String>>,
    left_out: AtomicU64,
}

impl Log {
    /// Writes nothing before [`start`](Self::start).
    pub(crate) fn new(config: &CompatConfig) -> Self {
        let prefix = config.program.prefix();
        Self {
            level: config.log_level,
            on: config.log || config.log_file.is_some(),
            // As upstream has it: in a file there is no blank behind the name.
            prefix: if config.log_file.is_some() {
                prefix.trim_end()
            } else {
                prefix
            },
            file: config.log_file.clone(),
            out: OnceLock::new(),
            left_out: AtomicU64::new(0),
        }
    }

    /// Starts the thread; it ends with this.
    pub(crate) fn start(&self) {
        if !self.on {
            return;
        }
        let file = self.file.clone();
        if let Some(dir) = file.as_deref().and_then(Path::parent) {
            // One level, as upstream does; if it can't be made, writing says so.
            let _ = std::fs::create_dir(dir);
        }
        self.out.get_or_init(|| {
            let (sender, lines) = sync_channel(WAITING);
            let thread = std::thread::Builder::new().name("immudb-log".to_owned());
            if let Err(error) = thread.spawn(move || write(&lines, file.as_deref())) {
                tracing::error!("immudb: compat.log: no thread for it: {error}");
            }
            sender
        });
    }

    /// A line of a level.
    pub(crate) fn line(&self, level: Level, text: &str) {
        if level <= self.level {
            let stamp = go::stamp(time::now());
            self.raw(&format!("{}{stamp} {}: {text}\n", self.prefix, level.word()));
        }
    }

    /// Text as it is.
    pub(crate) fn raw(&self, text: &str) {
        let Some(out) = self.out.get() else { return };
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let text = match left_out {
            0 => text.to_owned(),
            count => format!("{}{count} lines were left out\n{text}", self.prefix),
        };
        if out.try_send(text).is_err() {
            self.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
        }
    }
}

/// Writes until the sender is gone.
fn write(lines: &Receiver<String>, file: Option<&Path>) {
    let mut failed = false;
    while let Ok(mut text) = lines.recv() {
        while let Ok(more) = lines.try_recv() {
            text.push_str(&more);
        }
        let written = match file {
            // Opened each time: the file may have been moved away and begun anew.
            Some(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(text.as_bytes())),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
        };
        match written {
            Err(error) if !failed => {
                failed = true;
                let place = file.map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
                tracing::warn!("immudb: compat.log: {place}: {error}; lines are lost");
            }
            Err(_) => {}
            Ok(()) => failed = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in the file once the thread has ended.
    fn written(level: Level, lines: &[(Level, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("immuclient.log");
        std::fs::write(&path, "before\n").unwrap();
        let log = Log::new(&CompatConfig {
            log_file: Some(path.clone()),
            log_level: level,
            ..CompatConfig::default()
        });
        let (sender, receiver) = sync_channel(WAITING);
        log.out.set(sender).unwrap();
        for (level, text) in lines {
            log.line(*level, text);
        }
        drop(log);
        write(&receiver, Some(&path));
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn lines_have_name_time_and_level() {
        let text = written(
            Level::Info,
            &[
                (Level::Info, "audit #1 started"),
                (Level::Debug, "unseen"),
                (Level::Warn, "w"),
                (Level::Error, "e"),
            ],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), ("before", 4));
        // immuclientd2026/11/20 22:34:58 INFO: …
        let (stamp, rest) = lines[1].strip_prefix("immuclientd").unwrap().split_at(19);
        assert!(
            stamp.bytes().all(|b| b.is_ascii_digit() || b"/: ".contains(&b)),
            "{stamp}"
        );
        assert_eq!(rest, " INFO: audit #1 started");
        assert!(lines[2].ends_with(" WARNING: w") && lines[3].ends_with(" ERROR: e"));
        assert_eq!(written(Level::Error, &[(Level::Warn, "w")]), "before\n");
    }

    #[test]
    fn who_does_not_read_holds_nothing_up() {
        let log = Log::new(&CompatConfig {
            log: true,
            ..CompatConfig::default()
        });
        // Before the start nothing is kept.
        log.line(Level::Info, "lost");
        let (sender, receiver) = sync_channel(1);
        log.out.set(sender).unwrap();
        for number in 0..4 {
            log.raw(&format!("{number}\n"));
        }
        assert_eq!(receiver.try_recv().unwrap(), "0\n");
        log.raw("4\n");
        assert_eq!(receiver.try_recv().unwrap(), "immuclientd 3 lines were left out\n4\n");
    }
}
