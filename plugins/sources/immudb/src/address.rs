//! Where a server is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::{fmt, fs};

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

    /// Whether every host means itself by it.
    pub(crate) fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether it is this host: by a name or an address that every host has for itself, by this host's name, or by an
    /// address of its interfaces. Other names are not looked up.
    pub(crate) fn is_here(&self) -> bool {
        self.is_local()
            || self
                .host
                .parse()
                .map_or_else(|_| is_name_here(&self.host), is_address_here)
    }
}

/// Whether it is this host's name, as the kernel knows it.
fn is_name_here(host: &str) -> bool {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.is_ok_and(|name| name.trim().eq_ignore_ascii_case(host.trim_end_matches('.')))
}

/// Whether an interface of this host has the address: only then a socket gets it. Nothing is sent.
fn is_address_here(ip: IpAddr) -> bool {
    let has = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    // Kept for documentation, so nobody has them: where sockets get these, they get any.
    let nobody: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    !ip.is_multicast() && has(ip) && !has(nobody)
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
            assert_eq!(Endpoint::parse(text).unwrap().is_here(), local, "{text}");
        }
    }

    #[test]
    fn this_host_is_known_by_its_name_and_addresses() {
        let here = |text: &str| {
            let endpoint = Endpoint::parse(text).unwrap();
            assert!(!endpoint.is_local() || text == "0.0.0.0", "{text}");
            endpoint.is_here()
        };
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        if name.trim() != "localhost" {
            assert!(here(name.trim()), "{name}");
            assert!(here(&format!("{}:3322", name.trim().to_uppercase())), "{name}");
        }
        assert!(here("0.0.0.0"), "who connects to it gets this host");
        for text in ["192.0.2.7", "[2001:db8::7]", "224.0.0.1", "db1.example.com"] {
            assert!(!here(text), "{text}");
        }
        // The address that this host would call another one from; none without a way there.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.7:9").is_ok() {
            let own = socket.local_addr().unwrap().ip();
            assert!(own.is_loopback() || here(&own.to_string()), "{own}");
        }
    }
}
