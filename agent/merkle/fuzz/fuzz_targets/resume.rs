//! Trees resumed from tiles.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| auditmon_merkle_fuzz::resume(input));
