//! What `/metrics` shows of the exchange with peers.

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

/// What becomes of an exchange.
const EXCHANGES: [&str; 2] = ["ok", "error"];
/// What becomes of a state.
const STATES: [&str; 6] = ["same", "ahead", "split", "differs", "unknown", "malformed"];

/// By peer.
#[derive(Clone)]
pub(crate) struct Metrics {
    exchanges: IntCounterVec,
    last: GaugeVec,
    states: IntCounterVec,
}

impl Metrics {
    /// All values of all peers are there from the beginning.
    pub(crate) fn new<'a>(
        registry: &Registry,
        peers: impl Iterator<Item = &'a str>,
    ) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["peer", "result"]);
        let last = Opts::new(
            "auditmon_immudb_peer_timestamp_seconds",
            "When a peer answered last; 0 if it never did.",
        );
        let metrics = Self {
            exchanges: counter("auditmon_immudb_peer_exchanges_total", "Times that a peer was asked.")?,
            last: GaugeVec::new(last, &["peer"])?,
            states: counter(
                "auditmon_immudb_peer_states_total",
                "States of databases that a peer told, by what became of them.",
            )?,
        };
        registry.register(Box::new(metrics.exchanges.clone()))?;
        registry.register(Box::new(metrics.last.clone()))?;
        registry.register(Box::new(metrics.states.clone()))?;
        for peer in peers {
            metrics.last.with_label_values(&[peer]).set(0.0);
            for result in EXCHANGES {
                metrics.exchanges.with_label_values(&[peer, result]);
            }
            for result in STATES {
                metrics.states.with_label_values(&[peer, result]);
            }
        }
        Ok(metrics)
    }

    /// A peer was asked; `at` in seconds since 1970.
    pub(crate) fn asked(&self, peer: &str, answered: bool, at: f64) {
        let result = EXCHANGES[usize::from(!answered)];
        self.exchanges.with_label_values(&[peer, result]).inc();
        if answered {
            self.last.with_label_values(&[peer]).set(at);
        }
    }

    /// Something became of a state.
    pub(crate) fn state(&self, peer: &str, result: &str) {
        self.states.with_label_values(&[peer, result]).inc();
    }
}
