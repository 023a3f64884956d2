//! A history of transactions whose proofs are quick to make: the hashes of all whole subtrees are kept.

use sha2::{Digest as _, Sha256};

use super::proto::{DualProof, LinearProof, TxHeader};

/// A SHA-256 hash.
pub type Bytes32 = [u8; 32];

/// SHA-256 over pieces.
pub fn sha(parts: &[&[u8]]) -> Bytes32 {
    let mut sha = Sha256::new();
    parts.iter().for_each(|part| sha.update(part));
    sha.finalize().into()
}

/// Transactions of one entry each; trees don't lag.
pub struct History {
    headers: Vec<TxHeader>,
    inner: Vec<Bytes32>,
    alhs: Vec<Bytes32>,
    /// Of subtrees of 1, 2, 4, … leaves.
    levels: Vec<Vec<Bytes32>>,
}

/// Hash over what a header has beside its number and the one before it.
pub fn inner(header: &TxHeader) -> Bytes32 {
    sha(&[
        &header.ts.to_be_bytes(),
        // Version 1, no metadata.
        &[0, 1, 0, 0],
        &header.nentries.to_be_bytes(),
        &header.eh,
        &header.bl_tx_id.to_be_bytes(),
        &header.bl_root,
    ])
}

/// The Alh of a header.
pub fn alh(header: &TxHeader) -> Bytes32 {
    sha(&[&header.id.to_be_bytes(), &header.prev_alh, &inner(header)])
}

fn half(n: usize) -> usize {
    n.next_power_of_two() / 2
}

impl History {
    /// One of so many transactions.
    pub fn new(count: u64) -> Self {
        let mut all = Self {
            headers: Vec::new(),
            inner: Vec::new(),
            alhs: Vec::new(),
            levels: vec![Vec::new()],
        };
        (1..=count).for_each(|id| all.push(id));
        all
    }

    fn push(&mut self, id: u64) {
        let size = self.alhs.len();
        let header = TxHeader {
            id,
            prev_alh: self.alhs.last().copied().unwrap_or_else(|| sha(&[])).to_vec(),
            ts: 1_700_000_000,
            nentries: 1,
            eh: sha(&[&id.to_be_bytes()]).to_vec(),
            bl_tx_id: id - 1,
            bl_root: if size == 0 { [0; 32] } else { self.root(0, size) }.to_vec(),
            version: 1,
            metadata: None,
        };
        let alh = alh(&header);
        self.inner.push(inner(&header));
        self.headers.push(header);
        self.alhs.push(alh);
        let mut hash = sha(&[&[0], &alh]);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(hash);
            let [.., left, right] = &row[..] else { break };
            if row.len() % 2 == 1 {
                break;
            }
            hash = sha(&[&[1], left, right]);
        }
    }

    /// All headers, in order.
    pub fn headers(&self) -> &[TxHeader] {
        &self.headers
    }

    /// The Alh of a transaction.
    pub fn alh(&self, tx: u64) -> Bytes32 {
        self.alhs[tx as usize - 1]
    }

    /// Root over leaves that begin where a subtree of their size may.
    fn root(&self, from: usize, to: usize) -> Bytes32 {
        let count = to - from;
        if count.is_power_of_two() {
            let level = count.ilog2();
            return self.levels[level as usize][from >> level];
        }
        let middle = from + half(count);
        sha(&[&[1], &self.root(from, middle), &self.root(middle, to)])
    }

    fn inclusion(&self, (from, to): (usize, usize), at: usize, out: &mut Vec<Vec<u8>>) {
        if to - from == 1 {
            return;
        }
        let middle = from + half(to - from);
        if at < middle {
            self.inclusion((from, middle), at, out);
            out.push(self.root(middle, to).to_vec());
        } else {
            self.inclusion((middle, to), at, out);
            out.push(self.root(from, middle).to_vec());
        }
    }

    fn consistency(&self, (from, to): (usize, usize), old: usize, whole: bool, out: &mut Vec<Vec<u8>>) {
        if old == to - from {
            if !whole {
                out.push(self.root(from, to).to_vec());
            }
            return;
        }
        let middle = from + half(to - from);
        if from + old <= middle {
            self.consistency((from, middle), old, whole, out);
            out.push(self.root(middle, to).to_vec());
        } else {
            self.consistency((middle, to), from + old - middle, false, out);
            out.push(self.root(from, middle).to_vec());
        }
    }

    /// The proof that `t` follows from `s`, which is before it.
    pub fn proof(&self, s: u64, t: u64) -> DualProof {
        let (older, size) = (s as usize - 1, t as usize - 1);
        let (mut inclusion, mut consistency, mut last) = (Vec::new(), Vec::new(), Vec::new());
        if older + 1 < size {
            self.inclusion((0, size), older, &mut inclusion);
        }
        if older > 0 {
            if older.is_power_of_two() {
                consistency.push(self.root(0, older).to_vec());
            }
            self.consistency((0, size), older, true, &mut consistency);
        }
        self.inclusion((0, size), size - 1, &mut last);
        let before = self.alhs[size - 1].to_vec();
        DualProof {
            source: Some(self.headers[older].clone()),
            target: Some(self.headers[size].clone()),
            inclusion,
            consistency,
            target_bl_tx_alh: before.clone(),
            last_inclusion: last,
            linear: Some(LinearProof {
                source_tx_id: t - 1,
                target_tx_id: t,
                terms: vec![before, self.inner[size].to_vec()],
            }),
            ..DualProof::default()
        }
    }
}

/// How many hashes it takes to verify a proof.
pub fn hashes(s: u64, t: u64, proof: &DualProof) -> usize {
    // Both headers, the step to the target, the last leaf and its way.
    let mut count = 4 + 1 + 1 + proof.last_inclusion.len();
    if !proof.inclusion.is_empty() {
        count += 1 + proof.inclusion.len();
    }
    if let [_, terms @ ..] = &proof.consistency[..] {
        let (mut f, mut n) = (s - 2, t - 2);
        while f % 2 == 1 {
            (f, n) = (f / 2, n / 2);
        }
        for _ in terms {
            if f % 2 == 1 || f == n {
                count += 2;
                while f % 2 == 0 && f != 0 {
                    (f, n) = (f / 2, n / 2);
                }
            } else {
                count += 1;
            }
            (f, n) = (f / 2, n / 2);
        }
    }
    count
}
