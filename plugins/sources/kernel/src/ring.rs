//! The bounded queue of bytes between the thread that receives and the one
//! that understands.
//!
//! One producer appends records to a chunk; one consumer takes whole chunks
//! and gives the empty buffers back. A lock is held only to append (or to
//! swap), so a record costs two uncontended atomic operations and one copy,
//! and no allocation while the consumer keeps up.
//!
//! The consumer lets records gather for 20 ms: waking it for each would cost
//! more than all the rest. While nothing comes, nothing wakes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::serials::{Serials, serial_of};

/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;

/// Bytes in front of each payload.
const HEADER: usize = 16;

/// Empty buffers kept for the next chunks; the rest goes back to the system.
const SPARE: usize = 4;

/// How long the consumer lets records gather. Each waking costs some 20 µs on
/// a busy machine, as much as two events.
const GATHER: Duration = Duration::from_millis(20);

/// Default size of the ring in bytes.
pub const DEFAULT_CAPACITY: usize = 32 << 20;

/// Type of the mark that says "the kernel had to wait for us here" (ENOBUFS).
/// Netlink itself uses 1 to 15, audit 1000 and up.
pub const OVERRUN: u16 = 0;

const TRUNCATED: u16 = 1;

/// One record as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Record type, or [`OVERRUN`].
    pub kind: u16,
    /// The record was longer than the receive buffer; its end is gone.
    pub truncated: bool,
    /// When it was received: monotonic clock, ns, at timer resolution.
    pub arrival: u64,
    /// What follows the netlink header.
    pub payload: &'a [u8],
}

/// Records dropped because the ring was full.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many records.
    pub records: u64,
    /// Of which events: some of their records may have been kept.
    pub serials: Serials,
}

#[derive(Debug, Default)]
struct State {
    /// The chunk being filled.
    filling: Vec<u8>,
    /// Full chunks, oldest first.
    full: VecDeque<Vec<u8>>,
    /// Empty buffers.
    spare: Vec<Vec<u8>>,
    /// Bytes of all records in `filling` and `full`.
    used: usize,
    /// Largest value of `used` so far.
    peak: usize,
    dropped: Dropped,
    /// The consumer sleeps until this many bytes are there; 0: it does not.
    wake_at: usize,
    producer_gone: bool,
    /// Somebody wants the consumer to look around.
    woken: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    capacity: usize,
}

/// Makes a ring that holds at most `capacity` bytes (at least one chunk of
/// 256 KiB), headers of 16 bytes a record included.
#[must_use]
pub fn ring(capacity: usize) -> (Producer, Consumer) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            filling: Vec::with_capacity(CHUNK),
            ..State::default()
        }),
        filled: Condvar::new(),
        capacity: capacity.max(CHUNK),
    });
    let consumer = Consumer {
        shared: Arc::clone(&shared),
        busy: false,
    };
    (Producer(shared), consumer)
}

/// The end of the thread that receives.
#[derive(Debug)]
pub struct Producer(Arc<Shared>);

impl Producer {
    /// Appends a record, or counts it as dropped. Never waits for room.
    /// Returns whether it was taken.
    pub fn push(&self, kind: u16, truncated: bool, arrival: u64, payload: &[u8]) -> bool {
        let need = HEADER + payload.len();
        let mut state = self.0.state.lock();
        if state.used + need > self.0.capacity {
            state.dropped.records += u64::from(kind != OVERRUN);
            if let Some(serial) = serial_of(payload) {
                state.dropped.serials.insert(serial);
            }
            return false;
        }
        if state.filling.len() + need > CHUNK && !state.filling.is_empty() {
            let empty = state.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK));
            let full = std::mem::replace(&mut state.filling, empty);
            state.full.push_back(full);
        }
        let [k0, k1] = kind.to_ne_bytes();
        let [f0, f1] = if truncated { TRUNCATED } else { 0 }.to_ne_bytes();
        let [l0, l1, l2, l3] = (payload.len() as u32).to_ne_bytes();
        let [a0, a1, a2, a3, a4, a5, a6, a7] = arrival.to_ne_bytes();
        state
            .filling
            .extend_from_slice(&[k0, k1, f0, f1, l0, l1, l2, l3, a0, a1, a2, a3, a4, a5, a6, a7]);
        state.filling.extend_from_slice(payload);
        state.used += need;
        state.peak = state.peak.max(state.used);
        if state.wake_at != 0 && state.used >= state.wake_at {
            state.wake_at = 0;
            drop(state);
            self.0.filled.notify_one();
        }
        true
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.producer_gone = true;
        state.wake_at = 0;
        drop(state);
        self.0.filled.notify_one();
    }
}

