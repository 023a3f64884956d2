//! JSON at the byte level: strings written minimally escaped, raw values checked without recursion.

use std::borrow::Cow;
use std::collections::HashSet;

/// Deepest nesting of `event_data`, its own braces counted as 1.
pub const MAX_DEPTH: usize = 32;

/// Appends a JSON string with quotes, escaped minimally: `"`, `\` and control characters only.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

/// What is wrong with a raw JSON value that a parser accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueFault {
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
    /// One object holds a member name twice (compared unescaped).
    DuplicateMember,
    /// A surrogate without its other half.
    LoneSurrogate,
    /// U+0000 in a member name.
    NulInName,
}

/// A fault and where it is, as a JSON pointer below the checked value (`""` is the value itself).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What is wrong.
    pub what: ValueFault,
    /// RFC 6901 pointer relative to the value.
    pub pointer: String,
}

/// Small objects are searched in place; larger ones through a set.
const SMALL_OBJECT: usize = 16;

/// One open object or array.
struct Level<'a> {
    object: bool,
    names: Vec<Cow<'a, str>>,
    set: HashSet<Cow<'a, str>>,
    index: usize,
}

/// Checks a syntactically valid JSON value for what a parser lets pass: depth, duplicate names,
/// lone surrogates, U+0000 in names. Runs in linear time and bounded depth.
///
/// # Errors
/// The first [`Fault`] in the order of the text.
pub fn check_value(raw: &str) -> Result<(), Fault> {
    let bytes = raw.as_bytes();
    let mut stack: Vec<Level<'_>> = Vec::new();
    let mut at = 0;
    let mut expect_name = false;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => {
                if stack.len() == MAX_DEPTH {
                    return Err(Fault {
                        what: ValueFault::Depth,
                        pointer: pointer(&stack),
                    });
                }
                let object = bytes[at] == b'{';
                stack.push(Level {
                    object,
                    names: Vec::new(),
                    set: HashSet::new(),
                    index: 0,
                });
                expect_name = object;
                at += 1;
            }
            b'}' | b']' => {
                stack.pop();
                expect_name = false;
                at += 1;
            }
            b',' => {
                if let Some(top) = stack.last_mut() {
                    top.index += 1;
                    expect_name = top.object;
                }
                at += 1;
            }
            b'"' => {
                let end = string_end(bytes, at);
                // Only a text that no parser accepted ends inside of a string.
                let inner = raw.get(at + 1..end - 1).unwrap_or_default();
                let text = match unescape(inner) {
                    Ok(text) => text,
                    Err(()) => {
                        return Err(Fault {
                            what: ValueFault::LoneSurrogate,
                            pointer: pointer(&stack),
                        });
                    }
                };
                if expect_name {
                    expect_name = false;
                    let what = if text.contains('\0') {
                        Some(ValueFault::NulInName)
                    } else {
                        let fresh = stack.last_mut().is_none_or(|top| remember(top, text));
                        (!fresh).then_some(ValueFault::DuplicateMember)
                    };
                    if let Some(what) = what {
                        return Err(Fault {
                            what,
                            pointer: pointer(&stack),
                        });
                    }
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// Adds a name to its object; false if it is there already (the name is then the last one, for the pointer).
fn remember<'a>(level: &mut Level<'a>, name: Cow<'a, str>) -> bool {
    let known = if level.names.len() < SMALL_OBJECT {
        level.names.contains(&name)
    } else {
        if level.set.is_empty() {
            level.set.extend(level.names.iter().cloned());
        }
        !level.set.insert(name.clone())
    };
    level.names.push(name);
    !known
}

/// The index behind the string's closing quote.
pub(crate) fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

pub(crate) fn unescape(inner: &str) -> Result<Cow<'_, str>, ()> {
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // The text was accepted by a JSON parser, so the only thing left to fail is a lone surrogate.
    serde_json::from_str::<String>(&format!("\"{inner}\""))
        .map(Cow::Owned)
        .map_err(|_| ())
}

fn pointer(stack: &[Level<'_>]) -> String {
    let mut out = String::new();
    for level in stack {
        let step = if level.object {
            level.names.last().map(|n| escape_step(n))
        } else {
            Some(level.index.to_string())
        };
        let Some(step) = step else { break };
        out.push('/');
        out.push_str(&step);
        // A pointer is for people: a name that is too long to read is cut.
        if out.len() > 512 {
            let cut = (0..=512).rev().find(|n| out.is_char_boundary(*n)).unwrap_or(0);
            out.truncate(cut);
            out.push('…');
            break;
        }
    }
    out
}

/// Escapes one step of a JSON pointer.
#[must_use]
pub fn escape_step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(raw: &str) -> Option<(ValueFault, String)> {
        assert!(
            serde_json::from_str::<&serde_json::value::RawValue>(raw).is_ok(),
            "{raw}"
        );
        check_value(raw).err().map(|f| (f.what, f.pointer))
    }

    #[test]
    fn escapes_minimally() {
        let mut out = Vec::new();
        write_str("a\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}ä\u{1f600}", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}ä\u{1f600}\""
        );
    }

    #[test]
    fn finds_each_fault() {
        use ValueFault::*;
        assert_eq!(fault(r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#), None);
        assert_eq!(
            fault(r#"{"a":1,"b":{"x":1,"x":2}}"#),
            Some((DuplicateMember, "/b/x".into()))
        );
        assert_eq!(fault(r#"{"a":1,"\u0061":2}"#), Some((DuplicateMember, "/a".into())));
        assert_eq!(
            fault(r#"{"a~/":[0,"\ud800"]}"#),
            Some((LoneSurrogate, "/a~0~1/1".into()))
        );
        assert_eq!(fault(r#"{"a":"\ud83d\ude00","b":"\\ud800"}"#), None);
        assert_eq!(fault(r#"{"\ud800":1}"#), Some((LoneSurrogate, "".into())));
        assert_eq!(fault(r#"{"a\u0000":1}"#), Some((NulInName, "".into())));
        assert_eq!(fault(r#"{"a":"\u0000"}"#), None);
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(fault(&deep(32)), None);
        assert_eq!(fault(&deep(33)).map(|f| f.0), Some(Depth));
        assert_eq!(check_value(&"[".repeat(100_000)).map_err(|f| f.what), Err(Depth));
    }

    #[test]
    fn many_names_are_compared_through_a_set() {
        let mut names: Vec<String> = (0..50_000).map(|n| format!("\"n{n}\":0")).collect();
        assert_eq!(fault(&format!("{{{}}}", names.join(","))), None);
        names.push("\"n7\":1".into());
        assert_eq!(
            fault(&format!("{{{}}}", names.join(","))).map(|f| f.0),
            Some(ValueFault::DuplicateMember)
        );
    }

    proptest! {
        #[test]
        fn a_written_string_reads_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = Vec::new();
            write_str(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}\":,\\\\u0-9ad]{0,64}|\\PC{0,64}") {
            let _ = check_value(&text);
        }
    }
}
