//! Joining of arguments.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use audit_record::execve::{Argv, Joiner, KEPT_BYTES};
use audit_record::{RecordType, Summary};
use common::{join, json, load, strict};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn recorded(file: &str) -> Argv {
    let events = join(&load(file));
    events.iter().find_map(|event| Summary::of(event).argv()).unwrap()
}

fn hash(arguments: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for argument in arguments {
        hash.update(argument);
        hash.update([0]);
    }
    hash.finalize().into()
}

#[test]
fn whole_arguments() {
    for (file, middle) in [
        ("exec-long-7400.log", vec![b'd'; 7_400]),
        ("exec-long-7499.log", vec![b'c'; 7_499]),
        ("exec-long-7501.log", vec![b'b'; 7_501]),
        (
            "exec-long-4000-spaces.log",
            [vec![b'x'], vec![b' '; 3_998], vec![b'y']].concat(),
        ),
    ] {
        let argv = recorded(file);
        assert!(argv.truncated.is_none() && !argv.missing, "{file}");
        assert_eq!(argv.to_vec(), [b"true".to_vec(), middle, b"after".to_vec()], "{file}");
    }
    let argv = recorded("exec-long-utf8.log");
    assert_eq!(argv.to_vec(), [b"true".to_vec(), "日".repeat(3_000).into_bytes()]);
}

#[test]
fn many_arguments() {
    let argv = recorded("exec-many-3000-args.log");
    assert!(argv.truncated.is_none() && !argv.missing);
    let expected: Vec<Vec<u8>> = std::iter::once(b"true".to_vec())
        .chain((1..=3_000).map(|n| format!("arg-{n}").into_bytes()))
        .collect();
    assert_eq!(argv.to_vec(), expected);
}

#[test]
fn cut_arguments_are_counted_and_hashed() {
    let one: Vec<Vec<u8>> = vec![b"true".to_vec(), vec![b'A'; 131_071]];
    let twenty: Vec<Vec<u8>> = std::iter::once(b"true".to_vec())
        .chain((b'b'..=b'u').map(|letter| vec![letter; 20_000]))
        .collect();
    for (file, whole) in [("exec-long-one-arg-128k.log", one), ("exec-long-20x20k.log", twenty)] {
        let argv = recorded(file);
        let truncated = argv.truncated.unwrap();
        assert!(!argv.missing, "{file}");
        assert_eq!(truncated.count, whole.len() as u64, "{file}");
        let bytes: usize = whole.iter().map(|argument| argument.len() + 1).sum();
        assert_eq!(truncated.bytes, bytes as u64, "{file}");
        assert_eq!(truncated.sha256, hash(&whole), "{file}");
        let kept = argv.to_vec();
        let size: usize = kept.iter().map(|argument| argument.len() + 1).sum();
        assert_eq!(size, KEPT_BYTES, "{file}");
        for (kept, whole) in kept.iter().zip(&whole) {
            assert!(whole.starts_with(kept), "{file}");
        }
    }
    // Joined by another program (Python, regular expressions) from the same records.
    let truncated = recorded("exec-long-mixed-60-args.log").truncated.unwrap();
    assert_eq!((truncated.count, truncated.bytes), (61, 111_695));
    assert!(hex::encode(truncated.sha256).starts_with("cdbc5c22ded6f9df"));
}

#[test]
fn records_that_are_not_kept_are_still_joined() {
    let events = join(&load("exec-long-20x20k.log"));
    let event = events.iter().find(|event| event.truncated.is_some()).unwrap();
    let truncated = event.truncated.unwrap();
    assert_eq!(truncated.records, 114);
    // What comes after the arguments is there.
    for kind in [
        RecordType::CWD,
        RecordType::PATH,
        RecordType::PROCTITLE,
        RecordType::EOE,
    ] {
        assert!(event.records().any(|record| record.kind == kind), "{kind}");
    }
    let value = strict(&json(event));
    assert_eq!(value["argv_truncated"]["count"], 21);
    assert_eq!(value["records_truncated"]["records"], 114);
    assert_eq!(value["argv"].as_array().unwrap().len(), 5);
}

