//! Where a history of 10 million transactions begins to differ from what was seen of it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use immudb_verify::{Alh, Hash, TxId};
use serde_json::Value;

use super::history::{Bytes32, inner, sha};
use super::proto::TxHeader;
use super::server::{Other, Server, UUID, name};
use crate::agent::Place;
use crate::table::Table;
use crate::{Bench, Fault};

/// Transactions that were seen.
const ALL: u64 = 10_000_000;
/// Bytes of a record in the auditor's file: transaction, Alh, CRC-32C.
const RECORD: u64 = 44;

/// A header; those of one history have all but the numbers and hashes in common.
fn made(tx: u64, prev: Bytes32) -> TxHeader {
    TxHeader {
        id: tx,
        prev_alh: prev.to_vec(),
        ts: 1_700_000_000,
        nentries: 1,
        eh: vec![7; 32],
        bl_tx_id: 0,
        bl_root: vec![0; 32],
        version: 1,
        metadata: None,
    }
}

/// The Alh of a transaction, as it was seen.
fn seen(file: &File, tx: u64) -> Option<Bytes32> {
    let mut alh = sha(&[]);
    if let Some(before) = tx.checked_sub(1) {
        file.read_exact_at(&mut alh, before * RECORD + 8).ok()?;
    }
    Some(alh)
}

fn changed(mut alh: Bytes32) -> Bytes32 {
    alh[0] ^= 1;
    alh
}

/// The last transaction that the server shows, and its hash.
pub fn state(other: &Other) -> (u64, Vec<u8>) {
    let hash = seen(&other.seen, ALL).map(changed).unwrap_or_default();
    (ALL, hash.to_vec())
}

/// A header that the server shows.
pub fn header(other: &Other, tx: u64) -> Option<TxHeader> {
    let prev = seen(&other.seen, tx.checked_sub(1)?)?;
    Some(made(tx, if tx < other.first { prev } else { changed(prev) }))
}

fn write(path: &Path) -> Result<(), Fault> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let inner = Hash::from(inner(&made(1, [0; 32])));
    let mut alh = Alh::FIRST;
    for tx in 1..=ALL {
        alh = alh.then(TxId(tx), &inner);
        let mut record = tx.to_be_bytes().to_vec();
        record.extend(alh.0.as_ref());
        record.extend(crc32c::crc32c(&record).to_be_bytes());
        file.write_all(&record)?;
    }
    Ok(file.flush()?)
}

/// Looks for a transaction with the command, which does what the agent does.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let place = Place::new(bench, "immudb-located")?;
    let folder = place.dir().join("immudb");
    std::fs::create_dir_all(&folder)?;
    let whole = folder.join("whole");
    write(&whole)?;
    let (mut calls, mut seconds) = (Vec::new(), Vec::new());
    for first in [ALL / 3, ALL / 7 * 6, 4_711] {
        let seen_by_us = File::open(&whole)?;
        let trusted = seen(&seen_by_us, ALL).ok_or("the file is too short")?;
        let server = Server::start(
            1,
            Some(Other {
                seen: seen_by_us,
                first,
            }),
        )?;
        let hash: String = trusted.iter().map(|byte| format!("{byte:02x}")).collect();
        let database = name(0);
        place.configure(&format!(
            "sources: {{immudb: {{servers: [{{name: bench, address: \"{}\", username: u, password: p, known: [{{database: {database}, \
             tx: {ALL}, hash: \"{hash}\", server_id: {UUID}, from: bench}}]}}]}}}}",
            server.address
        ))?;
        // The file is found by the first bytes of a hash over address and database.
        let of = sha(&[format!("{}/{database}", server.address).as_bytes()]);
        let of: String = of[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::hard_link(&whole, folder.join(format!("{of}.alh")))?;
        let out = place.output(&["immudb", "check", "bench", "--json"])?;
        let data: Value = serde_json::from_slice(&out)?;
        let found = &data["location"];
        if found["first_changed"]["from"] != first || found["first_changed"]["to"] != first {
            return Err(format!("transaction {first} was not found: {data}").into());
        }
        calls.push(found["calls"].as_u64().unwrap_or(0));
        seconds.push(server.headers().0);
    }
    seconds.sort_by(f64::total_cmp);
    table.row(
        "immudb: the first transaction that differs among 10 million",
        format!("{} calls", calls.iter().max().copied().unwrap_or(0)),
        "≤ 24 calls",
        format!("{:.1} ms on this host; three places", seconds[1] * 1e3),
    );
    Ok(())
}
