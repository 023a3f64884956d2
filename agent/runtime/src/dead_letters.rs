//! Events that a sink's other side refused for good: kept in a file per sink, listed and handed over again.
//!
//! Only the sink's driver changes the files; a command leaves a *request* beside them, which the driver takes up within
//! seconds, or when it starts.
//!
//! | file in `dlq` | |
//! |---|---|
//! | `SINK.jsonl` | one letter a line |
//! | `SINK.1.jsonl` | the older half, once there is more than one file may hold |
//! | `SINK.replay` | a request: `all`, or one seq a line |
//! | `SINK.replaying-N.jsonl` | letters that are being handed over again; those before byte N are done |

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use auditmon_core::event::{EventView, parse_kind, write_output};
use auditmon_core::json::write_str;
use auditmon_core::subscription::{Event, Events};
use auditmon_core::time;
use auditmon_journal::format::{Prefix, source_hash};
use auditmon_journal::{Batch, Records};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

mod erasing;
mod file;
mod replay;

pub(crate) use erasing::erase;
pub(crate) use file::DeadLetters;
pub(crate) use replay::{Chunk, Replay};

/// Longest line; an event has at most 1 MiB.
const MAX_LINE: usize = 4 << 20;
/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// The directory of all dead letters.
pub(crate) fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("dlq")
}

fn current(dir: &Path, sink: &str) -> PathBuf {
    dir.join(format!("{sink}.jsonl"))
}

fn older(dir: &Path, sink: &str) -> PathBuf {
    dir.join(format!("{sink}.1.jsonl"))
}

fn request(dir: &Path, sink: &str) -> PathBuf {
    dir.join(format!("{sink}.replay"))
}

fn replaying(dir: &Path, sink: &str, offset: u64) -> PathBuf {
    dir.join(format!("{sink}.replaying-{offset}.jsonl"))
}

/// The file of letters that are being handed over again, with the place where that goes on.
fn find_replaying(dir: &Path, sink: &str) -> io::Result<Option<(PathBuf, u64)>> {
    let prefix = format!("{sink}.replaying-");
    let entries = match dir.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let offset = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".jsonl")?.parse().ok());
        if let Some(offset) = offset {
            return Ok(Some((dir.join(name), offset)));
        }
    }
    Ok(None)
}

/// A refused event. Behind its members a line has `crc`, the CRC32C in hex of all before; only `auditmon verify`
/// compares it.
#[derive(Debug, Deserialize)]
pub struct Letter<'a> {
    /// Its place in the journal.
    pub seq: u64,
    /// The journal.
    pub origin: String,
    /// Its id.
    pub event_id: String,
    /// What the other side said.
    pub reason: String,
    /// When that was.
    pub time: String,
    /// When the agent received it.
    pub received_time: String,
    /// Salt of its commitment, in hex.
    pub salt: String,
    /// Its canonical bytes.
    #[serde(borrow)]
    pub event: &'a RawValue,
}

impl<'a> Letter<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Appends the letter of an event, with a line feed.
    fn write(origin: &str, event: &Event<'_>, reason: &str, out: &mut Vec<u8>) {
        let begin = out.len();
        // Writing to a vector cannot fail.
        let _ = write!(out, "{{\"seq\":{},\"origin\":", event.seq);
        write_str(origin, out);
        let _ = write!(out, ",\"event_id\":\"{}\",\"reason\":", event.id);
        write_str(auditmon_core::event::cut(reason, MAX_REASON), out);
        out.extend_from_slice(b",\"time\":\"");
        time::write(time::now(), out);
        out.extend_from_slice(b"\",\"received_time\":\"");
        time::write_nanos(event.received, out);
        let _ = write!(out, "\",\"salt\":\"{}\",\"event\":", hex::encode(event.salt));
        out.extend_from_slice(event.canonical);
        // The leaf tells of the event alone; this of the reason, too.
        let crc = crc32c::crc32c(out.get(begin..).unwrap_or_default());
        let _ = writeln!(out, ",\"crc\":\"{crc:08x}\"}}");
    }

    /// The record as the journal had it; `None` if the letter was changed to what is no event.
    fn batch(&self) -> Option<Batch> {
        let canonical = self.event.get();
        let view = EventView::parse(canonical.as_bytes()).ok()?;
        let prefix = Prefix {
            event_id: *view.event_id.parse::<Uuid>().ok()?.as_bytes(),
            received_ns: time::parse(&self.received_time).ok()?,
            kind: parse_kind(&view.kind)?,
            source: source_hash(&view.event_source),
        };
        let salt = <[u8; 16]>::try_from(hex::decode(&self.salt).ok()?).ok()?;
        let mut records = Records::new();
        records
            .push(&prefix, salt, |out| out.extend_from_slice(canonical.as_bytes()))
            .ok()?;
        Some(Batch::from_records(self.seq, &records))
    }

    /// Appends the event as every JSON output shows it.
    pub fn write_event(&self, out: &mut Vec<u8>) {
        let received = time::parse(&self.received_time).unwrap_or_default();
        write_output(self.event.get().as_bytes(), &self.origin, self.seq, received, out);
    }
}

