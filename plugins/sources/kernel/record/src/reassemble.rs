//! Joins records to events.
//!
//! Records of one event share a stamp, arrive in order among themselves and between records of
//! other events (reference, section 17). What ends an event is its EOE record; where there is
//! none, PROCTITLE and a grace, else a time without further records. Time is the *arrival* on a
//! monotonic clock: the stamp is when the call was entered, which may be an hour ago.
//!
//! A push costs one look into a hash table, and not even that for a record of the event before.
//! Open events hang in three lists, one for each delay, in the order of their last record: what
//! is due stands at the heads, and nothing ever walks over all of them.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use crate::event::Event;
use crate::execve::Joiner;
use crate::header;
use crate::header::Stamp;
use crate::kind::{Class, RecordType};

use self::key::{Key, KeyHasher};
use self::slot::{Delay, List, Slot};

mod key;
mod slot;

/// What the reassembler may hold, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open events; the one without a record for the longest time goes early. Default 4,096.
    pub max_open: usize,
    /// Bytes of memory of open events; likewise. Default 32 MiB.
    pub max_bytes: usize,
    /// Bytes of payloads kept per event, at least 64 KiB, at most 64 MiB. A quarter is kept for
    /// other types than EXECVE. Default 256 KiB.
    pub max_event_bytes: usize,
    /// Records kept per event. Default 4,096.
    pub max_event_records: usize,
    /// Nanoseconds without a record until an event without PROCTITLE is given up. Default 2 s.
    pub timeout: u64,
    /// Nanoseconds to wait for EOE after PROCTITLE. Default 500 ms.
    pub grace: u64,
    /// Nanoseconds to wait for companions of records that are usually alone. Default 200 ms.
    pub short: u64,
    /// Nanoseconds for which the stamp of a completed event is known, so that what comes after
    /// is given as late. Default 10 s.
    pub remember: u64,
    /// Stamps that are known at most. Default 32,768 (about 2 MiB).
    pub max_remembered: usize,
    /// Whether an event of a system call without EOE counts as incomplete. Off only where a
    /// rule excludes EOE records.
    pub expect_eoe: bool,
}

impl Default for Limits {
    fn default() -> Self {
        const MS: u64 = 1_000_000;
        Self {
            max_open: 4_096,
            max_bytes: 32 << 20,
            max_event_bytes: 256 << 10,
            max_event_records: 4_096,
            timeout: 2_000 * MS,
            grace: 500 * MS,
            short: 200 * MS,
            remember: 10_000 * MS,
            max_remembered: 32_768,
            expect_eoe: true,
        }
    }
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records pushed.
    pub records: u64,
    /// Records without a readable head.
    pub unreadable: u64,
    /// Events given out, late ones included.
    pub events: u64,
    /// Events given out as incomplete.
    pub incomplete: u64,
    /// Events given out early because a limit was reached; counted in `incomplete` too.
    pub evicted: u64,
    /// Events made of records that came after their event.
    pub late: u64,
    /// EOE records that came after their event and said nothing else.
    pub late_ends: u64,
    /// Events of which not all records are kept.
    pub truncated: u64,
}

/// Joins records to events. See the module.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    /// Where the event with a stamp is: a slot, or [`DONE`].
    places: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    lists: [List; 3],
    /// Stamps of completed events, with the time when they may be forgotten.
    done: VecDeque<(Key, u64)>,
    ready: VecDeque<Event>,
    pool: Vec<Event>,
    /// The slot of the newest record, because the next one usually belongs there too.
    newest: u32,
    open: usize,
    bytes: usize,
    now: u64,
    stats: Stats,
}

/// No slot.
const NONE: u32 = u32::MAX;
/// In the place of a slot: the event has been completed.
const DONE: u32 = u32::MAX;
/// A record longer than this comes from no kernel; it is cut.
const MAX_RECORD: usize = 64 << 10;
/// Emptied events that are kept for their memory.
const POOL: usize = 64;
/// An event that keeps getting records is ended after this many timeouts all the same.
const MAX_AGE: u64 = 10;

impl Reassembler {
    /// Makes an empty reassembler.
    #[must_use]
    pub fn new(mut limits: Limits) -> Self {
        limits.max_open = limits.max_open.clamp(1, 1 << 20);
        limits.max_event_bytes = limits.max_event_bytes.clamp(64 << 10, 64 << 20);
        limits.max_event_records = limits.max_event_records.max(16);
        Self {
            limits,
            places: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            lists: [List::EMPTY; 3],
            done: VecDeque::new(),
            ready: VecDeque::new(),
            pool: Vec::new(),
            newest: NONE,
            open: 0,
            bytes: 0,
            now: 0,
            stats: Stats::default(),
        }
    }

