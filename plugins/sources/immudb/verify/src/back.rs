//! The walk back: from a known state to what lies before it.

use crate::hash::{Alh, TxId};
use crate::header::TxHeader;
use crate::reason::Reason;
use crate::state::State;
use crate::wire;

/// A walk towards the first transaction. The known state's hash covers the header of its transaction, which names the
/// Alh of the one before, and so on: each header is proven as it comes, whether or not trees lag.
///
/// Says nothing about the trees that the headers commit to; [`Walk`](crate::Walk) does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Back {
    next: State,
}

impl Back {
    /// A walk whose first header is that of a known state.
    pub fn new(known: State) -> Self {
        Self { next: known }
    }

    /// The transaction whose header is next, and the Alh that it must have; 0 at the end.
    pub fn next(&self) -> State {
        self.next
    }

    /// Whether the header of the first transaction was taken, or there is none.
    pub fn is_done(&self) -> bool {
        self.next.is_empty()
    }

    /// Takes the next header.
    ///
    /// # Errors
    /// It is that of another transaction, has another Alh, or is the first and follows something: then the walk stays
    /// where it is.
    pub fn step(&mut self, received: &wire::TxHeader<'_>) -> Result<TxHeader, Reason> {
        let header = TxHeader::new(received)?;
        let (expected, found) = (self.next.tx, header.id());
        if self.is_done() || found != expected {
            return Err(Reason::WalkOrder { expected, found });
        }
        if header.alh() != self.next.alh {
            return Err(Reason::WalkHash { tx: found });
        }
        let before = TxId(found.0 - 1);
        if before == TxId(0) && header.prev_alh() != Alh::FIRST {
            return Err(Reason::WalkChain { tx: found });
        }
        self.next = State {
            tx: before,
            alh: header.prev_alh(),
        };
        Ok(header)
    }
}
