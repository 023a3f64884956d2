//! What is remembered of each database: a state of this source in the journal, kept under the configured address and
//! the database's name. What a server says of itself chooses nothing.

use std::collections::BTreeMap;

use auditmon_core::plugin::Memory;
use auditmon_core::time::{self, Nanos};
use immudb_verify::{Alh, Hash, PublicKey, State, TxId};
use serde::{Deserialize, Serialize};

use crate::address::Endpoint;
use crate::checked::Values;
use crate::descent::Descent;
use crate::verdict::Code;

/// The form of a record.
const VERSION: u32 = 1;
const PREFIX: &str = "state/";

/// What is trusted of one database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// The state that everything later has to follow from.
    pub(crate) state: State,
    /// The state's signature, for those who are told of it.
    pub(crate) signature: Option<Vec<u8>>,
    /// The server's name, when the state was taken.
    pub(crate) uuid: Option<String>,
    /// Who signed it; states have to be signed from then on.
    pub(crate) key: Option<PublicKey>,
    /// When the database was first seen.
    pub(crate) first: Nanos,
    /// When the state was taken.
    pub(crate) taken: Nanos,
    /// The last finding; until an operator accepts a state nothing is taken any more.
    pub(crate) finding: Option<Latched>,
    /// Marks of what operators accepted, so that each is accepted once.
    pub(crate) accepted: Vec<String>,
    /// What of the history before the first contact was looked at; none before the first audit that counts.
    pub(crate) past: Option<Descent>,
    /// Which values were checked.
    pub(crate) values: Values,
    /// Transactions that an operator accepted although something is wrong with them; they are passed over.
    pub(crate) damaged: Vec<u64>,
    /// Operators gave up a history that had so many transactions; 0 if none did. What peers saw of it accuses nobody.
    pub(crate) given_up: u64,
}

/// A finding that waits for an operator.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Latched {
    /// Its code.
    pub(crate) code: String,
    /// What it is as well: another server that shows another history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) also: Option<String>,
    /// When it was found.
    pub(crate) at: Nanos,
    /// The transaction that is wrong in itself; 0 if an answer on a key is; none where the history is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tx: Option<u64>,
}

impl Latched {
    /// That it stands, in words.
    pub(crate) fn stands(&self) -> String {
        format!(
            "the finding {} of {} stands until an operator accepts a state",
            self.code,
            time::format(self.at)
        )
    }

    /// What it says of the history.
    pub(crate) fn of_history(&self) -> Code {
        Code::parse(self.also.as_ref().unwrap_or(&self.code))
    }
}

/// A remembered record, or that there was one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Remembered {
    Record(Box<Record>),
    /// It can't be read: that is a finding, not a first contact.
    Broken,
}

