//! Any bytes as `audit_rule_data`: no panic; what decodes encodes back.
#![no_main]

use audit_rule::Rule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(rule) = Rule::decode(bytes) {
        let _ = rule.to_line();
        let back = rule.encode().expect("no more fields than it had");
        assert_eq!(Rule::decode(&back), Ok(rule));
    }
});
