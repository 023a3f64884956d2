//! Socket addresses as a program passed them (`saddr=` of SOCKADDR records).
//!
//! Layouts: reference, section 19. The length is whatever the program gave, 2 to 128 bytes, so
//! every family checks its own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A decoded socket address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SockAddr<'a> {
    /// `AF_INET`.
    Inet {
        /// Address.
        addr: Ipv4Addr,
        /// Port.
        port: u16,
    },
    /// `AF_INET6`.
    Inet6 {
        /// Address.
        addr: Ipv6Addr,
        /// Port.
        port: u16,
        /// Flow label and class; 0 where the program's structure ends before it.
        flow: u32,
        /// Interface; 0 for none.
        scope: u32,
    },
    /// `AF_UNIX` in the file system: bytes up to the first NUL.
    UnixPath(&'a [u8]),
    /// `AF_UNIX`, abstract: all bytes after the leading NUL.
    UnixAbstract(&'a [u8]),
    /// `AF_UNIX` without a name.
    UnixUnnamed,
    /// `AF_NETLINK`.
    Netlink {
        /// Port id.
        pid: u32,
        /// Multicast groups.
        groups: u32,
    },
    /// `AF_PACKET`.
    Packet {
        /// Ethernet protocol number.
        protocol: u16,
        /// Interface number.
        interface: i32,
        /// Hardware address, at most 8 bytes.
        hardware: &'a [u8],
    },
    /// `AF_VSOCK`.
    Vsock {
        /// Context id.
        cid: u32,
        /// Port.
        port: u32,
    },
    /// A family without a decoder, `AF_UNSPEC` (0) among them.
    Other(u16),
    /// A known family whose structure is shorter than it has to be.
    Short(u16),
    /// Fewer than two bytes.
    Empty,
}

/// Decodes an address. Integers that are not in network order are those of this machine.
#[must_use]
pub fn decode(bytes: &[u8]) -> SockAddr<'_> {
    let Some((family, rest)) = bytes.split_first_chunk::<2>() else {
        return SockAddr::Empty;
    };
    let family = u16::from_ne_bytes(*family);
    let known = match family {
        1 => Some(unix(rest)),
        2 => inet(rest),
        10 => inet6(rest),
        16 => netlink(rest),
        17 => packet(rest),
        40 => vsock(rest),
        _ => return SockAddr::Other(family),
    };
    known.unwrap_or(SockAddr::Short(family))
}

/// Name of an address family, in lower case without `AF_`.
///
/// Source: `auparse/famtab.h`, the families that occur.
#[must_use]
pub const fn family_name(family: u16) -> Option<&'static str> {
    Some(match family {
        0 => "unspec",
        1 => "unix",
        2 => "inet",
        3 => "ax25",
        4 => "ipx",
        5 => "appletalk",
        9 => "x25",
        10 => "inet6",
        15 => "key",
        16 => "netlink",
        17 => "packet",
        29 => "can",
        30 => "tipc",
        31 => "bluetooth",
        38 => "alg",
        40 => "vsock",
        44 => "xdp",
        _ => return None,
    })
}

impl<'a> SockAddr<'a> {
    /// The number of the family; `None` if there were not even two bytes.
    #[must_use]
    pub const fn family(&self) -> Option<u16> {
        Some(match self {
            Self::UnixPath(_) | Self::UnixAbstract(_) | Self::UnixUnnamed => 1,
            Self::Inet { .. } => 2,
            Self::Inet6 { .. } => 10,
            Self::Netlink { .. } => 16,
            Self::Packet { .. } => 17,
            Self::Vsock { .. } => 40,
            Self::Other(family) | Self::Short(family) => *family,
            Self::Empty => return None,
        })
    }

    /// The address as one text: `192.0.2.1:443`, `[fe80::1%2]:443`, a path, `@abstract`,
    /// `netlink:PID`, `vsock:CID:PORT`; `None` where nothing names a peer.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = match self {
            Self::UnixPath(path) => return Some(Cow::Borrowed(path)),
            Self::UnixAbstract(name) => return Some(Cow::Owned([b"@", *name].concat())),
            Self::Inet { addr, port } => write!(text, "{addr}:{port}"),
            Self::Inet6 {
                addr, port, scope: 0, ..
            } => write!(text, "[{addr}]:{port}"),
            Self::Inet6 { addr, port, scope, .. } => write!(text, "[{addr}%{scope}]:{port}"),
            Self::Netlink { pid, .. } => write!(text, "netlink:{pid}"),
            Self::Vsock { cid, port } => write!(text, "vsock:{cid}:{port}"),
            Self::Packet { .. } | Self::UnixUnnamed | Self::Other(_) | Self::Short(_) | Self::Empty => return None,
        };
        Some(Cow::Owned(text.into_bytes()))
    }
}

