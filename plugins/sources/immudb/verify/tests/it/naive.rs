//! A database that proves by brute force. It shares nothing with what is
//! tested but the names of its input types: trees are recursive, hashes and
//! the bytes under them are put together here.

use immudb_verify::{Alh, Hash, State, TxId};
use sha2::{Digest, Sha256};

use crate::proto;

pub type Bytes32 = [u8; 32];

pub fn sha(parts: &[&[u8]]) -> Bytes32 {
    Sha256::digest(parts.concat()).into()
}

/// Root over digests, by the definition of RFC 6962.
pub fn root(leaves: &[Bytes32]) -> Bytes32 {
    match leaves {
        [] => sha(&[]),
        [leaf] => sha(&[&[0], leaf]),
        _ => {
            let (left, right) = leaves.split_at(half(leaves.len()));
            sha(&[&[1], &root(left), &root(right)])
        }
    }
}

/// The largest power of two below `n`.
fn half(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// Siblings from the leaf at `at` up.
pub fn inclusion(leaves: &[Bytes32], at: usize) -> Vec<Bytes32> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    let (mut path, sibling) = if at < left.len() {
        (inclusion(left, at), root(right))
    } else {
        (inclusion(right, at - left.len()), root(left))
    };
    path.push(sibling);
    path
}

/// Proof that the first `old` leaves are those of an older tree, as immudb has
/// it: that of RFC 6962, which leaves out the old root where it is a subtree,
/// with that root put back.
pub fn consistency(leaves: &[Bytes32], old: usize) -> Vec<Bytes32> {
    if old == leaves.len() {
        if old == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(half(old));
        return vec![root(right), root(left)];
    }
    let mut proof = subproof(leaves, old);
    if old.is_power_of_two() {
        proof.insert(0, root(&leaves[..old]));
    }
    proof
}

fn subproof(leaves: &[Bytes32], old: usize) -> Vec<Bytes32> {
    fn go(leaves: &[Bytes32], old: usize, whole: bool) -> Vec<Bytes32> {
        if old == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let (left, right) = leaves.split_at(half(leaves.len()));
        let (mut proof, sibling) = if old <= left.len() {
            (go(left, old, whole), root(right))
        } else {
            (go(right, old - left.len(), false), root(left))
        };
        proof.push(sibling);
        proof
    }
    go(leaves, old, true)
}

/// What the next transaction is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub version: i32,
    pub lag: usize,
    pub ts: i64,
    pub truncated: u64,
    pub extra: Vec<u8>,
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A history, kept whole.
#[derive(Clone, Default)]
pub struct Database {
    pub headers: Vec<proto::TxHeader>,
    pub inner: Vec<Bytes32>,
    pub alhs: Vec<Bytes32>,
    pub entries: Vec<Vec<proto::TxEntry>>,
    /// Stored values of the entries.
    pub values: Vec<Vec<Vec<u8>>>,
    pub digests: Vec<Vec<Bytes32>>,
}

impl Database {
    pub fn of(plans: &[Plan]) -> Self {
        let mut database = Self::default();
        plans.iter().for_each(|plan| database.add(plan));
        database
    }

