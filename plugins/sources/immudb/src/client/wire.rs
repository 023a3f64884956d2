//! Answers as the verifier takes them; nothing is copied.

use auditmon_proto::immudb as proto;
use immudb_verify::wire;

pub(crate) fn state(message: &proto::ImmutableState) -> wire::ImmutableState<'_> {
    wire::ImmutableState {
        db: &message.db,
        tx_id: message.tx_id,
        tx_hash: &message.tx_hash,
    }
}

pub(crate) fn signature(message: &proto::Signature) -> wire::Signature<'_> {
    wire::Signature {
        public_key: &message.public_key,
        signature: &message.signature,
    }
}

pub(crate) fn header(message: &proto::TxHeader) -> wire::TxHeader<'_> {
    wire::TxHeader {
        id: message.id,
        prev_alh: &message.prev_alh,
        ts: message.ts,
        nentries: message.nentries,
        eh: &message.eh,
        bl_tx_id: message.bl_tx_id,
        bl_root: &message.bl_root,
        version: message.version,
        metadata: message.metadata.as_ref().map(|metadata| wire::TxMetadata {
            truncated_tx_id: metadata.truncated_tx_id,
            extra: &metadata.extra,
        }),
    }
}

pub(crate) fn dual_proof(message: &proto::DualProof) -> wire::DualProof<'_, Vec<u8>> {
    let advance = message.linear_advance_proof.as_ref();
    wire::DualProof {
        source_tx_header: message.source_tx_header.as_ref().map(header),
        target_tx_header: message.target_tx_header.as_ref().map(header),
        inclusion_proof: &message.inclusion_proof,
        consistency_proof: &message.consistency_proof,
        target_bl_tx_alh: &message.target_bl_tx_alh,
        last_inclusion_proof: &message.last_inclusion_proof,
        linear_proof: message.linear_proof.as_ref().map(|proof| wire::LinearProof {
            source_tx_id: proof.source_tx_id,
            target_tx_id: proof.target_tx_id,
            terms: &proof.terms,
        }),
        linear_advance_proof: advance.map(|proof| wire::LinearAdvanceProof {
            linear_proof_terms: &proof.linear_proof_terms,
            inclusion_proofs: proof.inclusion_proofs.iter().map(|proof| &proof.terms[..]).collect(),
        }),
    }
}

fn kv_metadata(message: &proto::KvMetadata) -> wire::KvMetadata {
    wire::KvMetadata {
        deleted: message.deleted,
        expires_at: message.expiration.map(|expiration| expiration.expires_at),
        non_indexable: message.non_indexable,
    }
}

pub(crate) fn tx_entry(message: &proto::TxEntry) -> wire::TxEntry<'_> {
    wire::TxEntry {
        key: &message.key,
        h_value: &message.h_value,
        v_len: message.v_len,
        metadata: message.metadata.as_ref().map(kv_metadata),
    }
}

/// The transaction without its entries, which weren't decoded.
pub(crate) fn verifiable_entry(message: &proto::VerifiableEntry) -> wire::VerifiableEntry<'_, Vec<u8>> {
    let tx = message.verifiable_tx.as_ref();
    wire::VerifiableEntry {
        entry: message.entry.as_ref().map(|entry| wire::Entry {
            tx: entry.tx,
            key: &entry.key,
            value: &entry.value,
            referenced_by: entry.referenced_by.as_ref().map(|reference| wire::Reference {
                tx: reference.tx,
                key: &reference.key,
                at_tx: reference.at_tx,
                metadata: reference.metadata.as_ref().map(kv_metadata),
            }),
            metadata: entry.metadata.as_ref().map(kv_metadata),
        }),
        tx: tx.and_then(|tx| tx.tx.as_ref()).map(|tx| wire::Tx {
            header: tx.header.as_ref().map(header),
            entries: Vec::new(),
        }),
        dual_proof: tx.and_then(|tx| tx.dual_proof.as_ref()).map(dual_proof),
        inclusion_proof: message.inclusion_proof.as_ref().map(|proof| wire::InclusionProof {
            leaf: proof.leaf,
            width: proof.width,
            terms: &proof.terms,
        }),
    }
}
