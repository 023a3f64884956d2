//! Which index answers a query, and its SQL.
//!
//! SQLite without statistics can't know whether a range of times holds three rows or all; so we count up to a
//! bound first, which costs a millisecond, and then say which index to use. Few rows: take them by the index and
//! sort. Many: go through the table in the order that is asked for, since matches are then close together.

use std::fmt::Write as _;

use auditmon_core::event;
use auditmon_core::reader::{Query, ReadError};
use auditmon_core::time;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments as _, AssertSqlSafe};
use uuid::Uuid;

use crate::cursor::{Cursor, Order};
use crate::metrics::KINDS;

/// Rows that may be taken by an index and sorted.
const FEW: i64 = if cfg!(test) { 20 } else { 20_000 };

/// A value of a condition.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    Integer(i64),
    Text(String),
}

/// What a query asks, in terms of the table.
pub(crate) struct Wanted {
    /// Conditions that no index of ours serves: SQL with one `?` each.
    conditions: Vec<(&'static str, Value)>,
    username: Option<String>,
    kind: Option<&'static str>,
    /// Half-open range of `event_time_ns`.
    happened: Option<(i64, i64)>,
    /// Half-open range of `received_time_ns`, from an id.
    received: Option<(i64, i64)>,
}

/// How rows are found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Path {
    /// In the order of the table.
    Table,
    /// By an index and sorted, or by `events_username`, whose order is the table's.
    Index(&'static str),
    /// In the order of `events_kind`, kind by kind, and merged.
    Kinds,
}

/// The received time that an id carries, in ms, as a half-open range of ns.
pub(crate) fn received_range(id: Uuid) -> (i64, i64) {
    let millis = i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX);
    (
        millis.saturating_mul(1_000_000),
        millis.saturating_add(1).saturating_mul(1_000_000),
    )
}

impl Wanted {
    pub(crate) fn new(query: &Query) -> Result<Self, ReadError> {
        let bad = |name: &str| ReadError::Store(format!("the filter `{name}` has a value that it can't have"));
        let clamp = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        let mut wanted = Self {
            conditions: Vec::new(),
            username: None,
            kind: None,
            happened: None,
            received: None,
        };
        let (mut first, mut end) = (query.after.map_or(0, clamp), query.before.map_or(i64::MAX, clamp));
        for (name, value) in &query.filters {
            let text = || Value::Text(value.clone());
            match *name {
                "username" => wanted.username = Some(value.clone()),
                "kind" => wanted.kind = Some(event::parse_kind(value).map(event::kind_str).ok_or_else(|| bad(name))?),
                "event_time" => {
                    let at = time::parse(value).map(clamp).map_err(|_| bad(name))?;
                    (first, end) = (first.max(at), end.min(at.saturating_add(1)));
                }
                "event_id" => {
                    let id = Uuid::try_parse(value).map_err(|_| bad(name))?;
                    wanted.received = Some(received_range(id));
                    wanted
                        .conditions
                        .push(("event_id = ?", Value::Text(id.hyphenated().to_string())));
                }
                "read_only" => wanted
                    .conditions
                    .push(("read_only = ?", Value::Integer((value == "true").into()))),
                "event_name" => wanted.conditions.push(("event_name = ?", text())),
                "resource" => wanted.conditions.push(("resource = ?", text())),
                "event_source" => wanted.conditions.push(("event_source = ?", text())),
                "source_ip_address" => wanted.conditions.push(("source_ip_address = ?", text())),
                "request_id" => wanted.conditions.push(("request_id = ?", text())),
                "host" => wanted.conditions.push(("host = ?", text())),
                "outcome" => wanted.conditions.push(("outcome = ?", text())),
                "severity" => wanted.conditions.push(("severity = ?", text())),
                name => return Err(bad(name)),
            }
        }
        if first > 0 || end < i64::MAX {
            wanted.happened = Some((first, end.max(first)));
        }
        Ok(wanted)
    }

