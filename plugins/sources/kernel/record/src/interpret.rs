//! Numbers of the kernel as names: architectures, system calls, errors.

use std::borrow::Cow;

/// Name of an audit architecture (`arch=`), as auparse prints it.
///
/// Source: `AUDIT_ARCH_*` of `include/uapi/linux/audit.h`.
#[must_use]
pub const fn arch_name(arch: u32) -> Option<&'static str> {
    Some(match arch {
        0xc000_003e => "x86_64",
        0x4000_0003 => "i386",
        0xc000_00b7 => "aarch64",
        0x4000_0028 => "arm",
        0x0000_0028 => "armeb",
        0xc000_0015 => "ppc64le",
        0x8000_0015 => "ppc64",
        0x0000_0014 => "ppc",
        0x8000_0016 => "s390x",
        0x0000_0016 => "s390",
        0xc000_00f3 => "riscv64",
        0x4000_00f3 => "riscv32",
        0xc000_0102 => "loongarch64",
        0x4000_0008 => "mipsel",
        0xc000_0008 => "mipsel64",
        0x0000_0008 => "mips",
        0x8000_0008 => "mips64",
        _ => return None,
    })
}

/// Name of a system call; `None` if this crate has no table for the architecture or the kernel
/// is newer than the table.
#[must_use]
pub fn syscall_name(arch: u32, number: u32) -> Option<&'static str> {
    /// Marks the x32 interface; below 512 its numbers are those of x86-64.
    const X32: u32 = 0x4000_0000;
    let index = number as usize;
    match arch {
        0xc000_003e if number & X32 != 0 && number & !X32 < 512 => {
            syscalls::x86_64::Sysno::new(index & !(X32 as usize)).map(|call| call.name())
        }
        0xc000_003e => syscalls::x86_64::Sysno::new(index).map(|call| call.name()),
        0x4000_0003 => syscalls::x86::Sysno::new(index).map(|call| call.name()),
        0xc000_00b7 => syscalls::aarch64::Sysno::new(index).map(|call| call.name()),
        _ => None,
    }
}

/// Name of a system call, else its number as text.
#[must_use]
pub fn syscall_text(arch: u32, number: u32) -> Cow<'static, str> {
    syscall_name(arch, number).map_or_else(|| Cow::Owned(number.to_string()), Cow::Borrowed)
}

/// Name of an error number (positive, as in `errno.h`), like `EACCES`. Numbers that only the
/// kernel uses inside (`ERESTARTSYS`, 512 to 530) are named too, because records show them.
#[must_use]
pub fn errno_name(errno: u32) -> Option<&'static str> {
    let errno = i32::try_from(errno).ok().filter(|n| *n > 0)?;
    syscalls::Errno::new(errno).name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(arch_name(0xc000_003e), Some("x86_64"));
        assert_eq!(arch_name(1), None);
        assert_eq!(syscall_name(0xc000_003e, 59), Some("execve"));
        assert_eq!(syscall_name(0xc000_003e, 0x4000_0000 | 2), Some("open"));
        assert_eq!(syscall_name(0xc000_003e, 0x4000_0000 | 520), None);
        assert_eq!(syscall_name(0x4000_0003, 102), Some("socketcall"));
        assert_eq!(syscall_name(0xc000_00b7, 221), Some("execve"));
        assert_eq!(syscall_text(0x8000_0016, 11), "11");
        assert_eq!(syscall_text(0xc000_003e, u32::MAX), "4294967295");
        assert_eq!(errno_name(13), Some("EACCES"));
        assert_eq!(errno_name(0), None);
        assert_eq!(errno_name(u32::MAX), None);
    }

    #[test]
    fn internal_errors() {
        assert_eq!(errno_name(512), Some("ERESTARTSYS"));
    }
}
