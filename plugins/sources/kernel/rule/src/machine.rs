//! Architectures: their audit numbers and their system call names.
//!
//! The audit number is the ELF machine with two flags:
//! 0x8000_0000 for 64 bits, 0x4000_0000 for little endian.

use std::str::FromStr;

/// An architecture that a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Machine {
    /// x86, 64 bits.
    X86_64,
    /// x86, 32 bits.
    I386,
    /// ARM, 64 bits.
    Aarch64,
    /// ARM, 32 bits; its system calls by number only.
    Arm,
    /// POWER, 64 bits, little endian; its system calls by number only.
    Ppc64le,
    /// IBM Z; its system calls by number only.
    S390x,
    /// RISC-V, 64 bits; its system calls by number only.
    Riscv64,
    /// LoongArch, 64 bits; its system calls by number only.
    Loongarch64,
}

/// Name in a rule, machine. The first name of a machine is the one printed.
static NAMES: &[(&str, Machine)] = &[
    ("x86_64", Machine::X86_64),
    ("i386", Machine::I386),
    ("i486", Machine::I386),
    ("i586", Machine::I386),
    ("i686", Machine::I386),
    ("aarch64", Machine::Aarch64),
    ("arm", Machine::Arm),
    ("armeb", Machine::Arm),
    ("armv5tejl", Machine::Arm),
    ("armv6l", Machine::Arm),
    ("armv7l", Machine::Arm),
    ("ppc64le", Machine::Ppc64le),
    ("s390x", Machine::S390x),
    ("riscv64", Machine::Riscv64),
    ("loongarch64", Machine::Loongarch64),
];

/// Names that older kernels and audit's tools give to a call; ours → theirs.
static SYSCALL_ALIASES: &[(&str, &str)] = &[("pread", "pread64"), ("pwrite", "pwrite64")];

impl Machine {
    /// The machine this program was compiled for.
    #[must_use]
    pub const fn native() -> Machine {
        if cfg!(target_arch = "aarch64") {
            Machine::Aarch64
        } else if cfg!(target_arch = "riscv64") {
            Machine::Riscv64
        } else if cfg!(target_arch = "loongarch64") {
            Machine::Loongarch64
        } else if cfg!(target_arch = "s390x") {
            Machine::S390x
        } else if cfg!(target_arch = "powerpc64") {
            Machine::Ppc64le
        } else {
            Machine::X86_64
        }
    }

    /// The 32-bit machine whose programs the kernel of this one also runs.
    #[must_use]
    pub const fn compat(self) -> Option<Machine> {
        match self {
            Machine::X86_64 => Some(Machine::I386),
            Machine::Aarch64 => Some(Machine::Arm),
            _ => None,
        }
    }

    /// The number in `arch=` of rules and records.
    #[must_use]
    pub const fn audit_arch(self) -> u32 {
        match self {
            Machine::X86_64 => 0xc000_003e,
            Machine::I386 => 0x4000_0003,
            Machine::Aarch64 => 0xc000_00b7,
            Machine::Arm => 0x4000_0028,
            Machine::Ppc64le => 0xc000_0015,
            Machine::S390x => 0x8000_0016,
            Machine::Riscv64 => 0xc000_00f3,
            Machine::Loongarch64 => 0xc000_0102,
        }
    }

    /// The name in a rule.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, machine)| *machine == self)
            .map_or("", |(name, _)| name)
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<Machine> {
        NAMES
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(_, machine)| *machine)
    }

    pub(crate) fn from_audit_arch(arch: u32) -> Option<Machine> {
        NAMES
            .iter()
            .find(|(_, machine)| machine.audit_arch() == arch)
            .map(|(_, machine)| *machine)
    }

    /// Whether this program knows the names of this machine's system calls.
    #[must_use]
    pub const fn has_syscall_names(self) -> bool {
        matches!(self, Machine::X86_64 | Machine::I386 | Machine::Aarch64)
    }

    /// The number of a system call on this machine, if it has one of that
    /// name and this program knows the table.
    #[must_use]
    pub fn syscall_number(self, name: &str) -> Option<u32> {
        let name = SYSCALL_ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, real)| real);
        let id = match self {
            Machine::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok()?.id(),
            Machine::I386 => syscalls::x86::Sysno::from_str(name).ok()?.id(),
            Machine::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok()?.id(),
            _ => return None,
        };
        u32::try_from(id).ok()
    }

    /// The name of a system call on this machine.
    #[must_use]
    pub fn syscall_name(self, number: u32) -> Option<&'static str> {
        let id = number as usize;
        match self {
            Machine::X86_64 => Some(syscalls::x86_64::Sysno::new(id)?.name()),
            Machine::I386 => Some(syscalls::x86::Sysno::new(id)?.name()),
            Machine::Aarch64 => Some(syscalls::aarch64::Sysno::new(id)?.name()),
            _ => None,
        }
    }
}
