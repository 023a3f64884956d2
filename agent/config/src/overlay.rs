//! `hosts`: settings for some hosts of a fleet.

use std::collections::BTreeMap;

use crate::tree::Match;

/// Whether an entry is for this host: all that it asks for holds.
pub(crate) fn matches(entry: &Match, host: &str, labels: &BTreeMap<String, String>) -> bool {
    entry.name.as_ref().is_none_or(|pattern| glob(pattern, host))
        && entry
            .labels
            .iter()
            .all(|(key, pattern)| labels.get(key).is_some_and(|value| glob(pattern, value)))
}

/// Whether a pattern fits a text from end to end: `*` stands for any letters, `?` for one. Takes at most the product
/// of both lengths in steps.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and up to where it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, eaten)) = star {
            star = Some((at, eaten + 1));
            p = at + 1;
            t = eaten + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("web-1", "web-1", true),
            ("web-1", "web-12", false),
            ("web-*", "web-12", true),
            ("web-*", "db-1", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("?", "", false),
            ("w?b-*.example.*", "web-1.example.org", true),
            ("*a*b", "xaxbxab", true),
            ("*a*b", "xaxbxa", false),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        // Would take for ever if stars were tried one inside of another.
        assert!(!glob(&"*a".repeat(50), &"a".repeat(49)));
        assert!(!glob(&"*a".repeat(2_000), &"b".repeat(10_000)));
    }

    #[test]
    fn all_that_is_asked_for_has_to_hold() {
        let labels = BTreeMap::from([("role".to_owned(), "db".to_owned())]);
        let entry = |name: Option<&str>, labels: &[(&str, &str)]| Match {
            name: name.map(str::to_owned),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        assert!(matches(&entry(Some("h*"), &[("role", "d*")]), "h1", &labels));
        assert!(!matches(&entry(Some("x*"), &[("role", "d*")]), "h1", &labels));
        assert!(!matches(&entry(None, &[("role", "web")]), "h1", &labels));
        assert!(!matches(&entry(None, &[("site", "*")]), "h1", &labels));
    }
}
