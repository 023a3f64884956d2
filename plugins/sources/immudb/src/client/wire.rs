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
