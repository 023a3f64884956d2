//! The control thread and the handle to it.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::file::{self, ConfiguredFile, FileError};

/// The thread's name in /proc/PID/task/TID/comm.
const NAME: &str = "control";
/// Pieces of work that may wait; further ones are refused.
const WAITING: usize = 64;
/// How long a caller waits unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the control thread did not do what it was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// Too many wait already.
    #[error("{what}: refused, {WAITING} others wait for the control thread{doing}")]
    Busy {
        /// What was asked for.
        what: &'static str,
        /// What it does meanwhile.
        doing: Doing,
    },
    /// It was not begun in time, and will not be.
    #[error("{what}: not begun within {seconds} s: the control thread is busy{doing}")]
    NotBegun {
        /// What was asked for.
        what: &'static str,
        /// How long was waited, s.
        seconds: u64,
        /// What it does meanwhile.
        doing: Doing,
    },
    /// It was begun and has not ended in time; it may still end.
    #[error("{what}: not ended within {seconds} s, the control thread still works on it")]
    Unfinished {
        /// What was asked for.
        what: &'static str,
        /// How long was waited, s.
        seconds: u64,
    },
    /// The work panicked; the thread goes on.
    #[error("{what}: a fault of the program ended it; the log has more")]
    Panicked {
        /// What was asked for.
        what: &'static str,
    },
    /// The thread is gone.
    #[error("{what}: the control thread has ended")]
    Ended {
        /// What was asked for.
        what: &'static str,
    },
}

/// What the thread is doing, and since how many seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Doing(Option<(&'static str, u64)>);

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some((what, seconds)) => write!(f, " ({what}, for {seconds} s)"),
        }
    }
}

struct Job {
    what: &'static str,
    work: Box<dyn FnOnce() + Send>,
}

struct Shared {
    jobs: SyncSender<Job>,
    thread: OnceLock<ThreadId>,
    current: Mutex<Option<(&'static str, Instant)>>,
    files: RwLock<Vec<ConfiguredFile>>,
}

/// The way to the control thread. Cheap to clone.
///
/// Every method blocks the caller, at most for its patience (5 s unless [`Control::within`] says otherwise); from
/// async code of which others wait, call it on a blocking thread.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    patience: Duration,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// The runtime's hold on which files [`Control::open`] opens.
#[derive(Clone)]
pub struct Files(Arc<Shared>);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&*self.0.files.read()).finish()
    }
}

impl Files {
    /// From now on exactly these: the files of a configuration that was validated.
    pub fn replace(&self, files: Vec<ConfiguredFile>) {
        *self.0.files.write() = files;
    }

    /// Reads a file that is not configured yet: for whoever loads a new configuration, which names further files.
    ///
    /// # Errors
    /// As [`Control::read_file`], except that every path is opened.
    pub fn read(&self, file: &ConfiguredFile) -> Result<Vec<u8>, FileError> {
        let control = Control {
            shared: self.0.clone(),
            patience: PATIENCE,
        };
        file::read(&file.path, control.open_any(file.clone())?)
    }

    /// Looks at a file that is not configured yet, without reading it; `None` if that can't be done.
    #[must_use]
    pub fn look(&self, path: &Path) -> Option<Metadata> {
        let control = Control {
            shared: self.0.clone(),
            patience: PATIENCE,
        };
        let path = path.to_owned();
        control
            .run("looking at a configured file", move || std::fs::metadata(path).ok())
            .ok()?
    }
}

impl Control {
    /// Starts the control thread. `prepare` runs on it first, and sets what it keeps.
    ///
    /// # Errors
    /// The thread can't be started, or `prepare` failed; then the thread has ended.
    pub fn start(prepare: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<(Self, Files)> {
        let (jobs, waiting) = sync_channel(WAITING);
        let shared = Arc::new(Shared {
            jobs,
            thread: OnceLock::new(),
            current: Mutex::new(None),
            files: RwLock::default(),
        });
        // Not the handle itself: the thread ends when the last handle is gone.
        let for_thread = Arc::downgrade(&shared);
        let (tell, told) = sync_channel(1);
        std::thread::Builder::new().name(NAME.into()).spawn(move || {
            if let Some(shared) = for_thread.upgrade() {
                // Set once, here.
                let _ = shared.thread.set(std::thread::current().id());
            }
            let prepared = prepare();
            let good = prepared.is_ok();
            // The other end waits until this is told.
            let _ = tell.send(prepared);
            if good {
                work(&waiting, |current| {
                    if let Some(shared) = for_thread.upgrade() {
                        *shared.current.lock() = current;
                    }
                });
            }
        })?;
        told.recv()
            .unwrap_or_else(|_| Err(io::Error::other("the control thread has died")))?;
        let files = Files(shared.clone());
        let control = Self {
            shared,
            patience: PATIENCE,
        };
        Ok((control, files))
    }

    /// A control thread with what the caller may do, for tests and tools; it opens these files.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn of_caller(files: Vec<ConfiguredFile>) -> io::Result<Self> {
        let (control, allowed) = Self::start(|| Ok(()))?;
        allowed.replace(files);
        Ok(control)
    }

