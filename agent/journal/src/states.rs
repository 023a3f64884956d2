//! What sources remember: the newest value of every key.

use std::collections::HashMap;

use crate::format::{MAX_MEMORY, STATE_HEAD, StateRecord};
use crate::options::{SourceStates, StateMap, StateValue};

/// The memory of all sources, with a way back for what isn't on disk yet.
#[derive(Default)]
pub(crate) struct States {
    map: StateMap,
    /// Bytes of all payloads of a source.
    sizes: HashMap<[u8; 8], usize>,
    /// What stood there before each change since the last [`keep`](Self::keep).
    undo: Vec<([u8; 8], Vec<u8>, Option<StateValue>)>,
}

/// A source's memory would be over 8 MiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MemoryFull;

impl States {
    pub(crate) fn map(&self) -> &StateMap {
        &self.map
    }

    /// What one source remembers, without what has expired at `now_ns`.
    pub(crate) fn of(&self, source: [u8; 8], now_ns: u64) -> SourceStates {
        let states = self.map.get(&source).into_iter().flatten();
        states
            .filter(|(_, state)| state.expiry_ns == 0 || state.expiry_ns > now_ns)
            .map(|(key, state)| (key.clone(), state.clone()))
            .collect()
    }

    /// A place to [`roll_back`](Self::roll_back) to.
    pub(crate) fn savepoint(&self) -> usize {
        self.undo.len()
    }

    /// Applies a state record, which can be taken back until it is kept.
    pub(crate) fn apply(&mut self, source: [u8; 8], state: &StateRecord<'_>) -> Result<(), MemoryFull> {
        let value = (!state.value.is_empty()).then(|| StateValue {
            expiry_ns: state.expiry_ns,
            value: state.value.to_vec(),
        });
        let old = self.set(source, state.key, value);
        let over = self.sizes.get(&source).is_some_and(|size| *size > MAX_MEMORY);
        // A source that is over the limit (a smaller one in a later version)
        // must still be able to remove something.
        if over && !state.value.is_empty() {
            self.set(source, state.key, old);
            return Err(MemoryFull);
        }
        self.undo.push((source, state.key.to_vec(), old));
        Ok(())
    }

    /// Makes all changes final.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Takes back the changes since `savepoint`.
    pub(crate) fn roll_back(&mut self, savepoint: usize) {
        while self.undo.len() > savepoint {
            let Some((source, key, old)) = self.undo.pop() else {
                break;
            };
            self.set(source, &key, old);
        }
    }

    /// Forgets what has expired at `now_ns`.
    pub(crate) fn drop_expired(&mut self, now_ns: u64) {
        for (source, states) in &mut self.map {
            let size = self.sizes.entry(*source).or_default();
            states.retain(|key, state| {
                let keep = state.expiry_ns == 0 || state.expiry_ns > now_ns;
                if !keep {
                    *size = size.saturating_sub(cost(key, state));
                }
                keep
            });
        }
        self.map.retain(|_, states| !states.is_empty());
        self.sizes.retain(|source, _| self.map.contains_key(source));
    }

    fn set(&mut self, source: [u8; 8], key: &[u8], value: Option<StateValue>) -> Option<StateValue> {
        let states = self.map.entry(source).or_default();
        let size = self.sizes.entry(source).or_default();
        let old = match value {
            Some(value) => {
                *size += cost(key, &value);
                states.insert(key.to_vec(), value)
            }
            None => states.remove(key),
        };
        if let Some(old) = &old {
            *size = size.saturating_sub(cost(key, old));
        }
        if states.is_empty() {
            self.map.remove(&source);
        }
        old
    }
}

fn cost(key: &[u8], state: &StateValue) -> usize {
    STATE_HEAD + key.len() + state.value.len()
}
