//! Numbers, then hashes: proofs of anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| immudb_verify_fuzz::proofs(input));
