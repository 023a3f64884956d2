//! The filters: what the address says, what the form shows, and where links lead.

use std::fmt::Write as _;

use auditmon_core::event::{Outcome, Severity};
use auditmon_core::reader::Query;

/// A field of the form.
pub(crate) struct Field<'a> {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) value: &'a str,
    /// Shown in an empty field; of a choice, the name of none.
    pub(crate) example: &'static str,
    /// Value and text.
    pub(crate) choices: Vec<(&'static str, &'static str)>,
}

/// Name, label, example; in the order in which they stand.
const FIRST: [(&str, &str, &str); 7] = [
    ("event_name", "Event", ""),
    ("username", "User", ""),
    ("resource", "Resource", ""),
    ("kind", "Kind", "any"),
    ("outcome", "Outcome", "any"),
    ("after", "After (UTC)", "2026-01-31 08:00"),
    ("before", "Before (UTC)", "2026-01-31 18:00"),
];
const MORE: [(&str, &str, &str); 10] = [
    ("severity", "Severity", "any"),
    ("event_source", "Source", ""),
    ("source_ip_address", "IP address", ""),
    ("request_id", "Request id", ""),
    ("host", "Host", ""),
    ("read_only", "Read only", "any"),
    ("event_id", "Event id", ""),
    ("event_time", "Exact time", ""),
    ("limit", "Events a page", "100"),
    ("order", "Order", "newest first"),
];

/// The parameters of a page's address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads an address. A form sends its empty fields too: they count as absent.
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Self {
        Self {
            pairs: pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        }
    }

    /// What is asked.
    pub(crate) fn query(&self) -> Result<Query, String> {
        Query::parse(self.pairs.iter().map(|(name, value)| {
            let value = match name.as_str() {
                "after" | "before" | "event_time" => full_time(value),
                _ => value.clone(),
            };
            (name.as_str(), value)
        }))
    }

    fn value(&self, name: &str) -> &str {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    }

    fn fields(&self, of: &[(&'static str, &'static str, &'static str)]) -> Vec<Field<'_>> {
        of.iter()
            .map(|&(name, label, example)| Field {
                name,
                label,
                value: self.value(name),
                example,
                choices: choices(name),
            })
            .collect()
    }

    /// The fields that are always in sight.
    pub(crate) fn first(&self) -> Vec<Field<'_>> {
        self.fields(&FIRST)
    }

    /// The others.
    pub(crate) fn more(&self) -> Vec<Field<'_>> {
        self.fields(&MORE)
    }

    /// Whether one of the others is in use.
    pub(crate) fn more_open(&self) -> bool {
        MORE.iter().any(|(name, ..)| !self.value(name).is_empty())
    }

    /// Whether anything is asked for beside a page.
    pub(crate) fn any(&self) -> bool {
        self.pairs.iter().any(|(name, _)| name != "cursor")
    }

    /// Whether this is a page further on.
    pub(crate) fn has_cursor(&self) -> bool {
        !self.value("cursor").is_empty()
    }

    fn ascending(&self) -> bool {
        self.value("order") == "asc"
    }

    /// What the first page of this order is called.
    pub(crate) fn begin(&self) -> &'static str {
        if self.ascending() { "Oldest" } else { "Newest" }
    }

    /// What the next page of this order is called.
    pub(crate) fn onward(&self) -> &'static str {
        if self.ascending() { "Newer" } else { "Older" }
    }

    /// The same filters with one more, from the first page on.
    pub(crate) fn with(&self, name: &str, value: &str) -> String {
        let kept = self.pairs.iter().filter(|(n, _)| n != name && n != "cursor");
        link(kept.map(|(n, v)| (n.as_str(), v.as_str())).chain([(name, value)]))
    }

    /// The first page of the same filters.
    pub(crate) fn first_page(&self) -> String {
        link(
            self.pairs
                .iter()
                .filter(|(n, _)| n != "cursor")
                .map(|(n, v)| (n.as_str(), v.as_str())),
        )
    }

    /// The page behind a cursor.
    pub(crate) fn page(&self, cursor: &str) -> String {
        self.with("cursor", cursor)
    }
}

fn choices(name: &str) -> Vec<(&'static str, &'static str)> {
    let words = |words: &[&'static str]| words.iter().map(|word| (*word, *word)).collect();
    match name {
        "kind" => words(&["application", "kernel", "immudb", "agent"]),
        "outcome" => words(&Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>()),
        "severity" => words(
            &Severity::ALL
                .iter()
                .map(|severity| severity.as_str())
                .collect::<Vec<_>>(),
        ),
        "read_only" => words(&["true", "false"]),
        "order" => vec![("asc", "oldest first")],
        _ => Vec::new(),
    }
}

/// A day, or a day and a time without an offset, as RFC 3339 in UTC; everything else as it is.
fn full_time(value: &str) -> String {
    let value = value.trim();
    let has_shape = |shape: &str| {
        value.len() == shape.len()
            && value
                .bytes()
                .zip(shape.bytes())
                .all(|(v, s)| if s == b'0' { v.is_ascii_digit() } else { v == s })
    };
    if has_shape("0000-00-00") {
        return format!("{value}T00:00:00Z");
    }
    let spaced = value.replacen(' ', "T", 1);
    match spaced.len() {
        16 if spaced.as_bytes()[10] == b'T' => format!("{spaced}:00Z"),
        19.. if spaced
            .get(19..)
            .is_some_and(|rest| !rest.contains(['Z', 'z', '+', '-'])) =>
        {
            format!("{spaced}Z")
        }
        _ => spaced,
    }
}

/// A link to the events with these parameters.
pub(crate) fn link<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("/");
    for (name, value) in pairs {
        out.push(if out.len() == 1 { '?' } else { '&' });
        escape(name, &mut out);
        out.push('=');
        escape(value, &mut out);
    }
    out
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            // Writing to a string can't fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_and_a_minute_are_times() {
        for (text, full) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31 08:30", "2026-01-31T08:30:00Z"),
            ("2026-01-31T08:30", "2026-01-31T08:30:00Z"),
            ("2026-01-31 08:30:01.5", "2026-01-31T08:30:01.5Z"),
            ("2026-01-31T08:30:01+02:00", "2026-01-31T08:30:01+02:00"),
            ("2026-01-31T08:30:01.123Z", "2026-01-31T08:30:01.123Z"),
            ("monday", "monday"),
            ("ääääääääää", "ääääääääää"),
            ("ääääääääääääääää ä", "ääääääääääääääääTä"),
        ] {
            let made = full_time(text);
            assert!(made == full || !text.is_ascii(), "{text}: {made}");
        }
    }

    #[test]
    fn links_keep_filters_and_escape_values() {
        let pairs = [("username", "a&b=<ü>"), ("kind", ""), ("cursor", "c"), ("order", "asc")];
        let form = Form::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
        assert_eq!(
            form.with("kind", "kernel"),
            "/?username=a%26b%3D%3C%C3%BC%3E&order=asc&kind=kernel"
        );
        assert_eq!(form.page("d"), "/?username=a%26b%3D%3C%C3%BC%3E&order=asc&cursor=d");
        assert_eq!(form.first_page(), "/?username=a%26b%3D%3C%C3%BC%3E&order=asc");
        assert_eq!((form.begin(), form.onward()), ("Oldest", "Newer"));
    }
}
