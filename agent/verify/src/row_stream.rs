//! Rows that another thread reads, beside the journal's records.

use std::sync::mpsc::Receiver;

use auditmon_journal::format::{Kind, Prefix};
use auditmon_merkle::Hash;

use crate::absences::Absences;
use crate::accepted::Told;
use crate::differing::Differing;
use crate::report::{CouldNot, Fault, Report};
use crate::rows::{DbError, Row, RowHeads, Stored};
use crate::trees::Said;

/// What is said of a row whose leaf is another.
pub(crate) const OTHER: &str = "the row isn't the event that the journal has";

/// What the reading thread hands over.
pub(crate) enum Part {
    Rows(Vec<Row>),
    /// It could not read on.
    Failed(DbError),
}

/// What the journal has of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// All of it; or it went while the check ran.
    There,
    /// Its erased form.
    Erased,
    /// The leaf at most.
    Gone,
}

/// Events without payload that the store, by its position, never had.
#[derive(Clone, Copy, Debug)]
struct Unstored {
    first: u64,
    last: u64,
    events: u64,
}

pub(crate) struct RowStream {
    parts: Receiver<Part>,
    rows: std::vec::IntoIter<Row>,
    next: Option<Row>,
    place: String,
    stored: Stored,
    heads: RowHeads,
    failed: Option<DbError>,
    /// Events that retention of the store explains.
    pruned: u64,
    /// Rows that could be compared with nothing.
    unwitnessed: u64,
    unstored: Option<Unstored>,
    pub(crate) differing: Differing,
}

