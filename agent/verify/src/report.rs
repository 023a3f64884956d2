//! What a check found.

use std::fmt;

use serde::{Serialize, Serializer};

/// Most faults that are listed; the rest is counted.
pub const MAX_FAULTS: usize = 1000;

/// Most notes that are listed, and most lines of what can't be seen; the rest is counted.
pub const MAX_NOTES: usize = 1000;

/// Something that isn't what the agent wrote.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fault {
    /// The file, below the data directory where it lies there.
    pub place: String,
    /// First record that is concerned, if that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seq: Option<u64>,
    /// Last record that is concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<u64>,
    /// The event, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "id_text")]
    pub event_id: Option<[u8; 16]>,
    /// What is wrong.
    pub what: String,
    /// No rollback explains it, so none that was accepted excuses it.
    #[serde(skip)]
    pub(crate) lasting: bool,
}

fn id_text<S: Serializer>(id: &Option<[u8; 16]>, to: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => to.serialize_str(&crate::event::uuid_text(id)),
        None => to.serialize_none(),
    }
}

impl Fault {
    /// A fault of a file as a whole.
    pub fn of(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            first_seq: None,
            last_seq: None,
            event_id: None,
            what: what.into(),
            lasting: false,
        }
    }

    /// One that no rollback explains.
    pub(crate) fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// A fault of some records.
    pub fn at(place: impl Into<String>, first: u64, last: u64, id: Option<[u8; 16]>, what: impl Into<String>) -> Self {
        Self {
            first_seq: Some(first),
            last_seq: Some(last),
            event_id: id.filter(|_| first == last),
            ..Self::of(place, what)
        }
    }
}

/// One line, as it is printed.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tampered: {}: ", self.place)?;
        match (self.first_seq, self.last_seq) {
            (Some(first), Some(last)) if first != last => write!(f, "seq {first} to {last}: ")?,
            (Some(first), _) => {
                write!(f, "seq {first}")?;
                if let Some(id) = &self.event_id {
                    write!(f, ", event {}", crate::event::uuid_text(id))?;
                }
                f.write_str(": ")?;
            }
            _ => {}
        }
        f.write_str(&self.what)
    }
}

/// What a check found, and what it can't see.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What isn't as the agent wrote it, in the order in which it was met.
    pub faults: Vec<Fault>,
    /// Further faults, not listed.
    pub more_faults: u64,
    /// Those among them that no rollback explains.
    #[serde(skip)]
    pub(crate) more_lasting: u64,
    /// What is unusual and no tampering: an unfinished write, payloads that retention removed.
    pub notes: Vec<String>,
    /// Further notes, not listed.
    pub more_notes: u64,
    /// What this check can't see, and what would let it.
    pub not_seen: Vec<String>,
    /// Further ones, not listed.
    pub more_not_seen: u64,
    /// The newest signed tree head that holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewestHead>,
    /// What was read.
    pub counts: Counts,
}

/// The newest signed tree head that holds.
#[derive(Clone, Debug, Serialize)]
pub struct NewestHead {
    /// The journal.
    pub origin: String,
    /// Records that it covers.
    pub size: u64,
    /// Their root, in base64.
    pub root: String,
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Records of the journal, those of which only the leaf is left among them.
    pub records: u64,
    /// Events with their payload.
    pub events: u64,
    /// Records in erased form.
    pub erased: u64,
    /// Records whose payload retention removed.
    pub expired: u64,
    /// Checkpoints that were compared with the tree.
    pub checkpoints: u64,
    /// Rows of the store.
    pub rows: u64,
    /// Dead letters that were compared with their leaves.
    pub letters: u64,
}

impl Report {
    /// Whether nothing was found.
    pub fn holds(&self) -> bool {
        self.faults.is_empty() && self.more_faults == 0
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.list(fault);
    }

    /// Adds a fault; where it is listed, if it is.
    pub(crate) fn list(&mut self, fault: Fault) -> Option<usize> {
        let at = self.faults.len();
        if at < MAX_FAULTS {
            self.faults.push(fault);
            return Some(at);
        }
        self.more_faults += 1;
        self.more_lasting += u64::from(fault.lasting);
        None
    }

    /// No rollback explains the fault that is listed here.
    pub(crate) fn make_lasting(&mut self, at: usize) {
        if let Some(fault) = self.faults.get_mut(at) {
            fault.lasting = true;
        }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(text.into());
        } else {
            self.more_notes += 1;
        }
    }

    pub(crate) fn unseen(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.not_seen.contains(&text) {
            return;
        }
        if self.not_seen.len() < MAX_NOTES {
            self.not_seen.push(text);
        } else {
            self.more_not_seen += 1;
        }
    }
}

/// The lines that are printed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        if self.more_faults > 0 {
            writeln!(f, "tampered: {} further faults", self.more_faults)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.more_notes > 0 {
            writeln!(f, "note: {} further notes", self.more_notes)?;
        }
        for text in &self.not_seen {
            writeln!(f, "not seen: {text}")?;
        }
        if self.more_not_seen > 0 {
            writeln!(f, "not seen: {} further lines of this kind", self.more_not_seen)?;
        }
        let counts = &self.counts;
        let mut read = format!(
            "{} records, {} checkpoints, {} rows",
            counts.records, counts.checkpoints, counts.rows
        );
        if counts.letters > 0 {
            read += &format!(", {} dead letters", counts.letters);
        }
        if !self.holds() {
            let faults = self.faults.len() as u64 + self.more_faults;
            return writeln!(f, "tampered: {faults} faults in {read}");
        }
        match &self.newest {
            Some(head) => writeln!(
                f,
                "holds: {read}; {} is signed up to seq {}",
                head.origin,
                head.size.saturating_sub(1)
            ),
            None => writeln!(f, "holds: {read}; nothing is signed"),
        }
    }
}

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct CouldNot {
    /// The file or the option.
    pub place: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl CouldNot {
    pub(crate) fn new(place: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self {
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_be_listed_is_counted() {
        let mut report = Report::default();
        for n in 0..MAX_NOTES + 3 {
            report.note(n.to_string());
            report.unseen(n.to_string());
            report.unseen("0");
        }
        assert_eq!((report.notes.len(), report.more_notes), (MAX_NOTES, 3));
        assert_eq!((report.not_seen.len(), report.more_not_seen), (MAX_NOTES, 3));
        let text = report.to_string();
        assert!(
            text.contains("note: 3 further notes\n") && text.contains("not seen: 3 further lines"),
            "{text}"
        );
    }
}
