//! Key files, points, signatures.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| immudb_verify_fuzz::signature(input));
