//! A server's answers as they arrived, nothing of them checked.
//!
//! Each type mirrors the protobuf message of its name in immudb's schema and
//! borrows from it. Fields that no hash covers are left out, except where a
//! check other than a proof needs them. `D` is what the decoder makes of a
//! `bytes` field: `Vec<u8>`, `Bytes`, `&[u8]`. An absent message is `None`.

/// Header of a transaction (`TxHeader`; `TxMetadata` before 1.2.0).
#[derive(Clone, Copy, Debug, Default)]
pub struct TxHeader<'a> {
    /// Field 1.
    pub id: u64,
    /// Field 2.
    pub prev_alh: &'a [u8],
    /// Field 3: seconds since 1970.
    pub ts: i64,
    /// Field 4.
    pub nentries: i32,
    /// Field 5.
    pub eh: &'a [u8],
    /// Field 6.
    pub bl_tx_id: u64,
    /// Field 7.
    pub bl_root: &'a [u8],
    /// Field 8.
    pub version: i32,
    /// Field 9.
    pub metadata: Option<TxMetadata<'a>>,
}

/// What a header says beside its transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxMetadata<'a> {
    /// Field 1: 0 is absent.
    pub truncated_tx_id: u64,
    /// Field 2: empty is absent.
    pub extra: &'a [u8],
}

/// What an entry says beside key and value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KvMetadata {
    /// Field 1.
    pub deleted: bool,
    /// Field 2, its field 1: seconds since 1970; a present `Expiration` with 0 is `Some(0)`.
    pub expires_at: Option<i64>,
    /// Field 3.
    pub non_indexable: bool,
}

/// An entry of a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxEntry<'a> {
    /// Field 1: the stored key, with the byte of its kind.
    pub key: &'a [u8],
    /// Field 2.
    pub h_value: &'a [u8],
    /// Field 3; field 4 up to 1.1.0. Covered by no hash.
    pub v_len: i32,
    /// Field 4; none up to 1.1.0.
    pub metadata: Option<KvMetadata>,
}

/// A transaction.
#[derive(Clone, Debug, Default)]
pub struct Tx<'a> {
    /// Field 1.
    pub header: Option<TxHeader<'a>>,
    /// Field 2.
    pub entries: Vec<TxEntry<'a>>,
}

/// Transactions that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct LinearProof<'a, D> {
    /// Field 1.
    pub source_tx_id: u64,
    /// Field 2.
    pub target_tx_id: u64,
    /// Field 3.
    pub terms: &'a [D],
}

/// Transactions that follow each other and became leaves.
#[derive(Clone, Debug)]
pub struct LinearAdvanceProof<'a, D> {
    /// Field 1.
    pub linear_proof_terms: &'a [D],
    /// Field 2: the `terms` of each; what else they hold says nothing.
    pub inclusion_proofs: Vec<&'a [D]>,
}

/// Proof that one state follows from another.
#[derive(Clone, Debug)]
pub struct DualProof<'a, D> {
    /// Field 1.
    pub source_tx_header: Option<TxHeader<'a>>,
    /// Field 2.
    pub target_tx_header: Option<TxHeader<'a>>,
    /// Field 3.
    pub inclusion_proof: &'a [D],
    /// Field 4.
    pub consistency_proof: &'a [D],
    /// Field 5.
    pub target_bl_tx_alh: &'a [u8],
    /// Field 6.
    pub last_inclusion_proof: &'a [D],
    /// Field 7.
    pub linear_proof: Option<LinearProof<'a, D>>,
    /// Field 8.
    pub linear_advance_proof: Option<LinearAdvanceProof<'a, D>>,
}

/// The same without the linear part.
#[derive(Clone, Debug)]
pub struct DualProofV2<'a, D> {
    /// Field 1.
    pub source_tx_header: Option<TxHeader<'a>>,
    /// Field 2.
    pub target_tx_header: Option<TxHeader<'a>>,
    /// Field 3.
    pub inclusion_proof: &'a [D],
    /// Field 4.
    pub consistency_proof: &'a [D],
}

/// A signature of a state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signature<'a> {
    /// Field 1.
    pub public_key: &'a [u8],
    /// Field 2.
    pub signature: &'a [u8],
}

/// Where an entry is in its transaction.
#[derive(Clone, Copy, Debug)]
pub struct InclusionProof<'a, D> {
    /// Field 1, from 0.
    pub leaf: i32,
    /// Field 2.
    pub width: i32,
    /// Field 3.
    pub terms: &'a [D],
}

/// A key and its value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// Field 1.
    pub tx: u64,
    /// Field 2.
    pub key: &'a [u8],
    /// Field 3.
    pub value: &'a [u8],
    /// Field 4.
    pub referenced_by: Option<Reference<'a>>,
    /// Field 5.
    pub metadata: Option<KvMetadata>,
}

/// A key that stands for another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference<'a> {
    /// Field 1.
    pub tx: u64,
    /// Field 2.
    pub key: &'a [u8],
    /// Field 3.
    pub at_tx: u64,
    /// Field 4.
    pub metadata: Option<KvMetadata>,
}

/// Answer of `VerifiableGet`, its `VerifiableTx` taken apart.
#[derive(Clone, Debug)]
pub struct VerifiableEntry<'a, D> {
    /// Field 1.
    pub entry: Option<Entry<'a>>,
    /// Field 2, its field 1.
    pub tx: Option<Tx<'a>>,
    /// Field 2, its field 2.
    pub dual_proof: Option<DualProof<'a, D>>,
    /// Field 3.
    pub inclusion_proof: Option<InclusionProof<'a, D>>,
}

/// Answer of `CurrentState`, without its signature.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImmutableState<'a> {
    /// Field 1.
    pub db: &'a str,
    /// Field 2.
    pub tx_id: u64,
    /// Field 3.
    pub tx_hash: &'a [u8],
}
