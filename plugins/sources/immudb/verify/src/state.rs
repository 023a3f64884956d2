//! States: how far a database is, and whether it may be there.

use crate::hash::{Alh, EMPTY, Hash, TxId};
use crate::part::Part;
use crate::reason::Reason;
use crate::wire;

/// A database's last transaction and the hash over all up to it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    /// The last transaction; 0 if there is none.
    pub tx: TxId,
    /// Its Alh; that of nothing if there is none.
    pub alh: Alh,
}

impl State {
    /// Checks the form of a received state, and that it is of the database `db`.
    ///
    /// # Errors
    /// It is of another database; its hash has not 32 bytes, or is one of
    /// something although there is no transaction.
    pub fn new(db: &str, received: &wire::ImmutableState<'_>) -> Result<Self, Reason> {
        if received.db != db {
            return Err(Reason::OtherDatabase);
        }
        let state = Self {
            tx: TxId(received.tx_id),
            alh: Alh(Hash::received(Part::StateHash, received.tx_hash)?),
        };
        if state.is_empty() && state.alh.0 != EMPTY {
            return Err(Reason::EmptyHash);
        }
        Ok(state)
    }

    /// Whether the database has no transactions.
    pub fn is_empty(&self) -> bool {
        self.tx == TxId(0)
    }

    /// What a claimed state is to this trusted one. [`Progress::Ahead`] needs a
    /// proof; a trusted state without transactions is extended by any.
    ///
    /// # Errors
    /// Rollback, emptied, fork.
    pub fn compare(&self, claimed: &Self) -> Result<Progress, Reason> {
        let (trusted, found) = (self.tx, claimed.tx);
        if found > trusted {
            Ok(Progress::Ahead)
        } else if found == trusted {
            if claimed.alh == self.alh {
                Ok(Progress::Same)
            } else {
                Err(Reason::Fork { tx: found })
            }
        } else if claimed.is_empty() {
            Err(Reason::Emptied { trusted })
        } else {
            Err(Reason::Rollback { trusted, found })
        }
    }
}

/// What a claimed state is to a trusted one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The same.
    Same,
    /// It has more transactions: to be proven.
    Ahead,
}
