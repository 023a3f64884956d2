//! Whatever is changed in a proof, it proves nothing any more.

use std::str::from_utf8;

use auditmon_merkle::{
    Checkpoint, Ed25519Signer, Ed25519Verifier, EventProof, EventProofError, Hash, TlogProof, TlogProofError, TreeHead,
    VerifyError, event_proof, leaf_hash, verify_consistency, verify_inclusion,
};
use sha2::{Digest, Sha256};

use crate::naive::{Leaves, Tree as _};
use crate::vectors::{LOG_VKEY, WITNESSED, journal};

/// A hash for each of its 256 bits, with that one flipped.
fn flips(hash: Hash) -> impl Iterator<Item = Hash> {
    (0..256).map(move |bit| {
        let mut bytes = *hash.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes.into()
    })
}

/// Every proof that differs from `proof` by one flipped bit, one hash less or
/// more anywhere, or two exchanged.
fn changed(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Vec<Hash>)| {
        let mut copy = proof.to_vec();
        change(&mut copy);
        if copy != proof {
            all.push(copy);
        }
    };
    for at in 0..proof.len() {
        flips(proof[at]).for_each(|hash| add(&|copy| copy[at] = hash));
        add(&|copy| {
            copy.remove(at);
        });
        (0..at).for_each(|other| add(&|copy| copy.swap(at, other)));
    }
    for at in 0..=proof.len() {
        for hash in proof.iter().copied().chain([leaf_hash(b"")]) {
            add(&|copy| copy.insert(at, hash));
        }
    }
    for length in 0..proof.len() {
        add(&|copy| copy.truncate(length));
    }
    add(&|copy| copy.resize(1000, leaf_hash(b"")));
    all
}

#[test]
fn inclusion_proofs() {
    let mut leaves = Leaves::numbers(21);
    for size in [1, 2, 3, 7, 8, 13, 16, 21] {
        let head = leaves.head(size);
        for index in 0..size {
            let leaf = leaves.leaf(index);
            let proof = leaves.path(index, 0, size);
            verify_inclusion(&leaf, index, &proof, &head).unwrap();
            for changed in changed(&proof) {
                assert!(
                    verify_inclusion(&leaf, index, &changed, &head).is_err(),
                    "{index} of {size}"
                );
            }
            for other in flips(leaf).chain(
                (0..size)
                    .filter(|other| *other != index)
                    .map(|other| leaves.leaf(other)),
            ) {
                assert!(
                    verify_inclusion(&other, index, &proof, &head).is_err(),
                    "{index} of {size}"
                );
            }
            for root in flips(head.root) {
                let verified = verify_inclusion(&leaf, index, &proof, &TreeHead { size, root });
                assert_eq!(verified, Err(VerifyError::Root { size }));
            }
            for other in (0..size + 2).filter(|other| *other != index) {
                assert!(
                    verify_inclusion(&leaf, other, &proof, &head).is_err(),
                    "{index} as {other}"
                );
            }
        }
    }
}

#[test]
fn consistency_proofs() {
    let mut leaves = Leaves::numbers(21);
    for new in [1, 2, 3, 7, 8, 13, 16, 21] {
        let new_head = leaves.head(new);
        for old in 1..=new {
            let old_head = leaves.head(old);
            let proof = leaves.proof(old, new);
            verify_consistency(&old_head, &new_head, &proof).unwrap();
            for changed in changed(&proof) {
                assert!(
                    verify_consistency(&old_head, &new_head, &changed).is_err(),
                    "{old} to {new}"
                );
            }
            for (old_root, new_root) in flips(old_head.root).zip(flips(new_head.root)) {
                let old_head = TreeHead {
                    size: old,
                    root: old_root,
                };
                assert!(
                    verify_consistency(&old_head, &new_head, &proof).is_err(),
                    "{old} to {new}"
                );
                let (old_head, new_head) = (
                    leaves.head(old),
                    TreeHead {
                        size: new,
                        root: new_root,
                    },
                );
                assert!(
                    verify_consistency(&old_head, &new_head, &proof).is_err(),
                    "{old} to {new}"
                );
            }
            // The tree of another history.
            let mut other = Leaves::numbers(21);
            other.0[old as usize - 1] = b"changed".to_vec();
            let new_head = other.head(new);
            assert!(verify_consistency(&old_head, &new_head, &other.proof(old, new)).is_err());
        }
    }
}

/// Every text that differs by one flipped bit, one byte less, or one more
/// anywhere, if it is text at all.
fn changed_texts(text: &str, mut check: impl FnMut(&str)) {
    let mut bytes = text.as_bytes().to_vec();
    let mut check = |bytes: &[u8]| {
        if let Ok(changed) = from_utf8(bytes)
            && changed != text
        {
            check(changed);
        }
    };
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            check(&bytes);
            bytes[at] ^= 1 << bit;
        }
        let removed = bytes.remove(at);
        check(&bytes);
        bytes.insert(at, removed);
        check(&text.as_bytes()[..at]);
    }
    for at in 0..=bytes.len() {
        for more in [b'\n', b' ', b'A', b'=', b'-', b'0', bytes[at.min(bytes.len() - 1)]] {
            bytes.insert(at, more);
            check(&bytes);
            bytes.remove(at);
        }
    }
}

