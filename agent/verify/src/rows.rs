//! Rows of the store: what each says its leaf is, and whether its columns are what its event says.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use auditmon_journal::format::{Kind, Prefix, commitment, leaf, source_hash};
use auditmon_merkle::{Hash, leaf_hash};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use crate::accepted::{Told, tells};
use crate::event::{Declaration, declares, id_has_time, kind_of, kind_word, members, parse_uuid, time_ns};

/// Bits of a place that hold the seq.
const SEQ_BITS: u32 = 48;
/// Longest row that is read: no event is longer than 1 MiB, and no column but two is longer than its event.
const MOST: i32 = 4 << 20;
/// The database as the store makes it: its virtual columns are then what they should be.
const SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_events.sql");
/// Kinds of events, in the order of their numbers.
pub(crate) const KINDS: [Kind; 4] = [Kind::Application, Kind::Kernel, Kind::Immudb, Kind::Agent];

const COLUMNS: &str = "place, salt, canonical, received_time_ns, event_time_ns, read_only, origin, event_name, username, \
    resource, event_source, source_ip_address, request_id, kind, host, outcome, severity";
/// Rows that the store never deletes, so that they say nothing of where its retention stands.
const KEPT: &str = "kind = 'agent' AND event_source = 'agent' AND (
    event_name IN ('journal.erasure', 'journal.new_generation', 'journal.rollback_accepted')
    OR event_name = 'sink.gap' AND instr(canonical, CAST('\"sink\":\"store\"' AS BLOB)) > 0)";
/// Whether the columns that SQLite computes are what they should be, where the table isn't the known one.
const COMPUTED: &str = "(seq IS (place & 0xFFFFFFFFFFFF)) AND (event_id IS CAST(substr(canonical, 14, 36) AS TEXT)) \
    AND (event_time IS json_extract(CAST(canonical AS TEXT), '$.event_time')) \
    AND (event_data IS json_extract(CAST(canonical AS TEXT), '$.event_data')) \
    AND (received_time IS strftime('%Y-%m-%dT%H:%M:%S', received_time_ns / 1000000000, 'unixepoch') \
    || printf('.%09dZ', received_time_ns % 1000000000))";

/// A row of one origin.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    /// Hash of the leaf that its event would have; `None` if it is no event.
    pub(crate) hash: Option<Hash>,
    pub(crate) id: Option<[u8; 16]>,
    /// What is wrong with it alone.
    pub(crate) wrong: Option<String>,
    pub(crate) declares: Option<Declaration>,
    /// What it says about generations.
    pub(crate) told: Option<Told>,
}

/// How far the store is in one origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stored {
    pub(crate) origin: String,
    number: u64,
    pub(crate) seq: u64,
    pub(crate) leaf_hash: Option<[u8; 32]>,
}

/// Why a database can't be read.
#[derive(Debug)]
pub(crate) enum DbError {
    /// It isn't what SQLite wrote.
    Damaged(String),
    /// It can't be opened or read.
    CouldNot(String),
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        let passing = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => !matches!(
                failure.code,
                ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::TypeMismatch
                    | ErrorCode::TooBig
                    | ErrorCode::Unknown
            ),
            _ => false,
        };
        if passing {
            Self::CouldNot(error.to_string())
        } else {
            Self::Damaged(error.to_string())
        }
    }
}

impl DbError {
    /// The same, with the seq of the last row that could be read.
    fn behind(self, read: Option<u64>) -> Self {
        match (self, read) {
            (Self::Damaged(what), Some(seq)) => Self::Damaged(format!("behind the row of seq {seq}: {what}")),
            (error, _) => error,
        }
    }
}

