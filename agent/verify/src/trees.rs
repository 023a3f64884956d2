//! The tree, grown from what several files say about each leaf; a signed root decides who is right.
//!
//! A record, the leaf file, the tile and the store's row each give the hash of a leaf. While they agree there is one
//! tree. Where they don't, one tree is grown for each way to believe them, until a signed root fits one of these:
//! then what differs from that is what was changed.

use auditmon_merkle::{Hash, NodeId, TILE_HEIGHT, Tiler, TreeHead};

/// Who says what a leaf's hash is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Witness {
    /// The record in the segment.
    Record,
    /// The leaf file.
    Leaf,
    /// The tile of level 0.
    Tile,
    /// The row of the store.
    Row,
}

pub(crate) const WITNESSES: usize = 4;
const ALL: [Witness; WITNESSES] = [Witness::Record, Witness::Leaf, Witness::Tile, Witness::Row];

/// In which order the witnesses are believed; the last way, behind these, is the majority.
const WAYS: [[usize; WITNESSES]; 4] = [[0, 1, 2, 3], [1, 2, 0, 3], [2, 1, 0, 3], [3, 0, 1, 2]];
const MAJORITY: usize = WAYS.len();

/// Most runs of disagreement that are kept.
const MAX_RUNS: usize = 4096;

/// What the witnesses say about one leaf.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    pub(crate) hashes: [Option<Hash>; WITNESSES],
    pub(crate) ids: [Option<[u8; 16]>; WITNESSES],
}

/// For each witness the first one that says the same; `None` if it says nothing.
type Pattern = [Option<u8>; WITNESSES];

/// Leaves in a row about which the witnesses disagree in the same way.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// First seq of the segment.
    pub(crate) segment: u64,
    pattern: Pattern,
    ids: [Option<[u8; 16]>; WITNESSES],
}

/// A run with those who were wrong.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) run: Run,
    pub(crate) witness: Witness,
    /// The id of the record as it should be.
    pub(crate) id: Option<[u8; 16]>,
}

/// What a root said.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is that of the records, or of what else was believed in their place.
    Holds,
    /// None of the trees has it.
    Differs,
    /// Leaves are missing before it: nothing can be said.
    Unknown,
}

pub(crate) struct Trees {
    main: Tiler,
    /// Other ways to believe, where they lead elsewhere.
    forks: [Option<Tiler>; WAYS.len() + 1],
    runs: Vec<Run>,
    /// Leaves are missing, or a root differed.
    broken: bool,
}

impl Trees {
    pub(crate) fn new() -> Self {
        Self {
            main: Tiler::new(),
            forks: [const { None }; WAYS.len() + 1],
            runs: Vec::new(),
            broken: false,
        }
    }

    /// Appends the next leaf.
    pub(crate) fn push(&mut self, seq: u64, segment: u64, said: &Said) {
        let pattern = pattern(&said.hashes);
        let distinct = pattern
            .iter()
            .flatten()
            .any(|class| Some(*class) != pattern.iter().flatten().next().copied());
        if distinct {
            self.note(seq, segment, pattern, said.ids);
        }
        if self.broken {
            return;
        }
        let hash = |way: usize| believed(way, &pattern).and_then(|at| said.hashes[at]);
        let Some(main) = hash(0) else {
            self.broken = true;
            return;
        };
        if distinct || self.forks.iter().any(Option::is_some) {
            for way in 1..self.forks.len() {
                let other = hash(way).unwrap_or(main);
                if self.forks[way].is_none() && other != main {
                    self.forks[way] = Some(self.main.clone());
                }
                if let Some(fork) = &mut self.forks[way] {
                    let _ = fork.push(other);
                }
            }
        }
        self.broken = self.main.push(main).is_err();
    }

    /// Appends a subtree of which only the hash is left, and those that its tile has for it, if they are known.
    pub(crate) fn push_subtree(&mut self, node: NodeId, hash: Hash, entries: Option<&[Hash]>) {
        let whole = [hash];
        let (level, hashes) = match entries {
            Some(entries) => (node.level() / TILE_HEIGHT * TILE_HEIGHT, entries),
            None => (node.level(), whole.as_slice()),
        };
        let push = |tree: &mut Tiler| hashes.iter().all(|hash| tree.push_subtree(level, *hash).is_ok());
        self.broken |= !push(&mut self.main);
        for fork in self.forks.iter_mut().flatten() {
            push(fork);
        }
    }

    /// Leaves are missing: no later root can be compared.
    pub(crate) fn lose(&mut self) {
        self.broken = true;
    }

    /// The tiler, as long as there is one tree with all its leaves.
    pub(crate) fn tiler(&self) -> Option<&Tiler> {
        (!self.broken && self.forks.iter().all(Option::is_none)).then_some(&self.main)
    }

