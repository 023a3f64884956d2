//! Signed tree heads in the order of their sizes, read as they are needed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use auditmon_merkle::{Checkpoint, CheckpointError, Ed25519Verifier, MAX_NOTE, Note, NoteError, TreeHead};

use crate::files::{Generation, open as open_file, read_text};
use crate::keys::Keys;
use crate::report::{CouldNot, Fault, Report};

/// What begins a signature line.
const DASH: &str = "\u{2014} ";

/// A head that the journal must have had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) tree: TreeHead,
    pub(crate) place: String,
}

/// What is said of a note that other keys signed.
pub(crate) const UNKNOWN: &str = "not signed with the journal's key";
/// The same where the directory's key did, and another was given.
const LATER: &str = "signed with the directory's key (keys/log.vkey), not with the one given: if that is a former key, check with the current one";

/// Reads a checkpoint that one of the former keys may have signed; whether the journal's key did.
pub(crate) fn open_older(
    note: &str,
    origin: &str,
    key: Option<&Ed25519Verifier>,
    former: &[Ed25519Verifier],
) -> Result<(TreeHead, bool), String> {
    let opened = open(note, origin, key).map(|tree| (tree, true));
    if !opened.as_ref().is_err_and(|what| what == UNKNOWN) {
        return opened;
    }
    let by_former = former.iter().map(|key| open(note, origin, Some(key)));
    let known = by_former
        .into_iter()
        .find(|opened| !opened.as_ref().is_err_and(|what| what == UNKNOWN));
    known.map_or(opened, |tree| Ok((tree?, false)))
}

/// Reads a signed checkpoint of a journal; says what is wrong with it.
pub(crate) fn open(note: &str, origin: &str, key: Option<&Ed25519Verifier>) -> Result<TreeHead, String> {
    let checkpoint = match key {
        Some(key) => Checkpoint::open(note, &[key]).map_err(|error| match error {
            CheckpointError::Note(NoteError::Forged { .. }) => "its signature doesn't fit its text".to_owned(),
            CheckpointError::Note(NoteError::Unknown) => UNKNOWN.to_owned(),
            other => says(&other),
        })?,
        None => {
            let note = Note::parse(note).map_err(|error| error.to_string())?;
            Checkpoint::parse(note.text()).map_err(|error| says(&error))?
        }
    };
    if checkpoint.origin() == origin {
        Ok(checkpoint.head())
    } else {
        Err(format!("a checkpoint of `{}`", checkpoint.origin()))
    }
}

/// What else there is of a note that `later` signed, perhaps, where a former key was given.
fn or_later(
    opened: Result<(TreeHead, bool), String>,
    note: &str,
    origin: &str,
    later: Option<&Ed25519Verifier>,
) -> Result<(TreeHead, bool), String> {
    match opened {
        Err(what) if what == UNKNOWN && later.is_some() => match open(note, origin, later) {
            Ok(tree) => Ok((tree, true)),
            Err(_) => Err(what),
        },
        opened => opened,
    }
}

fn says(error: &CheckpointError) -> String {
    match error {
        CheckpointError::Note(note) => format!("no checkpoint: {note}"),
        other => format!("no checkpoint: {other}"),
    }
}

/// The older checkpoints of a generation, one note after the other.
struct Older {
    lines: BufReader<io::Take<File>>,
    /// The first line of the next note.
    line: Vec<u8>,
    number: u64,
    last: Option<TreeHead>,
    over: bool,
    /// The note that was read last is the last of the file.
    at_end: bool,
}

impl Older {
    fn open(generation: &Generation) -> io::Result<Option<Self>> {
        let file = match open_file(&generation.dir.join("checkpoints")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // What is appended meanwhile is of no concern.
        let size = file.metadata()?.len();
        Ok(Some(Self {
            lines: BufReader::with_capacity(64 << 10, file.take(size)),
            line: Vec::new(),
            number: 0,
            last: None,
            over: false,
            at_end: false,
        }))
    }

    /// The next note's bytes; an endless line or note ends the reading.
    fn note(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut note = std::mem::take(&mut self.line);
        let mut signed = note == b"\n";
        loop {
            let mut line = Vec::new();
            let left = (MAX_NOTE + 1).saturating_sub(note.len()) as u64;
            (&mut self.lines).take(left).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                self.over |= note.is_empty() || note.len() > MAX_NOTE;
                self.at_end = true;
                return Ok((!note.is_empty()).then_some(note));
            }
            if signed && !line.starts_with(DASH.as_bytes()) {
                self.line = line;
                return Ok(Some(note));
            }
            signed |= line == b"\n";
            note.extend_from_slice(&line);
        }
    }
}

