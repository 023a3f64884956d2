//! Hashes of transactions from before the first contact, newest first, in a file of their own beside the history's.
//!
//! Derived, as [`history`](crate::history) is: it is good as far as it begins with the state of the first contact, and
//! down to where the journal says that headers were looked at. Of a long history every second, fourth, ... is kept.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use immudb_verify::State;

use crate::descent::Descent;
use crate::history::{RECORD, bytes, record, unless_damaged};

/// One database's file.
#[derive(Clone, Debug)]
pub(crate) struct Earlier {
    file: PathBuf,
    limit: u64,
}

impl Earlier {
    pub(crate) fn new(file: PathBuf, limit: u64) -> Self {
        Self { file, limit }
    }

    /// Adds what was found below what is there, newest first; `past` is how far it was before. Waits for the disk.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn append(&self, past: &Descent, found: &[State]) -> io::Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        if let Some(dir) = self.file.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.file)?;
        let (mut keep, mut out) = (unless_damaged(known(&file, past))?.unwrap_or(0), Vec::new());
        if keep == 0 {
            // None yet, or that of another history.
            out.extend(bytes(&past.from));
        }
        let stride = stride(past.from.tx.0, self.limit);
        let wanted = |state: &&State| state.tx.0.is_multiple_of(stride) || state.tx.0 == 1;
        for state in found.iter().filter(wanted).filter(|state| state.tx < past.from.tx) {
            out.extend(bytes(state));
        }
        keep *= RECORD as u64;
        file.set_len(keep)?;
        file.write_all_at(&out, keep)
    }

    /// The file and how many of its records are known to be good; `None` if it isn't there.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn read(&self, past: &Descent) -> io::Result<Option<(File, u64)>> {
        let file = match File::open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let count = unless_damaged(known(&file, past))?.unwrap_or(0);
        Ok((count > 0).then_some((file, count)))
    }
}

/// One of so many transactions is kept, so that all of them fit.
fn stride(transactions: u64, limit: u64) -> u64 {
    // The first and the last are kept in any case.
    let most = (limit / RECORD as u64).saturating_sub(2).max(1);
    transactions.div_ceil(most).max(1).next_power_of_two()
}

/// How many records are above what is next; none if it doesn't begin with the state of the first contact.
fn known(file: &File, past: &Descent) -> io::Result<u64> {
    let count = file.metadata()?.len() / RECORD as u64;
    if count == 0 || record(file, 0)? != past.from {
        return Ok(0);
    }
    let (mut low, mut high) = (1, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if record(file, middle)?.tx > past.next.tx {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use immudb_verify::{Alh, Hash, TxId};

    use super::*;

    fn state(tx: u64, salt: u8) -> State {
        let alh = Alh(Hash::from([salt; 32]));
        State { tx: TxId(tx), alh }
    }

    fn past(from: State, next: u64) -> Descent {
        Descent {
            next: state(next, 1),
            ..Descent::new(from, 0)
        }
    }

    fn down(from: u64, to: u64) -> Vec<State> {
        (to..=from).rev().map(|tx| state(tx, 1)).collect()
    }

    fn all(earlier: &Earlier, past: &Descent) -> Option<Vec<u64>> {
        let (file, count) = earlier.read(past).unwrap()?;
        Some((0..count).map(|at| record(&file, at).unwrap().tx.0).collect())
    }

    #[test]
    fn it_grows_downwards_from_the_first_contact() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = Earlier::new(dir.path().join("db.old"), 1 << 20);
        let first = state(9, 1);
        assert_eq!(all(&earlier, &past(first, 9)), None);
        earlier.append(&past(first, 9), &down(9, 6)).unwrap();
        assert_eq!(all(&earlier, &past(first, 5)), Some(vec![9, 8, 7, 6]));
        // Written, and not in the journal: a crash in between.
        assert_eq!(all(&earlier, &past(first, 7)), Some(vec![9, 8]));
        earlier.append(&past(first, 7), &down(7, 3)).unwrap();
        assert_eq!(all(&earlier, &past(first, 2)), Some(vec![9, 8, 7, 6, 5, 4, 3]));
        // What a crash tore.
        let file = File::options().write(true).open(dir.path().join("db.old")).unwrap();
        file.set_len(3 * RECORD as u64 - 1).unwrap();
        earlier.append(&past(first, 2), &down(2, 1)).unwrap();
        assert_eq!(all(&earlier, &past(first, 0)), Some(vec![9, 8, 2, 1]));
        // Another history has another file.
        let other = state(9, 2);
        assert_eq!(all(&earlier, &past(other, 0)), None);
        earlier.append(&past(other, 9), &down(9, 8)).unwrap();
        assert_eq!(all(&earlier, &past(other, 7)), Some(vec![9, 8]));
    }

    #[test]
    fn a_long_history_is_kept_evenly() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = Earlier::new(dir.path().join("db.old"), 20 * RECORD as u64);
        let first = state(101, 1);
        earlier.append(&past(first, 101), &down(101, 50)).unwrap();
        earlier.append(&past(first, 49), &down(49, 1)).unwrap();
        let known = all(&earlier, &past(first, 0)).unwrap();
        assert_eq!(known, [101, 96, 88, 80, 72, 64, 56, 48, 40, 32, 24, 16, 8, 1]);
    }

    #[test]
    fn without_room_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = Earlier::new(dir.path().join("db.old"), 0);
        earlier.append(&past(state(9, 1), 9), &down(9, 1)).unwrap();
        assert_eq!(all(&earlier, &past(state(9, 1), 0)), None);
    }
}
