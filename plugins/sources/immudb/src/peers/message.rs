//! What agents tell each other: the states that they trust, by server.

use immudb_verify::State;
use serde::{Deserialize, Serialize};

use super::MAX_STATES;
use crate::client::{is_name, named};
use crate::trusted::{self, Record};
use crate::verdict::Signature;

/// The body of a request and of its answer.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Message {
    pub(crate) servers: Vec<Seen>,
}

impl Message {
    /// Reads a body, up to as many servers as it may tell states of.
    ///
    /// # Errors
    /// Where it is wrong; nothing of what it says, which may be long.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let mut message: Self = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("expected servers with their states; line {line}, column {column} is something else")
        })?;
        // Each is looked up among all that are known here. One without states says nothing.
        message.servers.retain(|seen| !seen.states.is_empty());
        message.servers.truncate(MAX_STATES);
        Ok(message)
    }
}

/// One server, as its auditor knows it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// Where the auditor reaches it.
    pub(crate) address: String,
    /// Who it says it is.
    pub(crate) uuid: Option<String>,
    pub(crate) states: Vec<Stated>,
}

/// The state of one database; hash, signature and key in hexadecimal digits.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Stated {
    pub(crate) database: String,
    tx: u64,
    hash: String,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    signed_by: Option<String>,
}

/// A state that somebody says a server has shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Claim {
    pub(crate) state: State,
    pub(crate) signature: Option<Signature>,
    /// Who that server says it is.
    pub(crate) uuid: Option<String>,
}

impl Claim {
    /// What is trusted here.
    pub(crate) fn of(record: &Record) -> Self {
        let signature = record.signature.as_ref().zip(record.key.as_ref());
        Self {
            state: record.state,
            signature: signature.and_then(|(bytes, key)| Signature::new(bytes, &key.to_point())),
            uuid: record.uuid.clone(),
        }
    }

    /// As it is told.
    pub(crate) fn stated(&self, database: &str) -> Stated {
        let signature = self.signature.as_ref();
        Stated {
            database: database.to_owned(),
            tx: self.state.tx.0,
            hash: self.state.alh.0.to_string(),
            signature: signature.map(|signature| hex::encode(&signature.bytes)),
            signed_by: signature.map(|signature| hex::encode(&signature.key)),
        }
    }
}

impl Stated {
    /// What is said; `None` if it is no state of a database.
    pub(crate) fn claim(&self, uuid: Option<&String>) -> Option<Claim> {
        let state = trusted::state(self.tx, &self.hash).filter(|state| !state.is_empty())?;
        if !is_name(&self.database) {
            return None;
        }
        let parts = self.signature.as_ref().zip(self.signed_by.as_ref());
        let signature = parts.and_then(|(bytes, key)| {
            let (bytes, key) = (hex::decode(bytes).ok()?, hex::decode(key).ok()?);
            Signature::new(&bytes, &key)
        });
        let uuid = uuid.map(|uuid| named(uuid));
        Some(Claim { state, signature, uuid })
    }
}

#[cfg(test)]
mod tests {
    use immudb_verify::{Alh, Hash, TxId};

    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let state = State {
            tx: TxId(7),
            alh: Alh(Hash::from([7; 32])),
        };
        for signature in [None, Signature::new(&[1, 2], &[4; 65])] {
            let uuid = Some("u".to_owned());
            let claim = Claim { state, signature, uuid };
            let text = serde_json::to_string(&claim.stated("db")).unwrap();
            let stated: Stated = serde_json::from_str(&text).unwrap();
            assert_eq!(stated.claim(Some(&"u".to_owned())), Some(claim));
        }
    }

    #[test]
    fn what_is_wrong_with_a_message_repeats_nothing_of_it() {
        for body in [
            format!("{{\"servers\":\"{}\"}}", "A".repeat(1 << 20)),
            format!(
                "{{\"servers\":[{{\"address\":\"a\",\"uuid\":null,\"states\":\"{}\"}}]}}",
                "A".repeat(1 << 20)
            ),
        ] {
            let error = Message::read(body.as_bytes()).unwrap_err();
            assert!(error.len() < 200 && !error.contains("AA"), "{}", error.len());
            assert!(error.contains("line 1"), "{error}");
        }
    }

    #[test]
    fn of_very_many_servers_no_more_are_looked_at_than_states_are_told() {
        let stated = "{\"database\":\"db\",\"tx\":7,\"hash\":\"\"}";
        let named = |states: &str| format!("{{\"address\":\"a\",\"uuid\":null,\"states\":[{states}]}}");
        let servers = [vec![named(""); 3], vec![named(stated); MAX_STATES + 1]].concat();
        let body = format!("{{\"servers\":[{}]}}", servers.join(","));
        let message = Message::read(body.as_bytes()).unwrap();
        assert_eq!(message.servers.len(), MAX_STATES);
        assert!(message.servers.iter().all(|seen| seen.states.len() == 1));
    }

    #[test]
    fn what_is_no_state_is_passed_over() {
        let good = "\"database\":\"db\",\"tx\":7,\"hash\":\"HASH\"".replace("HASH", &"07".repeat(32));
        for (from, to) in [("\"db\"", "\"a/b\""), ("7,", "0,"), ("0707", "zz"), ("\"07", "\"0707")] {
            let stated: Stated = serde_json::from_str(&format!("{{{}}}", good.replacen(from, to, 1))).unwrap();
            assert_eq!(stated.claim(None), None, "{to}");
        }
        // A signature that is none: as if there were none.
        for signature in ["zz", "00"] {
            let text = format!("{{{good},\"signature\":\"{signature}\",\"signed_by\":\"\"}}");
            let stated: Stated = serde_json::from_str(&text).unwrap();
            assert_eq!(stated.claim(None).unwrap().signature, None);
        }
    }
}
