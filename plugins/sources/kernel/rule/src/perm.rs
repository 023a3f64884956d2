//! Which system calls a permission of a watch can be seen in.
//!
//! Taken from the masks recorded in `rule-encodings.tsv` (x86-64, 6.18): a
//! rule with `perm=` and an architecture, but no `-S`, is sent with the calls
//! that can exercise the permission, because a rule with every call costs
//! each call on the host.

use crate::machine::Machine;
use crate::mask::Mask;

/// Write.
const WRITE: u32 = 2;
/// Read.
const READ: u32 = 4;
/// Execute.
const EXEC: u32 = 1;
/// Change of attributes.
const ATTR: u32 = 8;

/// Call, permissions that it can exercise.
static CALLS: &[(&str, u32)] = &[
    ("acct", WRITE),
    ("bind", WRITE),
    ("chmod", ATTR),
    ("chown", ATTR),
    ("creat", WRITE),
    ("execve", EXEC),
    ("execveat", EXEC),
    ("fallocate", WRITE),
    ("fchmod", ATTR),
    ("fchmodat", ATTR),
    ("fchmodat2", ATTR),
    ("fchown", ATTR),
    ("fchownat", ATTR),
    ("fgetxattr", READ),
    ("file_getattr", READ),
    ("file_setattr", ATTR),
    ("flistxattr", READ),
    ("fremovexattr", ATTR),
    ("fsetxattr", ATTR),
    ("fstat", READ),
    ("ftruncate", WRITE),
    ("getxattr", READ),
    ("getxattrat", READ),
    ("lchown", ATTR),
    ("lgetxattr", READ),
    ("link", WRITE | ATTR),
    ("linkat", WRITE | ATTR),
    ("listxattr", READ),
    ("listxattrat", READ),
    ("llistxattr", READ),
    ("lremovexattr", ATTR),
    ("lsetxattr", ATTR),
    ("lstat", READ),
    ("mkdir", WRITE),
    ("mkdirat", WRITE),
    ("mknod", WRITE),
    ("mknodat", WRITE),
    ("newfstatat", READ),
    ("open", READ | WRITE),
    ("openat", READ | WRITE),
    ("openat2", READ | WRITE),
    ("quotactl", READ | WRITE),
    ("quotactl_fd", READ | WRITE),
    ("readlink", READ),
    ("readlinkat", READ),
    ("removexattr", ATTR),
    ("removexattrat", ATTR),
    ("rename", WRITE),
    ("renameat", WRITE),
    ("renameat2", WRITE),
    ("rmdir", WRITE),
    ("setxattr", ATTR),
    ("setxattrat", ATTR),
    ("stat", READ),
    ("statx", READ),
    ("swapon", WRITE),
    ("symlink", WRITE),
    ("symlinkat", WRITE),
    ("truncate", WRITE),
    ("unlink", WRITE),
    ("unlinkat", WRITE),
];

/// The calls of one machine that can exercise any of the permissions. A call
/// that the machine does not have is left out.
pub(crate) fn mask(perms: u32, machine: Machine) -> Mask {
    let mut mask = Mask::NONE;
    for (name, exercises) in CALLS {
        if exercises & perms == 0 {
            continue;
        }
        if let Some(number) = machine.syscall_number(name) {
            // Every number in the tables is in range.
            let _ = mask.insert(number);
        }
    }
    mask
}
