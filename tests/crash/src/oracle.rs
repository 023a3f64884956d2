//! A second pair of eyes: the kernel's multicast group, read beside the agent.
//!
//! What the kernel numbers passes here whether or not the agent's socket has room, so this knows of every
//! serial what it was, and with it whether the agent's account is exact.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use auditmon_source_kernel::serials::serial_of;
use auditmon_source_kernel::socket::set_receive_buffer;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt};

use crate::kernel::LOAD_DIR;

/// Bit of the group that reads along.
const READLOG: u32 = 1;
const PATH: u16 = 1302;
const HEARTBEAT: u16 = 1121;
/// Room for seconds of a full load.
const BUFFER: usize = 512 << 20;

/// What a serial was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The load's call with this number.
    Call(u64),
    /// An agent's heartbeat, which is not shipped.
    Heartbeat,
    /// Anything else.
    Other,
}

/// All that passed.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every serial.
    pub serials: BTreeMap<u32, What>,
    /// Times that this reader itself was too slow: then it proves nothing.
    pub overruns: u64,
}

impl Seen {
    /// Serial of each of the load's calls.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<u64, u32> {
        let call = |(serial, what): (&u32, &What)| match what {
            What::Call(number) => Some((*number, *serial)),
            _ => None,
        };
        self.serials.iter().filter_map(call).collect()
    }
}

/// The reader.
pub struct Oracle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Oracle {
    /// Starts reading along.
    #[must_use]
    pub fn start() -> Self {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::AUDIT),
        )
        .unwrap();
        assert!(set_receive_buffer(&fd, BUFFER).unwrap().forced);
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(Duration::from_millis(100))).unwrap();
        bind(&fd, &SocketAddrNetlink::new(0, READLOG)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || read(&fd, &told));
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Reads what is left and gives everything.
    #[must_use]
    pub fn finish(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A fault of the test is under way already.
            let _ = thread.join();
        }
    }
}

fn read(fd: &OwnedFd, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = vec![0_u8; 32 << 10];
    loop {
        match recv(fd, buffer.as_mut_slice(), RecvFlags::TRUNC) {
            Ok((len, _)) => take(&mut seen, &buffer[..len]),
            Err(Errno::AGAIN) if stop.load(Ordering::Relaxed) => return seen,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOBUFS) => seen.overruns += 1,
            Err(error) => panic!("the multicast group: {error}"),
        }
    }
}

fn take(seen: &mut Seen, datagram: &[u8]) {
    let Some((header, payload)) = datagram.split_at_checked(16) else {
        return;
    };
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let Some(serial) = serial_of(payload) else { return };
    let what = seen.serials.entry(serial).or_insert(What::Other);
    let text = || String::from_utf8_lossy(payload);
    if kind == HEARTBEAT && text().contains("op=auditmon-heartbeat") {
        *what = What::Heartbeat;
    } else if kind == PATH
        && let Some(number) = number(&text())
    {
        *what = What::Call(number);
    }
}

/// The number in a path of the load, anywhere in this text.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(LOAD_DIR)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
