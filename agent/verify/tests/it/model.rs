//! A small writer that follows the page, and an attacker's hands: everything is computed anew from the records, only
//! signatures stay what they were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use auditmon_journal::format::{
    Kind, Position, Prefix, SegmentHead, StateRecord, commitment, encode_erased, encode_state, frame_head, leaf, mark,
    origin_hash, source_hash,
};
use auditmon_merkle::{Checkpoint, Ed25519Signer, Hash, TILE_BYTES, Tiler, leaf_hash};
use auditmon_verify::{CouldNot, DatabaseFile, Report, Request, uuid_text, verify};
use serde_json::{Value, json};

pub const ORIGIN: &str = "host-a.example.com/0011223344556677";
/// 2026-01-01 in ns.
const BEGIN: u64 = 1_767_225_600_000_000_000;
const SCHEMA: &str = include_str!("../../../../migrations/sqlite/0001_events.sql");

#[derive(Clone, Debug)]
pub struct Rec {
    pub prefix: Prefix,
    pub salt: [u8; 16],
    pub payload: Vec<u8>,
    pub erased: bool,
}

impl Rec {
    pub fn leaf(&self) -> [u8; 66] {
        leaf(&self.prefix.encode(), &commitment(&self.salt, &self.payload))
    }

    pub fn hash(&self) -> Hash {
        leaf_hash(&self.leaf())
    }

    pub fn id(&self) -> String {
        uuid_text(&self.prefix.event_id)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if self.erased {
            return encode_erased(&self.prefix, &commitment(&self.salt, &self.payload), out);
        }
        let length = 1 + 34 + 16 + self.payload.len();
        out.extend((length as u32).to_be_bytes());
        out.push(0);
        out.extend(self.prefix.encode());
        out.extend(self.salt);
        out.extend(&self.payload);
    }
}

#[derive(Clone, Debug, Default)]
pub struct Seg {
    pub first: u64,
    /// Records of each frame, and whether it belongs to the head.
    pub frames: Vec<(bool, Vec<Rec>)>,
    /// Only its leaves are left.
    pub expired: bool,
    /// Only hashes over many of its records are left.
    pub collapsed: bool,
}

impl Seg {
    pub fn records(&self) -> impl Iterator<Item = &Rec> {
        self.frames.iter().flat_map(|(_, records)| records)
    }

    pub fn end(&self) -> u64 {
        self.first + self.records().count() as u64
    }
}

/// A journal with its store.
#[derive(Clone)]
pub struct Model {
    pub segs: Vec<Seg>,
    pub notes: Vec<String>,
    pub rows: BTreeMap<u64, Rec>,
    /// The store's position, if there is one.
    pub stored: Option<Position>,
    pub positions: BTreeMap<String, Position>,
    /// Dead letters: a file's name, and its lines.
    pub letters: BTreeMap<String, String>,
    /// The newest segment is cut behind a mark; else it was killed.
    pub ended: bool,
    pub key: Ed25519Signer,
    /// Keys of before.
    pub former: Vec<Ed25519Signer>,
    /// What sources remember, by key.
    states: BTreeMap<Vec<u8>, Vec<u8>>,
    made: u64,
}

/// What an attacker leaves as it was, though it says something else now.
#[derive(Clone, Copy, Default)]
pub struct Leave {
    pub leaves: bool,
    pub tiles: bool,
}

impl Model {
    pub fn new() -> Self {
        Self {
            segs: vec![Seg::default()],
            notes: Vec::new(),
            rows: BTreeMap::new(),
            stored: None,
            positions: BTreeMap::new(),
            letters: BTreeMap::new(),
            ended: true,
            key: Ed25519Signer::from_seed(ORIGIN, &[1; 32]).unwrap(),
            former: Vec::new(),
            states: BTreeMap::new(),
            made: 0,
        }
    }

    /// Three segments with 700 records: two full tiles, states, checkpoints about every 60 records, all stored.
    pub fn usual() -> Self {
        let mut model = Self::new();
        for n in 0..680_u64 {
            if n % 97 == 5 {
                let value = format!("state {n}");
                model.state(&format!("key {}", n % 2), &value);
            }
            model.event(Kind::Application, "login", "alice", json!({"n": n}));
            if n % 60 == 59 {
                model.sign();
            }
            if n == 250 || n == 470 {
                model.sign();
                model.segment();
            }
        }
        model.event(Kind::Agent, "agent.stop", "auditmon", Value::Null);
        model.sign();
        model.store();
        model
    }

    pub fn records(&self) -> impl Iterator<Item = (u64, &Rec)> {
        (self.segs[0].first..).zip(self.segs.iter().flat_map(Seg::records))
    }

    pub fn size(&self) -> u64 {
        self.segs.last().unwrap().end()
    }

