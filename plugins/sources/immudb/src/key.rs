//! Stored keys, for people.

use auditmon_core::event::cut;
use serde_json::{Value, json};

/// Most keys that a finding names.
pub(crate) const MAX_KEYS: usize = 16;
/// Most keys that are named in words.
const IN_WORDS: usize = 3;
/// Most bytes of a key that are shown.
const MAX_NAME: usize = 256;

/// What the first byte of a stored key says.
fn kind(key: &[u8]) -> &'static str {
    match key.first() {
        Some(0) => "key",
        Some(1) => "set",
        Some(2) => "sql",
        Some(3) => "document",
        _ => "other",
    }
}

/// The key as users know it, if it is a text of theirs.
fn name(key: &[u8]) -> Option<&str> {
    let [0, name @ ..] = key else { return None };
    let name = std::str::from_utf8(name).ok()?;
    (!name.chars().any(char::is_control)).then(|| cut(name, MAX_NAME))
}

/// For the event: the kind, the name where it is a text, and the stored bytes, cut.
pub(crate) fn shown(key: &[u8]) -> Value {
    json!({
        "kind": kind(key),
        "key": name(key),
        "stored": hex::encode(&key[..key.len().min(MAX_NAME)]),
    })
}

/// Some of them in a sentence, behind `head`; nothing if there are none.
pub(crate) fn words(head: &str, keys: &[Vec<u8>]) -> String {
    let one = |key: &Vec<u8>| match name(key) {
        Some(name) => format!("key {name:?}"),
        None => format!("{} {}", kind(key), hex::encode(&key[..key.len().min(MAX_NAME)])),
    };
    let names: Vec<String> = keys.iter().take(IN_WORDS).map(one).collect();
    match keys.len() {
        0 => String::new(),
        count if count > IN_WORDS => format!("{head}{} and {} more", names.join(", "), count - IN_WORDS),
        _ => format!("{head}{}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_users_know_them() {
        assert_eq!(shown(b"\0k1"), json!({"kind": "key", "key": "k1", "stored": "006b31"}));
        assert_eq!(shown(b"\0k\n")["key"], Value::Null);
        assert_eq!(shown(b"\0\xff")["key"], Value::Null);
        assert_eq!(shown(b"\x02R")["kind"], "sql");
        assert_eq!(shown(b"")["kind"], "other");
        let long = [&[0][..], &[b'x'; 5_000]].concat();
        assert_eq!(shown(&long)["stored"].as_str().unwrap().len(), 2 * MAX_NAME);
        assert_eq!(shown(&long)["key"].as_str().unwrap().len(), MAX_NAME);
    }

    #[test]
    fn some_are_named_in_words() {
        let keys = |count: u8| (0..count).map(|n| vec![0, b'a' + n]).collect::<Vec<_>>();
        assert_eq!(words(": ", &[]), "");
        assert_eq!(words(": ", &keys(2)), ": key \"a\", key \"b\"");
        assert_eq!(words(": ", &keys(5)), ": key \"a\", key \"b\", key \"c\" and 2 more");
        assert_eq!(words(": ", &[vec![2, 255]]), ": sql 02ff");
    }
}