/// A store's database, as it was when it was opened.
pub(crate) struct Database {
    connection: Connection,
    pub(crate) place: String,
    /// The table is the known one.
    known: bool,
    /// What its schema has and lacks, against what the store makes.
    pub(crate) schema: Vec<String>,
    pub(crate) stored: Vec<Stored>,
    /// Received time and place of the oldest row of each kind that retention may delete.
    oldest: [Option<(i64, i64)>; 4],
    /// Rows and canonical bytes of each kind that were read.
    usage: [(i64, i64); 4],
    /// Origins that were read to the end.
    scanned: usize,
    /// For each index the sum of the hashes of what it must have; the hashes' key is drawn anew each time.
    sums: [u64; INDEXES.len()],
    hashes: RandomState,
}

/// An index of the table, with the columns before the place.
struct Index {
    name: &'static str,
    columns: &'static str,
}

const INDEXES: [Index; 3] = [
    Index {
        name: "events_kind",
        columns: "kind, received_time_ns",
    },
    Index {
        name: "events_time",
        columns: "event_time_ns",
    },
    Index {
        name: "events_username",
        columns: "username",
    },
];

/// Where each index finds its columns in a row as it is read, the place last.
const INDEXED: [&[usize]; INDEXES.len()] = [&[13, 3, 0], &[4, 0], &[8, 0]];

/// Appends a value so that keys of one index compare as SQLite compares them.
fn push_key(value: ValueRef<'_>, key: &mut Vec<u8>) {
    match value {
        ValueRef::Integer(value) => key.extend_from_slice(&(value ^ i64::MIN).to_be_bytes()),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            key.extend_from_slice(text);
            // Shorter texts come first; no text of ours has a zero byte.
            key.push(0);
        }
        ValueRef::Null => key.push(0),
        ValueRef::Real(value) => key.extend_from_slice(&value.to_bits().to_be_bytes()),
    }
}

/// An event found by its id.
pub(crate) struct FoundRow {
    pub(crate) origin: String,
    pub(crate) seq: u64,
    pub(crate) received_ns: u64,
    pub(crate) salt: [u8; 16],
    pub(crate) canonical: Vec<u8>,
}

/// Pages of a database that was only begun, at most: it has four. One with more has lost its tables.
const MOST_BEGUN: i64 = 8;

impl Database {
    /// Opens a database for reading; makes and changes no file. `place` is its name in faults. `None` if it was only
    /// begun: it has none of the store's tables, which are made at once, and nothing else.
    pub(crate) fn open(path: &Path, place: String) -> Result<Option<Self>, DbError> {
        let Some(connection) = connect(path)? else {
            return Ok(None);
        };
        connection.execute_batch("PRAGMA cache_size = -4096; PRAGMA mmap_size = 0; BEGIN")?;
        let mut only_begun = true;
        each_entry(&connection, |entry| only_begun &= entry.is_sqlites())?;
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        if only_begun && pages <= MOST_BEGUN {
            return Ok(None);
        }
        let mut database = Self {
            connection,
            place,
            known: false,
            schema: Vec::new(),
            stored: Vec::new(),
            oldest: [None; 4],
            usage: [(0, 0); 4],
            scanned: 0,
            sums: [0; INDEXES.len()],
            hashes: RandomState::new(),
        };
        database.read_heads()?;
        Ok(Some(database))
    }

