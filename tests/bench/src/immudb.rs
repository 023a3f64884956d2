//! The immudb auditor: proofs and headers a second beside the hashes that they need, a tick over many databases beside the
//! bare calls, memory, and where a history begins to differ.

#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/verify/tests/it/proto.rs"]
mod proto;

mod calls;
mod history;
mod located;
mod real;
mod server;

use std::hint::black_box;
use std::time::{Duration, Instant};

use immudb_verify::{Alh, Hash, State, TxId, Verified, Walk, verify_dual};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::agent::{self, Place};
use crate::table::{Table, number};
use crate::{Bench, Fault};
use history::History;
use server::Server;

/// Transactions of the database that proofs are about.
const TRANSACTIONS: u64 = 100_000;
/// Different proofs that are verified in turn.
const PROOFS: u64 = 256;
/// Headers of one answer.
const PAGE: usize = 1_000;
/// Databases of one server.
const DATABASES: usize = 1_000;
/// What is audited without anything beside.
const AUDITOR: &str = "ingest: {enabled: false}, kernel: {enabled: false}, immudb: {enabled: true, past_calls: 0, \
                       value_calls: 0";

/// Measures all of it.
pub fn run(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let hash = bare(bench.time(2));
    let history = History::new(TRANSACTIONS);
    proofs(bench, table, &history, hash)?;
    headers(bench, table, &history, hash)?;
    drop(history);
    tick(bench, table)?;
    located::run(bench, table)?;
    real::run(bench, table)
}

/// Seconds that one SHA-256 over a node of a tree takes.
fn bare(time: Duration) -> f64 {
    let (mut node, mut count, begin) = ([7; 65], 0_u64, Instant::now());
    while begin.elapsed() < time {
        for _ in 0..10_000 {
            let hash = Sha256::digest(black_box(&node));
            node[1..33].copy_from_slice(&hash);
            count += 1;
        }
    }
    begin.elapsed().as_secs_f64() / count as f64
}

fn state(history: &History, tx: u64) -> State {
    State {
        tx: TxId(tx),
        alh: Alh(Hash::from(history.alh(tx))),
    }
}

/// Proofs between random transactions, as they come from the wire.
fn proofs(bench: &Bench, table: &mut Table, history: &History, hash: f64) -> Result<(), Fault> {
    let (mut seed, mut all, mut hashes, mut terms) = (1_u64, Vec::new(), 0, 0);
    let mut random = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % TRANSACTIONS + 1
    };
    while (all.len() as u64) < PROOFS {
        let (one, two) = (random(), random());
        let (s, t) = (one.min(two), one.max(two));
        if s == t {
            continue;
        }
        let proof = history.proof(s, t);
        terms += proof.inclusion.len() + proof.consistency.len() + proof.last_inclusion.len() + 2;
        hashes += history::hashes(s, t, &proof);
        let answer = proto::VerifiableTx {
            dual_proof: Some(proof),
            ..proto::VerifiableTx::default()
        };
        all.push((state(history, s), state(history, t), answer.encode_to_vec()));
    }
    let (time, begin, mut count) = (bench.time(4), Instant::now(), 0_u64);
    while begin.elapsed() < time {
        for (trusted, claimed, bytes) in &all {
            let answer = proto::VerifiableTx::decode(&bytes[..])?;
            let proof = answer.dual_proof.ok_or("no proof")?;
            let Verified::Proven(_) = verify_dual(trusted, claimed, &proof.wire())? else {
                return Err("a proof needs headers".into());
            };
            count += 1;
        }
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    let (hashes, terms) = (hashes as f64 / PROOFS as f64, terms as f64 / PROOFS as f64);
    table.row(
        "immudb: dual proofs/s, decoded and verified, one core",
        format!(
            "{}; {:.2} × the time of their SHA-256",
            number(rate),
            1.0 / (rate * hashes * hash)
        ),
        "≥ 108,000",
        format!(
            "{terms:.1} hashes in a proof, {hashes:.1} to make; bare: {}/s",
            number(1.0 / hash)
        ),
    );
    Ok(())
}

