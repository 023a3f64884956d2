//! Proofs that a hostile server could make so that everything in them fits,
//! but for one tie to the trusted history.

use immudb_verify::{Alh, Class, Hash, Reason, State, TxHeader, TxId, Verified, Walk, verify_dual};

use crate::naive::{Bytes32, Database, Plan, consistency, inclusion, root, sha};
use crate::proto;

/// A history of 20 transactions; the last ones lag as told.
fn database(lags: &[usize]) -> Database {
    let plan = |n: usize| Plan {
        version: 1,
        lag: (n + lags.len()).checked_sub(20).map_or(0, |at| lags[at]),
        ts: n as i64,
        truncated: 0,
        extra: Vec::new(),
        entries: vec![(vec![0, 1], vec![0, 2])],
    };
    Database::of(&(0..20).map(plan).collect::<Vec<_>>())
}

fn vecs(hashes: &[Bytes32]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.to_vec()).collect()
}

/// A proof from `s` to a transaction 20 whose tree has these leaves; its
/// header follows 19 honestly.
fn forge(database: &Database, s: usize, leaves: &[Bytes32]) -> (State, proto::DualProof) {
    let mut target = database.headers[19].clone();
    target.bl_tx_id = leaves.len() as u64;
    target.bl_root = root(leaves).to_vec();
    let checked = TxHeader::new(&target.wire()).unwrap();
    let claimed = State {
        tx: TxId(20),
        alh: checked.alh(),
    };
    let source = &database.headers[s - 1];
    let mut proof = database.dual_proof(s, 20).unwrap();
    proof.consistency = vecs(&consistency(leaves, source.bl_tx_id as usize));
    proof.last_inclusion = vecs(&inclusion(leaves, leaves.len() - 1));
    proof.target_bl_tx_alh = leaves[leaves.len() - 1].to_vec();
    let last = proof.linear.as_mut().unwrap().terms.last_mut().unwrap();
    *last = checked.inner().as_bytes().to_vec();
    proof.target = Some(target);
    (claimed, proof)
}

#[test]
fn the_last_leaf_is_the_trusted_transaction() {
    let database = database(&[]);
    let mut leaves = database.alhs[..19].to_vec();
    let (claimed, proof) = forge(&database, 19, &leaves);
    let found = verify_dual(&database.state(19), &claimed, &proof.wire());
    assert!(matches!(found, Ok(Verified::Proven(_))));

    leaves[18] = sha(&[b"another transaction 19"]);
    let (claimed, proof) = forge(&database, 19, &leaves);
    let found = verify_dual(&database.state(19), &claimed, &proof.wire());
    let (tx, target_tx) = (TxId(19), TxId(20));
    assert_eq!(found, Err(Reason::LastLeaf { tx, target_tx }));
}

/// Proof from 19, whose tree has 10 leaves, to 20, whose tree has 16.
fn lagging(leaves: &[Bytes32]) -> (Database, State, proto::DualProof) {
    let database = database(&[8, 3]);
    let (claimed, mut proof) = forge(&database, 19, leaves);
    // The new leaves chain among themselves.
    let inner = database.inner[11..16].to_vec();
    let terms = [&leaves[10..11], &inner[..]].concat();
    let advance = proof.advance.as_mut().unwrap();
    advance.linear_proof_terms = vecs(&terms);
    for (tx, path) in (11..16).zip(&mut advance.inclusion_proofs) {
        path.terms = vecs(&inclusion(leaves, tx - 1));
    }
    (database, claimed, proof)
}

#[test]
fn the_new_leaves_of_a_lagging_source_are_its_history() {
    let honest = database(&[8, 3]).alhs[..16].to_vec();
    let (database, claimed, proof) = lagging(&honest);
    let headers = || database.headers[16..19].iter().map(proto::TxHeader::wire);
    let pending =
        |claimed: &State, proof: &proto::DualProof| match verify_dual(&database.state(19), claimed, &proof.wire())
            .unwrap()
        {
            Verified::NeedsHeaders(pending) => pending,
            Verified::Proven(_) => panic!("accepted without headers"),
        };
    let asked = pending(&claimed, &proof);
    assert_eq!(asked.range(), (TxId(17), TxId(19)));
    assert!(asked.clone().verify(headers()).is_ok());
    assert_eq!(
        asked.clone().verify(headers().skip(1)).unwrap_err().code(),
        "walk-order"
    );
    assert_eq!(
        asked.clone().verify(headers().take(2)).unwrap_err().code(),
        "source-chain"
    );
    assert_eq!(asked.verify([]).unwrap_err().code(), "source-chain");

    // Another chain from 11 to 16 inside the target's tree.
    let mut leaves = honest;
    leaves[10] = sha(&[b"another transaction 11"]);
    let mut alh = Alh(Hash::from(leaves[10]));
    for tx in 12..=16 {
        alh = alh.then(TxId(tx as u64), &Hash::from(database.inner[tx - 1]));
        leaves[tx - 1] = *alh.0.as_bytes();
    }
    let (_, claimed, proof) = lagging(&leaves);
    let found = pending(&claimed, &proof).verify(headers());
    assert_eq!(found.unwrap_err().code(), "source-chain");
}

