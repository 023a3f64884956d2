//! Proofs along the chain of transactions.

use crate::hash::{Alh, Hash, TreeSize, TxId};
use crate::merkle::{length, verify_inclusion};
use crate::part::Part;
use crate::reason::Reason;
use crate::wire;

/// Checks that the transaction `target` follows from `source`.
///
/// # Errors
/// It doesn't, or the proof is none between these two.
pub fn verify_linear<D: AsRef<[u8]>>(
    proof: &wire::LinearProof<'_, D>,
    (source, source_alh): (TxId, &Alh),
    (target, target_alh): (TxId, &Alh),
) -> Result<(), Reason> {
    let part = Part::LinearProof;
    if source.0 < 1 || source > target {
        return Err(Reason::NotAhead {
            source_tx: source,
            target_tx: target,
        });
    }
    for (expected, found) in [(source, proof.source_tx_id), (target, proof.target_tx_id)] {
        let found = TxId(found);
        if found != expected {
            return Err(Reason::OtherTx { part, expected, found });
        }
    }
    length(part, (target.0 - source.0).saturating_add(1), proof.terms)?;
    let (mut id, mut inner) = (source, proof.terms.iter());
    let Some(first) = inner.next() else {
        return Err(Reason::Missing { part });
    };
    let mut alh = Alh(Hash::received(part, first.as_ref())?);
    if alh != *source_alh {
        return Err(Reason::Mismatch { part });
    }
    for term in inner {
        id = TxId(id.0 + 1);
        alh = alh.then(id, &Hash::received(part, term.as_ref())?);
    }
    if alh == *target_alh {
        Ok(())
    } else {
        Err(Reason::Mismatch { part })
    }
}

/// Checks that the transactions after `start` and up to `end` are leaves of
/// the tree of `size` leaves with this root, and that they chain up to `end_alh`.
/// Up to one such transaction there is nothing to show, and no proof.
///
/// # Errors
/// They aren't or don't, or the proof is none for these; it is absent although
/// needed (inconclusive: servers before 1.4.1 don't know it).
pub fn verify_linear_advance<D: AsRef<[u8]>>(
    proof: Option<&wire::LinearAdvanceProof<'_, D>>,
    start: TreeSize,
    (end, end_alh): (TxId, &Alh),
    (size, root): (TreeSize, &Hash),
) -> Result<(), Reason> {
    let part = Part::LinearAdvanceProof;
    let Some(steps) = end.0.checked_sub(start.0) else {
        let (leaf, size) = (end.0, start);
        return Err(Reason::Leaf { part, leaf, size });
    };
    let Some(proof) = proof else {
        return if steps <= 1 {
            Ok(())
        } else {
            Err(Reason::AdvanceAbsent { expected: steps })
        };
    };
    let (terms, paths) = if steps <= 1 { (0, 0) } else { (steps, steps - 1) };
    length(part, terms, proof.linear_proof_terms)?;
    length(part, paths, &proof.inclusion_proofs)?;
    let mut terms = proof.linear_proof_terms.iter();
    let Some(first) = terms.next() else {
        return Ok(());
    };
    let mut alh = Alh(Hash::received(part, first.as_ref())?);
    let mut id = TxId(start.0 + 1);
    for (path, term) in proof.inclusion_proofs.iter().zip(terms) {
        verify_inclusion(part, path, id.leaf(), size, alh.leaf(), root)?;
        id = TxId(id.0 + 1);
        alh = alh.then(id, &Hash::received(part, term.as_ref())?);
    }
    if alh == *end_alh {
        Ok(())
    } else {
        Err(Reason::Mismatch { part })
    }
}
