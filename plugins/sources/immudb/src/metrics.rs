//! What `/metrics` shows.

use auditmon_core::time::Nanos;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, Registry};
use prometheus::{HistogramOpts, Opts};

use crate::trusted::Record;
use crate::verdict::Verdict;

/// Seconds of one audit.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];
const EACH: &[&str] = &["server", "db"];

/// By server and database.
#[derive(Clone)]
pub(crate) struct Metrics {
    up: IntGaugeVec,
    result: IntGaugeVec,
    previous: IntGaugeVec,
    current: IntGaugeVec,
    run: GaugeVec,
    checked: GaugeVec,
    runs: IntCounterVec,
    duration: HistogramVec,
    before: IntGaugeVec,
    unseen: IntGaugeVec,
    unchecked: IntGaugeVec,
    oldest: IntGaugeVec,
    round: GaugeVec,
    keys: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), EACH);
        let seconds = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), EACH);
        let duration = HistogramOpts::new("auditmon_immudb_duration_seconds", "Time of an audit of one database.");
        let up = "Whether there was something to audit on the server the last time: 1, or 0: no answer, no login, no database.";
        let metrics = Self {
            up: IntGaugeVec::new(Opts::new("auditmon_immudb_up", up), &["server"])?,
            result: gauge(
                "auditmon_immudb_audit_result",
                "Last audit: 1 in order, 0 tampered or a finding stands, -1 not checked.",
            )?,
            previous: gauge("auditmon_immudb_prev_tx", "Transaction of the trusted state.")?,
            current: gauge("auditmon_immudb_curr_tx", "Last transaction that the server showed.")?,
            run: seconds("auditmon_immudb_run_timestamp_seconds", "When the last audit ended.")?,
            checked: seconds(
                "auditmon_immudb_checked_timestamp_seconds",
                "When the last audit ended that came to a verdict; 0 if none did.",
            )?,
            runs: IntCounterVec::new(
                Opts::new("auditmon_immudb_runs_total", "Audits."),
                &["server", "db", "result"],
            )?,
            duration: HistogramVec::new(duration.buckets(BUCKETS.to_vec()), &["server"])?,
            before: gauge(
                "auditmon_immudb_first_contact_tx",
                "Last transaction from before the first contact; 0 if all were seen.",
            )?,
            unseen: gauge(
                "auditmon_immudb_unseen_transactions",
                "Transactions from before the first contact whose headers were not looked at yet.",
            )?,
            unchecked: gauge(
                "auditmon_immudb_unchecked_transactions",
                "Transactions whose values were never checked.",
            )?,
            oldest: gauge(
                "auditmon_immudb_oldest_unchecked_tx",
                "Oldest transaction whose values were never checked; 0 if there is none.",
            )?,
            round: seconds(
                "auditmon_immudb_value_round_seconds",
                "How long it took to check all values the last time; -1 before the first time.",
            )?,
            keys: IntCounterVec::new(
                Opts::new(
                    "auditmon_immudb_keys_proven_total",
                    "Keys that were asked for with a proof.",
                ),
                EACH,
            )?,
        };
        let gauges = [&metrics.up, &metrics.result, &metrics.previous, &metrics.current];
        for gauge in gauges
            .into_iter()
            .chain([&metrics.before, &metrics.unseen, &metrics.unchecked, &metrics.oldest])
        {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(metrics.run.clone()))?;
        registry.register(Box::new(metrics.checked.clone()))?;
        registry.register(Box::new(metrics.round.clone()))?;
        registry.register(Box::new(metrics.keys.clone()))?;
        registry.register(Box::new(metrics.runs.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        Ok(metrics)
    }

    /// Whether a server could be asked; also before it was, so that one that never answers is seen.
    pub(crate) fn up(&self, server: &str, up: bool) {
        self.up.with_label_values(&[server]).set(up.into());
    }

    /// A database without a verdict of this life, of which a finding stands.
    pub(crate) fn found(&self, server: &str, db: &str) {
        self.result.with_label_values(&[server, db]).set(0);
    }

    /// A database at its first verdict.
    pub(crate) fn begin(&self, server: &str, db: &str) {
        self.checked.with_label_values(&[server, db]).set(0.0);
        self.keys.with_label_values(&[server, db]);
        for result in ["ok", "tampered", "error"] {
            self.runs.with_label_values(&[server, db, result]);
        }
    }

    /// A database that is audited no more.
    pub(crate) fn forget(&self, server: &str, db: &str) {
        let each = &[server, db];
        let gauges = [&self.result, &self.previous, &self.current, &self.before];
        let more = [&self.unseen, &self.unchecked, &self.oldest];
        // What was never set isn't there.
        for gauge in gauges.into_iter().chain(more) {
            let _ = gauge.remove_label_values(each);
        }
        for gauge in [&self.run, &self.checked, &self.round] {
            let _ = gauge.remove_label_values(each);
        }
        let _ = self.keys.remove_label_values(each);
        for result in ["ok", "tampered", "error"] {
            let _ = self.runs.remove_label_values(&[server, db, result]);
        }
    }

    pub(crate) fn end(&self, server: &str, db: &str, verdict: &Verdict, trusted: u64, now: Nanos) {
        let each = &[server, db];
        let seconds = now as f64 / 1e9;
        let (value, shown) = match verdict {
            Verdict::Ok(good) => (1, Some(good.state)),
            Verdict::Tampered(finding) => (0, finding.shown),
            Verdict::Unchecked(why) if why.finding.is_some() => (0, None),
            Verdict::Unchecked(_) => (-1, None),
        };
        self.result.with_label_values(each).set(value);
        self.previous.with_label_values(each).set(signed(trusted));
        if let Some(state) = shown {
            self.current.with_label_values(each).set(signed(state.tx.0));
        }
        self.run.with_label_values(each).set(seconds);
        if !matches!(verdict, Verdict::Unchecked(_)) {
            self.checked.with_label_values(each).set(seconds);
        }
        self.runs.with_label_values(&[server, db, verdict.result()]).inc();
    }

    /// What is known of a database beside its trusted state.
    pub(crate) fn known(&self, server: &str, db: &str, record: &Record) {
        let Some(past) = &record.past else { return };
        let each = &[server, db];
        self.before.with_label_values(each).set(signed(past.from.tx.0));
        self.unseen.with_label_values(each).set(signed(past.left()));
        let (unchecked, oldest) = record.values.unchecked(record.state.tx.0, past.from.tx.0);
        self.unchecked.with_label_values(each).set(signed(unchecked));
        self.oldest.with_label_values(each).set(signed(oldest));
        let round = record.values.took.map_or(-1.0, |took| took as f64 / 1e9);
        self.round.with_label_values(each).set(round);
    }

    /// So many keys were asked for and proven.
    pub(crate) fn proven(&self, server: &str, db: &str, keys: u64) {
        self.keys.with_label_values(&[server, db]).inc_by(keys);
    }

    pub(crate) fn took(&self, server: &str, seconds: f64) {
        self.duration.with_label_values(&[server]).observe(seconds);
    }
}

fn signed(tx: u64) -> i64 {
    i64::try_from(tx).unwrap_or(i64::MAX)
}