#[test]
fn lost_pieces_are_noticed() {
    for (bodies, expected) in [
        (vec!["argc=2 a0=\"x\""], vec!["x"]),
        (vec!["argc=2 a0=\"x\"", " a2=\"z\""], vec!["x", "z"]),
        (vec!["argc=1 a0_len=9 a0[0]=\"x\" a0[2]=\"y\""], vec!["xy"]),
        (vec![" a0[1]=\"y\" a1=\"z\""], vec!["y", "z"]),
    ] {
        let argv = joined(bodies.iter().map(|body| body.as_bytes()));
        assert!(argv.missing, "{bodies:?}");
        let expected: Vec<_> = expected.iter().map(|text| text.as_bytes().to_vec()).collect();
        assert_eq!(argv.to_vec(), expected);
    }
}

fn joined<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> Argv {
    let mut joiner = Joiner::new();
    bodies.for_each(|body| joiner.push(body));
    joiner.finish()
}

/// Prints arguments as the kernel does (`audit_log_execve_info`), with records of `limit` bytes
/// of text and pieces of at most `piece` bytes.
fn print(arguments: &[Vec<u8>], limit: usize, piece: usize) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let mut body = format!("argc={}", arguments.len()).into_bytes();
    for (n, argument) in arguments.iter().enumerate() {
        let force_hex = argument.len() > piece;
        let pieces: Vec<&[u8]> = if argument.is_empty() {
            vec![b""]
        } else {
            argument.chunks(piece).collect()
        };
        for (m, bytes) in pieces.iter().enumerate() {
            let plain = !force_hex && bytes.iter().all(|b| (0x21..=0x7e).contains(b) && *b != b'"');
            let text = if plain {
                [b"\"", *bytes, b"\""].concat()
            } else {
                hex::encode_upper(bytes).into_bytes()
            };
            if body.len() + text.len() > limit {
                bodies.push(std::mem::replace(&mut body, b" ".to_vec()));
            } else {
                body.push(b' ');
            }
            if pieces.len() == 1 {
                body.extend(format!("a{n}=").bytes());
            } else {
                if m == 0 {
                    body.extend(format!("a{n}_len={} ", argument.len() * 2).bytes());
                }
                body.extend(format!("a{n}[{m}]=").bytes());
            }
            body.extend(text);
        }
    }
    bodies.push(body);
    bodies
}

fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(0x20..0x7f_u8, 0..40),
        2 => proptest::collection::vec(1..=255_u8, 0..300),
        1 => "[a-z日é]{0,200}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn printed_arguments_join_to_themselves(
        arguments in proptest::collection::vec(argument(), 1..60),
        limit in 60..2_000_usize,
        piece in 1..400_usize,
    ) {
        let bodies = print(&arguments, limit, piece);
        let argv = joined(bodies.iter().map(Vec::as_slice));
        prop_assert!(!argv.missing && argv.truncated.is_none());
        prop_assert_eq!(argv.to_vec(), arguments);
    }

    #[test]
    fn long_lists_are_cut_and_hashed(
        argument in argument(),
        copies in 1_000..6_000_usize,
        piece in 20..400_usize,
    ) {
        let arguments = vec![argument; copies];
        let bodies = print(&arguments, 7_500, piece);
        let mut joiner = Joiner::new();
        // The memory of an earlier join must not show.
        joiner.join([&b"argc=1 a0=\"before\""[..]].into_iter());
        let argv = joiner.join(bodies.iter().map(Vec::as_slice)).clone();
        let bytes: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
        prop_assert_eq!(argv.truncated.is_some(), bytes > KEPT_BYTES);
        prop_assert!(!argv.missing);
        if let Some(truncated) = argv.truncated {
            prop_assert_eq!(truncated.count, copies as u64);
            prop_assert_eq!(truncated.bytes, bytes as u64);
            prop_assert_eq!(truncated.sha256, hash(&arguments));
        }
        let kept: usize = argv.iter().map(|argument| argument.len() + 1).sum();
        prop_assert!(kept <= KEPT_BYTES);
        prop_assert!(kept + 304 > bytes.min(KEPT_BYTES));
    }
}
