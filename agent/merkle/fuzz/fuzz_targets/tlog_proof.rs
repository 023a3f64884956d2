//! Proofs for any log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| auditmon_merkle_fuzz::tlog_proof(input));
