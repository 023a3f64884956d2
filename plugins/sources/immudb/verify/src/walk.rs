//! The walk: every header from a trusted state to a claimed one.
//!
//! Stronger than any dual proof, and it works whether or not trees lag: each
//! header must follow the one before, and commit to the very tree that the
//! transactions before it form.

use std::collections::VecDeque;

use crate::dual::{Verified, verify_dual};
use crate::hash::{Alh, EMPTY, Hash, TreeSize, TxId, ZERO};
use crate::header::TxHeader;
use crate::part::Part;
use crate::reason::Reason;
use crate::state::State;
use crate::tree::Tree;
use crate::wire;

/// How many roots of smaller trees a walk keeps unless told otherwise: a tree
/// lags by at most the transactions that a server writes at a time, which was
/// 1,024 where it could lag at all (29 was seen).
pub const WINDOW: usize = 1_100;

/// A walk along the headers of a database. Memory: 32 bytes for each root in
/// its window, and its tree.
#[derive(Clone, Debug)]
pub struct Walk {
    tx: TxId,
    alh: Alh,
    tree: Tree,
    /// Roots of the trees of the last sizes, the newest at the end; the root
    /// of the tree as it is included.
    roots: VecDeque<Hash>,
    window: usize,
    /// A later state that the headers must lead through, until they did.
    through: Option<State>,
    lagged: bool,
}

/// All that a walk needs to go on later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// Where it is.
    pub state: State,
    /// Peaks of the tree of all transactions up to there, largest first.
    pub peaks: Vec<Hash>,
    /// Roots of the trees of the sizes just below that one, in order.
    pub roots: Vec<Hash>,
}

impl Walk {
    /// A walk from the first transaction on: it proves the whole history.
    pub fn from_first() -> Self {
        Self::start(TxId(0), Alh::FIRST, Tree::new())
    }

    fn start(tx: TxId, alh: Alh, tree: Tree) -> Self {
        let roots = VecDeque::from([root(&tree)]);
        Self {
            tx,
            alh,
            tree,
            roots,
            window: WINDOW,
            through: None,
            lagged: false,
        }
    }

    /// A walk from where another was.
    ///
    /// # Errors
    /// The tree's peaks are not those of so many transactions.
    pub fn resume(snapshot: &Snapshot) -> Result<Self, Reason> {
        let State { tx, alh } = snapshot.state;
        let mut walk = Self::start(tx, alh, Tree::from_peaks(TreeSize(tx.0), &snapshot.peaks)?);
        let most = usize::try_from(tx.0).unwrap_or(usize::MAX).min(WINDOW);
        let from = snapshot.roots.len().saturating_sub(most);
        for known in snapshot.roots[from..].iter().rev() {
            walk.roots.push_front(*known);
        }
        Ok(walk)
    }

    /// A walk from any trusted state without the history before it: `proof` is
    /// the answer about that transaction alone (`tx` and `proveSinceTx` the same).
    ///
    /// If its tree lags, the walk starts where the tree ends and must come
    /// through the trusted state, see [`next_tx`](Self::next_tx).
    ///
    /// # Errors
    /// The answer is not one about the trusted state.
    pub fn from_trusted<D: AsRef<[u8]>>(trusted: &State, proof: &wire::DualProof<'_, D>) -> Result<Self, Reason> {
        let proven = match verify_dual(trusted, trusted, proof)? {
            Verified::Proven(proven) => proven,
            Verified::NeedsHeaders(_) => return Err(Reason::SourceChain { tx: trusted.tx }),
        };
        let size = proven.target().tree_size();
        let mut walk = if size == TreeSize(0) {
            Self::from_first()
        } else {
            // The proof of the last leaf is the peaks before it, smallest first.
            let part = Part::LastInclusionProof;
            let peaks: Result<Vec<Hash>, Reason> = proof
                .last_inclusion_proof
                .iter()
                .rev()
                .map(|term| Hash::received(part, term.as_ref()))
                .collect();
            let mut tree = Tree::from_peaks(TreeSize(size.0 - 1), &peaks?)?;
            let before = root(&tree);
            let alh = Alh(Hash::received(Part::TargetBlTxAlh, proof.target_bl_tx_alh)?);
            tree.push(alh.leaf());
            let mut walk = Self::start(TxId(size.0), alh, tree);
            walk.roots.push_front(before);
            walk
        };
        if proven.target().lags() {
            walk.through = Some(*trusted);
            walk.lagged = true;
        } else {
            walk.append(trusted.tx, trusted.alh);
        }
        Ok(walk)
    }

