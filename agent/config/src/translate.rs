//! Old keys whose values have to be said otherwise: a closed table of named translations.
//!
//! A field names its translation beside the old path: `"x-aliases" = [{"path": "settings.retention_days", "as": "days"}]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use config::{Value, ValueKind};

use crate::nearest;
use crate::shape::{Node, Shape, Text};

/// How an old value becomes a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Translation {
    /// As it is.
    None,
    /// A number of days becomes a duration.
    Days,
    /// A port becomes an address with the host of the address below it.
    Port,
    /// A database of the Go service is left alone; the store's is beside it.
    BesideV2,
    /// The Go service's names of databases.
    Backend,
}

impl Translation {
    /// The translation of this name; [`None`](Self::None) for a name that isn't known, which a test of the tree
    /// refuses.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "days" => Self::Days,
            "port" => Self::Port,
            "beside-v2" => Self::BesideV2,
            "backend" => Self::Backend,
            _ => Self::None,
        }
    }

    /// What the old value looks like; `target` is the new key.
    pub(crate) fn node(self, target: &Node) -> Node {
        let shape = match self {
            Self::None => return target.clone(),
            Self::Days => Shape::Integer {
                min: Some(1),
                max: Some(100_000),
            },
            Self::Port => Shape::Integer {
                min: Some(0),
                max: Some(65_535),
            },
            Self::BesideV2 => Shape::Text(Text::Plain),
            // Upper and lower case were the same.
            Self::Backend => Shape::Text(Text::Plain),
        };
        let mut node = Node::new(shape, &target.description);
        node.secret = target.secret;
        node
    }

    /// The new value for an old one that fits [`node`](Self::node). `below` is the new key's value in the layers
    /// below. The error is a sentence.
    pub(crate) fn apply(self, value: ValueKind, below: Option<&Value>) -> Result<ValueKind, String> {
        match (self, value) {
            (Self::Days, ValueKind::I64(days)) => Ok(ValueKind::String(format!("{days}d"))),
            (Self::Port, ValueKind::I64(port)) => {
                let listen = below.and_then(|value| match &value.kind {
                    ValueKind::String(text) => text.parse::<SocketAddr>().ok(),
                    _ => None,
                });
                let host = listen.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |listen| listen.ip());
                let port = u16::try_from(port).map_err(|_| format!("expected a port, found {port}"))?;
                Ok(ValueKind::String(SocketAddr::new(host, port).to_string()))
            }
            (Self::BesideV2, ValueKind::String(file)) => {
                if file.is_empty() {
                    return Err("expected a file, found nothing".to_owned());
                }
                // The Go service's path was relative to its working directory, the store's is to the data directory.
                let path = std::path::absolute(Path::new(&file))
                    .map_err(|error| format!("the working directory can't be found: {error}"))?;
                Ok(ValueKind::String(format!("{}.v2", path.display())))
            }
            (Self::Backend, ValueKind::String(word)) => match word.to_ascii_lowercase().as_str() {
                "sqlite3" | "sqlite" => Ok(ValueKind::String("sqlite".to_owned())),
                "postgres" => Ok(ValueKind::String("postgres".to_owned())),
                _ => Err(format!(
                    "expected `sqlite3` or `postgres`, found `{}`{}",
                    nearest::shown(&word),
                    nearest::phrase(&word, ["sqlite3", "postgres"])
                )),
            },
            (_, value) => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(translation: Translation, value: impl Into<ValueKind>, below: Option<&str>) -> Result<String, String> {
        let below = below.map(Value::from);
        let value = translation.apply(value.into(), below.as_ref())?;
        Ok(Value::new(None, value).into_string().unwrap())
    }

    #[test]
    fn old_values_become_new_ones() {
        assert_eq!(apply(Translation::Days, 365_i64, None).unwrap(), "365d");
        assert_eq!(apply(Translation::Port, 80_i64, None).unwrap(), "127.0.0.1:80");
        assert_eq!(apply(Translation::Port, 80_i64, Some("[::]:1")).unwrap(), "[::]:80");
        assert_eq!(apply(Translation::BesideV2, "/d/a.db", None).unwrap(), "/d/a.db.v2");
        let here = std::env::current_dir().unwrap().join("a.db.v2");
        assert_eq!(
            apply(Translation::BesideV2, "a.db", None).unwrap(),
            here.display().to_string()
        );
        assert_eq!(apply(Translation::Backend, "SQLite3", None).unwrap(), "sqlite");
        assert_eq!(apply(Translation::Backend, "Postgres", None).unwrap(), "postgres");
    }

    #[test]
    fn what_has_no_new_form_says_so() {
        let says = apply(Translation::Backend, "sqlite4", None).unwrap_err();
        assert_eq!(
            says,
            "expected `sqlite3` or `postgres`, found `sqlite4`, did you mean `sqlite3`?"
        );
        assert!(apply(Translation::Port, 70_000_i64, None).is_err());
        assert!(apply(Translation::BesideV2, "", None).is_err());
    }
}
