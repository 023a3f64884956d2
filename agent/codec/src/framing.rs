//! How events stand in one body.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How events stand in one body.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// One event alone.
    #[default]
    Event,
    /// A JSON array of events, also of a single one.
    Array,
    /// One event a line, each line ended by a line feed.
    Ndjson,
}

impl Framing {
    /// Bytes before the first event, between two, after the last.
    pub(crate) const fn marks(self) -> [&'static [u8]; 3] {
        match self {
            Self::Event => [b"", b"", b""],
            Self::Array => [b"[", b",", b"]"],
            Self::Ndjson => [b"", b"\n", b"\n"],
        }
    }
}