    /// Chooses the way to the rows.
    pub(crate) async fn path(&self, order: Order, connection: &mut SqliteConnection) -> Result<Path, sqlx::Error> {
        if self.received.is_some() {
            return Ok(Path::Kinds);
        }
        if let Some((first, end)) = self.happened {
            let sql = "SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_time
                       WHERE event_time_ns >= ?1 AND event_time_ns < ?2 LIMIT ?3)";
            let count: i64 = sqlx::query_scalar(sql)
                .bind(first)
                .bind(end)
                .bind(FEW + 1)
                .fetch_one(&mut *connection)
                .await?;
            if count <= FEW {
                return Ok(Path::Index("events_time"));
            }
        }
        if let Some(username) = &self.username {
            let sql =
                "SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_username WHERE username = ?1 LIMIT ?2)";
            let few = order == Order::Place || {
                let count: i64 = sqlx::query_scalar(sql)
                    .bind(username)
                    .bind(FEW + 1)
                    .fetch_one(&mut *connection)
                    .await?;
                count <= FEW
            };
            if few {
                return Ok(Path::Index("events_username"));
            }
        }
        if order == Order::Received {
            return Ok(Path::Kinds);
        }
        if let Some(kind) = self.kind {
            let sql = "SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_kind WHERE kind = ?1 LIMIT ?2)";
            let count: i64 = sqlx::query_scalar(sql)
                .bind(kind)
                .bind(FEW + 1)
                .fetch_one(&mut *connection)
                .await?;
            if count <= FEW {
                return Ok(Path::Index("events_kind"));
            }
        }
        Ok(Path::Table)
    }

    /// Where in the table a walk may begin, for a range of times that is large and far from the walk's start.
    /// Reads the index alone, all of the range: some 10 million entries a second.
    pub(crate) async fn bound(
        &self,
        path: Path,
        ascending: bool,
        connection: &mut SqliteConnection,
    ) -> Result<Option<i64>, sqlx::Error> {
        let Some((first, end)) = self.happened else {
            return Ok(None);
        };
        let far = if ascending { first > 0 } else { end < i64::MAX };
        if !far || !matches!(path, Path::Table | Path::Index("events_username")) {
            return Ok(None);
        }
        let sql = if ascending {
            "SELECT min(place) FROM events INDEXED BY events_time WHERE event_time_ns >= ?1 AND event_time_ns < ?2"
        } else {
            "SELECT max(place) FROM events INDEXED BY events_time WHERE event_time_ns >= ?1 AND event_time_ns < ?2"
        };
        sqlx::query_scalar(sql)
            .bind(first)
            .bind(end)
            .fetch_one(connection)
            .await
    }

    /// The statement that gives place, received time, origin and canonical bytes of a page.
    pub(crate) fn statement(
        &self,
        path: Path,
        from: &From,
        limit: i64,
    ) -> Result<(AssertSqlSafe<String>, SqliteArguments), ReadError> {
        let mut sql = Sql::default();
        sql.text
            .push_str("SELECT e.place, e.received_time_ns, e.origin, e.canonical FROM (");
        match path {
            Path::Kinds => {
                let kinds: &[&str] = match &self.kind {
                    Some(kind) => &[kind],
                    None => &KINDS,
                };
                sql.text.push_str("SELECT place, received_time_ns FROM (");
                for (n, kind) in kinds.iter().enumerate() {
                    sql.text.push_str(if n == 0 {
                        "SELECT * FROM ("
                    } else {
                        " UNION ALL SELECT * FROM ("
                    });
                    self.keys(&mut sql, " INDEXED BY events_kind", Some(kind), from, limit)?;
                    sql.text.push(')');
                }
                sql.text.push(')');
                from.order_by(&mut sql.text);
                sql.bind(" LIMIT ?", Value::Integer(limit))?;
            }
            Path::Table => self.keys(&mut sql, " NOT INDEXED", self.kind, from, limit)?,
            Path::Index(name) => self.keys(&mut sql, &format!(" INDEXED BY {name}"), self.kind, from, limit)?,
        }
        // CROSS JOIN keeps the order of the left side; the reader checks it.
        sql.text.push_str(") AS k CROSS JOIN events AS e ON e.place = k.place");
        Ok((AssertSqlSafe(sql.text), sql.arguments))
    }

    fn keys(&self, sql: &mut Sql, index: &str, kind: Option<&str>, from: &From, limit: i64) -> Result<(), ReadError> {
        let _ = write!(sql.text, "SELECT place, received_time_ns FROM events{index} WHERE 1");
        if let Some(kind) = kind {
            sql.bind(" AND kind = ?", Value::Text(kind.to_owned()))?;
        }
        if let Some(username) = &self.username {
            sql.bind(" AND username = ?", Value::Text(username.clone()))?;
        }
        for (column, range) in [("event_time_ns", self.happened), ("received_time_ns", self.received)] {
            if let Some((first, end)) = range {
                sql.bind(&format!(" AND {column} >= ?"), Value::Integer(first))?;
                sql.bind(&format!(" AND {column} < ?"), Value::Integer(end))?;
            }
        }
        for (condition, value) in &self.conditions {
            sql.bind(&format!(" AND {condition}"), value.clone())?;
        }
        from.write(sql)?;
        from.order_by(&mut sql.text);
        sql.bind(" LIMIT ?", Value::Integer(limit))
    }
}

/// Order of a page, and where it begins.
pub(crate) struct From {
    pub(crate) order: Order,
    pub(crate) ascending: bool,
    /// Behind this one.
    pub(crate) cursor: Option<Cursor>,
    /// From this place on, inclusive.
    pub(crate) bound: Option<i64>,
}

impl From {
    fn write(&self, sql: &mut Sql) -> Result<(), ReadError> {
        let beyond = if self.ascending { '>' } else { '<' };
        if let Some(bound) = self.bound {
            sql.bind(&format!(" AND place {beyond}= ?"), Value::Integer(bound))?;
        }
        match (&self.cursor, self.order) {
            (None, _) => Ok(()),
            (Some(cursor), Order::Place) => sql.bind(&format!(" AND place {beyond} ?"), Value::Integer(cursor.place)),
            (Some(cursor), Order::Received) => {
                sql.bind(
                    &format!(" AND (received_time_ns, place) {beyond} (?"),
                    Value::Integer(cursor.received),
                )?;
                sql.bind(", ?)", Value::Integer(cursor.place))
            }
        }
    }

    fn order_by(&self, sql: &mut String) {
        let direction = if self.ascending { "" } else { " DESC" };
        // Writing to a string can't fail.
        let _ = match self.order {
            Order::Place => write!(sql, " ORDER BY place{direction}"),
            Order::Received => write!(sql, " ORDER BY received_time_ns{direction}, place{direction}"),
        };
    }
}

/// SQL of constant pieces, with every value bound.
#[derive(Default)]
struct Sql {
    text: String,
    arguments: SqliteArguments,
}

impl Sql {
    fn bind(&mut self, text: &str, value: Value) -> Result<(), ReadError> {
        self.text.push_str(text);
        let bound = match value {
            Value::Integer(number) => self.arguments.add(number),
            Value::Text(text) => self.arguments.add(text),
        };
        bound.map_err(|error| ReadError::Store(error.to_string()))
    }
}
