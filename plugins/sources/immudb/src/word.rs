//! An operator's word: which state is trusted again after a finding, who says so, and why.

use auditmon_core::Batch;
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::time::Nanos;
use immudb_verify::{Alh, EMPTY, State, TxId};
use serde_json::{Value, json};

use crate::address::Endpoint;
use crate::checked::Values;
use crate::config::Accept;
use crate::note::shown;
use crate::trusted::{self, Latched, Record, Remembered};
use crate::verdict::{Code, History};

/// The state of a database without a transaction.
pub(crate) const NOTHING: State = State {
    tx: TxId(0),
    alh: Alh(EMPTY),
};

/// What an operator said.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) database: String,
    /// The state to trust; without one, that which the finding shows.
    pub(crate) state: Option<State>,
    pub(crate) by: String,
    /// User of the process that said it; none for the configuration's.
    pub(crate) uid: Option<u32>,
    pub(crate) reason: String,
    /// What tells it from others that the configuration says.
    pub(crate) mark: Option<String>,
}

impl Order {
    /// What the configuration says; `None` if that names no state.
    pub(crate) fn of(accept: &Accept) -> Option<Self> {
        Some(Self {
            database: accept.database.to_lowercase(),
            state: Some(accept.state()?),
            by: accept.by.clone(),
            uid: None,
            reason: accept.reason.clone(),
            mark: Some(accept.mark()),
        })
    }
}

/// Most transactions that are remembered as accepted; what is wrong with later ones is found again and again.
const MAX_DAMAGED: usize = 1_000;

/// What a finding says of the history, and the transaction that is wrong in itself.
type Found = (Code, Option<u64>);

/// Transactions that were accepted although something is wrong with them, with that of the finding. In another history
/// nothing is accepted yet.
fn damaged(old: Option<&Record>, found: Option<Found>) -> Vec<u64> {
    let Some(old) = old else { return Vec::new() };
    let mut damaged = old.damaged.clone();
    let Some(found) = found else {
        return damaged;
    };
    match found {
        (_, Some(0)) => {}
        (Code::CorruptTx | Code::Value | Code::Proof, Some(tx)) => {
            let new = !damaged.contains(&tx) && damaged.len() < MAX_DAMAGED;
            damaged.extend(new.then_some(tx));
        }
        (Code::Proof | Code::Rollback | Code::Emptied | Code::Fork | Code::Missing | Code::SplitView, _) => {
            damaged.clear();
        }
        _ => {}
    }
    damaged
}

/// How many transactions a history had that is given up now or was before.
fn given_up(old: &Record, found: Option<Found>) -> u64 {
    match found {
        Some(
            (Code::Proof, None) | (Code::Rollback | Code::Emptied | Code::Fork | Code::Missing | Code::SplitView, _),
        ) => old.given_up.max(old.state.tx.0),
        _ => old.given_up,
    }
}

/// What of a finding counts for the accepted state, which may go on with the trusted history: what another server showed
/// before, or this one as it lagged, is no part of such a one. What is signed or wrong in itself stays.
fn weighed(finding: &Latched, goes_on: bool) -> Option<Found> {
    let (code, tx) = (finding.of_history(), finding.tx);
    if !goes_on || code == Code::SplitView {
        return Some((code, tx));
    }
    match Code::parse(&finding.code) {
        Code::Rollback | Code::Emptied | Code::Fork | Code::Missing => None,
        Code::Proof if tx.is_none() => None,
        code => Some((code, tx)),
    }
}

/// What an order comes to: an event and what is trusted from then on, for one frame of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) database: String,
    pub(crate) record: Record,
    by: String,
    /// The event's data.
    pub(crate) data: Value,
}

impl Word {
    /// Weighs an order against what is remembered; `found` is the finding on a database that nothing is remembered of,
    /// `current` what the server showed last, and whether that follows from the trusted history, where this was in doubt.
    ///
    /// # Errors
    /// A sentence: it was taken before, there is no finding, or nothing that could be trusted.
    pub(crate) fn new(
        order: &Order,
        (endpoint, label): (&Endpoint, &str),
        remembered: Option<&Remembered>,
        found: Option<&str>,
        current: Option<(State, Option<History>)>,
        now: Nanos,
    ) -> Result<Self, String> {
        let database = &order.database;
        let old = match remembered {
            Some(Remembered::Record(record)) => Some(&**record),
            Some(Remembered::Broken) => None,
            // Nothing was taken at first contact, for what was found.
            None if found.is_some() => None,
            None => return Err(format!("nothing is known of {label}/{database}")),
        };
        let mut accepted = old.map_or_else(Vec::new, |old| old.accepted.clone());
        if let Some(mark) = &order.mark {
            if accepted.contains(mark) {
                return Err(format!("these words on {label}/{database} were taken before"));
            }
            accepted.push(mark.clone());
        }
        let finding = old.and_then(|old| old.finding.as_ref());
        if old.is_some() && finding.is_none() {
            return Err(format!(
                "nothing was found on {label}/{database} that could be accepted"
            ));
        }
        if let (None, Some((state, Some(history)))) = (order.state, current) {
            let says = match history {
                History::Follows => None,
                History::Differs(_) => Some("doesn't follow from the trusted history"),
                History::Unknown => Some("may not follow from the trusted history: that could not be told"),
            };
            if let Some(says) = says {
                return Err(format!(
                    "{label} is another server than before, and transaction {} of {database} that it shows {says}; to trust \
                     it all the same name transaction and hash (--tx, --hash)",
                    state.tx
                ));
            }
        }
        let shown_now = current.map(|(state, _)| state);
        let gone = finding.is_some_and(|finding| finding.code == Code::Missing.as_str());
        let state = order.state.or(shown_now).or(gone.then_some(NOTHING)).ok_or_else(|| {
            format!(
                "{label} has shown no state of {database} since the finding or the agent's start; wait for the next \
                 audit, or name transaction and hash"
            )
        })?;
        let goes_on = current == Some((state, Some(History::Follows)));
        let weighed = finding.and_then(|finding| weighed(finding, goes_on));
        let record = Record {
            state,
            signature: None,
            uuid: None,
            key: None,
            first: old.map_or(now, |old| old.first),
            taken: now,
            finding: None,
            accepted,
            // The history of the state is another one, as far as is known.
            past: None,
            values: Values::default(),
            damaged: damaged(old, weighed),
            given_up: old.map_or(0, |old| given_up(old, weighed)),
        };
        let data = json!({
            "server": {"name": label, "address": endpoint.to_string()},
            "database": database,
            "by": order.by,
            "uid": order.uid,
            "reason": order.reason,
            "old": old.map(|old| shown(&old.state)),
            "finding": finding.map(|finding| &*finding.code).or(found),
            "new": shown(&state),
        });
        Ok(Self {
            database: database.clone(),
            record,
            by: order.by.clone(),
            data,
        })
    }

