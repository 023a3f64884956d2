//! immudb's messages, as far as proofs need them, and their way into `wire`.
//!
//! Entries stay bytes until their layout is known: field 4 of an entry is a
//! number up to 1.1, a message since.

use immudb_verify::wire;
use prost::Message;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entries {
    UpTo1_1,
    Since1_2,
}

#[derive(Clone, PartialEq, Message)]
pub struct TxHeader {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub prev_alh: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub ts: i64,
    #[prost(int32, tag = "4")]
    pub nentries: i32,
    #[prost(bytes = "vec", tag = "5")]
    pub eh: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub bl_tx_id: u64,
    #[prost(bytes = "vec", tag = "7")]
    pub bl_root: Vec<u8>,
    #[prost(int32, tag = "8")]
    pub version: i32,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<TxMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TxMetadata {
    #[prost(uint64, tag = "1")]
    pub truncated_tx_id: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub extra: Vec<u8>,
}

impl TxHeader {
    pub fn wire(&self) -> wire::TxHeader<'_> {
        wire::TxHeader {
            id: self.id,
            prev_alh: &self.prev_alh,
            ts: self.ts,
            nentries: self.nentries,
            eh: &self.eh,
            bl_tx_id: self.bl_tx_id,
            bl_root: &self.bl_root,
            version: self.version,
            metadata: self.metadata.as_ref().map(|metadata| wire::TxMetadata {
                truncated_tx_id: metadata.truncated_tx_id,
                extra: &metadata.extra,
            }),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct KvMetadata {
    #[prost(bool, tag = "1")]
    pub deleted: bool,
    #[prost(message, optional, tag = "2")]
    pub expiration: Option<Expiration>,
    #[prost(bool, tag = "3")]
    pub non_indexable: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Expiration {
    #[prost(int64, tag = "1")]
    pub expires_at: i64,
}

impl KvMetadata {
    pub fn wire(&self) -> wire::KvMetadata {
        wire::KvMetadata {
            deleted: self.deleted,
            expires_at: self.expiration.map(|expiration| expiration.expires_at),
            non_indexable: self.non_indexable,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct TxEntry {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub h_value: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub v_len: i32,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<KvMetadata>,
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct OldTxEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    h_value: Vec<u8>,
    #[prost(int32, tag = "4")]
    v_len: i32,
}

impl TxEntry {
    pub fn wire(&self) -> wire::TxEntry<'_> {
        wire::TxEntry {
            key: &self.key,
            h_value: &self.h_value,
            v_len: self.v_len,
            metadata: self.metadata.as_ref().map(KvMetadata::wire),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Tx {
    #[prost(message, optional, tag = "1")]
    pub header: Option<TxHeader>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub entries: Vec<Vec<u8>>,
}

impl Tx {
    pub fn entries(&self, layout: Entries) -> Result<Vec<TxEntry>, prost::DecodeError> {
        let old = |bytes: &Vec<u8>| {
            let entry = OldTxEntry::decode(bytes.as_slice())?;
            Ok(TxEntry {
                key: entry.key,
                h_value: entry.h_value,
                v_len: entry.v_len,
                ..TxEntry::default()
            })
        };
        match layout {
            Entries::UpTo1_1 => self.entries.iter().map(old).collect(),
            Entries::Since1_2 => self.entries.iter().map(|bytes| TxEntry::decode(&bytes[..])).collect(),
        }
    }

    pub fn wire<'a>(&'a self, entries: &'a [TxEntry]) -> wire::Tx<'a> {
        wire::Tx {
            header: self.header.as_ref().map(TxHeader::wire),
            entries: entries.iter().map(TxEntry::wire).collect(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct LinearProof {
    #[prost(uint64, tag = "1")]
    pub source_tx_id: u64,
    #[prost(uint64, tag = "2")]
    pub target_tx_id: u64,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub terms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct InclusionProof {
    #[prost(int32, tag = "1")]
    pub leaf: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub terms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinearAdvanceProof {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub linear_proof_terms: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    pub inclusion_proofs: Vec<InclusionProof>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DualProof {
    #[prost(message, optional, tag = "1")]
    pub source: Option<TxHeader>,
    #[prost(message, optional, tag = "2")]
    pub target: Option<TxHeader>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub inclusion: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub consistency: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "5")]
    pub target_bl_tx_alh: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub last_inclusion: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "7")]
    pub linear: Option<LinearProof>,
    #[prost(message, optional, tag = "8")]
    pub advance: Option<LinearAdvanceProof>,
}

impl DualProof {
    pub fn wire(&self) -> wire::DualProof<'_, Vec<u8>> {
        wire::DualProof {
            source_tx_header: self.source.as_ref().map(TxHeader::wire),
            target_tx_header: self.target.as_ref().map(TxHeader::wire),
            inclusion_proof: &self.inclusion,
            consistency_proof: &self.consistency,
            target_bl_tx_alh: &self.target_bl_tx_alh,
            last_inclusion_proof: &self.last_inclusion,
            linear_proof: self.linear.as_ref().map(|linear| wire::LinearProof {
                source_tx_id: linear.source_tx_id,
                target_tx_id: linear.target_tx_id,
                terms: &linear.terms,
            }),
            linear_advance_proof: self.advance.as_ref().map(|advance| wire::LinearAdvanceProof {
                linear_proof_terms: &advance.linear_proof_terms,
                inclusion_proofs: advance.inclusion_proofs.iter().map(|proof| &proof.terms[..]).collect(),
            }),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct DualProofV2 {
    #[prost(message, optional, tag = "1")]
    pub source: Option<TxHeader>,
    #[prost(message, optional, tag = "2")]
    pub target: Option<TxHeader>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub inclusion: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub consistency: Vec<Vec<u8>>,
}

impl DualProofV2 {
    pub fn wire(&self) -> wire::DualProofV2<'_, Vec<u8>> {
        wire::DualProofV2 {
            source_tx_header: self.source.as_ref().map(TxHeader::wire),
            target_tx_header: self.target.as_ref().map(TxHeader::wire),
            inclusion_proof: &self.inclusion,
            consistency_proof: &self.consistency,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Signature {
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
}

impl Signature {
    pub fn wire(&self) -> wire::Signature<'_> {
        wire::Signature {
            public_key: &self.public_key,
            signature: &self.signature,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct VerifiableTx {
    #[prost(message, optional, tag = "1")]
    pub tx: Option<Tx>,
    #[prost(message, optional, tag = "2")]
    pub dual_proof: Option<DualProof>,
    #[prost(message, optional, tag = "3")]
    pub signature: Option<Signature>,
}

#[derive(Clone, PartialEq, Message)]
pub struct VerifiableTxV2 {
    #[prost(message, optional, tag = "1")]
    pub tx: Option<Tx>,
    #[prost(message, optional, tag = "2")]
    pub dual_proof: Option<DualProofV2>,
    #[prost(message, optional, tag = "3")]
    pub signature: Option<Signature>,
}

/// Answer of `DocumentService/ProofDocument`.
#[derive(Clone, PartialEq, Message)]
pub struct ProofDocument {
    #[prost(bytes = "vec", tag = "5")]
    pub verifiable_tx: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Reference {
    #[prost(uint64, tag = "1")]
    pub tx: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub at_tx: u64,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<KvMetadata>,
    #[prost(uint64, tag = "5")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(uint64, tag = "1")]
    pub tx: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub value: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub referenced_by: Option<Reference>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<KvMetadata>,
    #[prost(bool, tag = "6")]
    pub expired: bool,
    #[prost(uint64, tag = "7")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct VerifiableEntry {
    #[prost(message, optional, tag = "1")]
    pub entry: Option<Entry>,
    #[prost(message, optional, tag = "2")]
    pub verifiable_tx: Option<VerifiableTx>,
    #[prost(message, optional, tag = "3")]
    pub inclusion: Option<InclusionProof>,
}

impl VerifiableEntry {
    pub fn wire<'a>(&'a self, entries: &'a [TxEntry]) -> wire::VerifiableEntry<'a, Vec<u8>> {
        let tx = self.verifiable_tx.as_ref();
        wire::VerifiableEntry {
            entry: self.entry.as_ref().map(|entry| wire::Entry {
                tx: entry.tx,
                key: &entry.key,
                value: &entry.value,
                referenced_by: entry.referenced_by.as_ref().map(|reference| wire::Reference {
                    tx: reference.tx,
                    key: &reference.key,
                    at_tx: reference.at_tx,
                    metadata: reference.metadata.as_ref().map(KvMetadata::wire),
                }),
                metadata: entry.metadata.as_ref().map(KvMetadata::wire),
            }),
            tx: tx.and_then(|tx| tx.tx.as_ref()).map(|tx| tx.wire(entries)),
            dual_proof: tx.and_then(|tx| tx.dual_proof.as_ref()).map(DualProof::wire),
            inclusion_proof: self.inclusion.as_ref().map(|proof| wire::InclusionProof {
                leaf: proof.leaf,
                width: proof.width,
                terms: &proof.terms,
            }),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct TxList {
    #[prost(message, repeated, tag = "1")]
    pub txs: Vec<Tx>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImmutableState {
    #[prost(string, tag = "1")]
    pub db: String,
    #[prost(uint64, tag = "2")]
    pub tx_id: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub tx_hash: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub signature: Option<Signature>,
    #[prost(uint64, tag = "5")]
    pub precommitted_tx_id: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub precommitted_tx_hash: Vec<u8>,
}

impl ImmutableState {
    pub fn wire(&self) -> wire::ImmutableState<'_> {
        wire::ImmutableState {
            db: &self.db,
            tx_id: self.tx_id,
            tx_hash: &self.tx_hash,
        }
    }
}

/// Requests, as far as they say what is to be checked.
#[derive(Clone, PartialEq, Message)]
pub struct VerifiableTxRequest {
    #[prost(uint64, tag = "1")]
    pub tx: u64,
    #[prost(uint64, tag = "2")]
    pub prove_since: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct TxRequest {
    #[prost(uint64, tag = "1")]
    pub tx: u64,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub entries_spec: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TxScanRequest {
    #[prost(uint64, tag = "1")]
    pub initial_tx: u64,
    #[prost(bool, tag = "3")]
    pub desc: bool,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub entries_spec: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    #[prost(bytes = "vec", tag = "1")]
    pub content: Vec<u8>,
}
