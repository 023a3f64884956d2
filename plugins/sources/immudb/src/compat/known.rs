//! States that a replaced auditor trusted: a server's first audit goes on from them, instead of taking on trust what it
//! shows.

use std::collections::BTreeSet;

use auditmon_core::Batch;
use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::time::Nanos;
use immudb_verify::{Keys, PublicKey, Signed, State, verify_signature, wire};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::address::Endpoint;
use crate::checked::Values;
use crate::note::shown;
use crate::trusted::{self, Record};

/// A state that another auditor trusted. It is taken where nothing is remembered of the database yet, and told as
/// `immudb.import`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Known {
    /// The database.
    pub database: String,
    /// Its last transaction, at least 1.
    pub tx: u64,
    /// That transaction's hash, 64 hexadecimal digits.
    pub hash: String,
    /// Under what name the auditor kept it: who the server said it is, or its address with `-` and `_` in place of `.`
    /// and `:`.
    pub server_id: String,
    /// The state's signature, in hexadecimal digits.
    pub signature: Option<String>,
    /// Whose signature it says to be, in hexadecimal digits.
    pub public_key: Option<String>,
    /// Where it is from, for the event that tells of it.
    pub from: String,
}

impl Known {
    fn state(&self) -> Option<State> {
        trusted::state(self.tx, &self.hash).filter(|_| self.tx > 0)
    }

    /// # Errors
    /// What is expected where something is missing or too long.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.state().is_none() {
            return Err("expected `tx` of at least 1 with `hash` of 64 hexadecimal digits");
        }
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > 320);
        if long(&self.signature) || long(&self.public_key) {
            return Err("expected `signature` and `public_key` of at most 160 bytes each");
        }
        let names = [(&self.database, 128), (&self.server_id, 256)];
        if names.iter().any(|(text, most)| text.is_empty() || text.len() > *most) || self.from.len() > 1024 {
            return Err("expected `database`, `server_id` and `from` with at most 128, 256 and 1024 bytes");
        }
        Ok(())
    }

    /// Whose key signed it.
    fn signer(&self, state: &State, keys: &[PublicKey]) -> Result<Option<PublicKey>, String> {
        let hex = |text: &Option<String>| {
            let bytes = text.as_ref().map(hex::decode).transpose();
            bytes.map_err(|_| "its signature is not in hexadecimal digits".to_owned())
        };
        let (signature, key) = (hex(&self.signature)?, hex(&self.public_key)?);
        let signature = match (&signature, &key) {
            (Some(signature), Some(public_key)) => Some(wire::Signature { public_key, signature }),
            _ => None,
        };
        let allowed = if keys.is_empty() {
            Keys::Unknown
        } else {
            Keys::Configured(keys)
        };
        match verify_signature(allowed, &self.database, state, signature.as_ref()) {
            Ok(Signed::By(key) | Signed::FirstSeen(key)) => Ok(Some(key)),
            Ok(Signed::Unsigned) => Ok(None),
            Err(reason) => Err(reason.to_string()),
        }
    }
}

/// A state on its way into what is trusted.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) database: String,
    pub(crate) record: Record,
    data: Value,
}

impl Import {
    /// Adds the event to a frame. Whether it fitted.
    fn tell(&self, endpoint: &Endpoint, batch: &mut Batch) -> bool {
        let resource = format!("immudb://{endpoint}/{}", self.database);
        let data = self.data.to_string();
        let draft = Draft {
            resource: Some(&resource),
            outcome: Outcome::Success,
            severity: Severity::Notice,
            data: Data::Raw(&data),
            ..Draft::new("immudb.import", "auditmon")
        };
        batch.push(draft).is_ok()
    }

    /// What is remembered of it, by its key.
    pub(crate) fn state(&self, endpoint: &Endpoint) -> (Vec<u8>, Vec<u8>) {
        (trusted::key(endpoint, &self.database), self.record.encode())
    }
}

/// Adds imports to a frame; events first, since none may follow a state. Whether all of them fitted.
pub(crate) fn write(imports: &[Import], endpoint: &Endpoint, batch: &mut Batch) -> bool {
    imports.iter().all(|import| import.tell(endpoint, batch))
        && imports.iter().all(|import| {
            let (key, value) = import.state(endpoint);
            batch.remember(&key, None, &value).is_ok()
        })
}

