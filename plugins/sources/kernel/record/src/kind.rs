//! Record types: number, name, and how an event with such a record ends.

use std::borrow::Cow;
use std::fmt;

use crate::names::names;

/// The number of a record type (`nlmsg_type`).
///
/// Any number is valid: kernels grow, and what has no name here passes through as `UNKNOWN[n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

/// How an event ends whose record has this type (reference, section 17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The record is a whole event: user messages, daemon messages, `KERNEL`.
    Single,
    /// Part of a system call's event: EOE ends it, else PROCTITLE and a grace, else a timeout.
    Syscall,
    /// Usually alone, but companions may follow within a fraction of a second.
    Short,
}

impl RecordType {
    /// A message of old user space tools.
    pub const USER: Self = Self(1005);
    /// The login uid of a process was set.
    pub const LOGIN: Self = Self(1006);
    /// First type of the first user range.
    pub const USER_AUTH: Self = Self(1100);
    /// Freestyle text of a trusted application; heartbeats use it.
    pub const TRUSTED_APP: Self = Self(1121);
    /// A system call's entry arguments and result.
    pub const SYSCALL: Self = Self(1300);
    /// A path that a system call used.
    pub const PATH: Self = Self(1302);
    /// Arguments of the 32-bit `socketcall`.
    pub const SOCKETCALL: Self = Self(1304);
    /// Audit's own configuration changed.
    pub const CONFIG_CHANGE: Self = Self(1305);
    /// A socket address.
    pub const SOCKADDR: Self = Self(1306);
    /// The working directory.
    pub const CWD: Self = Self(1307);
    /// Arguments of `execve`.
    pub const EXECVE: Self = Self(1309);
    /// End of an event.
    pub const EOE: Self = Self(1320);
    /// A packet met an AUDIT target of the packet filter.
    pub const NETFILTER_PKT: Self = Self(1324);
    /// A seccomp filter acted.
    pub const SECCOMP: Self = Self(1326);
    /// The command line as the process shows it.
    pub const PROCTITLE: Self = Self(1327);
    /// An audit feature was switched.
    pub const FEATURE_CHANGE: Self = Self(1328);
    /// Somebody tried to register as the audit daemon; a control message, not a record.
    pub const REPLACE: Self = Self(1329);
    /// A multicast reader came or went.
    pub const EVENT_LISTENER: Self = Self(1335);
    /// An io_uring operation.
    pub const URINGOP: Self = Self(1336);
    /// A device mapper event.
    pub const DM_EVENT: Self = Self(1339);
    /// A Landlock domain was made or went.
    pub const LANDLOCK_DOMAIN: Self = Self(1424);
    /// A process died of a signal.
    pub const ANOM_ABEND: Self = Self(1701);
    /// Audit started.
    pub const KERNEL: Self = Self(2000);

    /// Gives the name as user space prints it, in upper case; `None` for a type without one.
    #[must_use]
    pub const fn known_name(self) -> Option<&'static str> {
        match names(self.0) {
            Some((name, _)) => Some(name),
            None => None,
        }
    }

    /// Gives the name in upper case, `UNKNOWN[n]` for a type without one.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match names(self.0) {
            Some((name, _)) => Cow::Borrowed(name),
            None => Cow::Owned(format!("UNKNOWN[{}]", self.0)),
        }
    }

    /// Gives the name in lower case, `unknown[n]` for a type without one.
    #[must_use]
    pub fn lower(self) -> Cow<'static, str> {
        match names(self.0) {
            Some((_, lower)) => Cow::Borrowed(lower),
            None => Cow::Owned(format!("unknown[{}]", self.0)),
        }
    }

    /// Gives the class.
    ///
    /// A type that this crate does not know and that is no user message counts as part of a
    /// system call: waiting costs little, tearing an event apart costs a fact.
    #[must_use]
    pub const fn class(self) -> Class {
        match self.0 {
            1005 | 1100..=1299 | 2000..=2999 => Class::Single,
            // SECCOMP, ANOM_ABEND and NETFILTER_PKT are alone in practice; CONFIG_CHANGE,
            // FEATURE_CHANGE, EVENT_LISTENER and LANDLOCK_DOMAIN are alone when the daemon
            // itself or a kernel thread caused them; so is DM_EVENT. REPLACE has no companion.
            1305 | 1324 | 1326 | 1328 | 1329 | 1335 | 1339 | 1424 | 1701 => Class::Short,
            _ => Class::Syscall,
        }
    }

    /// Tells whether the kernel writes this type only beside a SYSCALL or URINGOP record, so
    /// that without one the event has lost its head.
    #[must_use]
    pub const fn needs_syscall(self) -> bool {
        matches!(
            self.0,
            1302..=1304 | 1306..=1318 | 1320..=1323 | 1327 | 1330 | 1332 | 1333 | 1337
        )
    }

    /// Tells whether user space wrote the text: what stands in `msg='…'` is a claim.
    #[must_use]
    pub const fn is_user(self) -> bool {
        matches!(self.0, 1005 | 1100..=1199 | 2100..=2999)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match names(self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "UNKNOWN[{}]", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_unknown() {
        assert_eq!(RecordType::SYSCALL.name(), "SYSCALL");
        assert_eq!(RecordType(1112).lower(), "user_login");
        assert_eq!(RecordType(1999).name(), "UNKNOWN[1999]");
        assert_eq!(RecordType(1999).to_string(), "UNKNOWN[1999]");
        assert_eq!(RecordType(2999).lower(), "unknown[2999]");
    }

    #[test]
    fn classes_follow_the_reference() {
        for n in (1100..1300).chain([1005, 2000]).chain(2100..3000) {
            assert_eq!(RecordType(n).class(), Class::Single, "{n}");
        }
        for n in [1006, 1300, 1400, 1423, 1499, 1700, 1702, 1703, 1800, 1999] {
            assert_eq!(RecordType(n).class(), Class::Syscall, "{n}");
        }
        for n in [1305, 1324, 1326, 1328, 1335, 1424, 1701] {
            assert_eq!(RecordType(n).class(), Class::Short, "{n}");
        }
    }
}
