//! Parts of an answer, as reasons name them.

use std::fmt;

/// Part of an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// The older transaction's header.
    SourceHeader,
    /// The newer transaction's header.
    TargetHeader,
    /// The header of a returned transaction.
    TxHeader,
    /// A returned transaction.
    Tx,
    /// `prevAlh` of a header.
    PrevAlh,
    /// `eH` of a header.
    EntriesRoot,
    /// `blRoot` of a header.
    TreeRoot,
    /// `hValue` of an entry.
    ValueHash,
    /// `targetBlTxAlh` of a proof.
    TargetBlTxAlh,
    /// The dual proof itself.
    DualProof,
    /// That the source is a leaf of the target's tree.
    InclusionProof,
    /// That the target's tree extends the source's.
    ConsistencyProof,
    /// That `targetBlTxAlh` is the last leaf of the target's tree.
    LastInclusionProof,
    /// That the target follows.
    LinearProof,
    /// That what the source's tree lacks became leaves of the target's.
    LinearAdvanceProof,
    /// That an entry belongs to its transaction.
    EntryInclusionProof,
    /// An entry.
    Entry,
    /// The hash of a state.
    StateHash,
    /// The peaks of a stored tree.
    Peaks,
    /// A signature.
    Signature,
    /// The key that comes with a signature.
    PublicKey,
    /// An exported transaction.
    Export,
}

impl Part {
    fn text(self) -> &'static str {
        match self {
            Self::SourceHeader => "source header",
            Self::TargetHeader => "target header",
            Self::TxHeader => "transaction's header",
            Self::Tx => "transaction",
            Self::PrevAlh => "prevAlh",
            Self::EntriesRoot => "eH",
            Self::TreeRoot => "blRoot",
            Self::ValueHash => "hValue",
            Self::TargetBlTxAlh => "targetBlTxAlh",
            Self::DualProof => "dual proof",
            Self::InclusionProof => "inclusion proof",
            Self::ConsistencyProof => "consistency proof",
            Self::LastInclusionProof => "last inclusion proof",
            Self::LinearProof => "linear proof",
            Self::LinearAdvanceProof => "linear advance proof",
            Self::EntryInclusionProof => "entry's inclusion proof",
            Self::Entry => "entry",
            Self::StateHash => "state's hash",
            Self::Peaks => "stored tree",
            Self::Signature => "signature",
            Self::PublicKey => "signature's public key",
            Self::Export => "exported transaction",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