/// Every text with one line less, twice, or in the place of another.
fn changed_lines(text: &str, mut check: impl FnMut(&str)) {
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    for at in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(at);
        check(&less.concat());
        for other in 0..at {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            if swapped != lines {
                check(&swapped.concat());
            }
        }
        // A signature may stand there twice: it is one all the same.
        if !lines[at].starts_with('\u{2014}') {
            let mut more = lines.clone();
            more.insert(at, lines[at]);
            check(&more.concat());
        }
    }
}

#[test]
fn event_proofs() {
    let vectors = journal();
    let key: Ed25519Verifier = vectors["vkey"].as_str().unwrap().parse().unwrap();
    let text = vectors["proof_of_seq_1"].as_str().unwrap();
    let verify = |text: &str| EventProof::parse(text).and_then(|proof| proof.verify(&[&key]).map(|proven| proven.seq));
    assert_eq!(verify(text), Ok(1));
    let mut tried = 0;
    let mut check = |changed: &str| {
        tried += 1;
        assert!(verify(changed).is_err(), "{changed}");
    };
    changed_texts(text, &mut check);
    changed_lines(text, &mut check);
    assert!(tried > 15_000, "{tried}");
}

#[test]
fn checkpoints() {
    let key: Ed25519Verifier = LOG_VKEY.parse().unwrap();
    let signed: String = WITNESSED.split_inclusive('\n').take(5).collect();
    let open = |text: &str| Checkpoint::open(text, &[&key]).map(|_| ());
    assert_eq!(open(&signed), Ok(()));
    let mut check = |changed: &str| assert!(open(changed).is_err(), "{changed}");
    changed_texts(&signed, &mut check);
    changed_lines(&signed, &mut check);
}

/// A proof of the event in a tree of its own, so that only what the test
/// changed can be wrong.
fn proof_of(event: &[u8], leaf: impl FnOnce(&mut [u8; event_proof::LEAF])) -> EventProof {
    let vectors = journal();
    let field = |name: &str| hex::decode(vectors["records"][1][name].as_str().unwrap()).unwrap();
    let salt: [u8; 16] = field("salt").try_into().unwrap();
    let mut bytes: [u8; event_proof::LEAF] = field("leaf").try_into().unwrap();
    bytes[34..].copy_from_slice(&Sha256::new().chain_update(salt).chain_update(event).finalize());
    leaf(&mut bytes);
    let root = leaf_hash(&bytes);
    let checkpoint = Checkpoint::new("log", TreeHead { size: 1, root })
        .unwrap()
        .sign(&[&log()])
        .unwrap();
    let proof = TlogProof::new(0, Vec::new(), &checkpoint).unwrap();
    EventProof::new(event.to_vec(), salt, bytes, proof).unwrap()
}

fn log() -> Ed25519Signer {
    Ed25519Signer::from_seed("log", &[5; 32]).unwrap()
}

fn event() -> String {
    journal()["records"][1]["payload"].as_str().unwrap().to_owned()
}

fn refused(proof: &EventProof) -> EventProofError {
    proof.verify(&[&log().verifier()]).unwrap_err()
}

#[test]
fn a_leaf_that_says_something_else_than_its_event() {
    let event = event();
    proof_of(event.as_bytes(), |_| {}).verify(&[&log().verifier()]).unwrap();
    let cases: [(usize, &str); 5] = [
        (1, "event_id"),
        (16, "event_id"),
        (17, "time of the event_id"),
        (25, "kind"),
        (33, "event_source"),
    ];
    for (at, member) in cases {
        let proof = proof_of(event.as_bytes(), |leaf| leaf[at] ^= 1);
        assert_eq!(refused(&proof), EventProofError::Prefix { member }, "byte {at}");
    }
    let proof = proof_of(event.as_bytes(), |leaf| leaf[0] = 2);
    assert_eq!(refused(&proof), EventProofError::Version { version: 2 });
    let proof = proof_of(event.as_bytes(), |leaf| leaf[65] ^= 1);
    assert_eq!(refused(&proof), EventProofError::Commitment);
    // Within the millisecond of the id any received time is as good.
    let proof = proof_of(event.as_bytes(), |leaf| leaf[24] ^= 1);
    assert_eq!(
        proof.verify(&[&log().verifier()]).unwrap().received_ns,
        1_767_225_600_000_000_003
    );
}