/// Calls `each` with every line of a file from an offset on, without its line feed, and where it ends, until that is
/// false. A line that is too long comes empty, one of spaces not at all.
fn lines(path: &Path, offset: u64, mut each: impl FnMut(&[u8], u64) -> io::Result<bool>) -> io::Result<()> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut at = file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut length = reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if length == MAX_LINE {
            length += reader.skip_until(b'\n')?;
            line.clear();
        }
        at += length as u64;
        // Where a letter was erased.
        if line.first() == Some(&b' ') && line.iter().all(|byte| *byte == b' ') {
            continue;
        }
        if !each(&line, at)? {
            return Ok(());
        }
    }
}

/// Names of the sinks that have dead letters, in order.
///
/// # Errors
/// The directory can't be read.
pub fn sinks(data_dir: &Path) -> io::Result<Vec<String>> {
    let entries = match dir(data_dir).read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut sinks = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")) else {
            continue;
        };
        let sink = match name.split_once(".replaying-") {
            Some((sink, _)) => sink,
            None => name.strip_suffix(".1").unwrap_or(name),
        };
        sinks.push(sink.to_owned());
    }
    sinks.sort_unstable();
    sinks.dedup();
    Ok(sinks)
}

/// Calls `each` with the letters of a sink, the oldest first, and `None` for a line that is none. Works beside a running
/// agent.
///
/// # Errors
/// A file can't be read, or what `each` returned.
pub fn list(data_dir: &Path, sink: &str, mut each: impl FnMut(Option<Letter<'_>>) -> io::Result<()>) -> io::Result<()> {
    all_lines(data_dir, sink, |line| each(Letter::parse(line)))
}

/// How many letters of a sink wait, those that are being handed over again included; a line that is none counts, too.
/// Reads the files, which are 64 MiB at most, and as much again in a replay.
///
/// # Errors
/// A file can't be read.
pub(crate) fn count(data_dir: &Path, sink: &str) -> io::Result<u64> {
    let mut letters = 0;
    all_lines(data_dir, sink, |_| {
        letters += 1;
        Ok(())
    })?;
    Ok(letters)
}

/// Calls `each` with every line of a sink's files, the oldest first.
fn all_lines(data_dir: &Path, sink: &str, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let dir = dir(data_dir);
    let replaying = find_replaying(&dir, sink)?;
    let files = replaying
        .into_iter()
        .chain([(older(&dir, sink), 0), (current(&dir, sink), 0)]);
    for (path, offset) in files {
        lines(&path, offset, |line, _| {
            each(line)?;
            Ok(true)
        })?;
    }
    Ok(())
}

/// Asks for a sink's letters to be handed over again: those with these places, or all if none is named. Returns how
/// many letters that concerns; with 0 nothing is asked for. The sink's driver takes the request up within seconds, or
/// when it starts.
///
/// # Errors
/// The letters can't be read, or the request not written.
pub fn request_replay(data_dir: &Path, sink: &str, seqs: &[u64]) -> io::Result<u64> {
    let mut letters = 0;
    list(data_dir, sink, |letter| {
        if letter.is_some_and(|letter| seqs.is_empty() || seqs.contains(&letter.seq)) {
            letters += 1;
        }
        Ok(())
    })?;
    if letters > 0 {
        let text: String = if seqs.is_empty() {
            "all\n".to_owned()
        } else {
            seqs.iter().map(|seq| format!("{seq}\n")).collect()
        };
        let dir = dir(data_dir);
        let beside = dir.join(format!("{sink}.replay.new"));
        let mut file = file::create(&beside)?;
        // Of a command of root's, the agent that is another user has to be able to read it.
        let owner = dir.metadata()?;
        if owner.uid() != file.metadata()?.uid() {
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&beside, request(&dir, sink))?;
    }
    Ok(letters)
}

/// Adds a letter's event to those that are handed over; false if it is of another journal, and `None` if it is no
/// letter.
fn add(events: &mut Option<Events>, line: &[u8]) -> Option<bool> {
    let letter = Letter::parse(line)?;
    let batch = letter.batch()?;
    let events = events.get_or_insert_with(|| Events::new(letter.origin.as_str().into()));
    if events.origin() != letter.origin || events.end_seq().is_some_and(|end| end > letter.seq) {
        return Some(false);
    }
    events.push(batch);
    Some(true)
}

#[cfg(test)]
mod tests;
