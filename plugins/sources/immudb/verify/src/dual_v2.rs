//! The proof without linear part, as documents have it.

use crate::dual::{Proven, headers};
use crate::hash::{TreeSize, TxId};
use crate::merkle::{length, verify_consistency, verify_inclusion};
use crate::part::Part;
use crate::reason::Reason;
use crate::state::State;
use crate::wire;

/// Checks that the state `claimed` follows from `trusted`.
///
/// It says less than [`verify_dual`](crate::verify_dual): that the target
/// follows along the chain is seen only if it follows at once.
///
/// # Errors
/// It doesn't, or the answer is no such proof; a tree lags (inconclusive).
pub fn verify_dual_v2<D: AsRef<[u8]>>(
    trusted: &State,
    claimed: &State,
    proof: &wire::DualProofV2<'_, D>,
) -> Result<Proven, Reason> {
    let proven = headers(
        trusted,
        claimed,
        proof.source_tx_header.as_ref(),
        proof.target_tx_header.as_ref(),
    )?;
    let (source, target) = (proven.source(), proven.target());
    for header in [source, target] {
        if header.lags() {
            let (tx, size) = (header.id(), header.tree_size());
            return Err(Reason::Lags { tx, size });
        }
    }
    if source.id() == target.id() {
        length(Part::InclusionProof, 0, proof.inclusion_proof)?;
        length(Part::ConsistencyProof, 0, proof.consistency_proof)?;
        return Ok(proven);
    }
    if TxId(source.id().0 + 1) == target.id() && target.prev_alh() != trusted.alh {
        return Err(Reason::LastLeaf {
            tx: source.id(),
            target_tx: target.id(),
        });
    }
    let (size, root) = (target.tree_size(), target.tree_root());
    let leaf = trusted.alh.leaf();
    let part = Part::InclusionProof;
    verify_inclusion(part, proof.inclusion_proof, source.id().leaf(), size, leaf, &root)?;
    // The first transaction's header has no tree: its leaf is the tree of one.
    let (old_size, old_root) = match source.tree_size() {
        TreeSize(0) => (TreeSize(1), leaf),
        old_size => (old_size, source.tree_root()),
    };
    verify_consistency(proof.consistency_proof, (old_size, &old_root), (size, &root))?;
    Ok(proven)
}
