//! Databases that gave no answer to a question for a key, since their index doesn't catch up: each costs the server a wait
//! and this auditor a login, so they are asked again after a while, and then more and more rarely.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(60);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(3600);

/// Those of one server, each with its pause and when that began.
#[derive(Default)]
pub(crate) struct Behind(Mutex<BTreeMap<String, (Instant, Duration)>>);

impl Behind {
    /// Whether a database may be asked.
    pub(crate) fn is_due(&self, database: &str, now: Instant) -> bool {
        let all = self.0.lock();
        all.get(database)
            .is_none_or(|(since, pause)| now.saturating_duration_since(*since) >= *pause)
    }

    /// Takes whether it gave an answer.
    pub(crate) fn asked(&self, database: &str, answered: bool, now: Instant) {
        let mut all = self.0.lock();
        if answered {
            all.remove(database);
            return;
        }
        let pause = all
            .get(database)
            .map_or(FIRST, |(_, pause)| pause.saturating_mul(2).min(LONGEST));
        all.insert(database.to_owned(), (now, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_hour_and_end_with_an_answer() {
        let (behind, mut now) = (Behind::default(), Instant::now());
        assert!(behind.is_due("db", now));
        let second = Duration::from_secs(1);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            behind.asked("db", false, now);
            let pause = Duration::from_secs(60 * minutes);
            assert!(!behind.is_due("db", now + pause - second), "{minutes}");
            assert!(behind.is_due("db", now + pause), "{minutes}");
            assert!(behind.is_due("other", now));
            now += pause;
        }
        behind.asked("db", true, now);
        assert!(behind.is_due("db", now));
        behind.asked("db", false, now);
        assert!(behind.is_due("db", now + FIRST));
    }
}
