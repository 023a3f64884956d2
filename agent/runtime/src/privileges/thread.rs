//! Ids and capabilities of the calling thread.
//!
//! Linux keeps them by thread; the C library's `setuid` changes all of a process, rustix's functions change one.

use std::io;

use auditmon_core::privileged::Capability;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// What the calling thread has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) uid: u32,
    pub(super) permitted: CapabilitySet,
}

impl Held {
    pub(super) fn now() -> io::Result<Self> {
        Ok(Self {
            uid: rustix::process::geteuid().as_raw(),
            permitted: capabilities(None)?.permitted,
        })
    }

    pub(super) const fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Whether there is nothing to give up.
    pub(super) const fn is_ordinary(self) -> bool {
        !self.is_root() && self.permitted.is_empty()
    }
}

/// The capability's place in the kernel's sets.
pub(super) const fn bit(capability: Capability) -> CapabilitySet {
    match capability {
        Capability::AuditControl => CapabilitySet::AUDIT_CONTROL,
        Capability::AuditWrite => CapabilitySet::AUDIT_WRITE,
        Capability::AuditRead => CapabilitySet::AUDIT_READ,
        Capability::NetAdmin => CapabilitySet::NET_ADMIN,
        Capability::NetBindService => CapabilitySet::NET_BIND_SERVICE,
        Capability::DacReadSearch => CapabilitySet::DAC_READ_SEARCH,
    }
}

/// Names of those that can be needed at all.
pub(super) fn names(set: CapabilitySet) -> impl Iterator<Item = &'static str> {
    let among = move |capability: &Capability| set.contains(bit(*capability));
    Capability::ALL.into_iter().filter(among).map(Capability::name)
}

/// Leaves the calling thread these ids and exactly these of its capabilities, for good.
///
/// # Errors
/// The system refuses, or it has not worked; then the process must end.
pub(super) fn reduce(ids: Option<(Uid, Gid)>, keep: CapabilitySet) -> io::Result<()> {
    let held = capabilities(None)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set();
    }
    // Unknown before Linux 4.3: then there are none.
    let _ = clear_ambient_capability_set();
    if held.effective.contains(CapabilitySet::SETGID) {
        set_thread_groups(&[])?;
    }
    if let Some((uid, gid)) = ids {
        if !keep.is_empty() {
            set_keep_capabilities(true)?;
        }
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        set_keep_capabilities(false)?;
    }
    let sets = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    verify(ids, sets)
}

/// With an empty one no program that is executed can get anything back.
fn empty_bounding_set() {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if remove_capability_from_bounding_set(one).is_err() {
            // The kernel knows no more.
            return;
        }
    }
}

/// Nothing is believed here that can be looked at.
fn verify(ids: Option<(Uid, Gid)>, sets: CapabilitySets) -> io::Result<()> {
    if capabilities(None)? != sets {
        return Err(io::Error::other("capabilities are still there"));
    }
    if let Some((uid, gid)) = ids {
        use rustix::process::{getegid, geteuid, getgid, getuid};
        let is_now = (getuid(), geteuid(), getgid(), getegid());
        if is_now != (uid, uid, gid, gid) {
            return Err(io::Error::other(format!(
                "the user is {is_now:?} and should be {ids:?}"
            )));
        }
        if set_thread_res_uid(None, Uid::ROOT, None).is_ok() {
            return Err(io::Error::other("uid 0 can be taken back"));
        }
    }
    Ok(())
}
