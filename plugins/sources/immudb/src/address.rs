//! Where a server is.

use std::fmt;
use std::net::IpAddr;

/// immudb's port.
const PORT: u16 = 3322;

/// A server's address in one form; what is trusted is kept under it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads `host`, `host:port`, `1.2.3.4:port`, `[::1]:port`.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected host:port, such as db1.example.com:3322, found `{text}`");
        let text = text.trim();
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or_else(wrong)?),
            };
            (host, port)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let ip = host.parse::<IpAddr>().is_ok();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !ip && (host.is_empty() || host.len() > 253 || !host.bytes().all(plain)) {
            return Err(wrong());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
            None => PORT,
        };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// The host alone.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is this host, as far as the name tells.
    pub(crate) fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_each() {
        for (text, form) in [
            ("db1", "db1:3322"),
            ("DB1.example.com:1", "db1.example.com:1"),
            ("10.0.0.1", "10.0.0.1:3322"),
            ("[::1]", "[::1]:3322"),
            ("[::1]:65535", "[::1]:65535"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), form);
        }
        for text in [
            "", ":1", "a:0", "a:65536", "a:b", "::1", "[::1", "[x]:1", "[::1]1", "http://a", "a/b", "a b",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_host_is_known() {
        for (text, local) in [
            ("localhost", true),
            ("127.0.0.2", true),
            ("[::1]", true),
            ("db1", false),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().is_local(), local, "{text}");
        }
    }
}
