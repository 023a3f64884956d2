//! Hashes of transactions that were found in order, by database: a file that shows where a history begins to differ.
//!
//! Derived: no verdict depends on it. It is good as far as it holds the trusted state, which is in the journal; what is
//! behind that is cut off, and without it the file begins anew. Records have 44 bytes: transaction (big-endian), Alh, and
//! CRC-32C of both (big-endian). They are in order, and some may be missing: where a proof stood for many transactions, and
//! where the file was thinned out. One that the disk spoilt says nothing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use immudb_verify::{Alh, Hash, State, TxId};

use crate::address::Endpoint;
use crate::descent::Descent;
use crate::earlier::Earlier;

pub(crate) const RECORD: usize = 44;
/// Of these, transaction and Alh.
const STATE: usize = 40;

/// Where the files of all databases are.
#[derive(Clone, Debug)]
pub(crate) struct Histories {
    dir: PathBuf,
    limit: u64,
}

/// One database's file.
#[derive(Clone, Debug)]
pub(crate) struct History {
    file: PathBuf,
    limit: u64,
    /// Of the transactions from before the first contact.
    pub(crate) earlier: Earlier,
}

/// A file of older records, newest first.
#[derive(Clone, Debug)]
struct Before {
    file: Arc<File>,
    /// How many of its records are good.
    known: u64,
    /// How many of those at its end are older than all others.
    count: u64,
}

/// What is known up to a trusted state, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Rungs {
    file: Arc<File>,
    pub(crate) count: u64,
    /// What comes before them.
    earlier: Option<Before>,
}

impl Histories {
    /// Files in this directory, each of at most `limit` bytes.
    pub(crate) fn new(dir: PathBuf, limit: u64) -> Self {
        Self { dir, limit }
    }

    pub(crate) fn of(&self, endpoint: &Endpoint, database: &str) -> History {
        let name = auditmon_journal::format::source_hash(&format!("{endpoint}/{database}"));
        let file = |end: &str| self.dir.join(format!("{}.{end}", hex::encode(name)));
        History {
            file: file("alh"),
            limit: self.limit,
            earlier: Earlier::new(file("old"), self.limit),
        }
    }
}

impl Rungs {
    fn of(file: File) -> io::Result<Self> {
        let count = file.metadata()?.len() / RECORD as u64;
        Ok(Self {
            file: Arc::new(file),
            count,
            earlier: None,
        })
    }

    /// The record at this place; waits for the disk.
    pub(crate) fn get(&self, at: u64) -> io::Result<State> {
        match &self.earlier {
            Some(before) if at < before.count => record(&before.file, before.known - 1 - at),
            Some(before) => record(&self.file, at - before.count),
            None => record(&self.file, at),
        }
    }

