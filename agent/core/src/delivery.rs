//! How the runtime hands events to a sink, and what the sink answers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plugin::{Faults, Section};
use crate::units::{Size, Span};

/// Keys that every sink's section has beside its own.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// How much is handed over at once.
    pub batch: BatchLimits,
    /// How long one hand-over may take; then it counts as failed.
    pub timeout: Span,
    /// Pauses between attempts.
    pub retry: Retrying,
    /// What happens when this sink holds so much back that the journal reaches its size limit.
    pub when_behind: WhenBehind,
    /// Where a sink without a position begins.
    pub from: Begin,
}

/// How much is handed over at once: whichever limit is reached first.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchLimits {
    /// Most events, 1 to 10,000.
    #[schemars(range(min = 1, max = 10_000))]
    pub events: u32,
    /// Most bytes in canonical form, up to 16 MiB; one event may be larger.
    pub bytes: Size,
    /// How long the first event waits for company.
    pub age: Span,
}

/// Pauses between attempts: exponential, each a random part of the whole (full jitter).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retrying {
    /// The first pause, at most.
    pub min: Span,
    /// The longest pause; also the longest `Retry-After` that is followed.
    pub max: Span,
}

/// What happens at the journal's size limit.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenBehind {
    /// Nothing is deleted: the event API answers 503, kernel drops are counted.
    Block,
    /// The sink loses what is oldest, and is told so by a gap.
    Skip,
}

/// Where a sink without a position begins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// With what comes next.
    Head,
    /// With the oldest event that the journal still has.
    Oldest,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            batch: BatchLimits::default(),
            timeout: Span(Duration::from_secs(30)),
            retry: Retrying::default(),
            when_behind: WhenBehind::Skip,
            from: Begin::Head,
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            events: 1_000,
            bytes: Size(1 << 20),
            age: Span(Duration::from_millis(200)),
        }
    }
}

impl Default for Retrying {
    fn default() -> Self {
        Self {
            min: Span(Duration::from_millis(200)),
            max: Span(Duration::from_secs(60)),
        }
    }
}

impl Delivery {
    /// Takes the keys that every sink has out of a sink's section; what is left is the plugin's own.
    pub fn take(section: &mut Section) -> Section {
        let mut taken = serde_json::Map::new();
        if let (Some(own), Ok(Section::Object(common))) =
            (section.as_object_mut(), serde_json::to_value(Self::default()))
        {
            for key in common.keys() {
                taken.extend(own.remove(key).map(|given| (key.clone(), given)));
            }
        }
        Section::Object(taken)
    }

    /// Finds impossible settings.
    pub fn validate(&self, faults: &mut Faults) {
        if !(1..=10_000).contains(&self.batch.events) {
            faults.add(
                "batch.events",
                format!("expected 1 to 10,000, found {}", self.batch.events),
            );
        }
        if !(1..=16 << 20).contains(&self.batch.bytes.0) {
            faults.add(
                "batch.bytes",
                format!("expected 1 byte to 16MiB, found {}", self.batch.bytes),
            );
        }
        if self.batch.age.0 > Duration::from_secs(60) {
            faults.add("batch.age", format!("expected at most 1m, found {}", self.batch.age));
        }
        if self.timeout.0.is_zero() {
            faults.add("timeout", "expected more than 0s, found 0s");
        }
        if self.retry.min.0.is_zero() || self.retry.min > self.retry.max {
            faults.add("retry.min", "expected more than 0s and at most `retry.max`");
        }
    }
}

/// What became of the events of one hand-over. Everything that is not named is delivered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Receipt {
    /// Refused for good: they go to the sink's dead-letter file.
    pub refused: Vec<RefusedEvent>,
    /// Places of events that have to be handed over again, ascending.
    pub pending: Vec<u64>,
    /// When and why again; must be there if anything is pending.
    pub retry: Option<Retry>,
}

/// An event that the sink's other side will never take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefusedEvent {
    /// Its place in the journal.
    pub seq: u64,
    /// What the other side said; without secrets.
    pub reason: String,
}

/// When and why events are handed over again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retry {
    /// What the other side asked for (`Retry-After`); the runtime's own pause if that is longer.
    pub after: Option<Duration>,
    /// For log and health; without secrets.
    pub reason: String,
}

impl Receipt {
    /// All are delivered.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether all are delivered.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.refused.is_empty() && self.pending.is_empty()
    }
}
