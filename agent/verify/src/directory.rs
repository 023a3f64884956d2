//! A whole data directory: generations, keys, database, positions.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use auditmon_journal::format::origin_hash;
use auditmon_merkle::{Ed25519Verifier, Verifier as _};

use crate::accepted::{AsAccepted, Before, Lacks, Newer, forgive, take_back};
use crate::against;
use crate::files::{Generation, generations, is_missing, read_text};
use crate::formers;
use crate::generation::{Check, Outcome, Remembered, Setting};
use crate::heads::{Head, Heads};
use crate::keys::{Keys, VKEY};
use crate::letters;
use crate::positions::Positions;
use crate::report::{CouldNot, Fault, Report};
use crate::row_stream::{Part, RowStream};
use crate::rows::{Database, DbError, Row, Stored};
use crate::segment::Segment;
use crate::strange;

/// Rows handed over at once, and how often before the reader of rows waits.
const ROWS: usize = 512;
const PARTS: usize = 8;

/// What can't be seen without a database.
const ROWS_UNSEEN: &str = "whether the store's rows are what the journal has";

/// What to check, and with what.
pub struct Request<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The journal's verifier key in text form, from outside the directory.
    pub key: Option<&'a str>,
    /// Name and text of a file with an earlier checkpoint or proof.
    pub against: Option<(&'a str, &'a str)>,
    /// The store's database.
    pub database: DatabaseFile,
    /// Told how far it is, often.
    pub progress: &'a dyn Fn(Progress),
}

/// Where the store's database is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatabaseFile {
    /// Where the configuration has it; there may be none.
    Usual(PathBuf),
    /// Given on the command line: it must be there, and may be all there is.
    Given(PathBuf),
}

/// Bytes of the journal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// That were read.
    pub done: u64,
    /// That there are.
    pub total: u64,
}

/// Checks a data directory, beside a running agent too. Changes no file.
///
/// # Errors
/// It could not be checked: no journal, or nothing of it is signed, a file that can't be read, a key or file given that
/// is none.
pub fn verify(request: &Request<'_>) -> Result<Report, CouldNot> {
    let mut report = Report::default();
    match check(request, &mut report) {
        // What was found is tampering, whatever else there is.
        Err(CouldNot { place, reason }) if !report.holds() => {
            report.unseen(format!(
                "whatever else is wrong: the check ended early, since {place} can't be checked: {reason}"
            ));
        }
        checked => checked?,
    }
    Ok(report)
}