/// All heads of a generation, smallest first.
pub(crate) struct Heads {
    origin: String,
    key: Option<Ed25519Verifier>,
    former: Vec<Ed25519Verifier>,
    /// The newest checkpoint may be a former key's: nobody gave the key, or what it covers is signed elsewhere.
    trusting: bool,
    /// The journal's key has signed one of the older ones.
    own: bool,
    place: String,
    older: Option<Older>,
    next: Option<Head>,
    /// The newest checkpoint and those given, largest first.
    single: Vec<Head>,
    /// Size of the newest checkpoint of the directory.
    pub(crate) newest: Option<u64>,
    /// Whether the directory has any checkpoint file.
    pub(crate) any: bool,
    /// The newest checkpoint is there, and proves nothing.
    pub(crate) spoilt: bool,
    /// The directory's key, where one was given that it calls a former one: it proves nothing, and the rest is
    /// compared with what it signed, once that is said.
    later: Option<Ed25519Verifier>,
    /// The newest checkpoint is signed with that key only.
    superseded: bool,
    /// Text of the newest checkpoint, of which a crash may have left a part at the end of the older ones.
    text: String,
    running: bool,
}

impl Heads {
    /// `given` are those to compare with; `given_up` says that a newer generation has signed which records this one
    /// has: its own checkpoints may then all be a former key's.
    pub(crate) fn load(
        generation: &Generation,
        keys: &Keys,
        (given, given_up): (Vec<Head>, bool),
        running: bool,
        report: &mut Report,
    ) -> Result<Self, CouldNot> {
        let place = generation.place("checkpoints");
        let older = Older::open(generation).map_err(|error| CouldNot::new(&place, error))?;
        let mut heads = Self {
            origin: generation.origin.clone(),
            any: older.is_some(),
            key: keys.verifier(&generation.origin),
            former: keys.former(&generation.origin),
            trusting: !keys.given() || given_up,
            own: false,
            place,
            older,
            next: None,
            single: given,
            newest: None,
            spoilt: false,
            later: keys.later(&generation.origin),
            superseded: false,
            text: String::new(),
            running,
        };
        heads.single.sort_by_key(|head| std::cmp::Reverse(head.tree.size));
        heads.read_newest(generation, report)?;
        if heads.spoilt {
            heads.newest = heads.newest.max(heads.newest_older(generation)?);
        }
        if heads.older.is_some() && !heads.any_newest(generation) {
            report.fault(Fault::of(
                generation.place("checkpoint"),
                "missing: the newest checkpoint was removed",
            ));
        }
        heads.advance(report)?;
        Ok(heads)
    }

    /// No heads at all.
    pub(crate) fn none() -> Self {
        Self {
            origin: String::new(),
            key: None,
            former: Vec::new(),
            trusting: false,
            own: false,
            place: String::new(),
            older: None,
            next: None,
            single: Vec::new(),
            newest: None,
            any: false,
            spoilt: false,
            later: None,
            superseded: false,
            text: String::new(),
            running: false,
        }
    }

    /// The largest size that an older checkpoint is for, where the newest one doesn't say up to where all is signed.
    fn newest_older(&self, generation: &Generation) -> Result<Option<u64>, CouldNot> {
        let fail = |error| CouldNot::new(&self.place, error);
        let Some(mut older) = Older::open(generation).map_err(fail)? else {
            return Ok(None);
        };
        let mut largest = None;
        while !older.over
            && let Some(note) = older.note().map_err(fail)?
        {
            let text = String::from_utf8(note).unwrap_or_default();
            let opened = open_older(&text, &self.origin, self.key.as_ref(), &self.former);
            largest = largest.max(opened.ok().map(|(tree, _)| tree.size));
        }
        Ok(largest)
    }

    fn any_newest(&self, generation: &Generation) -> bool {
        generation.dir.join("checkpoint").is_file()
    }

    /// Reads the newest checkpoint, again while an agent runs.
    pub(crate) fn read_newest(&mut self, generation: &Generation, report: &mut Report) -> Result<(), CouldNot> {
        let place = generation.place("checkpoint");
        let text = read_text(&generation.dir.join("checkpoint")).map_err(|error| CouldNot::new(&place, error))?;
        let Some(text) = text else { return Ok(()) };
        self.any = true;
        self.text.clone_from(&text);
        let mut opened = open_older(&text, &self.origin, self.key.as_ref(), &self.former);
        if opened.as_ref().is_err_and(|what| what == UNKNOWN) {
            opened = or_later(opened, &text, &self.origin, self.later.as_ref());
            if opened.is_ok() && !self.superseded {
                self.superseded = true;
                report.fault(Fault::of(&place, LATER).lasting());
            }
        }
        match opened {
            Ok((_, false)) if !self.trusting => {
                let what = "signed with a former key only: not by the key given";
                report.fault(Fault::of(place, what));
            }
            Ok((tree, _)) => {
                self.newest = self.newest.max(Some(tree.size));
                self.single.push(Head { tree, place });
                self.single.sort_by_key(|head| std::cmp::Reverse(head.tree.size));
            }
            // Read again at the end of a check beside an agent.
            Err(_) if self.spoilt => {}
            Err(what) => {
                self.spoilt = true;
                report.fault(Fault::of(place, what).lasting());
            }
        }
        Ok(())
    }