    /// Takes a record: its type, its payload without netlink header, and its arrival in
    /// monotonic nanoseconds (a step back counts as no step).
    ///
    /// Also ends what has been due by then. Completed events wait for [`Reassembler::pop`];
    /// take them all before the next push, they are not counted against the limits.
    ///
    /// Gives the stamp; `None` if the head is unreadable, and then the record comes out as an
    /// event of its own with `unstamped` set.
    pub fn push(&mut self, kind: RecordType, payload: &[u8], arrival: u64) -> Option<Stamp> {
        self.now = self.now.max(arrival);
        self.stats.records += 1;
        self.forget();
        let stamp = match header::parse_at(payload) {
            Ok((stamp, body)) => {
                self.place(stamp, kind, payload, body);
                Some(stamp)
            }
            Err(_) => {
                self.stats.unreadable += 1;
                let mut event = self.fresh(Stamp::default());
                event.unstamped = true;
                store_cut(&mut event, kind, payload, 0);
                self.give(event);
                None
            }
        };
        self.expire(self.now);
        stamp
    }

    /// Ends what is due at `now`, on the clock of the arrivals.
    ///
    /// Call it only while no received record waits to be pushed: the event that it would end
    /// may have its last record among them.
    pub fn expire(&mut self, now: u64) {
        self.now = self.now.max(now);
        for delay in Delay::ALL {
            let limit = self.delay(delay);
            while let Some(slot) = self.head(delay) {
                if self.last_arrival(slot).saturating_add(limit) > self.now {
                    break;
                }
                self.complete(slot, false);
            }
        }
        self.forget();
    }