    fn read_heads(&mut self) -> Result<(), DbError> {
        self.read_schema()?;
        let mut statement = self
            .connection
            .prepare("SELECT origin, number, seq, leaf_hash FROM position")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(1)?;
            let seq: i64 = row.get(2)?;
            let leaf_hash: Vec<u8> = row.get(3)?;
            self.stored.push(Stored {
                origin: row.get(0)?,
                number: u64::try_from(number).map_err(|_| damaged("a position with a negative number"))?,
                seq: u64::try_from(seq).map_err(|_| damaged("a position with a negative seq"))?,
                leaf_hash: leaf_hash.try_into().ok(),
            });
        }
        drop(rows);
        drop(statement);
        for (at, kind) in KINDS.into_iter().enumerate() {
            let sql = format!(
                "SELECT received_time_ns, place FROM events WHERE kind = ?1 AND NOT ({KEPT}) \
                 ORDER BY received_time_ns, place LIMIT 1"
            );
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([kind_word(kind)])?;
            if let Some(row) = rows.next()? {
                self.oldest[at] = Some((row.get(0)?, row.get(1)?));
            }
        }
        Ok(())
    }

    /// Compares what the schema has with what the store makes. A further index that lacks rows hides them, a trigger
    /// changes them, a view or table can take another's place in what somebody asks.
    fn read_schema(&mut self) -> Result<(), DbError> {
        let made = Connection::open_in_memory()?;
        made.execute_batch(SCHEMA)?;
        let mut expected = Vec::new();
        each_entry(&made, |entry| expected.push(entry))?;
        let mut wrong = Vec::new();
        self.known = false;
        each_entry(&self.connection, |entry| {
            if let Some(at) = expected.iter().position(|expected| *expected == entry) {
                self.known |= expected.swap_remove(at).is("table", "events");
            } else if wrong.len() < MAX_ENTRIES && !entry.is_sqlites() {
                wrong.push(entry);
            }
        })?;
        for Entry { kind, name, .. } in wrong {
            let at = expected.iter().position(|expected| expected.is(&kind, &name));
            self.schema.push(match at.map(|at| expected.swap_remove(at)) {
                Some(_) => format!("the {kind} {name} isn't what the store makes"),
                None => format!("the {kind} {name} isn't the store's: it may hide, change or add what is asked for"),
            });
        }
        for Entry { kind, name, .. } in expected {
            self.schema.push(format!("the {kind} {name} is missing"));
        }
        Ok(())
    }

    /// What is known without reading rows, for the thread that doesn't read them.
    pub(crate) fn heads(&self) -> RowHeads {
        RowHeads { oldest: self.oldest }
    }

    /// Hands over all rows of one origin, in order, until `take` wants no more.
    pub(crate) fn scan(&mut self, stored: &Stored, mut take: impl FnMut(Row) -> bool) -> Result<(), DbError> {
        let first = stored.number << SEQ_BITS;
        let last = first | ((1 << SEQ_BITS) - 1);
        let bounds = [first, last].map(|place| i64::try_from(place).unwrap_or(i64::MAX));
        let computed = if self.known { "1" } else { COMPUTED };
        let sql = format!("SELECT {COLUMNS}, {computed} FROM events WHERE place BETWEEN ?1 AND ?2 ORDER BY place");
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(bounds)?;
        let mut key = Vec::new();
        let mut read = None;
        while let Some(row) = rows.next().map_err(|error| DbError::from(error).behind(read))? {
            read = Some(row.get::<_, i64>(0)?.unsigned_abs() & ((1 << SEQ_BITS) - 1));
            for (at, columns) in INDEXED.iter().enumerate() {
                key.clear();
                for column in *columns {
                    push_key(row.get_ref(*column)?, &mut key);
                }
                self.sums[at] = self.sums[at].wrapping_add(self.hashes.hash_one((at, key.as_slice())));
            }
            let (row, kind, bytes) = read_row(row, stored)?;
            if let Some(at) = KINDS.iter().position(|of| Some(*of) == kind) {
                self.usage[at].0 += 1;
                self.usage[at].1 += bytes;
            }
            if !take(row) {
                return Ok(());
            }
        }
        self.scanned += 1;
        Ok(())
    }

    /// Rows that belong to no origin; and what else the file says of itself. To be asked when all was scanned.
    pub(crate) fn rest(&self) -> Result<Vec<String>, DbError> {
        let mut wrong = Vec::new();
        let numbers: Vec<u64> = self.stored.iter().map(|stored| stored.number).collect();
        let mut next: i64 = i64::MIN;
        loop {
            let place =
                self.connection
                    .query_row("SELECT min(place) FROM events WHERE place >= ?1", [next], |row| {
                        row.get::<_, Option<i64>>(0)
                    })?;
            let Some(place) = place else { break };
            let number = u64::try_from(place).ok().map(|place| place >> SEQ_BITS);
            if !number.is_some_and(|number| numbers.contains(&number)) {
                wrong.push(format!("row {place} is of no origin that the store knows"));
            }
            match (place | ((1 << SEQ_BITS) - 1)).checked_add(1) {
                Some(behind) if wrong.len() < 100 => next = behind,
                _ => break,
            }
        }
        let mut statement = self.connection.prepare("SELECT kind, rows, bytes FROM usage")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (kind, rows, bytes): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let at = KINDS.iter().position(|of| kind_word(*of) == Some(&kind));
            if at.is_none_or(|at| self.usage[at] != (rows, bytes)) {
                wrong.push(format!("its count of `{kind}` rows isn't that of the rows"));
            }
        }
        Ok(wrong)
    }

    /// Whether every row of every origin was read.
    pub(crate) fn is_scanned(&self) -> bool {
        self.scanned >= self.stored.len()
    }

    /// Whether each index has exactly the rows, in order: what is found by it is then what is there. To be asked when
    /// all was scanned. SQLite's own check computes every virtual column, which takes several times as long.
    pub(crate) fn indexes(&self) -> Result<Vec<String>, DbError> {
        let mut wrong = Vec::new();
        for (at, index) in INDEXES.iter().enumerate() {
            let Index { name, columns } = index;
            let sql = format!("SELECT {columns}, place FROM events INDEXED BY {name} ORDER BY {columns}, place");
            let mut statement = self.connection.prepare(&sql)?;
            let count = statement.column_count();
            let mut rows = statement.query([])?;
            let (mut sum, mut last, mut key) = (0_u64, Vec::new(), Vec::new());
            let mut ordered = true;
            while let Some(row) = rows.next()? {
                key.clear();
                for column in 0..count {
                    push_key(row.get_ref(column)?, &mut key);
                }
                ordered &= last <= key;
                sum = sum.wrapping_add(self.hashes.hash_one((at, key.as_slice())));
                std::mem::swap(&mut last, &mut key);
            }
            if sum != self.sums[at] || !ordered {
                wrong.push(format!(
                    "the index {name} isn't that of the rows: what is looked for by it may be missed"
                ));
            }
        }
        Ok(wrong)
    }

    /// Finds an event by its id, whose first 48 bits are the time it was received.
    pub(crate) fn find(&self, id: &[u8; 16]) -> Result<Option<FoundRow>, DbError> {
        let [a, b, c, d, e, f, ..] = *id;
        let millis = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let bound = |millis: u64| i64::try_from(millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare(
            "SELECT place, origin, received_time_ns, salt, canonical FROM events INDEXED BY events_kind \
             WHERE kind = ?1 AND received_time_ns >= ?2 AND received_time_ns < ?3",
        )?;
        let text = crate::event::uuid_text(id);
        for kind in KINDS {
            let mut rows = statement.query(rusqlite::params![kind_word(kind), bound(millis), bound(millis + 1)])?;
            while let Some(row) = rows.next()? {
                let canonical = row
                    .get_ref(4)?
                    .as_blob()
                    .map_err(|_| damaged("a row without an event"))?;
                if canonical.get(13..49) != Some(text.as_bytes()) {
                    continue;
                }
                let place: i64 = row.get(0)?;
                let received: i64 = row.get(2)?;
                let salt: Vec<u8> = row.get(3)?;
                return Ok(Some(FoundRow {
                    origin: row.get(1)?,
                    seq: place.unsigned_abs() & ((1 << SEQ_BITS) - 1),
                    received_ns: u64::try_from(received).unwrap_or(0),
                    salt: salt
                        .try_into()
                        .map_err(|_| damaged("a salt that is not 16 bytes long"))?,
                    canonical: canonical.to_vec(),
                }));
            }
        }
        Ok(None)
    }
}

