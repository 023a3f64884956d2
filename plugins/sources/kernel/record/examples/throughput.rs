//! Replays a recorded file and prints what a record and an event cost.
//!
//! `cargo run --release -p audit-record --example throughput [FILE [ROUNDS]]`; the file is
//! `tests/fixtures/kernel-records/exec-storm.log` of the workspace by default. Serials are the
//! same in each round, so the reassembler is told that enough time has passed to forget them.

use std::hint::black_box;
use std::time::Instant;

use audit_record::json::{Encoder, NoNames};
use audit_record::{Event, Limits, Reassembler, RecordType, Summary, header};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or_else(|| {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../../tests/fixtures/kernel-records/exec-storm.log"
        )
        .to_owned()
    });
    let rounds: u64 = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let text = std::fs::read(&file)?;
    let records: Vec<(RecordType, &[u8])> = text.split(|b| *b == b'\n').filter_map(line).collect();
    let bytes: usize = records.iter().map(|(_, payload)| payload.len()).sum();

    let head = time(rounds, || {
        for (_, payload) in &records {
            black_box(header::parse(black_box(payload)).ok());
        }
    });
    let mut events = 0;
    let mut reassembler = Reassembler::new(Limits::default());
    let mut now = 0;
    let reassembly = time(rounds, || {
        now += 60_000_000_000;
        reassembler.expire(now);
        events = 0;
        for (kind, payload) in &records {
            reassembler.push(*kind, payload, now);
            while let Some(event) = reassembler.pop() {
                events += 1;
                reassembler.recycle(black_box(event));
            }
        }
    });
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let mut length = 0;
    let all = time(rounds, || {
        now += 60_000_000_000;
        reassembler.expire(now);
        length = 0;
        for (kind, payload) in &records {
            reassembler.push(*kind, payload, now);
            while let Some(event) = reassembler.pop() {
                out.clear();
                encoder.event_data(&Summary::of(&event), &NoNames, &[], &mut out);
                length += black_box(&out).len();
                reassembler.recycle(event);
            }
        }
    });
    // The exec events alone: what one of them costs from Event to JSON.
    let mut execs: Vec<Event> = Vec::new();
    now += 60_000_000_000;
    reassembler.expire(now);
    for (kind, payload) in &records {
        reassembler.push(*kind, payload, now);
        while let Some(event) = reassembler.pop() {
            if event.records().any(|record| record.kind == RecordType::EXECVE) {
                execs.push(event);
            }
        }
    }
    let summary = time(rounds, || {
        for event in &execs {
            black_box(Summary::of(black_box(event)));
        }
    });
    let json = time(rounds, || {
        for event in &execs {
            out.clear();
            encoder.event_data(&Summary::of(event), &NoNames, &[], &mut out);
            black_box(&out);
        }
    });
    let (n, e, x) = (records.len() as f64, f64::from(events), execs.len().max(1) as f64);
    println!(
        "{file}: {n} records, {bytes} bytes, {events} events, {} execs",
        execs.len()
    );
    println!("head                        {:7.0} ns/record", head / n);
    println!(
        "reassembly                  {:7.0} ns/record {:7.2} µs/event",
        reassembly / n,
        reassembly / e / 1e3
    );
    println!(
        "reassembly, summary, json   {:7.0} ns/record {:7.2} µs/event",
        all / n,
        all / e / 1e3
    );
    println!(
        "                            {:7.0} records/s, {length} bytes of JSON",
        n / all * 1e9
    );
    println!("summary of an exec event    {:25.2} µs/event", summary / x / 1e3);
    println!("summary, json of an exec    {:25.2} µs/event", json / x / 1e3);
    Ok(())
}

/// Best of five runs: nanoseconds per round.
fn time(rounds: u64, mut run: impl FnMut()) -> f64 {
    run();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        (0..rounds).for_each(|_| run());
        best = best.min(start.elapsed().as_nanos() as f64 / rounds as f64);
    }
    best
}

fn line(line: &[u8]) -> Option<(RecordType, &[u8])> {
    let rest = line.strip_prefix(b"type=")?;
    let space = rest.iter().position(|b| *b == b' ')?;
    let number = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
    Some((RecordType(number), rest.get(space..)?.strip_prefix(b" msg=")?))
}
