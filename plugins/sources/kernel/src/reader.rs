//! The thread that receives: blocking receive into one buffer, copy into the
//! ring, nothing else.
//!
//! While the socket is full the kernel's one audit thread waits 100 ms for
//! it, and all of the host's audited calls behind it. So nothing here may
//! block, allocate without bound, or log a line per record.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use auditmon_core::privileged;
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, recvfrom};
use rustix::time::{ClockId, clock_gettime};

use crate::control::TIME_OUT;
use crate::error::{ControlError, RegisterError};
use crate::holder::Holder;
use crate::ring::{OVERRUN, Producer};
use crate::socket::{self, ReceiveBuffer};
use crate::status;
use crate::wire::{Datagram, Request, kind};

/// Bytes for one datagram; the longest known record is 8,658.
const BUFFER_LEN: usize = 32 << 10;

/// How long the thread sleeps in a receive call before it looks whether it
/// should end.
const LOOK_UP: Duration = Duration::from_millis(200);

/// Errors in a row after which the socket is given up.
const MAX_ERRORS: u32 = 100;

/// What the thread has counted. All only grow.
#[derive(Debug, Default)]
pub struct ReadStats {
    /// Records received.
    pub records: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Times that the kernel said it had to wait for us (ENOBUFS).
    pub overruns: AtomicU64,
    /// Records longer than the buffer.
    pub truncated: AtomicU64,
    /// Records that found the ring full.
    pub dropped: AtomicU64,
    /// Datagrams that did not come from the kernel, or were none.
    pub foreign: AtomicU64,
    /// Receive calls that failed otherwise.
    pub errors: AtomicU64,
}

/// Monotonic time in ns at the resolution of the kernel's timer tick.
#[must_use]
pub fn coarse_now() -> u64 {
    nanos(ClockId::MonotonicCoarse)
}

/// Monotonic time in ns, exact; costs more than [`coarse_now`].
#[must_use]
pub fn exact_now() -> u64 {
    nanos(ClockId::Monotonic)
}