/// A line of a database's schema.
#[derive(Eq, PartialEq)]
struct Entry {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
}

impl Entry {
    fn is(&self, kind: &str, name: &str) -> bool {
        self.kind == kind && self.name == name
    }

    /// The list of migrations that were made, and what SQLite keeps for itself.
    fn is_sqlites(&self) -> bool {
        match self.kind.as_str() {
            "table" => matches!(
                self.name.as_str(),
                "_sqlx_migrations" | "sqlite_sequence" | "sqlite_stat1" | "sqlite_stat4"
            ),
            "index" => self.name == "sqlite_autoindex__sqlx_migrations_1" && self.table == "_sqlx_migrations",
            _ => false,
        }
    }
}

/// Most lines of a schema that are told.
const MAX_ENTRIES: usize = 100;

fn each_entry(connection: &Connection, mut take: impl FnMut(Entry)) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(Entry {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        });
    }
    Ok(())
}

/// How old the oldest row of each kind is that retention may delete.
#[derive(Clone, Copy)]
pub(crate) struct RowHeads {
    oldest: [Option<(i64, i64)>; 4],
}

impl RowHeads {
    /// Whether an event that has no row is older than all rows of its kind, as retention leaves it; those that it keeps
    /// for ever aside.
    pub(crate) fn older_than_all(&self, stored: &Stored, seq: u64, prefix: &Prefix) -> bool {
        let Some(at) = KINDS.iter().position(|kind| *kind == prefix.kind) else {
            return true;
        };
        let received = i64::try_from(prefix.received_ns).unwrap_or(i64::MAX);
        let place = i64::try_from(stored.number << SEQ_BITS | seq).unwrap_or(i64::MAX);
        self.oldest[at].is_none_or(|oldest| (received, place) < oldest)
    }
}

