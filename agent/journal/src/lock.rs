//! One agent a data directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use thiserror::Error;

/// Why the data directory could not be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("held by {command} (pid {pid})")]
    Held {
        /// Its process id; 0 if it has not written it yet.
        pid: u32,
        /// Its command name.
        command: String,
    },
    /// The lock file could not be opened or locked.
    #[error("lock file: {0}")]
    Io(#[from] io::Error),
}

/// A command that only looks for the [`holder`] has the lock for a moment;
/// whoever has it longer is an agent.
const LOOKED_AT: Duration = Duration::from_millis(200);

/// Holds the data directory until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks `dir` by its file `lock`, which then says pid and command name.
    ///
    /// # Errors
    /// [`LockError::Held`] names the other agent.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))?;
        let until = Instant::now() + LOOKED_AT;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(LOOKED_AT / 10);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(file)),
                Err(error) => return Err(LockError::Io(error.into())),
            }
        }
        let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
        let text = format!("{} {}\n", std::process::id(), name.trim());
        // Who holds it is a courtesy: a full disk must not keep an agent from starting.
        let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { _file: file })
    }
}

/// The pid and command of the agent that has `dir` open; `None` if none has. Changes no file.
///
/// # Errors
/// The lock file can't be opened or locked for another reason.
pub fn holder(dir: &Path) -> io::Result<Option<(u32, String)>> {
    // A pipe that somebody put there would be waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(dir.join("lock"));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => match held(file) {
            LockError::Held { pid, command } => Ok(Some((pid, command))),
            LockError::Io(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

fn held(file: File) -> LockError {
    let mut text = String::new();
    let _ = file.take(256).read_to_string(&mut text);
    let (pid, command) = text.trim().split_once(' ').unwrap_or(("", ""));
    LockError::Held {
        pid: pid.parse().unwrap_or(0),
        command: if command.is_empty() {
            "unknown".to_owned()
        } else {
            command.to_owned()
        },
    }
}