    /// Whether roots can still be compared.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken
    }

    /// Compares the tree with a signed one of the same size; tells who was wrong since the last one.
    pub(crate) fn compare(&mut self, head: &TreeHead, wrong: &mut Vec<Wrong>) -> Verdict {
        if self.broken {
            return Verdict::Unknown;
        }
        let way = if self.main.head() == *head {
            Some(0)
        } else {
            let fits = |fork: &Option<Tiler>| fork.as_ref().is_some_and(|fork| fork.head() == *head);
            self.forks.iter().position(fits)
        };
        let Some(way) = way else {
            self.broken = true;
            self.blame(MAJORITY, wrong);
            return Verdict::Differs;
        };
        if let Some(fork) = self.forks[way].take() {
            self.main = fork;
        }
        self.forks = [const { None }; WAYS.len() + 1];
        self.blame(way, wrong);
        Verdict::Holds
    }

    /// Tells who was wrong where no root decides: whoever is alone.
    pub(crate) fn finish(&mut self, wrong: &mut Vec<Wrong>) {
        self.blame(MAJORITY, wrong);
    }

    fn note(&mut self, seq: u64, segment: u64, pattern: Pattern, ids: [Option<[u8; 16]>; WITNESSES]) {
        let full = self.runs.len() >= MAX_RUNS;
        match self.runs.last_mut() {
            Some(run) if run.last + 1 == seq && run.segment == segment && run.pattern == pattern => run.last = seq,
            _ if full => {}
            _ => self.runs.push(Run {
                first: seq,
                last: seq,
                segment,
                pattern,
                ids,
            }),
        }
    }

    fn blame(&mut self, way: usize, wrong: &mut Vec<Wrong>) {
        for run in self.runs.drain(..) {
            let Some(right) = believed(way, &run.pattern) else {
                continue;
            };
            let same = |at: usize| run.pattern[at] == run.pattern[right];
            let id = (0..WITNESSES).filter(|at| same(*at)).find_map(|at| run.ids[at]);
            let id = id.or_else(|| run.ids.iter().flatten().next().copied());
            for (at, witness) in ALL.into_iter().enumerate() {
                if run.pattern[at].is_some() && !same(at) {
                    wrong.push(Wrong {
                        run: run.clone(),
                        witness,
                        id,
                    });
                }
            }
        }
    }
}

fn pattern(hashes: &[Option<Hash>; WITNESSES]) -> Pattern {
    let mut pattern = [None; WITNESSES];
    for (at, hash) in hashes.iter().enumerate() {
        if hash.is_some() {
            pattern[at] = hashes.iter().position(|other| other == hash).map(|at| at as u8);
        }
    }
    pattern
}

/// Which witness is believed.
fn believed(way: usize, pattern: &Pattern) -> Option<usize> {
    if let Some(order) = WAYS.get(way) {
        return order.iter().copied().find(|at| pattern[*at].is_some());
    }
    let votes = |at: &usize| pattern.iter().filter(|class| **class == pattern[*at]).count();
    // The first of those that most agree with.
    (0..WITNESSES)
        .rev()
        .filter(|at| pattern[*at].is_some())
        .max_by_key(votes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditmon_merkle::leaf_hash;

    fn hash(n: u8) -> Hash {
        leaf_hash(&[n])
    }

    fn root(leaves: &[u8]) -> TreeHead {
        let mut tree = Tiler::new();
        for leaf in leaves {
            tree.push(hash(*leaf)).unwrap();
        }
        tree.head()
    }

    fn grown(said: &[[Option<u8>; 4]]) -> Trees {
        let mut trees = Trees::new();
        for (seq, said) in (0..).zip(said) {
            let said = Said {
                hashes: said.map(|n| n.map(hash)),
                ids: [None; 4],
            };
            trees.push(seq, 0, &said);
        }
        trees
    }

    #[test]
    fn the_root_says_who_is_wrong() {
        let cases = [
            // The record was changed; the leaf file, the tile, the row alone know.
            ([Some(9), Some(1), None, None], vec![Witness::Record]),
            ([Some(9), Some(9), Some(1), None], vec![Witness::Record, Witness::Leaf]),
            (
                [Some(9), Some(9), Some(9), Some(1)],
                vec![Witness::Record, Witness::Leaf, Witness::Tile],
            ),
            // One of the others was changed.
            ([Some(1), Some(9), Some(1), Some(1)], vec![Witness::Leaf]),
            ([Some(1), Some(1), Some(9), None], vec![Witness::Tile]),
            ([Some(1), None, None, Some(9)], vec![Witness::Row]),
            // The record can't be read.
            ([None, Some(9), None, Some(1)], vec![Witness::Leaf]),
        ];
        for (said, witnesses) in cases {
            let mut trees = grown(&[[Some(0), Some(0), Some(0), None], said, [Some(2), None, Some(2), None]]);
            let mut wrong = Vec::new();
            assert_eq!(trees.compare(&root(&[0, 1, 2]), &mut wrong), Verdict::Holds, "{said:?}");
            let found: Vec<_> = wrong.iter().map(|wrong| wrong.witness).collect();
            assert_eq!(found, witnesses, "{said:?}");
            assert!(wrong.iter().all(|wrong| (wrong.run.first, wrong.run.last) == (1, 1)));
        }
    }

    #[test]
    fn different_witnesses_may_be_wrong_at_different_leaves() {
        let mut trees = grown(&[[Some(9), Some(0), None, Some(0)], [Some(1), Some(9), None, Some(1)]]);
        let mut wrong = Vec::new();
        assert_eq!(trees.compare(&root(&[0, 1]), &mut wrong), Verdict::Holds);
        let found: Vec<_> = wrong.iter().map(|wrong| (wrong.run.first, wrong.witness)).collect();
        assert_eq!(found, [(0, Witness::Record), (1, Witness::Leaf)]);
    }

    #[test]
    fn a_root_that_nothing_leads_to_ends_comparing() {
        let mut trees = grown(&[[Some(0), Some(0), None, None]]);
        let mut wrong = Vec::new();
        assert_eq!(trees.compare(&root(&[5]), &mut wrong), Verdict::Differs);
        assert!(wrong.is_empty());
        assert_eq!(trees.compare(&root(&[0]), &mut wrong), Verdict::Unknown);
    }
}
