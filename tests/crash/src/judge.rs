//! The judge: every event that was promised is there exactly once, in its place, unaltered; one that was
//! refused is nowhere.

use std::collections::BTreeMap;

use auditmon_e2e::{Agent, request};
use serde_json::Value;

use crate::clients::{Ledger, Owed};

/// What was promised so far.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    owed: BTreeMap<u64, u64>,
    refused: Vec<u64>,
    /// Numbers below were used.
    posted: u64,
}

/// One of our events as it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its place.
    pub seq: u64,
    /// Its number.
    pub number: u64,
    /// Its client.
    pub client: String,
    /// Bytes of its filling.
    pub fill: usize,
}

/// What one look came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Events that were promised and found.
    pub kept: usize,
    /// Events that nobody was told of: answered by a closed connection.
    pub unanswered: usize,
}

impl Judge {
    /// Takes what clients were told; `posted` numbers were used so far.
    pub fn take(&mut self, ledger: &Ledger, posted: u64) {
        for Owed { number, seq } in &ledger.owed {
            assert_eq!(
                self.owed.insert(*number, *seq),
                None,
                "number {number} was used twice by the test"
            );
        }
        self.refused.extend(&ledger.refused);
        self.posted = self.posted.max(posted);
    }

    /// Number of promises.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// The promised event with the largest seq.
    #[must_use]
    pub fn last_seq(&self) -> Option<u64> {
        self.owed.values().max().copied()
    }

    /// Judges what was found at `place`, in order; `gone` are the ranges that retention has taken, as it said.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn judge(
        &self,
        place: &str,
        found: &[Found],
        gone: &[(u64, u64)],
        fill: impl Fn(&Found) -> usize,
    ) -> Result<Verdict, String> {
        let mut by_number = BTreeMap::new();
        let mut of_client: BTreeMap<&str, u64> = BTreeMap::new();
        let mut last = None;
        for event in found {
            let Found {
                seq, number, client, ..
            } = event;
            if last.is_some_and(|last| last >= *seq) {
                return Err(format!("{place}: seq {seq} does not follow {last:?}"));
            }
            last = Some(*seq);
            if let Some(other) = by_number.insert(*number, *seq) {
                return Err(format!(
                    "{place}: number {number} is there twice: seq {other} and {seq}"
                ));
            }
            if *number >= self.posted {
                return Err(format!("{place}: number {number} was never posted"));
            }
            if let Some(before) = of_client.insert(client, *number)
                && before >= *number
            {
                return Err(format!("{place}: {client}: number {number} comes behind {before}"));
            }
            if event.fill != fill(event) {
                return Err(format!(
                    "{place}: number {number}: {} bytes of filling, not {}",
                    event.fill,
                    fill(event)
                ));
            }
        }
        for (number, seq) in &self.owed {
            match by_number.get(number) {
                Some(at) if at == seq => {}
                Some(at) => {
                    return Err(format!(
                        "{place}: number {number} was answered with seq {seq} and stands at {at}"
                    ));
                }
                None if gone.iter().any(|(first, last)| (first..=last).contains(&seq)) => {}
                None => {
                    return Err(format!(
                        "{place}: LOST: number {number}, answered with seq {seq}, is not there"
                    ));
                }
            }
        }
        if let Some(number) = self.refused.iter().find(|number| by_number.contains_key(number)) {
            return Err(format!(
                "{place}: number {number} was refused as not stored, and is there"
            ));
        }
        let kept = by_number.keys().filter(|number| self.owed.contains_key(number)).count();
        Ok(Verdict {
            kept,
            unanswered: by_number.len() - kept,
        })
    }
}

/// Reads the number of one of our events; `None` for others.
#[must_use]
pub fn number(name: &Value) -> Option<u64> {
    name.as_str()?.strip_prefix("n-")?.parse().ok()
}