fn check(request: &Request<'_>, report: &mut Report) -> Result<(), CouldNot> {
    let given = request
        .key
        .map(|key| key.trim().parse::<Ed25519Verifier>())
        .transpose()
        .map_err(|error| CouldNot::new("--key", error))?;
    strange::tell(request.data_dir, report);
    let mut database = open_database(request, report)?;
    let Some(mut found) = find(request.data_dir, report)? else {
        let only = matches!(request.database, DatabaseFile::Given(_));
        let Some(database) = database.as_mut().filter(|_| only) else {
            return Err(CouldNot::new(
                request.data_dir.display(),
                "there is no journal in this directory",
            ));
        };
        report.unseen("whether rows were removed, added or wholly replaced: there is no journal to compare them with");
        finish_database(database, &[], None, report)?;
        if report.holds() {
            let what = format!(
                "each of {} rows fits itself, and that is all that can be said: in {} there is no journal, which signs them",
                report.counts.rows,
                request.data_dir.display()
            );
            return Err(CouldNot::new(&database.place, what));
        }
        return Ok(());
    };
    let unbegun = formers::leave_unbegun(&mut found, report)?;
    let running = match auditmon_journal::holder(request.data_dir) {
        Ok(holder) => holder.is_some(),
        // What is being written isn't blamed where only an agent may tell.
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    let keys = Keys::load(request.data_dir, (&found, &unbegun), given.as_ref(), report)?;
    let mut heads = match request.against {
        Some((name, text)) => against::heads(name, text, &found, &keys, report)?,
        None => Vec::new(),
    };
    say_unseen(request, &keys, report);
    let mut positions = Positions::read(request.data_dir, &found, report)?;
    if let Some(database) = &database {
        positions.add_stored(database, &found, report);
    }
    let letters = letters::read(request.data_dir, &found, report)?;
    let total = found.iter().map(size_of).sum();
    let done = Cell::new(0);
    let progress = |bytes: u64| {
        done.set(done.get() + bytes);
        (request.progress)(Progress {
            done: done.get().min(total),
            total,
        });
    };
    let mut indexes = None;
    // Of the newest generation that has an event, whether anything of it is signed.
    let mut signed: Option<(String, bool)> = None;
    // The newest first: it says of those before whether somebody has accepted that it took their place.
    let mut newer = Newer::default();
    for (at, generation) in found.iter().enumerate().rev() {
        let newest = at + 1 == found.len();
        let own = |head: &(u32, Head)| head.0 == generation.number;
        let given: Vec<Head> = heads.extract_if(.., |head| own(head)).map(|(_, head)| head).collect();
        let (former, words) = newer.of(&generation.origin).unzip();
        let given_up = former.is_some();
        let heads = Heads::load(generation, &keys, (given, given_up), running && newest, report)?;
        let remembered = positions.of(generation.number);
        let setting = Setting {
            generation,
            newest,
            running: running && newest,
            signs: keys.is_there(),
            letters: &letters,
            progress: &progress,
        };
        let before = Before::of(report);
        let newer_say = (former.map(AsAccepted::new), newer.lacking(&generation.origin));
        let words = words.flatten();
        let checked = check_generation(setting, heads, remembered, newer_say, database.as_mut(), report);
        if checked.is_err() && words.is_some() {
            // How much of it was accepted can't be told any more, so it isn't told as tampering.
            take_back(report, before);
        }
        let (outcome, checked) = checked?;
        indexes = indexes.or(checked);
        if signed.is_none() && outcome.begun {
            signed = Some((generation.place("checkpoint"), outcome.signed > 0));
        }
        // Its own checkpoints may have been removed.
        if given_up && !outcome.as_accepted && before.is_all_of(report) {
            let what = "not the records that the next generation says, signed, it took the place of";
            report.fault(Fault::of(generation.place("seg"), what));
        }
        if let Some(words) = words.filter(|_| outcome.as_accepted) {
            forgive(report, before, &generation.origin, &words);
        }
        formers::check(generation, &outcome.told, report)?;
        newer.add(generation.number, outcome.told);
        newer.add_unsigned(outcome.unsigned);
    }
    formers::missing(&found, &newer, report)?;
    positions.tell_nowhere(&found, &newer, report);
    if let Some(database) = &mut database {
        finish_database(database, &found, indexes, report)?;
    }
    match signed {
        Some((place, false)) if report.holds() => Err(CouldNot::new(
            place,
            "no record is under a checkpoint, so all of them could be anybody's: start the agent, which signs them, or give a checkpoint kept elsewhere with --against",
        )),
        None if report.holds() => Err(CouldNot::new("journal", "there is no event in it yet")),
        _ => Ok(()),
    }
}

/// What was found wrong with the indexes.
type Indexes = Result<Vec<String>, DbError>;

/// Checks one generation with a second thread that reads its rows.
fn check_generation(
    setting: Setting<'_>,
    heads: Heads,
    remembered: Vec<Remembered>,
    (as_accepted, lacking): (Option<AsAccepted>, Lacks),
    database: Option<&mut Database>,
    report: &mut Report,
) -> Result<(Outcome, Option<Indexes>), CouldNot> {
    let stored = database.as_ref().and_then(|database| {
        let origin = &setting.generation.origin;
        database.stored.iter().find(|stored| stored.origin == *origin).cloned()
    });
    if let (Some(database), None) = (&database, &stored) {
        report.unseen(format!(
            "{}: whether rows of {} were removed together with the position there: it has neither, like a store that is new or was off",
            database.place, setting.generation.origin
        ));
    }
    let (Some(database), Some(stored)) = (database, stored) else {
        let check = Check::new(setting, report, heads, None, remembered)
            .accepted(as_accepted)
            .lacking(lacking);
        return Ok((check.run()?, None));
    };
    std::thread::scope(|scope| {
        let (to, parts) = sync_channel(PARTS);
        let (place, row_heads) = (database.place.clone(), database.heads());
        let of = stored.clone();
        let reader = scope.spawn(move || {
            let mut rows: Vec<Row> = Vec::with_capacity(ROWS);
            let scanned = database.scan(&of, |row| {
                rows.push(row);
                rows.len() < ROWS || to.send(Part::Rows(std::mem::take(&mut rows))).is_ok()
            });
            // Whoever reads may have gone; then nobody wants to know.
            let _ = to.send(Part::Rows(rows));
            if let Err(error) = scanned {
                let _ = to.send(Part::Failed(error));
                return None;
            }
            drop(to);
            database.is_scanned().then(|| database.indexes())
        });
        let rows = RowStream::new(parts, place, stored, row_heads);
        let check = Check::new(setting, report, heads, Some(rows), remembered)
            .accepted(as_accepted)
            .lacking(lacking);
        let checked = check.run();
        let indexes = reader.join().unwrap_or(None);
        checked.map(|outcome| (outcome, indexes))
    })
}

fn open_database(request: &Request<'_>, report: &mut Report) -> Result<Option<Database>, CouldNot> {
    let (path, given) = match &request.database {
        DatabaseFile::Usual(path) => (path, false),
        DatabaseFile::Given(path) => (path, true),
    };
    let place = path.strip_prefix(request.data_dir).unwrap_or(path);
    let place = place.display().to_string();
    match path.symlink_metadata() {
        Err(error) if !given && is_missing(&error) => {
            report.unseen(format!("{ROWS_UNSEEN}: there is no database"));
            return Ok(None);
        }
        Err(error) => return Err(CouldNot::new(place, error)),
        Ok(_) => {}
    }
    match Database::open(path, place.clone()) {
        Ok(Some(database)) => {
            for what in &database.schema {
                report.fault(Fault::of(&place, what.as_str()).lasting());
            }
            Ok(Some(database))
        }
        Ok(None) if given => Err(CouldNot::new(
            place,
            "it was only begun, and has no table of the store's yet: give the database that the store writes to",
        )),
        Ok(None) => {
            report.unseen(format!(
                "{ROWS_UNSEEN}: {place} was only begun, and has no table of the store's yet"
            ));
            Ok(None)
        }
        Err(DbError::Damaged(what)) => {
            report.fault(Fault::of(&place, what));
            report.unseen(format!("{ROWS_UNSEEN}: {place} can't be read"));
            Ok(None)
        }
        Err(DbError::CouldNot(what)) => Err(CouldNot::new(place, what)),
    }
}

/// What of a database belongs to no generation of the journal, and whether it fits together.
fn finish_database(
    database: &mut Database,
    found: &[Generation],
    indexes: Option<Indexes>,
    report: &mut Report,
) -> Result<(), CouldNot> {
    let ours = |stored: &Stored| found.iter().any(|generation| generation.origin == stored.origin);
    let others: Vec<_> = database.stored.iter().filter(|stored| !ours(stored)).cloned().collect();
    let place = database.place.clone();
    let wrong = |report: &mut Report, error: DbError| match error {
        DbError::Damaged(what) => {
            report.fault(Fault::of(&place, what));
            Ok(())
        }
        DbError::CouldNot(what) => Err(CouldNot::new(&place, what)),
    };
    for stored in others {
        let of = format!("{} of {}", database.place, stored.origin);
        let scanned = database.scan(&stored, |row| {
            report.counts.rows += 1;
            if let Some(what) = row.wrong {
                report.fault(Fault::at(&of, row.seq, row.seq, row.id, what));
            }
            true
        });
        if let Err(error) = scanned {
            wrong(report, error)?;
        }
        if !found.is_empty() {
            report.unseen(format!(
                "whether rows of {} were removed, added or replaced: its journal isn't here",
                stored.origin
            ));
        }
    }
    let found = indexes.unwrap_or_else(|| match database.is_scanned() {
        true => database.indexes(),
        // A part couldn't be read, and that was told.
        false => Ok(Vec::new()),
    });
    match found.and_then(|mut found| {
        found.extend(database.rest()?);
        Ok(found)
    }) {
        Ok(found) => {
            for what in found {
                report.fault(Fault::of(&database.place, what));
            }
            Ok(())
        }
        Err(error) => wrong(report, error),
    }
}

/// The generations of the journal, named by its origin; `None` if there is no journal.
fn find(data_dir: &Path, report: &mut Report) -> Result<Option<Vec<Generation>>, CouldNot> {
    let place = "journal/origin";
    let text = read_text(&data_dir.join(place)).map_err(|error| CouldNot::new(place, error))?;
    let numbers = generations(data_dir, "").map_err(|error| CouldNot::new("journal", error))?;
    if numbers.is_empty() && text.is_none() {
        return Ok(None);
    }
    let stated = text.as_deref().map(|text| text.strip_suffix('\n').unwrap_or(text));
    let origin = origin_by_others(data_dir, stated, &numbers)?;
    let origin = match (stated, origin) {
        (Some(stated), Some(other)) => {
            report.fault(Fault::of(
                place,
                format!("says `{}`, but this is the journal `{other}`", stated.escape_debug()),
            ));
            other
        }
        (Some(stated), None) => stated.to_owned(),
        (None, other) => {
            report.fault(Fault::of(place, "missing"));
            other.unwrap_or_default()
        }
    };
    let found = generations(data_dir, &origin).map_err(|error| CouldNot::new("journal", error))?;
    Ok(Some(found))
}

/// The origin that key or checkpoint name, if it is that of the segments and `stated` isn't.
fn origin_by_others(data_dir: &Path, stated: Option<&str>, found: &[Generation]) -> Result<Option<String>, CouldNot> {
    let mut candidates: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        let base = name.split_once("/gen/").map_or(name, |(base, _)| base);
        candidates.push(base.to_owned());
    };
    if let Ok(Some(text)) = read_text(&data_dir.join(VKEY))
        && let Ok(key) = text.trim().parse::<Ed25519Verifier>()
    {
        add(key.name());
    }
    for generation in found {
        if let Ok(Some(text)) = read_text(&generation.dir.join("checkpoint"))
            && let Some(line) = text.lines().next()
        {
            add(line);
        }
    }
    for generation in found {
        let segments = generation
            .segments()
            .map_err(|error| CouldNot::new(generation.place("seg"), error))?;
        for (first, _) in segments.iter().filter(|(_, parts)| parts.seg) {
            let path = generation.dir.join(Generation::seg_name(*first));
            let head = Segment::open(&path, None).and_then(|segment| segment.origin());
            let Ok(Some(hash)) = head else { continue };
            let fits = |origin: &str| {
                let full = match generation.number {
                    1 => origin.to_owned(),
                    number => format!("{origin}/gen/{number}"),
                };
                origin_hash(&full) == hash
            };
            return Ok(match stated {
                Some(stated) if fits(stated) => None,
                _ => candidates.into_iter().find(|origin| fits(origin)),
            });
        }
    }
    Ok(None)
}

/// What can't be seen without what wasn't given.
fn say_unseen(request: &Request<'_>, keys: &Keys, report: &mut Report) {
    if !keys.given() {
        report.unseen(
            "whether someone who could write here exchanged the key with all signatures: give the journal's key, kept elsewhere, with --key",
        );
    }
    let elsewhere = match &request.database {
        DatabaseFile::Given(path) | DatabaseFile::Usual(path) => {
            path.exists() && path.strip_prefix(request.data_dir).is_err()
        }
    };
    if request.against.is_none() {
        report.unseen(if elsewhere {
            "whether the directory and the database were put back to an older copy together: give an earlier checkpoint or proof with --against"
        } else {
            "whether the whole directory was put back to an older copy: give an earlier checkpoint or proof with --against, or a database that lies elsewhere with --database"
        });
    }
}

/// Bytes of a generation that are read.
fn size_of(generation: &Generation) -> u64 {
    let segments = generation.segments().unwrap_or_default();
    let size = |name: String| generation.dir.join(name).metadata().map_or(0, |meta| meta.len());
    segments
        .iter()
        .map(|(first, parts)| match parts.seg {
            true => size(Generation::seg_name(*first)),
            false => size(Generation::leaf_name(*first)),
        })
        .sum()
}
