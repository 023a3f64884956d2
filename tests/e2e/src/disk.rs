//! A slow or broken disk: strace holds back or fails the syncs of the journal's thread.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Agent, PATIENCE, eventually};

/// While it lives, the journal's thread is served badly.
pub struct SlowDisk(Child);

impl SlowDisk {
    /// Every `fdatasync` of the journal's thread takes `delay` longer to return.
    #[track_caller]
    #[must_use]
    pub fn attach(agent: &Agent, delay: Duration) -> Self {
        Self::inject(agent, &format!("delay_exit={}", delay.as_micros()))
    }

    /// The next `fdatasync` of the journal's thread fails with this error.
    #[track_caller]
    #[must_use]
    pub fn failing_once(agent: &Agent, error: &str) -> Self {
        Self::inject(agent, &format!("error={error}:when=1"))
    }

    #[track_caller]
    fn inject(agent: &Agent, how: &str) -> Self {
        let thread = eventually("a thread `journal`", PATIENCE, || agent.thread("journal"));
        let inject = format!("inject=fdatasync:{how}");
        let strace = Command::new("strace")
            .args([
                "-e",
                "trace=fdatasync",
                "-e",
                &inject,
                "-o",
                "/dev/null",
                "-p",
                &thread.to_string(),
            ])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is not there: apt-get install strace");
        let disk = Self(strace);
        let pid = format!("TracerPid:\t{}\n", disk.0.id());
        eventually("strace is attached", PATIENCE, || {
            let status = std::fs::read_to_string(format!("/proc/{}/task/{thread}/status", agent.pid())).ok()?;
            status.contains(&pid).then_some(())
        });
        disk
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // It ends by itself with the agent.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
