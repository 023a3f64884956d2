//! What `/metrics` shows of the store.

use auditmon_core::plugin::PluginError;
use prometheus::core::Collector;
use prometheus::{Error, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

/// Kinds of events that a store holds.
pub(crate) const KINDS: [&str; 4] = ["application", "kernel", "immudb", "agent"];

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) insert_seconds: Histogram,
    pub(crate) rows: IntGauge,
    pub(crate) pruned: IntCounterVec,
    /// Kept by the runtime.
    pub(crate) lag: IntGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, PluginError> {
        Self::make(registry)
            .map_err(|error| PluginError::permanent(format!("the store's metrics can't be registered: {error}")))
    }

    fn make(registry: &Registry) -> Result<Self, Error> {
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let insert_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "auditmon_store_insert_seconds",
                "Time to store a batch, from BEGIN to the end of COMMIT",
            )
            .buckets(buckets),
        )?;
        let rows = IntGauge::new("auditmon_store_rows", "Events in the store")?;
        let pruned = IntCounterVec::new(
            Opts::new(
                "auditmon_retention_pruned_total",
                "Events that retention has deleted from the store",
            ),
            &["kind"],
        )?;
        for kind in KINDS {
            pruned.with_label_values(&[kind]);
        }
        let lag = IntGauge::new(
            "auditmon_store_lag_records",
            "Journal records that the store has still to take",
        )?;
        register(registry, &lag)?;
        register(registry, &insert_seconds)?;
        register(registry, &rows)?;
        register(registry, &pruned)?;
        Ok(Self {
            insert_seconds,
            rows,
            pruned,
            lag,
        })
    }
}

/// Registers a metric in place of the one that the store built before has left, if any.
fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: &C) -> Result<(), Error> {
    match registry.register(Box::new(metric.clone())) {
        Err(Error::AlreadyReg) => {
            registry.unregister(Box::new(metric.clone()))?;
            registry.register(Box::new(metric.clone()))
        }
        other => other,
    }
}
