//! Numbers of `struct audit_rule_data` that never change: sizes, offsets,
//! lists, actions, operators.
//!
//! Source: `include/uapi/linux/audit.h`; offsets measured
//! (`reference/kernel-audit.md` 10).

/// Bytes of `struct audit_rule_data` without its strings.
pub const FIXED_LEN: usize = 1040;
/// Most fields that one rule can carry.
pub const MAX_FIELDS: usize = 64;
/// Words of the syscall mask; bit `n` of word `n / 32` is syscall `n`.
pub const MASK_WORDS: usize = 64;
/// Most bytes of all keys of one rule, the 0x01 between them included.
pub const MAX_KEY_LEN: usize = 256;
/// Most bytes of a path in a rule (`PATH_MAX`).
pub const MAX_PATH_LEN: usize = 4096;
/// Byte that joins several keys of one rule.
pub const KEY_SEPARATOR: u8 = 1;
/// Flag in the list word: put the rule in front of its list.
pub(crate) const PREPEND: u32 = 0x10;
/// "Not set" for login uid and session id: −1 as u32.
pub const UNSET: u32 = u32::MAX;

pub(crate) const OFFSET_MASK: usize = 12;
pub(crate) const OFFSET_FIELDS: usize = 268;
pub(crate) const OFFSET_VALUES: usize = 524;
pub(crate) const OFFSET_OPS: usize = 780;
pub(crate) const OFFSET_BUFLEN: usize = 1036;

/// The filter list a rule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// Applied to messages from user space, before they become records.
    User,
    /// Applied when a task is created.
    Task,
    /// Applied at the end of each system call.
    Exit,
    /// Suppresses records of every kind.
    Exclude,
    /// File systems whose PATH records are not collected (Linux 4.16).
    Filesystem,
    /// Applied at the end of each io_uring operation (Linux 5.16).
    IoUring,
}

impl List {
    /// Every list, in the order in which the kernel lists their rules.
    pub const ALL: [List; 6] = [
        List::User,
        List::Task,
        List::Exit,
        List::Exclude,
        List::Filesystem,
        List::IoUring,
    ];

    /// The kernel's number of the list.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            List::User => 0,
            List::Task => 1,
            List::Exit => 4,
            List::Exclude => 5,
            List::Filesystem => 6,
            List::IoUring => 7,
        }
    }

    /// The name in the rule grammar.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            List::User => "user",
            List::Task => "task",
            List::Exit => "exit",
            List::Exclude => "exclude",
            List::Filesystem => "filesystem",
            List::IoUring => "io_uring",
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<List> {
        List::ALL.into_iter().find(|list| list.number() == number)
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<List> {
        List::ALL.into_iter().find(|list| list.name().as_bytes() == name)
    }

    pub(crate) const fn bit(self) -> u8 {
        1 << self.number()
    }
}

/// What a matching rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Write no event.
    Never,
    /// Write an event.
    Always,
}

impl Action {
    /// The kernel's number of the action.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Action::Never => 0,
            Action::Always => 2,
        }
    }

    /// The name in the rule grammar.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Action::Never => "never",
            Action::Always => "always",
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Action> {
        [Action::Never, Action::Always]
            .into_iter()
            .find(|action| action.number() == number)
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<Action> {
        [Action::Never, Action::Always]
            .into_iter()
            .find(|action| action.name().as_bytes() == name)
    }
}

/// How a field is compared with its value; unsigned 32-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `!=`
    NotEqual,
    /// `>=`
    GreaterOrEqual,
    /// `<=`
    LessOrEqual,
    /// `&=`: all bits set
    AllBits,
    /// `=`
    Equal,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `&`: any bit set
    AnyBit,
}

impl Op {
    /// Every operator in the order in which the grammar searches for them.
    pub const SEARCH_ORDER: [Op; 8] = [
        Op::NotEqual,
        Op::GreaterOrEqual,
        Op::LessOrEqual,
        Op::AllBits,
        Op::Equal,
        Op::Greater,
        Op::Less,
        Op::AnyBit,
    ];

    /// The kernel's number of the operator.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Op::NotEqual => 0x3000_0000,
            Op::GreaterOrEqual => 0x6000_0000,
            Op::LessOrEqual => 0x5000_0000,
            Op::AllBits => 0x4800_0000,
            Op::Equal => 0x4000_0000,
            Op::Greater => 0x2000_0000,
            Op::Less => 0x1000_0000,
            Op::AnyBit => 0x0800_0000,
        }
    }

    /// The operator as written in a rule.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Op::NotEqual => "!=",
            Op::GreaterOrEqual => ">=",
            Op::LessOrEqual => "<=",
            Op::AllBits => "&=",
            Op::Equal => "=",
            Op::Greater => ">",
            Op::Less => "<",
            Op::AnyBit => "&",
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Op> {
        Op::SEARCH_ORDER.into_iter().find(|op| op.number() == number)
    }

    pub(crate) const fn bit(self) -> u8 {
        match self {
            Op::NotEqual => 1,
            Op::GreaterOrEqual => 2,
            Op::LessOrEqual => 4,
            Op::AllBits => 8,
            Op::Equal => 16,
            Op::Greater => 32,
            Op::Less => 64,
            Op::AnyBit => 128,
        }
    }
}
