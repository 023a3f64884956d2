//! Signed notes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| auditmon_merkle_fuzz::note(input));
