//! What can go wrong between this source and the kernel, in plain words.

use auditmon_core::privileged;
use rustix::io::Errno;

use crate::holder::Holder;

/// A request to the kernel that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// EPERM: privilege is missing, or the configuration is locked.
    #[error(
        "{during}: not permitted; it needs CAP_AUDIT_CONTROL (CAP_AUDIT_WRITE for messages) in the host's PID namespace, and a configuration that is not locked"
    )]
    NotPermitted {
        /// What was asked.
        during: &'static str,
    },
    /// ECONNREFUSED or EPROTONOSUPPORT: there is no audit here.
    #[error(
        "{during}: audit is not available: the kernel is built without it, was started with audit=0, or this is a user namespace of its own"
    )]
    Unavailable {
        /// What was asked.
        during: &'static str,
    },
    /// EEXIST of a rule.
    #[error("{during}: it is loaded already")]
    Exists {
        /// What was asked.
        during: &'static str,
    },
    /// ENOENT of a rule.
    #[error("{during}: no such rule is loaded, or a path in it does not exist")]
    Missing {
        /// What was asked.
        during: &'static str,
    },
    /// EINVAL.
    #[error("{during}: the kernel takes it for malformed or does not support a part of it")]
    Invalid {
        /// What was asked.
        during: &'static str,
    },
    /// No answer within the time given.
    #[error("{during}: no answer from the kernel within {seconds} s")]
    TimedOut {
        /// What was asked.
        during: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The thread that has the privileges did not do it.
    #[error("{0}")]
    Thread(#[from] privileged::ControlError),
    /// An answer that makes no sense.
    #[error("{during}: the kernel's answer is not understood")]
    Answer {
        /// What was asked.
        during: &'static str,
    },
    /// Any other error of the system.
    #[error("{during}: {errno}")]
    Os {
        /// What was asked.
        during: &'static str,
        /// The system's error.
        errno: Errno,
    },
}

impl ControlError {
    /// An error of the system, in words where its meaning is known.
    #[must_use]
    pub fn from_errno(during: &'static str, errno: Errno) -> ControlError {
        match errno {
            Errno::PERM | Errno::ACCESS => ControlError::NotPermitted { during },
            Errno::CONNREFUSED | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => ControlError::Unavailable { during },
            Errno::EXIST => ControlError::Exists { during },
            Errno::NOENT => ControlError::Missing { during },
            Errno::INVAL => ControlError::Invalid { during },
            errno => ControlError::Os { during, errno },
        }
    }
}

/// Why registering as the kernel's audit daemon failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Somebody else is registered.
    #[error("the kernel's audit records go to {0}")]
    Held(Holder),
    /// Anything else.
    #[error(transparent)]
    Control(#[from] ControlError),
}