    /// Size of the newest checkpoint as it is now, which is compared with nothing; `None` if it is none that counts.
    pub(crate) fn signed_now(&self, generation: &Generation) -> Result<Option<u64>, CouldNot> {
        let text = read_text(&generation.dir.join("checkpoint"))
            .map_err(|error| CouldNot::new(generation.place("checkpoint"), error))?;
        let later = self.later.as_ref().filter(|_| self.superseded);
        let opened = text.and_then(|text| {
            let opened = open_older(&text, &self.origin, self.key.as_ref(), &self.former);
            or_later(opened, &text, &self.origin, later).ok()
        });
        Ok(opened
            .filter(|(_, own)| *own || self.trusting)
            .map(|(tree, _)| tree.size))
    }

    /// Size of the smallest head that was not taken.
    pub(crate) fn size(&self) -> Option<u64> {
        let single = self.single.last().map(|head| head.tree.size);
        let next = self.next.as_ref().map(|head| head.tree.size);
        single.into_iter().chain(next).min()
    }

    /// Takes the smallest head.
    pub(crate) fn take(&mut self, report: &mut Report) -> Result<Option<Head>, CouldNot> {
        let size = self.size();
        if self.next.as_ref().map(|head| head.tree.size) == size {
            let head = self.next.take();
            self.advance(report)?;
            return Ok(head);
        }
        Ok(self.single.pop())
    }

    /// Reads older checkpoints up to the next good one.
    fn advance(&mut self, report: &mut Report) -> Result<(), CouldNot> {
        let Some(older) = &mut self.older else { return Ok(()) };
        while !older.over && self.next.is_none() {
            let note = older.note().map_err(|error| CouldNot::new(&self.place, error))?;
            let Some(note) = note else { break };
            older.number += 1;
            let number = older.number;
            let part = note.len() < self.text.len() && self.text.as_bytes().starts_with(&note);
            let torn = self.running || part;
            let text = String::from_utf8(note).unwrap_or_default();
            if older.at_end && torn && Note::parse(&text).is_err() {
                // It was being appended, or a crash left it; the next start cuts it.
                break;
            }
            let listed = |what: String| Fault::of(&self.place, format!("checkpoint {number}: {what}"));
            let mut fault = |what: String| report.fault(listed(what));
            let opened = open_older(&text, &self.origin, self.key.as_ref(), &self.former);
            let later = self.later.as_ref().filter(|_| self.superseded);
            match or_later(opened, &text, &self.origin, later) {
                Err(what) => report.fault(listed(what).lasting()),
                Ok((_, false)) if self.own && !self.superseded => {
                    fault("signed with a former key only, behind one of the journal's key".to_owned())
                }
                Ok((tree, own)) => match older.last {
                    Some(last) if tree.size < last.size => {
                        fault(format!("of size {}, behind one of size {}", tree.size, last.size));
                    }
                    Some(last) if tree.size == last.size && tree.root != last.root => {
                        fault(format!(
                            "another root for the size {}: two histories were signed",
                            tree.size
                        ));
                    }
                    _ => {
                        older.last = Some(tree);
                        self.own |= own;
                        if self.newest.is_some_and(|newest| tree.size > newest) {
                            report.fault(Fault::of(
                                self.place.trim_end_matches('s'),
                                format!(
                                    "of size {}, smaller than an older checkpoint of size {}: an older one was put back",
                                    self.newest.unwrap_or(0),
                                    tree.size
                                ),
                            ));
                            self.newest = Some(tree.size);
                        }
                        self.next = Some(Head {
                            tree,
                            place: format!("{} (checkpoint {number})", self.place),
                        });
                    }
                },
            }
        }
        Ok(())
    }

    /// The largest head that was not taken.
    pub(crate) fn largest(mut self, report: &mut Report) -> Result<Option<Head>, CouldNot> {
        let mut largest: Option<Head> = None;
        while let Some(head) = self.take(report)? {
            if largest
                .as_ref()
                .is_none_or(|largest| head.tree.size >= largest.tree.size)
            {
                largest = Some(head);
            }
        }
        Ok(largest)
    }
}