    /// The same walk with room for other than [`WINDOW`] roots, at least one.
    pub fn with_window(mut self, roots: usize) -> Self {
        self.window = roots.max(1);
        self.forget();
        self
    }

    /// Takes the next header.
    ///
    /// # Errors
    /// It isn't the next, doesn't follow, or commits to another tree: then the
    /// walk stays where it is. Inconclusive if the tree it commits to is older
    /// than what this walk knows.
    pub fn step(&mut self, received: &wire::TxHeader<'_>) -> Result<TxHeader, Reason> {
        let header = TxHeader::new(received)?;
        let (expected, found) = (self.next_tx(), header.id());
        if found != expected {
            return Err(Reason::WalkOrder { expected, found });
        }
        if header.prev_alh() != self.alh {
            return Err(Reason::WalkChain { tx: found });
        }
        self.check_root(&header)?;
        let alh = header.alh();
        if let Some(through) = self.through.filter(|through| through.tx == found) {
            if through.alh != alh {
                return Err(Reason::WalkHash { tx: found });
            }
            self.through = None;
        }
        self.lagged |= header.lags();
        self.append(found, alh);
        Ok(header)
    }

    fn check_root(&self, header: &TxHeader) -> Result<(), Reason> {
        let (tx, size) = (header.id(), header.tree_size());
        let back = self.tree.size().0.checked_sub(size.0);
        let back = back.and_then(|back| usize::try_from(back).ok());
        let known = back
            .and_then(|back| self.roots.len().checked_sub(back.saturating_add(1)))
            .and_then(|at| self.roots.get(at));
        match known {
            Some(root) if *root == header.tree_root() => Ok(()),
            Some(_) => Err(Reason::WalkRoot { tx, size }),
            // On the way to a trusted state; that state's hash covers this header.
            None if self.through.is_some() => Ok(()),
            None => Err(Reason::RootUnknown { tx, size }),
        }
    }

    fn append(&mut self, tx: TxId, alh: Alh) {
        self.tree.push(alh.leaf());
        self.tx = tx;
        self.alh = alh;
        self.roots.push_back(root(&self.tree));
        self.forget();
    }

    fn forget(&mut self) {
        while self.roots.len() > self.window {
            self.roots.pop_front();
        }
    }

    /// The transaction whose header is next.
    pub fn next_tx(&self) -> TxId {
        TxId(self.tx.0.saturating_add(1))
    }

    /// Where the walk is. Not to be trusted before [`finish`](Self::finish).
    pub fn reached(&self) -> State {
        State {
            tx: self.tx,
            alh: self.alh,
        }
    }

    /// Whether a header on the way committed to a tree that lags: then the
    /// next walk should know some roots, see [`snapshot`](Self::snapshot).
    pub fn lagged(&self) -> bool {
        self.lagged
    }

    /// Checks that the walk is at the claimed state.
    ///
    /// # Errors
    /// It is elsewhere, or hasn't come through the state it had to.
    pub fn finish(&self, claimed: &State) -> Result<(), Reason> {
        let (expected, found) = (claimed.tx, self.tx);
        if found != expected || self.through.is_some() {
            return Err(Reason::WalkEnd { expected, found });
        }
        if self.alh == claimed.alh {
            Ok(())
        } else {
            Err(Reason::WalkHash { tx: found })
        }
    }

    /// What is needed to go on from here, with at most this many roots: none
    /// where trees don't lag, else [`WINDOW`].
    ///
    /// # Errors
    /// The walk hasn't come through the state it had to.
    pub fn snapshot(&self, roots: usize) -> Result<Snapshot, Reason> {
        if let Some(through) = self.through {
            let (expected, found) = (through.tx, self.tx);
            return Err(Reason::WalkEnd { expected, found });
        }
        // The last is that of the tree itself, which its peaks give.
        let smaller = self.roots.len().saturating_sub(1);
        let skip = smaller.saturating_sub(roots);
        Ok(Snapshot {
            state: self.reached(),
            peaks: self.tree.peaks().to_vec(),
            roots: self.roots.iter().take(smaller).skip(skip).copied().collect(),
        })
    }
}

/// The root as a header has it: zero, not that of nothing, where there is no tree.
fn root(tree: &Tree) -> Hash {
    match tree.root() {
        EMPTY if tree.size() == TreeSize(0) => ZERO,
        root => root,
    }
}