fn nanos(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[derive(Debug)]
struct Shared {
    fd: Arc<OwnedFd>,
    /// End as soon as the socket is empty.
    drain: AtomicBool,
    stats: Arc<ReadStats>,
    /// The last answer to a request made on this socket.
    answer: Mutex<Option<(u32, i32)>>,
    answered: Condvar,
}

/// The record socket and the thread that reads it.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    privileged: privileged::Control,
    receive_buffer: ReceiveBuffer,
    sequence: u32,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Opens the record socket with a receive buffer of `receive_buffer`
    /// bytes, with the privileges of this control thread, and starts the
    /// thread that reads it. That needs none; it ends when [`Reader::stop`]
    /// is called or the socket fails; then the ring closes.
    ///
    /// # Errors
    /// [`ControlError::Unavailable`] where the kernel has no audit.
    pub fn start(
        receive_buffer: usize,
        ring: Producer,
        privileged: &privileged::Control,
    ) -> Result<Reader, ControlError> {
        let (fd, receive_buffer) = privileged.run("opening the record socket", move || {
            let fd = socket::open()?;
            let receive_buffer = socket::set_receive_buffer(&fd, receive_buffer)?;
            Ok::<_, ControlError>((fd, receive_buffer))
        })??;
        socket::set_receive_timeout(&fd, LOOK_UP)?;
        let shared = Arc::new(Shared {
            fd: Arc::new(fd),
            drain: AtomicBool::new(false),
            stats: Arc::default(),
            answer: Mutex::new(None),
            answered: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("kernel-read".into())
            .spawn(move || run(&for_thread, &ring))
            .map_err(|error| ControlError::Os {
                during: "starting the reading thread",
                errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
            })?;
        Ok(Reader {
            shared,
            privileged: privileged.clone(),
            receive_buffer,
            sequence: 0,
            thread: Some(thread),
        })
    }

    /// What became of the receive buffer.
    #[must_use]
    pub const fn receive_buffer(&self) -> ReceiveBuffer {
        self.receive_buffer
    }

    /// The thread's counters.
    #[must_use]
    pub fn stats(&self) -> Arc<ReadStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Registers this socket with the kernel: from now on all records come
    /// here. `registered` finds out who is registered when it is refused.
    ///
    /// # Errors
    /// [`RegisterError::Held`] naming the holder; [`ControlError`] for
    /// missing privilege or no audit.
    pub fn register(&mut self, registered: impl FnOnce() -> Result<u32, ControlError>) -> Result<(), RegisterError> {
        const DURING: &str = "registering as the audit daemon";
        let fail = |errno| ControlError::from_errno(DURING, errno);
        self.sequence = self.sequence.wrapping_add(1);
        let request = Request::SetStatus(status::registration(std::process::id()));
        let datagram = request.datagram(self.sequence);
        socket::send(&self.privileged, DURING, &self.shared.fd, datagram)?;
        match self.wait_for_answer() {
            Some(code) if code >= 0 => Ok(()),
            Some(code) => {
                let errno = Errno::from_raw_os_error(code.saturating_neg());
                if errno == Errno::EXIST {
                    return Err(RegisterError::Held(Holder::find(registered()?)));
                }
                Err(fail(errno).into())
            }
            None => Err(ControlError::TimedOut {
                during: DURING,
                seconds: TIME_OUT.as_secs(),
            }
            .into()),
        }
    }

    fn wait_for_answer(&self) -> Option<i32> {
        let deadline = Instant::now() + TIME_OUT;
        let mut answer = self.shared.answer.lock();
        loop {
            match answer.take() {
                Some((sequence, code)) if sequence == self.sequence => return Some(code),
                _ => {}
            }
            if self.shared.answered.wait_until(&mut answer, deadline).timed_out() {
                return None;
            }
        }
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Reads what is still in the socket and ends the thread; unregister
    /// first, else there is always more. Returns within about 200 ms, or
    /// when two seconds of records have been read.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.drain.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread has no code that panics; if it did, there is
            // nothing to clean up behind it.
            let _ = thread.join();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &Shared, ring: &Producer) {
    let mut buffer = vec![0; BUFFER_LEN];
    let stats = &*shared.stats;
    let mut errors = 0;
    let mut drain_until = None;
    loop {
        let mut flags = RecvFlags::TRUNC;
        if shared.drain.load(Ordering::Relaxed) {
            let end = *drain_until.get_or_insert_with(|| Instant::now() + Duration::from_secs(2));
            if Instant::now() > end {
                return;
            }
            flags |= RecvFlags::DONTWAIT;
        }
        match recvfrom(&shared.fd, buffer.as_mut_slice(), flags) {
            Ok((_, len, sender)) => {
                errors = 0;
                let from_kernel = sender
                    .and_then(|address| SocketAddrNetlink::try_from(address).ok())
                    .is_some_and(|address| address.pid() == 0);
                let truncated = len > BUFFER_LEN;
                let bytes = buffer.get(..len.min(BUFFER_LEN)).unwrap_or_default();
                match Datagram::cut(bytes) {
                    Some(datagram) if from_kernel => accept(shared, ring, datagram, truncated),
                    _ => count(&stats.foreign, 1),
                }
            }
            Err(Errno::AGAIN) if drain_until.is_some() => return,
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Said once for each time that the socket was full, before the
            // records that are still in it. Recoverable, and a sign of loss.
            Err(Errno::NOBUFS) => {
                count(&stats.overruns, 1);
                ring.push(OVERRUN, false, coarse_now(), &[]);
            }
            Err(_) => {
                count(&stats.errors, 1);
                errors += 1;
                if errors > MAX_ERRORS {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn accept(shared: &Shared, ring: &Producer, datagram: Datagram<'_>, truncated: bool) {
    let stats = &*shared.stats;
    if let Some(code) = datagram.error_code() {
        *shared.answer.lock() = Some((datagram.sequence, code));
        shared.answered.notify_all();
        return;
    }
    if datagram.kind < kind::GET {
        return;
    }
    count(&stats.records, 1);
    count(&stats.bytes, datagram.payload.len() as u64);
    if truncated {
        count(&stats.truncated, 1);
    }
    if !ring.push(datagram.kind, truncated, coarse_now(), datagram.payload) {
        count(&stats.dropped, 1);
    }
}

/// One thread writes, others read: a load and a store suffice, and cost less
/// than an atomic addition.
fn count(counter: &AtomicU64, more: u64) {
    let value = counter.load(Ordering::Relaxed);
    counter.store(value.wrapping_add(more), Ordering::Relaxed);
}
