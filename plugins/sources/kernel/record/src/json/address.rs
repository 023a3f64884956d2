//! A socket address as a JSON object.

use super::text::{append_hex, number, string};
use crate::saddr::{SockAddr, family_name};

/// Writes `{"family":…}` with `addr`, `port`, `path`, `abstract`, … as the family has them.
pub(super) fn write(address: &SockAddr<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"family\":");
    match address.family() {
        Some(family) => match family_name(family) {
            Some(name) => drop(string(name.as_bytes(), out)),
            None => {
                out.push(b'"');
                number(u64::from(family), out);
                out.push(b'"');
            }
        },
        None => out.extend_from_slice(b"null"),
    }
    match address {
        SockAddr::Inet { addr, port } => {
            text("addr", addr.to_string().as_bytes(), out);
            integer("port", u64::from(*port), out);
        }
        SockAddr::Inet6 {
            addr,
            port,
            flow,
            scope,
        } => {
            text("addr", addr.to_string().as_bytes(), out);
            integer("port", u64::from(*port), out);
            integer("flow", u64::from(*flow), out);
            integer("scope", u64::from(*scope), out);
        }
        SockAddr::UnixPath(path) => text("path", path, out),
        SockAddr::UnixAbstract(name) => text("abstract", name, out),
        SockAddr::Netlink { pid, groups } => {
            integer("pid", u64::from(*pid), out);
            integer("groups", u64::from(*groups), out);
        }
        SockAddr::Packet {
            protocol,
            interface,
            hardware,
        } => {
            integer("protocol", u64::from(*protocol), out);
            name("interface", out);
            out.extend_from_slice(interface.to_string().as_bytes());
            name("hardware", out);
            out.push(b'"');
            append_hex(hardware, out);
            out.push(b'"');
        }
        SockAddr::Vsock { cid, port } => {
            integer("cid", u64::from(*cid), out);
            integer("port", u64::from(*port), out);
        }
        SockAddr::Short(_) | SockAddr::Empty => out.extend_from_slice(b",\"short\":true"),
        SockAddr::UnixUnnamed | SockAddr::Other(_) => {}
    }
    out.push(b'}');
}

fn name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn integer(member: &str, value: u64, out: &mut Vec<u8>) {
    name(member, out);
    number(value, out);
}

fn text(member: &str, value: &[u8], out: &mut Vec<u8>) {
    name(member, out);
    if !string(value, out) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(member.as_bytes());
        out.extend_from_slice(b"_hex\":\"");
        append_hex(value, out);
        out.push(b'"');
    }
}
