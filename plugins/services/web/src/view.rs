//! Events as the templates show them.

use askama::Template;
use auditmon_core::event::{self, EventView};
use auditmon_core::reader::{Page, Stored};
use auditmon_core::time;
use serde::Deserialize;

use crate::form::{Form, link};
use crate::json::pretty;

/// Longest command line in the list, in bytes.
const ARGV_IN_LIST: usize = 240;
/// Longest text of a member in the list, in bytes.
const TEXT_IN_LIST: usize = 200;

/// The list of events with its filters.
#[derive(Template)]
#[template(path = "events.html")]
pub(crate) struct EventsPage<'a> {
    pub(crate) base: &'a str,
    pub(crate) host: &'a str,
    pub(crate) form: &'a Form,
    /// What is wrong with what was asked.
    pub(crate) problem: Option<String>,
    pub(crate) list: Option<List<'a>>,
}

/// A page of events.
pub(crate) struct List<'a> {
    pub(crate) rows: Vec<Row<'a>>,
    /// Where the next page is.
    pub(crate) older: Option<String>,
    /// How to send the first event.
    pub(crate) curl: String,
}

/// A line of the list.
pub(crate) struct Row<'a> {
    pub(crate) id: String,
    pub(crate) time: String,
    pub(crate) kind: &'a str,
    pub(crate) name: String,
    pub(crate) username: &'a str,
    pub(crate) resource: Option<&'a str>,
    pub(crate) outcome: &'static str,
    pub(crate) severity: &'static str,
    pub(crate) argv: Option<String>,
}

/// One event.
#[derive(Template)]
#[template(path = "event.html")]
pub(crate) struct EventPage<'a> {
    base: &'a str,
    host: &'a str,
    name: String,
    id: String,
    kind: String,
    argv: Option<String>,
    members: Vec<Member>,
    data: String,
}

struct Member {
    name: &'static str,
    value: Option<String>,
    link: Option<String>,
}

/// A page with a message.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct Message<'a> {
    pub(crate) base: &'a str,
    pub(crate) host: &'a str,
    pub(crate) title: &'a str,
    pub(crate) paragraph: &'a str,
    /// What to type.
    pub(crate) command: Option<&'a str>,
    /// Whether going to the events helps.
    pub(crate) back: bool,
}

impl<'a> List<'a> {
    /// The events of a page that can be read; the store has no others.
    pub(crate) fn new(page: &'a Page, views: &'a [EventView<'a>], form: &Form, curl: String) -> Self {
        Self {
            rows: views.iter().map(Row::new).collect(),
            older: page.next.as_deref().map(|next| form.page(next)),
            curl,
        }
    }
}

impl<'a> Row<'a> {
    fn new(view: &'a EventView<'a>) -> Self {
        Self {
            id: view.event_id.to_string(),
            time: view.event_time.to_string(),
            kind: &view.kind,
            name: shortened(&view.event_name, TEXT_IN_LIST),
            username: &view.username,
            resource: view.resource.as_deref(),
            outcome: view.outcome.as_str(),
            severity: view.severity.as_str(),
            argv: argv(view).map(|argv| shortened(&argv, ARGV_IN_LIST)),
        }
    }

    fn date(&self) -> &str {
        self.time.split('T').next().unwrap_or_default()
    }

    /// To the millisecond; all digits are in the event.
    fn clock(&self) -> &str {
        self.time.get(11..23).unwrap_or_default()
    }

    fn loud(&self) -> bool {
        self.severity != "info"
    }
}

impl<'a> EventPage<'a> {
    pub(crate) fn new(base: &'a str, host: &'a str, stored: &Stored, view: &EventView<'_>) -> Self {
        let mut received = Vec::with_capacity(30);
        time::write_nanos(stored.received, &mut received);
        let same = |name: &'static str, value: &str| Member {
            name,
            value: Some(value.to_owned()),
            link: Some(link([(name, value)])),
        };
        let plain = |name: &'static str, value: String| Member {
            name,
            value: Some(value),
            link: None,
        };
        let none = |name: &'static str| Member {
            name,
            value: None,
            link: None,
        };
        let optional = |name, value: Option<&str>| value.map_or_else(|| none(name), |value| same(name, value));
        let read_only = if view.read_only { "true" } else { "false" };
        Self {
            base,
            host,
            name: view.event_name.to_string(),
            id: view.event_id.to_string(),
            kind: view.kind.to_string(),
            argv: argv(view),
            data: pretty(view.event_data.get()),
            members: vec![
                plain("event_id", view.event_id.to_string()),
                plain("event_time", view.event_time.to_string()),
                same("event_name", &view.event_name),
                same("username", &view.username),
                optional("resource", view.resource.as_deref()),
                same("event_source", &view.event_source),
                same("source_ip_address", &view.source_ip_address),
                optional("request_id", view.request_id.as_deref()),
                same("read_only", read_only),
                same("kind", &view.kind),
                same("host", &view.host),
                same("outcome", view.outcome.as_str()),
                same("severity", view.severity.as_str()),
                plain("origin", stored.origin.clone()),
                plain("seq", stored.seq.to_string()),
                plain("received_time", String::from_utf8_lossy(&received).into_owned()),
            ],
        }
    }
}

fn shortened(text: &str, max: usize) -> String {
    let cut = event::cut(text, max);
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut.to_owned()
    }
}

/// What a kernel event ran, as a shell would read it.
fn argv(view: &EventView<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Exec {
        argv: Vec<String>,
    }
    if view.kind != "kernel" {
        return None;
    }
    let exec: Exec = serde_json::from_str(view.event_data.get()).ok()?;
    let words: Vec<String> = exec.argv.iter().map(|word| quoted(word)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // A line break or an escape sequence in an argument is shown, not done.
    let visible: String = word
        .chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect();
    format!("'{}'", visible.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn arguments_are_quoted_as_for_a_shell() {
        assert_eq!(quoted("--out=/tmp/x"), "--out=/tmp/x");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("a\nb\u{1b}"), "'a\\nb\\u{1b}'");
    }
}
