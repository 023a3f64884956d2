//! What holds for every rule and for arbitrary bytes.

#![allow(clippy::unwrap_used)]

mod support;

use audit_rule::{Action, List, Mask, Op, Rule, Test, Value, parse_file, parse_line};
use proptest::prelude::*;
use support::Recorded;

/// Numbers of string fields: the kernel's, see `reference/kernel-audit.md` 10.
const TEXT_FIELDS: [u32; 14] = [13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 105, 107, 112, 210];

fn test() -> impl Strategy<Value = Test> {
    let op = prop::sample::select(&Op::SEARCH_ORDER[..]);
    let text = (
        prop::sample::select(&TEXT_FIELDS[..]),
        op.clone(),
        prop::collection::vec(any::<u8>(), 0..300),
    )
        .prop_map(|(field, op, text)| Test {
            field,
            op,
            value: Value::Text(text),
        });
    let number = (0u32..300, op, any::<u32>())
        .prop_filter("a number field", |(field, ..)| !TEXT_FIELDS.contains(field))
        .prop_map(|(field, op, value)| Test {
            field,
            op,
            value: Value::Number(value),
        });
    prop_oneof![text, number]
}

fn rule() -> impl Strategy<Value = Rule> {
    let mask = prop_oneof![
        Just(Mask::ALL),
        Just(Mask::NONE),
        prop::collection::vec(0u32..2032, 0..50).prop_map(|calls| {
            let mut mask = Mask::NONE;
            for call in calls {
                assert!(mask.insert(call));
            }
            mask
        }),
    ];
    (
        prop::sample::select(&List::ALL[..]),
        prop::sample::select(&[Action::Never, Action::Always][..]),
        any::<bool>(),
        mask,
        prop::collection::vec(test(), 0..65),
    )
        .prop_map(|(list, action, prepend, mask, tests)| Rule {
            list,
            action,
            prepend,
            mask,
            tests,
        })
}

/// Lines that look like rules, with things wrong in them.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(
        &[
            "-a",
            "-A",
            "-S",
            "-F",
            "-k",
            "-w",
            "-p",
            "-C",
            "-D",
            "-b",
            "-e",
            "-f",
            "-i",
            "-c",
            "always,exit",
            "exit,never",
            "exclude,always",
            "io_uring,always",
            "arch=b64",
            "arch=b32",
            "open",
            "all",
            "execve,openat",
            "uid=0",
            "auid!=unset",
            "perm=wa",
            "path=/etc/shadow",
            "dir=/etc",
            "exit=-EPERM",
            "/etc/shadow",
            "/etc/",
            "rwxa",
            "key",
            "8192",
            "0",
            "uid!=euid",
            "a0&=0x10",
            "msgtype=CWD",
            "filetype=dir",
            "\\ ",
            "\\",
        ][..],
    );
    prop::collection::vec(word, 0..12).prop_map(|words| words.join(" ").into_bytes())
}

proptest! {
    #[test]
    fn encoding_and_decoding_is_the_identity(rule in rule()) {
        let bytes = rule.encode().unwrap();
        prop_assert_eq!(&Rule::decode(&bytes).unwrap(), &rule);
        let mut padded = bytes;
        padded.extend([0; 3]);
        prop_assert_eq!(&Rule::decode(&padded).unwrap(), &rule);
    }

    #[test]
    fn the_compact_form_keeps_the_normalised_rule(rule in rule()) {
        let back = Rule::from_compact(&rule.to_compact().unwrap()).unwrap();
        prop_assert_eq!(back.normalised(), rule.normalised());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = Rule::from_compact(&bytes);
        let _ = parse_file(&bytes, &Recorded);
        if let Ok(rule) = Rule::decode(&bytes) {
            let _ = rule.to_line();
        }
    }

    #[test]
    fn damaged_rules_never_panic(rule in rule(), at in 0usize..1100, byte: u8, cut in 0usize..1500) {
        let mut bytes = rule.encode().unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut.max(1000));
        if let Ok(rule) = Rule::decode(&bytes) {
            let _ = (rule.to_line(), rule.to_string(), rule.encode().unwrap());
        }
    }

    #[test]
    fn what_parses_prints_as_a_line_that_parses_to_the_same(line in line()) {
        let Ok(parsed) = parse_line(&line, &Recorded) else { return Ok(()) };
        for (_, statement) in parsed.statements {
            let audit_rule::Statement::Add(rule) = statement else { continue };
            let printed = rule.to_line();
            let again = parse_line(&printed, &Recorded);
            let again = again.unwrap_or_else(|faults| panic!("{}: {faults:?}", rule));
            prop_assert_eq!(&again.statements, &[(1, audit_rule::Statement::Add(rule))]);
        }
    }
}
