//! What a rejection says about the server.

/// What a rejection says about the server.
///
/// Only [`Inconclusive`](Self::Inconclusive) doesn't speak against it; nothing
/// rejected is ever to be trusted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// A proof or a walk leads elsewhere.
    Proof,
    /// The last transaction is older than one seen before.
    Rollback,
    /// A database that had transactions has none.
    Emptied,
    /// One transaction, two hashes.
    Fork,
    /// Who signs has changed, or nobody signs any more.
    Identity,
    /// A state isn't signed by a configured key.
    Signature,
    /// A value isn't the one that the transaction holds.
    Value,
    /// The answer isn't one that an immudb server gives.
    Malformed,
    /// This can't be judged from this answer: the header walk decides, or a newer verifier.
    Inconclusive,
}

impl Class {
    /// Stable name, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Rollback => "rollback",
            Self::Emptied => "emptied",
            Self::Fork => "fork",
            Self::Identity => "identity",
            Self::Signature => "signature",
            Self::Value => "value",
            Self::Malformed => "malformed",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Whether this is to be reported as tampering.
    pub fn is_tampering(self) -> bool {
        self != Self::Inconclusive
    }
}
