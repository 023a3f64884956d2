//! What is told of a sink: log lines and events of kind agent.
//!
//! Transitions and summaries, at most one of a name and minute, so that a sink's failure can neither feed itself nor
//! fill the journal. What happens meanwhile is counted and told with the next. Only what a sink lacks that keeps its
//! position itself is told at once: before that moves past it, or a kill in between would leave nothing that says why,
//! and the rows would count as removed. To wait for the next minute instead would hold up the sink, and with `block` the
//! journal, for a minute at each damaged place. It can't feed itself: each record that is missing is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use auditmon_core::batch::{Batch, push_agent_event};
use auditmon_core::emitter::{Emitter, Refused};
use auditmon_core::event::{Data, Draft, Outcome, Severity, cut};
use auditmon_journal::{Gap, GapReason, Handle, Linger, Records};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::missing::Missing;

/// Shortest time between two events of one name.
const EVERY: Duration = Duration::from_secs(60);
/// Most ranges that one event names.
const MAX_RANGES: usize = 100;
/// Longest reason in an event, in bytes.
const MAX_REASON: usize = 1024;

const FAILED: &str = "sink.failed";
/// The same event, of a fault that stays: another reason.
const FAILED_FOR_GOOD: &str = "sink.failed, for good";
const RECOVERED: &str = "sink.recovered";
const GAP: &str = "sink.gap";
const DEAD_LETTER: &str = "sink.dead_letter";
const DEAD_LETTERS_DROPPED: &str = "sink.dead_letters_dropped";
const REPLAYED: &str = "sink.replayed";

/// How bad a fault is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// May pass by itself: it is tried again.
    Passing,
    /// Of the program: the sink is built anew.
    Broken,
    /// Needs a person.
    Final,
}

/// The word of a gap's reason, in events and metrics.
pub(crate) fn gap_word(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Expired => "expired",
        GapReason::Damaged => "damaged",
    }
}

/// What is to be told of one sink.
pub(crate) struct Notes {
    sink: &'static str,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Why it does not work, while it doesn't.
    trouble: Option<Trouble>,
    /// What the last event said of it.
    told_trouble: Option<Fault>,
    gaps: BTreeMap<Lacked, Gaps>,
    /// These are told by [`Notes::tell_gaps`] alone.
    gaps_first: bool,
    refused: u64,
    refused_reason: String,
    dropped: u64,
    replayed: (u64, u64),
    /// What it lacks of a former generation, or of the newest one, as far as it was counted.
    missing: BTreeMap<Option<String>, Missing>,
    /// Former generations without files of which it was told what it lacks.
    gone: BTreeSet<String>,
    /// When each name was told last.
    told: BTreeMap<&'static str, Instant>,
    logged: Option<Instant>,
}

/// Why records are missing and, of a former generation, its origin.
type Lacked = (&'static str, Option<String>);

struct Trouble {
    since: Instant,
    reason: String,
    fault: Fault,
}

#[derive(Default)]
struct Gaps {
    ranges: Vec<(u64, u64)>,
    merged: bool,
    records: u64,
}

/// An event to be told.
struct Told {
    name: &'static str,
    severity: Severity,
    outcome: Outcome,
    data: serde_json::Value,
}

impl Told {
    /// `data` is its data as text.
    fn draft<'d>(&self, data: &'d str) -> Draft<'d> {
        Draft {
            severity: self.severity,
            outcome: self.outcome,
            data: Data::Raw(data),
            ..Draft::new(self.name, "auditmon")
        }
    }
}

impl Notes {
    pub(crate) fn new(sink: &'static str) -> Self {
        Self {
            sink,
            inner: Mutex::default(),
        }
    }

