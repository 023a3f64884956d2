//! Values on one line of YAML.

use config::ValueKind;
use serde_json::Value as Json;

use crate::yaml::plain_scalar;

/// A value on one line: plain where that reads back as the same, else as JSON, which is YAML, too.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::String(word) if is_plain(word) => word.clone(),
        _ => escaped(&value.to_string()),
    }
}

/// JSON without letters that YAML wants written as numbers.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out += &format!("\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

/// A key.
pub(super) fn key(word: &str) -> String {
    text(&Json::String(word.to_owned()))
}

fn is_plain(word: &str) -> bool {
    let first = word.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_'));
    let good = |c: char| !c.is_control() && escaped(c.encode_utf8(&mut [0; 4])).starts_with(c);
    // A minus begins rules, which read better without quotes.
    let rule = word.starts_with('-') && word[1..].starts_with(|c: char| c.is_ascii_alphabetic());
    (first || rule)
        && word.chars().all(good)
        && !word.contains(": ")
        && !word.contains(" #")
        && !word.ends_with(':')
        && !word.ends_with(char::is_whitespace)
        && plain_scalar(word) == ValueKind::String(word.to_owned())
        && word != "---"
        && word != "..."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{values, yaml};
    use proptest::prelude::*;

    #[test]
    fn common_values_stand_without_quotes() {
        for word in [
            "127.0.0.1:7984",
            "64MiB",
            "/var/lib/auditmon",
            "-a always,exit -F arch=b64 -S execve",
            "a,b",
        ] {
            assert_eq!(key(word), word);
        }
        for word in [
            "true", "5", "null", "", "a: b", "a #b", "[x]", " x", "x:", "*x", "1e3", "- a",
        ] {
            assert_eq!(key(word), format!("{word:?}"));
        }
    }

    proptest! {
        /// Whatever is printed is read back, as value and as key.
        #[test]
        fn what_is_printed_reads_back(word in any::<String>(), list in proptest::collection::vec(".{0,12}", 0..4)) {
            let value = serde_json::json!({ "list": list, "word": word });
            let line = format!("k: {}\n{}: 1\n", text(&value), key(&word));
            let (table, faults) = yaml::parse("f", &line);
            prop_assert_eq!(&faults, &[], "{}", line);
            let table = table.unwrap();
            if word != "k" {
                prop_assert_eq!(values::to_json(&table["k"]), value, "{}", line);
            }
            prop_assert!(table.contains_key(&word), "{line}");
            let (table, _) = yaml::parse("f", &format!("k: {}\n", text(&word.clone().into())));
            prop_assert_eq!(values::to_json(&table.unwrap()["k"]), serde_json::Value::from(word));
        }
    }
}
