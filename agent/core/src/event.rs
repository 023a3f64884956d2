//! The event: members, limits, canonical bytes, and the view of stored bytes.
//!
//! The canonical bytes of an event are one JSON object with all fourteen members in fixed order and no
//! white space outside of `event_data`. They are written by [`Draft`]'s stream straight into the buffer
//! that the journal appends, and never change afterwards.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::json::write_str;
use crate::time::{self, Nanos};

pub use auditmon_journal::format::Kind;

/// Largest canonical form of an event, in bytes.
pub const MAX_EVENT: usize = 1 << 20;
/// Longest `event_name` and `username`, in bytes.
pub const MAX_NAME: usize = 256;
/// Longest `resource`, in bytes.
pub const MAX_RESOURCE: usize = 4096;
/// Longest `event_source`, in bytes.
pub const MAX_SOURCE: usize = 128;
/// Longest `request_id`, in bytes.
pub const MAX_REQUEST_ID: usize = 256;
/// How far ahead of the receiver's clock an `event_time` may be, in nanoseconds: one day.
pub const MAX_AHEAD: Nanos = 86_400_000_000_000;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All values, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that stands in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// How what the event tells of ended.
    Outcome {
        /// It was done.
        Success = "success",
        /// It was refused or failed.
        Failure = "failure",
        /// Nothing tells.
        Unknown = "unknown",
    }
}

words! {
    /// How much the event asks for attention.
    Severity {
        /// Everyday.
        Info = "info",
        /// Worth a look.
        Notice = "notice",
        /// Something may be wrong.
        Warning = "warning",
        /// Something is wrong.
        Error = "error",
        /// Act now.
        Critical = "critical",
    }
}

/// The word of a kind; state records, which are no events, have none.
#[must_use]
pub const fn kind_str(kind: Kind) -> &'static str {
    match kind {
        Kind::Application => "application",
        Kind::Kernel => "kernel",
        Kind::Immudb => "immudb",
        Kind::Agent => "agent",
        Kind::State => "state",
    }
}

/// The kind of a word.
#[must_use]
pub fn parse_kind(word: &str) -> Option<Kind> {
    [Kind::Application, Kind::Kernel, Kind::Immudb, Kind::Agent]
        .into_iter()
        .find(|k| kind_str(*k) == word)
}

/// `event_data` on its way into the canonical bytes.
pub enum Data<'a> {
    /// `null`.
    Null,
    /// One valid JSON object, copied to the byte; the caller has checked it.
    Raw(&'a str),
    /// Appends exactly one valid JSON object.
    Write(&'a mut dyn FnMut(&mut Vec<u8>)),
}

/// An event before it has an id: what a source says. Kind, host and source come from its batch.
pub struct Draft<'a> {
    /// When it happened.
    pub time: Nanos,
    /// 1–256 bytes.
    pub name: &'a str,
    /// 1–256 bytes.
    pub username: &'a str,
    /// At most 4 KiB.
    pub resource: Option<&'a str>,
    /// `None` is written as `-`.
    pub address: Option<IpAddr>,
    /// At most 256 bytes.
    pub request_id: Option<&'a str>,
    /// Whether it only read.
    pub read_only: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// How much it matters.
    pub severity: Severity,
    /// Further content.
    pub data: Data<'a>,
}

impl<'a> Draft<'a> {
    /// An event of now with the defaults: no resource, no address, unknown outcome, severity info, no data.
    #[must_use]
    pub fn new(name: &'a str, username: &'a str) -> Self {
        Self {
            time: time::now(),
            name,
            username,
            resource: None,
            address: None,
            request_id: None,
            read_only: false,
            outcome: Outcome::Unknown,
            severity: Severity::Info,
            data: Data::Null,
        }
    }
}

/// What all events of a batch share in their canonical bytes.
pub(crate) struct Envelope {
    /// `,"event_source":"…","source_ip_address":`
    source: Vec<u8>,
    /// `,"kind":"…","host":"…","outcome":"`
    kind_host: Vec<u8>,
}

