//! Rows that differ from their records, and which of them no rollback explains.
//!
//! Where a journal was put back and written on, or rewritten, the rows from some record on are those of another history:
//! none of them fits, since every record has a salt of its own. So one that differs from a record under a checkpoint
//! that holds, while a later one fits, was changed in the store.

use crate::report::Report;

/// Rows of one generation that differ, by their faults.
#[derive(Default)]
pub(crate) struct Differing {
    /// Of records that no checkpoint covers so far.
    open: Vec<Listed>,
    /// Of those that one covers.
    proven: Vec<Listed>,
    /// The last row that is the event that the journal has.
    fits: Option<u64>,
}

/// A fault, and the last record that it is about; all that aren't listed are one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Listed {
    at: Option<usize>,
    seq: u64,
}

impl Differing {
    /// This row is the event that the journal has.
    pub(crate) fn fits(&mut self, seq: u64) {
        self.fits = self.fits.max(Some(seq));
    }

    /// This one isn't, nor others before it; `at` is where that fault is listed.
    pub(crate) fn add(&mut self, at: Option<usize>, seq: u64) {
        if at.is_none()
            && let Some(more) = self.open.iter_mut().find(|listed| listed.at.is_none())
        {
            more.seq = more.seq.min(seq);
            return;
        }
        self.open.push(Listed { at, seq });
    }

    /// A checkpoint that holds covers all records so far.
    pub(crate) fn prove(&mut self) {
        self.proven.append(&mut self.open);
    }

    /// The rows are over: tells the report which faults no rollback explains.
    pub(crate) fn settle(&self, report: &mut Report) {
        let Some(fits) = self.fits else { return };
        for listed in self.proven.iter().filter(|listed| listed.seq < fits) {
            match listed.at {
                Some(at) => report.make_lasting(at),
                None => report.more_lasting += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Fault;

    #[test]
    fn what_a_checkpoint_covers_and_a_later_row_belies_was_changed_in_the_store() {
        let mut report = Report::default();
        let mut differing = Differing::default();
        for seq in [3, 4, 7, 9] {
            let at = report.list(Fault::at("events.db", seq, seq, None, "differs"));
            differing.add(at, seq);
            if seq == 4 {
                differing.fits(5);
                differing.prove();
                differing.fits(8);
            }
        }
        differing.add(None, 2);
        differing.add(None, 1);
        differing.settle(&mut report);
        let lasting: Vec<bool> = report.faults.iter().map(|fault| fault.lasting).collect();
        assert_eq!(
            lasting,
            [true, true, false, false],
            "no checkpoint covers those behind 5"
        );
        assert_eq!(report.more_lasting, 0);
        differing.prove();
        differing.settle(&mut report);
        let lasting: Vec<bool> = report.faults.iter().map(|fault| fault.lasting).collect();
        assert_eq!(lasting, [true, true, true, false], "nothing fits behind 9");
        assert_eq!(report.more_lasting, 1);
    }
}
