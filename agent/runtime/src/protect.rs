//! Which of the agent's own paths need a key: `http.protect`, which may change while it runs.

use std::sync::atomic::{AtomicBool, Ordering};

use auditmon_config::Http;

/// Paths that need a key with the scope `read`.
#[derive(Debug, Default)]
pub(crate) struct Protect {
    metrics: AtomicBool,
    tlog: AtomicBool,
}

impl Protect {
    pub(crate) fn new(http: &Http) -> Self {
        let protect = Self::default();
        protect.set(http);
        protect
    }

    /// Takes a new configuration over.
    pub(crate) fn set(&self, http: &Http) {
        let names = |word: &str| http.protect.iter().any(|named| named == word);
        self.metrics.store(names("metrics"), Ordering::Relaxed);
        self.tlog.store(names("tlog"), Ordering::Relaxed);
    }

    /// `/metrics`.
    pub(crate) fn metrics(&self) -> bool {
        self.metrics.load(Ordering::Relaxed)
    }

    /// `/tlog/`.
    pub(crate) fn tlog(&self) -> bool {
        self.tlog.load(Ordering::Relaxed)
    }
}
