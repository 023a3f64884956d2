//! Dead letters: what a sink's other side refused, with all that makes its leaf.
//!
//! | file in `dlq` | |
//! |---|---|
//! | `….jsonl` | one letter a line; one of spaces was erased |
//!
//! What a letter adds to its event (why and when it was refused) is in no leaf; a checksum at its end covers it.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use auditmon_journal::format::{Prefix, commitment, leaf, source_hash};
use auditmon_merkle::{Hash, leaf_hash};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::event::{kind_of, members, parse_uuid, time_ns};
use crate::files::{Generation, names, open};
use crate::report::{CouldNot, Fault, Report};

/// Longest line; an event has at most 1 MiB.
const MAX_LINE: usize = 4 << 20;
/// Most letters that are compared: 48 MiB of what is kept of them. A sink has 64 MiB of letters at most.
const MAX_LETTERS: usize = 1 << 20;

/// A letter, by what its leaf must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    pub(crate) generation: u32,
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    /// Index of its file.
    pub(crate) file: u16,
    /// Counted from 1.
    pub(crate) line: u32,
}

/// All letters of a data directory.
#[derive(Default)]
pub(crate) struct Letters {
    /// Places of the files.
    pub(crate) files: Vec<String>,
    /// By generation, the smallest seq last.
    all: Vec<Letter>,
}

/// A line, each member once and no further one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "members that only have to be there")]
struct Line<'a> {
    seq: u64,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    reason: IgnoredAny,
    time: IgnoredAny,
    #[serde(borrow)]
    received_time: Cow<'a, str>,
    #[serde(borrow)]
    salt: Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
    /// CRC32C in hex of all before this member; letters of before 0.1 have none.
    crc: Option<Cow<'a, str>>,
}

/// How the checksum stands at the end of a line.
fn ending(line: &[u8]) -> String {
    format!(",\"crc\":\"{:08x}\"}}", crc32c::crc32c(line))
}

impl Line<'_> {
    /// Hash of the leaf that its event must have.
    fn hash(&self, bytes: &[u8]) -> Result<Hash, &'static str> {
        if self.crc.is_some() {
            let covered = bytes.len().checked_sub(ending(b"").len());
            let (covered, rest) = bytes.split_at(covered.unwrap_or(0));
            if rest != ending(covered).as_bytes() {
                return Err("its checksum is another");
            }
        }
        let canonical = self.event.get().as_bytes();
        let members = members(canonical).ok_or("its event is none in canonical form")?;
        let prefix = Prefix {
            event_id: parse_uuid(&members.event_id).ok_or("its event has no id")?,
            received_ns: time_ns(&self.received_time)
                .and_then(|time| u64::try_from(time).ok())
                .ok_or("its received_time is no time")?,
            kind: kind_of(&members.kind).ok_or("its event is of no kind")?,
            source: source_hash(&members.event_source),
        };
        if self.event_id != members.event_id {
            return Err("its event_id isn't that of its event");
        }
        let salt = hex::decode(&*self.salt).ok().and_then(|salt| salt.try_into().ok());
        let salt: [u8; 16] = salt.ok_or("its salt isn't 16 bytes in hex")?;
        Ok(leaf_hash(&leaf(&prefix.encode(), &commitment(&salt, canonical))))
    }
}

/// Reads all dead letters; tells of those that are none, or of no journal that is here.
pub(crate) fn read(data_dir: &Path, found: &[Generation], report: &mut Report) -> Result<Letters, CouldNot> {
    let dir = data_dir.join("dlq");
    let mut letters = Letters::default();
    for name in names(&dir).map_err(|error| CouldNot::new("dlq", error))? {
        if !name.ends_with(".jsonl") {
            continue;
        }
        let place = format!("dlq/{name}");
        let file = match open(&dir.join(&name)) {
            // Its letters were handed over meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(|error| CouldNot::new(&place, error))?,
        };
        letters
            .file(place.clone(), file, found, report)
            .map_err(|error| CouldNot::new(&place, error))?;
    }
    letters
        .all
        .sort_by_key(|letter| (letter.generation, Reverse(letter.seq)));
    Ok(letters)
}

impl Letters {
    fn file(&mut self, place: String, file: File, found: &[Generation], report: &mut Report) -> io::Result<()> {
        let at = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        let mut reader = BufReader::with_capacity(64 << 10, file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let bytes = line.strip_suffix(b"\n");
            if bytes.is_none() && line.len() < MAX_LINE && !has_object(&line) {
                report.note(format!(
                    "{place}: line {number}: an unfinished dead letter; the next one cuts it"
                ));
                break;
            }
            let endless = bytes.is_none() && line.len() >= MAX_LINE;
            match letter(bytes, found) {
                None => {}
                Some(Ok(_)) if self.all.len() >= MAX_LETTERS => {
                    report.unseen(format!(
                        "{place}: whether the letters from line {number} on are as they were: there are too many"
                    ));
                    break;
                }
                Some(Ok(letter)) => self.all.push(Letter {
                    file: at,
                    line: number,
                    ..letter
                }),
                Some(Err((seq, what))) => {
                    let what = format!("line {number}: {what}");
                    report.fault(match seq {
                        Some(seq) => Fault::at(&place, seq, seq, None, what),
                        None => Fault::of(&place, what),
                    });
                }
            }
            if endless {
                report.unseen(format!(
                    "{place}: what follows line {number}, which is longer than a letter can be"
                ));
                break;
            }
        }
        self.files.push(place);
        Ok(())
    }

    /// Those of one generation, the smallest seq last.
    pub(crate) fn of(&self, generation: u32) -> &[Letter] {
        let first = self.all.partition_point(|letter| letter.generation < generation);
        let end = self.all.partition_point(|letter| letter.generation <= generation);
        self.all.get(first..end).unwrap_or_default()
    }
}

/// Whether a line without its end has a whole letter all the same: then something else took the line feed's place.
fn has_object(line: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(line).into_iter::<IgnoredAny>();
    matches!(values.next(), Some(Ok(_))) && values.byte_offset() < line.len()
}

type Wrong = (Option<u64>, String);

/// The letter of a line; `None` where one was erased.
fn letter(bytes: Option<&[u8]>, found: &[Generation]) -> Option<Result<Letter, Wrong>> {
    let none = || (None, "no dead letter: it was changed".to_owned());
    let Some(bytes) = bytes else { return Some(Err(none())) };
    if bytes.first() == Some(&b' ') && bytes.iter().all(|byte| *byte == b' ') {
        return None;
    }
    let Ok(line) = serde_json::from_slice::<Line<'_>>(bytes) else {
        return Some(Err(none()));
    };
    let hash = match line.hash(bytes) {
        Ok(hash) => hash,
        Err(what) => {
            return Some(Err((
                Some(line.seq),
                format!("not the letter that was written: {what}"),
            )));
        }
    };
    let generation = found.iter().find(|generation| generation.origin == line.origin);
    Some(match generation {
        Some(generation) => Ok(Letter {
            generation: generation.number,
            seq: line.seq,
            hash,
            file: 0,
            line: 0,
        }),
        None => {
            let what = format!("a letter of another journal, `{}`", line.origin.escape_debug());
            Err((Some(line.seq), what))
        }
    })
}
