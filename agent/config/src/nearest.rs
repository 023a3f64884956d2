//! The nearest known word, and how words of a file are shown in errors.

/// The known words with the fewest slips between them and `word`, if there are few enough: at most one, and one more
/// for every three letters. More than one when several are equally near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    within(1 + word.chars().count() / 3, word, known)
}

/// The same with at most so many slips.
pub fn within<'a>(limit: usize, word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let sought = plain(word);
    let mut best = limit;
    let mut found: Vec<&str> = Vec::new();
    for candidate in known {
        let distance = strsim::damerau_levenshtein(&sought, &plain(candidate));
        // A word of which nothing is left is not near.
        if distance > best || distance >= candidate.chars().count().max(2) {
            continue;
        }
        if distance < best {
            best = distance;
            found.clear();
        }
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    found.truncate(3);
    found
}

/// `, did you mean …?` with the nearest known word, or nothing.
pub fn phrase<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    ask(&nearest(word, known))
}

/// `, did you mean …?` for these, or nothing without any.
pub(crate) fn ask(found: &[impl AsRef<str>]) -> String {
    if found.is_empty() {
        return String::new();
    }
    format!(", did you mean {}?", listed(found))
}

/// `` `a`, `b` or `c` ``.
pub(crate) fn listed(words: &[impl AsRef<str>]) -> String {
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.push_str(if index + 1 == words.len() { " or " } else { ", " });
        }
        out.push('`');
        out.push_str(word.as_ref());
        out.push('`');
    }
    out
}

/// Longest part of a value that an error shows.
const SHOWN: usize = 60;

/// A word of the file for an error: one line, without control characters, cut.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() || c == '`' { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// A key for an error: what looks like one. What follows, perhaps a value that slipped in, is not shown.
pub(crate) fn shown_key(key: &str) -> String {
    const LONGEST: usize = 40;
    let end = key
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '.'))
        .unwrap_or(key.len())
        .min(LONGEST);
    if end == key.len() {
        key.to_owned()
    } else {
        format!("{}…", &key[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["listen", "insecure", "protect", "memory", "age", "size"];
        for (word, near) in [
            ("listn", vec!["listen"]),
            ("lisetn", vec!["listen"]),
            ("Listen", vec!["listen"]),
            ("in-secure", vec!["insecure"]),
            ("aeg", vec!["age"]),
            ("xyz", vec![]),
            ("colour", vec![]),
        ] {
            assert_eq!(nearest(word, known), near, "{word}");
        }
        assert_eq!(nearest("hostt", ["host", "hosts"]), ["host", "hosts"]);
        assert_eq!(phrase("hostt", ["host", "hosts"]), ", did you mean `host` or `hosts`?");
        assert_eq!(phrase("zzz", ["host"]), "");
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown("a\nb`c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN + 1);
        assert_eq!(shown_key("data_dir"), "data_dir");
        assert_eq!(shown_key("token:hunter2"), "token…");
        assert_eq!(shown_key("ключ"), "…");
    }
}
