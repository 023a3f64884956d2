//! What is known about field names: the type of the value, and whether the name is one of the
//! members that every event may have.
//!
//! Types go by name, never by the look of a value, so that a member has one type in all events.
//! Source: `auparse/typetab.h` and the samples of the reference, sections 15, 16 and 19.

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text as it stands.
    Text,
    /// Quoted, or hex.
    Untrusted,
    /// Decimal number, maybe negative.
    Number,
    /// User id.
    User,
    /// Group id.
    Group,
    /// Rule keys, separated by byte 1.
    Keys,
    /// `old=` and `new=`: paths if the operation is make_equiv, else numbers.
    Change,
}

/// Members at the top of the event data that come from the main record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Top {
    Arch,
    Syscall,
    Success,
    Exit,
    A0,
    A1,
    A2,
    A3,
    Items,
    Ppid,
    Pid,
    Auid,
    Uid,
    Gid,
    Euid,
    Suid,
    Fsuid,
    Egid,
    Sgid,
    Fsgid,
    Tty,
    Ses,
    Comm,
    Exe,
    Subj,
    Res,
    Key,
}

/// Number of [`Top`] members.
pub(crate) const TOPS: usize = Top::Key as usize + 1;

/// What is known about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) kind: Kind,
    pub(crate) top: Option<Top>,
}

/// Looks up a name; unknown names are text.
#[inline]
pub(crate) fn info(name: &[u8]) -> Info {
    let mut at = hash(name);
    // The table is half empty, so the walk ends.
    while let Some(entry) = TABLE[at & (SLOTS - 1)] {
        if entry.0.as_bytes() == name {
            return entry.1;
        }
        at += 1;
    }
    Info {
        kind: Kind::Text,
        top: None,
    }
}

const SLOTS: usize = 512;

/// A hash that tells the known names apart well enough: length, first, middle and last bytes.
#[inline]
pub(crate) const fn hash(name: &[u8]) -> usize {
    if name.is_empty() {
        return 0;
    }
    let length = name.len();
    let (first, last) = (name[0] as usize, name[length - 1] as usize);
    let middle = name[length / 2] as usize;
    let second = name[if length > 1 { 1 } else { 0 }] as usize;
    let mixed = first * 0x1f35 + last * 0x2b1 + middle * 0x4d7 + second * 0x95 + length * 0x3b;
    mixed ^ mixed >> 7
}

static TABLE: [Option<(&str, Info)>; SLOTS] = {
    let mut table = [None; SLOTS];
    let mut n = 0;
    while n < NAMES.len() {
        let mut at = hash(NAMES[n].0.as_bytes());
        while table[at % SLOTS].is_some() {
            at += 1;
        }
        table[at % SLOTS] = Some((
            NAMES[n].0,
            Info {
                kind: NAMES[n].1,
                top: NAMES[n].2,
            },
        ));
        n += 1;
    }
    table
};