fn unix(rest: &[u8]) -> SockAddr<'_> {
    match rest {
        [] => SockAddr::UnixUnnamed,
        [0, name @ ..] => SockAddr::UnixAbstract(name),
        _ => {
            let end = memchr::memchr(0, rest).unwrap_or(rest.len());
            SockAddr::UnixPath(rest.get(..end).unwrap_or_default())
        }
    }
}

fn inet(rest: &[u8]) -> Option<SockAddr<'_>> {
    let (port, rest) = rest.split_first_chunk()?;
    let (addr, _) = rest.split_first_chunk::<4>()?;
    Some(SockAddr::Inet {
        addr: Ipv4Addr::from(*addr),
        port: u16::from_be_bytes(*port),
    })
}

fn inet6(rest: &[u8]) -> Option<SockAddr<'_>> {
    let (port, rest) = rest.split_first_chunk()?;
    let (flow, rest) = rest.split_first_chunk()?;
    let (addr, rest) = rest.split_first_chunk::<16>()?;
    // Old programs pass 24 bytes, without the scope.
    let scope = rest.first_chunk().map_or(0, |scope| u32::from_ne_bytes(*scope));
    Some(SockAddr::Inet6 {
        addr: Ipv6Addr::from(*addr),
        port: u16::from_be_bytes(*port),
        flow: u32::from_be_bytes(*flow),
        scope,
    })
}

fn netlink(rest: &[u8]) -> Option<SockAddr<'_>> {
    let (_, rest) = rest.split_first_chunk::<2>()?;
    let (pid, rest) = rest.split_first_chunk()?;
    let groups = rest.first_chunk()?;
    Some(SockAddr::Netlink {
        pid: u32::from_ne_bytes(*pid),
        groups: u32::from_ne_bytes(*groups),
    })
}

fn packet(rest: &[u8]) -> Option<SockAddr<'_>> {
    let (protocol, rest) = rest.split_first_chunk()?;
    let (interface, rest) = rest.split_first_chunk()?;
    let (_hardware_type, rest) = rest.split_first_chunk::<2>()?;
    let (_packet_type, rest) = rest.split_first()?;
    let (length, rest) = rest.split_first()?;
    let length = usize::from(*length).min(8).min(rest.len());
    Some(SockAddr::Packet {
        protocol: u16::from_be_bytes(*protocol),
        interface: i32::from_ne_bytes(*interface),
        hardware: rest.get(..length)?,
    })
}

fn vsock(rest: &[u8]) -> Option<SockAddr<'_>> {
    let (_, rest) = rest.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk()?;
    let cid = rest.first_chunk()?;
    Some(SockAddr::Vsock {
        cid: u32::from_ne_bytes(*cid),
        port: u32::from_ne_bytes(*port),
    })
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    fn text(digits: &str) -> String {
        let bytes = hex::decode(digits).unwrap_or_default();
        let address = decode(&bytes);
        let text = address.text().map(|t| String::from_utf8_lossy(&t).into_owned());
        text.unwrap_or_else(|| format!("{address:?}"))
    }

    #[test]
    fn recorded_addresses() {
        assert_eq!(text("020000097F0000010000000000000000"), "127.0.0.1:9");
        assert_eq!(
            text("0A0001BB000123450000000000000000000000000000000101000000"),
            "[::1%1]:443"
        );
        assert_eq!(
            text("0A0001BB0001234500000000000000000000FFFFC000020101000000"),
            "[::ffff:192.0.2.1%1]:443"
        );
        assert_eq!(
            text("0A0001BB00012345FE800000000000000000000000000001"),
            "[fe80::1]:443"
        );
        assert_eq!(text("01002F72756E2F780000"), "/run/x");
        assert_eq!(text("01000061620063"), "@ab\0c");
        assert_eq!(text("0100"), "UnixUnnamed");
        assert_eq!(text("100000000700000001000000"), "netlink:7");
        assert_eq!(text("280000005000000003000000"), "vsock:3:80");
        assert_eq!(text("0000"), "Other(0)");
        assert_eq!(text("020000"), "Short(2)");
        assert_eq!(text("02"), "Empty");
    }

    #[test]
    fn no_length_fails() {
        for family in 0..=50_u8 {
            for length in 0..130 {
                let mut bytes = vec![family, 0];
                bytes.resize(2 + length, 0xff);
                let _ = decode(&bytes).text();
            }
        }
    }
}
