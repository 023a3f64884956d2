//! Proofs of single events, from tiles.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auditmon_journal::format::{Prefix, commitment, leaf, source_hash};
use auditmon_merkle::{
    Ed25519Verifier, EventProof, TileNodes, TlogProof, TreeHead, prove_inclusion, split_checkpoints,
};
use thiserror::Error;

use crate::event::{kind_of, members, uuid_text};
use crate::files::{Generation, generations, open as open_file, read_text};
use crate::heads::{UNKNOWN, open};
use crate::keys::Keys;
use crate::leaf_source::{FoundRecord, LeafSource};
use crate::proofs::with_sources;
use crate::report::CouldNot;
use crate::rows::{Database, DbError, FoundRow};

/// How often it is looked whether an event is signed by now.
const LOOK: Duration = Duration::from_millis(50);

/// Bytes of the older checkpoints that are looked at first, and at most: those of nine hours.
const TAIL: u64 = 128 << 10;
const MAX_TAIL: u64 = 8 << 20;

/// Of which event, from what.
pub struct ProveRequest<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The store's database, if there is one: an event is found there at once.
    pub database: Option<&'a PathBuf>,
    /// The event's id.
    pub event_id: [u8; 16],
    /// How long an event that isn't there or isn't signed yet is waited for.
    pub patience: Duration,
}

/// Why there is no proof.
#[derive(Debug, Error)]
pub enum ProveError {
    /// A file can't be read, or there is no journal.
    #[error(transparent)]
    CouldNot(#[from] CouldNot),
    /// No journal of this directory has it.
    #[error("event {}: not in the journal", uuid_text(.0))]
    Unknown([u8; 16]),
    /// The same, and it may be one of those that can't be found any more.
    #[error(
        "event {}: not in the journal, as far as that can be told: of the records below seq {below} only hashes over many are left, and inclusion of one of them is no longer provable",
        uuid_text(.id)
    )]
    UnknownOrCollapsed {
        /// The event.
        id: [u8; 16],
        /// Behind the last of them.
        below: u64,
    },
    /// The hashes beside it are gone.
    #[error(
        "event {}: seq {seq}: inclusion is no longer provable: the leaves of seq {first} to {last} were collapsed to hashes over many records when the journal reached its size; a proof that was made before still holds",
        uuid_text(.id)
    )]
    Collapsed {
        /// The event.
        id: [u8; 16],
        /// Its number.
        seq: u64,
        /// First of the records that were collapsed with it.
        first: u64,
        /// Last of them.
        last: u64,
    },
    /// Only its leaf is left.
    #[error("event {}: seq {seq}: its content was removed; that it was there can be proved no more than by its leaf", uuid_text(.id))]
    Gone {
        /// The event.
        id: [u8; 16],
        /// Its number.
        seq: u64,
    },
    /// The newest checkpoint doesn't reach it.
    #[error("event {}: seq {seq}: not signed yet; the newest checkpoint covers {size} records", uuid_text(.id))]
    NotCovered {
        /// The event.
        id: [u8; 16],
        /// Its number.
        seq: u64,
        /// Records that the newest checkpoint covers.
        size: u64,
    },
    /// What is there proves nothing.
    #[error("event {}: seq {seq}: the journal's files don't lead to its checkpoint, see `auditmon verify`: {reason}", uuid_text(.id))]
    Broken {
        /// The event.
        id: [u8; 16],
        /// Its number.
        seq: u64,
        /// What doesn't fit.
        reason: String,
    },
}

/// Makes the proof of one event; what it returns was checked. Reads O(log n) of the journal where the store knows
/// the event and its tiles are on disk.
///
/// # Errors
/// [`ProveError`].
pub fn prove(request: &ProveRequest<'_>) -> Result<EventProof, ProveError> {
    let since = Instant::now();
    loop {
        let waits = since.elapsed() < request.patience;
        match attempt(request) {
            Err(ProveError::Unknown(_) | ProveError::UnknownOrCollapsed { .. } | ProveError::NotCovered { .. })
                if waits =>
            {
                std::thread::sleep(LOOK);
            }
            // A file was replaced, or removed, between two steps.
            Err(ProveError::CouldNot(_) | ProveError::Broken { .. }) if waits => std::thread::sleep(LOOK),
            result => return result,
        }
    }
}

fn attempt(request: &ProveRequest<'_>) -> Result<EventProof, ProveError> {
    let id = request.event_id;
    let dir = request.data_dir;
    let could_not = |place: &str| {
        let place = place.to_owned();
        move |error: std::io::Error| CouldNot::new(place, error)
    };
    let text = read_text(&dir.join("journal/origin")).map_err(could_not("journal/origin"))?;
    let origin = text.ok_or_else(|| CouldNot::new(dir.display(), "there is no journal in this directory"))?;
    let found = generations(dir, origin.trim_end()).map_err(could_not("journal"))?;
    let row = match request.database {
        Some(path) if path.exists() => look_up(path, &id)?,
        _ => None,
    };
    if let Some(row) = row
        && let Some(generation) = found.iter().find(|generation| generation.origin == row.origin)
        && let Some(record) = of_row(&row)
    {
        return prove_record(dir, generation, &id, record);
    }
    let mut below = None;
    for generation in found.iter().rev() {
        let source = LeafSource::new(generation).map_err(could_not("journal"))?;
        let seq = source.find(&id).map_err(could_not("journal"))?;
        if let Some(seq) = seq {
            let record = source.record(seq).map_err(could_not("journal"))?;
            let record = record.ok_or(ProveError::Unknown(id))?;
            return prove_record(dir, generation, &id, record);
        }
        below = below.or(source.collapsed_end());
    }
    Err(
        below.map_or(ProveError::Unknown(id), |below| ProveError::UnknownOrCollapsed {
            id,
            below,
        }),
    )
}