#[test]
fn bytes_that_two_readers_could_see_differently() {
    let event = event();
    let unknown = event.replace("\"host\":", "\"hosts\":");
    let twice = event.replace("{\"event_id\"", "{\"username\":\"eve\",\"event_id\"");
    let more = event.replace("{\"event_id\"", "{\"more\":1,\"event_id\"");
    let less = event.replace("\"request_id\":null,", "");
    let behind = format!("{event}{event}");
    let raw = [event.as_bytes(), &[0xff]].concat();
    let cases = [unknown, twice, more, less, behind, String::new(), "[]".to_owned()].map(String::into_bytes);
    for event in cases.into_iter().chain([raw]) {
        let proof = proof_of(&event, |_| {});
        assert_eq!(
            refused(&proof),
            EventProofError::Event,
            "{:?}",
            String::from_utf8_lossy(&event)
        );
    }
    // Depth costs neither stack nor time.
    let deep = event.replace("\"event_data\":", &format!("\"event_data\":{}", "[".repeat(500_000)));
    assert_eq!(refused(&proof_of(deep.as_bytes(), |_| {})), EventProofError::Event);
}

#[test]
fn a_proof_that_could_not_be_read_is_not_made() {
    let vectors = journal();
    let checkpoint = vectors["checkpoint"].as_str().unwrap();
    let proof = || TlogProof::new(0, Vec::new(), checkpoint).unwrap();
    let (salt, leaf) = ([0; 16], [0; event_proof::LEAF]);
    let long = vec![b' '; event_proof::MAX_EVENT + 1];
    assert_eq!(EventProof::new(long, salt, leaf, proof()), Err(EventProofError::Long));
    let extra = proof().with_extra(b"extra".to_vec()).unwrap();
    let unexpected = EventProofError::Unexpected { line: "extra" };
    assert_eq!(EventProof::new(Vec::new(), salt, leaf, extra), Err(unexpected));
    let head = TreeHead {
        size: 1,
        root: leaf_hash(b""),
    };
    let line = Checkpoint::with_extensions("log", head, vec!["---".to_owned()]).unwrap();
    let line = TlogProof::new(0, Vec::new(), &line.sign(&[&log()]).unwrap()).unwrap();
    let unexpected = EventProofError::Unexpected { line: "---" };
    assert_eq!(EventProof::new(Vec::new(), salt, leaf, line), Err(unexpected));

    let hashes = vec![leaf_hash(b""); auditmon_merkle::MAX_PROOF + 1];
    assert_eq!(TlogProof::new(0, hashes, checkpoint), Err(TlogProofError::Hashes));
    assert!(matches!(
        TlogProof::new(0, Vec::new(), "no note"),
        Err(TlogProofError::Note(_))
    ));
    let extra = vec![0; auditmon_merkle::MAX_EXTRA + 1];
    assert_eq!(proof().with_extra(extra), Err(TlogProofError::Extra));
}

#[test]
fn texts_that_are_no_tlog_proofs() {
    let vectors = journal();
    let note = vectors["checkpoint"].as_str().unwrap();
    let hash = leaf_hash(b"");
    let head = "c2sp.org/tlog-proof@v1\n";
    let cases = [
        (String::new(), TlogProofError::Header),
        (
            format!("c2sp.org/tlog-proof@v2\nindex 1\n\n{note}"),
            TlogProofError::Header,
        ),
        (head.to_owned(), TlogProofError::Index),
        (format!("{head}index 01\n\n{note}"), TlogProofError::Index),
        (format!("{head}index  1\n\n{note}"), TlogProofError::Index),
        (format!("{head}extra AA==\n\n{note}"), TlogProofError::Index),
        (format!("{head}extra A\nindex 1\n\n{note}"), TlogProofError::Extra),
        (
            format!("{head}extra AA==\nextra AA==\nindex 1\n\n{note}"),
            TlogProofError::Index,
        ),
        (
            format!("{head}index 1\nindex 1\n\n{note}"),
            TlogProofError::Hash { number: 1 },
        ),
        (format!("{head}index 1\n{hash}\n{hash}"), TlogProofError::Hashes),
        (
            format!("{head}index 1\n{}\n{note}", format!("{hash}\n").repeat(65)),
            TlogProofError::Hashes,
        ),
        (
            format!("{head}index 1\n{hash}\n{note}"),
            TlogProofError::Hash { number: 2 },
        ),
    ];
    for (text, error) in cases {
        assert_eq!(TlogProof::parse(&text), Err(error), "{text}");
    }
    for text in [
        format!("{head}index 0\n\n{note}"),
        format!("{head}extra \nindex 0\n\n{note}"),
        format!(
            "{head}extra AA==\nindex 18446744073709551615\n{}\n{note}",
            format!("{hash}\n").repeat(64)
        ),
    ] {
        assert_eq!(TlogProof::parse(&text).unwrap().to_string(), text);
    }
}
