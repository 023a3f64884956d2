//! Events and state that are accepted together: one frame of the journal, wholly there or wholly absent.

use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{PushError, Records};
use rand::Rng as _;
use uuid::Uuid;

use crate::event::{Draft, Envelope, MAX_EVENT};
use crate::inbound::{Code, Rejection};
use crate::time::{self, Nanos};

/// Why an event did not fit its batch.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejected {
    /// The event alone is too large: it can never be accepted.
    #[error("the event has {bytes} bytes in canonical form, at most {MAX_EVENT} are allowed")]
    TooLarge {
        /// Its size in canonical form.
        bytes: usize,
    },
    /// The batch is full; the event fits another one.
    #[error("the batch is full: {0}")]
    Full(#[from] PushError),
}

impl Rejected {
    /// The same as a client is told it.
    #[must_use]
    pub fn rejection(&self) -> Rejection {
        Rejection::whole(Code::TooLarge, self.to_string())
    }
}

/// A batch under construction. Canonical bytes, commitments and leaves are made here, on the source's thread.
pub struct Batch {
    records: Records,
    envelope: Envelope,
    /// For the agent events of a source, made when the first one comes.
    agent_envelope: Option<Envelope>,
    kind: Kind,
    host: String,
    event_source: String,
    source: [u8; 8],
    plugin: &'static str,
    received: Nanos,
}

impl Batch {
    /// A batch of one kind from one `event_source`, received now.
    pub(crate) fn new(plugin: &'static str, kind: Kind, host: &str, event_source: &str, buffer: Vec<u8>) -> Self {
        Self {
            records: Records::with_buffer(buffer),
            envelope: Envelope::new(kind, host, event_source),
            agent_envelope: None,
            kind,
            host: host.to_owned(),
            event_source: event_source.to_owned(),
            source: source_hash(event_source),
            plugin,
            received: time::now(),
        }
    }

    /// A batch outside of any agent, received now: for tests of sinks, see
    /// [`Events::of_batch`](crate::subscription::Events::of_batch).
    #[must_use]
    pub fn detached(plugin: &'static str, kind: Kind, host: &str, event_source: &str) -> Self {
        Self::new(plugin, kind, host, event_source, Vec::new())
    }

    /// The name that its events carry as `event_source`.
    #[must_use]
    pub fn event_source(&self) -> &str {
        &self.event_source
    }

    /// When what is pushed next counts as received; a source that fills one batch for long calls it again.
    pub fn received_at(&mut self, now: Nanos) {
        self.received = now;
    }

    /// The time that the next event counts as received at.
    #[must_use]
    pub fn received(&self) -> Nanos {
        self.received
    }

    /// Adds an event and gives its id.
    ///
    /// # Errors
    /// The event is too large, or the batch is full; the batch is then as it was.
    pub fn push(&mut self, draft: Draft<'_>) -> Result<Uuid, Rejected> {
        append(
            &mut self.records,
            &self.envelope,
            self.kind,
            self.source,
            self.received,
            draft,
        )
    }

    /// Adds an event of kind `agent` that tells about the source itself, such as a gap; the rest as [`push`](Self::push).
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_agent(&mut self, draft: Draft<'_>) -> Result<Uuid, Rejected> {
        let envelope = self
            .agent_envelope
            .get_or_insert_with(|| Envelope::new(Kind::Agent, &self.host, &self.event_source));
        append(
            &mut self.records,
            envelope,
            Kind::Agent,
            self.source,
            self.received,
            draft,
        )
    }

    /// Remembers `value` under `key` for this plugin, in the same frame as the events; an empty value forgets.
    /// State comes after the last event.
    ///
    /// # Errors
    /// More than 64 KiB, or the batch is full.
    pub fn remember(&mut self, key: &[u8], expiry: Option<Nanos>, value: &[u8]) -> Result<(), PushError> {
        let (id, salt) = fresh(self.received);
        self.records.push_state(
            self.plugin,
            *id.as_bytes(),
            self.received,
            salt,
            key,
            expiry.unwrap_or(0),
            value,
        )
    }

