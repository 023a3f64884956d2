//! The thread that signs, so that no commit waits for a signature or its sync.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::Checkpointer;
use crate::core::{TICK, duration_ns};

/// Wakes the thread.
#[derive(Default)]
pub(crate) struct Alarm {
    /// The thread waits for records; else it needs no call.
    idle: AtomicBool,
    closing: Mutex<bool>,
    wake: Condvar,
}

impl Alarm {
    /// There are new records in the tree.
    pub(crate) fn ring(&self) {
        if self.idle.load(Ordering::SeqCst) {
            // Under the lock, or the call could come before the wait.
            let _closing = self.closing.lock();
            self.wake.notify_all();
        }
    }

    fn close(&self) {
        *self.closing.lock() = true;
        self.wake.notify_all();
    }

    /// Waits until something is due; true if it is the end.
    fn wait_for_records(&self, is_due: impl Fn() -> bool) -> bool {
        let mut closing = self.closing.lock();
        self.idle.store(true, Ordering::SeqCst);
        while !*closing && !is_due() {
            self.wake.wait(&mut closing);
        }
        self.idle.store(false, Ordering::SeqCst);
        *closing
    }

    /// Waits until then; true if it is the end.
    fn wait_until(&self, then: Instant) -> bool {
        let mut closing = self.closing.lock();
        while !*closing && !self.wake.wait_until(&mut closing, then).timed_out() {}
        *closing
    }
}

/// The running thread; ends with a last checkpoint when it is dropped.
pub(crate) struct CheckpointThread {
    alarm: Arc<Alarm>,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointThread {
    /// Signs within `interval` after a new record.
    pub(crate) fn spawn(mut checkpointer: Checkpointer, alarm: Arc<Alarm>, interval: Duration) -> io::Result<Self> {
        let rung = Arc::clone(&alarm);
        // The rest is for the signature and its syncs.
        let pace = interval.mul_f64(0.75);
        let thread = std::thread::Builder::new()
            .name("journal-checkpoint".to_owned())
            .spawn(move || {
                loop {
                    let mut closing = rung.wait_for_records(|| checkpointer.is_due());
                    let begun = Instant::now();
                    let signed = checkpointer.sign(wall_ns());
                    let pause = if signed.is_ok() { pace } else { pace.max(TICK) };
                    closing = closing || rung.wait_until(begun + pause);
                    if closing {
                        // What came between the two; a disk that fails has its last chance.
                        let _ = checkpointer.sign(wall_ns());
                        return;
                    }
                }
            })?;
        Ok(Self {
            alarm,
            thread: Some(thread),
        })
    }
}

impl Drop for CheckpointThread {
    fn drop(&mut self) {
        self.alarm.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn wall_ns() -> u64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    wall.map_or(0, duration_ns)
}
