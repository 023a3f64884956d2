//! The members of a stored event, found without parsing its JSON.
//!
//! Canonical bytes have all members in one order and no white space between them, so that the end of each value is
//! found by its quotes alone. `event_data`, mostly the largest part, is not looked into.

use std::borrow::Cow;

use crate::event::{Outcome, Severity};
use crate::json;

/// The members of the canonical form, in its order.
const MEMBERS: [&str; 14] = [
    "event_id",
    "event_time",
    "event_name",
    "username",
    "resource",
    "event_source",
    "source_ip_address",
    "request_id",
    "read_only",
    "kind",
    "host",
    "outcome",
    "severity",
    "event_data",
];

/// What stands before each value.
const HEADS: [&[u8]; MEMBERS.len()] = [
    b"{\"event_id\":",
    b",\"event_time\":",
    b",\"event_name\":",
    b",\"username\":",
    b",\"resource\":",
    b",\"event_source\":",
    b",\"source_ip_address\":",
    b",\"request_id\":",
    b",\"read_only\":",
    b",\"kind\":",
    b",\"host\":",
    b",\"outcome\":",
    b",\"severity\":",
    b",\"event_data\":",
];
const TIME: usize = 1;
const NAME: usize = 2;
const USERNAME: usize = 3;
const RESOURCE: usize = 4;
const SOURCE: usize = 5;
const ADDRESS: usize = 6;
const REQUEST: usize = 7;
const READ_ONLY: usize = 8;
const HOST: usize = 10;
const OUTCOME: usize = 11;
const SEVERITY: usize = 12;
const DATA: usize = 13;

/// Where the values end, and the values that are one of few.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Of all but `event_data`, whose end is that of the object.
    ends: [u32; DATA],
    read_only: bool,
    outcome: Outcome,
    severity: Severity,
}

impl Places {
    /// `None` for bytes that are not canonical.
    pub(crate) fn find(canonical: &[u8]) -> Option<Self> {
        let mut ends = [0; DATA];
        let mut at = 0;
        for (end, head) in ends.iter_mut().zip(HEADS) {
            at = value_end(canonical, behind(canonical, at, head)?)?;
            *end = u32::try_from(at).ok()?;
        }
        let data = behind(canonical, at, HEADS[DATA])?;
        if canonical.len() < data + 2 || !canonical.ends_with(b"}") {
            return None;
        }
        let value = |member: usize| raw(canonical, &ends, member);
        Some(Self {
            ends,
            read_only: value(READ_ONLY) == b"true",
            outcome: Outcome::parse(word(value(OUTCOME))?)?,
            severity: Severity::parse(word(value(SEVERITY))?)?,
        })
    }
}

fn behind(canonical: &[u8], at: usize, head: &[u8]) -> Option<usize> {
    canonical.get(at..)?.starts_with(head).then_some(at + head.len())
}

fn value_end(canonical: &[u8], at: usize) -> Option<usize> {
    let literal = |text: &[u8]| behind(canonical, at, text);
    match canonical.get(at)? {
        b'"' => Some(json::string_end(canonical, at)),
        b'n' => literal(b"null"),
        b't' => literal(b"true"),
        b'f' => literal(b"false"),
        _ => None,
    }
}

fn raw<'a>(canonical: &'a [u8], ends: &[u32; DATA], member: usize) -> &'a [u8] {
    let begin = member.checked_sub(1).map_or(0, |before| ends[before] as usize) + HEADS[member].len();
    let end = ends.get(member).map_or(canonical.len() - 1, |end| *end as usize);
    canonical.get(begin..end).unwrap_or_default()
}

/// A string that has no escapes.
fn word(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()
}

/// The members of an event around `event_data`; see [`Event::members`](crate::subscription::Event::members).
#[derive(Clone, Copy)]
pub struct Members<'a> {
    canonical: &'a [u8],
    places: &'a Places,
}

impl<'a> Members<'a> {
    pub(crate) fn new(canonical: &'a [u8], places: &'a Places) -> Self {
        Self { canonical, places }
    }

