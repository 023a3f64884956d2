//! Keys of the Go service that have no effect (yet). The other ones are old names of keys that exist, and are declared
//! by their owners.
//!
//! The 31 keys are those of the Go service's sample file.

use crate::shape::{Node, Shape, Text};

/// The kinds of values that the Go service had.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Secret,
    Switch,
}

/// Path, kind, and why it does nothing.
type Row = (&'static str, Kind, &'static str);

const POSTGRES: &str = "has no effect: it is for PostgreSQL, which comes with a later version; SQLite needs none";
const PASSWORDS: &str =
    "has no effect yet: users with passwords come with a later version; the page opens by a one-time address";
const QUERIES: &str = "has no effect yet: the page shows a bounded number of events at a time";
const INFLUX: &str = "has no effect: nothing is sent to InfluxDB; metrics are at /metrics, for Prometheus";
const MAIL: &str = "has no effect yet: nothing is mailed";
const SESSIONS: &str = "has no effect yet: how long a session lasts can't be set";

const ROWS: [Row; 26] = [
    ("database.host", Kind::Text, POSTGRES),
    ("database.port", Kind::Number, POSTGRES),
    ("database.ssl_mode", Kind::Text, POSTGRES),
    ("database.username", Kind::Text, POSTGRES),
    ("database.password", Kind::Secret, POSTGRES),
    ("database.name", Kind::Text, POSTGRES),
    ("settings.max_query_days", Kind::Number, QUERIES),
    ("settings.max_results", Kind::Number, QUERIES),
    (
        "durability.buffer_location",
        Kind::Text,
        "has no effect: events are in the journal before they are accepted, and wait there; what the Go service left \
         in this directory is not looked at",
    ),
    ("security.min_password_length", Kind::Number, PASSWORDS),
    ("security.max_password_age_days", Kind::Number, PASSWORDS),
    ("security.max_password_reuse", Kind::Number, PASSWORDS),
    ("security.initial_user", Kind::Text, PASSWORDS),
    ("security.initial_password", Kind::Secret, PASSWORDS),
    ("security.session_max_seconds", Kind::Number, SESSIONS),
    // As the Go service's variable was really called.
    ("security.max_session_seconds", Kind::Number, SESSIONS),
    ("security.max_failed_logins", Kind::Number, PASSWORDS),
    ("security.lockout_duration_seconds", Kind::Number, PASSWORDS),
    (
        "security.session_secret",
        Kind::Secret,
        "has no effect: sessions are random and kept by the agent; there is nothing to sign",
    ),
    ("metrics.send_influx", Kind::Switch, INFLUX),
    ("metrics.influx_url", Kind::Text, INFLUX),
    ("metrics.influx_user", Kind::Text, INFLUX),
    ("metrics.influx_password", Kind::Secret, INFLUX),
    ("metrics.influx_db", Kind::Text, INFLUX),
    ("mailer.from", Kind::Text, MAIL),
    ("mailer.backend", Kind::Text, MAIL),
];

/// Pairs of spellings of one key.
pub(crate) const TWINS: [(&str, &str); 1] = [("security.session_max_seconds", "security.max_session_seconds")];

/// Each key with what may stand there; `no_effect` says why it does nothing.
pub(crate) fn keys() -> impl Iterator<Item = (&'static str, Node)> {
    ROWS.into_iter().map(|(path, kind, says)| {
        let shape = match kind {
            Kind::Number => Shape::Integer { min: None, max: None },
            Kind::Text | Kind::Secret => Shape::Text(Text::Plain),
            Kind::Switch => Shape::Bool,
        };
        let mut node = Node::new(shape, "");
        node.secret = matches!(kind, Kind::Secret);
        node.no_effect = Some(says.to_owned());
        (path, node)
    })
}
