//! A way down through a history: from a known state to older ones, a part of it each interval.

use immudb_verify::{Alh, Back, State, TxId};
use serde::{Deserialize, Serialize};

use crate::trusted;

/// What lies between a known state and a floor, and how far down it was looked at. Kept in the journal, so that what was
/// seen once is known for good.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub(crate) struct Descent {
    /// The state that it began with.
    pub(crate) from: State,
    /// Transactions up to this one are none of its business.
    pub(crate) floor: u64,
    /// The transaction that is next, and the hash that it must have. All between it and the first state was seen.
    pub(crate) next: State,
}

#[derive(Deserialize, Serialize)]
struct Stored {
    tx: u64,
    alh: String,
    floor: u64,
    next_tx: u64,
    next_alh: String,
}

impl From<Descent> for Stored {
    fn from(descent: Descent) -> Self {
        Self {
            tx: descent.from.tx.0,
            alh: descent.from.alh.0.to_string(),
            floor: descent.floor,
            next_tx: descent.next.tx.0,
            next_alh: descent.next.alh.0.to_string(),
        }
    }
}

impl TryFrom<Stored> for Descent {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let state = |tx, alh: &str| trusted::state(tx, alh).ok_or("expected a hash of 64 hexadecimal digits");
        Ok(Self {
            from: state(stored.tx, &stored.alh)?,
            floor: stored.floor,
            next: state(stored.next_tx, &stored.next_alh)?,
        })
    }
}

impl Descent {
    /// Down from a state, with its own transaction first.
    pub(crate) fn new(from: State, floor: u64) -> Self {
        Self {
            from,
            floor,
            next: from,
        }
    }

    /// For a history that was seen from its first transaction on.
    pub(crate) fn nothing() -> Self {
        let (tx, alh) = (TxId(0), Alh::FIRST);
        Self::new(State { tx, alh }, 0)
    }

    /// How many transactions are left.
    pub(crate) fn left(&self) -> u64 {
        self.next.tx.0.saturating_sub(self.floor)
    }

    /// The lowest transaction of the next `most`, which end with [`next`](Self::next); none of those up to `low`. `None`
    /// if nothing is left.
    pub(crate) fn page(&self, most: u64, low: u64) -> Option<u64> {
        let (last, low) = (self.next.tx.0, low.max(self.floor));
        (last > low).then(|| last.saturating_sub(most.saturating_sub(1)).max(low + 1))
    }

    /// The walk that goes on here.
    pub(crate) fn walk(&self) -> Back {
        Back::new(self.next)
    }

    /// It goes no further.
    pub(crate) fn ended(mut self) -> Self {
        self.next.tx = TxId(self.floor);
        self
    }

    /// What the walk came to was looked at.
    pub(crate) fn reach(&mut self, walk: &Back) {
        self.next = walk.next();
    }
}

#[cfg(test)]
mod tests {
    use immudb_verify::Hash;

    use super::*;

    fn descent(tx: u64, floor: u64) -> Descent {
        let alh = Alh(Hash::from([7; 32]));
        Descent::new(State { tx: TxId(tx), alh }, floor)
    }

    #[test]
    fn pages_end_at_what_is_next_and_above_the_floor() {
        let down = descent(10, 3);
        assert_eq!(down.left(), 7);
        assert_eq!(down.page(4, 0), Some(7));
        assert_eq!(down.page(1, 0), Some(10));
        assert_eq!(down.page(100, 0), Some(4));
        // Some that can't be passed.
        assert_eq!(down.page(100, 8), Some(9));
        assert_eq!(down.page(100, 10), None);
        assert_eq!(descent(3, 3).page(100, 0), None);
        assert_eq!(Descent::nothing().page(100, 0), None);
        assert_eq!(Descent::nothing().left(), 0);
    }

    #[test]
    fn it_comes_back_from_its_text() {
        let down = descent(10, 3);
        let text = serde_json::to_string(&down).unwrap();
        assert_eq!(serde_json::from_str::<Descent>(&text).unwrap(), down);
        let broken = text.replace("0707", "zz");
        assert!(serde_json::from_str::<Descent>(&broken).is_err());
    }
}
