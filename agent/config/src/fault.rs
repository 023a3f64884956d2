//! What is wrong, where, and what would be right.

use std::fmt;

/// Where a value comes from. Ordered as faults are told: by line, then environment, then command line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Place {
    /// Line and column of a file.
    File(u32, u32, String),
    /// A variable.
    Environment(String),
    /// An option.
    CommandLine(String),
    /// Nobody gave it.
    Default,
}

const ENVIRONMENT: &str = "environment ";
const COMMAND_LINE: &str = "command line ";
const DEFAULT: &str = "default";

impl Place {
    /// Reads what [`fmt::Display`] wrote; the `config` crate carries places as text.
    pub(crate) fn parse(text: &str) -> Self {
        if let Some(name) = text.strip_prefix(ENVIRONMENT) {
            return Self::Environment(name.to_owned());
        }
        if let Some(option) = text.strip_prefix(COMMAND_LINE) {
            return Self::CommandLine(option.to_owned());
        }
        let mut parts = text.rsplitn(3, ':');
        let mut number = || parts.next()?.parse().ok();
        match (number(), number(), parts.next()) {
            (Some(column), Some(line), Some(file)) => Self::File(line, column, file.to_owned()),
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(line, column, file) => write!(f, "{file}:{line}:{column}"),
            Self::Environment(name) => write!(f, "{ENVIRONMENT}{name}"),
            Self::CommandLine(option) => write!(f, "{COMMAND_LINE}{option}"),
            Self::Default => f.write_str(DEFAULT),
        }
    }
}

/// One fault: a line of its own.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    /// As it is written at its place.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(place: &Place, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            path: path.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = self.text.replace('\n', "; ");
        if self.path.is_empty() {
            write!(f, "{}: {one_line}", self.place)
        } else {
            write!(f, "{}: {}: {one_line}", self.place, self.path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_as_text_and_sort_as_told() {
        let places = [
            Place::File(3, 5, "/etc/a:b.yaml".to_owned()),
            Place::File(12, 1, "/etc/a:b.yaml".to_owned()),
            Place::Environment("AUDITMON_HOST".to_owned()),
            Place::CommandLine("--enable web".to_owned()),
            Place::Default,
        ];
        for place in &places {
            assert_eq!(&Place::parse(&place.to_string()), place);
        }
        assert!(places.is_sorted());
    }
}