    /// It does not deliver.
    pub(crate) fn fault(&self, reason: &str, fault: Fault) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        if fault > Fault::Passing {
            // Its supervisor says so, and what follows.
        } else if inner.logged.is_none_or(|at| now - at >= EVERY) || inner.trouble.is_none() {
            tracing::warn!(sink = self.sink, "{reason}");
        } else {
            tracing::debug!(sink = self.sink, "{reason}");
        }
        inner.logged = Some(now);
        let since = inner.trouble.as_ref().map_or(now, |trouble| trouble.since);
        inner.trouble = Some(Trouble {
            since,
            reason: cut(reason, MAX_REASON).to_owned(),
            fault,
        });
    }

    /// It delivers.
    pub(crate) fn fine(&self) {
        let mut inner = self.inner.lock();
        if let Some(trouble) = inner.trouble.take() {
            let seconds = trouble.since.elapsed().as_secs();
            tracing::info!(sink = self.sink, seconds, "delivers again");
        }
    }

    pub(crate) fn in_trouble(&self) -> bool {
        self.inner.lock().trouble.is_some()
    }

    /// Records that it will never get; `former` is the origin if they are of a former generation. Says how many of them
    /// are new: until its position is behind them it finds them again after each fault and in each life, and counted
    /// and told are they once.
    pub(crate) fn gap(&self, gap: &Gap, former: Option<&str>) -> u64 {
        let former = former.map(str::to_owned);
        let new = {
            let mut inner = self.inner.lock();
            let missing = inner.missing.entry(former.clone()).or_default();
            missing.add(gap.first, gap.last)
        };
        let part = |(first, last)| Gap {
            first,
            last,
            reason: gap.reason,
        };
        let parts = new.into_iter().map(part);
        parts.map(|gap| self.new_gap(&gap, former.as_deref())).sum()
    }

    fn new_gap(&self, gap: &Gap, former: Option<&str>) -> u64 {
        let reason = gap_word(gap.reason);
        tracing::warn!(
            sink = self.sink,
            first = gap.first,
            last = gap.last,
            reason,
            former_origin = former,
            "records can't be delivered"
        );
        let mut inner = self.inner.lock();
        let gaps = inner.gaps.entry((reason, former.map(str::to_owned))).or_default();
        let records = gap.last.saturating_sub(gap.first) + 1;
        gaps.records += records;
        let full = gaps.ranges.len() >= MAX_RANGES;
        // One found later may be lower: what retention took behind the position of a new life.
        match gaps.ranges.last_mut() {
            Some(last) if full || last.1.checked_add(1) == Some(gap.first) => {
                gaps.merged |= last.1.checked_add(1) != Some(gap.first);
                *last = (last.0.min(gap.first), last.1.max(gap.last));
            }
            _ => gaps.ranges.push((gap.first, gap.last)),
        }
        records
    }

    /// Whether it is the first time that somebody asks this for a former generation whose files are gone: each life of
    /// the sink finds that anew, until the sink remembers a place in the next one.
    pub(crate) fn is_first_of(&self, origin: &str) -> bool {
        self.inner.lock().gone.insert(origin.to_owned())
    }

    /// Events went to the dead-letter file.
    pub(crate) fn refused(&self, events: usize, reason: &str) {
        let mut inner = self.inner.lock();
        if inner.refused == 0 {
            tracing::warn!(
                sink = self.sink,
                events,
                reason,
                "refused for good; kept in the dead-letter file"
            );
        }
        inner.refused += events as u64;
        inner.refused_reason = cut(reason, MAX_REASON).to_owned();
    }

    /// The oldest dead letters had to make room.
    pub(crate) fn dropped(&self, letters: u64) {
        tracing::error!(
            sink = self.sink,
            letters,
            "the dead-letter file is full; its oldest part was removed"
        );
        self.inner.lock().dropped += letters;
    }

    /// Dead letters were handed over again: so many are delivered now, so many were refused again.
    pub(crate) fn replayed(&self, delivered: u64, refused: u64) {
        tracing::info!(sink = self.sink, delivered, refused, "dead letters were replayed");
        let mut inner = self.inner.lock();
        inner.replayed.0 += delivered;
        inner.replayed.1 += refused;
    }

    /// Whether gaps are told by [`tell_gaps`](Self::tell_gaps) alone.
    pub(crate) fn gaps_first(&self, first: bool) {
        self.inner.lock().gaps_first = first;
    }

    /// Tells of all gaps now, and waits until that is on disk. The journal takes it at its size limit and from the
    /// reserve too: a sink that holds up the journal could not wait for room that only itself can make.
    ///
    /// # Errors
    /// The journal doesn't take it, or nobody knows: they are still to be told.
    pub(crate) async fn tell_gaps(&self, journal: &Handle, host: &str) -> Result<(), Refused> {
        let (told, records) = {
            let inner = self.inner.lock();
            if inner.gaps.is_empty() {
                return Ok(());
            }
            let mut records = Records::new();
            for told in gap_events(self.sink, &inner.gaps) {
                let data = told.data.to_string();
                push_agent_event(&mut records, host, told.draft(&data)).map_err(|_| Refused::TooLarge)?;
            }
            let told: Vec<(Lacked, u64)> = inner.gaps.iter().map(|(of, gaps)| (of.clone(), gaps.records)).collect();
            (told, records)
        };
        let (tell, answer) = oneshot::channel();
        let done = Box::new(move |fate: Result<_, _>| {
            // Nobody waits any more where the agent ends at once.
            let _ = tell.send(fate);
        });
        journal.submit_own(records, done);
        match answer.await {
            Ok(fate) => fate.map_err(Refused::from)?,
            Err(_) => return Err(Refused::Unknown),
        };
        let mut inner = self.inner.lock();
        for (of, records) in told {
            // What was added meanwhile is told once more, with it.
            if inner.gaps.get(&of).is_some_and(|gaps| gaps.records == records) {
                inner.gaps.remove(&of);
            }
        }
        Ok(())
    }

    /// When something is due to be told.
    pub(crate) fn due(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        inner
            .waiting()
            .map(|name| inner.told.get(name).map_or_else(Instant::now, |at| *at + EVERY))
            .min()
    }

    /// Tells what is due.
    pub(crate) fn tell(&self, emitter: &Emitter) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let due: Vec<_> = inner
            .waiting()
            .filter(|name| inner.told.get(name).is_none_or(|at| now - *at >= EVERY))
            .collect();
        for name in due {
            for told in inner.take(self.sink, name) {
                emit(emitter, &told);
            }
            inner.told.insert(name, now);
        }
    }
}

