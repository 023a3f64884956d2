//! What immuclient's auditor, or immugw's, shows of itself: log lines, metrics, the monitoring server.
//!
//! | module | what it holds |
//! |---|---|
//! | `config` | `sources.immudb.compat` |
//! | `go` | times and durations as Go writes them |
//! | `log` | their lines, written by a thread of its own |
//! | `gauges` | their metrics |
//! | `face` | one server: from verdicts to both |
//! | `routes` | the monitoring server |
//! | `state_dir`, `known` | what it trusted, which is gone on from |

mod config;
mod face;
mod gauges;
mod go;
pub(crate) mod known;
mod log;
mod routes;
mod state_dir;

pub use config::{CompatConfig, Level, Program};
pub use known::Known;
pub use state_dir::{StateDirectory, read_states};

pub(crate) use face::Face;
pub(crate) use routes::{Probe, Routes};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auditmon_core::time::{self, Nanos};
use parking_lot::Mutex;
use prometheus::Registry;

use face::LastAudit;
use gauges::Gauges;
use log::Log;

/// What all servers share.
pub(crate) struct Compat {
    config: CompatConfig,
    interval: Duration,
    log: Log,
    gauges: Gauges,
    /// When a tick, or an audit in it, ended last; at first, when it began to run.
    ended: AtomicU64,
    last: Mutex<LastAudit>,
}

impl Compat {
    /// # Errors
    /// None that a caller could cause: names are constants.
    pub(crate) fn new(
        config: &CompatConfig,
        interval: Duration,
        registry: &Registry,
    ) -> Result<Arc<Self>, prometheus::Error> {
        Ok(Arc::new(Self {
            log: Log::new(config),
            gauges: Gauges::new(config.program, registry)?,
            config: config.clone(),
            interval,
            ended: AtomicU64::new(time::now()),
            last: Mutex::default(),
        }))
    }

    /// Begins to write, and says what the manuals show.
    pub(crate) fn start(&self) {
        self.log.start();
        self.ended.store(time::now(), Ordering::Relaxed);
        let interval = go::duration(self.interval);
        // On a line by itself, as upstream prints it.
        self.log.raw(&format!("{interval}\n"));
        let text = format!("starting auditor with a {interval} interval ...");
        self.log.line(Level::Info, &text);
        if let Some(address) = &self.config.monitoring {
            let text = format!("auditor monitoring HTTP server starting on {address} ...");
            self.log.line(Level::Info, &text);
        }
    }

    fn audit_ended(&self, now: Nanos) {
        self.ended.store(now, Ordering::Relaxed);
    }

    fn tick_ended(&self, now: Nanos) {
        self.ended.store(now, Ordering::Relaxed);
        self.gauges.running(now);
    }
}