    /// Puts before them what is known from before the first contact.
    fn after(mut self, file: File, known: u64) -> io::Result<Self> {
        let first = self.get(0)?.tx;
        // Those that are in both files stand at its beginning.
        let (mut low, mut high) = (0, known);
        while low < high {
            let middle = low + (high - low) / 2;
            if record(&file, middle)?.tx >= first {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (file, count) = (Arc::new(file), known - low);
        self.earlier = Some(Before { file, known, count });
        self.count += count;
        Ok(self)
    }

    /// The record of a transaction, if there is one; waits for the disk.
    pub(crate) fn find(&self, tx: TxId) -> io::Result<Option<State>> {
        let at = self.place(tx)?;
        let found = (at < self.count).then(|| self.get(at)).transpose()?;
        Ok(found.filter(|state| state.tx == tx))
    }

    /// How many there are up to this one and with it; `None` if it isn't there.
    fn up_to(&self, state: &State) -> io::Result<Option<u64>> {
        let at = self.place(state.tx)?;
        let there = at < self.count && self.get(at)? == *state;
        Ok(there.then_some(at + 1))
    }

    /// Whether they come to a state, or go on beyond it: then it may only have been left out.
    fn reach(&self, state: &State) -> io::Result<bool> {
        let known = unless_damaged(self.up_to(state))?.flatten();
        let last = self.count.checked_sub(1).map(|at| self.get(at)).transpose();
        let last = unless_damaged(last)?.flatten();
        Ok(known.is_some() || last.is_some_and(|last| last.tx > state.tx))
    }

    /// The place of the first one that isn't before a transaction.
    fn place(&self, tx: TxId) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)?.tx < tx {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// The record at this place of a file; waits for the disk.
///
/// # Errors
/// It can't be read; `InvalidData` where it is damaged.
pub(crate) fn record(file: &File, at: u64) -> io::Result<State> {
    let mut bytes = [0; RECORD];
    file.read_exact_at(&mut bytes, at * RECORD as u64)?;
    if bytes[STATE..] != crc32c::crc32c(&bytes[..STATE]).to_be_bytes() {
        let text = format!("record {at} of a file of hashes is damaged");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let (mut tx, mut alh) = ([0; 8], [0; 32]);
    tx.copy_from_slice(&bytes[..8]);
    alh.copy_from_slice(&bytes[8..STATE]);
    Ok(State {
        tx: TxId(u64::from_be_bytes(tx)),
        alh: Alh(Hash::from(alh)),
    })
}

pub(crate) fn bytes(state: &State) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&state.tx.0.to_be_bytes());
    bytes[8..STATE].copy_from_slice(state.alh.0.as_ref());
    let sum = crc32c::crc32c(&bytes[..STATE]);
    bytes[STATE..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// What was read, unless a record on the way was damaged.
pub(crate) fn unless_damaged<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        other => other.map(Some),
    }
}

impl History {
    /// Adds what was found to follow the trusted state; waits for the disk.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn append(&self, trusted: &State, found: &[State]) -> io::Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        if let Some(dir) = self.file.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let rungs = Rungs::of(options.open(&self.file)?)?;
        let trusted = Some(trusted).filter(|state| !state.is_empty());
        let known = match trusted {
            Some(state) => unless_damaged(rungs.up_to(state))?.flatten(),
            None => None,
        };
        let first = trusted.filter(|_| known.is_none());
        let mut last = trusted.map_or(TxId(0), |state| state.tx);
        let mut out: Vec<u8> = first.map(bytes).into_iter().flatten().collect();
        for state in found {
            if state.tx > last {
                last = state.tx;
                out.extend(bytes(state));
            }
        }
        let keep = known.unwrap_or(0) * RECORD as u64;
        rungs.file.set_len(keep)?;
        rungs.file.write_all_at(&out, keep)?;
        if keep + out.len() as u64 > self.limit {
            self.thin(&Rungs::of(File::open(&self.file)?)?)?;
        }
        Ok(())
    }

    /// Leaves out every second record, never the last; what is older was left out more often.
    fn thin(&self, rungs: &Rungs) -> io::Result<()> {
        let mut out = Vec::new();
        for at in (0..rungs.count).filter(|at| (rungs.count - 1 - at).is_multiple_of(2)) {
            out.extend(unless_damaged(rungs.get(at))?.iter().flat_map(bytes));
        }
        let new = self.file.with_extension("new");
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&new)?.write_all_at(&out, 0)?;
        fs::rename(&new, &self.file)
    }

    /// What is known up to the trusted state; `None` if the file doesn't hold that. Where there is none, as nothing has come
    /// since the first contact, or where it leads nowhere, it is made. `past` says what of the time before the first contact
    /// was looked at.
    ///
    /// # Errors
    /// A file can't be read, or written.
    pub(crate) fn rungs(&self, trusted: &State, past: Option<&Descent>) -> io::Result<Option<Rungs>> {
        let open = || match File::open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => Rungs::of(other?).map(Some),
        };
        let mut rungs = open()?;
        let reach = rungs.as_ref().map(|rungs| rungs.reach(trusted)).transpose()?;
        if reach != Some(true) && self.limit > 0 && !trusted.is_empty() {
            self.append(trusted, &[])?;
            rungs = open()?;
        }
        let Some(rungs) = rungs else { return Ok(None) };
        let Some(count) = unless_damaged(rungs.up_to(trusted))?.flatten() else {
            return Ok(None);
        };
        let rungs = Rungs { count, ..rungs };
        let earlier = past.map(|past| self.earlier.read(past)).transpose()?.flatten();
        match earlier {
            Some((file, known)) => {
                let all = unless_damaged(rungs.clone().after(file, known))?;
                Ok(Some(all.unwrap_or(rungs)))
            }
            None => Ok(Some(rungs)),
        }
    }
}

