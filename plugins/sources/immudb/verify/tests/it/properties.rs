//! Agreement with a naive database, and rejection of what it didn't make.

use immudb_verify::{
    Class, Get, Hash, LeafIndex, Part, TreeSize, TxId, Verified, Walk, path_length, verify_consistency, verify_dual,
    verify_dual_v2, verify_get, verify_inclusion, verify_last,
};
use proptest::prelude::*;

use crate::naive::{Bytes32, Database, Plan, consistency, inclusion, root, sha};
use crate::proto;

fn leaves(count: usize) -> Vec<Bytes32> {
    (0..count).map(|n| sha(&[b"leaf", &n.to_be_bytes()])).collect()
}

fn leaf(digest: &Bytes32) -> Hash {
    Hash::from(sha(&[&[0], digest]))
}

const PART: Part = Part::InclusionProof;

#[test]
fn small_trees_have_these_proofs_and_no_others() {
    let all = leaves(34);
    for size in 1..=all.len() {
        let tree = &all[..size];
        let top = Hash::from(root(tree));
        for at in 0..size {
            let proof = inclusion(tree, at);
            assert_eq!(
                path_length(LeafIndex(at as u64), TreeSize(size as u64)) as usize,
                proof.len()
            );
            for claimed in 0..=size {
                for claimed_size in [size - 1, size, size + 1] {
                    let (index, n) = (LeafIndex(claimed as u64), TreeSize(claimed_size as u64));
                    let found = verify_inclusion(PART, &proof, index, n, leaf(&tree[at]), &top);
                    let right = claimed == at && claimed_size == size;
                    // Sizes share a shape where the way to the root is the same.
                    if right || claimed_size == size {
                        assert_eq!(found.is_ok(), right, "{at} as {claimed} of {size}");
                    }
                }
            }
            let last = verify_last(&proof, TreeSize(size as u64), leaf(&tree[at]), &top);
            assert_eq!(last.is_ok(), at + 1 == size, "{at} as last of {size}");
        }
        for old in 1..=size {
            let proof = consistency(tree, old);
            for claimed in 0..=size + 1 {
                let n = claimed.clamp(1, size);
                let older = (TreeSize(claimed as u64), &Hash::from(root(&tree[..n])));
                let found = verify_consistency(&proof, older, (TreeSize(size as u64), &top));
                assert_eq!(found.is_ok(), claimed == old, "{old} as {claimed} of {size}");
            }
            for longer in [[&proof[..], &[[0; 32]]].concat(), [&[[0; 32]], &proof[..]].concat()] {
                let older = (TreeSize(old as u64), &Hash::from(root(&tree[..old])));
                assert!(verify_consistency(&longer, older, (TreeSize(size as u64), &top)).is_err());
            }
        }
    }
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let entry = (
        prop::collection::vec(any::<u8>(), 1..9),
        prop::collection::vec(any::<u8>(), 0..9),
    );
    let lag = prop_oneof![6 => Just(0_usize), 1 => 1_usize..6];
    let plan = (
        lag,
        any::<i64>(),
        prop_oneof![4 => Just(0_u64), 1 => any::<u64>()],
        prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 1..=256)],
        prop::collection::vec(entry, 1..6),
    );
    (
        prop::collection::vec(plan, 2..40),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(plans, switch, lagging)| {
            let switch = switch.index(plans.len() + 1);
            let plans = plans.into_iter().enumerate();
            plans
                .map(|(at, (lag, ts, truncated, extra, entries))| Plan {
                    version: i32::from(at >= switch),
                    lag: if lagging { lag } else { 0 },
                    ts,
                    truncated,
                    extra,
                    entries,
                })
                .collect()
        })
}

fn pair(database: &Database, a: prop::sample::Index, b: prop::sample::Index) -> (usize, usize) {
    let (a, b) = (a.index(database.len()) + 1, b.index(database.len()) + 1);
    (a.min(b), a.max(b))
}

/// Verdict on a proof between two states of a database, headers included.
fn judge(database: &Database, (s, t): (usize, usize), proof: &proto::DualProof) -> Result<(), immudb_verify::Reason> {
    match verify_dual(&database.state(s), &database.state(t), &proof.wire())? {
        Verified::Proven(_) => Ok(()),
        Verified::NeedsHeaders(pending) => {
            let (first, last) = pending.range();
            let headers = &database.headers[first.0 as usize - 1..last.0 as usize];
            pending.verify(headers.iter().map(|header| header.wire())).map(drop)
        }
    }
}

