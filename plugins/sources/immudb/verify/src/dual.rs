//! Proof that a claimed state follows from a trusted one.
//!
//! Beside what a client of immudb itself looks at, every list must have the
//! length that its place in the proof demands, nothing may be there that
//! proves nothing, and the last leaf of the target's tree is tied to the
//! trusted history. So every byte of an answer counts.

use crate::hash::{Alh, Hash, TreeSize, TxId, ZERO};
use crate::header::TxHeader;
use crate::linear::{verify_linear, verify_linear_advance};
use crate::merkle::{length, verify_consistency, verify_inclusion, verify_last};
use crate::part::Part;
use crate::reason::Reason;
use crate::state::State;
use crate::wire;

/// What a valid proof shows: `target` follows from `source`.
///
/// Not shown: that the transactions between the two chain, which takes the
/// walk; that entries or values exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proven {
    source: TxHeader,
    target: TxHeader,
    target_alh: Alh,
}

impl Proven {
    /// Header of the older transaction.
    pub fn source(&self) -> &TxHeader {
        &self.source
    }

    /// Header of the newer transaction.
    pub fn target(&self) -> &TxHeader {
        &self.target
    }

    /// The newer state: what is signed, and what may be trusted from now on.
    pub fn target_state(&self) -> State {
        State {
            tx: self.target.id(),
            alh: self.target_alh,
        }
    }

    /// Whether the newer transaction's tree lacks some before it. A proof from
    /// it may then need headers, or the walk.
    pub fn target_lags(&self) -> bool {
        self.target.lags()
    }

    /// Checks that a returned transaction is the one asked for and one of the
    /// proof's two, and that its entries are all of its entries. An answer to
    /// a request without entries has none; `entries` says what was asked for.
    ///
    /// # Errors
    /// It isn't, or they aren't.
    pub fn verify_tx(&self, id: TxId, tx: &wire::Tx<'_>, entries: Entries) -> Result<&TxHeader, Reason> {
        let part = Part::TxHeader;
        let received = TxHeader::new(&tx.header.ok_or(Reason::Missing { part })?)?;
        let found = received.id();
        if found != id {
            let expected = id;
            return Err(Reason::OtherTx { part, expected, found });
        }
        let known = [&self.source, &self.target].into_iter().find(|known| known.id() == id);
        let known = known.ok_or(Reason::NotInProof { tx: id })?;
        if *known != received {
            return Err(Reason::HeaderHash { part, tx: id });
        }
        match entries {
            Entries::All => known.verify_entries(&tx.entries)?,
            Entries::NotAsked if tx.entries.is_empty() => {}
            Entries::NotAsked => known.verify_entries(&tx.entries)?,
        }
        Ok(known)
    }
}

/// Which entries of a transaction were asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entries {
    /// All. Servers before 1.2.3 always send them.
    All,
    /// None; if there are some they must be all.
    NotAsked,
}

/// Outcome of a proof that holds as far as it goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verified<T> {
    /// It goes all the way.
    Proven(T),
    /// It is one if the source's own history agrees, see [`Pending::verify`].
    NeedsHeaders(Pending<T>),
}

impl<T> Verified<T> {
    /// The same about something else.
    pub(crate) fn map<U>(self, make: impl FnOnce(T) -> U) -> Verified<U> {
        match self {
            Self::Proven(proven) => Verified::Proven(make(proven)),
            Self::NeedsHeaders(pending) => Verified::NeedsHeaders(Pending {
                first: pending.first,
                first_prev: pending.first_prev,
                last: pending.last,
                last_alh: pending.last_alh,
                proven: make(pending.proven),
            }),
        }
    }
}

/// A proof whose source lags: the leaves that the target's tree has more must
/// be those of the source's history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending<T> {
    first: TxId,
    first_prev: Alh,
    last: TxId,
    last_alh: Alh,
    proven: T,
}

impl<T> Pending<T> {
    /// First and last of the transactions whose headers are needed.
    pub fn range(&self) -> (TxId, TxId) {
        (self.first, self.last)
    }

    /// What these headers are to prove, for checks that don't depend on it.
    pub(crate) fn unproven(&self) -> &T {
        &self.proven
    }

    /// Checks those headers, in order, and gives what is proven.
    ///
    /// # Errors
    /// They are not those headers or don't lead to the trusted state.
    pub fn verify<'a>(self, headers: impl IntoIterator<Item = wire::TxHeader<'a>>) -> Result<T, Reason> {
        let (mut next, mut alh) = (self.first, self.first_prev);
        for received in headers {
            let header = TxHeader::new(&received)?;
            if header.id() != next || next > self.last {
                let (expected, found) = (next, header.id());
                return Err(Reason::WalkOrder { expected, found });
            }
            if header.prev_alh() != alh {
                return Err(Reason::SourceChain { tx: self.last });
            }
            alh = header.alh();
            next = TxId(next.0.saturating_add(1));
        }
        if next.0 == self.last.0.saturating_add(1) && alh == self.last_alh {
            Ok(self.proven)
        } else {
            Err(Reason::SourceChain { tx: self.last })
        }
    }
}

