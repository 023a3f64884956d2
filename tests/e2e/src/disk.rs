//! A slow disk: strace holds back the syncs of the journal's thread.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Agent, PATIENCE, eventually};

/// While it lives, every `fdatasync` of the journal's thread takes `delay` longer to return.
pub struct SlowDisk(Child);

impl SlowDisk {
    /// Attaches to the agent's journal thread.
    #[track_caller]
    #[must_use]
    pub fn attach(agent: &Agent, delay: Duration) -> Self {
        let thread = eventually("a thread `journal`", PATIENCE, || agent.thread("journal"));
        let inject = format!("inject=fdatasync:delay_exit={}", delay.as_micros());
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
