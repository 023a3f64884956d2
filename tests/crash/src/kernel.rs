//! The live kernel, borrowed: one test at a time on this machine, given back as it was found, also when a
//! test fails.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auditmon_source_kernel::control::{Control, Loaded};
use auditmon_source_kernel::holder::{Holder, Process};
use auditmon_source_kernel::status::{SettingKind, Status};
use rustix::fs::{FlockOperation, flock};

/// Shared with whoever else tests audit on this machine.
const LOCK: &str = "/tmp/auditmon-kernel.lock";
/// How long another user of audit is waited for.
const WAIT: Duration = Duration::from_secs(300);
/// Any user message: makes the kernel notice that its daemon is dead.
const USER_MESSAGE: u16 = 2500;

/// The borrowed kernel. Drop it last: what ran on it must be gone.
pub struct Live {
    /// A control socket.
    pub control: Control,
    before: Status,
    rules: Vec<Loaded>,
    _lock: File,
}

impl Live {
    /// Takes the lock and looks; `None`, said loudly, where the test cannot run.
    #[must_use]
    pub fn borrow(test: &str) -> Option<Self> {
        Self::borrow_within(test, WAIT)
    }

    /// The same with a patience of its own.
    #[must_use]
    pub fn borrow_within(test: &str, wait: Duration) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED {test}: the live kernel needs root");
            return None;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(LOCK)
            .unwrap();
        let deadline = Instant::now() + wait;
        let mut told = false;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if !told {
                eprintln!("{test}: waiting for {LOCK}");
                told = true;
            }
            if Instant::now() > deadline {
                eprintln!("SKIPPED {test}: {LOCK} is held for {wait:?}");
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut control = skip(test, Control::of_caller())?;
        let mut named = None;
        let before = loop {
            let status = skip(test, control.status())?;
            match Holder::find(status.pid) {
                Holder::Process(process) if status.pid != 0 => {
                    if named.replace(process.pid) != Some(process.pid) {
                        eprintln!("{test}: waiting for {process}, which is registered");
                    }
                    if Instant::now() > deadline {
                        eprintln!("SKIPPED {test}: audit is taken by {process}");
                        return None;
                    }
                    std::thread::sleep(Duration::from_millis(500));
                }
                _ => break status,
            }
        };
        let rules = control.rules().unwrap();
        Some(Self {
            control,
            before,
            rules,
            _lock: lock,
        })
    }

    /// Records or events that the kernel counted as lost.
    pub fn lost(&mut self) -> u32 {
        self.control.status().unwrap().lost
    }

    /// Fails unless nobody is registered, and rules and settings are as they were found.
    #[track_caller]
    pub fn assert_as_found(&mut self) {
        let status = self.control.status().unwrap();
        assert_eq!(status.pid, 0, "somebody is registered");
        for kind in SettingKind::ALL {
            assert_eq!(status.value(kind), self.before.value(kind), "{}", kind.name());
        }
        assert_eq!(self.control.rules().unwrap(), self.rules);
    }

    /// Makes the kernel forget a dead daemon.
    fn forget_dead(&mut self) {
        for _ in 0..20 {
            match self.control.status() {
                Ok(status) if status.pid != 0 && Process::find(status.pid).is_none() => {}
                _ => return,
            }
            // Refused only if nobody may: then there is nothing to mend.
            let _ = self.control.message(USER_MESSAGE, b"auditmon-crash: is anybody there");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn skip<T, E: std::fmt::Display>(test: &str, result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| eprintln!("SKIPPED {test}: {error}")).ok()
}

impl Drop for Live {
    fn drop(&mut self) {
        self.forget_dead();
        for rule in self.control.rules().unwrap_or_default() {
            if !self.rules.contains(&rule)
                && let Loaded::Rule(rule) = rule
            {
                let _ = self.control.delete_rule(&rule);
            }
        }
        for kind in SettingKind::ALL {
            if let Some(value) = self.before.value(kind) {
                let _ = self.control.set(kind, value);
            }
        }
    }
}

/// Failing `execve` calls that number themselves in the path. Killed when dropped.
pub struct Load(Child);

/// Folder, which does not exist, of the paths that are called.
pub const LOAD_DIR: &str = "/nonexistent/auditmon-load/";

impl Load {
    /// Starts `count` calls with numbers from `first` at `rate` a second (0: as fast as can be) on `threads`
    /// threads. It must be started while auditing is on: an older process is not seen by the kernel.
    #[must_use]
    pub fn start(program: &str, first: u64, count: u64, rate: u64, threads: usize) -> Self {
        let args = [first, count, rate, threads as u64].map(|number| number.to_string());
        Self(
            Command::new(program)
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Waits for its end and gives the time that it took.
    pub fn wait(&mut self, within: Duration) -> Duration {
        let begin = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(
                begin.elapsed() < within,
                "the calls did not end within {within:?}: the kernel holds them up"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        begin.elapsed()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