    pub fn rec(&self, seq: u64) -> &Rec {
        self.records().find(|(at, _)| *at == seq).unwrap().1
    }

    pub fn rec_mut(&mut self, seq: u64) -> &mut Rec {
        let first = self.segs[0].first;
        let records = self.segs.iter_mut().flat_map(|seg| &mut seg.frames);
        let mut records = records.flat_map(|(_, records)| records);
        records.nth((seq - first) as usize).unwrap()
    }

    fn prefix(&mut self, kind: Kind, source: &str) -> Prefix {
        self.made += 1;
        let received_ns = BEGIN + self.made * 7_000_003;
        let mut event_id = [0x70; 16];
        event_id[..6].copy_from_slice(&(received_ns / 1_000_000).to_be_bytes()[2..]);
        event_id[8..].copy_from_slice(&(0x8000_0000_0000_0000 | self.made).to_be_bytes());
        Prefix {
            event_id,
            received_ns,
            kind,
            source: source_hash(source),
        }
    }

    fn salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        salt
    }

    /// Appends an event in a frame of its own; returns its seq.
    pub fn event(&mut self, kind: Kind, name: &str, user: &str, data: Value) -> u64 {
        let source = match kind {
            Kind::Agent => "agent",
            Kind::Kernel => "kernel",
            _ => "billing",
        };
        let prefix = self.prefix(kind, source);
        let payload = canonical(&prefix, name, user, source, &data);
        let rec = Rec {
            prefix,
            salt: self.salt(),
            payload,
            erased: false,
        };
        self.push(rec)
    }

    fn push(&mut self, rec: Rec) -> u64 {
        let last = self.segs.last_mut().unwrap();
        // Each frame of a source has one record here; those of the head have more.
        let head: usize = last.frames.first().map_or(0, |(_, records)| records.len().max(1) - 1);
        let seq = last.first + (last.frames.len() + head) as u64;
        last.frames.push((false, vec![rec]));
        seq
    }

    fn state_rec(&mut self, key: &[u8], value: &[u8]) -> Rec {
        let prefix = self.prefix(Kind::State, "immudb");
        let mut payload = Vec::new();
        let state = StateRecord {
            key,
            expiry_ns: 0,
            value,
        };
        encode_state(&state, &mut payload).unwrap();
        Rec {
            prefix,
            salt: self.salt(),
            payload,
            erased: false,
        }
    }

    pub fn state(&mut self, key: &str, value: &str) -> u64 {
        let rec = self.state_rec(key.as_bytes(), value.as_bytes());
        self.states.insert(key.as_bytes().to_vec(), value.as_bytes().to_vec());
        self.push(rec)
    }

    /// Begins a new segment, which repeats the states.
    pub fn segment(&mut self) {
        let first = self.size();
        let states: Vec<_> = self.states.clone().into_iter().collect();
        let states: Vec<Rec> = states.iter().map(|(key, value)| self.state_rec(key, value)).collect();
        let frames = if states.is_empty() {
            Vec::new()
        } else {
            vec![(true, states)]
        };
        self.segs.push(Seg {
            first,
            frames,
            ..Seg::default()
        });
    }

    pub fn tree(&self) -> Tiler {
        let mut tree = Tiler::new();
        for (_, rec) in self.records() {
            tree.push(rec.hash()).unwrap();
        }
        tree
    }

    /// Signs all records.
    pub fn sign(&mut self) {
        let checkpoint = Checkpoint::new(ORIGIN, self.tree().head()).unwrap();
        self.notes.push(checkpoint.sign(&[&self.key]).unwrap());
    }

    /// A new key signs from now on.
    pub fn rotate(&mut self) {
        let seed = [11 + self.former.len() as u8; 32];
        let new = Ed25519Signer::from_seed(ORIGIN, &seed).unwrap();
        self.former.push(std::mem::replace(&mut self.key, new));
    }

    /// A position behind all records.
    pub fn position(&self) -> Position {
        let seq = self.size();
        Position {
            origin: ORIGIN.to_owned(),
            seq,
            leaf_hash: *self.rec(seq - 1).hash().as_bytes(),
        }
    }

    /// The store takes everything.
    pub fn store(&mut self) {
        let events = self.records().filter(|(_, rec)| rec.prefix.kind != Kind::State);
        self.rows = events.map(|(seq, rec)| (seq, rec.clone())).collect();
        self.stored = Some(self.position());
    }

    /// A dead letter of a record, with its line feed.
    pub fn letter(&self, seq: u64) -> String {
        let rec = self.rec(seq);
        let event = String::from_utf8(rec.payload.clone()).unwrap();
        let nanos = rec.prefix.received_ns - BEGIN;
        assert!(nanos < 60_000_000_000);
        let time = format!(
            "2026-01-01T00:00:{:02}.{:09}Z",
            nanos / 1_000_000_000,
            nanos % 1_000_000_000
        );
        let line = format!(
            "{{\"seq\":{seq},\"origin\":\"{ORIGIN}\",\"event_id\":\"{}\",\"reason\":\"422 No\",\
             \"time\":\"2026-01-01T00:01:00.000Z\",\"received_time\":\"{time}\",\"salt\":\"{:032x}\",\"event\":{event}",
            rec.id(),
            u128::from_be_bytes(rec.salt)
        );
        with_crc(&line)
    }

    pub fn vkey(&self) -> String {
        self.key.verifier().vkey().to_string()
    }

    /// Writes all files.
    pub fn write(&self, dir: &Path) {
        self.write_except(dir, Leave::default());
        self.write_database(&dir.join("events.db"));
    }

    /// Writes the journal; what is left keeps the bytes of before.
    pub fn write_except(&self, dir: &Path, leave: Leave) {
        let generation = dir.join("journal/1");
        let put = |path: PathBuf, bytes: &[u8]| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put(dir.join("journal/origin"), ORIGIN.as_bytes());
        put(
            dir.join("keys/log.key"),
            format!("{}\n", *self.key.private_text()).as_bytes(),
        );
        put(dir.join("keys/log.vkey"), format!("{}\n", self.vkey()).as_bytes());
        if !self.former.is_empty() {
            let lines = self.former.iter().map(|key| format!("{}\n", key.verifier().vkey()));
            put(dir.join("keys/log.old.vkey"), lines.collect::<String>().as_bytes());
        }
        for (name, position) in &self.positions {
            put(dir.join("positions").join(name), &position.encode());
        }
        for (name, lines) in &self.letters {
            put(dir.join("dlq").join(name), lines.as_bytes());
        }
        let mut tree = Tiler::new();
        let newest = self.segs.len() - 1;
        for (at, seg) in self.segs.iter().enumerate() {
            let path = |ending: &str| generation.join(format!("seg/{:020}.{ending}", seg.first));
            if seg.collapsed {
                let _ = std::fs::remove_file(path("seg"));
                let _ = std::fs::remove_file(path("leaf"));
                put(path("sub"), &sub_bytes(seg));
            } else if !seg.expired {
                put(path("seg"), &self.segment_bytes(seg, at == newest));
            } else {
                let _ = std::fs::remove_file(path("seg"));
            }
            if at < newest && !seg.collapsed && !(leave.leaves && path("leaf").exists()) {
                let leaves: Vec<u8> = seg.records().flat_map(Rec::leaf).collect();
                put(path("leaf"), &leaves);
            }
            for rec in seg.records() {
                if tree.size() < seg.first {
                    continue;
                }
                tree.push(rec.hash()).unwrap();
                for (tile, bytes) in tree.filled() {
                    let path = generation.join(tile.to_string());
                    if !(leave.tiles && path.exists()) {
                        put(path, &bytes[..TILE_BYTES]);
                    }
                }
            }
        }
        if let Some((newest, older)) = self.notes.split_last() {
            put(generation.join("checkpoint"), newest.as_bytes());
            put(generation.join("checkpoints"), older.concat().as_bytes());
        }
    }

    fn segment_bytes(&self, seg: &Seg, newest: bool) -> Vec<u8> {
        let head = SegmentHead {
            first_seq: seg.first,
            origin: origin_hash(ORIGIN),
        };
        let mut bytes = head.encode().to_vec();
        let mut seq = seg.first;
        for (of_head, records) in &seg.frames {
            let mut encoded = Vec::new();
            for rec in records {
                rec.encode(&mut encoded);
            }
            let synced = if *of_head { seg.first } else { seq };
            bytes.extend(frame_head(seq, synced, records.len() as u32, &encoded));
            bytes.extend(encoded);
            seq += records.len() as u64;
        }
        if newest {
            bytes.extend(mark(seq));
            if !self.ended {
                bytes.resize(bytes.len() + 8192, 0);
            }
        }
        bytes
    }

    pub fn write_database(&self, path: &Path) {
        let _ = std::fs::remove_file(path);
        let Some(stored) = &self.stored else { return };
        let mut db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA secure_delete = ON")
            .unwrap();
        let tx = db.transaction().unwrap();
        tx.execute_batch(SCHEMA).unwrap();
        for (seq, rec) in &self.rows {
            insert(&tx, *seq, rec);
        }
        tx.execute(
            "INSERT INTO position VALUES (?1, 0, ?2, ?3)",
            (&stored.origin, stored.seq as i64, stored.leaf_hash.as_slice()),
        )
        .unwrap();
        recount(&tx);
        tx.commit().unwrap();
        db.close().unwrap();
    }
}

