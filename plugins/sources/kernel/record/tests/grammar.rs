//! The tables of the reference, section 15, and traps seen in recordings.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use audit_record::fields::{Quote, Value, fields};
use audit_record::untrusted::decode_untrusted;
use common::{join, load};

/// Printed forms and contents, row by row.
#[test]
fn untrusted_strings() {
    let rows: &[(&str, &[u8])] = &[
        ("74776F20776F726473", b"two words"),
        ("7361792022686922", b"say \"hi\""),
        ("\"it's\"", b"it's"),
        ("\"back\\slash\"", b"back\\slash"),
        ("\"\"", b""),
        ("20", b" "),
        ("636166C3A9", "café".as_bytes()),
        ("FFFE80", b"\xff\xfe\x80"),
        ("\"DEADBEEF\"", b"DEADBEEF"),
        ("\"4142\"", b"4142"),
        ("\"0\"", b"0"),
        ("\"00\"", b"00"),
        ("\"(null)\"", b"(null)"),
        ("7F", b"\x7f"),
        ("\"a=b\"", b"a=b"),
        ("\"<no_memory>\"", b"<no_memory>"),
        ("\"<too_long>\"", b"<too_long>"),
    ];
    for (printed, content) in rows {
        let body = format!("item=0 name={printed} inode=1");
        let list: Vec<_> = fields(body.as_bytes()).collect();
        assert_eq!(list.len(), 3, "{printed}");
        assert_eq!(decode_untrusted(&list[1].value).as_ref(), *content, "{printed}");
        assert!(!list[1].value.is_null());
    }
    let null = fields(b"key=(null)").next().unwrap().value;
    assert!(null.is_null());
}

#[test]
fn the_names_of_the_rows_occur_in_the_recordings() {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for event in join(&load("files.log")).iter().chain(&join(&load("exec.log"))) {
        let summary = audit_record::Summary::of(event);
        names.extend(summary.paths().filter_map(|path| path.name()).map(|name| name.to_vec()));
        names.extend(summary.argv().into_iter().flat_map(|argv| argv.to_vec()));
    }
    for content in [
        &b"two words"[..],
        b"it's",
        b"back\\slash",
        b"DEADBEEF",
        b"(null)",
        "café".as_bytes(),
        b"\xff\xfe\x80",
        b"a=b",
    ] {
        assert!(
            names.iter().any(|name| name.ends_with(content)),
            "{}",
            String::from_utf8_lossy(content)
        );
    }
}

fn list(body: &str) -> Vec<(String, String, Quote)> {
    fields(body.as_bytes())
        .map(|field| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            (text(field.name), text(field.value.text), field.value.quote)
        })
        .collect()
}

fn check(body: &str, expected: &[(&str, &str)]) {
    let list = list(body);
    let plain: Vec<_> = list.iter().map(|(n, v, _)| (n.as_str(), v.as_str())).collect();
    assert_eq!(plain, expected, "{body}");
}

#[test]
fn traps() {
    check("", &[]);
    check("   ", &[]);
    check("  a1=\"x\"  b=2 ", &[("a1", "x"), ("b", "2")]);
    check(
        "auid=1000 ses=62op=remove_rule path=\"/f\"",
        &[("auid", "1000"), ("ses", "62"), ("op", "remove_rule"), ("path", "/f")],
    );
    check(
        "op=adding group to /etc/group id=1002 exe=\"/x\"",
        &[("op", "adding group to /etc/group"), ("id", "1002"), ("exe", "/x")],
    );
    check("op= id=1002", &[("op", ""), ("id", "1002")]);
    check("op=", &[("op", "")]);
    check("op= word", &[("op", "word")]);
    check(
        "avc:  denied  { read } for  pid=1 comm=\"c\"",
        &[
            ("", "avc:"),
            ("", "denied"),
            ("", "{"),
            ("", "read"),
            ("", "}"),
            ("", "for"),
            ("pid", "1"),
            ("comm", "c"),
        ],
    );
    check("tty pid=2", &[("", "tty"), ("pid", "2")]);
    check(
        "pid=1 msg='op=x acct='quoted' res=success' tail=1",
        &[("pid", "1"), ("msg", "op=x acct='quoted' res=success"), ("tail", "1")],
    );
    check("msg='no end", &[("msg", "no end")]);
    check("msg='", &[("msg", "")]);
    check("a=\"no end b=1", &[("a", "\"no"), ("", "end"), ("b", "1")]);
    check("acct='quoted'", &[("acct", "'quoted'")]);
    check("pid=1 pid=2", &[("pid", "1"), ("pid", "2")]);
    check("=x a==y", &[("", "=x"), ("a", "=y")]);
    check("a=\"x\"b=\"y\"", &[("a", "x"), ("b", "y")]);
    check(
        "old-auid=4294967295 a1[0]=41 fan_info=8A",
        &[("old-auid", "4294967295"), ("a1[0]", "41"), ("fan_info", "8A")],
    );
    check("ses=62 uid=0x", &[("ses", "62"), ("uid", "0x")]);
    let quotes = list("msg='x' a=\"b\" c=d");
    let quotes: Vec<_> = quotes.iter().map(|(_, _, quote)| *quote).collect();
    assert_eq!(quotes, [Quote::Single, Quote::Double, Quote::Bare]);
}

#[test]
fn numbers() {
    let value = |text: &'static str| Value::bare(text.as_bytes());
    assert_eq!(value("-13").signed(), Some(-13));
    assert_eq!(value("-9223372036854775808").signed(), Some(i64::MIN));
    assert_eq!(value("-9223372036854775809").signed(), None);
    assert_eq!(value("9223372036854775808").signed(), None);
    assert_eq!(value("").decimal(), None);
    assert_eq!(value("-").signed(), None);
    assert_eq!(value("18446744073709551615").decimal(), Some(u64::MAX));
    assert_eq!(value("18446744073709551616").decimal(), None);
    assert_eq!(value("c000003e").hex(), Some(0xc000_003e));
    assert_eq!(value("ffffffffffffff9c").hex(), Some(0xffff_ffff_ffff_ff9c));
    assert_eq!(value("1ffffffffffffffff").hex(), None);
    assert_eq!(value("-1").id(), Some(u32::MAX));
    assert_eq!(value("4294967296").id(), None);
}