    pub fn add(&mut self, plan: &Plan) {
        let id = self.headers.len() + 1;
        let size = (id - 1).saturating_sub(plan.lag);
        let (mut entries, mut digests) = (Vec::new(), Vec::new());
        for (key, value) in &plan.entries {
            let h_value = sha(&[value]);
            let length = (key.len() as u16).to_be_bytes();
            digests.push(match plan.version {
                0 => sha(&[key, &h_value]),
                _ => sha(&[&[0, 0], &length, key, &h_value]),
            });
            entries.push(proto::TxEntry {
                key: key.clone(),
                h_value: h_value.to_vec(),
                v_len: value.len() as i32,
                ..proto::TxEntry::default()
            });
        }
        let mut metadata = Vec::new();
        if plan.version == 1 && plan.truncated > 0 {
            metadata.push(0);
            metadata.extend(plan.truncated.to_be_bytes());
        }
        if plan.version == 1 && !plan.extra.is_empty() {
            metadata.push(1);
            metadata.extend((plan.extra.len() as u16).to_be_bytes());
            metadata.extend(&plan.extra);
        }
        let header = proto::TxHeader {
            id: id as u64,
            prev_alh: self.alhs.last().copied().unwrap_or_else(|| sha(&[])).to_vec(),
            ts: plan.ts,
            nentries: entries.len() as i32,
            eh: root(&digests).to_vec(),
            bl_tx_id: size as u64,
            bl_root: if size == 0 {
                vec![0; 32]
            } else {
                root(&self.alhs[..size]).to_vec()
            },
            version: plan.version,
            metadata: (!metadata.is_empty()).then(|| proto::TxMetadata {
                truncated_tx_id: plan.truncated,
                extra: plan.extra.clone(),
            }),
        };
        let start = match plan.version {
            0 => [&[0, 0], &(entries.len() as u16).to_be_bytes()[..]].concat(),
            _ => {
                let length = (metadata.len() as u16).to_be_bytes();
                [&[0, 1], &length[..], &metadata, &(entries.len() as u32).to_be_bytes()].concat()
            }
        };
        let tree = [&header.eh[..], &header.bl_tx_id.to_be_bytes(), &header.bl_root].concat();
        let inner = sha(&[&plan.ts.to_be_bytes(), &start, &tree]);
        self.alhs
            .push(sha(&[&header.id.to_be_bytes(), &header.prev_alh, &inner]));
        self.inner.push(inner);
        self.headers.push(header);
        self.entries.push(entries);
        self.values
            .push(plan.entries.iter().map(|(_, value)| value.clone()).collect());
        self.digests.push(digests);
    }

    pub fn len(&self) -> usize {
        self.headers.len()
    }

    pub fn state(&self, tx: usize) -> State {
        State {
            tx: TxId(tx as u64),
            alh: Alh(Hash::from(self.alhs[tx - 1])),
        }
    }

    /// Terms of the linear proof from `from` to `to`.
    fn linear(&self, from: usize, to: usize) -> Vec<Vec<u8>> {
        let first = self.alhs[from - 1].to_vec();
        let rest = self.inner[from..to].iter().map(|inner| inner.to_vec());
        std::iter::once(first).chain(rest).collect()
    }

    /// `None` where a server refuses.
    pub fn dual_proof(&self, s: usize, t: usize) -> Option<proto::DualProof> {
        let (source, target) = (&self.headers[s - 1], &self.headers[t - 1]);
        let (old, size) = (source.bl_tx_id as usize, target.bl_tx_id as usize);
        if old > size {
            return None;
        }
        let tree = &self.alhs[..size];
        let vecs = |hashes: Vec<Bytes32>| hashes.into_iter().map(|hash| hash.to_vec()).collect();
        let from = s.max(size);
        let end = s.min(size);
        let advance = (end > old + 1).then(|| proto::LinearAdvanceProof {
            linear_proof_terms: self.linear(old + 1, end),
            inclusion_proofs: (old + 1..end)
                .map(|tx| proto::InclusionProof {
                    terms: vecs(inclusion(tree, tx - 1)),
                    ..proto::InclusionProof::default()
                })
                .collect(),
        });
        Some(proto::DualProof {
            source: Some(source.clone()),
            target: Some(target.clone()),
            inclusion: if s < size {
                vecs(inclusion(tree, s - 1))
            } else {
                Vec::new()
            },
            consistency: if old > 0 {
                vecs(consistency(tree, old))
            } else {
                Vec::new()
            },
            target_bl_tx_alh: if size > 0 {
                self.alhs[size - 1].to_vec()
            } else {
                vec![0; 32]
            },
            last_inclusion: if size > 0 {
                vecs(inclusion(tree, size - 1))
            } else {
                Vec::new()
            },
            linear: Some(proto::LinearProof {
                source_tx_id: from as u64,
                target_tx_id: t as u64,
                terms: self.linear(from, t),
            }),
            advance,
        })
    }

    pub fn dual_proof_v2(&self, s: usize, t: usize) -> proto::DualProofV2 {
        let tree = &self.alhs[..t - 1];
        let vecs = |hashes: Vec<Bytes32>| hashes.into_iter().map(|hash| hash.to_vec()).collect();
        proto::DualProofV2 {
            source: Some(self.headers[s - 1].clone()),
            target: Some(self.headers[t - 1].clone()),
            inclusion: if s < t {
                vecs(inclusion(tree, s - 1))
            } else {
                Vec::new()
            },
            consistency: if s < t {
                vecs(consistency(tree, (s - 1).max(1)))
            } else {
                Vec::new()
            },
        }
    }
}