/// Every header of a history, page by page as they come from the wire.
fn headers(bench: &Bench, table: &mut Table, history: &History, hash: f64) -> Result<(), Fault> {
    let pages: Vec<Vec<u8>> = history
        .headers()
        .chunks(PAGE)
        .map(|page| {
            let tx = |header: &proto::TxHeader| proto::Tx {
                header: Some(header.clone()),
                ..proto::Tx::default()
            };
            let list = proto::TxList {
                txs: page.iter().map(tx).collect(),
            };
            list.encode_to_vec()
        })
        .collect();
    let (time, begin, mut count) = (bench.time(4), Instant::now(), 0_u64);
    while begin.elapsed() < time {
        let mut walk = Walk::from_first();
        for page in &pages {
            for tx in proto::TxList::decode(&page[..])?.txs {
                walk.step(&tx.header.ok_or("no header")?.wire())?;
                count += 1;
            }
        }
        walk.finish(&state(history, TRANSACTIONS))?;
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    // Of each: the Alh with what it is made of, the leaf, one node on average, and the root over the peaks.
    let peaks: u64 = (1..=TRANSACTIONS).map(|size| u64::from(size.count_ones()) - 1).sum();
    let hashes = 4.0 + peaks as f64 / TRANSACTIONS as f64;
    table.row(
        "immudb: headers walked/s, decoded, one core",
        format!(
            "{}; {:.2} × the time of their SHA-256",
            number(rate),
            1.0 / (rate * hashes * hash)
        ),
        "",
        format!("{hashes:.1} hashes a header, every tree's root among them"),
    );
    Ok(())
}

/// A tick over a thousand databases in which nothing is new, beside the calls alone.
fn tick(bench: &Bench, table: &mut Table) -> Result<(), Fault> {
    let server = Server::start(DATABASES, None)?;
    let place = Place::new(bench, "immudb")?;
    place.configure(&format!(
        "sources: {{{AUDITOR}, interval: 2s, servers: [{{address: \"{}\", username: u, password: p}}]}}}}",
        server.address
    ))?;
    let agent = place.start()?;
    let rounds = bench.count(20).max(4) as usize;
    // The first look takes each database on trust.
    server.wait_for(2)?;
    let (cpu, own) = (agent.cpu(), agent::cpu_of(std::process::id()));
    let first = server.ticks().len();
    server.wait_for(first + rounds)?;
    let (cpu, own) = (agent.cpu() - cpu, agent::cpu_of(std::process::id()) - own);
    let mut ticks: Vec<f64> = server.ticks()[first..].to_vec();
    let memory = agent.kilobytes("smaps_rollup", "Pss");
    let resident = agent.kilobytes("status", "VmRSS");
    agent.stop()?;
    ticks.sort_by(f64::total_cmp);
    let middle = ticks[ticks.len() / 2];
    let calls = calls::run(&server, DATABASES, rounds)?;
    table.row(
        "immudb: a tick over 1,000 databases",
        format!("{:.0} ms, {:.2} × bare", middle * 1e3, middle / calls),
        "≤ 1.3 × bare",
        format!("bare: the same 2,000 calls on 8 logins, {:.0} ms", calls * 1e3),
    );
    let each = ticks.len() as f64;
    table.row(
        "immudb: CPU a tick over 1,000 databases",
        format!("{:.0} ms", cpu / each * 1e3),
        "",
        format!("the server of the measurement {:.0} ms; no login", own / each * 1e3),
    );
    table.row(
        "immudb: memory with 1,000 databases: Pss",
        format!("{:.1} MB", memory as f64 / 1e3),
        "< 60 MB",
        format!("RSS {:.1} MB", resident as f64 / 1e3),
    );
    Ok(())
}