fn found(seq: &Value, event: &Value) -> Option<Found> {
    Some(Found {
        seq: seq.as_u64()?,
        number: number(&event["event_name"])?,
        client: event["username"].as_str()?.to_owned(),
        fill: event["event_data"]["fill"].as_str()?.len(),
    })
}

/// Our events in the output of `auditmon journal dump`.
#[must_use]
pub fn in_dump(lines: &[Value]) -> Vec<Found> {
    lines
        .iter()
        .filter_map(|line| found(&line["seq"], &line["event"]))
        .collect()
}

/// Our events in `events.db`.
#[must_use]
pub fn in_store(agent: &Agent) -> Vec<Found> {
    let sql = "SELECT seq, event_name, username, length(json_extract(CAST(canonical AS TEXT), '$.event_data.fill')) \
               FROM events WHERE kind = 'application' ORDER BY place";
    let rows = agent.rows(sql);
    rows.iter()
        .filter_map(|row| {
            Some(Found {
                seq: row[0].as_u64()?,
                number: number(&row[1])?,
                client: row[2].as_str()?.to_owned(),
                fill: usize::try_from(row[3].as_u64()?).ok()?,
            })
        })
        .collect()
}

/// Ranges of seqs whose payloads retention has taken, as its events in the store say.
#[must_use]
pub fn gone(agent: &Agent) -> Vec<(u64, u64)> {
    let of = |name: &str| format!("json_extract(CAST(canonical AS TEXT), '$.event_data.{name}')");
    let sql = format!(
        "SELECT {}, {} FROM events WHERE event_name = 'journal.retention'",
        of("first_seq"),
        of("last_seq")
    );
    agent
        .rows(&sql)
        .iter()
        .map(|row| (row[0].as_u64().unwrap(), row[1].as_u64().unwrap()))
        .collect()
}

/// Our events as the API gives them, page by page.
#[must_use]
pub fn in_api(agent: &Agent, key: &str) -> Vec<Found> {
    let mut http = agent.http();
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let target = format!("/api/v1/events?kind=application&order=asc&limit=1000{cursor}");
        let page = http
            .send(&request("GET", &target).key(key))
            .expect("a page")
            .expect(200)
            .json();
        all.extend(
            page["events"]
                .as_array()
                .expect("events")
                .iter()
                .filter_map(|event| found(&event["seq"], event)),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(places: &[(u64, u64)]) -> Vec<Found> {
        let event = |(seq, number): &(u64, u64)| Found {
            seq: *seq,
            number: *number,
            client: "client-0".to_owned(),
            fill: 3,
        };
        places.iter().map(event).collect()
    }

    #[test]
    fn sees_what_is_wrong() {
        let mut judge = Judge::default();
        let ledger = Ledger {
            owed: vec![Owed { number: 0, seq: 10 }, Owed { number: 2, seq: 12 }],
            refused: vec![1],
            ..Ledger::default()
        };
        judge.take(&ledger, 4);
        let look = |places: &[(u64, u64)]| judge.judge("here", &found(places), &[(0, 9)], |_| 3);
        let good = Verdict { kept: 2, unanswered: 1 };
        assert_eq!(look(&[(10, 0), (12, 2), (13, 3)]), Ok(good));
        for (places, says) in [
            (&[(10, 0)][..], "LOST"),
            (&[(10, 0), (12, 2), (13, 2)], "twice"),
            (&[(10, 0), (11, 2)], "stands at 11"),
            (&[(12, 2), (10, 0)], "does not follow"),
            (&[(10, 2), (12, 0)], "behind"),
            (&[(10, 0), (11, 1), (12, 2)], "refused"),
            (&[(10, 0), (12, 2), (13, 4)], "never posted"),
        ] {
            let said = look(places).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        let altered = judge.judge("here", &found(&[(10, 0), (12, 2)]), &[], |_| 4);
        assert!(altered.unwrap_err().contains("filling"));
        let gone = judge.judge("here", &found(&[(12, 2)]), &[(0, 10)], |_| 3);
        assert_eq!(gone.map(|verdict| verdict.kept), Ok(1));
    }
}
