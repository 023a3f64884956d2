//! Reading stored events: the query, and the trait that a store implements.

use async_trait::async_trait;
use uuid::Uuid;

use crate::event::{self, EventView};
use crate::time::{self, Nanos};

/// Events a page has unless the caller says otherwise.
pub const DEFAULT_LIMIT: u32 = 100;
/// Most events a page can have.
pub const MAX_LIMIT: u32 = 1_000;

/// Members that a query can compare, each with its exact text.
pub const FILTERS: [&str; 13] = [
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
];

/// Which events, in which order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// Member and exact value; the member is one of [`FILTERS`].
    pub filters: Vec<(&'static str, String)>,
    /// `event_time` at or after.
    pub after: Option<Nanos>,
    /// `event_time` before.
    pub before: Option<Nanos>,
    /// 1 to [`MAX_LIMIT`].
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Oldest first.
    pub ascending: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            after: None,
            before: None,
            limit: DEFAULT_LIMIT,
            cursor: None,
            ascending: false,
        }
    }
}

impl Query {
    /// Reads the parameters of the API, the page and the command line.
    ///
    /// # Errors
    /// A sentence that names the parameter and what would be right.
    pub fn parse<N: AsRef<str>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, String> {
        let mut query = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in pairs {
            let (name, value): (&str, String) = (name.as_ref(), value.into());
            if seen.iter().any(|s| s == name) {
                return Err(format!("`{name}` is given twice"));
            }
            seen.push(name.to_owned());
            match name {
                "after" => query.after = Some(parse_time(name, &value)?),
                "before" => query.before = Some(parse_time(name, &value)?),
                "cursor" => query.cursor = Some(value),
                "limit" => {
                    query.limit = value
                        .parse()
                        .ok()
                        .filter(|n| (1..=MAX_LIMIT).contains(n))
                        .ok_or_else(|| {
                            format!("`limit` is a number from 1 to {MAX_LIMIT}, here `{}`", shown(&value))
                        })?;
                }
                "order" => {
                    query.ascending = match value.as_str() {
                        "asc" => true,
                        "desc" => false,
                        _ => return Err(format!("`order` is asc or desc, here `{}`", shown(&value))),
                    }
                }
                _ => query.filters.push(filter(name, value)?),
            }
        }
        Ok(query)
    }

    /// Whether an event is one of those asked for; limit, cursor and order don't matter.
    #[must_use]
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        let within = self.after.is_none() && self.before.is_none()
            || time::parse(&event.event_time).is_ok_and(|at| {
                self.after.is_none_or(|after| at >= after) && self.before.is_none_or(|before| at < before)
            });
        within
            && self.filters.iter().all(|(member, wanted)| {
                let has: Option<&str> = match *member {
                    // UUIDs have several spellings.
                    "event_id" => return Uuid::try_parse(wanted).ok() == Uuid::try_parse(&event.event_id).ok(),
                    "event_time" => Some(&event.event_time),
                    "event_name" => Some(&event.event_name),
                    "username" => Some(&event.username),
                    "resource" => event.resource.as_deref(),
                    "event_source" => Some(&event.event_source),
                    "source_ip_address" => Some(&event.source_ip_address),
                    "request_id" => event.request_id.as_deref(),
                    "read_only" => Some(if event.read_only { "true" } else { "false" }),
                    "kind" => Some(&event.kind),
                    "host" => Some(&event.host),
                    "outcome" => Some(event.outcome.as_str()),
                    "severity" => Some(event.severity.as_str()),
                    _ => None,
                };
                has == Some(wanted)
            })
    }
}

fn shown(value: &str) -> &str {
    event::cut(value, 64)
}

fn parse_time(name: &str, value: &str) -> Result<Nanos, String> {
    time::parse(value).map_err(|error| format!("`{name}` {error}, here `{}`", shown(value)))
}

