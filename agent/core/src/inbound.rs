//! An event as an application sends it: parsing, and the rejection codes that tell what to mend.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{self, Data, Draft, Outcome, Severity};
use crate::json::{self, ValueFault};
use crate::time::{self, Nanos, TimeError};

/// Members that an application may send.
pub const ACCEPTED: [&str; 11] = [
    "event_time",
    "event_name",
    "username",
    "resource",
    "event_source",
    "source_ip_address",
    "request_id",
    "read_only",
    "outcome",
    "severity",
    "event_data",
];

/// Members that only the agent sets.
pub const AGENT_MEMBERS: [&str; 6] = ["event_id", "kind", "host", "seq", "received_time", "origin"];

/// Why an event was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the names are the documentation: interface.md fixes them for clients"
)]
pub enum Code {
    Malformed,
    Missing,
    WrongType,
    TooLong,
    TooLarge,
    TooDeep,
    DuplicateMember,
    InvalidText,
    InvalidTime,
    InvalidAddress,
    InvalidValue,
    AgentField,
    SourceMismatch,
    UnknownMember,
}

/// One fault of one event.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Rejection {
    /// RFC 6901 pointer to the member; empty for the whole event.
    pub pointer: String,
    /// What kind of fault.
    pub code: Code,
    /// The fault in words, with what would be right.
    pub message: String,
}

impl Rejection {
    /// A fault of the whole event.
    #[must_use]
    pub fn whole(code: Code, message: impl Into<String>) -> Self {
        Self {
            pointer: String::new(),
            code,
            message: message.into(),
        }
    }

    fn member(name: &str, code: Code, message: impl Into<String>) -> Self {
        Self {
            pointer: format!("/{}", json::escape_step(event::cut(name, 256))),
            code,
            message: message.into(),
        }
    }
}

/// An event as it came, checked; strings borrow from the body where they hold no escapes.
#[derive(Debug)]
pub struct Inbound<'a> {
    time: Option<Nanos>,
    name: Cow<'a, str>,
    username: Cow<'a, str>,
    resource: Option<Cow<'a, str>>,
    address: Option<IpAddr>,
    request_id: Option<Cow<'a, str>>,
    read_only: bool,
    outcome: Outcome,
    severity: Severity,
    data: Option<&'a str>,
}

impl<'a> Inbound<'a> {
    /// Reads one JSON object sent under the key `source` and received at `now`.
    ///
    /// # Errors
    /// All faults of the event.
    pub fn parse(text: &'a str, source: &str, now: Nanos) -> Result<Self, Vec<Rejection>> {
        let mut reader = Reader {
            members: Default::default(),
            faults: Vec::new(),
        };
        let mut parser = serde_json::Deserializer::from_str(text);
        let parsed = parser
            .deserialize_any(ObjectVisitor(&mut reader))
            .and_then(|()| parser.end());
        if let Err(error) = parsed {
            let code = if error.is_data() {
                Code::WrongType
            } else {
                Code::Malformed
            };
            let message = if error.is_data() {
                "an event is a JSON object".to_owned()
            } else {
                plain(&error)
            };
            return Err(vec![Rejection::whole(code, message)]);
        }
        reader.finish(source, now)
    }

    /// The event for the journal; `event_time` is `now` where none came.
    #[must_use]
    pub fn draft(&self, now: Nanos) -> Draft<'_> {
        Draft {
            time: self.time.unwrap_or(now),
            name: &self.name,
            username: &self.username,
            resource: self.resource.as_deref(),
            address: self.address,
            request_id: self.request_id.as_deref(),
            read_only: self.read_only,
            outcome: self.outcome,
            severity: self.severity,
            data: self.data.map_or(Data::Null, Data::Raw),
        }
    }
}

/// A parser's error without the crate's own words for the place twice.
fn plain(error: &serde_json::Error) -> String {
    format!("is not valid JSON: {error}")
}

/// Index of each accepted member in [`Reader::members`].
const TIME: usize = 0;
const NAME: usize = 1;
const USERNAME: usize = 2;
const RESOURCE: usize = 3;
const SOURCE: usize = 4;
const ADDRESS: usize = 5;
const REQUEST_ID: usize = 6;
const READ_ONLY: usize = 7;
const OUTCOME: usize = 8;
const SEVERITY: usize = 9;
const DATA: usize = 10;