impl Envelope {
    pub(crate) fn new(kind: Kind, host: &str, event_source: &str) -> Self {
        let mut source = b",\"event_source\":".to_vec();
        write_str(event_source, &mut source);
        source.extend_from_slice(b",\"source_ip_address\":");
        let mut kind_host = b",\"kind\":\"".to_vec();
        kind_host.extend_from_slice(kind_str(kind).as_bytes());
        kind_host.extend_from_slice(b"\",\"host\":");
        write_str(host, &mut kind_host);
        kind_host.extend_from_slice(b",\"outcome\":\"");
        Self { source, kind_host }
    }

    /// Appends the canonical bytes.
    pub(crate) fn write(&self, id: &Uuid, draft: Draft<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"event_id\":\"");
        out.extend_from_slice(id.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
        out.extend_from_slice(b"\",\"event_time\":\"");
        time::write(draft.time, out);
        out.extend_from_slice(b"\",\"event_name\":");
        write_str(draft.name, out);
        out.extend_from_slice(b",\"username\":");
        write_str(draft.username, out);
        out.extend_from_slice(b",\"resource\":");
        write_optional(draft.resource, out);
        out.extend_from_slice(&self.source);
        match draft.address {
            None => out.extend_from_slice(b"\"-\""),
            Some(address) => {
                use std::io::Write as _;
                // Writing to a vector cannot fail, and an address needs no escaping.
                let _ = write!(out, "\"{address}\"");
            }
        }
        out.extend_from_slice(b",\"request_id\":");
        write_optional(draft.request_id, out);
        out.extend_from_slice(if draft.read_only {
            b",\"read_only\":true"
        } else {
            b",\"read_only\":false"
        });
        out.extend_from_slice(&self.kind_host);
        out.extend_from_slice(draft.outcome.as_str().as_bytes());
        out.extend_from_slice(b"\",\"severity\":\"");
        out.extend_from_slice(draft.severity.as_str().as_bytes());
        out.extend_from_slice(b"\",\"event_data\":");
        match draft.data {
            Data::Null => out.extend_from_slice(b"null"),
            Data::Raw(raw) => out.extend_from_slice(raw.as_bytes()),
            Data::Write(write) => write(out),
        }
        out.push(b'}');
    }
}

fn write_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_str(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// The longest head of `text` of at most `max` bytes that ends at a character.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
    &text[..end]
}

/// A stored event: the canonical bytes, read without copying.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventView<'a> {
    /// UUIDv7 in text form.
    #[serde(borrow)]
    pub event_id: Cow<'a, str>,
    /// RFC 3339, UTC.
    #[serde(borrow)]
    pub event_time: Cow<'a, str>,
    /// What happened.
    #[serde(borrow)]
    pub event_name: Cow<'a, str>,
    /// Who did it.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    /// To what.
    #[serde(borrow)]
    pub resource: Option<Cow<'a, str>>,
    /// The API key's name, or the plugin's.
    #[serde(borrow)]
    pub event_source: Cow<'a, str>,
    /// IP address or `-`.
    #[serde(borrow)]
    pub source_ip_address: Cow<'a, str>,
    /// The application's correlation id.
    #[serde(borrow)]
    pub request_id: Option<Cow<'a, str>>,
    /// Whether it only read.
    pub read_only: bool,
    /// application, kernel, immudb, agent.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// Host of the agent that accepted it.
    #[serde(borrow)]
    pub host: Cow<'a, str>,
    /// How it ended.
    pub outcome: Outcome,
    /// How much it matters.
    pub severity: Severity,
    /// The object as it came, or `null`.
    #[serde(borrow)]
    pub event_data: &'a RawValue,
}

impl<'a> EventView<'a> {
    /// Reads canonical bytes.
    ///
    /// # Errors
    /// The parser's error; bytes from an intact journal never give one.
    pub fn parse(canonical: &'a [u8]) -> Result<Self, serde_json::Error> {
        let text = std::str::from_utf8(canonical).map_err(serde::de::Error::custom)?;
        serde_json::from_str(text)
    }
}

