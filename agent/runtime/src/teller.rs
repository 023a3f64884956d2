//! Plugins that fail and recover, as events of kind agent: one for each transition, and at most one a minute for
//! each plugin and reason, so that the failure of a sink cannot feed itself.

use std::collections::BTreeMap;
use std::time::Duration;

use auditmon_core::Emitter;
use auditmon_core::event::{Data, Draft, Outcome, Severity, cut};
use auditmon_core::health::{Health, HealthBoard, State};
use auditmon_journal::Linger;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::driver::Sinks;

/// The same is not told again within this time.
const QUIET: Duration = Duration::from_secs(60);
/// Longest reason in an event, in bytes.
const MAX_REASON: usize = 1024;

/// Something to tell of a plugin.
#[derive(Clone, Debug, Eq, PartialEq)]
enum News {
    Failed(String),
    Recovered,
}

/// What has been told.
#[derive(Default)]
struct Teller {
    plugins: BTreeMap<&'static str, Told>,
}

#[derive(Default)]
struct Told {
    /// The reason of the failure that was told last, if it was told of no recovery since.
    failed: Option<String>,
    /// When each was told, for a minute.
    times: Vec<(News, Instant)>,
}

impl Teller {
    /// What is to be told now, and when to look again.
    fn look(
        &mut self,
        states: &BTreeMap<&'static str, Health>,
        now: Instant,
    ) -> (Vec<(&'static str, News)>, Option<Instant>) {
        self.plugins.retain(|name, _| states.contains_key(name));
        let (mut news, mut again) = (Vec::new(), None::<Instant>);
        for (name, health) in states {
            let told = self.plugins.entry(name).or_default();
            told.times.retain(|(_, at)| *at + QUIET > now);
            let new = match (health.state, &told.failed) {
                (State::Failed, failed) => {
                    let reason = cut(health.reason.as_deref().unwrap_or_default(), MAX_REASON);
                    (failed.as_deref() != Some(reason)).then(|| News::Failed(reason.to_owned()))
                }
                (State::Ok | State::Degraded, Some(_)) => Some(News::Recovered),
                _ => None,
            };
            let Some(new) = new else { continue };
            if let Some((_, at)) = told.times.iter().find(|(known, _)| *known == new) {
                let due = *at + QUIET;
                again = Some(again.map_or(due, |earlier| earlier.min(due)));
                continue;
            }
            told.failed = match &new {
                News::Failed(reason) => Some(reason.clone()),
                News::Recovered => None,
            };
            told.times.push((new.clone(), now));
            news.push((*name, new));
        }
        (news, again)
    }
}

/// Tells until `stop` fires.
///
/// Sinks that were at work are left out: their drivers tell of them, `sink.failed`, with the place that they have.
pub(crate) async fn run(board: HealthBoard, sinks: Sinks, emitter: Emitter, stop: CancellationToken) {
    let mut changes = board.changes();
    let mut teller = Teller::default();
    loop {
        changes.mark_unchanged();
        let mut states = board.all();
        states.retain(|name, _| !sinks.in_trouble(name));
        let (news, again) = teller.look(&states, Instant::now());
        for (plugin, news) in news {
            emit(&emitter, plugin, &news);
        }
        let wake = async {
            match again {
                Some(again) => tokio::time::sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = wake => {}
        }
    }
}

fn emit(emitter: &Emitter, plugin: &str, news: &News) {
    let mut batch = emitter.agent_batch();
    let (name, outcome, severity, data) = match news {
        News::Failed(reason) => (
            "plugin.failed",
            Outcome::Failure,
            Severity::Error,
            serde_json::json!({"plugin": plugin, "reason": reason}),
        ),
        News::Recovered => (
            "plugin.recovered",
            Outcome::Success,
            Severity::Notice,
            serde_json::json!({"plugin": plugin}),
        ),
    };
    let data = data.to_string();
    let draft = Draft {
        outcome,
        severity,
        resource: Some(plugin),
        data: Data::Raw(&data),
        ..Draft::new(name, "auditmon")
    };
    if batch.push(draft).is_ok() {
        // If the journal takes nothing now, the log line has said it.
        emitter.emit_with(batch, Linger::NONE, |_| ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(state: State, reason: &str) -> BTreeMap<&'static str, Health> {
        let health = Health {
            state,
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            since: 0,
        };
        BTreeMap::from([("sink", health)])
    }

    fn failed(reason: &str) -> Vec<(&'static str, News)> {
        vec![("sink", News::Failed(reason.to_owned()))]
    }

    #[tokio::test(start_paused = true)]
    async fn one_event_for_each_transition() {
        let (mut teller, now) = (Teller::default(), Instant::now());
        assert_eq!(teller.look(&states(State::Ok, ""), now), (vec![], None), "all is well");
        assert_eq!(teller.look(&states(State::Failed, "a"), now).0, failed("a"));
        assert_eq!(teller.look(&states(State::Failed, "a"), now), (vec![], None));
        assert_eq!(
            teller.look(&states(State::Starting, ""), now),
            (vec![], None),
            "not yet"
        );
        assert_eq!(teller.look(&states(State::Failed, "b"), now).0, failed("b"));
        assert_eq!(
            teller.look(&states(State::Degraded, "slow"), now).0,
            [("sink", News::Recovered)]
        );
        assert_eq!(teller.look(&states(State::Ok, ""), now), (vec![], None));
        assert_eq!(teller.look(&BTreeMap::new(), now), (vec![], None), "it was turned off");
        assert!(teller.plugins.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flapping_plugin_is_told_of_once_a_minute_and_the_last_word_is_right() {
        let (mut teller, begin) = (Teller::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..600 {
            let now = begin + Duration::from_secs(second);
            let state = if second % 2 == 0 { State::Failed } else { State::Ok };
            told.extend(teller.look(&states(state, "a"), now).0);
        }
        assert!((10..=20).contains(&told.len()), "{}", told.len());
        // It fails within the quiet minute and stays so: that is told when the minute is over.
        let mut teller = Teller::default();
        assert_eq!(teller.look(&states(State::Failed, "a"), begin).0, failed("a"));
        let later = begin + Duration::from_secs(10);
        assert_eq!(
            teller.look(&states(State::Ok, ""), later).0,
            [("sink", News::Recovered)]
        );
        let (news, again) = teller.look(&states(State::Failed, "a"), begin + Duration::from_secs(20));
        assert_eq!((news, again), (vec![], Some(begin + QUIET)));
        assert_eq!(teller.look(&states(State::Failed, "a"), begin + QUIET).0, failed("a"));
    }
}