struct Reader<'a> {
    members: [Option<&'a RawValue>; ACCEPTED.len()],
    faults: Vec<Rejection>,
}

/// More faults of one event than anybody reads.
const MAX_FAULTS: usize = 32;

struct ObjectVisitor<'r, 'a>(&'r mut Reader<'a>);

impl<'a> Visitor<'a> for ObjectVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name<'a>>()? {
            let value: &'a RawValue = map.next_value()?;
            self.0.member(&name.0, value);
        }
        Ok(())
    }
}

/// A member's name; serde's own `Cow` would always copy.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Name<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(v.to_owned()))
            }
        }
        d.deserialize_str(NameVisitor).map(Name)
    }
}

impl<'a> Reader<'a> {
    fn fault(&mut self, name: &str, code: Code, message: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Rejection::member(name, code, message));
        }
    }

    fn member(&mut self, name: &str, value: &'a RawValue) {
        if let Some(at) = ACCEPTED.iter().position(|known| *known == name) {
            if self.members[at].replace(value).is_some() {
                self.fault(
                    name,
                    Code::DuplicateMember,
                    format!("`{name}` stands twice in the event"),
                );
            }
        } else if AGENT_MEMBERS.contains(&name) {
            self.fault(
                name,
                Code::AgentField,
                format!("`{name}` is set by the agent; leave it out"),
            );
        } else {
            let shown = event::cut(name, 64);
            let message = match nearest(shown) {
                Some(known) => format!("`{shown}` is no member of an event; did you mean `{known}`?"),
                None => format!("`{shown}` is no member of an event; further content belongs into `event_data`"),
            };
            self.fault(name, Code::UnknownMember, message);
        }
    }

    fn finish(mut self, source: &str, now: Nanos) -> Result<Inbound<'a>, Vec<Rejection>> {
        let name = self.required(NAME, event::MAX_NAME);
        let username = self.required(USERNAME, event::MAX_NAME);
        let resource = self.text(RESOURCE, event::MAX_RESOURCE);
        let request_id = self.text(REQUEST_ID, event::MAX_REQUEST_ID);
        if let Some(given) = self.text(SOURCE, event::MAX_SOURCE)
            && given != source
        {
            let message = format!(
                "`event_source` is the name of the API key, here `{source}`; leave it out or send exactly that"
            );
            self.fault("event_source", Code::SourceMismatch, message);
        }
        let time = self.time(now);
        let address = self.address();
        let read_only = self.read_only();
        let outcome = self
            .word(OUTCOME, Outcome::parse, "success, failure, unknown")
            .unwrap_or(Outcome::Unknown);
        let severity = self
            .word(SEVERITY, Severity::parse, "info, notice, warning, error, critical")
            .unwrap_or(Severity::Info);
        let data = self.data();
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        Ok(Inbound {
            time,
            name: name.unwrap_or_default(),
            username: username.unwrap_or_default(),
            resource,
            address,
            request_id,
            read_only,
            outcome,
            severity,
            data,
        })
    }

    /// The member's raw text; null and the empty string count as absent.
    fn raw(&self, at: usize) -> Option<&'a str> {
        self.members[at]
            .map(RawValue::get)
            .filter(|raw| *raw != "null" && *raw != "\"\"")
    }

    fn text(&mut self, at: usize, max: usize) -> Option<Cow<'a, str>> {
        let raw = self.raw(at)?;
        let name = ACCEPTED[at];
        if !raw.starts_with('"') {
            self.fault(
                name,
                Code::WrongType,
                format!("`{name}` is a string, here {}", type_name(raw)),
            );
            return None;
        }
        let inner = &raw[1..raw.len() - 1];
        let text = if inner.contains('\\') {
            match serde_json::from_str::<String>(raw) {
                Ok(text) => Cow::Owned(text),
                Err(_) => {
                    self.fault(name, Code::InvalidText, format!("`{name}` holds a lone surrogate"));
                    return None;
                }
            }
        } else {
            Cow::Borrowed(inner)
        };
        if text.contains('\0') {
            self.fault(name, Code::InvalidText, format!("`{name}` holds U+0000"));
            return None;
        }
        if text.len() > max {
            self.fault(
                name,
                Code::TooLong,
                format!("`{name}` has {} bytes, at most {max} are allowed", text.len()),
            );
            return None;
        }
        Some(text)
    }

    fn required(&mut self, at: usize, max: usize) -> Option<Cow<'a, str>> {
        if self.raw(at).is_none() {
            let name = ACCEPTED[at];
            self.fault(
                name,
                Code::Missing,
                format!("`{name}` is required: a string of 1–{max} bytes"),
            );
            return None;
        }
        self.text(at, max)
    }

    fn time(&mut self, now: Nanos) -> Option<Nanos> {
        let text = self.text(TIME, 64)?;
        let fault = match time::parse(&text) {
            Ok(at) if at > now.saturating_add(event::MAX_AHEAD) => {
                "is more than a day ahead of this host's clock".to_owned()
            }
            Ok(at) => return Some(at),
            Err(error @ (TimeError::Form | TimeError::Precision | TimeError::Range)) => error.to_string(),
        };
        self.fault("event_time", Code::InvalidTime, format!("`event_time` {fault}"));
        None
    }

    fn address(&mut self) -> Option<IpAddr> {
        let text = self.text(ADDRESS, 64)?;
        if text == "-" {
            return None;
        }
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.fault(
                "source_ip_address",
                Code::InvalidAddress,
                "`source_ip_address` is an IPv4 or IPv6 address, or `-`",
            );
        }
        parsed
    }

    fn read_only(&mut self) -> bool {
        match self.raw(READ_ONLY) {
            None | Some("false") => false,
            Some("true") => true,
            Some(raw) => {
                self.fault(
                    "read_only",
                    Code::WrongType,
                    format!("`read_only` is true or false, here {}", type_name(raw)),
                );
                false
            }
        }
    }

    fn word<T>(&mut self, at: usize, parse: fn(&str) -> Option<T>, words: &str) -> Option<T> {
        let text = self.text(at, 64)?;
        let value = parse(&text);
        if value.is_none() {
            let name = ACCEPTED[at];
            self.fault(name, Code::InvalidValue, format!("`{name}` is one of {words}"));
        }
        value
    }

    fn data(&mut self) -> Option<&'a str> {
        let raw = self.raw(DATA)?;
        if !raw.starts_with('{') {
            self.fault(
                "event_data",
                Code::WrongType,
                format!("`event_data` is an object or null, here {}", type_name(raw)),
            );
            return None;
        }
        let Err(fault) = json::check_value(raw) else {
            return Some(raw);
        };
        let (code, message) = match fault.what {
            ValueFault::Depth => (
                Code::TooDeep,
                format!("is nested deeper than {} levels", json::MAX_DEPTH),
            ),
            ValueFault::DuplicateMember => (Code::DuplicateMember, "stands twice in its object".to_owned()),
            ValueFault::LoneSurrogate => (Code::InvalidText, "holds a lone surrogate".to_owned()),
            ValueFault::NulInName => (Code::InvalidText, "holds a member name with U+0000".to_owned()),
        };
        let pointer = format!("/event_data{}", fault.pointer);
        self.faults.push(Rejection {
            message: format!("`{pointer}` {message}"),
            pointer,
            code,
        });
        None
    }
}