impl RowStream {
    pub(crate) fn new(parts: Receiver<Part>, place: String, stored: Stored, heads: RowHeads) -> Self {
        let mut stream = Self {
            parts,
            rows: Vec::new().into_iter(),
            next: None,
            place,
            stored,
            heads,
            failed: None,
            pruned: 0,
            unwitnessed: 0,
            unstored: None,
            differing: Differing::default(),
        };
        stream.advance();
        stream
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    fn advance(&mut self) -> Option<Row> {
        let row = self.next.take();
        loop {
            if let Some(next) = self.rows.next() {
                self.next = Some(next);
                return row;
            }
            match self.parts.recv() {
                Ok(Part::Rows(rows)) => self.rows = rows.into_iter(),
                Ok(Part::Failed(error)) => {
                    self.failed = Some(error);
                    return row;
                }
                Err(_) => return row,
            }
        }
    }

    /// Checks the rows below `until`, of whose records no leaf is left: each by itself, and against what `known` says
    /// of the hash that its leaf had.
    pub(crate) fn pass(
        &mut self,
        until: u64,
        mut known: impl FnMut(u64) -> Result<Option<Hash>, CouldNot>,
        report: &mut Report,
    ) -> Result<(), CouldNot> {
        while self.next.as_ref().is_some_and(|row| row.seq < until) {
            let Some(row) = self.advance() else { break };
            self.count(&row, report);
            let seq = row.seq;
            let hash = known(seq)?;
            if let Some(what) = row.wrong {
                report.fault(Fault::at(&self.place, seq, seq, row.id, what).lasting());
            } else if hash.is_none() {
                self.unwitnessed += 1;
            } else if hash != row.hash {
                let at = report.list(Fault::at(&self.place, seq, seq, row.id, OTHER));
                self.differing.add(at, seq);
            } else {
                self.differing.fits(seq);
            }
        }
        Ok(())
    }

    /// What the store has of one record; what its row says about generations, where only that still does.
    pub(crate) fn at(
        &mut self,
        seq: u64,
        prefix: Option<&Prefix>,
        content: Content,
        said: &mut Said,
        absences: &mut Absences,
        report: &mut Report,
    ) -> Option<Told> {
        // Nothing is behind, but in a file that isn't what SQLite wrote.
        let _ = self.pass(seq, |_| Ok(None), report);
        if self.next.as_ref().is_some_and(|row| row.seq == seq) {
            let row = self.advance()?;
            self.count(&row, report);
            return self.row(row, prefix, said, absences, report);
        }
        let prefix = prefix.filter(|prefix| prefix.kind != Kind::State)?;
        if content == Content::Erased || self.failed.is_some() {
            return None;
        }
        if seq >= self.stored.seq {
            if content == Content::Gone {
                let (first, events) = self.unstored.map_or((seq, 0), |before| (before.first, before.events));
                self.unstored = Some(Unstored {
                    first,
                    last: seq,
                    events: events + 1,
                });
            }
            return None;
        }
        if self.heads.older_than_all(&self.stored, seq, prefix) {
            self.pruned += 1;
        } else {
            absences.no_row(seq, prefix.event_id);
        }
        None
    }

    /// Counts a row of a record that the journal has. The position moves in the transaction of the rows.
    fn count(&self, row: &Row, report: &mut Report) {
        report.counts.rows += 1;
        if row.seq >= self.stored.seq {
            let what = format!(
                "a row at or behind the store's position, seq {}: that was put back, or the row was added",
                self.stored.seq
            );
            report.fault(Fault::at(&self.place, row.seq, row.seq, row.id, what).lasting());
        }
    }

    fn row(
        &mut self,
        row: Row,
        prefix: Option<&Prefix>,
        said: &mut Said,
        absences: &mut Absences,
        report: &mut Report,
    ) -> Option<Told> {
        let seq = row.seq;
        if prefix.is_some_and(|prefix| prefix.kind == Kind::State) {
            let what = "a row where the journal has no event: it was added";
            let at = report.list(Fault::at(&self.place, seq, seq, row.id, what));
            self.differing.add(at, seq);
            return None;
        }
        if let Some(what) = row.wrong {
            report.fault(Fault::at(&self.place, seq, seq, row.id, what).lasting());
        }
        let known: Option<Hash> = said.hashes[0].or(said.hashes[1]).or(said.hashes[2]);
        if known.is_some() && known == row.hash {
            self.differing.fits(seq);
        }
        // What declared an absence may have expired in the journal and still be a row.
        if let (Some(declaration), true) = (&row.declares, known.is_none() || known == row.hash)
            && said.hashes[0].is_none()
        {
            absences.declare(seq, declaration);
        }
        let told = row
            .told
            .filter(|_| known.is_some() && known == row.hash && said.hashes[0].is_none());
        said.hashes[3] = row.hash;
        said.ids[3] = row.id;
        told
    }

    /// The journal is over, of which so many records are there.
    pub(crate) fn finish(
        mut self,
        written: u64,
        covered: u64,
        absences: &Absences,
        report: &mut Report,
    ) -> Result<(), CouldNot> {
        let mut beyond: Option<(u64, u64, Option<[u8; 16]>)> = None;
        while let Some(row) = self.advance() {
            if let Some(what) = &row.wrong {
                report.fault(Fault::at(&self.place, row.seq, row.seq, row.id, what.as_str()).lasting());
            }
            if row.seq < written {
                self.count(&row, report);
            } else {
                let (first, id) = beyond.map_or((row.seq, row.id), |(first, _, id)| (first, id));
                beyond = Some((first, row.seq, id));
            }
        }
        if let Some((first, last, id)) = beyond {
            let what =
                "rows of events that the journal hasn't: they were added, or the journal was cut off or put back";
            report.fault(Fault::at(&self.place, first, last, id, what));
        }
        self.differing.settle(report);
        match self.failed.take() {
            Some(DbError::Damaged(what)) => report.fault(Fault::of(&self.place, what)),
            Some(DbError::CouldNot(what)) => return Err(CouldNot::new(&self.place, what)),
            None => {}
        }
        let rowless = absences.explain_rows(covered);
        for (first, last) in rowless.unsigned {
            report.unseen(format!(
                "{}: whether rows of seq {first} to {last} were removed: the event that says why there are none isn't signed",
                self.place
            ));
        }
        for (first, last) in rowless.silent {
            let what = "the journal has the event and the store has no row of it: it was removed";
            report.fault(Fault::at(&self.place, first, last, absences.id(first), what).lasting());
        }
        if let Some(Unstored { first, last, events }) = self.unstored {
            report.unseen(format!(
                "{}: whether rows of seq {first} to {last} were removed and the position was put back to seq {}: {events} events there have no payload any more, which a store that was off doesn't hold back, and one that was put back has lost",
                self.place, self.stored.seq
            ));
        }
        if self.unwitnessed > 0 {
            report.unseen(format!(
                "{}: whether {} rows of {} are as they were, and whether others beside them were removed: of their records not even a leaf is left",
                self.place, self.unwitnessed, self.stored.origin
            ));
        }
        if self.pruned > 0 {
            report.unseen(format!(
                "{}: whether the oldest {} events that have no row were deleted by the store's retention",
                self.place, self.pruned
            ));
        }
        Ok(())
    }
}
