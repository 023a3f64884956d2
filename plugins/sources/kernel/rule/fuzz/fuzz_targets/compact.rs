//! Any bytes as the compact form: no panic; what reads writes back.
#![no_main]

use audit_rule::Rule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(rule) = Rule::from_compact(bytes) {
        let back = rule.to_compact().expect("no more fields than it had");
        let again = Rule::from_compact(&back).expect("its own bytes");
        assert_eq!(again.normalised(), rule.normalised());
    }
});
