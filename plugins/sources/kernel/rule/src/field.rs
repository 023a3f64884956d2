//! The fields a rule can test: name, number, kind of value, operators, lists.
//!
//! Source: `reference/kernel-audit.md` 10, from the kernel's
//! `audit_field_valid` and its answers to each combination.

use crate::layout::{List, Op};

/// How the value of a field is written and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unsigned number, or a negative one taken as u32.
    Number,
    /// 0 or 1.
    Flag,
    /// User id or name; never "unset".
    Uid,
    /// Group id or name; never "unset".
    Gid,
    /// Login uid or name, or "unset".
    Auid,
    /// Session id, or "unset".
    Session,
    /// Architecture.
    Arch,
    /// Record type by name or number.
    RecordType,
    /// Errno by name, or number; negative for a failure.
    Exit,
    /// Absolute path of one file.
    Path,
    /// Absolute path of a directory.
    Dir,
    /// Absolute path of a program.
    Exe,
    /// Letters of r, w, x, a.
    Perm,
    /// File type by name.
    FileType,
    /// File system by name or number.
    FsType,
    /// Two fields compared with each other: only through `-C`.
    Compare,
    /// Free text: labels of a security module.
    Text,
    /// The rule's key; collected, not a field in place.
    Key,
}

impl Kind {
    /// Whether the value is a string behind the fixed part.
    pub(crate) const fn is_text(self) -> bool {
        matches!(self, Kind::Path | Kind::Dir | Kind::Exe | Kind::Text | Kind::Key)
    }
}

pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) ops: u8,
    pub(crate) lists: u8,
}

pub(crate) mod number {
    pub(crate) const ARCH: u32 = 11;
    pub(crate) const EXIT: u32 = 103;
    pub(crate) const PATH: u32 = 105;
    pub(crate) const PERM: u32 = 106;
    pub(crate) const DIR: u32 = 107;
    pub(crate) const INODE: u32 = 102;
    pub(crate) const COMPARE: u32 = 111;
    pub(crate) const EXE: u32 = 112;
    pub(crate) const KEY: u32 = 210;
}

const EQ: u8 = Op::Equal.bit();
const EQ_NE: u8 = EQ | Op::NotEqual.bit();
const ORDER: u8 = EQ_NE | Op::Less.bit() | Op::LessOrEqual.bit() | Op::Greater.bit() | Op::GreaterOrEqual.bit();
const ALL: u8 = ORDER | Op::AnyBit.bit() | Op::AllBits.bit();

const CALLS: u8 = List::Exit.bit() | List::IoUring.bit();
const EXIT: u8 = List::Exit.bit();
const TASKS: u8 = CALLS | List::Task.bit() | List::User.bit() | List::Exclude.bit();
const TYPES: u8 = List::User.bit() | List::Exclude.bit();
const FILESYSTEM: u8 = List::Filesystem.bit();
const EVERY: u8 = TASKS | FILESYSTEM;

const fn field(name: &'static str, number: u32, kind: Kind, ops: u8, lists: u8) -> Field {
    Field {
        name,
        number,
        kind,
        ops,
        lists,
    }
}

/// Every field; where a number has two names the first is the one printed.
pub(crate) static FIELDS: &[Field] = &[
    field("pid", 0, Kind::Number, ORDER, TASKS),
    field("uid", 1, Kind::Uid, ORDER, TASKS),
    field("euid", 2, Kind::Uid, ORDER, TASKS),
    field("suid", 3, Kind::Uid, ORDER, TASKS),
    field("fsuid", 4, Kind::Uid, ORDER, TASKS),
    field("gid", 5, Kind::Gid, ORDER, TASKS),
    field("egid", 6, Kind::Gid, ORDER, TASKS),
    field("sgid", 7, Kind::Gid, ORDER, TASKS),
    field("fsgid", 8, Kind::Gid, ORDER, TASKS),
    field("auid", 9, Kind::Auid, ORDER, TASKS),
    field("loginuid", 9, Kind::Auid, ORDER, TASKS),
    field("pers", 10, Kind::Number, ALL, CALLS),
    field("arch", number::ARCH, Kind::Arch, EQ_NE, CALLS),
    field("msgtype", 12, Kind::RecordType, ORDER, TYPES),
    field("subj_user", 13, Kind::Text, EQ_NE, TASKS),
    field("subj_role", 14, Kind::Text, EQ_NE, TASKS),
    field("subj_type", 15, Kind::Text, EQ_NE, TASKS),
    field("subj_sen", 16, Kind::Text, ORDER, TASKS),
    field("subj_clr", 17, Kind::Text, ORDER, TASKS),
    field("ppid", 18, Kind::Number, ORDER, CALLS),
    field("obj_user", 19, Kind::Text, EQ_NE, CALLS),
    field("obj_role", 20, Kind::Text, EQ_NE, CALLS),
    field("obj_type", 21, Kind::Text, EQ_NE, CALLS),
    field("obj_lev_low", 22, Kind::Text, ORDER, CALLS),
    field("obj_lev_high", 23, Kind::Text, ORDER, CALLS),
    field("loginuid_set", 24, Kind::Flag, EQ_NE, TASKS),
    field("sessionid", 25, Kind::Session, ORDER, TASKS),
    field("fstype", 26, Kind::FsType, EQ_NE, FILESYSTEM),
    field("devmajor", 100, Kind::Number, ORDER, CALLS),
    field("devminor", 101, Kind::Number, ALL, CALLS),
    field("inode", number::INODE, Kind::Number, EQ_NE, CALLS),
    field("exit", number::EXIT, Kind::Exit, ORDER, CALLS),
    field("success", 104, Kind::Flag, ORDER, CALLS),
    field("path", number::PATH, Kind::Path, EQ, CALLS),
    field("perm", number::PERM, Kind::Perm, EQ_NE, EXIT),
    field("dir", number::DIR, Kind::Dir, EQ, CALLS),
    field("filetype", 108, Kind::FileType, EQ_NE, CALLS),
    field("obj_uid", 109, Kind::Uid, ORDER, CALLS),
    field("obj_gid", 110, Kind::Gid, ORDER, CALLS),
    field("field_compare", number::COMPARE, Kind::Compare, EQ_NE, CALLS),
    field("exe", number::EXE, Kind::Exe, EQ_NE, CALLS | List::Exclude.bit()),
    field("saddr_fam", 113, Kind::Number, ORDER, CALLS),
    field("a0", 200, Kind::Number, ALL, CALLS),
    field("a1", 201, Kind::Number, ALL, CALLS),
    field("a2", 202, Kind::Number, ALL, CALLS),
    field("a3", 203, Kind::Number, ALL, CALLS),
    field("key", number::KEY, Kind::Key, EQ, EVERY),
];

pub(crate) fn by_name(name: &[u8]) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name.as_bytes() == name)
}

pub(crate) fn by_number(number: u32) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.number == number)
}

/// Operators of a field as they are written, for messages.
pub(crate) fn op_names(ops: u8) -> String {
    let names: Vec<&str> = Op::SEARCH_ORDER
        .into_iter()
        .filter(|op| ops & op.bit() != 0)
        .map(Op::text)
        .collect();
    names.join(" ")
}

/// Lists of a field by name, for messages.
pub(crate) fn list_names(lists: u8) -> String {
    let names: Vec<&str> = List::ALL
        .into_iter()
        .filter(|list| lists & list.bit() != 0)
        .map(List::name)
        .collect();
    names.join(", ")
}