/// What of these states is a server's, and sentences on those that are not taken.
///
/// immuclient keeps them under the name that the server says it has. Where none has that name, a single name stands for
/// this server all the same, since it was told so: another identity is a finding then, and no first contact.
pub(crate) fn of_server(
    known: &[Known],
    (endpoint, label): (&Endpoint, &str),
    uuid: Option<&str>,
    keys: &[PublicKey],
    now: Nanos,
) -> (Vec<Import>, Vec<String>) {
    let ids: BTreeSet<&str> = known.iter().map(|known| known.server_id.as_str()).collect();
    let slug = slug(endpoint);
    let named = uuid.filter(|uuid| ids.contains(uuid));
    let by_address = ids.contains(slug.as_str()).then_some(slug.as_str());
    let only = ids.first().copied().filter(|_| ids.len() == 1);
    let Some(chosen) = named.or(by_address).or(only) else {
        let says = format!(
            "none of the {} servers whose states are given is this one ({}): what it shows is taken on trust",
            ids.len(),
            uuid.unwrap_or("it doesn't say who it is")
        );
        return (Vec::new(), if known.is_empty() { Vec::new() } else { vec![says] });
    };
    let (mut imports, mut refused) = (Vec::new(), Vec::new());
    for known in known.iter().filter(|known| known.server_id == chosen) {
        let Some(state) = known.state() else { continue };
        let key = match known.signer(&state, keys) {
            Ok(key) => key,
            Err(why) => {
                refused.push(format!(
                    "the state of {} that {} has is not taken: {why}",
                    known.database, known.from
                ));
                continue;
            }
        };
        let id = if is_address(chosen) { uuid } else { Some(chosen) };
        let record = Record {
            state,
            signature: known
                .signature
                .as_ref()
                .and_then(|signature| hex::decode(signature).ok()),
            uuid: id.map(str::to_owned),
            key,
            first: now,
            taken: now,
            finding: None,
            accepted: Vec::new(),
            // The first audit that is in order says what lies before it.
            past: None,
            values: Values::default(),
            damaged: Vec::new(),
            given_up: 0,
        };
        let mut new = shown(&state);
        new["signed_by"] = key.map(|key| hex::encode(key.to_point())).into();
        let data = json!({
            "server": {"name": label, "address": endpoint.to_string()},
            "database": known.database,
            "from": known.from,
            "server_id": known.server_id,
            "new": new,
        });
        imports.push(Import {
            database: known.database.clone(),
            record,
            data,
        });
    }
    (imports, refused)
}

/// Whether it is the name that immuclient makes of an address, perhaps in another spelling than here. Identities of
/// servers have 20 letters and digits, and nothing else.
fn is_address(name: &str) -> bool {
    name.contains(['_', '-'])
}

/// How immuclient names a server that doesn't say who it is.
fn slug(endpoint: &Endpoint) -> String {
    let named = endpoint.to_string().replace('.', "-").replace(':', "_");
    named
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(database: &str, server_id: &str) -> Known {
        Known {
            database: database.to_owned(),
            tx: 7,
            hash: "07".repeat(32),
            server_id: server_id.to_owned(),
            from: "/tmp/auditor".to_owned(),
            ..Known::default()
        }
    }

    /// What is taken: databases with the identity that is asked for from then on.
    fn taken(all: &[Known], uuid: Option<&str>) -> (Vec<(String, Option<String>)>, usize) {
        let endpoint = Endpoint::parse("127.0.0.1:3322").unwrap();
        let (imports, refused) = of_server(all, (&endpoint, "db1"), uuid, &[], 1);
        let imports = imports.into_iter().map(|import| (import.database, import.record.uuid));
        (imports.collect(), refused.len())
    }

    #[test]
    fn states_are_taken_by_name_then_by_address_then_if_there_is_no_other() {
        let all = [known("a", "u1"), known("b", "u2"), known("c", "127-0-0-1_3322")];
        let one = |database: &str, id: Option<&str>| vec![(database.to_owned(), id.map(str::to_owned))];
        assert_eq!(taken(&all, Some("u2")), (one("b", Some("u2")), 0));
        assert_eq!(taken(&all, Some("u3")), (one("c", Some("u3")), 0));
        assert_eq!(taken(&all, None), (one("c", None), 0));
        // Another identity than that of the only server that is known: the audit will find it.
        assert_eq!(taken(&all[..1], Some("u3")), (one("a", Some("u1")), 0));
        assert_eq!(taken(&all[..2], Some("u3")), (Vec::new(), 1));
        // The same address in another spelling says nothing of who the server is.
        let other = [known("d", "localhost_3322")];
        assert_eq!(taken(&other, Some("u3")), (one("d", Some("u3")), 0));
        assert_eq!(taken(&[], Some("u3")), (Vec::new(), 0));
    }

    #[test]
    fn what_is_no_state_is_refused() {
        assert_eq!(known("a", "u").check(), Ok(()));
        for wrong in [
            Known {
                tx: 0,
                ..known("a", "u")
            },
            Known {
                hash: "07".to_owned(),
                ..known("a", "u")
            },
            known("", "u"),
            known("a", ""),
            Known {
                signature: Some("0".repeat(321)),
                ..known("a", "u")
            },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        let signed = Known {
            signature: Some("00".to_owned()),
            public_key: Some("04".to_owned()),
            ..known("a", "u")
        };
        assert_eq!(taken(&[signed], Some("u")), (Vec::new(), 1));
    }
}