fn type_name(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The known member that a misspelt one most likely means.
fn nearest(name: &str) -> Option<&'static str> {
    let near = |known: &&str| strsim::damerau_levenshtein(name, known);
    let best = ACCEPTED.iter().min_by_key(|known| near(known)).copied()?;
    (near(&best) <= 1 + name.len() / 3).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Nanos = 1_767_225_600_000_000_000;

    fn faults(text: &str) -> Vec<(Code, String)> {
        match Inbound::parse(text, "billing", NOW) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.into_iter().map(|f| (f.code, f.pointer)).collect(),
        }
    }

    fn with(member: &str) -> String {
        format!(r#"{{"event_name":"n","username":"u",{member}}}"#)
    }

    #[test]
    fn defaults_of_the_event_model() {
        let event = Inbound::parse(r#" {"event_name":"login","username":"alice"} "#, "billing", NOW).unwrap();
        let draft = event.draft(NOW);
        assert_eq!((draft.time, draft.name, draft.username), (NOW, "login", "alice"));
        assert_eq!(
            (draft.resource, draft.address, draft.request_id, draft.read_only),
            (None, None, None, false)
        );
        assert_eq!((draft.outcome, draft.severity), (Outcome::Unknown, Severity::Info));
        assert!(matches!(draft.data, Data::Null));
    }

    #[test]
    fn null_and_empty_count_as_absent() {
        let absent = with(
            r#""event_time":null,"resource":"","event_source":"","source_ip_address":"","request_id":null,"read_only":null,"outcome":"","severity":null,"event_data":"""#,
        );
        assert_eq!(faults(&absent), []);
        assert_eq!(
            faults(r#"{"event_name":"","username":null}"#),
            [
                (Code::Missing, "/event_name".to_owned()),
                (Code::Missing, "/username".to_owned())
            ]
        );
    }

    #[test]
    fn each_code_has_its_case() {
        use Code::*;
        let long = "x".repeat(257);
        let deep = format!(r#""event_data":{{"a":{}{}}}"#, "[".repeat(32), "]".repeat(32));
        for (member, code, pointer) in [
            (r#""resource":5"#.to_owned(), WrongType, "/resource"),
            (r#""read_only":"yes""#.to_owned(), WrongType, "/read_only"),
            (r#""event_data":[]"#.to_owned(), WrongType, "/event_data"),
            (format!(r#""request_id":"{long}""#), TooLong, "/request_id"),
            (
                deep,
                TooDeep,
                "/event_data/a/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0",
            ),
            (r#""username":"u""#.to_owned(), DuplicateMember, "/username"),
            (
                r#""event_data":{"a":{"b":1,"b":2}}"#.to_owned(),
                DuplicateMember,
                "/event_data/a/b",
            ),
            (r#""resource":"\ud800""#.to_owned(), InvalidText, "/resource"),
            (r#""resource":"a\u0000""#.to_owned(), InvalidText, "/resource"),
            (r#""event_data":{"a\u0000":1}"#.to_owned(), InvalidText, "/event_data"),
            (r#""event_time":"yesterday""#.to_owned(), InvalidTime, "/event_time"),
            (
                r#""event_time":"2026-01-01T00:00:60Z""#.to_owned(),
                InvalidTime,
                "/event_time",
            ),
            (
                r#""event_time":"2026-01-02T00:00:01Z""#.to_owned(),
                InvalidTime,
                "/event_time",
            ),
            (
                r#""source_ip_address":"localhost""#.to_owned(),
                InvalidAddress,
                "/source_ip_address",
            ),
            (r#""outcome":"ok""#.to_owned(), InvalidValue, "/outcome"),
            (r#""severity":"fatal""#.to_owned(), InvalidValue, "/severity"),
            (r#""event_id":"x""#.to_owned(), AgentField, "/event_id"),
            (r#""event_source":"other""#.to_owned(), SourceMismatch, "/event_source"),
            (r#""ressource":"x""#.to_owned(), UnknownMember, "/ressource"),
        ] {
            assert_eq!(faults(&with(&member)), [(code, pointer.to_owned())], "{member}");
        }
        assert_eq!(faults("{"), [(Malformed, String::new())]);
        assert_eq!(faults("[]"), [(WrongType, String::new())]);
        assert_eq!(
            faults(r#"{"event_name":"n","username":"u"} x"#),
            [(Malformed, String::new())]
        );
    }

    #[test]
    fn a_misspelt_member_names_the_right_one() {
        let faults = Inbound::parse(&with(r#""ressource":"x""#), "b", NOW).unwrap_err();
        assert!(
            faults[0].message.contains("did you mean `resource`?"),
            "{}",
            faults[0].message
        );
    }

    #[test]
    fn an_address_takes_its_standard_form() {
        let text = with(r#""source_ip_address":"2001:DB8:0:0:0:0:0:1""#);
        let event = Inbound::parse(&text, "b", NOW).unwrap();
        assert_eq!(event.draft(NOW).address.unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn all_faults_come_at_once_but_not_without_end() {
        let members: Vec<String> = (0..1000).map(|n| format!("\"zz{n}\":1")).collect();
        assert_eq!(faults(&format!("{{{}}}", members.join(","))).len(), MAX_FAULTS);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}|[\\[\\]{}\":,\\\\a-z_]{0,80}") {
            let _ = Inbound::parse(&text, "b", NOW);
        }
    }
}