fn damaged(what: &str) -> DbError {
    DbError::Damaged(what.to_owned())
}

/// Bytes of a log's head; frames follow.
const LOG_HEAD: u64 = 32;

/// Whether another process has the database open whose `-shm` file this is: each holds a lock on this byte of it
/// (<https://sqlite.org/walformat.html>, the dead-man-switch lock).
fn is_open(shared: &Path) -> std::io::Result<bool> {
    let lock = Flock {
        start: 128,
        length: 1,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    Ok(fcntl_getlk(File::open(shared)?, &lock)?.is_some())
}

/// Opens without making or changing a file, whether an agent has it open, was killed, or ended in order. `None` if the
/// file is empty.
fn connect(path: &Path) -> Result<Option<Connection>, DbError> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let could_not = |error: std::io::Error| DbError::CouldNot(error.to_string());
    let meta = path.metadata().map_err(could_not)?;
    if !meta.is_file() {
        return Err(damaged("it is no file"));
    }
    // SQLite would wait for a pipe.
    for suffix in ["-wal", "-shm", "-journal"] {
        if beside(suffix).metadata().is_ok_and(|meta| !meta.is_file()) {
            return Err(DbError::Damaged(format!(
                "what has the name of its {suffix} is no file"
            )));
        }
    }
    // SQLite would remove a -wal file beside it.
    if meta.len() == 0 {
        return Ok(None);
    }
    // Whoever has it open keeps a -shm file; without one nobody changes the database, and its WAL is empty.
    let shared = beside("-shm").exists();
    if !shared && beside("-wal").metadata().is_ok_and(|meta| meta.len() > 0) {
        let reason = "there is a -wal file and no -shm file beside it: copy that, too, or let the agent start and end";
        return Err(DbError::CouldNot(reason.to_owned()));
    }
    // Of one that was killed SQLite can't read a log that has its head only: it would wait 10 s for somebody who mends that.
    let empty = beside("-wal").metadata().map_or(true, |meta| meta.len() <= LOG_HEAD);
    let options = if shared && (!empty || is_open(&beside("-shm")).map_err(could_not)?) {
        "mode=ro&readonly_shm=1"
    } else {
        "mode=ro&immutable=1"
    };
    let absolute = std::path::absolute(path).map_err(could_not)?;
    let mut uri = "file:".to_owned();
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02x}")),
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("{uri}?{options}"), flags)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST)?;
    Ok(Some(connection))
}

