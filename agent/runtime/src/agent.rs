//! The agent: what the binary starts, asks, changes and stops.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auditmon_config::{ConfigErrors, Loaded, Logging};
use auditmon_core::emitter::{Emitter, Refused};
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::plugin::Entry;
use auditmon_core::time::Nanos;
use auditmon_journal::{DirLock, Linger};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::accounts::AccountError;
use crate::erase::Eraser;
use crate::parts::Parts;
use crate::plugins::{Plugins, View};
use crate::prepare::Prepared;
use crate::privileges::Privileges;
use crate::protect::Protect;
use crate::reload::Reloads;
use crate::status::{self, Status};
use crate::tls::Tls;
use crate::{start, stop};

pub use crate::start::{make_data_dir, root_url};
pub use crate::stop::DEADLINE as STOP_DEADLINE;

/// How long an event about the agent itself may take to be on disk.
const STORED: Duration = Duration::from_secs(2);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't work.
    #[error("{0}")]
    Config(String),
    /// The data directory can't be made or used.
    #[error("{path}: the data directory can't be used: {why}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Another agent has the data directory.
    #[error("{path}: held by another agent: {command}, pid {pid}")]
    Held {
        /// The directory.
        path: PathBuf,
        /// Its process id.
        pid: u32,
        /// Its command name.
        command: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<AccountError> for StartError {
    fn from(error: AccountError) -> Self {
        Self::Other(error.to_string())
    }
}

/// Reads the configuration anew; files may be readable by the control thread only, so it reads them with
/// [`Privileges::reader`].
pub type Load = Box<dyn Fn(&Privileges) -> Result<Loaded, ConfigErrors> + Send + Sync>;
/// Changes the agent's own log; tells what is wrong if it can't.
pub type SetLogging = Box<dyn Fn(&Logging) -> Result<(), String> + Send + Sync>;

/// What the binary hands over.
pub struct Setup {
    /// What is to run.
    pub prepared: Prepared,
    /// What is left of the privileges of the start.
    pub privileges: Privileges,
    /// The agent's version.
    pub version: &'static str,
    /// Reads the configuration anew, for a reload.
    pub load: Load,
    /// Changes the log, for a reload.
    pub set_logging: SetLogging,
}

/// What is printed once, on the first start in a data directory.
pub struct FirstStart {
    /// Secret of the key `default`.
    pub key: String,
    /// One-time token of the page.
    pub token: String,
}

/// What the binary prints once the agent is at work.
pub struct Started {
    /// On the first start: the secrets.
    pub first: Option<FirstStart>,
    /// Where it listens.
    pub listen: std::net::SocketAddr,
    /// Where people reach it, without a slash at its end.
    pub root_url: String,
    /// Plugins with their states.
    pub plugins: BTreeMap<&'static str, auditmon_core::health::Health>,
}

/// A running agent. Clones are the same agent.
#[derive(Clone)]
pub struct Agent(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) version: &'static str,
    pub(crate) since: Nanos,
    pub(crate) entries: Vec<Entry>,
    pub(crate) load: Load,
    pub(crate) set_logging: SetLogging,
    pub(crate) parts: Arc<Parts>,
    /// For events about the agent itself.
    pub(crate) own: Emitter,
    pub(crate) eraser: Arc<Eraser>,
    pub(crate) protect: Arc<Protect>,
    /// Fires when the agent begins to end.
    pub(crate) stopping: CancellationToken,
    pub(crate) view: View,
    pub(crate) reloads: Mutex<Reloads>,
    /// Who changes plugins holds it: a reload, the end.
    pub(crate) running: tokio::sync::Mutex<Running>,
}

/// What is changed by a reload and ended at the end.
pub(crate) struct Running {
    /// The configuration that the agent started with.
    pub(crate) started: Arc<Loaded>,
    /// The one whose live keys are at work.
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) plugins: Plugins,
    /// Ends the listener and the admin socket.
    pub(crate) close: CancellationToken,
    pub(crate) serving: Vec<AbortOnDropHandle<()>>,
    /// The listener's certificates, if it has any.
    pub(crate) tls: Option<Arc<Tls>>,
    /// The same of further listeners.
    pub(crate) further_tls: Vec<Arc<Tls>>,
    /// End with the agent.
    pub(crate) helpers: Vec<AbortOnDropHandle<()>>,
    pub(crate) lock: Option<DirLock>,
}

impl Agent {
    /// Starts the agent; it is at work when this returns.
    ///
    /// # Errors
    /// It could not start.
    pub async fn start(setup: Setup) -> Result<(Self, Started), StartError> {
        start::start(setup).await
    }

    /// How everything is. Reads files: may wait for the disk.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let reloads = inner.reloads.lock().clone();
        status::status(inner.version, inner.since, &inner.parts, &inner.view, &reloads)
    }

    /// Ends it in order: sources hand over what they hold, the journal is closed, sinks deliver what is left; all
    /// within [`STOP_DEADLINE`]. A second call waits for the first.
    pub async fn stop(&self) {
        stop::stop(&self.0).await;
    }
}

impl Inner {
    /// One event of the agent about itself; that it can't be stored is logged, nothing more.
    pub(crate) async fn tell(&self, what: About<'_>, data: &serde_json::Value) {
        tell(&self.own, what, data).await;
    }
}

/// Name, outcome and severity of an event of the agent about itself.
pub type About<'a> = (&'a str, Outcome, Severity);

/// See [`Inner::tell`].
pub(crate) async fn tell(emitter: &Emitter, what: About<'_>, data: &serde_json::Value) {
    if let Err(why) = store(emitter, what, data).await {
        tracing::warn!("the event {} could not be stored: {why}", what.0);
    }
}

/// Why an event of the agent about itself can't be called stored, as a sentence.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotStored {
    /// It is not on disk, and never will be.
    #[error("{0}")]
    Refused(String),
    /// The journal has it and has not said: it may come to be on disk.
    #[error("{0}")]
    Unknown(String),
}

impl NotStored {
    /// The journal has not answered for so long.
    pub(crate) fn late(waited: Duration) -> Self {
        Self::Unknown(format!("the journal has not answered for {} s", waited.as_secs()))
    }
}

impl From<Refused> for NotStored {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => Self::Unknown(refused.to_string()),
            _ => Self::Refused(refused.to_string()),
        }
    }
}

/// One event of the agent about itself; it is on disk when this returns.
///
/// # Errors
/// It isn't, or that is not known.
pub(crate) async fn store(
    emitter: &Emitter,
    (name, outcome, severity): About<'_>,
    data: &serde_json::Value,
) -> Result<(), NotStored> {
    let mut batch = emitter.agent_batch();
    {
        let data = data.to_string();
        let draft = Draft {
            outcome,
            severity,
            data: Data::Raw(&data),
            ..Draft::new(name, "auditmon")
        };
        batch
            .push(draft)
            .map_err(|error| NotStored::Refused(error.to_string()))?;
    }
    match tokio::time::timeout(STORED, emitter.emit(batch, Linger::NONE)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refused)) => Err(refused.into()),
        Err(_) => Err(NotStored::late(STORED)),
    }
}
