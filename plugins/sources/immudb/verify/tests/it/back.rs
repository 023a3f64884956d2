//! The walk back over a naive database.

use immudb_verify::{Alh, Back, EMPTY, Reason, State, TxHeader, TxId};

use crate::naive::{Database, Plan};

/// Old and new headers, trees that lag or not.
fn database() -> Database {
    let plan = |n: usize| Plan {
        version: i32::from(n > 5),
        lag: [0, 0, 2, 1][n % 4].min(n),
        ts: n as i64,
        truncated: 0,
        extra: Vec::new(),
        entries: vec![(vec![0, n as u8], vec![0, 2])],
    };
    Database::of(&(0..12).map(plan).collect::<Vec<_>>())
}

#[test]
fn it_leads_from_any_state_to_the_first_transaction() {
    let database = database();
    for from in 1..=database.len() {
        let mut back = Back::new(database.state(from));
        for tx in (1..=from).rev() {
            assert_eq!(back.next(), database.state(tx));
            assert!(!back.is_done());
            let header = back.step(&database.headers[tx - 1].wire()).unwrap();
            assert_eq!(header.alh(), database.state(tx).alh);
        }
        assert!(back.is_done());
        let (tx, alh) = (TxId(0), Alh(EMPTY));
        assert_eq!(back.next(), State { tx, alh });
        // There is nothing before.
        let (expected, found) = (TxId(0), TxId(1));
        let more = back.step(&database.headers[0].wire());
        assert_eq!(more, Err(Reason::WalkOrder { expected, found }));
    }
}

#[test]
fn another_header_is_not_taken() {
    let database = database();
    for tx in 1..=database.len() {
        let known = database.state(tx);
        let mut changed = database.headers[tx - 1].clone();
        changed.ts ^= 1;
        let mut back = Back::new(known);
        assert_eq!(
            back.step(&changed.wire()),
            Err(Reason::WalkHash { tx: TxId(tx as u64) })
        );
        if tx > 1 {
            let (expected, found) = (TxId(tx as u64), TxId(tx as u64 - 1));
            let skipped = back.step(&database.headers[tx - 2].wire());
            assert_eq!(skipped, Err(Reason::WalkOrder { expected, found }));
        }
        // It stays where it is.
        assert_eq!(back.next(), known);
        back.step(&database.headers[tx - 1].wire()).unwrap();
    }
}

/// A history whose first transaction follows something is none, even if it hashes to what is known.
#[test]
fn the_first_transaction_follows_nothing() {
    let mut header = database().headers[0].clone();
    header.prev_alh = vec![7; 32];
    let alh = TxHeader::new(&header.wire()).unwrap().alh();
    let mut back = Back::new(State { tx: TxId(1), alh });
    assert_eq!(back.step(&header.wire()), Err(Reason::WalkChain { tx: TxId(1) }));
}
