//! What sources remember: whether a segment repeats at its head what they had said.

use std::collections::HashMap;

use auditmon_journal::format::{Record, StateRecord, commitment};

/// Most keys that are followed: about 64 MiB. A source remembers 8 MiB at most.
const MAX_KEYS: usize = 400_000;

/// Hash of source and key.
type Key = [u8; 32];

#[derive(Clone, Copy, PartialEq)]
struct Value {
    expiry_ns: u64,
    hash: [u8; 32],
    /// Repeated at the head of the newest segment.
    repeated: bool,
}

/// The newest state of every key.
#[derive(Default)]
pub(crate) struct Memory {
    map: HashMap<Key, Value>,
    /// From which record on it is known; nothing is expected of the first segment.
    known: bool,
    too_large: bool,
}

/// What a state record at a segment's head is.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Repeated {
    Right,
    /// Another value than the newest one.
    Old,
    /// Nobody said that, or it was removed.
    Unknown,
}

fn key(source: [u8; 8], key: &[u8]) -> Key {
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&source);
    commitment(&salt, key)
}

impl Memory {
    /// A segment begins.
    pub(crate) fn begin(&mut self) {
        for value in self.map.values_mut() {
            value.repeated = false;
        }
    }

    /// Takes a state that a source handed over.
    pub(crate) fn apply(&mut self, record: &Record<'_>, state: &StateRecord<'_>) {
        let key = key(record.prefix.source, state.key);
        if state.value.is_empty() {
            self.map.remove(&key);
        } else if self.map.len() < MAX_KEYS {
            let value = Value {
                expiry_ns: state.expiry_ns,
                hash: commitment(&[0; 16], state.value),
                repeated: true,
            };
            self.map.insert(key, value);
        } else {
            self.too_large = true;
        }
    }

    /// Compares a state at a segment's head with what was said before.
    pub(crate) fn repeat(&mut self, record: &Record<'_>, state: &StateRecord<'_>) -> Repeated {
        if !self.known {
            self.apply(record, state);
            return Repeated::Right;
        }
        let hash = commitment(&[0; 16], state.value);
        match self.map.get_mut(&key(record.prefix.source, state.key)) {
            Some(value) if value.expiry_ns == state.expiry_ns && value.hash == hash => {
                value.repeated = true;
                Repeated::Right
            }
            Some(value) => {
                value.repeated = true;
                Repeated::Old
            }
            None if self.too_large => Repeated::Right,
            None => Repeated::Unknown,
        }
    }

    /// Whether anything is to be repeated at the head of a segment that is written at this time.
    pub(crate) fn expects(&mut self, at_ns: u64) -> bool {
        self.map
            .retain(|_, value| value.expiry_ns == 0 || value.expiry_ns > at_ns);
        !self.known || !self.map.is_empty()
    }

    /// The head of a segment is over, written at this time: how many states it should have repeated and didn't.
    pub(crate) fn end_of_head(&mut self, at_ns: u64) -> usize {
        if !self.known {
            self.known = true;
            return 0;
        }
        self.map
            .retain(|_, value| value.expiry_ns == 0 || value.expiry_ns > at_ns);
        let missing = self.map.values().filter(|value| !value.repeated).count();
        self.map.retain(|_, value| value.repeated);
        missing
    }

    /// Records are missing: what is remembered now isn't known any more.
    pub(crate) fn forget(&mut self) {
        self.map.clear();
        self.known = false;
    }
}
