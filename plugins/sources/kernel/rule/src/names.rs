//! Small tables of names in rules: errnos, file types, file systems,
//! io_uring operations, compared fields, permissions.

/// File types: name, `S_IFMT` value.
pub(crate) static FILE_TYPES: &[(&str, u32)] = &[
    ("file", 0x8000),
    ("dir", 0x4000),
    ("socket", 0xc000),
    ("link", 0xa000),
    ("character", 0x2000),
    ("block", 0x6000),
    ("fifo", 0x1000),
];

/// File systems: name, magic number of the superblock (`linux/magic.h`).
pub(crate) static FILE_SYSTEMS: &[(&str, u32)] = &[
    ("tracefs", 0x7472_6163),
    ("debugfs", 0x6462_6720),
    ("cgroup", 0x0027_e0eb),
    ("cgroup2", 0x6367_7270),
];

/// io_uring operations that the kernel audits (`linux/io_uring.h`); the
/// flag says whether `-S all` covers it (recorded, `rule-encodings.tsv`).
static URING_OPS: &[(&str, u32, bool)] = &[
    ("sendmsg", 9, true),
    ("recvmsg", 10, true),
    ("accept", 13, true),
    ("connect", 16, true),
    ("fallocate", 17, true),
    ("openat", 18, true),
    ("close", 19, true),
    ("openat2", 28, true),
    ("shutdown", 34, true),
    ("renameat", 35, true),
    ("unlinkat", 36, true),
    ("mkdirat", 37, false),
    ("symlinkat", 38, false),
    ("linkat", 39, false),
];

/// The number of an io_uring operation.
pub(crate) fn uring_op(name: &str) -> Option<u32> {
    URING_OPS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, number, _)| *number)
}

/// The name of an io_uring operation.
pub(crate) fn uring_op_name(number: u32) -> Option<&'static str> {
    URING_OPS
        .iter()
        .find(|(_, known, _)| *known == number)
        .map(|(name, ..)| *name)
}

/// The operations that `-S all` means on the io_uring list.
pub(crate) fn all_uring_ops() -> impl Iterator<Item = u32> {
    URING_OPS.iter().filter(|(.., all)| *all).map(|(_, number, _)| *number)
}

/// Fields that `-C` compares; position + 1 is the kernel's number.
static COMPARISONS: [(&str, &str); 25] = [
    ("uid", "obj_uid"),
    ("gid", "obj_gid"),
    ("euid", "obj_uid"),
    ("egid", "obj_gid"),
    ("auid", "obj_uid"),
    ("suid", "obj_uid"),
    ("sgid", "obj_gid"),
    ("fsuid", "obj_uid"),
    ("fsgid", "obj_gid"),
    ("uid", "auid"),
    ("uid", "euid"),
    ("uid", "fsuid"),
    ("uid", "suid"),
    ("auid", "fsuid"),
    ("auid", "suid"),
    ("auid", "euid"),
    ("euid", "suid"),
    ("euid", "fsuid"),
    ("suid", "fsuid"),
    ("gid", "egid"),
    ("gid", "fsgid"),
    ("gid", "sgid"),
    ("egid", "fsgid"),
    ("egid", "sgid"),
    ("sgid", "fsgid"),
];

/// The number of a comparison; the two names in either order.
pub(crate) fn comparison(left: &[u8], right: &[u8]) -> Option<u32> {
    let is = |name: &str, given: &[u8]| name.as_bytes() == given;
    COMPARISONS
        .iter()
        .zip(1..)
        .find(|((a, b), _)| (is(a, left) && is(b, right)) || (is(a, right) && is(b, left)))
        .map(|(_, number)| number)
}

/// The two names of a comparison.
pub(crate) fn comparison_names(number: u32) -> Option<(&'static str, &'static str)> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    COMPARISONS.get(index).copied()
}

/// Permission letters of `perm=` and `-p`, in the order in which they print.
pub(crate) static PERMS: [(u8, u32); 4] = [(b'r', 4), (b'w', 2), (b'x', 1), (b'a', 8)];

/// Names that share a number with another errno.
static ERRNO_ALIASES: &[(&str, u32)] = &[("EWOULDBLOCK", 11), ("EDEADLOCK", 35), ("ENOTSUP", 95)];

/// Errnos end well below this (133 on Linux).
const ERRNO_END: u32 = 200;

/// The number of an errno.
pub(crate) fn errno(name: &str) -> Option<u32> {
    ERRNO_ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map(|(_, number)| *number)
        .or_else(|| (1..ERRNO_END).find(|number| errno_name(*number) == Some(name)))
}

/// The name of an errno.
pub(crate) fn errno_name(number: u32) -> Option<&'static str> {
    syscalls::Errno::new(i32::try_from(number).ok()?).name()
}

pub(crate) fn by_name(table: &[(&'static str, u32)], name: &[u8]) -> Option<u32> {
    table
        .iter()
        .find(|(known, _)| known.as_bytes() == name)
        .map(|(_, number)| *number)
}

pub(crate) fn by_number(table: &[(&'static str, u32)], number: u32) -> Option<&'static str> {
    table.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// All names of a table, for messages.
pub(crate) fn listed(table: &[(&'static str, u32)]) -> String {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
