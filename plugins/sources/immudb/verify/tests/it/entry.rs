//! What the fuzz targets run, and `arbitrary` with bounded random bytes. Each
//! function panics if a promise is broken, and only then.

use immudb_verify::export::{Exported, Layout, split_message};
use immudb_verify::{
    Alh, EMPTY, Hash, Keys, PublicKey, State, Tree, TreeSize, TxHeader, TxId, TxMetadata, Walk, leaf_hash,
    verify_consistency, verify_dual, verify_last, verify_signature, wire,
};

/// An export stream's content: what is read is written again.
pub fn export(bytes: &[u8]) {
    if let Some((message, rest)) = split_message(bytes) {
        assert_eq!(message.len() + rest.len() + 8, bytes.len());
    }
    for layout in [Layout::UpTo1_1, Layout::Since1_2] {
        if let Ok(exported) = Exported::decode(bytes, layout) {
            assert_eq!(exported.entries().count(), exported.header().nentries() as usize);
            let _ = exported.verify_entries();
        }
    }
}

/// A serialised header, and metadata: what is read is written again.
pub fn header(bytes: &[u8]) {
    if let Ok(header) = TxHeader::decode(bytes) {
        let mut again = Vec::new();
        header.encode(&mut again);
        assert_eq!(again, bytes);
        assert!(header.tree_size().0 < header.id().0);
        let _ = header.alh();
    }
    if let Some(metadata) = TxMetadata::decode(bytes) {
        let mut again = Vec::new();
        metadata.encode(&mut again);
        assert_eq!(again, bytes);
    }
    if let Some(metadata) = wire::KvMetadata::decode(bytes) {
        let (again, length) = metadata.encode();
        assert_eq!(&again[..length], bytes);
    }
}

/// A key file, a point and a signature: none is believed.
pub fn signature(bytes: &[u8]) {
    let _ = PublicKey::from_pem(&String::from_utf8_lossy(bytes));
    if let Ok(key) = PublicKey::from_point(bytes) {
        assert_eq!(key.to_point(), bytes);
    }
    let (public_key, signature) = bytes.split_at(bytes.len().min(65));
    let received = wire::Signature { public_key, signature };
    let state = State {
        tx: TxId(1),
        alh: Alh(EMPTY),
    };
    assert!(verify_signature(Keys::Unknown, "", &state, Some(&received)).is_err());
}

/// Takes numbers and then hashes off the bytes: proofs of anything.
pub fn proofs(bytes: &[u8]) {
    let mut rest = bytes;
    let mut number = || {
        let (head, behind) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        rest = behind;
        u64::from_be_bytes(*head)
    };
    let [a, b, c, d, e] = [(); 5].map(|()| number());
    let terms: Vec<&[u8]> = rest.chunks(32).collect();
    let root = Hash::of(rest);
    if verify_last(&terms, TreeSize(a), root, &root).is_ok() {
        assert_eq!(a, 1);
    }
    if verify_consistency(&terms, (TreeSize(a), &root), (TreeSize(b), &root)).is_ok() {
        assert_eq!((a, b), (1, 1));
    }
    let header = |id, bl_tx_id| wire::TxHeader {
        id,
        prev_alh: root.as_bytes(),
        eh: root.as_bytes(),
        bl_tx_id,
        bl_root: if bl_tx_id == 0 { &[0; 32] } else { root.as_bytes() },
        version: 1,
        ..wire::TxHeader::default()
    };
    let (source, target) = (header(a, b), header(c, d));
    let alh = |header| TxHeader::new(header).map_or(Alh(EMPTY), |header| header.alh());
    let trusted = State {
        tx: TxId(a),
        alh: alh(&source),
    };
    let claimed = State {
        tx: TxId(c),
        alh: alh(&target),
    };
    let half = terms.len() / 2;
    let proof = wire::DualProof {
        source_tx_header: Some(source),
        target_tx_header: Some(target),
        inclusion_proof: &terms[..half],
        consistency_proof: &terms[half..],
        target_bl_tx_alh: root.as_bytes(),
        last_inclusion_proof: &terms[..half],
        linear_proof: Some(wire::LinearProof {
            source_tx_id: e,
            target_tx_id: c,
            terms: &terms,
        }),
        linear_advance_proof: Some(wire::LinearAdvanceProof {
            linear_proof_terms: &terms,
            inclusion_proofs: vec![&terms[half..]; half],
        }),
    };
    assert!(verify_dual(&trusted, &claimed, &proof).is_err());
    assert!(Walk::from_trusted(&trusted, &proof).is_err());
    let mut walk = Walk::from_first();
    if walk.step(&source).is_ok() {
        assert_eq!((a, b), (1, 0));
    }
    let peaks: Vec<Hash> = rest.as_chunks().0.iter().map(|bytes| Hash::from(*bytes)).collect();
    if let Ok(mut tree) = Tree::from_peaks(TreeSize(a), &peaks) {
        tree.push(leaf_hash(&root));
        assert_eq!(tree.size().0, a.saturating_add(1));
        let _ = tree.root();
    }
}
