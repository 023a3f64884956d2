//! What an event looks like.

use auditmon_core::subscription::Event;
use auditmon_core::time::Nanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Credentials, Framing, auditmon, immuclient};

/// An accepted event with its place: what every format is made of.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The journal it is in.
    pub origin: &'a str,
    /// Its place there.
    pub seq: u64,
    /// When its agent received it.
    pub received: Nanos,
    /// Its canonical bytes.
    pub canonical: &'a [u8],
}

impl<'a> Item<'a> {
    /// An event as a sink is handed it, from the journal `origin`.
    #[must_use]
    pub fn new(origin: &'a str, event: &Event<'a>) -> Self {
        Self {
            origin,
            seq: event.seq,
            received: event.received,
            canonical: event.canonical,
        }
    }
}

/// What an event looks like, by the name that the configuration gives it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Auditmon JSON, as `GET /api/v1/events` shows an event.
    #[default]
    Auditmon,
    /// What immuclient's auditor posts: audits of immudb databases alone, one a request.
    Immuclient,
}

impl Format {
    /// Whether the format has something to say of an event; others are left out.
    #[must_use]
    pub fn takes(&self, item: &Item<'_>) -> bool {
        match self {
            Self::Auditmon => true,
            Self::Immuclient => immuclient::takes(item),
        }
    }

    /// Appends one event, without anything around it. Adds at most the canonical bytes and about 100 bytes more than
    /// the origin has; with credentials, that much more than they.
    pub fn write(&self, item: &Item<'_>, credentials: &Credentials, out: &mut Vec<u8>) {
        match self {
            Self::Auditmon => auditmon::write(item, out),
            Self::Immuclient => immuclient::write(item, credentials, out),
        }
    }

    /// Value of `Content-Type` for a body of such events.
    #[must_use]
    pub const fn content_type(&self, framing: Framing) -> &'static str {
        match (self, framing) {
            (_, Framing::Event | Framing::Array) => "application/json",
            (_, Framing::Ndjson) => "application/x-ndjson",
        }
    }
}
