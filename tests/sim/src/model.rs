//! What must be in the journal, and what must not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use auditmon_journal::format::{Kind, Record, RecordIter, StateRecord};
use auditmon_journal::{Committed, Gap, GapReason, Item, Reader, Refused, SignedCheckpoint, StateMap};

use crate::checkpoints::Checkpoints;

/// What a submission was told.
pub type Answer = Result<Committed, Refused>;

/// Answers as they come, with the submission's id.
pub type Answers = Arc<Mutex<Vec<(u64, Answer)>>>;

/// A rule that the journal broke.
pub type Violation = String;

/// Fate of a submission.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// Not answered yet, or unknown.
    Open,
    /// Answered: on disk.
    Accepted(Committed),
    /// Answered: not stored.
    Refused,
    /// Open at a crash, and not there after it.
    Lost,
}

struct Submitted {
    bytes: Vec<u8>,
    records: u64,
    fate: Fate,
    /// Where its first record was seen.
    seen: Option<u64>,
}

/// The oracle.
#[derive(Default)]
pub struct Model {
    submitted: HashMap<u64, Submitted>,
    /// Every record that was ever visible, as its bytes on disk.
    log: Vec<Vec<u8>>,
    /// Submissions whose answer is still out.
    pub answers: Answers,
    /// Ranges that the journal said would be removed.
    expired: Vec<(u64, u64)>,
    /// Submissions that were refused because of the size limit.
    pub size_limited: u64,
    answered: HashSet<u64>,
    checkpoints: Checkpoints,
}

impl Model {
    /// Remembers what is about to be submitted.
    pub fn submit(&mut self, id: u64, bytes: &[u8], records: u32) {
        self.submitted.insert(
            id,
            Submitted {
                bytes: bytes.to_vec(),
                records: u64::from(records),
                fate: Fate::Open,
                seen: None,
            },
        );
    }

    /// Number of records seen so far: seq of the next.
    pub fn next_seq(&self) -> u64 {
        self.log.len() as u64
    }