#[test]
fn no_proof_goes_back_or_from_nothing() {
    let database = database(&[]);
    let proof = database.dual_proof(5, 9).unwrap();
    let judge = |trusted: State, claimed: State| verify_dual(&trusted, &claimed, &proof.wire()).unwrap_err().code();
    assert_eq!(judge(database.state(9), database.state(5)), "other-tx");
    assert_eq!(judge(database.state(5), database.state(8)), "other-tx");
    assert_eq!(judge(database.state(4), database.state(9)), "other-tx");
    let none = State {
        tx: TxId(0),
        alh: Alh::FIRST,
    };
    assert_eq!(judge(none, database.state(9)), "other-tx");
    let swapped = proto::DualProof {
        source: proof.target.clone(),
        target: proof.source.clone(),
        ..proof.clone()
    };
    let found = verify_dual(&database.state(9), &database.state(5), &swapped.wire());
    assert_eq!(found.unwrap_err().code(), "not-ahead");
    for missing in [
        proto::DualProof {
            source: None,
            ..proof.clone()
        },
        proto::DualProof {
            target: None,
            ..proof.clone()
        },
        proto::DualProof {
            linear: None,
            ..proof.clone()
        },
    ] {
        let found = verify_dual(&database.state(5), &database.state(9), &missing.wire());
        assert_eq!(found.unwrap_err().code(), "missing-part");
    }
}

#[test]
fn a_walk_takes_only_the_header_that_is_next() {
    let database = database(&[]);
    let mut walk = Walk::from_first();
    for header in &database.headers[..10] {
        walk.step(&header.wire()).unwrap();
    }
    let before = walk.reached();
    let good = &database.headers[10];
    let other = |change: fn(&mut proto::TxHeader)| {
        let mut header = good.clone();
        change(&mut header);
        header
    };
    for (header, code) in [
        (database.headers[9].clone(), "walk-order"),
        (database.headers[11].clone(), "walk-order"),
        (other(|header| header.prev_alh[0] ^= 1), "walk-chain"),
        (other(|header| header.bl_root[0] ^= 1), "walk-root"),
        (other(|header| header.bl_tx_id = 9), "walk-root"),
        (other(|header| header.bl_tx_id = 11), "tree-too-large"),
        (other(|header| header.version = 2), "header-version"),
    ] {
        assert_eq!(walk.step(&header.wire()).unwrap_err().code(), code);
        assert_eq!(walk.reached(), before);
    }
    // A tree older than what this walk kept can't be judged.
    let mut short = walk.clone().with_window(1);
    let old = other(|header| header.bl_tx_id = 9);
    assert_eq!(short.step(&old.wire()).unwrap_err().class(), Class::Inconclusive);

    walk.step(&good.wire()).unwrap();
    assert_eq!(walk.finish(&database.state(11)), Ok(()));
    assert_eq!(walk.finish(&database.state(12)).unwrap_err().code(), "walk-end");
    let other = State {
        alh: database.state(12).alh,
        ..database.state(11)
    };
    assert_eq!(walk.finish(&other).unwrap_err().code(), "walk-hash");
}

#[test]
fn a_walk_from_a_lagging_state_comes_through_it() {
    let database = database(&[8, 3]);
    let trusted = database.state(19);
    let proof = database.dual_proof(19, 19).unwrap();
    let mut walk = Walk::from_trusted(&trusted, &proof.wire()).unwrap();
    assert_eq!(walk.next_tx(), TxId(11));
    for header in &database.headers[10..18] {
        walk.step(&header.wire()).unwrap();
    }
    assert_eq!(walk.finish(&database.state(18)).unwrap_err().code(), "walk-end");
    assert_eq!(walk.snapshot(0).unwrap_err().code(), "walk-end");
    let mut forged = database.headers[18].clone();
    forged.ts += 1;
    assert_eq!(walk.step(&forged.wire()).unwrap_err().code(), "walk-hash");
    walk.step(&database.headers[18].wire()).unwrap();
    assert_eq!(walk.finish(&trusted), Ok(()));
    walk.step(&database.headers[19].wire()).unwrap();
    assert!(walk.lagged());
    assert_eq!(walk.finish(&database.state(20)), Ok(()));
    assert_eq!(walk.snapshot(3).unwrap().roots.len(), 3);
}