/// The end of the thread that understands.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// The last call gave records: more are likely to come soon.
    busy: bool,
}

/// What the consumer got.
#[derive(Debug)]
pub enum Taken {
    /// Some records, in order.
    Chunk(Chunk),
    /// Nothing came in the time given.
    Nothing,
    /// Nothing is left and the producer is gone.
    Closed,
}

impl Consumer {
    /// Takes the oldest records: at once when a chunk is full, else about 20
    /// ms after the first one, or after the last call if that gave some.
    /// Waits at most about `timeout` (or those 20 ms) for a first one.
    pub fn take(&mut self, timeout: Duration) -> Taken {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        // While records keep coming, one timed wait a round: not one for the
        // first record and another to let more gather.
        let mut gather = std::mem::take(&mut self.busy);
        loop {
            if let Some(chunk) = state.full.pop_front() {
                state.used = state.used.saturating_sub(chunk.len());
                self.busy = true;
                return Taken::Chunk(Chunk(chunk));
            }
            if !state.producer_gone && std::mem::take(&mut state.woken) {
                self.busy = state.used > 0;
                return Taken::Nothing;
            }
            if gather && !state.producer_gone {
                gather = false;
                state.wake_at = CHUNK;
                self.shared.filled.wait_for(&mut state, GATHER);
            } else if state.used > 0 {
                state.used = 0;
                self.busy = true;
                let empty = state.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK));
                return Taken::Chunk(Chunk(std::mem::replace(&mut state.filling, empty)));
            } else if state.producer_gone {
                return Taken::Closed;
            } else if Instant::now() >= deadline {
                return Taken::Nothing;
            } else {
                state.wake_at = 1;
                self.shared.filled.wait_until(&mut state, deadline);
                gather = state.used > 0;
            }
            state.wake_at = 0;
        }
    }

    /// Gives a chunk's buffer back.
    pub fn recycle(&mut self, chunk: Chunk) {
        let Chunk(mut buffer) = chunk;
        // A record longer than a chunk made a buffer that is not kept.
        if buffer.capacity() > CHUNK {
            return;
        }
        buffer.clear();
        let mut state = self.shared.state.lock();
        if state.spare.len() < SPARE {
            state.spare.push(buffer);
        }
    }

    /// What wakes this consumer without a record.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// What was dropped since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.shared.state.lock().dropped)
    }

    /// Bytes waiting now, and the most that ever waited.
    #[must_use]
    pub fn level(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.used, state.peak)
    }

    /// Whether the producer is gone: nothing more will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().producer_gone
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.state.lock().used == 0
    }
}

/// Makes the consumer return from [`Consumer::take`] with nothing, to look
/// at what else there is to do.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Wakes the consumer, or the next call of `take`. Never blocks for long.
    pub fn wake(&self) {
        self.0.state.lock().woken = true;
        self.0.filled.notify_one();
    }
}

/// Some records, in order of arrival.
#[derive(Debug)]
pub struct Chunk(Vec<u8>);

impl Chunk {
    /// The records.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries(&self.0)
    }

    /// Their bytes, headers included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Iterator over the records of a chunk.
#[derive(Debug, Clone)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (header, rest) = self.0.split_first_chunk::<HEADER>()?;
        let [k0, k1, f0, f1, l0, l1, l2, l3, arrival @ ..] = *header;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let (payload, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(Entry {
            kind: u16::from_ne_bytes([k0, k1]),
            truncated: u16::from_ne_bytes([f0, f1]) & TRUNCATED != 0,
            arrival: u64::from_ne_bytes(arrival),
            payload,
        })
    }
}

#[cfg(test)]
mod tests;
