//! The heartbeat: a message of our own that must come back as a record.
//!
//! It proves the way from the kernel to us, flushes the kernel's retry queue,
//! wakes waiting callers, bounds how long a gap at the end of the stream
//! stays unseen, and measures the delay (`reference/kernel-audit.md` 7).

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};

use crate::wire::kind;

/// Beats that may be under way; older ones are given up.
const REMEMBERED: usize = 16;

/// Makes heartbeats and recognises them.
#[derive(Debug)]
pub struct Heartbeat {
    /// ` pid=N ` as the kernel writes it: no other process can forge this.
    pid: String,
    nonce: u64,
    count: u64,
    /// Number and time (monotonic ns) of beats not seen again yet.
    under_way: VecDeque<(u64, u64)>,
}

impl Heartbeat {
    /// A heartbeat of this process with a fresh nonce.
    #[must_use]
    pub fn new() -> Heartbeat {
        // Keyed from the system's randomness; only has to differ between
        // instances in one process, the pid is checked by the kernel.
        let nonce = std::hash::RandomState::new().build_hasher().finish();
        Heartbeat {
            pid: format!(" pid={} ", std::process::id()),
            nonce,
            count: 0,
            under_way: VecDeque::with_capacity(REMEMBERED),
        }
    }

    /// The type of the message.
    pub const KIND: u16 = kind::TRUSTED_APP;

    /// The next message, sent at `now` (monotonic ns).
    pub fn beat(&mut self, now: u64) -> String {
        self.count += 1;
        if self.under_way.len() == REMEMBERED {
            self.under_way.pop_front();
        }
        self.under_way.push_back((self.count, now));
        format!("op=auditmon-heartbeat nonce={:016x} count={}", self.nonce, self.count)
    }

    /// How this process's heartbeats can be told from other records, for the
    /// thread that sees the records.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            pid: self.pid.clone().into_bytes(),
            text: format!("op=auditmon-heartbeat nonce={:016x} count=", self.nonce).into_bytes(),
        }
    }

    /// A beat came back at `now` (monotonic ns): its delay in ns, unless it
    /// was given up.
    pub fn returned(&mut self, count: u64, now: u64) -> Option<u64> {
        while let Some((number, sent)) = self.under_way.pop_front() {
            if number == count {
                return Some(now.saturating_sub(sent));
            }
            if number > count {
                self.under_way.push_front((number, sent));
                break;
            }
        }
        None
    }

    /// How long the oldest beat has been under way at `now`, ns.
    #[must_use]
    pub fn overdue(&self, now: u64) -> Option<u64> {
        let (_, sent) = self.under_way.front()?;
        Some(now.saturating_sub(*sent))
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat::new()
    }
}

/// Recognises heartbeats among records.
#[derive(Debug, Clone)]
pub struct Mark {
    pid: Vec<u8>,
    text: Vec<u8>,
}

impl Mark {
    /// The number of the beat, if this record is one of ours. The process id
    /// is the kernel's: it stands before the text that the sender chose.
    #[must_use]
    pub fn recognise(&self, kind: u16, payload: &[u8]) -> Option<u64> {
        if kind != Heartbeat::KIND {
            return None;
        }
        let text = find(payload, b" msg='")?;
        let (head, text) = payload.split_at_checked(text)?;
        find(head, &self.pid)?;
        let count = text.get(6..)?.strip_prefix(self.text.as_slice())?;
        let end = count.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(count.get(..end)?).ok()?.parse().ok()
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_its_own_beats_and_no_others() {
        let mut heartbeat = Heartbeat::new();
        let mark = heartbeat.mark();
        let text = heartbeat.beat(1_000);
        let record =
            |pid: u32, text: &str| format!("audit(1.000:5): pid={pid} uid=0 auid=1 ses=1 msg='{text}'").into_bytes();
        let me = std::process::id();
        let ours = record(me, &text);
        assert_eq!(mark.recognise(Heartbeat::KIND, &ours), Some(1));
        assert_eq!(mark.recognise(1300, &ours), None);
        assert_eq!(mark.recognise(Heartbeat::KIND, &record(me + 1, &text)), None);
        // A text that claims our pid.
        let forged = record(me + 1, &format!("pid={me} msg='{text}"));
        assert_eq!(mark.recognise(Heartbeat::KIND, &forged), None);
        assert_eq!(Heartbeat::new().mark().recognise(Heartbeat::KIND, &ours), None);
        assert_eq!(heartbeat.returned(1, 4_000), Some(3_000));
        assert_eq!(heartbeat.returned(1, 4_000), None);
    }

    #[test]
    fn beats_that_never_return_are_bounded() {
        let mut heartbeat = Heartbeat::new();
        for now in 0..100 {
            heartbeat.beat(now);
        }
        assert_eq!(heartbeat.under_way.len(), REMEMBERED);
        assert_eq!(heartbeat.overdue(100), Some(100 - 84));
        assert_eq!(heartbeat.returned(90, 100), Some(11));
        assert_eq!(heartbeat.under_way.len(), 10);
    }
}
