//! A newest segment that holds anything, half of the time with good CRCs.
#![no_main]

use auditmon_sim::fuzz::{recover, with_crcs};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| match bytes.split_first() {
    Some((0..128, rest)) => recover(&with_crcs(rest)),
    _ => recover(bytes),
});
