//! Metrics of process, journal, plugins and HTTP. Names are in the manual (docs/metrics.md).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use auditmon_core::emitter::SourceMetrics;
use auditmon_core::health::{HealthBoard, State};
use auditmon_core::process::ProcessCollector;
use auditmon_journal::{GapReason, Handle, SYNC_BUCKETS};
use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tower::{Layer, Service};

use crate::driver::{Sinks, gap_word};
use crate::listener::Peer;
use crate::plugins::View;

/// The runtime's own metrics.
#[derive(Clone)]
pub(crate) struct Telemetry {
    pub(crate) registry: Registry,
    pub(crate) sources: SourceMetrics,
    pub(crate) sinks: Sinks,
    pub(crate) sink_events: IntCounterVec,
    pub(crate) sink_gaps: IntCounterVec,
    pub(crate) sink_latency: HistogramVec,
    pub(crate) reload: ReloadMetrics,
    pub(crate) discarded: IntCounterVec,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
}

/// How the configuration was loaded last.
#[derive(Clone)]
pub(crate) struct ReloadMetrics {
    successful: IntGauge,
    success_time: Gauge,
}

impl ReloadMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            successful: IntGauge::new(
                "auditmon_config_last_reload_successful",
                "1 if the configuration that was loaded last is at work, save for what waits for a restart.",
            )?,
            success_time: Gauge::new(
                "auditmon_config_last_reload_success_timestamp_seconds",
                "When a configuration was loaded last and put to work, Unix time.",
            )?,
        };
        registry.register(Box::new(metrics.successful.clone()))?;
        registry.register(Box::new(metrics.success_time.clone()))?;
        // The agent runs, so its start was a success.
        metrics.loaded(true);
        Ok(metrics)
    }

    pub(crate) fn loaded(&self, ok: bool) {
        self.successful.set(ok.into());
        if ok {
            self.success_time.set(auditmon_core::time::now() as f64 / 1e9);
        }
    }
}

/// Reason of events that were in a dead-letter file and had to make room.
pub(crate) const DEAD_LETTERS_FULL: &str = "overflow";

/// Seconds from below a millisecond to ten.
const DURATIONS: [f64; 13] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