    /// Adds it to a frame. Whether it fitted.
    pub(crate) fn write(&self, endpoint: &Endpoint, batch: &mut Batch) -> bool {
        let resource = format!("immudb://{endpoint}/{}", self.database);
        let data = self.data.to_string();
        let draft = Draft {
            resource: Some(&resource),
            outcome: Outcome::Success,
            severity: Severity::Warning,
            data: Data::Raw(&data),
            ..Draft::new("immudb.trust", &self.by)
        };
        let key = trusted::key(endpoint, &self.database);
        batch.push(draft).is_ok() && batch.remember(&key, None, &self.record.encode()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use immudb_verify::Hash;

    use super::*;

    fn state(tx: u64) -> State {
        let alh = Alh(Hash::from([7; 32]));
        State { tx: TxId(tx), alh }
    }

    /// Another server that showed an older copy at first, and something else by now.
    fn record() -> Record {
        Record {
            state: state(9),
            signature: None,
            uuid: None,
            key: None,
            first: 1,
            taken: 2,
            finding: Some(Latched {
                code: "identity".to_owned(),
                also: Some("rollback".to_owned()),
                at: 3,
                tx: None,
            }),
            accepted: Vec::new(),
            past: None,
            values: Values::default(),
            damaged: vec![4],
            given_up: 0,
        }
    }

    fn order(state: Option<State>) -> Order {
        Order {
            database: "db".to_owned(),
            state,
            by: "jane".to_owned(),
            uid: None,
            reason: "a failover".to_owned(),
            mark: None,
        }
    }

    /// A replica that lagged and has caught up has lost nothing; what was signed, or is wrong in itself, is over with the word
    /// alone.
    #[test]
    fn a_history_that_goes_on_is_given_up_only_for_what_would_come_back() {
        let endpoint = Endpoint::parse("a:1").unwrap();
        for (code, also, tx, given_up, damaged) in [
            ("rollback", None, None, 0, vec![4]),
            ("emptied", None, None, 0, vec![4]),
            ("fork", None, None, 0, vec![4]),
            ("missing", None, None, 0, vec![4]),
            ("proof", None, None, 0, vec![4]),
            ("proof", None, Some(6), 0, vec![4, 6]),
            ("corrupt-tx", None, Some(6), 0, vec![4, 6]),
            ("value", None, Some(0), 0, vec![4]),
            ("split-view", None, None, 9, vec![]),
            ("identity", Some("split-view"), None, 9, vec![]),
            // Another server's may be whole.
            ("identity", Some("corrupt-tx"), Some(6), 0, vec![4]),
        ] {
            let finding = Latched {
                code: code.to_owned(),
                also: also.map(str::to_owned),
                at: 3,
                tx,
            };
            let record = Record {
                finding: Some(finding),
                ..record()
            };
            let remembered = Remembered::Record(Box::new(record));
            let shown = Some((state(12), Some(History::Follows)));
            let word = Word::new(&order(None), (&endpoint, "db1"), Some(&remembered), None, shown, 4).unwrap();
            assert_eq!(
                (word.record.given_up, &word.record.damaged),
                (given_up, &damaged),
                "{code} {also:?} {tx:?}"
            );
        }
    }

    #[test]
    fn a_history_is_given_up_where_the_accepted_state_is_not_known_to_follow() {
        let endpoint = Endpoint::parse("a:1").unwrap();
        let remembered = Remembered::Record(Box::new(record()));
        let differs = History::Differs(Code::Rollback);
        for (named, history, given_up, damaged) in [
            (None, History::Follows, 0, vec![4]),
            (Some(state(12)), History::Follows, 0, vec![4]),
            // Not the one that was shown.
            (Some(state(6)), History::Follows, 9, vec![]),
            (Some(state(12)), differs, 9, vec![]),
            (Some(state(12)), History::Unknown, 9, vec![]),
        ] {
            let order = order(named);
            let shown = Some((state(12), Some(history)));
            let word = Word::new(&order, (&endpoint, "db1"), Some(&remembered), None, shown, 4).unwrap();
            assert_eq!(
                (word.record.given_up, &word.record.damaged),
                (given_up, &damaged),
                "{named:?} {history:?}"
            );
        }
    }
}
