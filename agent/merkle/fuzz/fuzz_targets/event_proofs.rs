//! Files of proofs of events.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| auditmon_merkle_fuzz::event_proofs(input));