    fn raw(&self, member: usize) -> &'a [u8] {
        raw(self.canonical, &self.places.ends, member)
    }

    /// Bytes that are no UTF-8 are shown with U+FFFD; an intact journal has none.
    fn text(&self, member: usize) -> Cow<'a, str> {
        let value = self.raw(member);
        let inner = value.get(1..value.len().saturating_sub(1)).unwrap_or_default();
        match std::str::from_utf8(inner) {
            Ok(inner) => json::unescape(inner).unwrap_or(Cow::Borrowed(inner)),
            Err(_) => String::from_utf8_lossy(inner),
        }
    }

    fn optional(&self, member: usize) -> Option<Cow<'a, str>> {
        (self.raw(member) != b"null").then(|| self.text(member))
    }

    /// When it happened: RFC 3339, UTC.
    #[must_use]
    pub fn event_time(&self) -> &'a str {
        word(self.raw(TIME)).unwrap_or_default()
    }

    /// What happened.
    #[must_use]
    pub fn event_name(&self) -> Cow<'a, str> {
        self.text(NAME)
    }

    /// Who did it.
    #[must_use]
    pub fn username(&self) -> Cow<'a, str> {
        self.text(USERNAME)
    }

    /// To what.
    #[must_use]
    pub fn resource(&self) -> Option<Cow<'a, str>> {
        self.optional(RESOURCE)
    }

    /// The API key's name, or the plugin's.
    #[must_use]
    pub fn event_source(&self) -> Cow<'a, str> {
        self.text(SOURCE)
    }

    /// IP address or `-`.
    #[must_use]
    pub fn source_ip_address(&self) -> &'a str {
        word(self.raw(ADDRESS)).unwrap_or_default()
    }

    /// The application's correlation id.
    #[must_use]
    pub fn request_id(&self) -> Option<Cow<'a, str>> {
        self.optional(REQUEST)
    }

    /// Whether it only read.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.places.read_only
    }

    /// Host of the agent that accepted it.
    #[must_use]
    pub fn host(&self) -> Cow<'a, str> {
        self.text(HOST)
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.places.outcome
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.places.severity
    }

    /// The object as it came, or `null`: JSON, not looked into.
    #[must_use]
    pub fn event_data(&self) -> &'a [u8] {
        self.raw(DATA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventView;
    use proptest::prelude::*;

    const EVENT: &str = r#"{"event_id":"019b76da-a800-7000-8000-000000000001","event_time":"2026-01-01T00:00:00.000Z","event_name":"n","username":"u\"\\","resource":null,"event_source":"s","source_ip_address":"-","request_id":"q","read_only":true,"kind":"application","host":"h","outcome":"failure","severity":"error","event_data":{"a":",\"outcome\":\"success\""}}"#;

    #[test]
    fn heads_are_the_members_in_order() {
        for (head, name) in HEADS.iter().zip(MEMBERS) {
            assert_eq!(head[1..], *format!("\"{name}\":").as_bytes());
        }
    }

    #[test]
    fn members_are_found_and_data_is_not_looked_into() {
        let places = Places::find(EVENT.as_bytes()).unwrap();
        let members = Members::new(EVENT.as_bytes(), &places);
        assert_eq!(members.username(), "u\"\\");
        assert_eq!(members.resource(), None);
        assert_eq!(members.request_id().as_deref(), Some("q"));
        assert!(members.read_only());
        assert_eq!(
            (members.outcome(), members.severity()),
            (Outcome::Failure, Severity::Error)
        );
        assert_eq!(members.event_data(), br#"{"a":",\"outcome\":\"success\""}"#);
    }

    #[test]
    fn what_is_not_canonical_has_no_members() {
        assert!(Places::find(b"").is_none());
        assert!(Places::find(b"{}").is_none());
        for (from, to) in [
            ("\"username\"", "\"user\""),
            (":null,", ":nil,"),
            (":null,", ": null,"),
            ("\"failure\"", "\"failed\""),
            ("{\"event_id\"", " {\"event_id\""),
        ] {
            let changed = EVENT.replacen(from, to, 1);
            assert_ne!(changed, EVENT);
            assert!(Places::find(changed.as_bytes()).is_none(), "{changed}");
        }
        // Wherever it is cut, nothing panics.
        for end in 0..EVENT.len() {
            assert!(Places::find(&EVENT.as_bytes()[..end]).is_none_or(|_| EVENT.as_bytes()[end - 1] == b'}'));
        }
    }

    proptest! {
        #[test]
        fn they_are_what_the_parser_finds(
            name in "\\PC{1,20}|[\\x01-\\x7f]{1,20}", user in "[\\x01-\\x7f]{1,9}", resource in proptest::option::of("\\PC{1,20}"),
            request in proptest::option::of("[\\x01-\\x7f]{1,9}"), outcome in 0..3_usize, severity in 0..5_usize, read_only: bool,
        ) {
            let draft = crate::Draft {
                resource: resource.as_deref(), request_id: request.as_deref(), read_only,
                outcome: Outcome::ALL[outcome], severity: Severity::ALL[severity],
                ..crate::Draft::new(&name, &user)
            };
            let mut canonical = Vec::new();
            crate::event::Envelope::new(crate::Kind::Kernel, "höst", "s\"").write(&uuid::Uuid::nil(), draft, &mut canonical);
            let view = EventView::parse(&canonical).unwrap();
            let places = Places::find(&canonical).unwrap();
            let members = Members::new(&canonical, &places);
            prop_assert_eq!(members.event_time(), view.event_time);
            prop_assert_eq!(members.event_name(), view.event_name);
            prop_assert_eq!(members.username(), view.username);
            prop_assert_eq!(members.resource(), view.resource);
            prop_assert_eq!(members.event_source(), view.event_source);
            prop_assert_eq!(members.source_ip_address(), view.source_ip_address);
            prop_assert_eq!(members.request_id(), view.request_id);
            prop_assert_eq!(members.read_only(), view.read_only);
            prop_assert_eq!(members.host(), view.host);
            prop_assert_eq!(members.outcome(), view.outcome);
            prop_assert_eq!(members.severity(), view.severity);
            prop_assert_eq!(members.event_data(), view.event_data.get().as_bytes());
        }
    }
}