/// States on the way of a walk, of which it keeps a bounded number, evenly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    states: Vec<State>,
    /// One of so many is kept; doubled when there are too many.
    stride: u64,
}

/// Most states of a trail: 2.5 MiB.
const TRAIL: usize = 1 << 16;

impl Trail {
    pub(crate) fn push(&mut self, state: State) {
        let stride = self.stride.max(1);
        if !state.tx.0.is_multiple_of(stride) {
            return;
        }
        self.states.push(state);
        if self.states.len() >= TRAIL {
            self.stride = stride * 2;
            let stride = self.stride;
            self.states.retain(|state| state.tx.0.is_multiple_of(stride));
        }
    }

    /// All of it, and where it ended.
    pub(crate) fn end(mut self, last: State) -> Vec<State> {
        if self.states.last() != Some(&last) {
            self.states.push(last);
        }
        self.states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(tx: u64, salt: u8) -> State {
        State {
            tx: TxId(tx),
            alh: Alh(Hash::from([salt; 32])),
        }
    }

    fn all(history: &History, trusted: &State) -> Option<Vec<u64>> {
        let rungs = history.rungs(trusted, None).unwrap()?;
        Some((0..rungs.count).map(|at| rungs.get(at).unwrap().tx.0).collect())
    }

    fn history(limit: u64) -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::parse("a:1").unwrap();
        let history = Histories::new(dir.path().join("below"), limit).of(&endpoint, "db");
        (dir, history)
    }

    #[test]
    fn it_grows_behind_the_trusted_state_and_nowhere_else() {
        let (_dir, history) = history(1 << 20);
        let found: Vec<State> = (5..9).map(|tx| state(tx, 1)).collect();
        history.append(&state(4, 1), &found).unwrap();
        assert_eq!(all(&history, &state(8, 1)), Some(vec![4, 5, 6, 7, 8]));
        assert_eq!(all(&history, &state(6, 1)), Some(vec![4, 5, 6]));
        let rungs = history.rungs(&state(6, 1), None).unwrap().unwrap();
        assert_eq!(rungs.find(TxId(5)).unwrap(), Some(state(5, 1)));
        assert!([3, 7].iter().all(|tx| rungs.find(TxId(*tx)).unwrap().is_none()));
        // Written, and never trusted: a crash in between.
        history.append(&state(6, 1), &[state(9, 2)]).unwrap();
        assert_eq!(all(&history, &state(9, 2)), Some(vec![4, 5, 6, 9]));
        assert_eq!(all(&history, &state(8, 1)), None);
        // Another history, or the same one behind transactions that nobody saw: the file says nothing.
        history.append(&state(6, 3), &[state(7, 3)]).unwrap();
        assert_eq!(all(&history, &state(7, 3)), Some(vec![6, 7]));
        // What a crash tore or a disk spoilt.
        let file = File::options().write(true).open(&history.file).unwrap();
        file.set_len(2 * RECORD as u64 - 3).unwrap();
        history.append(&state(7, 3), &[state(8, 3)]).unwrap();
        assert_eq!(all(&history, &state(8, 3)), Some(vec![7, 8]));
        fs::write(&history.file, [0xff; 3 * RECORD]).unwrap();
        assert_eq!(all(&history, &state(8, 3)), Some(vec![8]));
        history.append(&crate::word::NOTHING, &[state(1, 1)]).unwrap();
        assert_eq!(all(&history, &state(1, 1)), Some(vec![1]));
        // None yet: what is trusted is known at least.
        fs::remove_file(&history.file).unwrap();
        assert_eq!(all(&history, &crate::word::NOTHING), None);
        assert_eq!(all(&history, &state(7, 1)), Some(vec![7]));
    }