#[derive(Deserialize, Serialize)]
struct Stored {
    v: u32,
    tx: u64,
    alh: String,
    uuid: Option<String>,
    key: Option<String>,
    first: Nanos,
    taken: Nanos,
    finding: Option<Latched>,
    accepted: Vec<String>,
    // Absent in records of earlier versions.
    #[serde(default)]
    past: Option<Descent>,
    #[serde(default)]
    values: Values,
    #[serde(default)]
    damaged: Vec<u64>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    given_up: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's")]
pub(crate) fn is_false(is: &bool) -> bool {
    !*is
}

/// 64 hexadecimal digits.
fn hash(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(Hash::from(bytes))
}

/// A state from its parts; `None` if the hash is none.
pub(crate) fn state(tx: u64, alh: &str) -> Option<State> {
    Some(State {
        tx: TxId(tx),
        alh: Alh(hash(alh)?),
    })
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            v: VERSION,
            tx: self.state.tx.0,
            alh: self.state.alh.0.to_string(),
            uuid: self.uuid.clone(),
            key: self.key.map(|key| hex::encode(key.to_point())),
            first: self.first,
            taken: self.taken,
            finding: self.finding.clone(),
            accepted: self.accepted.clone(),
            past: self.past,
            values: self.values.clone(),
            damaged: self.damaged.clone(),
            signature: self.signature.as_ref().map(hex::encode),
            given_up: self.given_up,
        };
        // Numbers and texts: nothing that can't be written.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// The same with all that it may come to by itself, for its length.
    pub(crate) fn grown(&self) -> Self {
        // More than a server has.
        let tx = 1 << 40;
        let most = State {
            tx: TxId(tx),
            alh: self.state.alh,
        };
        let way = Some(Descent::new(most, tx));
        Self {
            state: most,
            taken: Nanos::MAX,
            finding: Some(Latched {
                code: "server-identity".to_owned(),
                also: Some("corrupt-tx".to_owned()),
                at: Nanos::MAX,
                tx: Some(tx),
            }),
            past: way,
            given_up: tx,
            values: Values {
                new_to: tx,
                new: way,
                round: way,
                began: Nanos::MAX,
                took: Some(Nanos::MAX),
                truncated: tx,
                gone: Some(tx),
                not_given: tx,
                not_given_before: tx,
                lost_to: tx,
                gives: true,
            },
            ..self.clone()
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        if stored.v != VERSION {
            return None;
        }
        let key = match &stored.key {
            Some(point) => Some(PublicKey::from_point(&hex::decode(point).ok()?).ok()?),
            None => None,
        };
        Some(Self {
            state: state(stored.tx, &stored.alh)?,
            uuid: stored.uuid,
            key,
            first: stored.first,
            taken: stored.taken,
            finding: stored.finding,
            accepted: stored.accepted,
            past: stored.past,
            values: stored.values,
            damaged: stored.damaged,
            given_up: stored.given_up,
            signature: stored.signature.and_then(|signature| hex::decode(signature).ok()),
        })
    }
}

/// What a remembered value is.
pub(crate) fn decode(value: &[u8]) -> Remembered {
    Record::decode(value).map_or(Remembered::Broken, |record| Remembered::Record(Box::new(record)))
}

/// The key that a database's record is remembered under.
pub(crate) fn key(endpoint: &Endpoint, database: &str) -> Vec<u8> {
    format!("{PREFIX}{endpoint}/{database}").into_bytes()
}

/// The records of one server by database.
pub(crate) fn of_server(memory: &Memory, endpoint: &Endpoint) -> BTreeMap<String, Remembered> {
    let prefix = key(endpoint, "");
    let mine = memory.range(prefix.clone()..);
    let mine = mine.take_while(|(key, _)| key.starts_with(&prefix));
    mine.filter(|(_, (value, _))| !value.is_empty())
        .filter_map(|(key, (value, _))| {
            let database = std::str::from_utf8(&key[prefix.len()..]).ok()?;
            Some((database.to_owned(), decode(value)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let state = State {
            tx: TxId(7),
            alh: Alh(Hash::from([7; 32])),
        };
        Record {
            state,
            uuid: Some("u".to_owned()),
            key: None,
            first: 1,
            taken: 2,
            finding: Some(Latched {
                code: "identity".to_owned(),
                also: Some("fork".to_owned()),
                at: 3,
                tx: Some(5),
            }),
            accepted: vec!["7".to_owned()],
            past: Some(Descent::new(state, 0)),
            values: Values {
                new_to: 7,
                round: Some(Descent::new(state, 0)),
                ..Values::default()
            },
            damaged: vec![4],
            given_up: 0,
            signature: Some(vec![1, 2]),
        }
    }

    /// What an earlier version wrote is read, with nothing looked at yet.
    #[test]
    fn records_without_later_members_are_read() {
        let mut text: serde_json::Value = serde_json::from_slice(&record().encode()).unwrap();
        for member in ["past", "values", "damaged", "signature"] {
            text.as_object_mut().unwrap().remove(member).unwrap();
        }
        let read = Record::decode(text.to_string().as_bytes()).unwrap();
        let expected = Record {
            past: None,
            values: Values::default(),
            damaged: Vec::new(),
            given_up: 0,
            signature: None,
            ..record()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn records_come_back_and_broken_ones_are_told() {
        let (a, b) = (Endpoint::parse("a:1").unwrap(), Endpoint::parse("a:11").unwrap());
        let mut memory = Memory::new();
        memory.insert(key(&a, "db"), (record().encode(), None));
        memory.insert(key(&a, "bad"), (b"{}".to_vec(), None));
        memory.insert(key(&b, "db"), (record().encode(), None));
        memory.insert(b"other".to_vec(), (b"x".to_vec(), None));
        let mine = of_server(&memory, &a);
        assert_eq!(mine.len(), 2);
        assert_eq!(mine["db"], Remembered::Record(Box::new(record())));
        assert_eq!(mine["bad"], Remembered::Broken);
    }
}
