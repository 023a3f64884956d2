//! Frames, records, states, positions, heads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| auditmon_sim::fuzz::parse(bytes));