/// What a segment collapses to.
pub fn sub_bytes(seg: &Seg) -> Vec<u8> {
    let mut range = auditmon_merkle::Range::new(seg.first);
    for rec in seg.records() {
        range.push(rec.hash()).unwrap();
    }
    let mut bytes = [seg.first.to_be_bytes(), (seg.end() - 1).to_be_bytes()].concat();
    for (_, hash) in range.subtrees() {
        bytes.extend(hash.as_bytes());
    }
    bytes
}

/// Ends the line of a dead letter.
pub fn with_crc(line: &str) -> String {
    let mut crc = !0_u32;
    for byte in line.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            // CRC32C, lowest bit first.
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    format!("{line},\"crc\":\"{:08x}\"}}\n", !crc)
}

/// Brings the store's counts up to what its rows are.
pub fn recount(db: &rusqlite::Connection) {
    db.execute_batch(
        "UPDATE usage SET rows = (SELECT count(*) FROM events WHERE events.kind = usage.kind),
         bytes = (SELECT coalesce(sum(octet_length(canonical)), 0) FROM events WHERE events.kind = usage.kind)",
    )
    .unwrap();
}

pub fn insert(db: &rusqlite::Connection, seq: u64, rec: &Rec) {
    let event: Value = serde_json::from_slice(&rec.payload).unwrap();
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    let time = event["event_time"].as_str().unwrap();
    assert_eq!(time, "2026-01-01T00:00:00.000Z");
    let mut statement = db
        .prepare_cached(
            "INSERT INTO events (origin, place, received_time_ns, event_time_ns, kind, event_name, username, resource,
             event_source, source_ip_address, request_id, read_only, host, outcome, severity, salt, canonical)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )
        .unwrap();
    let params = rusqlite::params![
        ORIGIN,
        seq as i64,
        rec.prefix.received_ns as i64,
        BEGIN as i64,
        text("kind"),
        text("event_name"),
        text("username"),
        text("resource"),
        text("event_source"),
        text("source_ip_address"),
        text("request_id"),
        event["read_only"].as_bool(),
        text("host"),
        text("outcome"),
        text("severity"),
        rec.salt,
        rec.payload
    ];
    statement.execute(params).unwrap();
}

