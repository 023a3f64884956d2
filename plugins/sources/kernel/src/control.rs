//! The control socket: requests to the kernel and their answers.
//!
//! Never the record socket: there, an answer would wait behind the records
//! (`reference/kernel-audit.md` 1). The kernel acknowledges first and replies
//! second, from another thread, so answers are matched by sequence number.
//!
//! Requests are sent by the agent's control thread, which has the privileges;
//! whoever asks waits for the answer.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit_rule::Rule;
use auditmon_core::privileged;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, recvfrom};

use crate::error::ControlError;
use crate::socket;
use crate::status::{self, SettingKind, Status};
use crate::wire::{Datagram, Request, kind};

/// How long one request may take.
pub const TIME_OUT: Duration = Duration::from_secs(5);

/// Longest answer: a rule with 64 strings of 4 KiB would be longer, but rules
/// have at most one path and one program and one key.
const BUFFER_LEN: usize = 64 << 10;

/// More loaded rules than this are not listed: a bound, far beyond what a
/// host can bear (each costs 11 ns on every system call).
const MAX_RULES: usize = 20_000;

/// A rule as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// A rule that this program understands, normalised.
    Rule(Box<Rule>),
    /// One it does not: left alone.
    Unknown(Vec<u8>),
}

/// What comes after the acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    None,
    One,
    UntilDone,
}