    /// Takes the answers that came while the power was on.
    pub fn take_answers(&mut self) -> Result<(), Violation> {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, answer) in answers {
            if !self.answered.insert(id) {
                return Err(format!("submission {id} was answered twice"));
            }
            let submitted = self.submitted.get_mut(&id).ok_or("answer to nobody")?;
            match answer {
                Ok(committed) => {
                    if committed.last_seq - committed.first_seq + 1 != submitted.records {
                        return Err(format!("submission {id} has {committed:?}"));
                    }
                    submitted.fate = Fate::Accepted(committed);
                }
                Err(Refused::Unknown) => {}
                Err(refused) => {
                    if refused == Refused::SizeLimit {
                        self.size_limited += 1;
                    }
                    if submitted.seen.is_some() {
                        return Err(format!("submission {id} is there, and was {refused:?}"));
                    }
                    submitted.fate = Fate::Refused;
                }
            }
        }
        Ok(())
    }

    /// Reads what has become visible since the last look.
    pub fn observe(&mut self, mut reader: Reader, durable: u64) -> Result<(), Violation> {
        loop {
            match reader.next() {
                Ok(Some(Item::Records(batch))) => {
                    for entry in batch.iter() {
                        self.see(entry.seq, &entry.record)?;
                    }
                }
                Ok(Some(Item::Gap(gap))) => return Err(format!("a gap at the head: {gap:?}")),
                Ok(None) => break,
                // The power went, or the disk failed: nothing more is seen.
                Err(_) => return Ok(()),
            }
        }
        if self.next_seq() != durable {
            return Err(format!("durable is {durable}, readers see {}", self.next_seq()));
        }
        Ok(())
    }

    fn see(&mut self, seq: u64, record: &Record<'_>) -> Result<(), Violation> {
        if seq != self.next_seq() {
            return Err(format!("record {seq} where {} was due", self.next_seq()));
        }
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.log.push(bytes);
        self.checkpoints.record(&record.leaf());
        let payload = record.payload().ok_or("an erased record")?;
        match record.prefix.kind {
            Kind::Agent => self.read_note(payload),
            Kind::Application => self.place(seq, payload),
            _ => Ok(()),
        }
    }

    fn read_note(&mut self, payload: &[u8]) -> Result<(), Violation> {
        if let Some((first, last)) = retention(payload) {
            self.expired.push((first, last));
        }
        Ok(())
    }

    /// An event says which submission it belongs to and its place in it.
    fn place(&mut self, seq: u64, payload: &[u8]) -> Result<(), Violation> {
        let (id, index) = decode(payload).ok_or("an event nobody wrote")?;
        let submitted = self.submitted.get_mut(&id).ok_or("an event nobody submitted")?;
        match submitted.fate {
            Fate::Refused => return Err(format!("{id} was refused and is there at {seq}")),
            Fate::Lost => return Err(format!("{id} was gone and came back at {seq}")),
            Fate::Open | Fate::Accepted(_) => {}
        }
        match submitted.seen {
            None if index == 0 => {
                submitted.seen = Some(seq);
                Ok(())
            }
            Some(first) if seq == first + index => Ok(()),
            _ => Err(format!("{id} is there twice or in pieces, at {seq}")),
        }
    }

    /// A checkpoint that the journal shows, with the file that keeps it.
    pub fn shown(&mut self, shown: &SignedCheckpoint, stored: Option<&[u8]>) -> Result<(), Violation> {
        self.checkpoints.shown(shown, stored)
    }

    /// After a start: the checkpoint that is found again, if any.
    pub fn check_checkpoint(&self, found: Option<&SignedCheckpoint>) -> Result<(), Violation> {
        self.checkpoints.after_start(found)
    }

    /// After a start: the whole journal against all that was ever seen or promised.
    pub fn verify(&mut self, mut reader: Reader, durable: u64) -> Result<(), Violation> {
        self.take_answers()?;
        let before = self.next_seq();
        if durable < before {
            return Err(format!("{before} records were visible, {durable} are there"));
        }
        let mut announced = Vec::new();
        let mut gaps = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(Item::Records(batch))) => {
                    for entry in batch.iter() {
                        if let Some(note) = entry.record.payload().and_then(retention)
                            && entry.record.prefix.kind == Kind::Agent
                        {
                            announced.push(note);
                        }
                        if entry.seq >= before {
                            self.see(entry.seq, &entry.record)?;
                            continue;
                        }
                        let mut bytes = Vec::new();
                        entry.record.encode(&mut bytes);
                        if self.log[entry.seq as usize] != bytes {
                            return Err(format!("record {} has changed", entry.seq));
                        }
                    }
                }
                Ok(Some(Item::Gap(gap))) => gaps.push(gap),
                Ok(None) => break,
                Err(error) => return Err(format!("reading failed: {error}")),
            }
        }
        if self.next_seq() != durable {
            return Err(format!("{durable} durable, {} seen", self.next_seq()));
        }
        for gap in gaps {
            self.check_gap(gap, &announced)?;
        }
        self.check_promises()
    }

    /// What is missing must have been announced by a record that was visible.
    fn check_gap(&self, gap: Gap, announced: &[(u64, u64)]) -> Result<(), Violation> {
        if gap.reason == GapReason::Damaged {
            return Err(format!("damage without damage: {gap:?}"));
        }
        let covered = (gap.first..=gap.last).all(|seq| {
            self.expired
                .iter()
                .chain(announced)
                .any(|(first, last)| (*first..=*last).contains(&seq))
        });
        if covered {
            Ok(())
        } else {
            Err(format!("missing without a word: {gap:?}"))
        }
    }

    fn check_promises(&mut self) -> Result<(), Violation> {
        for (id, submitted) in &mut self.submitted {
            if let Some(first) = submitted.seen {
                let last = first + submitted.records;
                let there: Vec<u8> = self
                    .log
                    .get(first as usize..last as usize)
                    .ok_or_else(|| format!("{id} is cut"))?
                    .concat();
                if there != submitted.bytes {
                    return Err(format!("{id} has other bytes"));
                }
            }
            match (submitted.fate, submitted.seen) {
                (Fate::Accepted(committed), seen) if seen != Some(committed.first_seq) => {
                    return Err(format!("{id} was accepted at {committed:?}, seen {seen:?}"));
                }
                (Fate::Open, None) => submitted.fate = Fate::Lost,
                _ => {}
            }
        }
        Ok(())
    }

    /// Compares the states that a start gives back with those of all records.
    pub fn check_states(&self, states: &StateMap, now_ns: u64) -> Result<(), Violation> {
        let mut expected = BTreeMap::new();
        for bytes in &self.log {
            for record in RecordIter::new(bytes).flatten() {
                if record.prefix.kind != Kind::State {
                    continue;
                }
                let state = record
                    .payload()
                    .and_then(|payload| StateRecord::parse(payload).ok())
                    .ok_or("a state that doesn't parse")?;
                let key = (record.prefix.source, state.key.to_vec());
                if state.value.is_empty() {
                    expected.remove(&key);
                } else {
                    expected.insert(key, (state.expiry_ns, state.value.to_vec()));
                }
            }
        }
        expected.retain(|_, (expiry, _)| *expiry == 0 || *expiry > now_ns);
        let mut found = BTreeMap::new();
        for (source, values) in states {
            for (key, value) in values {
                found.insert((*source, key.clone()), (value.expiry_ns, value.value.clone()));
            }
        }
        if found == expected {
            Ok(())
        } else {
            Err(format!("states {found:?}, expected {expected:?}"))
        }
    }
}

/// Payload of an event: id and place of its submission, then filling.
pub fn encode(id: u64, index: u64, filling: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(16 + filling);
    payload.extend_from_slice(&id.to_be_bytes());
    payload.extend_from_slice(&index.to_be_bytes());
    payload.resize(16 + filling, id as u8 | 1);
    payload
}

fn decode(payload: &[u8]) -> Option<(u64, u64)> {
    let (id, rest) = payload.split_first_chunk::<8>()?;
    let index = rest.first_chunk::<8>()?;
    Some((u64::from_be_bytes(*id), u64::from_be_bytes(*index)))
}

/// Payload of the journal's own events in this test.
pub fn retention_payload(first: u64, last: u64) -> Vec<u8> {
    format!("retention {first} {last}").into_bytes()
}

fn retention(payload: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(payload).ok()?;
    let (first, last) = text.strip_prefix("retention ")?.split_once(' ')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
