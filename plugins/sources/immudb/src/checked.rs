//! How far values were checked: new transactions first, and all of them again and again.

use auditmon_core::time::Nanos;
use immudb_verify::State;
use serde::{Deserialize, Serialize};

use crate::descent::Descent;
use crate::trusted::{is_false, is_zero};

/// What is remembered of the checks of one database's values.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Values {
    /// Transactions since the first contact were checked up to this one; 0 if none was.
    pub(crate) new_to: u64,
    /// On the way down through those since.
    pub(crate) new: Option<Descent>,
    /// On the way down through all.
    pub(crate) round: Option<Descent>,
    /// When that round began.
    pub(crate) began: Nanos,
    /// How long the last whole round took; none before the first ended.
    pub(crate) took: Option<Nanos>,
    /// A header says that the values of all transactions below this one may have been deleted; 0 if none does.
    pub(crate) truncated: u64,
    /// The values of this transaction were gone, and no header said why; once later headers were looked at, that counts.
    pub(crate) gone: Option<u64>,
    /// Transactions of this round of which not all values were given.
    pub(crate) not_given: u64,
    /// The same of the last whole round.
    pub(crate) not_given_before: u64,
    /// Nothing up to this transaction can be held to anything, because the one behind it is damaged; 0 if none is.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) lost_to: u64,
    /// The server has given a value. One that is empty and wasn't set so is damaged from then on, and not what servers
    /// before 1.2.3 give.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) gives: bool,
}

/// Which of its two ways a check is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// What is new.
    New,
    /// All of it.
    Round,
}

impl Values {
    /// The way that is to be gone on, begun if need be; `None` if there are no transactions. `past` is the last
    /// transaction from before the first contact: those up to it are for the rounds.
    pub(crate) fn way(&mut self, trusted: State, past: u64, now: Nanos) -> Option<(Way, Descent)> {
        let floor = self.new_to.max(past);
        if let Some(new) = self.new {
            return Some((Way::New, new));
        }
        if trusted.tx.0 > floor {
            let new = *self.new.insert(Descent::new(trusted, floor));
            return Some((Way::New, new));
        }
        if trusted.is_empty() {
            return None;
        }
        let round = match self.round {
            Some(round) => round,
            None => {
                self.began = now;
                self.not_given = 0;
                *self.round.insert(Descent::new(trusted, 0))
            }
        };
        Some((Way::Round, round))
    }

    /// Takes how far a way has come. Whether it is at its end.
    pub(crate) fn reach(&mut self, way: Way, descent: Descent, now: Nanos) -> bool {
        let ended = descent.left() == 0;
        let rest = (!ended).then_some(descent);
        match way {
            Way::New => {
                self.new = rest;
                if ended {
                    self.new_to = descent.from.tx.0;
                }
            }
            Way::Round => {
                self.round = rest;
                self.gone = None;
                if ended {
                    self.lost_to = 0;
                    self.took = Some(now.saturating_sub(self.began));
                    self.not_given_before = self.not_given;
                }
            }
        }
        ended
    }

    /// A way ends above its end: what is below can't be checked.
    pub(crate) fn lose(&mut self, way: Way, descent: Descent, now: Nanos) {
        let to = descent.next.tx.0.saturating_sub(1);
        self.reach(way, descent.ended(), now);
        self.lost_to = self.lost_to.max(to);
    }

    /// How many transactions were never checked, and the oldest of them; zeros if there is none.
    pub(crate) fn unchecked(&self, trusted: u64, past: u64) -> (u64, u64) {
        let old = match (self.took, &self.round) {
            (Some(_), _) => 0,
            (None, Some(round)) => round.next.tx.0.min(past),
            (None, None) => past,
        };
        let old = old.max(self.lost_to.min(past));
        let floor = self.new_to.max(past);
        let done = self.new.map_or(0, |new| new.from.tx.0.saturating_sub(new.next.tx.0));
        let new = trusted.saturating_sub(floor).saturating_sub(done);
        let oldest = match (old, new) {
            (0, 0) => 0,
            (0, _) => floor + 1,
            _ => 1,
        };
        (old + new, oldest)
    }
}

#[cfg(test)]
mod tests {
    use immudb_verify::{Alh, Hash, TxId};

    use super::*;

    fn state(tx: u64) -> State {
        let alh = Alh(Hash::from([1; 32]));
        State { tx: TxId(tx), alh }
    }

    fn down(descent: Descent, to: u64) -> Descent {
        Descent {
            next: state(to),
            ..descent
        }
    }

    #[test]
    fn what_is_new_comes_first_and_then_all_of_it() {
        let mut values = Values::default();
        // 10 transactions from before the first contact, 5 since.
        assert_eq!(values.unchecked(15, 10), (15, 1));
        let (way, new) = values.way(state(15), 10, 100).unwrap();
        assert_eq!((way, new.left()), (Way::New, 5));
        assert!(!values.reach(way, down(new, 12), 100));
        assert_eq!(values.unchecked(15, 10), (12, 1));
        // It goes on where it was, also if there is more by now.
        let (way, new) = values.way(state(20), 10, 100).unwrap();
        assert_eq!((way, new.next, new.from), (Way::New, state(12), state(15)));
        assert!(values.reach(way, down(new, 10), 100));
        assert_eq!(values.unchecked(20, 10), (15, 1));
        let (way, new) = values.way(state(20), 10, 100).unwrap();
        assert_eq!((way, new.left()), (Way::New, 5));
        assert!(values.reach(way, down(new, 15), 100));
        let (way, round) = values.way(state(20), 10, 200).unwrap();
        assert_eq!((way, round.left()), (Way::Round, 20));
        assert!(!values.reach(way, down(round, 4), 200));
        assert_eq!(values.unchecked(20, 10), (4, 1));
        assert_eq!(values.took, None);
        // What is new comes before a round goes on.
        let (way, new) = values.way(state(21), 10, 300).unwrap();
        assert_eq!(way, Way::New);
        assert!(values.reach(way, down(new, 20), 300));
        let (way, round) = values.way(state(21), 10, 300).unwrap();
        assert_eq!((way, round.left()), (Way::Round, 4));
        assert!(values.reach(way, down(round, 0), 350));
        assert_eq!(values.took, Some(150));
        assert_eq!(values.unchecked(21, 10), (0, 0));
        assert_eq!(values.unchecked(23, 10), (2, 22));
        // And again.
        let (way, round) = values.way(state(21), 10, 400).unwrap();
        assert_eq!((way, round.left()), (Way::Round, 21));
    }

    /// Not even by a round that ends where it can't go on; until one does.
    #[test]
    fn what_is_below_damage_was_not_checked() {
        let mut values = Values::default();
        let (way, round) = values.way(state(15), 15, 100).unwrap();
        values.lose(way, down(round, 8), 200);
        assert_eq!(values.unchecked(15, 15), (7, 1));
        let (way, round) = values.way(state(15), 15, 300).unwrap();
        values.lose(way, down(round, 8), 400);
        assert_eq!(values.unchecked(15, 15), (7, 1));
        let (way, round) = values.way(state(15), 15, 500).unwrap();
        values.reach(way, down(round, 0), 600);
        assert_eq!(values.unchecked(15, 15), (0, 0));
    }

    #[test]
    fn an_empty_database_has_nothing_to_check() {
        assert_eq!(Values::default().way(Descent::nothing().from, 0, 0), None);
        assert_eq!(Values::default().unchecked(0, 0), (0, 0));
    }
}