impl Telemetry {
    pub(crate) fn new(version: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let histogram = |name: &str, help: &str, labels: &[&str]| -> Result<HistogramVec, prometheus::Error> {
            let vec = HistogramVec::new(HistogramOpts::new(name, help).buckets(DURATIONS.to_vec()), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let sources = SourceMetrics::new()?;
        registry.register(Box::new(sources.events.clone()))?;
        registry.register(Box::new(sources.bytes.clone()))?;
        registry.register(Box::new(sources.append.clone()))?;
        let telemetry = Self {
            sources,
            sinks: Sinks::default(),
            sink_events: counter(
                "auditmon_sink_events_total",
                "Events at a sink by result.",
                &["sink", "result"],
            )?,
            sink_gaps: counter(
                "auditmon_sink_gap_entries_total",
                "Journal entries that a sink never gets: their payloads are gone or damaged.",
                &["sink", "reason"],
            )?,
            sink_latency: histogram(
                "auditmon_sink_latency_seconds",
                "From received to delivered, of the oldest event of each batch.",
                &["sink"],
            )?,
            discarded: counter(
                "auditmon_events_discarded_total",
                "Events that a plugin gave up for good.",
                &["plugin", "reason"],
            )?,
            http_requests: counter(
                "auditmon_http_requests_total",
                "Requests by route and status code.",
                &["route", "code"],
            )?,
            http_duration: histogram(
                "auditmon_http_request_duration_seconds",
                "Time to the answer.",
                &["route"],
            )?,
            reload: ReloadMetrics::new(&registry)?,
            registry: registry.clone(),
        };
        let build = GaugeVec::new(
            Opts::new("auditmon_build_info", "Always 1; what this is."),
            &["version", "revision", "rustc"],
        )?;
        build
            .with_label_values(&[
                version,
                option_env!("AUDITMON_REVISION").unwrap_or("unknown"),
                option_env!("AUDITMON_RUSTC").unwrap_or("unknown"),
            ])
            .set(1.0);
        registry.register(Box::new(build))?;
        let up = IntGauge::new("auditmon_up", "1 while the agent runs.")?;
        up.set(1);
        registry.register(Box::new(up))?;
        registry.register(Box::new(ProcessCollector::new()?))?;
        Ok(telemetry)
    }

    fn count_request(&self, route: &str, status: StatusCode, took: Duration) {
        self.http_requests.with_label_values(&[route, status.as_str()]).inc();
        let duration = self.http_duration.with_label_values(&[route]);
        duration.observe(took.as_secs_f64());
    }

    /// Initialises a sink's series.
    pub(crate) fn sink(&self, name: &str) {
        for result in ["ok", "retried", "dead_letter"] {
            self.sink_events.with_label_values(&[name, result]);
        }
        for reason in [GapReason::Expired, GapReason::Damaged] {
            self.sink_gaps.with_label_values(&[name, gap_word(reason)]);
        }
        self.sink_latency.with_label_values(&[name]);
        self.discarded.with_label_values(&[name, DEAD_LETTERS_FULL]);
    }
}

/// Counts requests by the route's template; logs them at `debug`, without what may be secret: a path's parameters.
#[derive(Clone)]
pub(crate) struct CountRequests(pub(crate) Arc<Telemetry>);

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        let telemetry = self.0.clone();
        Counted { inner, telemetry }
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    telemetry: Arc<Telemetry>,
}

impl<S> Service<Request> for Counted<S>
where
    S: Service<Request, Response = Response, Future: Send + 'static>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let start = Instant::now();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let peer = request.extensions().get::<Peer>().copied();
        let method = request.method().clone();
        let telemetry = self.telemetry.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let route = route.as_ref().map_or("other", MatchedPath::as_str);
            tracing::debug!(
                %method,
                route,
                code = response.status().as_u16(),
                peer = peer.map(|peer| tracing::field::display(peer.0)),
                ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
                "answered"
            );
            telemetry.count_request(route, response.status(), start.elapsed());
            Ok(response)
        })
    }
}

/// The journal's and plugins' metrics, made when asked for.
pub(crate) struct AgentCollector {
    journal: Handle,
    health: HealthBoard,
    plugins: View,
    sinks: Sinks,
    descs: Vec<Desc>,
}

impl AgentCollector {
    pub(crate) fn new(
        journal: Handle,
        health: HealthBoard,
        plugins: View,
        sinks: Sinks,
    ) -> Result<Self, prometheus::Error> {
        // One name stands for all: a collector has to name something to be told apart.
        let desc = Desc::new(
            "auditmon_journal_durable_entries".to_owned(),
            "Entries that are on disk.".to_owned(),
            Vec::new(),
            std::collections::HashMap::new(),
        )?;
        Ok(Self {
            journal,
            health,
            plugins,
            sinks,
            descs: vec![desc],
        })
    }

