//! Audit netlink sockets: one for control, one for records and nothing else.
//!
//! The kernel looks at the privileges of who opened the socket *and* of each sender, so both are done by the control
//! thread. Receiving needs none.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::privileged;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with, sockopt};

use crate::error::ControlError;

/// Opens an audit socket; the kernel chooses its port id.
///
/// # Errors
/// [`ControlError::Unavailable`] where the kernel has no audit.
pub fn open() -> Result<OwnedFd, ControlError> {
    let during = "opening an audit socket";
    let fail = |errno| ControlError::from_errno(during, errno);
    let fd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::AUDIT),
    )
    .map_err(fail)?;
    bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(fail)?;
    Ok(fd)
}

/// Sends a request to the kernel from the control thread; the answer arrives at the socket.
///
/// # Errors
/// What the kernel says at once; most refusals are in the answer.
pub(crate) fn send(
    privileged: &privileged::Control,
    during: &'static str,
    fd: &Arc<OwnedFd>,
    datagram: Vec<u8>,
) -> Result<(), ControlError> {
    let fd = Arc::clone(fd);
    let sent = privileged.run(during, move || {
        let kernel = SocketAddrNetlink::new(0, 0);
        loop {
            match sendto(&fd, &datagram, SendFlags::empty(), &kernel) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    })?;
    sent.map_err(|errno| ControlError::from_errno(during, errno))
}

/// What became of the wish for a receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveBuffer {
    /// Bytes that the kernel now accounts to the socket at most. A usual
    /// event of three records costs 2.9 KiB of it.
    pub bytes: usize,
    /// Whether it could go beyond `net.core.rmem_max` (CAP_NET_ADMIN).
    pub forced: bool,
}

/// Asks for a receive buffer of `bytes` as the kernel accounts it, and says
/// what was given. Without CAP_NET_ADMIN it ends at `net.core.rmem_max`.
///
/// # Errors
/// Only if the socket is no socket.
pub fn set_receive_buffer(fd: &OwnedFd, bytes: usize) -> Result<ReceiveBuffer, ControlError> {
    let fail = |errno| ControlError::from_errno("setting the receive buffer", errno);
    // The kernel doubles what is asked for, and refuses what does not fit an int.
    let asked = bytes.div_ceil(2).min(i32::MAX as usize / 2);
    let forced = sockopt::set_socket_recv_buffer_size_force(fd, asked).is_ok();
    if !forced {
        sockopt::set_socket_recv_buffer_size(fd, asked).map_err(fail)?;
    }
    let bytes = sockopt::socket_recv_buffer_size(fd).map_err(fail)?;
    Ok(ReceiveBuffer { bytes, forced })
}

/// Makes blocking receives return after this time without data.
pub(crate) fn set_receive_timeout(fd: &OwnedFd, timeout: Duration) -> Result<(), ControlError> {
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Recv, Some(timeout))
        .map_err(|errno| ControlError::from_errno("setting the receive time-out", errno))
}