pub fn canonical(prefix: &Prefix, name: &str, user: &str, source: &str, data: &Value) -> Vec<u8> {
    let kind = match prefix.kind {
        Kind::Application => "application",
        Kind::Kernel => "kernel",
        Kind::Immudb => "immudb",
        Kind::Agent | Kind::State => "agent",
    };
    format!(
        "{{\"event_id\":\"{}\",\"event_time\":\"2026-01-01T00:00:00.000Z\",\"event_name\":\"{name}\",\"username\":\"{user}\",\
         \"resource\":null,\"event_source\":\"{source}\",\"source_ip_address\":\"-\",\"request_id\":null,\"read_only\":false,\
         \"kind\":\"{kind}\",\"host\":\"host-a\",\"outcome\":\"success\",\"severity\":\"info\",\"event_data\":{data}}}",
        uuid_text(&prefix.event_id)
    )
    .into_bytes()
}

/// A directory that is checked.
pub struct Dir {
    pub dir: tempfile::TempDir,
    /// The database, where it isn't `events.db` in the directory.
    pub database: Option<PathBuf>,
    pub against: Option<String>,
    pub key: Option<String>,
}

impl Dir {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            database: None,
            against: None,
            key: None,
        }
    }

    pub fn of(model: &Model) -> Self {
        let dir = Self::new();
        model.write(dir.path());
        dir
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn check(&self) -> Result<Report, CouldNot> {
        let database = match &self.database {
            Some(path) => DatabaseFile::Given(path.clone()),
            None => DatabaseFile::Usual(self.file("events.db")),
        };
        verify(&Request {
            data_dir: self.path(),
            key: self.key.as_deref(),
            against: self.against.as_deref().map(|text| ("FILE", text)),
            database,
            progress: &|_| {},
        })
    }

    pub fn report(&self) -> Report {
        self.check().unwrap()
    }

    /// All faults, a line each.
    pub fn faults(&self) -> Vec<String> {
        self.report().faults.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    pub fn holds(&self) -> Report {
        let report = self.report();
        assert!(report.holds(), "{report}");
        report
    }

    /// Fails unless a fault begins so and says that.
    #[track_caller]
    pub fn finds(&self, begins: &str, says: &str) -> Vec<String> {
        let faults = self.faults();
        assert!(
            faults
                .iter()
                .any(|fault| fault.starts_with(begins) && fault.contains(says)),
            "`{begins}` … `{says}` is expected:\n{}",
            self.report()
        );
        faults
    }
}

pub fn seg(first: u64) -> String {
    format!("journal/1/seg/{first:020}.seg")
}

pub fn leaf_file(first: u64) -> String {
    format!("journal/1/seg/{first:020}.leaf")
}

pub fn sub_file(first: u64) -> String {
    format!("journal/1/seg/{first:020}.sub")
}
