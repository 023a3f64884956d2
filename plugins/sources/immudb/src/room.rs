//! Room for what is remembered: the journal takes 8 MiB of a source, which all its servers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use auditmon_core::plugin::Memory;
use auditmon_journal::format::{MAX_MEMORY, STATE_HEAD};

use crate::trusted::{Record, Remembered, decode};

/// What first contacts leave free, in bytes: operators' words and findings make records longer.
const RESERVE: usize = 512 << 10;

/// Bytes that are left for databases that are new. Each counts with what it may grow to.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<AtomicUsize>);

impl Room {
    /// Beside what is remembered, also of servers that are configured no more.
    pub(crate) fn new(memory: &Memory) -> Self {
        let sizes = memory.iter().map(|(key, (value, _))| match decode(value) {
            Remembered::Record(record) => size(key, &record).max(STATE_HEAD + key.len() + value.len()),
            Remembered::Broken => STATE_HEAD + key.len() + value.len(),
        });
        let left = (MAX_MEMORY - RESERVE).saturating_sub(sizes.sum());
        Self(Arc::new(AtomicUsize::new(left)))
    }

    /// Whether there is room for a new record; it has it from then on.
    pub(crate) fn take(&self, key: &[u8], record: &Record) -> bool {
        let size = size(key, record);
        let left = |left: usize| left.checked_sub(size);
        self.0.fetch_update(Relaxed, Relaxed, left).is_ok()
    }
}

/// What a record may come to in the journal.
fn size(key: &[u8], record: &Record) -> usize {
    STATE_HEAD + key.len() + record.grown().encode().len()
}

#[cfg(test)]
mod tests {
    use immudb_verify::{Alh, Hash, State, TxId};

    use super::*;
    use crate::checked::Values;

    fn record() -> Record {
        let state = State {
            tx: TxId(7),
            alh: Alh(Hash::from([7; 32])),
        };
        Record {
            state,
            signature: None,
            uuid: Some("u".to_owned()),
            key: None,
            first: 1,
            taken: 2,
            finding: None,
            accepted: Vec::new(),
            past: None,
            values: Values::default(),
            damaged: Vec::new(),
            given_up: 0,
        }
    }

    /// Were all taken that there is room for, and grew as records do, the journal would still take them.
    #[test]
    fn first_contacts_leave_room_for_their_growth() {
        let mut memory = Memory::new();
        memory.insert(b"state/gone:1/db".to_vec(), (vec![b'x'; 4 << 20], None));
        let (empty, half) = (Room::new(&Memory::new()), Room::new(&memory));
        let key = b"state/db1:3322/orders";
        let all = (0..).take_while(|_| empty.take(key, &record())).count();
        let rest = (0..).take_while(|_| half.take(key, &record())).count();
        assert!(all > 5_000, "{all}");
        assert!(rest < all / 2, "{rest} of {all}");
        assert!(all * size(key, &record()) < MAX_MEMORY);
        // The clones of one room are one.
        assert!(!empty.clone().take(key, &record()));
    }
}