fn look_up(path: &Path, id: &[u8; 16]) -> Result<Option<FoundRow>, ProveError> {
    let place = path.display().to_string();
    let row = match Database::open(path, place) {
        Ok(Some(database)) => database.find(id),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    match row {
        Ok(row) => Ok(row),
        // The journal has it as well.
        Err(DbError::Damaged(_) | DbError::CouldNot(_)) => Ok(None),
    }
}

/// The record that a row says it is.
fn of_row(row: &FoundRow) -> Option<FoundRecord> {
    let members = members(&row.canonical)?;
    let prefix = Prefix {
        event_id: crate::event::parse_uuid(&members.event_id)?,
        received_ns: row.received_ns,
        kind: kind_of(&members.kind)?,
        source: source_hash(&members.event_source),
    };
    Some(FoundRecord {
        seq: row.seq,
        leaf: leaf(&prefix.encode(), &commitment(&row.salt, &row.canonical)),
        content: Some((row.salt, row.canonical.clone())),
    })
}

fn prove_record(
    dir: &Path,
    generation: &Generation,
    id: &[u8; 16],
    record: FoundRecord,
) -> Result<EventProof, ProveError> {
    let (id, seq) = (*id, record.seq);
    let place = generation.place("checkpoint");
    let note = read_text(&generation.dir.join("checkpoint")).map_err(|error| CouldNot::new(&place, error))?;
    let note = note.ok_or(ProveError::NotCovered { id, seq, size: 0 })?;
    let keys = Keys::of_directory(dir)?;
    let origin = &generation.origin;
    let (key, head) = signed(&note, origin, &keys).map_err(|what| CouldNot::new(&place, what))?;
    if seq >= head.size {
        let size = head.size;
        return Err(ProveError::NotCovered { id, seq, size });
    }
    let Some((salt, event)) = record.content else {
        return Err(ProveError::Gone { id, seq });
    };
    let broken = |error: &dyn std::error::Error| ProveError::Broken {
        id,
        seq,
        reason: with_sources(error),
    };
    let source = LeafSource::new(generation).map_err(|error| CouldNot::new("journal", error))?;
    let sealed = source.sealed_end().map_err(|error| CouldNot::new("journal", error))?;
    let collapsed = source.collapsed(seq);
    let by_tiles = || (seq < sealed && head.size > sealed).then(|| earlier(generation, seq, sealed, &key));
    let (note, head) = by_tiles().flatten().unwrap_or((note, head));
    let mut nodes = TileNodes::new(source, head.size).map_err(|error| broken(&error))?;
    let path = prove_inclusion(&mut nodes, seq, head.size).map_err(|error| match collapsed {
        Some((first, last)) => ProveError::Collapsed { id, seq, first, last },
        None => broken(&error),
    })?;
    let proof = TlogProof::new(seq, path, &note).map_err(|error| broken(&error))?;
    let proof = EventProof::new(event, salt, record.leaf, proof).map_err(|error| broken(&error))?;
    proof.verify(&[&key]).map_err(|error| broken(&error))?;
    Ok(proof)
}

/// The newest checkpoint that covers the record and only sealed segments: the newest of all needs the hashes of a
/// segment that is being written, which are on no disk yet, while for this one there are tiles.
fn earlier(generation: &Generation, seq: u64, sealed: u64, key: &Ed25519Verifier) -> Option<(String, TreeHead)> {
    let file = open_file(&generation.dir.join("checkpoints")).ok()?;
    let size = file.metadata().ok()?.len();
    let mut some = TAIL;
    loop {
        let length = some.min(size);
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, size - length).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        // The first one is a part, unless all was read.
        let notes: Vec<_> = split_checkpoints(&text).skip(usize::from(some < size)).collect();
        for note in notes.iter().rev() {
            let Ok(head) = open(note, &generation.origin, None) else {
                continue;
            };
            if head.size <= seq {
                return None;
            }
            if head.size <= sealed {
                return open(note, &generation.origin, Some(key))
                    .ok()
                    .map(|head| ((*note).to_owned(), head));
            }
        }
        if some >= size.min(MAX_TAIL) {
            return None;
        }
        some *= 4;
    }
}

/// The key that has signed a checkpoint: the journal's, else a former one, of which the checkpoints of a former generation
/// may all be.
fn signed(note: &str, origin: &str, keys: &Keys) -> Result<(Ed25519Verifier, TreeHead), String> {
    let mut wrong = UNKNOWN.to_owned();
    for key in keys.verifier(origin).into_iter().chain(keys.former(origin)) {
        match open(note, origin, Some(&key)) {
            Ok(head) => return Ok((key, head)),
            Err(what) => wrong = what,
        }
        if wrong != UNKNOWN {
            break;
        }
    }
    Err(wrong)
}