    /// The same thread, asked with another patience.
    #[must_use]
    pub fn within(&self, patience: Duration) -> Self {
        Self {
            shared: self.shared.clone(),
            patience,
        }
    }

    /// Has `work` done on the control thread. It should be as small as can be: what needs no privilege is not done
    /// there, and what waits for long makes all others wait.
    ///
    /// # Errors
    /// [`ControlError`] says whether the work was begun, which matters where doing it twice would.
    pub fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ControlError> {
        const QUEUED: u8 = 0;
        const BEGUN: u8 = 1;
        const GIVEN_UP: u8 = 2;
        if self.shared.thread.get() == Some(&std::thread::current().id()) {
            // Waiting for itself would take for ever.
            return Ok(work());
        }
        let state = Arc::new(AtomicU8::new(QUEUED));
        let for_job = state.clone();
        let (tell, told) = sync_channel(1);
        let job = Job {
            what,
            work: Box::new(move || {
                let begin = for_job.compare_exchange(QUEUED, BEGUN, Ordering::AcqRel, Ordering::Acquire);
                if begin.is_ok() {
                    // Whoever asked may have given up.
                    let _ = tell.try_send(work());
                }
            }),
        };
        match self.shared.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(ControlError::Busy {
                    what,
                    doing: self.doing(),
                });
            }
            Err(TrySendError::Disconnected(_)) => return Err(ControlError::Ended { what }),
        }
        let seconds = self.patience.as_secs();
        match told.recv_timeout(self.patience) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Disconnected) => Err(ControlError::Panicked { what }),
            Err(RecvTimeoutError::Timeout) => {
                let given_up = state.compare_exchange(QUEUED, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
                if given_up.is_ok() {
                    return Err(ControlError::NotBegun {
                        what,
                        seconds,
                        doing: self.doing(),
                    });
                }
                // It may have ended this moment.
                told.try_recv().map_err(|_| ControlError::Unfinished { what, seconds })
            }
        }
    }

    /// What the thread is doing, if it does something.
    #[must_use]
    pub fn doing(&self) -> Doing {
        let current = *self.shared.current.lock();
        Doing(current.map(|(what, since)| (what, since.elapsed().as_secs())))
    }

    /// Opens a configured file for reading, also one that only root may read.
    ///
    /// # Errors
    /// The path is not among the configured ones, the file can't be opened or is no regular file, or it is a secret
    /// that others than its owner may read.
    pub fn open(&self, path: &Path) -> Result<File, FileError> {
        let configured = {
            let files = self.shared.files.read();
            // A file that is named twice, once as a secret, is one.
            let named = files.iter().filter(|file| file.path == path);
            named.max_by_key(|file| file.secret).cloned()
        };
        self.open_any(configured.ok_or_else(|| FileError::NotConfigured(path.to_owned()))?)
    }

    fn open_any(&self, file: ConfiguredFile) -> Result<File, FileError> {
        self.run("opening a configured file", move || file::open(&file))?
    }

    /// Reads a configured file of at most [`MAX_FILE`](super::MAX_FILE) bytes. Only opening it is done by the control
    /// thread.
    ///
    /// # Errors
    /// As [`Control::open`], and if it is longer or can't be read.
    pub fn read_file(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        file::read(path, self.open(path)?)
    }

    /// Listens on a TCP port, also on one that needs privilege; the socket is non-blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let listener = self
            .run("listening", move || TcpListener::bind(address))
            .map_err(io::Error::other)??;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

fn work(jobs: &Receiver<Job>, current: impl Fn(Option<(&'static str, Instant)>)) {
    while let Ok(Job { what, work }) = jobs.recv() {
        current(Some((what, Instant::now())));
        // A panic was reported where it happened; whoever asked sees that no answer comes.
        let _ = catch_unwind(AssertUnwindSafe(work));
        current(None);
    }
}
