//! Where events go. Path and query of such an address are often a secret: they are never shown.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A web address whose path and query `Debug` does not show.
#[derive(Clone, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Address(pub(crate) String);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok(url) => write!(f, "{}/***", url.origin().ascii_serialization()),
            Err(_) => f.write_str("***"),
        }
    }
}

impl Address {
    /// The address, if events can be sent there.
    ///
    /// # Errors
    /// What would be right; never a part of the address but its host.
    pub(crate) fn parse(&self) -> Result<Url, String> {
        let url = Url::parse(self.0.trim())
            .map_err(|error| format!("is no address such as https://siem.example.com/events: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("begins with https:// or http://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user or password; give them as a header in `headers_file`".to_owned());
        }
        if url.fragment().is_some() {
            return Err("has a part behind `#`, which is never sent".to_owned());
        }
        Ok(url)
    }
}

/// Parts of path and query that may be secrets: long, or not made of lower-case letters alone as words are.
pub(crate) fn secret_parts(url: &Url) -> impl Iterator<Item = &str> {
    let path = url.path_segments().into_iter().flatten();
    let query = url.query().into_iter().flat_map(|query| query.split(['&', '=']));
    path.chain(query).filter(|part| {
        let like_a_token = part
            .bytes()
            .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        part.len() >= if like_a_token { 8 } else { 20 }
    })
}

/// Whether what is sent there could be read on the way: plain HTTP, and not to this host itself.
pub(crate) fn is_open(url: &Url) -> bool {
    if url.scheme() == "https" {
        return false;
    }
    let host = url.host_str().unwrap_or_default();
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = plain
        .parse::<IpAddr>()
        .map_or(plain == "localhost", |address| address.is_loopback());
    !loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_without_being_shown() {
        let good = Address("https://siem.example.com:8443/in/T0P5ECRET?key=T0P5ECRET".to_owned());
        assert!(good.parse().is_ok());
        assert_eq!(format!("{good:?}"), "https://siem.example.com:8443/***");
        for (text, says) in [
            ("", "is no address"),
            ("siem.example.com/T0P5ECRET", "is no address"),
            ("https:///T0P5ECRET#", "#"),
            ("ftp://siem.example.com/T0P5ECRET", "begins with https://"),
            ("https://user:T0P5ECRET@siem.example.com/", "headers_file"),
            ("https://T0P5ECRET@siem.example.com/", "headers_file"),
            ("https://siem.example.com/#T0P5ECRET", "`#`"),
        ] {
            let address = Address(text.to_owned());
            let error = address.parse().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(
                !format!("{error} {address:?}").to_lowercase().contains("t0p5ecret"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn parts_like_tokens_are_secrets() {
        let parts = |text: &str| -> Vec<String> {
            let url = Url::parse(text).unwrap();
            secret_parts(&url).map(str::to_owned).collect()
        };
        assert_eq!(
            parts("https://h/services/T00000000/v1/Xab?notifications=yes"),
            ["T00000000"]
        );
        assert_eq!(parts("https://h/in?key=abcdefg1&x=abcdefgh"), ["abcdefg1"]);
        assert_eq!(parts("https://h/abcdefghijklmnopqrst"), ["abcdefghijklmnopqrst"]);
    }

    #[test]
    fn plain_http_is_open_beyond_this_host() {
        for (text, open) in [
            ("https://example.com/", false),
            ("http://localhost:1/", false),
            ("http://127.1.2.3/", false),
            ("http://[::1]:8080/", false),
            ("http://10.0.0.1/", true),
            ("http://localhost.example.com/", true),
            ("http://[2001:db8::1]/", true),
        ] {
            assert_eq!(is_open(&Url::parse(text).unwrap()), open, "{text}");
        }
    }
}
