//! Room for what is remembered: the journal takes 8 MiB of a source, which all its servers share.

use std::collections::BTreeMap;
use std::sync::Arc;

use auditmon_core::plugin::Memory;
use auditmon_journal::format::{MAX_MEMORY, STATE_HEAD};
use parking_lot::Mutex;

use crate::address::Endpoint;
use crate::trusted::{self, Record, Remembered, decode};

/// What first contacts leave free, in bytes: operators' words and findings make records longer.
const RESERVE: usize = 512 << 10;

/// Bytes that are left for databases that are new. Each counts with what it may grow to. Of several servers each keeps a
/// part for itself, so that none that lists ever other databases takes it all.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Mutex<Shares>>);

#[derive(Debug)]
struct Shares {
    left: usize,
    /// What nobody else takes of each server's part.
    own: usize,
    /// What each server has, by the beginning of its keys.
    taken: BTreeMap<Vec<u8>, usize>,
}

/// The beginning of a key that all of a server's have.
fn server(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    &key[..end]
}

impl Room {
    /// Beside what is remembered, also of servers that are configured no more.
    pub(crate) fn new<'a>(memory: &Memory, servers: impl IntoIterator<Item = &'a Endpoint>) -> Self {
        let servers = servers.into_iter().map(|endpoint| (trusted::key(endpoint, ""), 0));
        let mut taken: BTreeMap<Vec<u8>, usize> = servers.collect();
        let mut left = MAX_MEMORY - RESERVE;
        // One alone keeps nothing from others; of several all parts come to half of the room.
        let mut own = if taken.len() > 1 { left / 2 / taken.len() } else { 0 };
        for (key, (value, _)) in memory {
            let size = match decode(value) {
                Remembered::Record(record) => size(key, &record).max(STATE_HEAD + key.len() + value.len()),
                Remembered::Broken => STATE_HEAD + key.len() + value.len(),
            };
            left = left.saturating_sub(size);
            if let Some(taken) = taken.get_mut(server(key)) {
                *taken += size;
            }
        }
        // Where one has more by now than it would get today, the others' parts are what there is.
        while taken.values().map(|taken| own.saturating_sub(*taken)).sum::<usize>() > left {
            own /= 2;
        }
        Self(Arc::new(Mutex::new(Shares { left, own, taken })))
    }

    /// Whether there is room for a new record; it has it from then on.
    pub(crate) fn take(&self, key: &[u8], record: &Record) -> bool {
        let size = size(key, record);
        let shares = &mut *self.0.lock();
        let others = shares.taken.iter().filter(|(other, _)| **other != server(key));
        let kept: usize = others.map(|(_, taken)| shares.own.saturating_sub(*taken)).sum();
        if shares.left < size.saturating_add(kept) {
            return false;
        }
        shares.left -= size;
        if let Some(taken) = shares.taken.get_mut(server(key)) {
            *taken += size;
        }
        true
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
        let one = [Endpoint::parse("db1:3322").unwrap()];
        let (empty, half) = (Room::new(&Memory::new(), &one), Room::new(&memory, &one));
        let key = b"state/db1:3322/orders";
        let all = (0..).take_while(|_| empty.take(key, &record())).count();
        let rest = (0..).take_while(|_| half.take(key, &record())).count();
        assert!(all > 5_000, "{all}");
        assert!(rest < all / 2, "{rest} of {all}");
        assert!(all * size(key, &record()) < MAX_MEMORY);
        // The clones of one room are one.
        assert!(!empty.clone().take(key, &record()));
    }

    /// One server's databases leave room for those of the others.
    #[test]
    fn no_server_takes_the_room_of_others() {
        let servers = ["db1:3322", "db2:3322", "db3:3322"].map(|address| Endpoint::parse(address).unwrap());
        let room = Room::new(&Memory::new(), &servers);
        let fill = |server: usize| {
            let key = trusted::key(&servers[server], "orders");
            (0..).take_while(|_| room.take(&key, &record())).count()
        };
        let (first, second, third) = (fill(0), fill(1), fill(2));
        assert!(first > 3_000, "{first}");
        assert!(second > 800 && third > 800, "{second} {third}");
        // What is remembered counts.
        let mut memory = Memory::new();
        memory.insert(trusted::key(&servers[0], "x"), (vec![b'x'; 7 << 20], None));
        let room = Room::new(&memory, &servers);
        let fill = |server: usize| {
            let key = trusted::key(&servers[server], "y");
            (0..).take_while(|_| room.take(&key, &record())).count()
        };
        let (_, second, third) = (fill(0), fill(1), fill(2));
        assert!(second > 50 && third > 50, "{second} {third}");
    }
}