    /// How many events it holds.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.records.events()
    }

    /// How many bytes its records take in the journal.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.bytes()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn into_records(self) -> Records {
        self.records
    }
}

fn append(
    records: &mut Records,
    envelope: &Envelope,
    kind: Kind,
    source: [u8; 8],
    received: Nanos,
    draft: Draft<'_>,
) -> Result<Uuid, Rejected> {
    let (id, salt) = fresh(received);
    let prefix = Prefix {
        event_id: *id.as_bytes(),
        received_ns: received,
        kind,
        source,
    };
    records.try_push(&prefix, salt, |out| {
        let start = out.len();
        envelope.write(&id, draft, out);
        let bytes = out.len() - start;
        if bytes > MAX_EVENT {
            Err(Rejected::TooLarge { bytes })
        } else {
            Ok(())
        }
    })?;
    Ok(id)
}

/// A new UUIDv7 whose time is `received`, and a new salt.
fn fresh(received: Nanos) -> (Uuid, [u8; 16]) {
    let mut random = [0_u8; 26];
    rand::rng().fill_bytes(&mut random);
    let (mut tail, mut salt) = ([0_u8; 10], [0_u8; 16]);
    tail.copy_from_slice(&random[..10]);
    salt.copy_from_slice(&random[10..]);
    (
        uuid::Builder::from_unix_timestamp_millis(received / 1_000_000, &tail).into_uuid(),
        salt,
    )
}

/// Adds an event of the agent itself to records that are made outside of any source.
///
/// # Errors
/// As [`Batch::push`].
pub fn push_agent_event(records: &mut Records, host: &str, draft: Draft<'_>) -> Result<Uuid, Rejected> {
    let envelope = Envelope::new(Kind::Agent, host, AGENT);
    append(records, &envelope, Kind::Agent, source_hash(AGENT), time::now(), draft)
}

/// `event_source` of the agent's own events.
pub const AGENT: &str = "agent";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Data;

    fn batch() -> Batch {
        Batch::new("ingest", Kind::Application, "h", "billing", Vec::new())
    }

    #[test]
    fn an_id_carries_the_received_time_and_version_7() {
        let mut batch = batch();
        batch.received_at(1_767_225_600_123_456_789);
        let id = batch.push(Draft::new("n", "u")).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(u128::from_be_bytes(*id.as_bytes()) >> 80, 1_767_225_600_123);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn a_too_large_event_leaves_the_batch_as_it_was() {
        let mut batch = batch();
        batch.push(Draft::new("n", "u")).unwrap();
        let before = (batch.events(), batch.bytes());
        let raw = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT));
        let refused = batch.push(Draft {
            data: Data::Raw(&raw),
            ..Draft::new("n", "u")
        });
        assert!(matches!(refused, Err(Rejected::TooLarge { .. })));
        assert_eq!((batch.events(), batch.bytes()), before);
    }

    #[test]
    fn an_event_of_exactly_the_limit_fits() {
        let mut probe = batch();
        let empty = Draft {
            data: Data::Raw("{\"a\":\"\"}"),
            time: 0,
            ..Draft::new("n", "u")
        };
        probe.push(empty).unwrap();
        let head = probe.bytes() - auditmon_journal::format::RECORD_HEAD;
        let raw = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT - head));
        let mut batch = batch();
        batch
            .push(Draft {
                data: Data::Raw(&raw),
                time: 0,
                ..Draft::new("n", "u")
            })
            .unwrap();
        let raw = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT - head + 1));
        assert!(
            batch
                .push(Draft {
                    data: Data::Raw(&raw),
                    time: 0,
                    ..Draft::new("n", "u")
                })
                .is_err()
        );
    }

    #[test]
    fn no_id_or_salt_comes_twice() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let (id, salt) = fresh(1);
            assert!(seen.insert(id.as_bytes().to_vec()) && seen.insert(salt.to_vec()));
        }
    }
}
