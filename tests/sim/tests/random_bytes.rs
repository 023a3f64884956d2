//! The fuzz targets' functions with a bounded number of random inputs.

use auditmon_journal::Records;
use auditmon_journal::format::{Kind, Prefix, frame_head, mark, source_hash};
use auditmon_sim::fuzz::{parse, recover, with_crcs};
use auditmon_sim::rng::Rng;

/// Bytes that begin as frames do and end as they like.
fn input(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut seq = 0;
    for _ in 0..rng.below(6) {
        let mut records = Records::new();
        let count = rng.below(3) as u32;
        for index in 0..count {
            let prefix = Prefix {
                event_id: [index as u8; 16],
                received_ns: rng.bits(),
                kind: Kind::Application,
                source: source_hash("x"),
            };
            let length = rng.below(300) as usize;
            let pushed = records.push(&prefix, [1; 16], |out| out.resize(out.len() + length, 3));
            assert!(pushed.is_ok());
        }
        match count {
            0 => bytes.extend(mark(seq)),
            _ => {
                let synced = seq - rng.below(3).min(seq);
                bytes.extend(frame_head(seq, synced, count, records.as_bytes()));
                bytes.extend(records.as_bytes());
            }
        }
        // Sometimes one number is left out, or given twice.
        seq += u64::from(count) + u64::from(rng.chance(10)) * rng.below(5);
        seq -= u64::from(rng.chance(5)).min(seq);
    }
    for _ in 0..rng.below(4) {
        if !bytes.is_empty() {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
    }
    let tail = rng.below(200);
    bytes.extend((0..tail).map(|_| rng.bits() as u8));
    if rng.chance(30) {
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
    }
    bytes
}

#[test]
fn parsers_and_recovery_survive_anything() {
    let count = match std::env::var("AUDITMON_LONG") {
        Ok(value) if value == "1" => 1_000_000,
        _ => 3_000,
    };
    for seed in 0..count {
        let bytes = input(&mut Rng::new(seed));
        let result = std::panic::catch_unwind(|| {
            parse(&bytes);
            recover(&bytes);
            recover(&with_crcs(&bytes));
        });
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn crafted_payloads_cost_no_time() {
    // A torn frame full of heads that look like frames with long lengths: each
    // one's CRC is asked for, and must not be computed from the start.
    let mut bytes = vec![0, 255, 255, 0, 1, 2, 3, 4];
    bytes.extend([9; 20]);
    for seq in 0..200_000u64 {
        let mut head = frame_head(1 + seq % 1000, 0, 1, &[0; 60]);
        let length: u32 = 3 << 20;
        head[..4].copy_from_slice(&length.to_be_bytes());
        bytes.extend(head);
    }
    bytes.resize(bytes.len() + (4 << 20), 1);
    let begin = std::time::Instant::now();
    recover(&bytes);
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    println!("{:?}", begin.elapsed());
}
