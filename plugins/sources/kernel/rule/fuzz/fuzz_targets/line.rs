//! Any text: no panic; what parses prints as a line that parses to the same.
#![no_main]

use audit_rule::{Host, Statement, parse_file, parse_line};
use libfuzzer_sys::fuzz_target;

struct Nobody;

impl Host for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
    fn gid(&self, _: &str) -> Option<u32> {
        None
    }
    fn is_dir(&self, path: &[u8]) -> bool {
        path.len() % 2 == 0
    }
}

fuzz_target!(|text: &[u8]| {
    let Ok(parsed) = parse_file(text, &Nobody) else {
        return;
    };
    for (_, statement) in parsed.statements {
        if let Statement::Add(rule) = statement {
            let again = parse_line(&rule.to_line(), &Nobody).expect("its own line");
            assert_eq!(again.statements, [(1, Statement::Add(rule))]);
        }
    }
});