/// Appends the event as every JSON output shows it: canonical bytes with origin, seq and received time at the end.
pub fn write_output(canonical: &[u8], origin: &str, seq: u64, received: Nanos, out: &mut Vec<u8>) {
    use std::io::Write as _;
    out.extend_from_slice(canonical.strip_suffix(b"}").unwrap_or(canonical));
    out.extend_from_slice(b",\"origin\":");
    write_str(origin, out);
    // Writing to a vector cannot fail.
    let _ = write!(out, ",\"seq\":{seq},\"received_time\":\"");
    time::write_nanos(received, out);
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Deserialize)]
    struct Vectors {
        records: Vec<Vector>,
    }
    #[derive(Deserialize)]
    struct Vector {
        payload: String,
    }

    fn vectors() -> Vec<String> {
        let text = include_str!("../../../tests/fixtures/journal-vectors.json");
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        vectors
            .records
            .into_iter()
            .map(|v| v.payload)
            .filter(|p| p.starts_with('{'))
            .collect()
    }

    /// Reads canonical bytes and writes them again.
    fn rewrite(canonical: &str) -> String {
        let view = EventView::parse(canonical.as_bytes()).unwrap();
        let kind = parse_kind(&view.kind).unwrap();
        let envelope = Envelope::new(kind, &view.host, &view.event_source);
        let draft = Draft {
            time: time::parse(&view.event_time).unwrap(),
            name: &view.event_name,
            username: &view.username,
            resource: view.resource.as_deref(),
            address: view.source_ip_address.parse().ok(),
            request_id: view.request_id.as_deref(),
            read_only: view.read_only,
            outcome: view.outcome,
            severity: view.severity,
            data: match view.event_data.get() {
                "null" => Data::Null,
                raw => Data::Raw(raw),
            },
        };
        let mut out = Vec::new();
        envelope.write(&view.event_id.parse().unwrap(), draft, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn golden_vectors_are_reproduced_to_the_byte() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 3);
        for canonical in vectors {
            assert_eq!(rewrite(&canonical), canonical);
        }
    }

    #[test]
    fn output_appends_the_place() {
        let canonical = &vectors()[0];
        let mut out = Vec::new();
        write_output(canonical.as_bytes(), "h/00", 7, 1_767_225_600_000_000_001, &mut out);
        let out = String::from_utf8(out).unwrap();
        let tail = ",\"origin\":\"h/00\",\"seq\":7,\"received_time\":\"2026-01-01T00:00:00.000000001Z\"}";
        assert_eq!(out.strip_suffix(tail).unwrap(), canonical.strip_suffix('}').unwrap());
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(cut("aä", 3), "aä");
        assert_eq!(cut("ä", 0), "");
    }

    proptest! {
        #[test]
        fn parse_then_write_is_the_identity(
            at in 0_u64..=i64::MAX as u64,
            name in "[^\\x00]{1,40}", user in "[^\\x00]{1,40}", resource in proptest::option::of("[^\\x00]{1,40}"),
            source in "[a-z]{1,9}", v4 in any::<Option<[u8; 4]>>(), request in proptest::option::of("[^\\x00]{1,9}"),
            read_only: bool, outcome in 0..3_usize, severity in 0..5_usize, data in proptest::option::of("[^\\x00]{0,40}"),
            id: u128,
        ) {
            let data = data.map(|text| {
                let mut out = b"{ \"k\" : ".to_vec();
                write_str(&text, &mut out);
                out.push(b'}');
                String::from_utf8(out).unwrap()
            });
            let draft = Draft {
                time: at, name: &name, username: &user, resource: resource.as_deref(), address: v4.map(IpAddr::from),
                request_id: request.as_deref(), read_only, outcome: Outcome::ALL[outcome], severity: Severity::ALL[severity],
                data: data.as_deref().map_or(Data::Null, Data::Raw),
            };
            let mut out = Vec::new();
            Envelope::new(Kind::Kernel, "h", &source).write(&Uuid::from_u128(id), draft, &mut out);
            let canonical = String::from_utf8(out).unwrap();
            prop_assert_eq!(rewrite(&canonical), canonical);
        }
    }
}