/// The control socket. Its requests block, each at most five seconds.
#[derive(Debug)]
pub struct Control {
    privileged: privileged::Control,
    fd: Arc<OwnedFd>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Control {
    /// Opens the socket, with the privileges of this control thread.
    ///
    /// # Errors
    /// [`ControlError::Unavailable`] where the kernel has no audit.
    pub fn open(privileged: &privileged::Control) -> Result<Control, ControlError> {
        let fd = privileged.run("opening an audit socket", socket::open)??;
        Ok(Control {
            privileged: privileged.clone(),
            fd: Arc::new(fd),
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// The same with a thread of its own that may do what the caller may, for
    /// tests and tools.
    ///
    /// # Errors
    /// As [`Control::open`].
    pub fn of_caller() -> Result<Control, ControlError> {
        let during = "starting a thread";
        let started = privileged::Control::of_caller(Vec::new());
        let thread = started
            .map_err(|error| ControlError::from_errno(during, Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)))?;
        Control::open(&thread)
    }

    /// The kernel's audit status.
    ///
    /// # Errors
    /// Without CAP_AUDIT_CONTROL [`ControlError::NotPermitted`].
    pub fn status(&mut self) -> Result<Status, ControlError> {
        let request = Request::GetStatus;
        let during = request.name();
        let replies = self.ask(&request, Reply::One)?;
        let status = replies.first().and_then(|payload| Status::parse(payload));
        status.ok_or(ControlError::Answer { during })
    }

    /// Changes one setting.
    ///
    /// # Errors
    /// What the kernel refuses; locked is [`ControlError::NotPermitted`].
    pub fn set(&mut self, setting: SettingKind, value: u32) -> Result<(), ControlError> {
        self.ask(&Request::SetStatus(setting.message(value)), Reply::None)?;
        Ok(())
    }

    /// Gives the registration back. Only the registered process can.
    ///
    /// # Errors
    /// If it is not ours, or privilege is gone, [`ControlError::NotPermitted`].
    pub fn unregister(&mut self) -> Result<(), ControlError> {
        self.ask(&Request::SetStatus(status::registration(0)), Reply::None)?;
        Ok(())
    }

    /// The loaded rules: by list, inside a list in the order of evaluation.
    ///
    /// # Errors
    /// As [`Control::status`].
    pub fn rules(&mut self) -> Result<Vec<Loaded>, ControlError> {
        let replies = self.ask(&Request::ListRules, Reply::UntilDone)?;
        let decode = |payload: Vec<u8>| match Rule::decode(&payload) {
            Ok(rule) => Loaded::Rule(Box::new(rule.normalised())),
            Err(_) => Loaded::Unknown(payload),
        };
        Ok(replies.into_iter().map(decode).collect())
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// [`ControlError::Exists`] if the same is loaded,
    /// [`ControlError::Missing`] if the directory of a path does not exist,
    /// [`ControlError::Invalid`] for a field this kernel does not know.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), ControlError> {
        let body = encoded(rule, "adding an audit rule")?;
        self.ask(&Request::AddRule(&body), Reply::None)?;
        Ok(())
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// [`ControlError::Missing`] if it is not loaded.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), ControlError> {
        let body = encoded(rule, "deleting an audit rule")?;
        self.ask(&Request::DeleteRule(&body), Reply::None)?;
        Ok(())
    }

    /// Sends a message that becomes a record, if auditing is on. The text
    /// gets its NUL here; the kernel cuts it at 8,560 bytes.
    ///
    /// # Errors
    /// Without CAP_AUDIT_WRITE [`ControlError::NotPermitted`].
    pub fn message(&mut self, kind: u16, text: &[u8]) -> Result<(), ControlError> {
        let mut body = text.to_vec();
        body.push(0);
        self.ask(&Request::User(kind, &body), Reply::None)?;
        Ok(())
    }

    /// Login uid and pid of the last sender of SIGTERM, SIGHUP, SIGUSR1 or
    /// SIGUSR2 to the registered process; `None` if nobody did.
    ///
    /// # Errors
    /// As [`Control::status`].
    pub fn signal_sender(&mut self) -> Result<Option<(u32, i32)>, ControlError> {
        let request = Request::SignalInfo;
        let during = request.name();
        let replies = self.ask(&request, Reply::One)?;
        let reply = replies.first().and_then(|payload| payload.first_chunk::<8>());
        let [u0, u1, u2, u3, p0, p1, p2, p3] = *reply.ok_or(ControlError::Answer { during })?;
        let pid = i32::from_ne_bytes([p0, p1, p2, p3]);
        Ok((pid > 0).then_some((u32::from_ne_bytes([u0, u1, u2, u3]), pid)))
    }

    /// Sends a request and gathers what belongs to it.
    fn ask(&mut self, request: &Request<'_>, reply: Reply) -> Result<Vec<Vec<u8>>, ControlError> {
        let during = request.name();
        let fail = |errno| ControlError::from_errno(during, errno);
        let deadline = Instant::now() + TIME_OUT;
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let datagram = request.datagram(sequence);
        socket::send(&self.privileged, during, &self.fd, datagram)?;
        let mut replies = Vec::new();
        let mut acknowledged = false;
        let mut done = reply == Reply::None;
        while !(acknowledged && done) {
            let Some(datagram) = self.receive(during, deadline)? else {
                continue;
            };
            if datagram.sequence != sequence {
                // An answer that came after its request had been given up.
                continue;
            }
            match datagram.kind {
                kind::ERROR => match datagram.error_code() {
                    Some(code) if code >= 0 => acknowledged = true,
                    Some(code) => {
                        return Err(fail(Errno::from_raw_os_error(code.saturating_neg())));
                    }
                    None => return Err(ControlError::Answer { during }),
                },
                kind::DONE => done = true,
                kind if kind == request.kind() => {
                    if replies.len() >= MAX_RULES {
                        return Err(ControlError::Answer { during });
                    }
                    replies.push(datagram.payload.to_vec());
                    done = done || reply == Reply::One;
                }
                _ => {}
            }
        }
        Ok(replies)
    }

    /// One datagram of the kernel; `None` for one to be passed over.
    fn receive(&mut self, during: &'static str, deadline: Instant) -> Result<Option<Datagram<'_>>, ControlError> {
        let fail = |errno| ControlError::from_errno(during, errno);
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => {
                return Err(ControlError::TimedOut {
                    during,
                    seconds: TIME_OUT.as_secs(),
                });
            }
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        }
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (len, sender) = match recvfrom(&self.fd, self.buffer.as_mut_slice(), flags) {
            Ok((_, len, sender)) => (len, sender),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        };
        let from_kernel = sender
            .and_then(|address| SocketAddrNetlink::try_from(address).ok())
            .is_some_and(|address| address.pid() == 0);
        if !from_kernel {
            return Ok(None);
        }
        match self.buffer.get(..len) {
            Some(bytes) => Ok(Datagram::cut(bytes)),
            None => Err(ControlError::Answer { during }),
        }
    }
}

fn encoded(rule: &Rule, during: &'static str) -> Result<Vec<u8>, ControlError> {
    rule.encode().map_err(|_| ControlError::Invalid { during })
}
