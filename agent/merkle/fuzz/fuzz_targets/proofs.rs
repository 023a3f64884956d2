//! Inclusion and consistency proofs, made and verified.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| auditmon_merkle_fuzz::proofs(input));
