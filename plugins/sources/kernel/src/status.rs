//! The kernel's audit status: read by length, changed one setting at a time.
//!
//! Source: `struct audit_status` (`linux/audit.h`), by kernel version in
//! `reference/kernel-audit.md` 3; 44 bytes on 6.18.

use netlink_packet_audit::StatusMessage;

/// Fewest bytes of a status (kernels before 3.14).
pub const MIN_LEN: usize = 32;

/// The kernel's audit status at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked until the machine restarts.
    pub enabled: u32,
    /// What a lost record causes: 0 nothing, 1 a line in the kernel log, 2 panic.
    pub failure: u32,
    /// Process id of the registered daemon, 0 if none. May be of a dead one.
    pub pid: u32,
    /// Records a second, 0 is no limit.
    pub rate_limit: u32,
    /// Records in the kernel's main queue, 0 is no limit.
    pub backlog_limit: u32,
    /// Records or events lost since boot; wraps. Not all losses are counted.
    pub lost: u32,
    /// Records in the main queue; retry and hold queues are not visible.
    pub backlog: u32,
    /// Feature bits (Linux 3.14).
    pub features: Option<u32>,
    /// Jiffies that a caller waits for room in the queue (Linux 3.14).
    pub backlog_wait_time: Option<u32>,
    /// Jiffies that callers have waited in sum; wraps (Linux 5.9).
    pub backlog_wait_time_actual: Option<u32>,
}

impl Status {
    /// Reads the payload of an AUDIT_GET reply; tail fields that the kernel
    /// does not have are `None`, bytes behind the known ones are ignored.
    /// `None` below 32 bytes.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Status> {
        let word = |index: usize| {
            let bytes = payload.get(4 * index..4 * index + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        Some(Status {
            enabled: word(1)?,
            failure: word(2)?,
            pid: word(3)?,
            rate_limit: word(4)?,
            backlog_limit: word(5)?,
            lost: word(6)?,
            backlog: word(7)?,
            features: word(8),
            backlog_wait_time: word(9),
            backlog_wait_time_actual: word(10),
        })
    }

    /// Whether rules and settings cannot be changed until the next boot.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.enabled >= 2
    }

    /// The present value of a setting; `None` where the kernel has none.
    #[must_use]
    pub const fn value(&self, setting: SettingKind) -> Option<u32> {
        match setting {
            SettingKind::Enabled => Some(self.enabled),
            SettingKind::Failure => Some(self.failure),
            SettingKind::RateLimit => Some(self.rate_limit),
            SettingKind::BacklogLimit => Some(self.backlog_limit),
            SettingKind::BacklogWaitTime => self.backlog_wait_time,
        }
    }
}

/// A setting of the kernel that this source may change and put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SettingKind {
    /// Auditing off (0) or on (1).
    Enabled,
    /// What a lost record causes.
    Failure,
    /// Records a second.
    RateLimit,
    /// Records in the main queue.
    BacklogLimit,
    /// Jiffies that a caller waits.
    BacklogWaitTime,
}

impl SettingKind {
    /// Every setting, in the order in which they are changed: switching
    /// auditing on comes last.
    pub const ALL: [SettingKind; 5] = [
        SettingKind::BacklogLimit,
        SettingKind::BacklogWaitTime,
        SettingKind::RateLimit,
        SettingKind::Failure,
        SettingKind::Enabled,
    ];

    /// The name that auditctl prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SettingKind::Enabled => "enabled",
            SettingKind::Failure => "failure",
            SettingKind::RateLimit => "rate_limit",
            SettingKind::BacklogLimit => "backlog_limit",
            SettingKind::BacklogWaitTime => "backlog_wait_time",
        }
    }

    /// The request that sets it. 40 bytes: a shorter message with the wait
    /// time is refused.
    pub(crate) fn message(self, value: u32) -> StatusMessage {
        let mut status = StatusMessage::new();
        match self {
            SettingKind::Enabled => (status.mask, status.enabled) = (0x01, value),
            SettingKind::Failure => (status.mask, status.failure) = (0x02, value),
            SettingKind::RateLimit => (status.mask, status.rate_limiting) = (0x08, value),
            SettingKind::BacklogLimit => (status.mask, status.backlog_limit) = (0x10, value),
            SettingKind::BacklogWaitTime => {
                (status.mask, status.backlog_wait_time) = (0x20, value);
            }
        }
        status
    }
}

/// The request that registers (`pid` = own process id) or unregisters (0).
pub(crate) fn registration(pid: u32) -> StatusMessage {
    let mut status = StatusMessage::new();
    status.mask = 0x04;
    status.pid = pid;
    status
}