impl Inner {
    /// Names of what has not been told yet.
    fn waiting(&self) -> impl Iterator<Item = &'static str> {
        let fault = self.trouble.as_ref().map(|trouble| trouble.fault);
        let for_good = fault == Some(Fault::Final);
        [
            (FAILED, fault.is_some() && !for_good && self.told_trouble.is_none()),
            (FAILED_FOR_GOOD, for_good && self.told_trouble != fault),
            (RECOVERED, fault.is_none() && self.told_trouble.is_some()),
            (GAP, !self.gaps.is_empty() && !self.gaps_first),
            (DEAD_LETTER, self.refused > 0),
            (DEAD_LETTERS_DROPPED, self.dropped > 0),
            (REPLAYED, self.replayed != (0, 0)),
        ]
        .into_iter()
        .filter_map(|(name, waits)| waits.then_some(name))
    }

    /// The events of a name; they then count as told.
    fn take(&mut self, sink: &str, name: &'static str) -> Vec<Told> {
        let event = |severity, outcome, data| {
            vec![Told {
                name,
                severity,
                outcome,
                data,
            }]
        };
        match name {
            FAILED | FAILED_FOR_GOOD => {
                let Some(trouble) = &self.trouble else {
                    return Vec::new();
                };
                self.told_trouble = Some(trouble.fault);
                let data = json!({
                    "sink": sink,
                    "reason": trouble.reason,
                    "permanent": trouble.fault == Fault::Final,
                });
                vec![Told {
                    name: FAILED,
                    severity: match trouble.fault {
                        Fault::Passing => Severity::Warning,
                        Fault::Broken | Fault::Final => Severity::Error,
                    },
                    outcome: Outcome::Failure,
                    data,
                }]
            }
            RECOVERED => {
                self.told_trouble = None;
                event(Severity::Notice, Outcome::Success, json!({"sink": sink}))
            }
            GAP => gap_events(sink, &std::mem::take(&mut self.gaps)),
            DEAD_LETTER => {
                let data = json!({"sink": sink, "events": self.refused, "reason": self.refused_reason});
                self.refused = 0;
                event(Severity::Warning, Outcome::Failure, data)
            }
            DEAD_LETTERS_DROPPED => {
                let data = json!({"sink": sink, "events": self.dropped});
                self.dropped = 0;
                event(Severity::Error, Outcome::Failure, data)
            }
            REPLAYED => {
                let (delivered, refused) = std::mem::take(&mut self.replayed);
                let outcome = if refused == 0 {
                    Outcome::Success
                } else {
                    Outcome::Failure
                };
                let data = json!({"sink": sink, "delivered": delivered, "refused": refused});
                event(Severity::Notice, outcome, data)
            }
            _ => Vec::new(),
        }
    }
}

