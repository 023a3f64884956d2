//! What commands do to the journal themselves while no agent runs. They take
//! the agent's place for a moment: its lock, recovery, an event, an orderly end.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use auditmon_config::Loaded;
use auditmon_core::batch::push_agent_event;
use auditmon_core::emitter::Refused;
use auditmon_core::event::{Data, Draft};
use auditmon_journal::{Handle, Linger, RealFs, Records};

use crate::agent::{About, NotStored, StartError};
use crate::remembered::Remembered;
use crate::start::{journal_options, lock, make_data_dir, other};

/// How long an event may take to be on disk, and the journal to end.
const DEADLINE: Duration = Duration::from_secs(10);

/// The journal of a data directory on which no agent runs.
pub struct Offline {
    journal: Handle,
    host: String,
    // Given back last.
    _lock: auditmon_journal::DirLock,
}

impl Offline {
    /// Opens it, and recovers it as a start does; `remembered` is what [`by`](crate::remembered::by) says.
    ///
    /// # Errors
    /// An agent runs, or the journal can't be opened.
    pub fn open(data_dir: &Path, loaded: &Loaded, remembered: Remembered) -> Result<Self, StartError> {
        make_data_dir(data_dir)?;
        let lock = lock(data_dir)?;
        let mut options = journal_options(data_dir, loaded);
        options.remembered = remembered;
        let (writer, _) =
            auditmon_journal::open(RealFs, options).map_err(|error| other(format!("journal: {error}")))?;
        // No sink says here what it has: nothing may go.
        writer.set_hold("offline", 0);
        let journal = writer
            .spawn(Box::new(|_| {}))
            .map_err(|error| other(format!("journal: its thread can't be started: {error}")))?;
        Ok(Self {
            journal,
            host: loaded.host.clone(),
            _lock: lock,
        })
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Handle {
        &self.journal
    }

    /// Stores an event of the agent about itself.
    ///
    /// # Errors
    /// It is not on disk, or nobody knows.
    pub fn tell(&self, what: About<'_>, data: &serde_json::Value) -> Result<(), StartError> {
        self.store(what, data).map_err(|error| other(error.to_string()))
    }

    /// The same.
    ///
    /// # Errors
    /// As [`tell`](Self::tell), told apart.
    pub fn store(&self, what: About<'_>, data: &serde_json::Value) -> Result<(), NotStored> {
        let (name, outcome, severity) = what;
        let data = data.to_string();
        let draft = Draft {
            outcome,
            severity,
            data: Data::Raw(&data),
            ..Draft::new(name, "auditmon")
        };
        let mut records = Records::new();
        push_agent_event(&mut records, &self.host, draft)
            .map_err(|_| NotStored::Refused("the event could not be made".to_owned()))?;
        let (done, stored) = mpsc::channel();
        let done = Box::new(move |fate| {
            // Who asked may have given up.
            let _ = done.send(fate);
        });
        self.journal.submit(records, Linger::NONE, done);
        match stored.recv_timeout(DEADLINE) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refused)) => Err(Refused::from(refused).into()),
            Err(_) => Err(NotStored::late(DEADLINE)),
        }
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        self.journal.close(DEADLINE);
    }
}