fn filter(name: &str, value: String) -> Result<(&'static str, String), String> {
    let Some(known) = FILTERS.iter().find(|known| **known == name) else {
        let all = FILTERS.iter().chain(&["after", "before", "limit", "cursor", "order"]);
        let near = all
            .copied()
            .min_by_key(|known| strsim::damerau_levenshtein(name, known))
            .unwrap_or("limit");
        return Err(format!("`{}` is no parameter; did you mean `{near}`?", shown(name)));
    };
    let (words, good): (&str, bool) = match *known {
        "read_only" => ("true or false", matches!(value.as_str(), "true" | "false")),
        "kind" => (
            "application, kernel, immudb or agent",
            event::parse_kind(&value).is_some(),
        ),
        "outcome" => ("success, failure or unknown", event::Outcome::parse(&value).is_some()),
        "severity" => (
            "info, notice, warning, error or critical",
            event::Severity::parse(&value).is_some(),
        ),
        "event_id" => ("a UUID", Uuid::try_parse(&value).is_ok()),
        "event_time" => return Ok((known, time::format(parse_time(known, &value)?))),
        _ => ("", true),
    };
    if good {
        Ok((known, value))
    } else {
        Err(format!("`{known}` is {words}, here `{}`", shown(&value)))
    }
}

/// An event as a store holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The canonical bytes.
    pub canonical: Vec<u8>,
    /// The journal it is in.
    pub origin: String,
    /// Its place there.
    pub seq: u64,
    /// When its agent received it.
    pub received: Nanos,
}

impl Stored {
    /// The event as every JSON output shows it.
    pub fn write(&self, out: &mut Vec<u8>) {
        event::write_output(&self.canonical, &self.origin, self.seq, self.received, out);
    }
}

/// A page of events.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the order asked for.
    pub events: Vec<Stored>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// What a store knows of an id.
#[derive(Clone, Debug)]
pub enum Found {
    /// The event.
    Event(Stored),
    /// It was here; only its place is left.
    Gone,
    /// Never heard of.
    Missing,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The cursor is not one of this store's.
    #[error("`cursor` is not one that this agent gave out")]
    Cursor,
    /// The database failed.
    #[error("the store can't be read: {0}")]
    Store(String),
    /// The journal, which was asked about what the store doesn't have, failed.
    #[error("the journal can't be read: {0}")]
    Journal(String),
    /// It would take too long now; asking again can help.
    #[error("{0}")]
    Busy(&'static str),
}

/// Reads what a store holds.
#[async_trait]
pub trait EventReader: Send + Sync + 'static {
    /// A page of events.
    async fn query(&self, query: &Query) -> Result<Page, ReadError>;
    /// One event by id.
    async fn get(&self, id: Uuid) -> Result<Found, ReadError>;
    /// Seq up to which it has stored this journal: each event below is here, or was. 0 if it has nothing of it.
    async fn position(&self, origin: &str) -> Result<u64, ReadError>;
    /// Whether files of its own may still have what it deleted because it was erased.
    fn has_remains(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_parameters() {
        let query = Query::parse([
            ("username", "alice"),
            ("after", "2026-01-01T00:00:00Z"),
            ("limit", "5"),
            ("order", "asc"),
            ("cursor", "c"),
        ]);
        assert_eq!(
            query,
            Ok(Query {
                filters: vec![("username", "alice".to_owned())],
                after: Some(1_767_225_600_000_000_000),
                before: None,
                limit: 5,
                cursor: Some("c".to_owned()),
                ascending: true,
            })
        );
    }

    #[test]
    fn an_event_time_is_compared_in_canonical_form() {
        let query = Query::parse([("event_time", "2026-01-01T01:00:00+01:00")]).unwrap();
        assert_eq!(query.filters, [("event_time", "2026-01-01T00:00:00.000Z".to_owned())]);
    }

    #[test]
    fn bad_parameters_are_named() {
        for (pairs, says) in [
            (vec![("usrname", "a")], "did you mean `username`?"),
            (vec![("limit", "0")], "from 1 to 1000"),
            (vec![("limit", "1001")], "from 1 to 1000"),
            (vec![("order", "up")], "asc or desc"),
            (vec![("after", "monday")], "`after` is not an RFC 3339 time"),
            (vec![("kind", "kernal")], "application, kernel"),
            (vec![("event_data", "{}")], "no parameter"),
            (vec![("username", "a"), ("username", "b")], "twice"),
        ] {
            let error = Query::parse(pairs.clone()).unwrap_err();
            assert!(error.contains(says), "{pairs:?}: {error}");
        }
    }
}