/// The two headers of a proof, known to be those of the two states.
pub(crate) fn headers(
    trusted: &State,
    claimed: &State,
    source: Option<&wire::TxHeader<'_>>,
    target: Option<&wire::TxHeader<'_>>,
) -> Result<Proven, Reason> {
    let source = source.ok_or(Reason::Missing {
        part: Part::SourceHeader,
    })?;
    let target = target.ok_or(Reason::Missing {
        part: Part::TargetHeader,
    })?;
    let (source, target) = (TxHeader::new(source)?, TxHeader::new(target)?);
    for (part, header, state) in [
        (Part::SourceHeader, &source, trusted),
        (Part::TargetHeader, &target, claimed),
    ] {
        let (expected, found) = (state.tx, header.id());
        if found != expected {
            return Err(Reason::OtherTx { part, expected, found });
        }
    }
    if trusted.is_empty() || trusted.tx > claimed.tx {
        return Err(Reason::NotAhead {
            source_tx: trusted.tx,
            target_tx: claimed.tx,
        });
    }
    if trusted.tx == claimed.tx && trusted.alh != claimed.alh {
        return Err(Reason::Fork { tx: trusted.tx });
    }
    for (part, header, state) in [
        (Part::SourceHeader, &source, trusted),
        (Part::TargetHeader, &target, claimed),
    ] {
        if header.alh() != state.alh {
            return Err(Reason::HeaderHash { part, tx: state.tx });
        }
    }
    Ok(Proven {
        source,
        target,
        target_alh: claimed.alh,
    })
}

/// Checks that the state `claimed` follows from `trusted`. Both may be the
/// same: then the answer must be one about that transaction alone.
///
/// # Errors
/// It doesn't, or the answer is no such proof, or this answer can't show it
/// ([`Class::Inconclusive`](crate::Class::Inconclusive)).
pub fn verify_dual<D: AsRef<[u8]>>(
    trusted: &State,
    claimed: &State,
    proof: &wire::DualProof<'_, D>,
) -> Result<Verified<Proven>, Reason> {
    let linear = proof.linear_proof.as_ref().ok_or(Reason::Missing {
        part: Part::LinearProof,
    })?;
    let proven = headers(
        trusted,
        claimed,
        proof.source_tx_header.as_ref(),
        proof.target_tx_header.as_ref(),
    )?;
    let (source, target) = (&proven.source, &proven.target);
    let (size, root) = (target.tree_size(), target.tree_root());
    if source.tree_size() > size {
        return Err(Reason::TreeShrank {
            source_size: source.tree_size(),
            target_size: size,
        });
    }
    // The transaction that is the tree's last leaf.
    let leaf = TxId(size.0);
    let leaf_alh = Alh(Hash::received(Part::TargetBlTxAlh, proof.target_bl_tx_alh)?);
    let in_tree = source.id() < leaf;

    if in_tree {
        let part = Part::InclusionProof;
        let leaf = trusted.alh.leaf();
        verify_inclusion(part, proof.inclusion_proof, source.id().leaf(), size, leaf, &root)?;
    } else {
        length(Part::InclusionProof, 0, proof.inclusion_proof)?;
    }
    if source.tree_size() > TreeSize(0) {
        let old_root = source.tree_root();
        verify_consistency(proof.consistency_proof, (source.tree_size(), &old_root), (size, &root))?;
    } else {
        length(Part::ConsistencyProof, 0, proof.consistency_proof)?;
    }
    if size > TreeSize(0) {
        verify_last(proof.last_inclusion_proof, size, leaf_alh.leaf(), &root)?;
    } else {
        length(Part::LastInclusionProof, 0, proof.last_inclusion_proof)?;
        if leaf_alh.0 != ZERO {
            return Err(Reason::NotZero {
                part: Part::TargetBlTxAlh,
            });
        }
    }
    // From the leaf, or from the source if that is later, on to the target.
    let claimed_end = (target.id(), &claimed.alh);
    let advance_end = if in_tree {
        verify_linear(linear, (leaf, &leaf_alh), claimed_end)?;
        (source.id(), &trusted.alh)
    } else {
        verify_linear(linear, (source.id(), &trusted.alh), claimed_end)?;
        (leaf, &leaf_alh)
    };
    let advance = proof.linear_advance_proof.as_ref();
    verify_linear_advance(advance, source.tree_size(), advance_end, (size, &root))?;
    check_last_leaf(&proven, trusted, leaf, &leaf_alh)?;

    if source.tree_size() < size && leaf < source.id() {
        return Ok(Verified::NeedsHeaders(Pending {
            first: TxId(leaf.0 + 1),
            first_prev: leaf_alh,
            last: source.id(),
            last_alh: trusted.alh,
            proven,
        }));
    }
    Ok(Verified::Proven(proven))
}

/// The last leaf of the target's tree must be the source or the target's
/// predecessor, where it is one of them: nothing else says so if it is the source.
fn check_last_leaf(proven: &Proven, trusted: &State, leaf: TxId, leaf_alh: &Alh) -> Result<(), Reason> {
    let (source, target) = (&proven.source, &proven.target);
    let known = if leaf == source.id() {
        trusted.alh
    } else if leaf != TxId(0) && !target.lags() {
        target.prev_alh()
    } else {
        return Ok(());
    };
    if known == *leaf_alh {
        Ok(())
    } else {
        Err(Reason::LastLeaf {
            tx: leaf,
            target_tx: target.id(),
        })
    }
}
