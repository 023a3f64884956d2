//! When it is told that a peer doesn't answer: once it has not for some exchanges in a row, and again once it does for as
//! many. So one that comes and goes is no flood.

use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::time::{self, Nanos};
use auditmon_journal::Linger;
use serde_json::json;

use super::hub::Hub;

/// So many exchanges in a row.
const ENOUGH: u32 = 3;

/// What one peer's answers come to.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// Whether it was told that it doesn't answer.
    told: bool,
    /// Exchanges in a row that speak against what was told.
    against: u32,
    /// When it answered last.
    answered: Option<Nanos>,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum News {
    /// It doesn't answer.
    Silent,
    /// It answers again.
    Back,
}

impl Silence {
    /// Takes an exchange, with an answer or without.
    pub(crate) fn take(&mut self, answered: bool, now: Nanos) -> Option<News> {
        if answered {
            self.answered = Some(now);
        }
        if answered != self.told {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        (self.against >= ENOUGH).then_some(if self.told { News::Back } else { News::Silent })
    }

    /// Tells it. What the journal doesn't take now is told after the next exchange.
    pub(crate) async fn tell(&mut self, hub: &Hub, peer: usize, news: News, why: Option<&String>) {
        let (identity, url) = (&hub.peers[peer].identity, hub.peers[peer].caller.url.as_str());
        let data = json!({
            "peer": identity.name(),
            "address": url,
            "text": why,
            "last_answer": self.answered.map(time::format),
        });
        let data = data.to_string();
        let (name, outcome, severity) = match news {
            News::Silent => ("immudb.peer.silent", Outcome::Failure, Severity::Warning),
            News::Back => ("immudb.peer.back", Outcome::Success, Severity::Info),
        };
        let draft = Draft {
            resource: Some(url),
            read_only: true,
            outcome,
            severity,
            data: Data::Raw(&data),
            ..Draft::new(name, "auditmon")
        };
        let mut batch = hub.emitter.batch();
        if batch.push(draft).is_ok() && hub.emitter.emit(batch, Linger::NONE).await.is_ok() {
            (self.told, self.against) = (news == News::Silent, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of these answers, each time with its number.
    fn told(answers: &str) -> Vec<(usize, News)> {
        let mut silence = Silence::default();
        let mut all = Vec::new();
        for (number, answer) in answers.chars().enumerate() {
            if let Some(news) = silence.take(answer == '+', 0) {
                (silence.told, silence.against) = (news == News::Silent, 0);
                all.push((number, news));
            }
        }
        all
    }

    #[test]
    fn a_change_that_stays_is_told_once() {
        assert_eq!(told("++++"), []);
        assert_eq!(told("--------"), [(2, News::Silent)]);
        assert_eq!(
            told("---++++---"),
            [(2, News::Silent), (5, News::Back), (9, News::Silent)]
        );
    }

    #[test]
    fn one_that_comes_and_goes_is_no_flood() {
        assert_eq!(told(&"--+".repeat(50)), []);
        assert_eq!(told(&format!("---{}", "++-".repeat(50))), [(2, News::Silent)]);
    }

    #[test]
    fn what_is_not_taken_is_told_again() {
        let mut silence = Silence::default();
        let told: Vec<_> = (0..5).map(|_| silence.take(false, 0)).collect();
        assert_eq!(
            told,
            [None, None, Some(News::Silent), Some(News::Silent), Some(News::Silent)]
        );
    }
}
