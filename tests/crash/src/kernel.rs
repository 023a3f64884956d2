//! Load for the live kernel's audit.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use auditmon_live::Live;

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
