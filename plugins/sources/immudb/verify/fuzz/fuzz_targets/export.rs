//! Exported transactions.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| immudb_verify_fuzz::export(input));