    /// When [`Reassembler::expire`] has an event to end; `None` while none is open.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        Delay::ALL
            .into_iter()
            .filter_map(|delay| {
                let slot = self.head(delay)?;
                Some(self.last_arrival(slot).saturating_add(self.delay(delay)))
            })
            .min()
    }

    /// Ends all open events, in order of their last record within each delay.
    pub fn flush(&mut self) {
        for delay in Delay::ALL {
            while let Some(slot) = self.head(delay) {
                self.complete(slot, false);
            }
        }
    }

    /// Takes the next completed event.
    pub fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Takes back the memory of an event that is no longer needed.
    pub fn recycle(&mut self, mut event: Event) {
        // Only buffers of usual size: a few long events must not pin megabytes.
        if self.pool.len() < POOL && event.bytes.capacity() <= 16 << 10 {
            event.clear();
            self.pool.push(event);
        }
    }

    /// Number of open events.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Bytes of memory that open events hold.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What has happened since the start.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Forgets stamps of events that were completed long ago, or that are too many.
    fn forget(&mut self) {
        while let Some((key, until)) = self.done.front().copied() {
            if until > self.now && self.done.len() <= self.limits.max_remembered {
                break;
            }
            self.done.pop_front();
            if let MapEntry::Occupied(place) = self.places.entry(key)
                && *place.get() == DONE
            {
                place.remove();
            }
        }
    }

    fn place(&mut self, stamp: Stamp, kind: RecordType, payload: &[u8], body: usize) {
        let key = Key::of(stamp);
        if let Some(slot) = self.slots.get(self.newest as usize)
            && slot.is_open
            && slot.key == key
        {
            return self.add(self.newest, kind, payload, body);
        }
        let late = match self.places.get(&key) {
            Some(&DONE) => true,
            Some(&slot) => return self.add(slot, kind, payload, body),
            None => false,
        };
        if late && kind == RecordType::EOE {
            // Its event has gone out as incomplete; the end alone says nothing more.
            self.stats.late_ends += 1;
            return;
        }
        if !late && kind.class() == Class::Single {
            let mut event = self.fresh(stamp);
            store_cut(&mut event, kind, payload, body);
            return self.give(event);
        }
        let slot = self.open_slot(key, stamp, late);
        self.add(slot, kind, payload, body);
    }

    fn open_slot(&mut self, key: Key, stamp: Stamp, late: bool) -> u32 {
        while self.open >= self.limits.max_open || self.bytes >= self.limits.max_bytes {
            if !self.evict() {
                break;
            }
        }
        let mut event = self.fresh(stamp);
        event.late = late;
        self.bytes += memory(&event);
        self.open += 1;
        let slot = Slot::new(key, event);
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(old) = self.slots.get_mut(place as usize) {
                    *old = slot;
                }
                place
            }
            None => {
                self.slots.push(slot);
                // max_open is at most 2^20.
                (self.slots.len() - 1) as u32
            }
        };
        self.places.insert(key, place);
        place
    }

    fn add(&mut self, place: u32, kind: RecordType, payload: &[u8], body: usize) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(place as usize) else {
            return;
        };
        let before = slot.memory();
        slot.take(kind, payload, body, &self.limits);
        slot.event.last_arrival = now;
        self.bytes = self.bytes + slot.memory() - before;
        let ends = kind == RecordType::EOE
            || now.saturating_sub(slot.event.first_arrival) > self.limits.timeout.saturating_mul(MAX_AGE);
        let delay = slot.delay();
        self.newest = place;
        if ends {
            return self.complete(place, false);
        }
        self.unlink(place);
        self.link(place, delay);
        while self.bytes > self.limits.max_bytes && self.open > 1 {
            self.evict();
        }
    }

    /// Ends the event whose last record is the oldest.
    fn evict(&mut self) -> bool {
        let oldest = Delay::ALL
            .into_iter()
            .filter_map(|delay| self.head(delay))
            .min_by_key(|slot| self.last_arrival(*slot));
        let Some(slot) = oldest else { return false };
        self.complete(slot, true);
        true
    }

    fn complete(&mut self, place: u32, early: bool) {
        self.unlink(place);
        let Some(slot) = self.slots.get_mut(place as usize) else {
            return;
        };
        let key = slot.key;
        self.bytes = self.bytes.saturating_sub(slot.memory());
        let mut event = slot.close(self.limits.expect_eoe);
        self.open -= 1;
        self.free.push(place);
        self.places.insert(key, DONE);
        self.done
            .push_back((key, self.now.saturating_add(self.limits.remember)));
        if early {
            event.incomplete = true;
            self.stats.evicted += 1;
        }
        self.give(event);
    }

    fn give(&mut self, event: Event) {
        self.stats.events += 1;
        self.stats.incomplete += u64::from(event.incomplete);
        self.stats.late += u64::from(event.late);
        self.stats.truncated += u64::from(event.truncated.is_some());
        self.ready.push_back(event);
    }

    fn fresh(&mut self, stamp: Stamp) -> Event {
        let mut event = self.pool.pop().unwrap_or_default();
        event.stamp = stamp;
        event.first_arrival = self.now;
        event.last_arrival = self.now;
        event
    }

    const fn delay(&self, delay: Delay) -> u64 {
        match delay {
            Delay::Short => self.limits.short,
            Delay::Grace => self.limits.grace,
            Delay::Timeout => self.limits.timeout,
        }
    }

    fn last_arrival(&self, slot: u32) -> u64 {
        self.slots.get(slot as usize).map_or(0, |slot| slot.event.last_arrival)
    }

    fn head(&self, delay: Delay) -> Option<u32> {
        self.lists
            .get(delay as usize)
            .map(|list| list.head)
            .filter(|head| *head != NONE)
    }

    /// Puts a slot at the end of a list.
    fn link(&mut self, place: u32, delay: Delay) {
        let Some(list) = self.lists.get_mut(delay as usize) else {
            return;
        };
        let tail = std::mem::replace(&mut list.tail, place);
        if tail == NONE {
            list.head = place;
        } else if let Some(last) = self.slots.get_mut(tail as usize) {
            last.next = place;
        }
        if let Some(slot) = self.slots.get_mut(place as usize) {
            (slot.list, slot.previous, slot.next) = (Some(delay), tail, NONE);
        }
    }

    /// Takes a slot out of its list, if it is in one.
    fn unlink(&mut self, place: u32) {
        let Some(slot) = self.slots.get_mut(place as usize) else {
            return;
        };
        let Some(delay) = slot.list.take() else {
            return;
        };
        let (previous, next) = (slot.previous, slot.next);
        let Some(list) = self.lists.get_mut(delay as usize) else {
            return;
        };
        if previous == NONE {
            list.head = next;
        }
        if next == NONE {
            list.tail = previous;
        }
        if let Some(slot) = self.slots.get_mut(previous as usize) {
            slot.next = next;
        }
        if let Some(slot) = self.slots.get_mut(next as usize) {
            slot.previous = previous;
        }
    }
}

/// Memory of an event that counts against the limit.
fn memory(event: &Event) -> usize {
    event.bytes.capacity() + event.index.capacity() * 16 + size_of::<Slot>()
}

/// Stores a record, of one that is too long only the head.
fn store_cut(event: &mut Event, kind: RecordType, payload: &[u8], body: usize) {
    let kept = payload.get(..MAX_RECORD).unwrap_or(payload);
    event.store(kind, kept, body.min(kept.len()));
    if kept.len() < payload.len() {
        let truncated = event.truncated.get_or_insert_default();
        truncated.records = 1;
        truncated.bytes = payload.len() as u64;
    }
}

/// Starts a joiner with the EXECVE records that an event holds already.
fn joiner_of(event: &Event) -> Box<Joiner> {
    let mut joiner = Box::new(Joiner::new());
    for record in event.records().filter(|record| record.kind == RecordType::EXECVE) {
        joiner.push(record.body);
    }
    joiner
}
