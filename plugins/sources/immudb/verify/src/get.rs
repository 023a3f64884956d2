//! A key's value, checked.

use crate::dual::{Entries, Proven, Verified, verify_dual};
use crate::entries::digest;
use crate::hash::{Hash, LeafIndex, TreeSize, TxId};
use crate::header::TxHeader;
use crate::merkle::verify_inclusion;
use crate::part::Part;
use crate::reason::Reason;
use crate::state::State;
use crate::wire;

/// Kind of a stored key: key and value, or reference.
const KEY_VALUE: u8 = 0;
/// What a stored value begins with if it is one.
const PLAIN: u8 = 0;
/// What it begins with if it refers to another key.
const REFERENCE: u8 = 1;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Get<'a> {
    /// The key, as users know it.
    pub key: &'a [u8],
    /// The transaction that set it, if one was named.
    pub at: Option<TxId>,
}

/// What a valid answer shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProvenEntry {
    /// The transaction that set the key.
    pub tx: TxId,
    /// Whether it was set to another key. Then it is shown which one, and the
    /// value and metadata in the answer are not: that takes an answer about the
    /// other key.
    pub is_reference: bool,
    /// That its transaction is in one history with the trusted state.
    pub history: Proven,
}

/// Checks the answer to a `VerifiableGet`. Without a trusted state (nothing
/// is trusted yet, `proveSinceTx` 0) the transaction itself stands for it.
///
/// # Errors
/// The entry isn't in its transaction, or that not in one history with the
/// trusted state; the answer is about something else, or can't show it.
pub fn verify_get<D: AsRef<[u8]>>(
    get: &Get<'_>,
    trusted: Option<&State>,
    answer: &wire::VerifiableEntry<'_, D>,
) -> Result<Verified<ProvenEntry>, Reason> {
    let missing = |part| Reason::Missing { part };
    let entry = answer.entry.as_ref().ok_or(missing(Part::Entry))?;
    let inclusion = answer.inclusion_proof.as_ref();
    let inclusion = inclusion.ok_or(missing(Part::EntryInclusionProof))?;
    let proof = answer.dual_proof.as_ref().ok_or(missing(Part::DualProof))?;
    let returned = answer.tx.as_ref().ok_or(missing(Part::Tx))?;

    let tx = check_key(get, entry)?;
    let source = proof.source_tx_header.as_ref().ok_or(missing(Part::SourceHeader))?;
    let target = proof.target_tx_header.as_ref().ok_or(missing(Part::TargetHeader))?;
    let (source, target) = (TxHeader::new(source)?, TxHeader::new(target)?);
    // The entry's transaction is on one side of the trusted one, or is it: it
    // is as its header says, and the proof shows whether that header may be.
    let as_stated = |header: &TxHeader| State { tx, alh: header.alh() };
    let (older, newer, side) = match trusted {
        None => (as_stated(&source), as_stated(&target), &target),
        Some(trusted) if trusted.tx <= tx => (*trusted, as_stated(&target), &target),
        Some(trusted) => (as_stated(&source), *trusted, &source),
    };
    let history = verify_dual(&older, &newer, proof)?;
    check_entry(get, entry, inclusion, side)?;
    let proven = match &history {
        Verified::Proven(proven) => proven,
        Verified::NeedsHeaders(pending) => pending.unproven(),
    };
    proven.verify_tx(tx, returned, Entries::NotAsked)?;
    Ok(history.map(|history| ProvenEntry {
        tx,
        is_reference: entry.referenced_by.is_some(),
        history,
    }))
}

/// The transaction that set the key that was asked for.
fn check_key(get: &Get<'_>, entry: &wire::Entry<'_>) -> Result<TxId, Reason> {
    let (key, tx) = match &entry.referenced_by {
        Some(reference) => (reference.key, reference.tx),
        None => (entry.key, entry.tx),
    };
    if key != get.key {
        return Err(Reason::OtherKey);
    }
    let found = TxId(tx);
    match get.at {
        Some(expected) if expected != found => {
            let part = Part::Entry;
            Err(Reason::OtherTx { part, expected, found })
        }
        _ => Ok(found),
    }
}

/// The entry is in the transaction's tree.
fn check_entry<D: AsRef<[u8]>>(
    get: &Get<'_>,
    entry: &wire::Entry<'_>,
    proof: &wire::InclusionProof<'_, D>,
    header: &TxHeader,
) -> Result<(), Reason> {
    let part = Part::EntryInclusionProof;
    let size = TreeSize(header.nentries().into());
    let (leaf, width) = (u64::try_from(proof.leaf), u64::try_from(proof.width));
    let leaf = match (leaf, width) {
        (Ok(leaf), Ok(width)) if width == size.0 => leaf,
        (leaf, _) => {
            let leaf = leaf.unwrap_or(u64::MAX);
            return Err(Reason::Leaf { part, leaf, size });
        }
    };
    let (h_value, metadata) = match &entry.referenced_by {
        None => (Hash::of_parts(&[&[PLAIN], entry.value]), &entry.metadata),
        Some(reference) => {
            let at = reference.at_tx.to_be_bytes();
            let value = Hash::of_parts(&[&[REFERENCE], &at, &[KEY_VALUE], entry.key]);
            (value, &reference.metadata)
        }
    };
    let digest = digest(header.version(), &[&[KEY_VALUE], get.key], metadata.as_ref(), &h_value)?;
    verify_inclusion(part, proof.terms, LeafIndex(leaf), size, digest.leaf(), &header.eh())
}