/// All lists of hashes of a proof.
fn lists(proof: &mut proto::DualProof) -> Vec<&mut Vec<Vec<u8>>> {
    let mut lists = vec![&mut proof.inclusion, &mut proof.consistency, &mut proof.last_inclusion];
    lists.extend(proof.linear.as_mut().map(|linear| &mut linear.terms));
    if let Some(advance) = &mut proof.advance {
        lists.push(&mut advance.linear_proof_terms);
        lists.extend(advance.inclusion_proofs.iter_mut().map(|proof| &mut proof.terms));
    }
    lists
}

#[derive(Clone, Debug)]
enum Change {
    Flip(usize),
    Drop,
    Double,
    Swap(prop::sample::Index),
    Zero,
    Cut,
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0_usize..256).prop_map(Change::Flip),
        Just(Change::Drop),
        Just(Change::Double),
        any::<prop::sample::Index>().prop_map(Change::Swap),
        Just(Change::Zero),
        Just(Change::Cut),
    ]
}

fn cases() -> u32 {
    let long = std::env::var("AUDITMON_LONG").is_ok_and(|value| value == "1");
    if long { 100_000 } else { 400 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn all_proofs_of_a_history_hold(plans in plans(), a: prop::sample::Index, b: prop::sample::Index) {
        let database = Database::of(&plans);
        let (s, t) = pair(&database, a, b);
        if let Some(proof) = database.dual_proof(s, t) {
            prop_assert_eq!(judge(&database, (s, t), &proof), Ok(()));
        }
        let lags = |tx: usize| database.headers[tx - 1].bl_tx_id as usize + 1 < tx;
        let v2 = verify_dual_v2(&database.state(s), &database.state(t), &database.dual_proof_v2(s, t).wire());
        match v2 {
            Ok(_) => prop_assert!(!lags(s) && !lags(t)),
            Err(reason) => {
                prop_assert!(lags(s) || lags(t), "{reason}");
                prop_assert_eq!(reason.class(), Class::Inconclusive);
            }
        }
        let mut walk = Walk::from_first();
        for (header, entries) in database.headers.iter().zip(&database.entries) {
            let header = walk.step(&header.wire()).unwrap();
            let entries: Vec<_> = entries.iter().map(|entry| entry.wire()).collect();
            prop_assert_eq!(header.verify_entries(&entries), Ok(()));
        }
        prop_assert_eq!(walk.finish(&database.state(database.len())), Ok(()));
    }

    #[test]
    fn a_walk_goes_on_from_anywhere(plans in plans(), at: prop::sample::Index) {
        let database = Database::of(&plans);
        let n = at.index(database.len()) + 1;
        let end = database.state(database.len());
        let Some(proof) = database.dual_proof(n, n) else { unreachable!() };
        let mut walks = vec![Walk::from_trusted(&database.state(n), &proof.wire()).unwrap()];
        let mut first = Walk::from_first();
        for header in &database.headers[..n] {
            first.step(&header.wire()).unwrap();
        }
        let snapshot = first.snapshot(usize::MAX).unwrap();
        walks.push(Walk::resume(&snapshot).unwrap());
        walks.push(first);
        for (which, mut walk) in walks.into_iter().enumerate() {
            let mut outcome = Ok(());
            for header in &database.headers[walk.reached().tx.0 as usize..] {
                outcome = walk.step(&header.wire()).map(drop);
                if outcome.is_err() {
                    break;
                }
            }
            match outcome {
                Ok(()) => prop_assert_eq!(walk.finish(&end), Ok(())),
                // Without the history before it a tree that shrinks can't be known.
                Err(reason) => prop_assert!(which == 0 && reason.code() == "root-unknown", "{}", reason),
            }
        }
    }

    #[test]
    fn changed_proofs_are_rejected(
        plans in plans(), a: prop::sample::Index, b: prop::sample::Index,
        list: prop::sample::Index, at: prop::sample::Index, change in changes(),
    ) {
        let database = Database::of(&plans);
        let (s, t) = pair(&database, a, b);
        let Some(proof) = database.dual_proof(s, t) else { return Ok(()) };
        let mut changed = proof.clone();
        {
            let mut lists = lists(&mut changed);
            let nth = list.index(lists.len());
            let list = &mut lists[nth];
            let place = at.index(list.len().max(1));
            match change {
                Change::Zero => list.insert(place, vec![0; 32]),
                _ if list.is_empty() => return Ok(()),
                Change::Flip(bit) => list[place][bit / 8] ^= 1 << (bit % 8),
                Change::Drop => drop(list.remove(place)),
                Change::Double => list.insert(place, list[place].clone()),
                Change::Swap(other) => {
                    let other = other.index(list.len());
                    list.swap(place, other);
                }
                Change::Cut => drop(list[place].pop()),
            }
        }
        prop_assert!(changed == proof || judge(&database, (s, t), &changed).is_err());
    }

    #[test]
    fn a_forked_history_is_rejected(
        plans in plans(), a: prop::sample::Index, b: prop::sample::Index, fork: prop::sample::Index,
    ) {
        let database = Database::of(&plans);
        let (s, t) = pair(&database, a, b);
        // Another history that differs from some transaction up to the trusted one on.
        let from = fork.index(s);
        let mut other = plans.clone();
        other[from].ts = other[from].ts.wrapping_add(1);
        let other = Database::of(&other);
        if let Some(proof) = other.dual_proof(s, t) {
            prop_assert!(verify_dual(&database.state(s), &other.state(t), &proof.wire()).is_err());
            // The same with the trusted header put in: nothing behind it fits.
            let mut mixed = proof.clone();
            mixed.source = Some(database.headers[s - 1].clone());
            let verdict = verify_dual(&database.state(s), &other.state(t), &mixed.wire());
            let proven = match verdict {
                Ok(Verified::Proven(_)) => true,
                Ok(Verified::NeedsHeaders(pending)) => {
                    let (first, last) = pending.range();
                    let headers = &database.headers[first.0 as usize - 1..last.0 as usize];
                    pending.verify(headers.iter().map(|header| header.wire())).is_ok()
                }
                Err(_) => false,
            };
            prop_assert!(!proven);
        }
        let mut walk = Walk::from_first();
        let whole = database.headers[..s].iter().chain(&other.headers[s..]);
        let walked: Result<Vec<_>, _> = whole.map(|header| walk.step(&header.wire())).collect();
        prop_assert!(walked.is_err() || s == database.len());
    }

    #[test]
    fn entries_are_found_where_they_are(plans in plans(), tx: prop::sample::Index, at: prop::sample::Index) {
        let mut plans = plans;
        for entry in plans.iter_mut().flat_map(|plan| &mut plan.entries) {
            entry.0.insert(0, 0);
            entry.1.insert(0, 0);
        }
        let database = Database::of(&plans);
        let tx = tx.index(database.len()) + 1;
        let at = at.index(database.entries[tx - 1].len());
        let (key, value) = &plans[tx - 1].entries[at];
        let answer = |leaf: usize, value: &[u8]| proto::VerifiableEntry {
            entry: Some(proto::Entry {
                tx: tx as u64,
                key: key[1..].to_vec(),
                value: value.to_vec(),
                ..proto::Entry::default()
            }),
            verifiable_tx: Some(proto::VerifiableTx {
                tx: Some(proto::Tx { header: Some(database.headers[tx - 1].clone()), entries: Vec::new() }),
                dual_proof: database.dual_proof(tx, tx),
                signature: None,
            }),
            inclusion: Some(proto::InclusionProof {
                leaf: leaf as i32,
                width: database.digests[tx - 1].len() as i32,
                terms: inclusion(&database.digests[tx - 1], at).iter().map(|term| term.to_vec()).collect(),
            }),
        };
        let run = |answer: proto::VerifiableEntry, get: &Get<'_>| {
            verify_get(get, Some(&database.state(tx)), &answer.wire(&[])).is_ok()
        };
        let get = Get { key: &key[1..], at: Some(TxId(tx as u64)) };
        prop_assert!(run(answer(at, &value[1..]), &get));
        prop_assert!(!run(answer(at, b"something else"), &get));
        prop_assert!(!run(answer(at + 1, &value[1..]), &get));
        let other_key = Get { key: b"no such key", at: None };
        let other_tx = Get { at: Some(TxId(tx as u64 + 1)), ..get };
        prop_assert!(!run(answer(at, &value[1..]), &other_key));
        prop_assert!(!run(answer(at, &value[1..]), &other_tx));
        let entries: Vec<_> = database.entries[tx - 1].clone();
        prop_assert!(entries[at].wire().verify_value(value).is_ok());
        prop_assert_eq!(entries[at].wire().verify_value(b"x").unwrap_err().class(), Class::Value);
        let longer = proto::TxEntry { v_len: entries[at].v_len + 1, ..entries[at].clone() };
        prop_assert_eq!(longer.wire().verify_value(value).unwrap_err().code(), "value-length");
    }
}