/// An event for each reason and generation.
fn gap_events(sink: &str, gaps: &BTreeMap<Lacked, Gaps>) -> Vec<Told> {
    let event = |((reason, former), gaps): (&Lacked, &Gaps)| {
        let mut data = json!({
            "sink": sink,
            "first_seq": gaps.ranges.iter().map(|range| range.0).min(),
            "last_seq": gaps.ranges.iter().map(|range| range.1).max(),
            "ranges": gaps.ranges,
            "merged": gaps.merged,
            "entries": gaps.records,
            "reason": reason,
        });
        if let Some(former) = former {
            data["former_origin"] = former.as_str().into();
        }
        Told {
            name: GAP,
            severity: Severity::Error,
            outcome: Outcome::Failure,
            data,
        }
    };
    gaps.iter().map(event).collect()
}

fn emit(emitter: &Emitter, told: &Told) {
    let mut batch = emitter.agent_batch();
    if push(&mut batch, told) {
        // If the journal takes nothing now, the log line has said it.
        emitter.emit_with(batch, Linger::NONE, |_| ());
    }
}

/// Whether the batch could take it.
fn push(batch: &mut Batch, told: &Told) -> bool {
    let data = told.data.to_string();
    batch.push(told.draft(&data)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_found_later_may_be_lower() {
        let notes = Notes::new("store");
        let lost = |first, last| {
            let reason = GapReason::Expired;
            assert!(notes.gap(&Gap { first, last, reason }, None) > 0);
        };
        let told = || gap_events("store", &notes.inner.lock().gaps).remove(0).data;
        lost(5000, 5100);
        lost(4000, 4099);
        let data = told();
        assert_eq!(data["ranges"], json!([[5000, 5100], [4000, 4099]]));
        assert_eq!((&data["first_seq"], &data["last_seq"]), (&json!(4000), &json!(5100)));
        // As many as an event names: the last one then takes in what follows.
        for n in 2..MAX_RANGES as u64 {
            lost(10_000 + 10 * n, 10_000 + 10 * n);
        }
        assert_eq!(told()["merged"], false);
        lost(100, 100);
        let data = told();
        assert_eq!(data["merged"], true);
        assert_eq!(
            data["ranges"][MAX_RANGES - 1],
            json!([100, 10_000 + 10 * (MAX_RANGES - 1)])
        );
        assert_eq!((&data["first_seq"], &data["last_seq"]), (&json!(100), &json!(10_990)));
    }
}
