//! Further headers: from the configuration, and from a file where they are secrets.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most further headers.
const MAX: usize = 32;
/// Headers that the sink, or HTTP itself, sets.
const OURS: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Headers by name; `Debug` shows the names.
#[derive(Clone, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Headers(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "***"))).finish()
    }
}

impl Headers {
    /// Reads lines `Name: value`.
    ///
    /// # Errors
    /// The number of a line that is none; never what is in it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut headers = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: &str| format!("line {}: {what}", number + 1);
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("is not `Name: value`"))?;
            if headers
                .insert(name.to_ascii_lowercase(), value.trim().to_owned())
                .is_some()
            {
                return Err(wrong("this header stands twice"));
            }
        }
        Ok(Self(headers))
    }

    /// Adds them to what is sent; all values are marked as sensitive.
    ///
    /// # Errors
    /// Name of a header that can't be sent, and why; never its value.
    pub(crate) fn add_to(&self, all: &mut HeaderMap) -> Result<(), (String, String)> {
        for (name, value) in &self.0 {
            let wrong = |what: &str| Err((name.clone(), what.to_owned()));
            let Ok(parsed) = HeaderName::try_from(name.as_str()) else {
                return wrong("is no name of a header");
            };
            if OURS.contains(&parsed.as_str()) || parsed.as_str().starts_with("webhook-") {
                return wrong("is set by the sink itself");
            }
            let Ok(mut value) = HeaderValue::try_from(value.as_str()) else {
                return wrong("its value holds what a header can't");
            };
            value.set_sensitive(true);
            if all.insert(parsed, value).is_some() {
                return wrong("stands twice");
            }
        }
        if all.len() > MAX {
            return Err((String::new(), format!("{} headers, at most {MAX}", all.len())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Headers {
        Headers(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn a_file_holds_a_header_a_line() {
        let headers = Headers::read("DD-API-KEY: hush:hush \r\n\nAuthorization:Splunk 123\n").unwrap();
        assert_eq!(
            headers,
            of(&[("dd-api-key", "hush:hush"), ("authorization", "Splunk 123")])
        );
        assert_eq!(
            format!("{headers:?}"),
            r#"{"authorization": "***", "dd-api-key": "***"}"#
        );
        let error = Headers::read("A: 1\nhush").unwrap_err();
        assert_eq!(error, "line 2: is not `Name: value`");
        let error = Headers::read("A: hush\na: hush").unwrap_err();
        assert_eq!(error, "line 2: this header stands twice");
    }

    #[test]
    fn what_can_not_be_sent_is_refused_without_its_value() {
        for (name, value, says) in [
            ("a b", "hush", "is no name"),
            ("", "hush", "is no name"),
            ("X-Key", "hush\nInjected: 1", "can't"),
            ("Content-Length", "1", "set by the sink"),
            ("HOST", "hush", "set by the sink"),
            ("Webhook-Id", "hush", "set by the sink"),
        ] {
            let (named, error) = of(&[(name, value)]).add_to(&mut HeaderMap::new()).unwrap_err();
            assert_eq!(named, name);
            assert!(error.contains(says) && !error.contains("hush"), "{name}: {error}");
        }
    }

    #[test]
    fn they_are_sensitive_bounded_and_there_once() {
        let mut all = HeaderMap::new();
        of(&[("X-Key", "hush")]).add_to(&mut all).unwrap();
        assert!(!format!("{all:?}").contains("hush"));
        assert!(
            of(&[("x-key", "other")])
                .add_to(&mut all)
                .unwrap_err()
                .1
                .contains("twice")
        );
        let many = Headers((0..33).map(|n| (format!("x-{n}"), String::new())).collect());
        assert!(many.add_to(&mut HeaderMap::new()).unwrap_err().1.contains("at most 32"));
    }
}