/// A row, its kind and the length of its event.
fn read_row(row: &rusqlite::Row<'_>, stored: &Stored) -> Result<(Row, Option<Kind>, i64), DbError> {
    let place: i64 = row.get(0)?;
    let seq = place.unsigned_abs() & ((1 << SEQ_BITS) - 1);
    let mut found = Row {
        seq,
        hash: None,
        id: None,
        wrong: None,
        declares: None,
        told: None,
    };
    let kind = text(row, 13).and_then(kind_of);
    let (Some(salt), Some(canonical)) = (blob(row, 1), blob(row, 2)) else {
        found.wrong = Some("the row has no salt or no event".to_owned());
        return Ok((found, kind, 0));
    };
    let bytes = i64::try_from(canonical.len()).unwrap_or(i64::MAX);
    let Some(members) = members(canonical) else {
        found.wrong = Some("what the row has as event is none in canonical form".to_owned());
        return Ok((found, kind, bytes));
    };
    let id = parse_uuid(&members.event_id);
    found.id = id;
    let received: i64 = row.get(3)?;
    let received_ns = u64::try_from(received).unwrap_or(0);
    let expected = [
        (6, "origin", Some(&*stored.origin)),
        (7, "event_name", Some(&*members.event_name)),
        (8, "username", Some(&*members.username)),
        (9, "resource", members.resource.as_deref()),
        (10, "event_source", Some(&*members.event_source)),
        (11, "source_ip_address", Some(&*members.source_ip_address)),
        (12, "request_id", members.request_id.as_deref()),
        (13, "kind", Some(&*members.kind)),
        (14, "host", Some(&*members.host)),
        (15, "outcome", Some(&*members.outcome)),
        (16, "severity", Some(&*members.severity)),
    ];
    let differs = expected
        .iter()
        .find(|(column, _, value)| {
            let column = row.get_ref(*column).unwrap_or(ValueRef::Integer(0));
            column != value.map_or(ValueRef::Null, |value| ValueRef::Text(value.as_bytes()))
        })
        .map(|(_, name, _)| *name);
    let integer = |column: usize| row.get_ref(column).ok().and_then(|value| value.as_i64().ok());
    let differs = differs
        .or_else(|| (integer(5) != Some(members.read_only.into())).then_some("read_only"))
        .or_else(|| (time_ns(&members.event_time) != integer(4)).then_some("event_time_ns"))
        .or_else(|| (!id.is_some_and(|id| id_has_time(&id, received_ns))).then_some("received_time_ns"))
        .or_else(|| (integer(17) != Some(1)).then_some("event_id, event_time, event_data or received_time"));
    found.wrong = differs.map(|column| format!("the column {column} isn't what the event says"));
    if let (Some(event_id), Some(of), Ok(salt)) = (id, kind_of(&members.kind), <[u8; 16]>::try_from(salt)) {
        let prefix = Prefix {
            event_id,
            received_ns,
            kind: of,
            source: source_hash(&members.event_source),
        };
        let leaf = leaf(&prefix.encode(), &commitment(&salt, canonical));
        found.hash = Some(leaf_hash(&leaf));
        found.declares = declares(&prefix, canonical);
        found.told = tells(&prefix, canonical);
    }
    Ok((found, kind, bytes))
}

fn text<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Option<&'a str> {
    row.get_ref(column).ok()?.as_str().ok()
}

fn blob<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Option<&'a [u8]> {
    row.get_ref(column).ok()?.as_blob().ok()
}