    fn gather(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let status = self.journal.status();
        let mut families = Vec::new();
        let mut gauge = |name: &str, help: &str, value: u64| -> Result<(), prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            families.extend(gauge.collect());
            Ok(())
        };
        gauge(
            "auditmon_journal_size_entries",
            "Entries that have a number and can be read.",
            status.durable,
        )?;
        gauge(
            "auditmon_journal_durable_entries",
            "Entries that are on disk.",
            status.durable,
        )?;
        gauge(
            "auditmon_journal_min_entries",
            "Number of the oldest entry whose payload is kept.",
            status.oldest_payload,
        )?;
        gauge(
            "auditmon_journal_bytes",
            "Bytes of segments and leaves on disk.",
            status.bytes,
        )?;
        gauge(
            "auditmon_journal_free_bytes",
            "Bytes free on the journal's volume.",
            status.free_bytes.unwrap_or(0),
        )?;
        gauge(
            "auditmon_journal_segments",
            "Segments whose payloads are kept.",
            status.segments as u64,
        )?;
        let newest = self.journal.checkpoint();
        gauge(
            "auditmon_journal_checkpoint_entries",
            "Entries that the newest signed checkpoint covers.",
            newest.as_ref().map_or(0, |newest| newest.size),
        )?;
        let signed = Gauge::new(
            "auditmon_journal_checkpoint_timestamp_seconds",
            "When the newest checkpoint was signed, Unix time; 0 if an earlier run signed it.",
        )?;
        signed.set(newest.and_then(|newest| newest.signed_ns).unwrap_or(0) as f64 / 1e9);
        families.extend(signed.collect());
        let counter = |name: &str, help: &str, value: u64| -> Result<Vec<MetricFamily>, prometheus::Error> {
            let counter = prometheus::IntCounter::new(name, help)?;
            counter.inc_by(value);
            Ok(counter.collect())
        };
        families.extend(counter(
            "auditmon_journal_frames_total",
            "Frames written and synced.",
            status.metrics.frames,
        )?);
        families.extend(counter(
            "auditmon_journal_sync_failures_total",
            "Writes or syncs that failed.",
            status.metrics.failed_syncs,
        )?);
        families.extend(counter(
            "auditmon_journal_checkpoints_total",
            "Checkpoints signed and stored.",
            status.metrics.checkpoints,
        )?);
        families.extend(counter(
            "auditmon_journal_checkpoint_failures_total",
            "Checkpoints that could not be stored; each is tried again.",
            status.metrics.failed_checkpoints,
        )?);
        families.push(sync_histogram(&status.metrics)?);
        let paused = IntGaugeVec::new(
            Opts::new("auditmon_journal_paused", "1 while events are refused for this reason."),
            &["reason"],
        )?;
        use auditmon_journal::PauseReason::{Reserve, SizeLimit, SyncFailed};
        for reason in [Reserve, SizeLimit, SyncFailed] {
            paused
                .with_label_values(&[crate::notes::pause_word(reason)])
                .set((status.paused == Some(reason)).into());
        }
        families.extend(paused.collect());
        let states = IntGaugeVec::new(
            Opts::new("auditmon_plugin_state", "1 for the state that a plugin is in."),
            &["plugin", "state"],
        )?;
        for (plugin, health) in self.health.all() {
            for state in State::ALL {
                states
                    .with_label_values(&[plugin, state.as_str()])
                    .set((health.state == state).into());
            }
        }
        families.extend(states.collect());
        let restarts = IntCounterVec::new(
            Opts::new(
                "auditmon_plugin_restarts_total",
                "Times that a plugin was started again after a fault.",
            ),
            &["plugin"],
        )?;
        for (plugin, seen) in &*self.plugins.lock() {
            restarts
                .with_label_values(&[*plugin])
                .inc_by(seen.tally.counts().restarts);
        }
        families.extend(restarts.collect());
        families.extend(self.sinks.gather(&self.journal)?);
        Ok(families)
    }
}

fn sync_histogram(metrics: &auditmon_journal::Metrics) -> Result<MetricFamily, prometheus::Error> {
    let mut bounds: Vec<f64> = Vec::with_capacity(SYNC_BUCKETS.len());
    bounds.extend(SYNC_BUCKETS.iter().map(|micros| *micros as f64 / 1e6));
    let mut histogram = prometheus::proto::Histogram::default();
    histogram.set_sample_count(metrics.syncs);
    histogram.set_sample_sum(metrics.sync_time.as_secs_f64());
    let mut below = 0;
    let buckets = bounds
        .iter()
        .zip(metrics.sync_buckets)
        .map(|(bound, count)| {
            below += count;
            let mut bucket = prometheus::proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        })
        .collect::<Vec<_>>();
    histogram.set_bucket(buckets);
    let mut metric = prometheus::proto::Metric::default();
    metric.set_histogram(histogram);
    let mut family = MetricFamily::default();
    family.set_name("auditmon_journal_fsync_seconds".to_owned());
    family.set_help("Time of the journal's syncs.".to_owned());
    family.set_field_type(prometheus::proto::MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    Ok(family)
}

impl Collector for AgentCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Names are constants: a fault here is one of the program, and shows as missing series.
        self.gather().unwrap_or_default()
    }
}
