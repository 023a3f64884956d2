//! Events as arguments of one constant INSERT.

use std::sync::{Arc, LazyLock};

use auditmon_core::event::kind_str;
use auditmon_core::subscription::Event;
use auditmon_core::time;
use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;

/// Rows of the wide statement. A call costs about 20 µs of hand-over to SQLite's thread, which these share. By
/// `examples/insert.rs` on a busy machine, 50 took 14–15 µs of CPU time a row and 25 took 15–19; 100 could not be
/// told from 50.
pub(crate) const WIDTH: usize = 50;

/// Bits of a place that hold the seq.
pub(crate) const SEQ_BITS: u32 = 48;

/// In the order in which [`Rows::push`] binds them.
const COLUMNS: [&str; 17] = [
    "origin",
    "place",
    "received_time_ns",
    "event_time_ns",
    "kind",
    "event_name",
    "username",
    "resource",
    "event_source",
    "source_ip_address",
    "request_id",
    "read_only",
    "host",
    "outcome",
    "severity",
    "salt",
    "canonical",
];

/// Stores [`WIDTH`] events.
pub(crate) static INSERT_MANY: LazyLock<String> = LazyLock::new(|| insert(WIDTH));
/// Stores one event.
pub(crate) static INSERT_ONE: LazyLock<String> = LazyLock::new(|| insert(1));

/// Bare `?`, not `?1`: sqlx asks SQLite for the name of each parameter, which SQLite looks for in a list of all
/// that have one.
fn insert(rows: usize) -> String {
    let row = format!("({})", ["?"; COLUMNS.len()].join(", "));
    format!(
        "INSERT INTO events ({}) VALUES {}",
        COLUMNS.join(", "),
        vec![row; rows].join(", ")
    )
}

/// The place of a seq in the journal with this number; `None` beyond what 63 bits can say.
pub(crate) fn place(number: i64, seq: u64) -> Option<i64> {
    let number = u64::try_from(number)
        .ok()
        .filter(|number| *number < 1 << (63 - SEQ_BITS))?;
    (seq >> SEQ_BITS == 0)
        .then(|| i64::try_from(number << SEQ_BITS | seq).ok())
        .flatten()
}

/// Makes the arguments of statements.
pub(crate) struct Rows {
    origin: Arc<str>,
    number: i64,
    /// The last text of each column: neighbours often agree, and then share it.
    last: [Option<Arc<str>>; COLUMNS.len()],
}

impl Rows {
    pub(crate) fn new(origin: &str, number: i64) -> Self {
        Self {
            origin: Arc::from(origin),
            number,
            last: Default::default(),
        }
    }

    /// The arguments for these events.
    pub(crate) fn arguments(&mut self, events: &[Event<'_>]) -> Result<SqliteArguments, String> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(events.len() * COLUMNS.len(), 0);
        events.iter().try_for_each(|event| self.push(event, &mut arguments))?;
        Ok(arguments)
    }

    fn push(&mut self, event: &Event<'_>, to: &mut SqliteArguments) -> Result<(), String> {
        let wrong = |what: &str| format!("record {} of {} is no event: {what}", event.seq, self.origin);
        let view = event.members().ok_or_else(|| wrong("its members are not in place"))?;
        let happened = time::parse(view.event_time()).map_err(|error| wrong(&format!("event_time {error}")))?;
        let place = place(self.number, event.seq).ok_or_else(|| wrong("its number is too large"))?;
        let nanos = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        let mut bind = || -> Result<(), BoxDynError> {
            to.add(Arc::clone(&self.origin))?;
            to.add(place)?;
            to.add(nanos(event.received))?;
            to.add(nanos(happened))?;
            self.text(4, kind_str(event.kind), to)?;
            self.text(5, &view.event_name(), to)?;
            self.text(6, &view.username(), to)?;
            self.optional(7, view.resource().as_deref(), to)?;
            self.text(8, &view.event_source(), to)?;
            self.text(9, view.source_ip_address(), to)?;
            self.optional(10, view.request_id().as_deref(), to)?;
            to.add(view.read_only())?;
            self.text(12, &view.host(), to)?;
            self.text(13, view.outcome().as_str(), to)?;
            self.text(14, view.severity().as_str(), to)?;
            to.add(event.salt.as_slice())?;
            to.add(event.canonical)
        };
        bind().map_err(|error| error.to_string())
    }

    fn text(&mut self, column: usize, text: &str, to: &mut SqliteArguments) -> Result<(), BoxDynError> {
        let last = &mut self.last[column];
        match last {
            Some(last) if **last == *text => to.add(Arc::clone(last)),
            _ => to.add(Arc::clone(last.insert(Arc::from(text)))),
        }
    }

    fn optional(&mut self, column: usize, text: Option<&str>, to: &mut SqliteArguments) -> Result<(), BoxDynError> {
        match text {
            Some(text) => self.text(column, text, to),
            None => to.add(None::<&str>),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_number_and_seq() {
        assert_eq!(place(0, 7), Some(7));
        assert_eq!(place(1, 7), Some(1 << 48 | 7));
        assert_eq!(place(0x7fff, (1 << 48) - 1), Some(i64::MAX));
        assert_eq!(place(0, 1 << 48), None);
        assert_eq!(place(0x8000, 0), None);
        assert_eq!(place(-1, 0), None);
    }
}