    /// A file that leads nowhere, such as one of another version, begins anew at what is trusted; one that may only have
    /// left that out is kept.
    #[test]
    fn what_can_not_be_used_begins_anew() {
        let (_dir, history) = history(1 << 20);
        let older: Vec<u8> = (1..=9).flat_map(|tx| bytes(&state(tx, 1))[..STATE].to_vec()).collect();
        history.append(&state(1, 1), &[]).unwrap();
        for contents in [older, Vec::new(), bytes(&state(6, 1)).to_vec()] {
            fs::write(&history.file, contents).unwrap();
            assert_eq!(all(&history, &crate::word::NOTHING), None);
            assert_eq!(all(&history, &state(9, 1)), Some(vec![9]));
            history.append(&state(9, 1), &[state(10, 1)]).unwrap();
            assert_eq!(all(&history, &state(10, 1)), Some(vec![9, 10]));
        }
        let before = fs::read(&history.file).unwrap();
        assert_eq!(all(&history, &state(8, 1)), None);
        assert_eq!(fs::read(&history.file).unwrap(), before);
        // Who only reads makes none.
        let reader = History { limit: 0, ..history };
        fs::write(&reader.file, [7; 400]).unwrap();
        assert_eq!(all(&reader, &state(9, 1)), None);
        assert_eq!(fs::read(&reader.file).unwrap(), [7; 400]);
    }

    /// What was fetched of the time before the first contact stands before the rest, once.
    #[test]
    fn earlier_ones_come_first() {
        let (_dir, history) = history(1 << 20);
        let found: Vec<State> = (8..11).map(|tx| state(tx, 1)).collect();
        history.append(&state(7, 1), &found).unwrap();
        // Of a record that an earlier version wrote: it begins later than the file.
        let from = state(9, 1);
        let older: Vec<State> = (4..=9).rev().map(|tx| state(tx, 1)).collect();
        history.earlier.append(&Descent::new(from, 0), &older).unwrap();
        let past = Descent {
            next: state(3, 1),
            ..Descent::new(from, 0)
        };
        let rungs = history.rungs(&state(10, 1), Some(&past)).unwrap().unwrap();
        let all: Vec<u64> = (0..rungs.count).map(|at| rungs.get(at).unwrap().tx.0).collect();
        assert_eq!(all, [4, 5, 6, 7, 8, 9, 10]);
        // What the journal doesn't know of doesn't count.
        let past = Descent::new(state(9, 2), 0);
        let rungs = history.rungs(&state(10, 1), Some(&past)).unwrap().unwrap();
        assert_eq!(rungs.get(0).unwrap(), state(7, 1));
        assert_eq!(rungs.count, 4);
    }

    #[test]
    fn it_is_thinned_out_and_keeps_its_end() {
        let (_dir, history) = history(8 * RECORD as u64);
        for tx in 2..=100 {
            history.append(&state(tx - 1, 1), &[state(tx, 1)]).unwrap();
            let known = all(&history, &state(tx, 1)).unwrap();
            assert!(known.len() <= 8 && known.is_sorted(), "{known:?}");
            assert_eq!(known.last(), Some(&tx));
        }
    }

    /// A byte that a disk spoilt makes no other hash of a transaction.
    #[test]
    fn what_is_damaged_says_nothing() {
        let (_dir, history) = history(1 << 20);
        let found: Vec<State> = (2..=9).map(|tx| state(tx, 1)).collect();
        history.append(&state(1, 1), &found).unwrap();
        let good = fs::read(&history.file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&history.file, &bad).unwrap();
            let damaged = 1 + (at / RECORD) as u64;
            let rungs = history.rungs(&state(9, 1), None).unwrap().unwrap();
            if rungs.count > 1 {
                for tx in 1..=9 {
                    let told = rungs.find(TxId(tx)).ok().flatten();
                    assert!(told.is_none_or(|told| told == state(tx, 1)), "byte {at}");
                    assert!(tx != damaged || told.is_none(), "byte {at}");
                }
            } else {
                // On the way to the trusted state: it begins anew there, and goes on.
                assert_eq!(rungs.get(0).unwrap(), state(9, 1), "byte {at}");
                history.append(&state(9, 1), &[state(10, 1)]).unwrap();
                assert_eq!(all(&history, &state(10, 1)), Some(vec![9, 10]), "byte {at}");
            }
        }
    }

    #[test]
    fn a_trail_is_bounded_and_even() {
        let mut trail = Trail::default();
        let most = 300_000;
        (1..=most).for_each(|tx| trail.push(state(tx, 1)));
        let states = trail.end(state(most, 1));
        assert!(states.len() <= TRAIL + 1);
        let steps: Vec<u64> = states.windows(2).map(|pair| pair[1].tx.0 - pair[0].tx.0).collect();
        assert!(steps.iter().all(|step| (1..=8).contains(step)));
        assert_eq!(states.last(), Some(&state(most, 1)));
    }
}
