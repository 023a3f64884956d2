//! What this source shows on /metrics: `auditmon_kernel_*`.

use prometheus::core::Collector;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::losses::Reason;
use crate::status::Status;

/// The source's metrics, all at 0 from the start.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Losses that the kernel itself has counted since we started.
    pub lost: IntCounter,
    /// Records in the kernel's main queue.
    pub backlog: IntGauge,
    /// Its limit.
    pub backlog_limit: IntGauge,
    /// Jiffies that callers had to wait since we started.
    pub backlog_wait: IntCounter,
    /// Rules loaded, ours and others'.
    pub rules: IntGauge,
    /// 0 off, 1 on, 2 locked.
    pub enabled: IntGauge,
    /// 1 while the kernel's records come here.
    pub registered: IntGauge,
    /// Events that never came, by reason.
    pub gaps: IntCounterVec,
    /// Records whose head could not be read; they are kept as they are.
    pub parse_errors: IntCounter,
    /// Events that ended without all of their records.
    pub incomplete: IntCounter,
    /// Times that the kernel had to wait for us.
    pub overruns: IntCounter,
    /// Records cut by the receive buffer.
    pub truncated: IntCounter,
    /// Records that found our buffer full.
    pub dropped: IntCounter,
    /// Events given up because the journal took none until the end.
    pub discarded: IntCounter,
    /// Bytes waiting between the receiving and the working thread.
    pub buffer_bytes: IntGauge,
    /// Delay of the last heartbeat in seconds.
    pub heartbeat: Gauge,
}

impl Metrics {
    /// Makes the metrics and registers them. A second source of one process
    /// (a restarted plugin) takes the place of the first; its counters begin
    /// at 0 again, as after a restart.
    ///
    /// # Errors
    /// Never, as long as the names here are valid.
    pub fn register(registry: &Registry) -> prometheus::Result<Metrics> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            replace(registry, IntCounter::new(full(name), help)?)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            replace(registry, IntGauge::new(full(name), help)?)
        };
        let gaps = IntCounterVec::new(
            Opts::new(
                full("sequence_gaps_total"),
                "Events that never came, told by missing serials",
            ),
            &["reason"],
        )?;
        for reason in Reason::ALL {
            gaps.with_label_values(&[reason.as_str()]).inc_by(0);
        }
        let heartbeat = Gauge::new(
            full("heartbeat_delay_seconds"),
            "Delay of the last heartbeat from us through the kernel to us",
        )?;
        Ok(Metrics {
            lost: counter("lost_total", "Losses that the kernel has counted itself")?,
            backlog: gauge("backlog", "Records in the kernel's main queue")?,
            backlog_limit: gauge("backlog_limit", "Limit of the kernel's main queue")?,
            backlog_wait: counter(
                "backlog_wait_jiffies_total",
                "Jiffies that callers had to wait for room in the kernel's queue",
            )?,
            rules: gauge("rules", "Audit rules loaded")?,
            enabled: gauge("enabled", "Auditing is off (0), on (1), locked (2)")?,
            registered: gauge("registered", "The kernel's records come here")?,
            gaps: replace(registry, gaps)?,
            parse_errors: counter("parse_errors_total", "Records whose head is not understood")?,
            incomplete: counter("incomplete_events_total", "Events without all of their records")?,
            overruns: counter("overruns_total", "Times that the kernel had to wait for us")?,
            truncated: counter("truncated_total", "Records longer than the receive buffer")?,
            dropped: counter("dropped_total", "Records that found our buffer full")?,
            discarded: counter("discarded_total", "Events given up because the journal took none")?,
            buffer_bytes: gauge("buffer_bytes", "Bytes waiting to be worked on")?,
            heartbeat: replace(registry, heartbeat)?,
        })
    }

    /// Takes over what the kernel says; `before` is what it said last.
    pub(crate) fn status(&self, status: &Status, before: &Status) {
        self.enabled.set(status.enabled.into());
        self.backlog.set(status.backlog.into());
        self.backlog_limit.set(status.backlog_limit.into());
        // 32-bit counters that wrap.
        self.lost.inc_by(status.lost.wrapping_sub(before.lost).into());
        if let (Some(now), Some(then)) = (status.backlog_wait_time_actual, before.backlog_wait_time_actual) {
            self.backlog_wait.inc_by(now.wrapping_sub(then).into());
        }
    }
}

fn full(name: &str) -> String {
    format!("auditmon_kernel_{name}")
}

fn replace<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    if registry.register(Box::new(collector.clone())).is_err() {
        registry.unregister(Box::new(collector.clone()))?;
        registry.register(Box::new(collector.clone()))?;
    }
    Ok(collector)
}

/// Brings a counter up to a total that only grows.
pub(crate) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_source_takes_the_place_of_the_first() {
        let registry = Registry::new();
        Metrics::register(&registry).unwrap().lost.inc();
        let second = Metrics::register(&registry).unwrap();
        let names: Vec<String> = registry.gather().iter().map(|f| f.name().to_owned()).collect();
        assert!(names.contains(&"auditmon_kernel_lost_total".to_owned()));
        assert_eq!(names.len(), 16);
        let before = Status {
            lost: u32::MAX,
            ..Status::default()
        };
        second.status(
            &Status {
                lost: 2,
                ..Status::default()
            },
            &before,
        );
        assert_eq!(second.lost.get(), 3);
    }
}