const NAMES: &[(&str, Kind, Option<Top>)] = {
    use Kind::{Change, Group, Keys, Number, Text, Untrusted, User};
    &[
        ("arch", Text, Some(Top::Arch)),
        ("syscall", Text, Some(Top::Syscall)),
        ("success", Text, Some(Top::Success)),
        ("exit", Number, Some(Top::Exit)),
        ("a0", Text, Some(Top::A0)),
        ("a1", Text, Some(Top::A1)),
        ("a2", Text, Some(Top::A2)),
        ("a3", Text, Some(Top::A3)),
        ("items", Number, Some(Top::Items)),
        ("ppid", Number, Some(Top::Ppid)),
        ("pid", Number, Some(Top::Pid)),
        ("auid", User, Some(Top::Auid)),
        ("uid", User, Some(Top::Uid)),
        ("gid", Group, Some(Top::Gid)),
        ("euid", User, Some(Top::Euid)),
        ("suid", User, Some(Top::Suid)),
        ("fsuid", User, Some(Top::Fsuid)),
        ("egid", Group, Some(Top::Egid)),
        ("sgid", Group, Some(Top::Sgid)),
        ("fsgid", Group, Some(Top::Fsgid)),
        ("tty", Text, Some(Top::Tty)),
        ("ses", Number, Some(Top::Ses)),
        ("comm", Untrusted, Some(Top::Comm)),
        ("exe", Untrusted, Some(Top::Exe)),
        ("subj", Text, Some(Top::Subj)),
        ("res", Text, Some(Top::Res)),
        ("key", Keys, Some(Top::Key)),
        ("ouid", User, None),
        ("oauid", User, None),
        ("old-auid", User, None),
        ("iuid", User, None),
        ("sauid", User, None),
        ("obj_uid", User, None),
        ("inode_uid", User, None),
        ("ogid", Group, None),
        ("igid", Group, None),
        ("new_gid", Group, None),
        ("obj_gid", Group, None),
        ("inode_gid", Group, None),
        ("name", Untrusted, None),
        ("cwd", Untrusted, None),
        ("proctitle", Untrusted, None),
        ("path", Untrusted, None),
        ("dir", Untrusted, None),
        ("ocomm", Untrusted, None),
        ("data", Untrusted, None),
        ("cmd", Untrusted, None),
        ("acct", Untrusted, None),
        ("file", Untrusted, None),
        ("watch", Untrusted, None),
        ("device", Untrusted, None),
        ("vm", Untrusted, None),
        ("old-disk", Untrusted, None),
        ("new-disk", Untrusted, None),
        ("old-fs", Untrusted, None),
        ("new-fs", Untrusted, None),
        ("profile", Untrusted, None),
        ("target", Untrusted, None),
        ("peer", Untrusted, None),
        ("srcname", Untrusted, None),
        ("root_dir", Untrusted, None),
        ("old", Change, None),
        ("new", Change, None),
        ("item", Number, None),
        ("inode", Number, None),
        ("ino", Number, None),
        ("opid", Number, None),
        ("oses", Number, None),
        ("old-ses", Number, None),
        ("sig", Number, None),
        ("fd", Number, None),
        ("fd0", Number, None),
        ("fd1", Number, None),
        ("uring_op", Number, None),
        ("nargs", Number, None),
        ("mqdes", Number, None),
        ("msg_len", Number, None),
        ("msg_prio", Number, None),
        ("abs_timeout_sec", Number, None),
        ("abs_timeout_nsec", Number, None),
        ("sigev_signo", Number, None),
        ("mq_maxmsg", Number, None),
        ("mq_msgsize", Number, None),
        ("mq_curmsgs", Number, None),
        ("sec", Number, None),
        ("nsec", Number, None),
        ("prom", Number, None),
        ("old_prom", Number, None),
        ("family", Number, None),
        ("entries", Number, None),
        ("proto", Number, None),
        ("major", Number, None),
        ("minor", Number, None),
        ("prog-id", Number, None),
        ("resp", Number, None),
        ("fan_type", Number, None),
        ("subj_trust", Number, None),
        ("obj_trust", Number, None),
        ("nl-mcgrp", Number, None),
        ("compat", Number, None),
        ("denials", Number, None),
        ("list", Number, None),
        ("frootid", Number, None),
        ("cap_frootid", Number, None),
        ("id", Number, None),
        ("spid", Number, None),
        ("vm-pid", Number, None),
        ("lport", Number, None),
        ("rport", Number, None),
        ("ksize", Number, None),
        ("src", Number, None),
        ("dest", Number, None),
        ("lost", Number, None),
        ("audit_enabled", Number, None),
        ("audit_failure", Number, None),
        ("audit_pid", Number, None),
        ("audit_backlog_limit", Number, None),
        ("audit_backlog_wait_time", Number, None),
        ("audit_rate_limit", Number, None),
        ("backlog_wait_time_actual", Number, None),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_quickly() {
        let mut steps = 0;
        for (name, kind, top) in NAMES {
            assert_eq!(info(name.as_bytes()), Info { kind: *kind, top: *top }, "{name}");
            let mut at = hash(name.as_bytes());
            while TABLE[at % SLOTS].is_some_and(|entry| entry.0 != *name) {
                at += 1;
                steps += 1;
            }
        }
        assert!(steps < NAMES.len(), "{steps} steps: the hash is bad");
        assert_eq!(info(b"nothing").kind, Kind::Text);
        assert_eq!(info(b"").kind, Kind::Text);
    }
}
