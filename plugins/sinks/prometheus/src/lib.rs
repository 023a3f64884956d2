//! Events counted for Prometheus, by kind, outcome and severity. Live: it begins at the head of the journal and delays
//! nothing.
//!
//! A write has no await in it: a batch is counted wholly or not at all, so one that is given up is never counted twice.

#![forbid(unsafe_code)]

use async_trait::async_trait;
use auditmon_core::delivery::Receipt;
use auditmon_core::event::{Kind, Outcome, Severity, kind_str};
use auditmon_core::plugin::{BuildContext, BuiltSink, Faults, PluginConfig, PluginError, Sink, Start};
use auditmon_core::subscription::{Event, Events};
use auditmon_journal::Gap;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `/metrics` says of the events themselves: how many of which kind, outcome and severity. It begins with what
/// comes next and holds nothing back.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusConfig {}

#[async_trait]
impl PluginConfig for PrometheusConfig {
    type Plugin = BuiltSink;

    fn validate(&self, _faults: &mut Faults) {}

    async fn build(self, cx: &mut BuildContext) -> Result<BuiltSink, PluginError> {
        let counts = Counts::new(&cx.metrics).map_err(PluginError::permanent)?;
        Ok(BuiltSink {
            sink: Box::new(Prometheus { counts }),
            reader: None,
            lag: None,
        })
    }
}

/// Kinds that events have; state records are none.
const KINDS: [Kind; 4] = [Kind::Application, Kind::Kernel, Kind::Immudb, Kind::Agent];
/// The value of a label whose value is not one of ours: bytes of another version.
const OTHER: &str = "other";
/// Counters of one kind: each outcome with each severity, and one for what is not understood.
const PER_KIND: usize = Outcome::ALL.len() * Severity::ALL.len() + 1;

/// All series, which are there from the start on.
struct Counts(Box<[IntCounter]>);

impl Counts {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let events = IntCounterVec::new(
            Opts::new("auditmon_events_total", "Events accepted, by what they say."),
            &["kind", "outcome", "severity"],
        )?;
        registry.register(Box::new(events.clone()))?;
        let mut all = Vec::with_capacity(KINDS.len() * PER_KIND);
        for kind in KINDS.map(kind_str) {
            for outcome in Outcome::ALL {
                for severity in Severity::ALL {
                    all.push(events.with_label_values(&[kind, outcome.as_str(), severity.as_str()]));
                }
            }
            all.push(events.with_label_values(&[kind, OTHER, OTHER]));
        }
        Ok(Self(all.into()))
    }

    fn add(&self, events: &Events) {
        let mut sums = [0; KINDS.len() * PER_KIND];
        for event in events.iter() {
            if let Some(sum) = place(&event).and_then(|place| sums.get_mut(place)) {
                *sum += 1;
            }
        }
        for (counter, sum) in self.0.iter().zip(sums) {
            counter.inc_by(sum);
        }
    }
}

/// Which counter is an event's.
fn place(event: &Event<'_>) -> Option<usize> {
    let kind = KINDS.iter().position(|kind| *kind == event.kind)?;
    let said = event.members().map_or(PER_KIND - 1, |members| {
        members.outcome() as usize * Severity::ALL.len() + members.severity() as usize
    });
    Some(kind * PER_KIND + said)
}

/// The sink.
struct Prometheus {
    counts: Counts,
}

#[async_trait]
impl Sink for Prometheus {
    async fn start(&mut self, _origin: &str) -> Result<Start, PluginError> {
        Ok(Start::Live)
    }

    async fn write(&mut self, events: &Events) -> Result<Receipt, PluginError> {
        self.counts.add(events);
        Ok(Receipt::all())
    }

    async fn gap(&mut self, _gap: &Gap) -> Result<(), PluginError> {
        // The runtime counts what a sink never gets.
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), PluginError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
